//! Asks the `claude` command for its version and its plugins.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use serde::Deserialize;

use crate::sanitize;

/// Time limit for one call of `claude`. It starts in about a second on a fast machine.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The id of our plugin, up to the name of its marketplace.
const PLUGIN_PREFIX: &str = "claude-socket@";

#[derive(Debug)]
pub struct Claude {
    /// The version, or why it is unknown.
    pub version: Result<Version, String>,
    /// The plugin, `None` if it is not installed; or why that is unknown.
    pub plugin: Result<Option<Plugin>, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

/// An installed plugin, as `claude plugin list --json` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Plugin {
    /// Name and marketplace: `claude-socket@claude-socket`.
    pub id: String,
    pub version: String,
    pub enabled: bool,
}

/// Asks `claude`. Takes up to twice the time limit.
pub fn inspect() -> Claude {
    let version = run_claude(&["--version"]).and_then(|text| {
        Version::parse(&text)
            .ok_or_else(|| format!("says \"{}\" of its version", sanitize::excerpt(&text)))
    });
    let plugin = match &version {
        Ok(_) => run_claude(&["plugin", "list", "--json"]).and_then(|json| our_plugin(&json)),
        Err(why) => Err(why.clone()),
    };
    Claude { version, plugin }
}

/// Returns our plugin of the list, an enabled one if there are several.
fn our_plugin(json: &str) -> Result<Option<Plugin>, String> {
    let plugins: Vec<Plugin> = serde_json::from_str(json).map_err(|error| {
        let error = sanitize::excerpt(&error.to_string());
        format!("lists no plugins: {error}")
    })?;
    let ours = plugins.into_iter().filter(|plugin| {
        plugin.id.starts_with(PLUGIN_PREFIX) && plugin.id.chars().all(is_of_names)
    });
    let found = ours.max_by_key(|plugin| plugin.enabled);
    Ok(found.map(|plugin| Plugin {
        id: sanitize::excerpt(&plugin.id),
        version: sanitize::excerpt(&plugin.version),
        ..plugin
    }))
}

/// Returns `true` for characters that an id may have. It becomes part of a command to paste, so a
/// shell must not see more than a word in it.
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

/// Returns what `claude` prints with these arguments, or what is wrong with it.
fn run_claude(arguments: &[&str]) -> Result<String, String> {
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
    let reader = thread::Builder::new()
        .name("claude-stdout".to_owned())
        .spawn(move || {
            let mut text = String::new();
            let read = stdout.map(|mut stdout| stdout.read_to_string(&mut text));
            // The receiver was dropped if the time is over.
            let _ = to_doctor.send(read.map(|_| text));
        });
    if let Err(error) = reader {
        // If it fails, the process has just ended.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("cannot be read: {error}"));
    }
    let printed = printed.recv_timeout(TIMEOUT);
    if printed.is_err() {
        // It fails only if the process has just ended.
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
    fn version_is_parsed_and_compared() {
        let version = |text| Version::parse(text);
        assert_eq!(version("2.1.330 (Claude Code)\n"), Some(Version(2, 1, 330)));
        assert_eq!(version("2.1"), None);
        assert_eq!(version("unknown"), None);
        assert_eq!(version(""), None);
        assert!(version("2.1.80") < version("2.1.330"));
    }

    #[test]
    fn enabled_plugin_is_preferred_and_odd_id_ignored() {
        let plugins = |list: &str| our_plugin(list).map(|plugin| plugin.map(|plugin| plugin.id));
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
