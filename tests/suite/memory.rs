//! What the process takes, as the system counts it, under limits that are filled with what costs
//! the most.

use std::thread;

use serde_json::json;

use crate::app::App;
use crate::server::{Server, address_in, binary, text_of};

/// What a process may take in KiB beyond its limits and what it took before: the stacks of its
/// threads, and what the allocator keeps.
const SLACK: u64 = 4 << 10;

/// What the store may take beside that, in KiB: 4 MiB of changes that wait to be written, and 2 MiB of pages that a commit
/// changes, with what SQLite and the allocator need for them.
const STORE: u64 = 8 << 10;

/// Returns a server to whose messages somebody listens.
fn start(flags: &[&str]) -> Server {
    let server = Server::start(flags);
    let lines = server.lines();
    thread::spawn(move || lines.iter().for_each(drop));
    server
}

/// All that stays of long messages is what tungstenite's buffer had to grow by.
#[test]
fn long_messages_leave_little_behind_in_their_connections() {
    const CLIENTS: u64 = 200;
    const LEFT: u64 = 8;
    const CONSTANT: u64 = 1 << 10;
    // Without it, glibc keeps all blocks that are as long as the longest that was ever freed, to
    // use them again (mallopt(3), M_MMAP_THRESHOLD): not for each connection, but as many as there
    // once were at the same time. Musl, with which releases are built, keeps none over 128 KiB.
    let mut command = binary();
    command.args(["--port", "0", "--history-total", "1kB"]);
    // The store has memory of its own, for what it writes.
    command.args(["--history-ttl", "0"]);
    // The end of an arena is kept too, and there may be 16 of them.
    let environment = [
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("MALLOC_ARENA_MAX", "1"),
    ];
    let mut server = Server::spawn(command.envs(environment));
    server.address = address_in(&server.wait_for_log("listening on "));
    server.initialize();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| App::connect(&server, &format!("s{number}")))
        .collect();
    let mut send = |length: usize| {
        for client in &mut clients {
            client.send_message(&"x".repeat(length));
            assert_eq!(
                server.next_message()["content"].as_str().map(str::len),
                Some(length)
            );
            client.until_pong();
        }
        server.memory("VmRSS")
    };
    let before = send(1_000);
    let grown = send(440_000).saturating_sub(before);
    assert!(grown < CLIENTS * LEFT + CONSTANT, "{grown} KiB were added");
}

/// Messages without text, each of another user with the longest name.
fn fill_histories(sessions: usize, messages: usize) {
    for (history_ttl, more) in [("0", 0), ("30d", STORE)] {
        fill_histories_with(history_ttl, sessions, messages, more);
    }
}

/// Checks that the process takes no more than `more` KiB beside its limits.
fn fill_histories_with(history_ttl: &str, sessions: usize, messages: usize, more: u64) {
    const TOTAL: u64 = 8 << 10;
    let flags = ["--history-total", "8MiB", "--history-messages", "1000000"];
    let flags = [&flags[..], &["--history-size", "1GiB"]].concat();
    let server = start(&[&flags[..], &["--history-ttl", history_ttl]].concat());
    let mut app = App::connect(&server, "s0");
    let before = server.memory("VmRSS");
    for number in 0..messages {
        for session in 0..sessions {
            let user = format!("{number:x}{}", "\u{1f600}".repeat(120));
            let session = format!("s{session}");
            app.send(
                &json!({ "type": "message", "content": " ", "user": user, "session_id": session }),
            );
        }
        app.until_pong();
    }
    let grown = server.memory("VmHWM") - before;
    assert!(grown < TOTAL + SLACK + more, "{grown} KiB were added");
}

#[test]
fn long_histories_stay_within_their_total() {
    fill_histories(4, 6_000);
}

#[test]
fn short_histories_stay_within_their_total() {
    fill_histories(2_000, 12);
}

/// Each has a session of its own, so that they share nothing.
#[test]
fn backlogs_stay_within_their_limit() {
    const CLIENTS: u64 = 8;
    const LIMIT: u64 = 2 << 10;
    let mut server = Server::start(&["--max-backlog", "2MiB", "--history-total", "1kB"]);
    let stuck: Vec<_> = (0..CLIENTS)
        .map(|number| App::connect(&server, &format!("s{number}")))
        .collect();
    let before = server.memory("VmRSS");
    // The buffer of its frame has 512 KiB, because it grows by doubling.
    let text = "x".repeat(270 << 10);
    for _ in 0..40 {
        for number in 0..CLIENTS {
            let arguments = json!({ "chat_id": format!("s{number}"), "text": text });
            let params = json!({ "name": "reply", "arguments": arguments });
            text_of(&server.request("tools/call", &params));
        }
    }
    let grown = server.memory("VmHWM") - before;
    assert!(grown < CLIENTS * LIMIT + SLACK, "{grown} KiB were added");
    // They were filled.
    for _ in &stuck {
        server.wait_for_log("closed, it reads too slowly");
    }
}
