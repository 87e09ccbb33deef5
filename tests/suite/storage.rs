//! The store as the server uses it: when it is started, when it isn't, and what is said of it.

use std::fs;

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
