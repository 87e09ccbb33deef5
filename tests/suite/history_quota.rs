//! The history of all sessions together: who says how much, and what is left of it.

use std::time::Duration;

use claude_socket::hub::Limits;
use serde_json::json;

use crate::hub::HubStage;
use crate::story::Stage;

const TOTAL: usize = 64_000;

fn stage() -> HubStage {
    HubStage::with(Limits {
        max_sessions: 10_000,
        history_messages: 100,
        history_bytes: 20_000,
        history_total: TOTAL,
        ..HubStage::limits()
    })
}

/// Says so many letters in a session.
fn say(stage: &mut HubStage, who: &str, session: &str, length: usize) {
    let message = json!({"type": "message", "session_id": session, "content": "x".repeat(length)});
    stage.says(who, &message.to_string());
}

/// What is kept of a session: how long each message is.
fn kept(stage: &mut HubStage, session: &str) -> Vec<usize> {
    let messages = stage.calls(
        "fetch_messages",
        json!({"session_id": session, "limit": 100}),
    );
    let texts = messages.lines().filter_map(|line| line.split_once(": "));
    texts.map(|(_, text)| text.len()).collect()
}

fn together(stage: &mut HubStage, sessions: &[String]) -> usize {
    let kept = |session| kept(stage, session).into_iter().sum::<usize>();
    sessions
        .iter()
        .map(|session| session.as_str())
        .map(kept)
        .sum()
}

#[test]
fn who_says_little_loses_nothing_to_who_says_much() {
    let mut stage = stage();
    stage.joins("ann", "quiet", None);
    for _ in 0..3 {
        say(&mut stage, "ann", "quiet", 500);
    }
    stage.joins("eve", "loud", None);
    let sessions: Vec<_> = (0..20).map(|n| format!("loud{n}")).collect();
    for _ in 0..50 {
        for session in &sessions {
            say(&mut stage, "eve", session, 1_000);
        }
    }
    assert_eq!(kept(&mut stage, "quiet"), [500; 3]);
    for session in &sessions {
        assert_eq!(kept(&mut stage, session).last(), Some(&1_000));
    }
    let loud = together(&mut stage, &sessions);
    assert!((TOTAL / 2..TOTAL).contains(&loud), "{loud}");
}

#[test]
fn one_message_in_each_of_many_sessions_is_too_much_too() {
    let mut stage = stage();
    stage.joins("ann", "quiet", None);
    say(&mut stage, "ann", "quiet", 10);
    stage.joins("eve", "loud", None);
    let sessions: Vec<_> = (0..200).map(|n| format!("loud{n}")).collect();
    for session in &sessions {
        say(&mut stage, "eve", session, 10_000);
        assert_eq!(kept(&mut stage, session), [10_000], "it was just said");
    }
    assert_eq!(kept(&mut stage, "quiet"), [10]);
    let loud = together(&mut stage, &sessions);
    assert!(loud < TOTAL, "{loud}");
}

#[test]
fn what_is_longer_than_everything_together_may_be_stays_until_the_next() {
    let mut stage = stage();
    stage.joins("ann", "s1", None);
    say(&mut stage, "ann", "s2", 10);
    say(&mut stage, "ann", "s1", TOTAL * 2);
    assert_eq!(kept(&mut stage, "s1"), [TOTAL * 2]);
    say(&mut stage, "ann", "s2", 20);
    assert!(kept(&mut stage, "s1").is_empty());
    assert_eq!(kept(&mut stage, "s2"), [10, 20]);
}

#[test]
fn a_session_that_expires_leaves_its_room_to_others() {
    let mut stage = stage();
    for name in ["a", "b", "c"] {
        stage.joins(name, name, None);
        say(&mut stage, name, name, 18_000);
    }
    for name in ["a", "b", "c"] {
        stage.leaves(name);
    }
    stage.after(Duration::from_secs(5 * 60));
    for name in ["d", "e", "f"] {
        stage.joins(name, name, None);
        say(&mut stage, name, name, 18_000);
    }
    for name in ["d", "e", "f"] {
        assert_eq!(kept(&mut stage, name), [18_000]);
    }
}
