//! The files of the log and of the audit: what they can be.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::app::App;
use crate::server::{Server, binary};
use crate::state::State;

const SETTINGS: [&str; 2] = ["--log-file", "--audit"];

/// Makes the folder, and returns the path of a file in it.
fn file_in(state: &State, name: &str) -> PathBuf {
    fs::create_dir_all(state.path()).expect("a folder can be made");
    Path::new(state.path()).join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo runs").success());
}

/// Starts a server that can't, and returns what it says.
fn refusal(setting: &str, path: &Path) -> String {
    let mut command = binary();
    let mut server = Server::spawn(command.args(["--port", "0", setting, text(path)]));
    let stderr = server.wait_for_log(setting);
    assert!(stderr.contains(text(path)), "{stderr}");
    assert_eq!(server.wait_for_exit().0.code(), Some(2), "{stderr}");
    stderr
}

#[test]
fn pipe_without_reader_and_socket_are_refused_at_once() {
    let state = State::new();
    let (pipe, socket) = (file_in(&state, "pipe"), file_in(&state, "socket"));
    make_pipe(&pipe);
    let _listener = UnixListener::bind(&socket).expect("a socket can be bound");
    for setting in SETTINGS {
        let why = refusal(setting, &pipe);
        assert!(why.contains("nobody reads from that pipe"), "{why}");
        let why = refusal(setting, &socket);
        assert!(why.contains("that is a socket"), "{why}");
    }
}

#[test]
fn pipe_with_reader_and_devices_are_written() {
    let state = State::new();
    let pipe = file_in(&state, "pipe");
    make_pipe(&pipe);
    for setting in SETTINGS {
        // For both directions, so that opening it waits for nobody.
        let reader = File::options().read(true).write(true).open(&pipe);
        let mut lines = BufReader::new(reader.expect("the pipe opens")).lines();
        let server = Server::start(&[setting, text(&pipe)]);
        let _app = App::connect(&server, "s1");
        let line = lines.next().expect("the pipe has a line");
        assert!(!line.expect("the line is text").is_empty());
    }
    for device in ["/dev/null", "/dev/stderr"] {
        let server = Server::start(&["--log-file", device, "--audit", device]);
        App::connect(&server, "s1");
    }
}
