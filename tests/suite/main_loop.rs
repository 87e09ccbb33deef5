//! The main loop without a process: a client, an agent, and what goes between them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::app::App;
use crate::server::Server;

/// From the first message to the end, it takes milliseconds.
#[test]
fn message_and_reply_pass_and_server_ends_with_its_input() {
    let mut server = Server::in_process(&[]);
    let mut client = App::connect(&server, "s1");

    client.send(&json!({ "type": "message", "content": "hi", "user": "ann", "id": "a1" }));
    let message = server.next_message();
    assert_eq!(message["content"], "hi");
    assert_eq!(message["meta"]["chat_id"], "s1");
    assert_eq!(message["meta"]["user"], "ann");
    let delivery = client.expect("delivery");
    assert_eq!(delivery["id"], "a1");
    assert_eq!(delivery["state"], "accepted");

    let result = server.call("reply", &json!({ "chat_id": "s1", "text": "hello ann" }));
    assert_eq!(result, "sent");
    assert_eq!(client.expect("reply")["content"], "hello ann");
    assert_eq!(client.expect("delivery")["state"], "answered");

    let closing = std::thread::spawn(move || client.close_code());
    let start = Instant::now();
    server.end();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(closing.join().expect("the client reads the close"), 1001);
}

/// What was asked before the input ended is still answered.
#[test]
fn requests_before_end_of_input_are_answered() {
    let mut server = Server::in_process(&[]);
    let ping = server.send_request("ping", &json!({}));
    drop(server.stdin.take());
    assert_eq!(server.next_line()["id"], ping);
    server.end();
}

/// A client that never got its message through is told so.
#[test]
fn message_before_initialization_is_rejected_at_the_end() {
    let server = Server::in_process_listening(&[]);
    let mut client = App::connect(&server, "s1");
    client.send(&json!({ "type": "message", "content": "too late", "id": "a1" }));
    client.until_pong();
    let rejected = std::thread::spawn(move || {
        let delivery = client.expect("delivery");
        (delivery, client.close_code())
    });
    server.end();
    let (delivery, code) = rejected.join().expect("the client reads to the close");
    assert_eq!(delivery["state"], "rejected");
    assert_eq!(delivery["code"], "host_closed");
    assert_eq!(code, 1001);
}
