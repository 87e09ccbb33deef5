//! The conversation with a made-up server and a made-up clock: the stories, and what the app gets beside messages.

use std::iter;

use serde_json::{Value, json};

use super::*;
use crate::protocol::{DeliveryState, ServerMessage};
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

/// What was found in a session, or a part of that.
fn part(session: &str, contents: &[&str], more: bool) -> String {
    let mut found: Value = serde_json::from_str(&history(contents)).expect("it is JSON");
    found["session_id"] = session.into();
    found["search"] = "open".into();
    found["more"] = more.into();
    found.to_string()
}

/// The frames that the client sends now.
fn frames(client: &mut Conversation) -> Vec<Value> {
    let frames = iter::from_fn(|| client.next()).filter_map(|output| match output {
        Output::Frame(text) => serde_json::from_str(&text).ok(),
        _ => None,
    });
    frames.collect()
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
    client.fetch_history(2, None, None, first.clone());
    client.fetch_sessions(sessions.clone());
    welcome(&mut client, 3, now);
    lose(&mut client, now);
    welcome(&mut client, 4, now);
    client.fetch_history(5, Some(1), None, second.clone());

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
fn search_and_verdicts_are_repeated_and_their_parts_put_together() {
    let (mut client, now) = conversation();
    let (history, found, verdicts) = (Pending::new(), Pending::new(), Pending::new());
    client.search("open".into(), 5, None, found.clone());
    client.fetch_verdicts(3, verdicts.clone());
    welcome(&mut client, 0, now);
    client.fetch_history(9, Some(2), Some(7), history.clone());
    client.handle_frame(&part("lost", &["with the connection"], true));
    lose(&mut client, now);
    while client.next().is_some() {}
    welcome(&mut client, 0, now);
    let frames = frames(&mut client);
    let expected = [
        json!({ "type": "hello", "stream": false }),
        json!({ "type": "fetch_history", "session_id": "s", "limit": 9, "since": 2, "before": 7 }),
        json!({ "type": "search", "text": "open", "limit": 5 }),
        json!({ "type": "fetch_verdicts", "limit": 3 }),
    ];
    assert_eq!(frames, expected);

    client.handle_frame(&part("a", &["one"], true));
    client.handle_frame(&self::history(&["of the session"]));
    client.handle_frame(&part("a", &["two"], true));
    assert_eq!(now_of(&found), Err(Error::TimedOut));
    client.handle_frame(&part("b", &["three"], false));
    let sessions = now_of(&found).expect("it has come");
    let contents = |found: &Found| -> Vec<String> {
        let contents = found.messages.iter().map(|item| item.content.clone());
        iter::once(found.session_id.clone())
            .chain(contents)
            .collect()
    };
    let sessions: Vec<_> = sessions.iter().map(contents).collect();
    assert_eq!(sessions, [vec!["a", "one", "two"], vec!["b", "three"]]);
    assert_eq!(
        now_of(&history).expect("it has come")[0].content,
        "of the session"
    );
    let more = iter::from_fn(|| client.next()).filter_map(|output| match output {
        Output::Event(Event::Message(ServerMessage::History {
            search: Some(_),
            more,
            ..
        })) => Some(more),
        _ => None,
    });
    assert_eq!(more.collect::<Vec<_>>(), [true, false]);

    let verdict = |id: &str, more: bool| {
        let verdict = json!({
            "request_id": id, "tool_name": "Bash", "description": "", "allowed": true, "by": "ann", "ts": "t",
        });
        json!({ "type": "verdicts", "verdicts": [verdict], "more": more }).to_string()
    };
    client.handle_frame(&verdict("aaaaa", true));
    client.handle_frame(&verdict("bbbbb", false));
    let verdicts = now_of(&verdicts).expect("it has come");
    assert_eq!(verdicts.len(), 2);
}

#[test]
fn search_that_finds_nothing_or_is_not_taken_has_an_answer() {
    let (mut client, now) = conversation();
    welcome(&mut client, 0, now);
    let (nothing, rejected) = (Pending::new(), Pending::new());
    client.search(
        "x".into(),
        5,
        Some(SessionId::unchecked("s")),
        nothing.clone(),
    );
    client.search(" ".into(), 5, None, rejected.clone());
    client.handle_frame(&part("s", &[], false));
    assert_eq!(now_of(&nothing), Ok(Vec::new()));
    let error = json!({
        "type": "error", "session_id": "", "code": "invalid_message", "message": "no words", "request": "search",
    });
    client.handle_frame(&error.to_string());
    let rejected = now_of(&rejected);
    assert!(
        matches!(rejected, Err(Error::Rejected { .. })),
        "{rejected:?}"
    );
}

#[test]
fn queued_message_is_safe_and_not_accepted() {
    let (mut client, now) = conversation();
    welcome(&mut client, 0, now);
    let sent = send(&mut client, "a1");
    let receipt = |client: &mut Conversation, state: &str| {
        let receipt = json!({
            "type": "delivery", "session_id": "s", "id": "a1", "seq": 1, "state": state,
            "message_id": "00000000-0000-0000-0000-000000000001",
        });
        client.handle_frame(&receipt.to_string());
    };
    assert_eq!(sent.queued(Duration::ZERO), Err(Error::TimedOut));
    receipt(&mut client, "queued");
    let state = sent.queued(Duration::ZERO).map(|receipt| receipt.state);
    assert_eq!(state, Ok(DeliveryState::Queued));
    assert_eq!(sent.accepted(Duration::ZERO), Err(Error::TimedOut));
    receipt(&mut client, "accepted");
    assert!(sent.accepted(Duration::ZERO).is_ok());
    // Claude Code has ended before it has seen the message, which waits for the next one.
    receipt(&mut client, "queued");
    assert_eq!(sent.accepted(Duration::ZERO), Err(Error::TimedOut));
    receipt(&mut client, "answered");
    assert!(sent.answered(Duration::ZERO).is_ok());
}

#[test]
fn request_fails_at_the_end_and_after_it() {
    let (mut client, _) = conversation();
    let (early, late) = (Pending::new(), Pending::new());
    client.fetch_sessions(early.clone());
    client.end(closed());
    client.fetch_history(1, None, None, late.clone());
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
