//! The other program of this package: `claude-socket` runs `claude-socket-cli` for the
//! commands for people and scripts, in its own place, so that stdin, signals and the exit
//! code are that one's.

use std::env;
use std::ffi::OsString;
use std::io;
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
    for place in places().into_iter().flatten() {
        let error = Command::new(&place)
            .args(env::args_os().skip(1))
            .env(CALLER, VERSION)
            .exec();
        if error.kind() != io::ErrorKind::NotFound {
            return format!("{} cannot be started: {error}", place.display());
        }
    }
    format!(
        "{command} is a command of {NAME} {VERSION}, which is neither in the folder of this program nor on the PATH; take it from where this one is from: cargo install installs both, and the archive of a release has both"
    )
}

/// Where the other program may be: beside this one's file, beside the link by which it was
/// called, and last, as a name alone, anywhere on the PATH.
fn places() -> [Option<PathBuf>; 3] {
    let beside = |path: PathBuf| Some(path.with_file_name(NAME)).filter(|path| path.is_file());
    let file = env::current_exe().and_then(|file| file.canonicalize());
    // A name without a folder was itself found on the PATH.
    let called = env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.components().nth(1).is_some());
    [
        file.ok().and_then(beside),
        called.and_then(beside),
        Some(PathBuf::from(NAME)),
    ]
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
