//! The history of all sessions together: what is kept when it is too much.

use std::time::Duration;

use claude_socket::hub::Limits;
use serde_json::json;

use crate::hub::HubStage;
use crate::story::Stage;

const TOTAL: usize = 256_000;

fn stage() -> HubStage {
    HubStage::with(Limits {
        max_sessions: 10_000,
        max_sessions_per_token: 10_000,
        history_messages: 100,
        history_bytes: 20_000,
        history_total: TOTAL,
        ..HubStage::limits()
    })
}

/// Sends a message of this length.
fn send(stage: &mut HubStage, client: &str, session: &str, length: usize) {
    let message = json!({"type": "message", "session_id": session, "content": "x".repeat(length)});
    stage.send_frame(client, &message.to_string());
}

/// Returns the lengths of the messages in a session's history.
fn lengths(stage: &mut HubStage, session: &str) -> Vec<usize> {
    stage.connect("reader", "reader", None);
    let fetch = json!({"type": "fetch_history", "session_id": session, "limit": 100});
    stage.send_frame("reader", &fetch.to_string());
    let history = stage.next_frame("reader").expect("an answer");
    let messages = history["messages"].as_array().expect("it is a list");
    let texts = messages
        .iter()
        .filter_map(|message| message["content"].as_str());
    texts.map(str::len).collect()
}

fn total_length(stage: &mut HubStage, sessions: &[String]) -> usize {
    let length = |session| lengths(stage, session).into_iter().sum::<usize>();
    sessions
        .iter()
        .map(|session| session.as_str())
        .map(length)
        .sum()
}

#[test]
fn short_histories_are_kept_beside_long_ones() {
    let mut stage = stage();
    stage.connect("ann", "quiet", None);
    for _ in 0..3 {
        send(&mut stage, "ann", "quiet", 500);
    }
    stage.connect("eve", "loud", None);
    let sessions: Vec<_> = (0..20).map(|n| format!("loud{n}")).collect();
    for _ in 0..50 {
        for session in &sessions {
            send(&mut stage, "eve", session, 1_000);
        }
    }
    assert_eq!(lengths(&mut stage, "quiet"), [500; 3]);
    for session in &sessions {
        assert_eq!(lengths(&mut stage, session).last(), Some(&1_000));
    }
    let loud = total_length(&mut stage, &sessions);
    assert!((TOTAL / 2..TOTAL).contains(&loud), "{loud}");
}

#[test]
fn single_messages_of_many_sessions_are_evicted_beyond_the_quota() {
    let mut stage = stage();
    stage.connect("ann", "quiet", None);
    send(&mut stage, "ann", "quiet", 10);
    stage.connect("eve", "loud", None);
    let sessions: Vec<_> = (0..200).map(|n| format!("loud{n}")).collect();
    for session in &sessions {
        send(&mut stage, "eve", session, 10_000);
        assert_eq!(
            lengths(&mut stage, session),
            [10_000],
            "the newest message is kept"
        );
    }
    assert_eq!(lengths(&mut stage, "quiet"), [10]);
    let loud = total_length(&mut stage, &sessions);
    assert!(loud < TOTAL, "{loud}");
}

#[test]
fn oversized_entry_survives_until_next_append() {
    let mut stage = stage();
    stage.connect("ann", "s1", None);
    send(&mut stage, "ann", "s2", 10);
    send(&mut stage, "ann", "s1", TOTAL * 2);
    assert_eq!(lengths(&mut stage, "s1"), [TOTAL * 2]);
    send(&mut stage, "ann", "s2", 20);
    assert!(lengths(&mut stage, "s1").is_empty());
    assert_eq!(lengths(&mut stage, "s2"), [10, 20]);
}

#[test]
fn expired_session_frees_its_quota() {
    let mut stage = stage();
    stage.make_ready();
    let names = |prefix: &str| (0..12).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    for name in names("early") {
        stage.connect(&name, &name, None);
        send(&mut stage, &name, &name, 18_000);
    }
    for name in names("early") {
        stage.disconnect(&name);
    }
    // Sessions with a message that the agent hasn't got don't expire, and those without an answer
    // expire late.
    while stage.next_notification().is_some() {}
    stage.advance_clock(Duration::from_secs(24 * 60 * 60));
    for name in names("late") {
        stage.connect(&name, &name, None);
        send(&mut stage, &name, &name, 18_000);
    }
    for name in names("late") {
        assert_eq!(lengths(&mut stage, &name), [18_000]);
    }
}
