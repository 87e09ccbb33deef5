//! The files of the log and of the audit: what they can be, and how they are rotated.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;
use std::time::Instant;

use rustix::process::{Signal, kill_process};

use crate::app::App;
use crate::server::{Server, TEST_TIMEOUT, binary};
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

fn hang_up(server: &Server) {
    kill_process(server.process(), Signal::HUP).expect("the server runs");
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "it never happens");
        std::thread::yield_now();
    }
}

/// Returns the number of lines that contain `part` in each of these files.
fn count(part: &str, files: &[PathBuf]) -> Vec<usize> {
    let count = |file| {
        let lines = fs::read_to_string(file).expect("the file is there");
        lines.lines().filter(|line| line.contains(part)).count()
    };
    files.iter().map(count).collect()
}

/// What logrotate does: it renames the files, and sends SIGHUP.
#[test]
fn rotated_files_lose_nothing() {
    const ROTATIONS: usize = 5;
    const CLIENTS: usize = 100;
    let state = State::new();
    let [log, audit] = ["log", "audit"].map(|name| file_in(&state, name));
    let mut server = Server::start(&["--log-file", text(&log), "--audit", text(&audit)]);
    let address = server.address;
    let clients = std::thread::spawn(move || {
        for _ in 0..CLIENTS {
            App::open(address, "/?session=s1").until_pong();
        }
    });
    let mut files = [vec![], vec![]];
    for rotation in 0..ROTATIONS {
        for (file, rotated) in [&log, &audit].into_iter().zip(&mut files) {
            let name = file.with_extension(rotation.to_string());
            fs::rename(file, &name).expect("the file is there");
            rotated.push(name);
        }
        hang_up(&server);
        server.wait_for_log("SIGHUP: opening");
        // Each by its own thread.
        wait_until(|| audit.exists());
        // What follows goes into the new files, or into later ones.
        App::connect(&server, "s1");
    }
    clients.join().expect("clients can connect");
    drop(server.stdin.take());
    server.wait_for_exit();
    for (file, rotated) in [&log, &audit].into_iter().zip(&mut files) {
        rotated.push(file.clone());
        let mode = fs::metadata(file).expect("the file is there");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
    let all = CLIENTS + ROTATIONS;
    for (part, files) in ["is in session", "\"connected\""].iter().zip(&files) {
        let counts = count(part, files);
        assert_eq!(counts.iter().sum::<usize>(), all, "{counts:?}");
        assert!(counts[ROTATIONS] > 0, "{counts:?}");
    }
    let reopened = count("SIGHUP: opening", &files[0]);
    assert_eq!(reopened, [0, 1, 1, 1, 1, 1]);
}

/// A file that can't be opened again costs nothing: the one that is open goes on.
#[test]
fn file_that_cannot_be_opened_again_goes_on() {
    let state = State::new();
    let audit = file_in(&state, "audit");
    let mut server = Server::start(&["--audit", text(&audit)]);
    let rotated = audit.with_extension("1");
    fs::rename(&audit, &rotated).expect("the file is there");
    fs::create_dir(&audit).expect("the name is free");
    hang_up(&server);
    server.wait_for_log("cannot be opened again");
    App::connect(&server, "s1");
    wait_until(|| count("\"connected\"", slice::from_ref(&rotated)) == [1]);
    fs::remove_dir(&audit).expect("the folder is empty");
    hang_up(&server);
    wait_until(|| audit.is_file());
    App::connect(&server, "s1");
    drop(server.stdin.take());
    server.wait_for_exit();
    assert_eq!(count("\"connected\"", &[rotated, audit]), [1, 1]);
}
