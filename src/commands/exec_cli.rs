//! `claude-socket` replaces itself by `claude-socket-cli` for the commands for people and scripts:
//! stdin, signals and the exit code are those of the other program.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::Error;
use crate::commands::PROGRAM;

/// The program with the commands for people and scripts.
pub const NAME: &str = "claude-socket-cli";
/// Tells that program the version of the one that started it.
const PARENT_VERSION_VAR: &str = "CLAUDE_SOCKET_CALLER_VERSION";
/// The version of this one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Replaces this process by the other program, which has the command, with these arguments.
/// Returns only if that fails.
pub fn exec(command: &str, arguments: &[OsString]) -> Error {
    if env::var_os(PARENT_VERSION_VAR).is_some() {
        // The name it was started by, as `current_exe` follows links.
        let own_path = PathBuf::from(env::args_os().next().unwrap_or_default());
        return Error::usage(format_args!(
            "`{NAME}` at {} is the server program; put the {NAME} of the same release there, or unset {PARENT_VERSION_VAR} if you have set it",
            own_path.display()
        ));
    }
    let mut failure = None;
    for place in find(NAME) {
        let error = Command::new(&place)
            .args(arguments)
            .env(PARENT_VERSION_VAR, VERSION)
            .exec();
        failure.get_or_insert(format!("{} cannot be started: {error}", place.display()));
    }
    Error::usage(failure.unwrap_or_else(|| format!(
        "{command} is a command of {NAME} {VERSION}, which is neither in the folder of this program nor on the PATH; take it from where this one is from: cargo install installs both, and the archive of a release has both"
    )))
}

/// Returns where the package's program of this name is: beside this one's file, beside the link
/// by which it was called, or on the PATH.
pub fn find(name: &str) -> impl Iterator<Item = PathBuf> {
    let file = env::current_exe().and_then(|file| file.canonicalize());
    // A name without a folder was found on the PATH.
    let called = env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.components().nth(1).is_some());
    let beside = file.ok().into_iter().chain(called);
    let beside = beside.map(move |path| path.with_file_name(name));
    let on_path = folders_of(env::var_os("PATH").unwrap_or_default());
    let on_path = on_path.into_iter().map(move |folder| folder.join(name));
    beside.chain(on_path).filter(|place| place.is_file())
}

/// Returns the absolute folders of a PATH. A relative one must not be searched: who works in a
/// foreign folder would run what lies there.
fn folders_of(path: OsString) -> Vec<PathBuf> {
    let folders = env::split_paths(&path);
    folders.filter(|folder| folder.is_absolute()).collect()
}

/// Prints a warning if the program that started this one is of another version.
pub fn warn_of_version_mismatch() {
    if let Ok(parent) = env::var(PARENT_VERSION_VAR)
        && parent != VERSION
    {
        eprintln!(
            "{PROGRAM}: this is {NAME} {VERSION}, started by a claude-socket of version {parent:?}; install both in one version"
        );
    }
}

/// Keeps from a command that this program starts who started this one.
pub fn forget_parent(command: &mut Command) {
    command.env_remove(PARENT_VERSION_VAR);
}
