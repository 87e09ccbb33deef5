//! What clients send, and what they are sent.

use std::io::Write;

use claude_socket::protocol::Rate;
use serde_json::{Value, json};

use super::{Check, Row, code, history, hub, received, say, write};
use crate::app::App;
use crate::hub::HubStage;
use crate::raw::Raw;
use crate::server::{Server, status_of};
use crate::story::{Stage, Token};

pub const CHECKS: &[(&str, Check)] = &[
    ("frame of a client", frame),
    ("frame of a client that is read at all", frame_that_is_read),
    ("control frame of a client", control_frame),
    ("frame for a client", frame_for_client),
    ("session id and user name", names),
    ("`id` of a message", id),
    ("`ts` of a message", ts),
    ("name that a rejection repeats", repeated_name),
    ("messages in a minute, of a token for senders", rate),
    ("text that counts as one message of a rate", counted_text),
    (
        "`limit` of `fetch_history`, `search`, `fetch_verdicts` and `fetch_messages`",
        limit_of_requests,
    ),
    ("words of a `search`", words),
    ("sessions of `list_sessions`", listed_sessions),
    ("last message of a session in `list_sessions`", excerpt),
];

/// Returns a message in a frame of this length.
fn message_of(length: usize) -> String {
    let empty = json!({ "type": "message", "content": "" }).to_string();
    let content = "x".repeat(length - empty.len());
    json!({ "type": "message", "content": content }).to_string()
}

fn frame(row: &Row) {
    let server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    app.send_text(&message_of(row.one));
    server.next_message();
    app.send_text(&message_of(row.one + 1));
    assert_eq!(app.expect("error")["code"], "too_large");
}

fn frame_that_is_read(row: &Row) {
    let server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    app.send_text(&message_of(row.one));
    assert_eq!(app.expect("error")["code"], "too_large");
    app.send_message("still here");
    assert_eq!(server.next_message()["content"], "still here");
    app.send_text(&message_of(row.one + 1));
    assert_eq!(app.close_code(), 1009);
}

fn control_frame(row: &Row) {
    let server = Server::in_process(&[]);
    let mut raw = Raw::connect(&server, "s1");
    assert_eq!(row.one, 125, "RFC 6455, section 5.5");
    let payload = vec![b'x'; row.one];
    raw.send_frame(0x89, &payload);
    assert_eq!(raw.read_frame(), (0x8a, payload));
    // Such a length has two bytes of its own (RFC 6455, section 5.2).
    let longer = u16::try_from(row.one + 1).expect("it is short");
    let head = [&[0x89, 0x80 | 126], &longer.to_be_bytes()[..], &[0; 4]].concat();
    raw.stream.write_all(&head).expect("the server reads");
    let (first, close) = raw.read_frame();
    assert_eq!((first, &close[..2]), (0x88, &1002_u16.to_be_bytes()[..]));
}

/// No frame that the hub sends is longer than `--max-frame`; the stage looks at each.
fn frame_for_client(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    // Each has a few hundred bytes beside its text.
    let length = row.one / 8 - 400;
    let request = json!({ "type": "fetch_history", "limit": 100 });
    let mut frames_with = |messages: usize| {
        for _ in 0..messages {
            write(&mut stage, "ann", "s1", &"x".repeat(length));
        }
        received(&mut stage, "ann");
        say(&mut stage, "ann", &request);
        received(&mut stage, "ann")
    };
    let one = frames_with(8);
    assert_eq!(one.len(), 1);
    let several = frames_with(1);
    assert_eq!(several.len(), 2);
    assert_eq!(several[0]["more"], true);
    assert_eq!(several[0]["messages"].as_array().map(Vec::len), Some(8));
}

fn names(row: &Row) {
    let server = Server::in_process(&[]);
    let [at, beyond] = [row.one, row.one + 1].map(|length| "é".repeat(length));
    let mut app = App::connect(&server, "s1");
    for field in ["session_id", "user"] {
        let message = |name: &str| {
            let mut message = json!({ "type": "message", "content": "x" });
            message[field] = name.into();
            message
        };
        app.send(&message(&at));
        server.next_message();
        app.send(&message(&beyond));
        assert_eq!(app.expect("error")["code"], "invalid_message", "{field}");
    }
    let path = |length: usize| format!("/?session={}", "%C3%A9".repeat(length));
    App::open(server.address, &path(row.one));
    let refused = server.http(server.handshake(&path(row.one + 1)).as_bytes());
    assert_eq!(status_of(&refused), 400, "{refused}");
}

/// A message may have a text of this length in a field, and no longer one.
fn assert_longest(field: &str, length: usize) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    let mut rejected = |length: usize| {
        let mut message = json!({ "type": "message", "content": "x" });
        message[field] = "1".repeat(length).into();
        say(&mut stage, "ann", &message);
        let frames = received(&mut stage, "ann");
        frames.iter().any(|frame| code(frame) == "invalid_message")
    };
    assert!(!rejected(length));
    assert!(rejected(length + 1));
}

fn id(row: &Row) {
    assert_longest("id", row.one);
}

fn ts(row: &Row) {
    assert_longest("ts", row.one);
}

fn repeated_name(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    let mut error = |request: Value| {
        say(&mut stage, "ann", &request);
        received(&mut stage, "ann").remove(0)
    };
    let [at, beyond] = [row.one, row.one + 1].map(|length| "é".repeat(length));
    for (name, repeated) in [(&at, &*at), (&beyond, "")] {
        let error = error(json!({ "type": "unheard of", "session_id": name }));
        assert_eq!(error["session_id"].as_str().unwrap_or_default(), repeated);
    }
    for name in [&at, &beyond] {
        let error = error(json!({
            "type": "permission_response", "request_id": name, "allowed": true,
        }));
        let message = error["message"].as_str().expect("an error says why");
        assert!(message.contains(&format!("\"{at}\"")), "{message}");
    }
}

/// A hub with a client whose token has a rate.
fn with_rate(rate: &str) -> HubStage {
    let mut stage = hub(&[]);
    let token = Token {
        name: "dev".into(),
        role: "sender".into(),
        sessions: None,
        rate: Some(rate.into()),
    };
    stage.connect("dev", "s1", Some(&token));
    stage
}

/// Sends a message of this length, and returns the rejection if there is one.
fn rejection(stage: &mut HubStage, length: usize) -> Option<Value> {
    write(stage, "dev", "s1", &"x".repeat(length));
    received(stage, "dev").pop()
}

fn rate(row: &Row) {
    let rate = Rate::OF_SENDERS.to_string();
    assert_eq!(rate, format!("{}/m", row.one));
    let mut stage = with_rate(&rate);
    for _ in 0..row.one {
        assert_eq!(rejection(&mut stage, 1), None);
    }
    let rejected = rejection(&mut stage, 1).expect("it is one too many");
    assert_eq!(
        (code(&rejected), &rejected["retry_after"]),
        ("busy", &json!(1))
    );
}

fn counted_text(row: &Row) {
    let counts_twice = |length: usize| {
        let mut stage = with_rate("2/d");
        assert_eq!(rejection(&mut stage, length), None);
        rejection(&mut stage, 1).is_some()
    };
    assert!(!counts_twice(row.one));
    assert!(counts_twice(row.one + 1));
}

fn limit_of_requests(row: &Row) {
    let mut stage = hub(&["--history-messages", "1000"]);
    stage.connect("ann", "s1", None);
    for _ in 0..row.one + 1 {
        write(&mut stage, "ann", "s1", "x");
    }
    for limit in [row.one, row.one + 1] {
        let request = json!({ "type": "fetch_history", "limit": limit });
        assert_eq!(history(&mut stage, "ann", &request).len(), row.one);
        let result = stage.call_tool(
            "fetch_messages",
            json!({ "session_id": "s1", "limit": limit }),
        );
        assert_eq!(result.lines().count(), 1 + row.one, "and the hint");
        let request = json!({ "type": "search", "text": "x", "limit": limit });
        assert_eq!(history(&mut stage, "ann", &request).len(), row.one);
    }
    for n in 0..row.one + 1 {
        let id = n.to_string();
        stage.request_permission(json!({ "request_id": id, "tool_name": "Bash" }));
        let verdict = json!({ "type": "permission_response", "request_id": id, "allowed": true });
        say(&mut stage, "ann", &verdict);
    }
    received(&mut stage, "ann");
    for limit in [row.one, row.one + 1] {
        let request = json!({ "type": "fetch_verdicts", "limit": limit });
        say(&mut stage, "ann", &request);
        let answer = received(&mut stage, "ann").remove(0);
        assert_eq!(answer["verdicts"].as_array().map(Vec::len), Some(row.one));
    }
}

fn words(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    let mut is_taken = |length: usize| {
        let request = json!({ "type": "search", "text": "é".repeat(length) });
        say(&mut stage, "ann", &request);
        let answer = received(&mut stage, "ann").remove(0);
        if answer["type"] == "history" {
            return true;
        }
        assert_eq!(answer["code"], "invalid_message");
        false
    };
    assert!(is_taken(row.one));
    assert!(!is_taken(row.one + 1));
}

fn listed_sessions(row: &Row) {
    let mut stage = hub(&[]);
    let mut connect = |n: usize| {
        let name = n.to_string();
        stage.connect(&name, &name, None);
        say(&mut stage, &name, &json!({ "type": "list_sessions" }));
        let answer = received(&mut stage, &name).remove(0);
        let listed = answer["sessions"].as_array().map(Vec::len);
        assert_eq!(answer["total"], n);
        listed.expect("it is a list")
    };
    for n in 1..=row.one {
        assert_eq!(connect(n), n);
    }
    assert_eq!(connect(row.one + 1), row.one);
}

fn excerpt(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    for length in [row.one, row.one + 1] {
        write(&mut stage, "ann", "s1", &"é".repeat(length));
        say(&mut stage, "ann", &json!({ "type": "list_sessions" }));
        let answer = received(&mut stage, "ann").remove(0);
        let last = &answer["sessions"][0]["last"]["content"];
        assert_eq!(*last, "é".repeat(row.one));
    }
}
