//! The other program of this package: `claude-socket` runs `claude-socket-cli` for the
//! commands for people and scripts, in its own place, so that stdin, signals and the exit
//! code are that one's.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// The program with the commands for people and scripts.
pub const NAME: &str = "claude-socket-cli";
/// Tells that program the version of the one that has started it.
const CALLER: &str = "CLAUDE_SOCKET_CALLER_VERSION";
/// The version of this one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which of these commands the arguments ask for, or for help about it. Before it there can
/// only be settings, each with a value.
pub fn asked(
    arguments: impl IntoIterator<Item = OsString>,
    commands: &[&'static str],
) -> Option<&'static str> {
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str()? {
            "help" => {}
            "--help" | "--version" | "--" => return None,
            flag if flag.starts_with("--") => {
                if !flag.contains('=') {
                    arguments.next();
                }
            }
            word => return commands.iter().find(|name| **name == word).copied(),
        }
    }
    None
}

/// Becomes the other program, with the same arguments. Returns only if that fails, with a
/// sentence that says why.
pub fn become_it(command: &str) -> String {
    if env::var_os(CALLER).is_some() {
        return format!(
            "what is called {NAME} here is claude-socket again; put the real one in its place, or unset {CALLER}"
        );
    }
    let mut failure = None;
    for place in places() {
        let error = Command::new(&place)
            .args(env::args_os().skip(1))
            .env(CALLER, VERSION)
            .exec();
        failure.get_or_insert(format!("{} cannot be started: {error}", place.display()));
    }
    failure.unwrap_or_else(|| format!(
        "{command} is a command of {NAME} {VERSION}, which is neither in the folder of this program nor on the PATH; take it from where this one is from: cargo install installs both, and the archive of a release has both"
    ))
}

/// Where the other program is: beside this one's file, beside the link by which it was
/// called, or on the PATH.
fn places() -> impl Iterator<Item = PathBuf> {
    let file = env::current_exe().and_then(|file| file.canonicalize());
    // A name without a folder was itself found on the PATH.
    let called = env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.components().nth(1).is_some());
    let beside = file.ok().into_iter().chain(called);
    let beside = beside.map(|path| path.with_file_name(NAME));
    let on_path = folders_of(env::var_os("PATH").unwrap_or_default());
    let on_path = on_path.into_iter().map(|folder| folder.join(NAME));
    beside.chain(on_path).filter(|place| place.is_file())
}

/// The folders of a PATH. One that depends on where this program was started isn't searched:
/// whoever works in a foreign folder would run what lies there.
fn folders_of(path: OsString) -> Vec<PathBuf> {
    let folders = env::split_paths(&path);
    folders.filter(|folder| folder.is_absolute()).collect()
}

/// What is to be said if the program that has started this one is of another version.
pub fn odd_caller() -> Option<String> {
    let caller = env::var(CALLER).ok()?;
    (caller != VERSION).then(|| {
        format!("this is {NAME} {VERSION}, started by a claude-socket of version {caller:?}; install both in one version")
    })
}

/// A command that this program starts is not told who has started this one.
pub fn forget_caller(command: &mut Command) {
    command.env_remove(CALLER);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_behind_settings() {
        let cases: [(&str, Option<&str>); 11] = [
            ("send hi", Some("send")),
            ("--port 3200 send hi", Some("send")),
            ("--port=3200 --host ::1 watch --json", Some("watch")),
            ("help send", Some("send")),
            ("send --help", Some("send")),
            ("--port send", None),
            ("--help send", None),
            ("--version", None),
            ("demo send", None),
            ("sent", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let arguments = line.split_whitespace().map(OsString::from);
            assert_eq!(asked(arguments, &["send", "watch"]), expected, "{line:?}");
        }
    }
}
