//! The control socket: who gets in, what is answered, and which files there are.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::server::{Server, TEST_TIMEOUT, address_in, binary};
use crate::state::State;

pub const HELLO: &str = r#"{"claude_socket_control":1,"version":"0","pid":1}"#;

/// Returns a server that listens, and its state folder.
pub fn server() -> (Server, State) {
    let state = State::new();
    let server = listening(&state);
    (server, state)
}

/// Starts a server, and waits until its loop knows that it listens.
fn listening(state: &State) -> Server {
    let server = Server::listening(&["--state-dir", state.path()]);
    assert_eq!(server.get("/healthz").0, 200);
    server
}

pub fn socket(state: &State) -> PathBuf {
    Path::new(state.path()).join("run/0.sock")
}

/// Sends these lines, and returns all that the server says until it closes.
pub fn talk(socket: &Path, lines: &[&str]) -> Vec<Value> {
    let mut stream = UnixStream::connect(socket).expect("the server accepts");
    stream
        .set_read_timeout(Some(TEST_TIMEOUT))
        .expect("the timeout is valid");
    for line in lines {
        // A server that has read enough closes.
        let _ = stream.write_all(format!("{line}\n").as_bytes());
    }
    let said = BufReader::new(stream).lines();
    let said = said.map_while(Result::ok);
    said.map(|line| serde_json::from_str(&line).expect("a line is JSON"))
        .collect()
}

#[test]
fn control_socket_is_for_its_user_and_goes_with_the_server() {
    let (server, state) = server();
    let path = socket(&state);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("it has a folder")), 0o700);
    let said = talk(&path, &[HELLO, r#"{"remove":{"agent":"a","session":"s"}}"#]);
    assert_eq!(said[0]["claude_socket_control"], 1);
    assert_eq!(said[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(said[0]["pid"], server.pid());
    let removed = json!({ "removed": { "agent": "a", "session": "s", "on_disk": true } });
    assert_eq!(said[1..], [removed]);
    server.end();
    assert!(!path.exists());
}

#[test]
fn control_socket_answers_what_it_does_not_understand() {
    let (server, state) = server();
    let path = socket(&state);
    // It says nothing, and nobody waits for it.
    let _silent = UnixStream::connect(&path).expect("the server accepts");
    let newer = HELLO.replace(":1,\"version", ":2,\"version");
    let cases: [(&[&str], &str); 6] = [
        (&[&newer, r#"{"remove":{"all":true}}"#], "version"),
        (&[HELLO, r#"{"remove":{}}"#], "invalid_request"),
        (&[HELLO, r#"{"remove":{"al":true}}"#], "invalid_request"),
        (&[HELLO, r#"{"dance":{}}"#], "invalid_request"),
        (&[HELLO, "remove"], "invalid_request"),
        (&[HELLO, r#"{"remove":{"session":""}}"#], "invalid_request"),
    ];
    for (lines, code) in cases {
        let said = talk(&path, lines);
        assert_eq!(said[1]["error"]["code"], code, "{lines:?}: {said:?}");
    }
    // No hello, or one that never ends: the connection is closed.
    let endless = "x".repeat(100_000);
    for lines in [&["hello"][..], &[&endless], &[HELLO, &endless]] {
        assert_eq!(talk(&path, lines).len(), 1);
    }
    let said = talk(&path, &[HELLO, r#"{"remove":{"all":true}}"#]);
    assert_eq!(said[1]["removed"]["all"], true);
    server.end();
}

#[test]
fn control_socket_serves_few_at_once() {
    let (server, state) = server();
    let path = socket(&state);
    let others: Vec<_> = (0..8)
        .map(|_| UnixStream::connect(&path).expect("the server accepts"))
        .collect();
    let said = talk(&path, &[]);
    assert_eq!(said[1]["error"]["code"], "busy", "{said:?}");
    for mut other in others {
        other
            .shutdown(std::net::Shutdown::Write)
            .expect("it is connected");
        other
            .read_to_end(&mut Vec::new())
            .expect("the server closes");
    }
    let served = || talk(&path, &[HELLO, r#"{"remove":{"all":true}}"#]);
    // The server counts a connection a moment longer than the client.
    let mut said = served();
    while said[1]["error"]["code"] == "busy" {
        said = served();
    }
    assert_eq!(said[1]["removed"]["all"], true);
    server.end();
}

#[test]
fn control_socket_that_was_left_behind_is_replaced() {
    let (mut server, state) = server();
    let path = socket(&state);
    kill_process(server.process(), Signal::KILL).expect("the server runs");
    server.wait_for_exit();
    assert!(UnixStream::connect(&path).is_err());
    assert!(path.exists());
    let server = listening(&state);
    assert_eq!(talk(&path, &[HELLO, "{}"])[0]["pid"], server.pid());
    // What is there may even be one that somebody listens on: only the lock counts.
    server.end();
    let _other = UnixListener::bind(&path).expect("the name is free");
    let server = listening(&state);
    assert_eq!(talk(&path, &[HELLO, "{}"])[0]["pid"], server.pid());
}

#[test]
fn second_server_of_one_name_goes_without_control_socket() {
    let (first, state) = server();
    let second = Server::listening(&["--state-dir", state.path()]);
    second.wait_for_log("another server with port 0 in its settings has");
    second.end();
    let path = socket(&state);
    assert_eq!(talk(&path, &[HELLO, "{}"])[0]["pid"], first.pid());
}

#[test]
fn folder_that_others_can_open_has_no_control_socket() {
    let state = State::new();
    let run = Path::new(state.path()).join("run");
    fs::create_dir_all(&run).expect("a folder can be made");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    let server = Server::listening(&["--state-dir", state.path()]);
    let why = server.wait_for_log("there is no control socket");
    assert!(why.contains("chmod 700"), "{why}");
    assert_eq!(server.get("/healthz").0, 200);
}

/// A socket's path has room for some 100 bytes.
#[test]
fn control_socket_of_deep_folder_is_elsewhere() {
    let state = State::new();
    let deep = Path::new(state.path()).join("a".repeat(100));
    let runtime = Path::new(state.path()).join("rt");
    fs::create_dir_all(&runtime).expect("a folder can be made");
    let mut command = binary();
    command.env("XDG_RUNTIME_DIR", &runtime);
    command.args(["--port", "0", "--state-dir"]).arg(&deep);
    let mut server = Server::spawn(&mut command);
    server.initialize();
    server.address = address_in(&server.wait_for_log("listening on "));
    assert_eq!(server.get("/healthz").0, 200);
    let folder = runtime.join("claude-socket");
    let names = || -> Vec<PathBuf> {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "sock"))
            .collect()
    };
    let [path] = &names()[..] else {
        panic!("there is one: {:?}", names());
    };
    assert_eq!(talk(path, &[HELLO, "{}"])[0]["pid"], server.pid());
    server.end();
    assert_eq!(names(), [] as [PathBuf; 0]);
}
