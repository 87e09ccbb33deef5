//! The store as the server uses it: when it is started, when it isn't, and what is said of it.

use std::fs;

use serde_json::json;

use crate::app::App;
use crate::server::{Server, address_in, binary};
use crate::state::State;

/// Returns `true` if the state folder has one for the store.
fn has_store(state: &State) -> bool {
    fs::exists(format!("{}/store", state.path())).expect("the folder is readable")
}

#[test]
fn health_and_metrics_tell_of_the_store() {
    let server = Server::in_process(&[]);
    server.wait_for_health(|health| health["store"]["state"] == "open");
    let health = server.health();
    assert!(health["store"]["bytes"].is_u64() && health["store"]["problem"].is_null());
    server.wait_for_health(|health| health["store"]["pending"] == 0);
    let (_, metrics) = server.get("/metrics");
    for (name, value) in [("bytes", ""), ("pending", "0"), ("failing", "0")] {
        let line = format!("claude_socket_store_{name} {value}");
        let line = metrics.lines().find(|other| other.starts_with(&line));
        assert!(line.is_some(), "{name} is missing in {metrics}");
    }
}

#[test]
fn nothing_is_on_disk_without_history_ttl() {
    for ttl in ["0", "0s"] {
        let state = State::new();
        let flags = ["--state-dir", state.path(), "--history-ttl", ttl];
        let mut server = Server::start(&flags);
        let mut app = App::connect(&server, "s1");
        app.send_message("hi");
        assert_eq!(server.next_message()["content"], "hi");
        assert_eq!(server.health()["store"]["state"], "off");
        drop(server.stdin.take());
        assert!(server.wait_for_exit().0.success());
        assert!(!has_store(&state), "{ttl}");
    }
}

/// Whoever has the port has the store of its name.
#[test]
fn store_is_not_opened_without_the_port() {
    let first = Server::start(&[]);
    let port = first.address.port().to_string();
    let state = State::new();
    let mut second = Server::spawn(binary().args(["--port", &port, "--state-dir", state.path()]));
    second.initialize();
    second.wait_for_log("is taken by another claude-socket");
    assert!(!has_store(&state));
    drop(first);
    second.address = address_in(&second.wait_for_log("listening on "));
    second.wait_for_log(&format!("what is said is kept in {}/store", state.path()));
    second.wait_for_health(|health| health["store"]["state"] == "open");
}

/// Starts a server with this state folder, and with no Claude Code yet.
fn listening(state: &State, flags: &[&str]) -> Server {
    Server::listening(&[&["--state-dir", state.path()], flags].concat())
}

fn end(mut server: Server) {
    drop(server.stdin.take());
    assert!(server.wait_for_exit().0.success());
}

/// Sends a message with an id, and nobody is there to have it.
fn queue(app: &mut App, id: &str) {
    app.send(&json!({ "type": "message", "content": id, "id": id }));
    let delivery = app.expect("delivery");
    assert_eq!(
        (&delivery["id"], &delivery["state"]),
        (&json!(id), &json!("queued"))
    );
}

/// The file is named after the port of the settings, so that any port finds it again.
#[test]
fn message_waits_for_claude_code_over_a_restart() {
    let state = State::new();
    let server = listening(&state, &[]);
    let mut app = App::connect(&server, "s1");
    queue(&mut app, "a1");
    let closing = std::thread::spawn(move || app.close_code());
    end(server);
    assert_eq!(closing.join().expect("the client reads the close"), 1001);
    assert!(fs::exists(format!("{}/store/0.db", state.path())).expect("the folder is readable"));

    let mut server = listening(&state, &[]);
    server.initialize();
    assert_eq!(server.next_message()["content"], "a1");
    let mut app = App::connect(&server, "s1");
    app.send(&json!({ "type": "message", "content": "a1", "id": "a1" }));
    assert_eq!(app.expect("delivery")["state"], "accepted");
    app.send_message("next");
    assert_eq!(server.next_message()["content"], "next", "it is given once");
}

/// Before the end, what is written to disk is told.
#[test]
fn message_that_came_last_is_queued_at_the_end() {
    let state = State::new();
    let server = listening(&state, &[]);
    let mut app = App::connect(&server, "s1");
    for id in 0..100 {
        app.send(&json!({ "type": "message", "content": "x", "id": id.to_string() }));
    }
    app.until_pong();
    end(server);
    let server = listening(&state, &[]);
    let mut app = App::connect(&server, "s1");
    for id in 0..100 {
        app.send(&json!({ "type": "fetch_receipt", "id": id.to_string() }));
        assert_eq!(app.expect("delivery")["state"], "queued", "{id}");
    }
    end(server);
}

/// What a client sends while it waits for the store keeps its order, and nobody else waits.
#[test]
fn client_that_waits_is_heard_in_order() {
    let state = State::new();
    let server = listening(&state, &[]);
    queue(&mut App::connect(&server, "s1"), "a0");
    end(server);

    let mut server = listening(&state, &[]);
    let mut app = App::open(server.address, "/?session=s1");
    // Each of these is asked for on disk.
    for number in 0..50 {
        app.send(&json!({ "type": "message", "content": format!("m{number}"), "id": format!("m{number}"), "session_id": format!("s{number}") }));
        app.send(&json!({ "type": "fetch_receipt", "id": format!("m{number}"), "session_id": format!("s{number}") }));
        app.send(&json!({ "type": "fetch_history", "session_id": format!("s{number}") }));
    }
    server.initialize();
    assert_eq!(server.next_message()["content"], "a0");
    for number in 0..50 {
        assert_eq!(server.next_message()["content"], format!("m{number}"));
    }
    let heard = app.until_pong();
    let histories = heard.iter().filter(|message| message["type"] == "history");
    let last = histories.map(|history| history["messages"].as_array()?.last()?["content"].as_str());
    let expected: Vec<_> = (0..50).map(|number| format!("m{number}")).collect();
    assert_eq!(
        last.collect::<Option<Vec<_>>>()
            .expect("each has a message"),
        expected
    );
}

/// Nobody is left who could answer for it.
#[test]
fn message_of_a_token_removed_meanwhile_is_not_given() {
    let state = State::new();
    let keeps = state.add("keeps", "sender", None);
    let goes = state.add("goes", "sender", None);
    let server = listening(&state, &[]);
    for (token, id) in [(&goes, "a1"), (&keeps, "a2")] {
        let mut app = App::open(server.address, &format!("/?session=s1&token={token}"));
        queue(&mut app, id);
    }
    end(server);
    state.remove("goes");
    let mut server = listening(&state, &[]);
    server.initialize();
    assert_eq!(server.next_message()["content"], "a2");
}

#[test]
fn agent_finds_its_own_sessions() {
    let state = State::new();
    for (agent, found) in [("one", 0), ("two", 0), ("one", 1)] {
        let server = listening(&state, &["--agent", agent]);
        let mut app = App::connect(&server, "s1");
        app.send(&json!({ "type": "fetch_history" }));
        let history = app.expect("history");
        assert_eq!(
            history["messages"].as_array().map(Vec::len),
            Some(found),
            "{agent}"
        );
        queue(&mut app, &format!("{agent}{found}"));
        end(server);
    }
}
