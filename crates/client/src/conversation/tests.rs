//! The conversation with a made-up server and a made-up clock.

use serde_json::{Value, json};

use super::*;
use crate::protocol::{ErrorCode, ServerMessage};
use crate::sent_message::SentMessage;

mod questions;

/// A client, and the server that the test plays.
struct Talk {
    client: Conversation,
    now: Instant,
}

impl Talk {
    fn with(options: Options) -> Self {
        let now = Instant::now();
        let client = Conversation::new(options, now);
        Self { client, now }
    }

    fn new() -> Self {
        let session = "s".to_owned();
        Self::with(Options {
            session,
            ..Options::new("ws://x")
        })
    }

    /// Opens the connection; the session began then and has come so far.
    fn opens(&mut self, created: &str, seq: u64) {
        self.client.connected(self.now);
        assert_eq!(self.frames()[0]["type"], "hello");
        self.hears(json!({
            "type": "welcome", "server": "claude-socket", "version": "0", "session_id": "s",
            "role": "operator", "seq": seq, "created": created, "max_message": 300,
            "host": { "name": "", "version": "", "ready": true }, "more": [1],
        }));
    }

    fn breaks(&mut self) {
        self.client
            .disconnected(None, "broken".to_owned(), false, self.now, 1.0);
    }

    fn hears(&mut self, message: Value) {
        self.client.handle_frame(&message.to_string());
    }

    fn says(&mut self, content: &str, n: u32) -> SentMessage {
        let sent = SentMessage::new(format!("id-{n}"));
        let ts = format!("2026-01-01T00:00:0{n}Z");
        let content = content.to_owned();
        self.client.send(Outgoing {
            sent: sent.clone(),
            content,
            ts,
        });
        sent
    }

    fn receipt(&mut self, n: u32, seq: u64, state: &str) {
        self.hears(json!({
            "type": "delivery", "session_id": "s", "id": format!("id-{n}"),
            "message_id": uuid(seq), "seq": seq, "state": state,
        }));
    }

    /// The frames it sends. What else there is to do is left out.
    fn frames(&mut self) -> Vec<Value> {
        let outputs = std::iter::from_fn(|| self.client.next());
        let frames = outputs.filter_map(|output| match output {
            Output::Frame(text) => serde_json::from_str(&text).ok(),
            _ => None,
        });
        frames.collect()
    }

    /// What was said, as it is told.
    fn told(&mut self) -> Vec<String> {
        let outputs = std::iter::from_fn(|| self.client.next());
        let told = outputs.filter_map(|output| match output {
            Output::Event(Event::Message(
                ServerMessage::Reply { content, .. } | ServerMessage::UserMessage { content, .. },
            )) => Some(content),
            _ => None,
        });
        told.collect()
    }
}

fn uuid(seq: u64) -> String {
    format!("00000000-0000-0000-0000-{seq:012}")
}

fn reply(seq: u64, content: &str) -> Value {
    json!({
        "type": "reply", "session_id": "s", "message_id": uuid(seq), "seq": seq,
        "content": content, "ts": "2026-01-01T00:00:00Z",
    })
}

fn item(role: &str, seq: u64, content: &str, ts: &str) -> Value {
    json!({ "role": role, "seq": seq, "message_id": uuid(seq), "content": content, "ts": ts })
}

fn history(messages: &[Value]) -> Value {
    json!({ "type": "history", "session_id": "s", "messages": messages })
}

const OTHER: &str = "2026-01-01T00:00:09Z";

#[test]
fn what_is_said_early_waits_and_keeps_its_order() {
    let mut talk = Talk::new();
    talk.says("one", 1);
    talk.says("two", 2);
    talk.client.respond_to_permission("r".to_owned(), true);
    assert!(talk.frames().is_empty());
    talk.opens("t", 0);
    let frames = talk.frames();
    let kinds: Vec<_> = frames.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(kinds, ["message", "message", "permission_response"]);
    assert_eq!(
        (&frames[0]["content"], &frames[1]["id"]),
        (&json!("one"), &json!("id-2"))
    );
}

#[test]
fn only_what_has_no_receipt_is_sent_again() {
    let mut talk = Talk::new();
    talk.opens("t", 0);
    talk.says("one", 1);
    talk.says("two", 2);
    talk.receipt(1, 1, "accepted");
    talk.breaks();
    talk.frames();
    talk.opens("t", 1);
    let frames = talk.frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(
        (&frames[0]["id"], &frames[0]["content"]),
        (&json!("id-2"), &json!("two"))
    );
}

/// What comes before the gap is filled is held back; own words are known by their receipt,
/// or by time and content.
#[test]
fn a_gap_is_filled_before_what_is_new() {
    let mut talk = Talk::new();
    talk.opens("t", 3);
    talk.says("mine", 1);
    talk.receipt(1, 4, "accepted");
    talk.says("also mine", 2);
    talk.breaks();
    talk.frames();
    talk.opens("t", 8);
    let frames = talk.frames();
    assert_eq!(
        (&frames[0]["type"], &frames[0]["since"]),
        (&json!("fetch_history"), &json!(4))
    );
    talk.hears(reply(9, "new"));
    assert!(talk.told().is_empty(), "it is reorder_buffer back");
    talk.hears(history(&[
        item("user", 4, "mine", OTHER),
        item("user", 5, "also mine", "2026-01-01T00:00:02Z"),
        item("user", 6, "also mine", OTHER),
        item("assistant", 7, "missed", OTHER),
        item("assistant", 8, "missed too", OTHER),
        item("assistant", 9, "new", OTHER),
    ]));
    assert_eq!(talk.told(), ["also mine", "missed", "missed too", "new"]);
}

#[test]
fn a_long_gap_is_filled_page_by_page() {
    let mut talk = Talk::new();
    talk.opens("t", 0);
    talk.breaks();
    talk.frames();
    talk.opens("t", 150);
    assert_eq!(talk.frames()[0]["since"], 0);
    let page: Vec<Value> = (1..=100)
        .map(|seq| item("assistant", seq, "x", OTHER))
        .collect();
    talk.hears(history(&page));
    assert_eq!(talk.frames()[0]["since"], 100);
    // A server that says the same for ever is not asked for ever.
    talk.hears(history(&page));
    assert!(talk.frames().is_empty());
}

/// A session that began anew counts from 1 again, and doesn't know of earlier messages.
#[test]
fn a_session_that_began_anew_is_told_from_its_beginning() {
    let mut talk = Talk::new();
    talk.opens("t", 50);
    let sent = talk.says("one", 1);
    talk.receipt(1, 51, "accepted");
    talk.breaks();
    talk.frames();
    talk.opens("u", 1);
    assert_eq!(talk.frames()[0]["since"], 0);
    talk.hears(history(&[item("assistant", 1, "hello again", OTHER)]));
    assert_eq!(talk.told(), ["hello again"]);
    assert!(sent.answered(Duration::ZERO).is_ok());
}

#[test]
fn a_silent_server_is_asked_and_then_left() {
    let mut talk = Talk::new();
    talk.opens("t", 0);
    talk.frames();
    let heartbeat = Duration::from_secs(20);
    talk.client.heartbeat(talk.now + heartbeat / 2);
    assert_eq!(talk.client.next(), None);
    talk.client.heartbeat(talk.now + heartbeat);
    assert_eq!(talk.frames()[0]["type"], "ping");
    talk.hears(json!({ "type": "pong" }));
    talk.client.heartbeat(talk.now + heartbeat * 2);
    assert_eq!(talk.frames()[0]["type"], "ping");
    talk.client.heartbeat(talk.now + heartbeat * 3);
    assert_eq!(talk.client.next(), Some(Output::Drop));
}

#[test]
fn the_wait_doubles_up_to_a_limit_and_begins_anew() {
    let mut talk = Talk::new();
    let wait = |talk: &mut Talk| {
        talk.breaks();
        talk.client.connect_at().map(|at| (at - talk.now).as_secs())
    };
    let waits: Vec<_> = (0..40).filter_map(|_| wait(&mut talk)).collect();
    assert_eq!(waits[..6], [1, 2, 4, 8, 16, 30]);
    assert!(waits[6..].iter().all(|wait| *wait == 30));
    talk.frames();
    talk.opens("t", 0);
    assert_eq!(wait(&mut talk), Some(1));
    talk.client
        .disconnected(Some(4401), "removed".to_owned(), true, talk.now, 1.0);
    assert_eq!(talk.client.connect_at(), None);
    let late = talk.says("late", 1).accepted(Duration::ZERO);
    assert!(matches!(late, Err(Error::Ended(_))));
}

#[test]
fn too_much_and_too_large_is_refused_here() {
    let mut talk = Talk::with(Options {
        queue_limit: 1,
        ..Options::new("ws://x")
    });
    talk.says("one", 1);
    let second = talk.says("two", 2).accepted(Duration::ZERO);
    assert!(matches!(
        second,
        Err(Error::Rejected {
            code: Some(ErrorCode::QueueFull),
            ..
        })
    ));
    talk.opens("t", 0);
    talk.receipt(1, 1, "accepted");
    talk.frames();
    let large = talk.says(&"x".repeat(300), 3).accepted(Duration::ZERO);
    let code = Some(ErrorCode::TooLarge);
    assert!(matches!(large, Err(Error::Rejected { code: was, .. }) if was == code));
    assert!(talk.frames().is_empty());
}

/// A newer server may say more than this client knows.
#[test]
fn what_is_not_known_does_no_harm() {
    let mut talk = Talk::new();
    talk.opens("t", 0);
    talk.frames();
    for text in [
        "",
        "[]",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"dance","more":1}"#,
        r#"{"type":"reply"}"#,
    ] {
        talk.client.handle_frame(text);
        assert_eq!(talk.client.next(), None, "{text}");
    }
    let mut newer = reply(1, "hi");
    newer["via"] = json!("telepathy");
    newer["mood"] = json!({ "good": true });
    talk.hears(newer);
    assert_eq!(talk.told(), ["hi"]);
    talk.says("one", 1);
    talk.hears(json!({
        "type": "delivery", "session_id": "s", "id": "id-1", "state": "rejected", "code": "asleep",
    }));
    let told: Vec<_> = std::iter::from_fn(|| talk.client.next()).collect();
    assert_eq!(told.len(), 2, "the frame and the receipt: {told:?}");
}
