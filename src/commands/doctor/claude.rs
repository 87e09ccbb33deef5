//! What the `claude` command says of itself and of its plugins.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use serde::Deserialize;

use crate::commands::text;

/// How long `claude` may take. It starts in about a second on a fast machine.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What a plugin of ours is called, before the `@` and its marketplace.
const PLUGIN: &str = "claude-socket@";

/// What was found out.
#[derive(Debug)]
pub struct Claude {
    /// Its version, or why there is none.
    pub version: Result<Version, String>,
    /// The plugin, if it is installed; or why nobody can tell.
    pub plugin: Result<Option<Plugin>, String>,
}

/// A version of Claude Code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

/// An installed plugin, as `claude plugin list --json` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Plugin {
    /// Its name and marketplace.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Whether Claude Code loads it.
    pub enabled: bool,
}

/// Asks `claude`, if there is one.
pub fn look() -> Claude {
    let version = ask(&["--version"]).and_then(|text| {
        Version::parse(&text)
            .ok_or_else(|| format!("says \"{}\" of its version", text::excerpt(&text)))
    });
    let plugin = match &version {
        Ok(_) => ask(&["plugin", "list", "--json"]).and_then(|json| find(&json)),
        Err(why) => Err(why.clone()),
    };
    Claude { version, plugin }
}

/// Our plugin among those in the list; an enabled one, if it is there more than once.
fn find(json: &str) -> Result<Option<Plugin>, String> {
    let plugins: Vec<Plugin> = serde_json::from_str(json).map_err(|error| {
        let error = text::excerpt(&error.to_string());
        format!("lists no plugins: {error}")
    })?;
    let ours = plugins
        .into_iter()
        .filter(|plugin| plugin.id.starts_with(PLUGIN) && plugin.id.chars().all(is_of_names));
    let found = ours.max_by_key(|plugin| plugin.enabled);
    Ok(found.map(|plugin| Plugin {
        id: text::excerpt(&plugin.id),
        version: text::excerpt(&plugin.version),
        ..plugin
    }))
}

/// The id ends up in a command to paste, so nothing that a shell would take for more.
fn is_of_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.@".contains(c)
}

impl Version {
    /// Reads what `claude --version` prints: `2.1.330 (Claude Code)`.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().next()?.split('.');
        let mut next = || numbers.next()?.parse().ok();
        Some(Self(next()?, next()?, next()?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What `claude` prints with these arguments, or what is wrong with it.
fn ask(arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new("claude")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "is not on the PATH".to_owned(),
            _ => format!("cannot be started: {error}"),
        })?;
    let stdout = child.stdout.take();
    let (to_doctor, printed) = bounded(1);
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.map(|mut stdout| stdout.read_to_string(&mut text));
        // The doctor may not have waited.
        let _ = to_doctor.send(read.map(|_| text));
    });
    let printed = printed.recv_timeout(TIMEOUT);
    if printed.is_err() {
        // If it has just ended there is nothing to kill.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match printed {
        Ok(Some(text)) if status.success() => Ok(text),
        Ok(_) => Err(format!("has failed ({status})")),
        Err(_) => Err("takes too long".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let version = |text| Version::parse(text);
        assert_eq!(version("2.1.330 (Claude Code)\n"), Some(Version(2, 1, 330)));
        assert_eq!(version("2.1"), None);
        assert_eq!(version("unknown"), None);
        assert_eq!(version(""), None);
        assert!(version("2.1.80") < version("2.1.330"));
    }

    #[test]
    fn the_enabled_one_of_two_plugins_is_found() {
        let plugins = |list: &str| find(list).map(|plugin| plugin.map(|plugin| plugin.id));
        let other = r#"{"id":"other@x","version":"1","enabled":true}"#;
        let off = r#"{"id":"claude-socket@a","version":"1","enabled":false,"scope":"user"}"#;
        let on = r#"{"id":"claude-socket@b","version":"1","enabled":true}"#;
        assert_eq!(plugins(&format!("[{other}]")), Ok(None));
        assert_eq!(
            plugins(&format!("[{on},{off},{other}]")),
            Ok(Some("claude-socket@b".to_owned()))
        );
        assert_eq!(
            plugins(&format!("[{off}]")),
            Ok(Some("claude-socket@a".to_owned()))
        );
        assert!(plugins("no json").is_err());
        let command = r#"{"id":"claude-socket@x;id","version":"1","enabled":true}"#;
        assert_eq!(plugins(&format!("[{command}]")), Ok(None));
    }
}
