//! The conversation with a made-up server and a made-up clock: the stories, and what the app gets beside messages.

use serde_json::{Value, json};

use super::*;
use crate::sent_message::SentMessage;

mod stories;

fn conversation() -> (Conversation, Instant) {
    let now = Instant::now();
    let session = "s".to_owned();
    let options = Options {
        session,
        ..Options::new("ws://x")
    };
    (Conversation::new(options, now), now)
}

fn welcome(client: &mut Conversation, seq: u64, now: Instant) {
    client.connected(now);
    let welcome = json!({
        "type": "welcome", "server": "claude-socket", "version": "0", "session_id": "s",
        "role": "operator", "seq": seq, "created": "t", "max_message": 300,
        "host": { "name": "", "version": "", "ready": true },
    });
    client.handle_frame(&welcome.to_string());
}

fn lose(client: &mut Conversation, now: Instant) {
    client.disconnected(Disconnect::because("broken"), now, 1.0);
}

fn closed() -> Error {
    Error::Ended("it was closed".to_owned())
}

fn send(client: &mut Conversation, id: &str) -> SentMessage {
    let sent = SentMessage::new(id.to_owned());
    client.send(Outgoing {
        sent: sent.clone(),
        content: "hi".to_owned(),
        ts: "2026-01-01T00:00:00Z".to_owned(),
    });
    sent
}

fn history(contents: &[&str]) -> String {
    let item = |content: &&str| {
        json!({
            "role": "assistant", "seq": 1, "content": content, "ts": "t",
            "message_id": "00000000-0000-0000-0000-000000000001",
        })
    };
    let messages: Vec<Value> = contents.iter().map(item).collect();
    json!({ "type": "history", "session_id": "s", "messages": messages }).to_string()
}

/// The answer, which must be there by now.
fn now_of<T: Clone>(pending: &Pending<T>) -> Result<T, Error> {
    pending.answer(Duration::ZERO)
}

#[test]
fn reconnect_delay_many_attempts_stays_at_its_limit() {
    let (mut client, now) = conversation();
    for _ in 0..100 {
        lose(&mut client, now);
        let delay = client.connect_at().map(|at| at - now);
        assert!(delay.is_some_and(|delay| delay <= Duration::from_secs(30)));
    }
}

#[test]
fn message_sent_after_the_end_fails() {
    let (mut client, _) = conversation();
    let early = send(&mut client, "a1");
    client.end(closed());
    let late = send(&mut client, "a2");
    for sent in [early, late] {
        let accepted = sent.accepted(Duration::ZERO);
        assert_eq!(accepted, Err(closed()));
    }
}

#[test]
fn message_with_bad_id_is_rejected() {
    let (mut client, _) = conversation();
    for id in ["", "a\nb", &"x".repeat(65)] {
        let accepted = send(&mut client, id).accepted(Duration::ZERO);
        let expected = Some(crate::protocol::ErrorCode::InvalidMessage);
        assert!(
            matches!(&accepted, Err(Error::Rejected { code, .. }) if *code == expected),
            "{accepted:?}"
        );
    }
}

#[test]
fn each_request_gets_its_own_answer() {
    let (mut client, now) = conversation();
    let (first, second, sessions) = (Pending::new(), Pending::new(), Pending::new());
    client.fetch_history(2, None, first.clone());
    client.fetch_sessions(sessions.clone());
    welcome(&mut client, 3, now);
    lose(&mut client, now);
    welcome(&mut client, 4, now);
    client.fetch_history(5, Some(1), second.clone());

    client.handle_frame(&history(&["missed"]));
    assert_eq!(now_of(&first), Err(Error::TimedOut), "it was for the gap");
    client.handle_frame(&history(&["a"]));
    client.handle_frame(&history(&[]));
    assert_eq!(now_of(&first).expect("it has come")[0].content, "a");
    assert_eq!(now_of(&second), Ok(Vec::new()));
    let answer = json!({ "type": "sessions", "sessions": [], "total": 7, "permissions": 1 });
    client.handle_frame(&answer.to_string());
    let sessions = now_of(&sessions).expect("it has come");
    assert_eq!((sessions.total, sessions.permissions), (7, 1));
}

#[test]
fn request_fails_at_the_end_and_after_it() {
    let (mut client, _) = conversation();
    let (early, late) = (Pending::new(), Pending::new());
    client.fetch_sessions(early.clone());
    client.end(closed());
    client.fetch_history(1, None, late.clone());
    assert_eq!(now_of(&early).err(), Some(closed()));
    assert_eq!(now_of(&late).err(), Some(closed()));
}

#[test]
fn frame_of_another_kind_is_ignored() {
    let (mut client, now) = conversation();
    welcome(&mut client, 0, now);
    while client.next().is_some() {}
    for text in [
        "",
        "[]",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"dance","more":1}"#,
        r#"{"type":"reply"}"#,
    ] {
        client.handle_frame(text);
        assert_eq!(client.next(), None, "{text}");
    }
    let rejected = json!({ "type": "delivery", "session_id": "s", "id": "a1", "state": "rejected", "code": "asleep" });
    client.handle_frame(&rejected.to_string());
    assert!(
        client.next().is_some(),
        "a new code is no reason to ignore it"
    );
}

#[test]
fn answer_of_an_old_message_is_not_waited_for() {
    let (mut client, now) = conversation();
    welcome(&mut client, 0, now);
    let mut sent = Vec::new();
    for seq in 1..=1_001 {
        let message = send(&mut client, &format!("a{seq}"));
        let receipt = json!({
            "type": "delivery", "session_id": "s", "id": message.id(), "seq": seq,
            "message_id": format!("00000000-0000-0000-0000-{seq:012}"), "state": "accepted",
        });
        client.handle_frame(&receipt.to_string());
        sent.push(message);
    }
    let code = Some(crate::protocol::ErrorCode::QueueFull);
    let oldest = sent[0].answered(Duration::ZERO);
    assert!(matches!(oldest, Err(Error::Rejected { code: was, .. }) if was == code));
    assert_eq!(sent[1].answered(Duration::ZERO), Err(Error::TimedOut));
}
