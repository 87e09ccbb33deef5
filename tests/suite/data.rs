//! `claude-socket data`: what is kept, getting it out, and removing it, with a running server and without.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use claude_socket::hub::stored::{Change, SessionNumber, StoreInput};
use claude_socket::hub::{Author, AuthorId, Message};
use claude_socket::protocol::{DeliveryState, MessageId, SessionId};
use claude_socket::store::{self, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::cli::pseudo_terminal;
use crate::server::{Server, TEST_TIMEOUT, binary};
use crate::state::State;

const PORT: u16 = 4_321;
const TS: &str = "2026-01-02T03:04:05.678Z";

/// Returns a command for the data in this folder.
fn command(state: &State, arguments: &[&str]) -> Command {
    let mut command = binary();
    command.env("CLAUDE_SOCKET_STATE_DIR", state.path());
    command.env("CLAUDE_SOCKET_PORT", PORT.to_string());
    command.arg("data").args(arguments);
    command
}

/// Runs a command without a terminal. Returns its exit code, and what it has printed and said.
fn run(state: &State, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(state, arguments);
    let output = command.stdin(Stdio::null()).output();
    parts(&output.expect("the program runs"))
}

fn parts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Runs a command that fails, and returns what it says.
fn refused(state: &State, arguments: &[&str], code: i32) -> String {
    let (found, printed, said) = run(state, arguments);
    assert_eq!(found, Some(code), "{arguments:?}: {said}");
    assert_eq!(printed, "", "{arguments:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn succeeds(state: &State, arguments: &[&str]) -> (String, String) {
    let (code, printed, said) = run(state, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    (printed, said)
}

fn database(state: &State) -> PathBuf {
    Path::new(state.path()).join(format!("store/{PORT}.db"))
}

/// Opens the store as a server does.
fn open_store(state: &State) -> Store {
    let (store, reports) = store::start(store::Options {
        folder: Path::new(state.path()).join("store"),
        port: PORT,
        agent: "shed".into(),
        ttl: Duration::from_hours(24),
        max_bytes: 256 * 1024 * 1024,
    })
    .expect("threads can be started");
    let opened = reports.recv_timeout(TEST_TIMEOUT);
    assert!(matches!(opened, Ok(StoreInput::Opened(_))), "{opened:?}");
    store
}

fn close(store: Store) {
    assert!(store.close(Instant::now() + TEST_TIMEOUT), "it is closed");
}

/// Keeps two sessions of one agent and one of another: `shed` has `a` and `b`, `barn` has `a`.
fn filled() -> State {
    let state = State::new();
    let store = open_store(&state);
    let sessions = [
        (1, "shed", "a", 3),
        (2, "shed", "b", 1),
        (3, "barn", "a", 2),
    ];
    for (number, agent, name, count) in sessions {
        let begins = Change::Session {
            number: SessionNumber(number),
            agent: agent.into(),
            id: SessionId::parse("session", name, 9).expect("it is a name"),
            created: SystemTime::now(),
        };
        let messages =
            (1..=count).map(|seq| message(number, seq, &format!("{agent} {name} {seq}")));
        store.write([begins].into_iter().chain(messages).collect());
    }
    close(store);
    state
}

fn message(session: u32, seq: u64, content: &str) -> Change {
    let id = MessageId(Uuid::from_u128(u128::from(session) << 32 | u128::from(seq)));
    let author = Author::User {
        id: AuthorId::Grant(7),
        name: "ann".into(),
    };
    let message = Message::restored(id, seq, author, content.into(), TS.into(), None);
    Change::Message {
        session: SessionNumber(session),
        message: Arc::new(message),
        key: None,
        state: Some(DeliveryState::Answered),
    }
}

/// Returns the sessions that there are, each as agent/session and the number of its messages.
fn listed(state: &State) -> Vec<(String, u64)> {
    let (printed, _) = succeeds(state, &["--json"]);
    let report: Value = serde_json::from_str(&printed).expect("the output is JSON");
    let agents = report["agents"].as_array().expect("a list");
    let of_agent = |agent: &Value| -> Vec<(String, u64)> {
        let name = agent["agent"].as_str().expect("a name");
        let sessions = agent["sessions"].as_array().expect("a list").iter();
        sessions
            .map(|session| {
                let id = session["session_id"].as_str().expect("a name");
                let messages = session["messages"].as_u64().expect("a number");
                (format!("{name}/{id}"), messages)
            })
            .collect()
    };
    agents.iter().flat_map(of_agent).collect()
}

/// Returns `true` if a text is anywhere in the files of the store.
fn is_on_disk(state: &State, text: &str) -> bool {
    let folder = database(state);
    let folder = folder.parent().expect("it is in a folder");
    let files = fs::read_dir(folder).expect("the folder is there");
    files.flatten().any(|file| {
        let bytes = fs::read(file.path()).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[test]
fn data_that_is_not_there_is_said() {
    let state = State::new();
    let (printed, said) = succeeds(&state, &[]);
    assert_eq!(printed, "");
    let path = database(&state).display().to_string();
    assert!(said.contains("nothing is kept of port 4321"), "{said}");
    assert!(said.contains(&path), "{said}");
    assert_eq!(listed(&state), []);
    let (_, said) = succeeds(&state, &["remove", "--all", "--yes"]);
    assert!(said.starts_with("There is nothing to remove"), "{said}");
    for arguments in [
        &["remove", "--session", "a", "--yes"][..],
        &["export", "--session", "a"],
    ] {
        let why = refused(&state, arguments, 1);
        assert!(
            why.contains("there is no session \"a\"; there are none"),
            "{why}"
        );
    }
    assert!(!Path::new(state.path()).join("store").exists());
}

#[test]
fn data_lists_agents_and_sessions() {
    let state = filled();
    let (printed, _) = succeeds(&state, &[]);
    let lines: Vec<&str> = printed.lines().collect();
    let path = database(&state).display().to_string();
    assert!(lines[0].contains(&path), "{printed}");
    assert!(lines[0].contains("6 messages, "), "{printed}");
    let words: Vec<Vec<&str>> = lines[2..]
        .iter()
        .map(|line| line.split_whitespace().take(3).collect())
        .collect();
    assert_eq!(
        words,
        [
            ["AGENT", "SESSION", "MESSAGES"],
            ["barn", "(all)", "2"],
            ["barn", "a", "2"],
            ["shed", "(all)", "4"],
            ["shed", "a", "3"],
            ["shed", "b", "1"],
        ]
    );
    let expected = [("barn/a", 2), ("shed/a", 3), ("shed/b", 1)];
    assert_eq!(
        listed(&state),
        expected.map(|(name, count)| (name.to_owned(), count))
    );
    // Where the settings stand, and which server they name.
    let mut elsewhere = binary();
    elsewhere.args(["--port=4321", "data", "--state-dir", state.path()]);
    let (code, again, _) = parts(&elsewhere.output().expect("the program runs"));
    assert_eq!((code, again), (Some(0), printed));
    let (_, said) = succeeds(&state, &["--port", "4322"]);
    assert!(said.contains("nothing is kept of port 4322"), "{said}");
}

#[test]
fn export_prints_all_messages_of_a_session() {
    let state = filled();
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let (printed, _) = succeeds(&state, &[&["export"], arguments].concat());
        let lines = printed.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a line is JSON"))
            .collect()
    };
    let items = lines(&["--session", "a", "--agent", "shed"]);
    assert_eq!(items.len(), 3);
    let item = &items[1];
    assert_eq!(
        [
            &item["agent"],
            &item["session_id"],
            &item["content"],
            &item["ts"]
        ],
        ["shed", "a", "shed a 2", TS]
    );
    assert_eq!(
        [&item["role"], &item["user"], &item["state"]],
        ["user", "ann", "answered"]
    );
    assert_eq!(item["seq"], 2);
    assert_eq!(lines(&["--session", "a"]).len(), 5);
    let why = refused(&state, &["export", "--session", "b", "--agent", "barn"], 1);
    assert!(
        why.contains("there is no session \"b\"; there is only \"a\""),
        "{why}"
    );
    let why = refused(&state, &["export", "--session", "b", "--agent", "c"], 1);
    assert!(
        why.contains("there is no agent \"c\"; there are \"barn\", \"shed\""),
        "{why}"
    );
}

#[test]
fn remove_removes_what_is_named_and_nothing_else() {
    let cases: [(&[&str], &str, &[&str]); 4] = [
        (
            &["--session", "a"],
            "session \"a\" (2 sessions with 5 messages)",
            &["shed/b"],
        ),
        (
            &["--session", "a", "--agent", "barn"],
            "session \"a\" of agent \"barn\" (2 messages)",
            &["shed/a", "shed/b"],
        ),
        (
            &["--agent", "shed"],
            "all sessions of agent \"shed\" (2 sessions with 4 messages)",
            &["barn/a"],
        ),
        (&["--all"], "all sessions (3 sessions with 6 messages)", &[]),
    ];
    for (arguments, what, left) in cases {
        let state = filled();
        let (_, said) = succeeds(&state, &[&["remove", "--yes"], arguments].concat());
        assert_eq!(said, format!("Removed {what}.\n"));
        let listed = listed(&state);
        let names: Vec<_> = listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, left, "{arguments:?}");
        for name in ["shed a", "shed b", "barn a"] {
            let is_left = left.contains(&&*name.replace(' ', "/"));
            assert_eq!(is_on_disk(&state, name), is_left, "{arguments:?}: {name}");
        }
    }
}

#[test]
fn remove_that_is_not_meant_removes_nothing() {
    let state = filled();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--session", "x", "--yes"], 1, "there are \"a\", \"b\""),
        (
            &["--agent", "x", "--yes"],
            1,
            "there are \"barn\", \"shed\"",
        ),
        (&["--session", "", "--yes"], 2, "session"),
        (&["--all"], 2, "say --yes"),
    ];
    for (arguments, code, why) in cases {
        let said = refused(&state, &[&["remove"], arguments].concat(), code);
        assert!(said.contains(why), "{said}");
    }
    for arguments in [
        &["remove", "--yes"][..],
        &["remove", "--all", "--agent", "shed"],
    ] {
        assert_eq!(run(&state, arguments).0, Some(2), "{arguments:?}");
    }
    assert_eq!(listed(&state).len(), 3);
}

#[test]
fn remove_asks_on_a_terminal() {
    let state = filled();
    for (answer, code, left) in [("n", 1, 3), ("", 1, 3), ("yes", 0, 1)] {
        let (mut keyboard, side) = pseudo_terminal();
        let mut command = command(&state, &["remove", "--session", "a"]);
        command.stdin(side()).stdout(side()).stderr(side());
        let mut child = command.spawn().expect("the program starts");
        // Its copies of the terminal's descriptors would keep it open.
        drop(command);
        let mut screen = BufReader::new(keyboard.try_clone().expect("the terminal has another"));
        let mut asked = Vec::new();
        screen.read_until(b']', &mut asked).expect("it asks");
        let asked = String::from_utf8_lossy(&asked).into_owned();
        assert!(
            asked.starts_with("Remove session \"a\" (2 sessions with 5 messages)?"),
            "{asked}"
        );
        writeln!(keyboard, "{answer}").expect("the terminal is open");
        assert_eq!(
            child.wait().expect("it ends").code(),
            Some(code),
            "{answer}"
        );
        // The terminal is closed, so it ends with an error.
        let _ = screen.read_to_end(&mut Vec::new());
        assert_eq!(listed(&state).len(), left, "{answer}");
    }
}

/// A server that has no control socket, as one that runs for another folder of sockets.
#[test]
fn data_in_use_is_read_and_not_removed() {
    let state = filled();
    let store = open_store(&state);
    assert_eq!(listed(&state).len(), 3);
    assert_eq!(
        succeeds(&state, &["export", "--session", "b"])
            .0
            .lines()
            .count(),
        1
    );
    let why = refused(&state, &["remove", "--all", "--yes"], 1);
    let process = format!("(process {})", std::process::id());
    assert!(why.contains("in use"), "{why}");
    assert!(why.contains(&process), "{why}");
    close(store);
    succeeds(&state, &["remove", "--all", "--yes"]);
    assert_eq!(listed(&state), []);
}

#[test]
fn data_that_cannot_be_used_is_explained() {
    type Spoil = &'static dyn Fn(&State);
    let spoil: [(Spoil, &str); 5] = [
        (
            &|state| {
                let folder = database(state);
                let folder = folder.parent().expect("it is in a folder");
                let mode = fs::Permissions::from_mode(0o777);
                fs::set_permissions(folder, mode).expect("the folder is ours");
            },
            "chmod 700",
        ),
        (
            &|state| {
                let mode = fs::Permissions::from_mode(0o644);
                fs::set_permissions(database(state), mode).expect("the file is ours");
            },
            "chmod 600",
        ),
        (
            &|state| {
                let database = rusqlite::Connection::open(database(state)).expect("it opens");
                let newer = database.pragma_update(None, "user_version", 99);
                newer.expect("the database is ours");
            },
            "newer claude-socket",
        ),
        (
            &|state| {
                let database = rusqlite::Connection::open(database(state)).expect("it opens");
                let other = database.pragma_update(None, "application_id", 1);
                other.expect("the database is ours");
            },
            "another program",
        ),
        (
            &|state| fs::write(database(state), [b'x'; 8_192]).expect("the file is ours"),
            "cannot be read",
        ),
    ];
    for (spoil, expected) in spoil {
        let state = filled();
        spoil(&state);
        for arguments in [
            &[][..],
            &["export", "--session", "a"],
            &["remove", "--session", "a", "--yes"],
        ] {
            let why = refused(&state, arguments, 1);
            assert!(why.contains(expected), "{arguments:?}: {why}");
        }
    }
}

#[test]
fn database_that_was_set_aside_is_listed_and_removed_with_all() {
    let state = filled();
    let aside = Path::new(state.path()).join(format!("store/{PORT}.damaged-1.db"));
    fs::copy(database(&state), &aside).expect("the folder is ours");
    let name = aside.display().to_string();
    assert!(succeeds(&state, &[]).0.contains(&name));
    let (_, said) = succeeds(&state, &["remove", "--agent", "shed", "--yes"]);
    assert!(said.contains(&name), "{said}");
    succeeds(&state, &["remove", "--all", "--yes"]);
    assert!(!aside.exists());
}

/// The server's memory must forget it too, or it would come back.
#[test]
fn running_server_removes_what_it_has_in_memory_and_on_disk() {
    let state = State::new();
    let start = || Server::start(&["--state-dir", state.path()]);
    let server = start();
    let data = |arguments: &[&str]| {
        let (printed, said) = succeeds(&state, &[arguments, &["--port", "0"]].concat());
        (printed, said)
    };
    let mut others = App::connect(&server, "other");
    let mut app = App::connect(&server, "secret");
    for (app, content) in [(&mut app, "a secret word"), (&mut others, "an open word")] {
        app.send(&json!({ "type": "message", "content": content, "id": "m1" }));
        server.next_message();
        while app.expect("delivery")["state"] != "accepted" {}
    }
    let is_kept = |content: &str| {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while Instant::now() < deadline {
            let (code, printed, _) = run(&state, &["export", "--session", "secret", "--port", "0"]);
            if code == Some(0) && printed.contains(content) {
                return true;
            }
        }
        false
    };
    assert!(is_kept("a secret word"));
    let (_, said) = data(&["remove", "--session", "secret", "--yes"]);
    assert!(
        said.starts_with("Removed session \"secret\" (1 message)"),
        "{said}"
    );
    let (printed, _) = data(&[]);
    assert!(printed.contains("other"), "{printed}");
    assert!(!printed.contains("secret"), "{printed}");
    let history = |server: &Server, session: &str| {
        let mut reader = App::connect(server, "reader");
        reader.send(&json!({ "type": "fetch_history", "session_id": session }));
        let history = reader.expect("history");
        history["messages"].as_array().expect("a list").len()
    };
    assert_eq!(
        (history(&server, "secret"), history(&server, "other")),
        (0, 1)
    );
    server.end();
    let folder = Path::new(state.path()).join("store");
    for file in fs::read_dir(&folder)
        .expect("the folder is there")
        .flatten()
    {
        let bytes = fs::read(file.path()).unwrap_or_default();
        let has_it = bytes.windows(13).any(|part| part == b"a secret word");
        assert!(!has_it, "{:?}", file.path());
    }
    let server = start();
    assert_eq!(
        (history(&server, "secret"), history(&server, "other")),
        (0, 1)
    );
    server.end();
}
