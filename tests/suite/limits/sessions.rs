//! What sessions keep, tried in the hub alone.

use std::time::Duration;

use serde_json::json;

use super::{Check, Row, history, hub, limits, received, reply, say, see, take, write};
use crate::hub::HubStage;
use crate::story::Stage;

pub const CHECKS: &[(&str, Check)] = &[
    (
        "sessions, begun with one token or by one connection without",
        sessions,
    ),
    (
        "sessions without clients in which nothing was said",
        unused_sessions,
    ),
    ("time of a session without clients", session_ttl),
    (
        "time of an answer that nobody has received, and of a message without an answer, in a session without clients",
        unseen_ttl,
    ),
    ("messages in the history of a session", history_messages),
    ("bytes of history", history_bytes),
    (
        "bytes of answers that nobody has received",
        unreceived_bytes,
    ),
    ("ids of messages of a session that are in memory", ids),
    ("memory for the ids of messages", memory_of_ids),
    ("messages of a session that wait for an answer", unanswered),
    ("messages that wait for Claude Code", inbox_messages),
    ("bytes of messages that wait for Claude Code", inbox_bytes),
    (
        "time for Claude Code to put a message into its conversation",
        seen_timeout,
    ),
    (
        "sessions at once of which Claude is told that answers were given up",
        given_up,
    ),
];

const MOMENT: Duration = Duration::from_millis(1);

pub fn milliseconds(count: usize) -> Duration {
    Duration::from_millis(count as u64)
}

/// Returns what Claude finds in a session's history.
fn fetched(stage: &mut HubStage, session: &str) -> String {
    stage.call_tool("fetch_messages", json!({ "session_id": session }))
}

const NOTHING: &str = "(no messages)";

fn begin(stage: &mut HubStage, session: &str) {
    stage.connect(session, session, None);
    stage.disconnect(session);
}

fn sessions(row: &Row) {
    let mut stage = hub(&[]);
    let mut begun = 0;
    for client in 0..row.all / row.one {
        let client = format!("client{client}");
        stage.connect(&client, &client, None);
        for n in 1..row.one {
            write(&mut stage, &client, &format!("{client} {n}"), "x");
        }
        assert_eq!(received(&mut stage, &client), [json!(null); 0], "{client}");
        begun += row.one;
        if begun < row.all {
            write(&mut stage, &client, "one more", "x");
            assert_eq!(received(&mut stage, &client)[0]["code"], "busy");
        }
    }
    assert_eq!(begun, row.all);
    stage.connect("late", "late", None);
    assert_eq!(
        received(&mut stage, "late").last(),
        Some(&json!({ "closed": "TryAgainLater" }))
    );
}

fn unused_sessions(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "ann", None);
    let mut count_with = |session: &str| {
        begin(&mut stage, session);
        say(&mut stage, "ann", &json!({ "type": "list_sessions" }));
        received(&mut stage, "ann")[0]["total"].take()
    };
    for n in 1..=row.all {
        assert_eq!(count_with(&n.to_string()), n + 1);
    }
    assert_eq!(count_with("one more"), row.all + 1);
}

fn session_ttl(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    assert_eq!(reply(&mut stage, "s1", "hello"), "sent");
    stage.disconnect("ann");
    stage.advance_clock(milliseconds(row.one) - MOMENT);
    assert!(fetched(&mut stage, "s1").ends_with("hello"));
    stage.advance_clock(MOMENT);
    assert_eq!(fetched(&mut stage, "s1"), NOTHING);
}

fn unseen_ttl(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "question", None);
    write(&mut stage, "ann", "question", "hello");
    stage.disconnect("ann");
    begin(&mut stage, "answer");
    assert!(reply(&mut stage, "answer", "hello").starts_with("stored"));
    stage.advance_clock(milliseconds(row.one) - MOMENT);
    stage.connect("bob", "s1", None);
    for session in ["question", "answer"] {
        assert!(fetched(&mut stage, session).ends_with("hello"), "{session}");
    }
    assert_eq!(reply(&mut stage, "s1", "hello"), "sent");
    stage.advance_clock(MOMENT);
    let told = fetched(&mut stage, "answer");
    let note = "note: 1 of your replies to session \"answer\" expired unreceived";
    assert!(told.starts_with(NOTHING) && told.contains(note), "{told}");
    assert_eq!(fetched(&mut stage, "question"), NOTHING);
}

fn history_messages(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    let first = json!({ "type": "fetch_history", "since": 0, "limit": 1 });
    for _ in 0..row.one {
        write(&mut stage, "ann", "s1", "x");
    }
    assert_eq!(history(&mut stage, "ann", &first)[0]["seq"], 1);
    write(&mut stage, "ann", "s1", "x");
    assert_eq!(history(&mut stage, "ann", &first)[0]["seq"], 2);
}

/// Each message takes some bytes beside its text, and a session that is cut too loses one more.
fn history_bytes(row: &Row) {
    const LENGTH: usize = 50_000;
    const SESSIONS: usize = 6;
    // A smaller one for all makes it faster.
    let total = 4 * row.one;
    let kept = |sessions: usize| {
        let mut stage = hub(&["--history-total", &total.to_string()]);
        stage.connect("ann", "s1", None);
        let names: Vec<_> = (0..sessions).map(|n| format!("s{n}")).collect();
        for name in &names {
            for _ in 0..row.one / LENGTH + 1 {
                write(&mut stage, "ann", name, &"x".repeat(LENGTH));
            }
        }
        let mut length_of = |session: &String| {
            let request = json!({ "type": "fetch_history", "session_id": session, "limit": 100 });
            history(&mut stage, "ann", &request).len() * LENGTH
        };
        names.iter().map(&mut length_of).sum::<usize>()
    };
    let one = kept(1);
    assert!((row.one - 2 * LENGTH..=row.one).contains(&one), "{one}");
    let all = kept(SESSIONS);
    // An eighth is freed at once.
    let least = total - total / 8 - 2 * SESSIONS * LENGTH;
    assert!((least..=total).contains(&all), "{all}");
}

fn unreceived_bytes(row: &Row) {
    const LENGTH: usize = 10_000;
    let total = 100 * LENGTH;
    let [one, all] = [0, 1].map(|place: usize| row.settings[place].part_of(total));
    let mut stage = hub(&["--history-total", &total.to_string()]);
    let mut kept = 0;
    for n in 0..total / one {
        let session = n.to_string();
        begin(&mut stage, &session);
        let before = kept;
        while reply(&mut stage, &session, &"x".repeat(LENGTH)).starts_with("stored") {
            kept += LENGTH;
        }
        if n == 0 {
            assert!((one - 2 * LENGTH..=one).contains(&kept), "{kept} of {one}");
        }
        assert!(kept - before <= one);
    }
    assert!((all - 3 * LENGTH..=all).contains(&kept), "{kept} of {all}");
}

/// Sends a message with this id. Returns `true` if it is a new one for the agent.
fn is_new(stage: &mut HubStage, id: &str) -> bool {
    let message = json!({ "type": "message", "content": "x", "id": id });
    stage.send_frame("ann", &message.to_string());
    let is_new = take(stage).is_some();
    assert_eq!(received(stage, "ann")[0]["state"], "accepted", "{id}");
    is_new
}

fn ids(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    for n in 1..=row.one {
        assert!(is_new(&mut stage, &n.to_string()));
    }
    assert!(!is_new(&mut stage, "1"), "it is known");
    assert!(is_new(&mut stage, "one more"));
    assert!(!is_new(&mut stage, "2"), "it is known");
    assert!(is_new(&mut stage, "1"), "it is forgotten");
}

/// A receipt takes some hundred bytes, its id among them.
fn memory_of_ids(row: &Row) {
    let known_of = |total: usize| {
        let mut stage = hub(&["--receipts-total", &total.to_string()]);
        stage.connect("ann", "s1", None);
        let id = |n: usize| format!("{n:064}");
        let mut count = 0;
        while count == 0 || !is_new(&mut stage, &id(0)) {
            count += 1;
            is_new(&mut stage, &id(count));
            if count == 1 {
                is_new(&mut stage, &id(0));
            }
        }
        count
    };
    let total = row.all / 256;
    let known = known_of(total);
    assert!((total / 1_024..total / 64).contains(&known), "{known}");
    let twice = known_of(2 * total);
    assert!(twice > known + known / 2, "{known} {twice}");
}

fn unanswered(row: &Row) {
    let states = |more: usize| {
        let mut stage = hub(&[]);
        stage.connect("ann", "s1", None);
        assert!(is_new(&mut stage, "first"));
        for _ in 0..more {
            stage.send_frame("ann", r#"{"type":"message","content":"x"}"#);
        }
        let last = take(&mut stage).expect("the agent has got messages");
        let id = &last["meta"]["message_id"];
        let answer = json!({ "chat_id": "s1", "text": "yes", "reply_to": id });
        assert_eq!(stage.call_tool("reply", answer), "sent");
        let frames = received(&mut stage, "ann");
        frames
            .iter()
            .filter(|frame| frame["state"] == "answered")
            .count()
    };
    assert_eq!(states(row.one - 1), 1);
    assert_eq!(states(row.one), 0);
}

/// The agent takes no message. Senders are held back with so many of this length, and not with one less.
fn fill_inbox(count: usize, length: usize) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    let message = json!({ "type": "message", "content": "x".repeat(length) }).to_string();
    for _ in 1..count {
        stage.send_frame("ann", &message);
    }
    assert!(!stage.are_senders_held());
    stage.send_frame("ann", &message);
    assert!(stage.are_senders_held());
    take(&mut stage);
    assert!(!stage.are_senders_held());
}

fn inbox_messages(row: &Row) {
    fill_inbox(row.all, 1);
}

fn inbox_bytes(row: &Row) {
    const LENGTH: usize = 64 * 1024;
    fill_inbox(row.all / LENGTH, LENGTH);
}

fn seen_timeout(row: &Row) {
    let mut stage = HubStage::not_ready(limits(&[]));
    stage.expect_hooks();
    stage.make_ready();
    stage.connect("ann", "s1", None);
    stage.send_frame("ann", r#"{"type":"message","content":"one"}"#);
    let first = take(&mut stage).expect("the first message is given");
    see(&mut stage, &first);
    stage.call_hook(json!({ "hook_event_name": "Stop", "prompt_id": "p1" }));
    received(&mut stage, "ann");
    assert!(is_new(&mut stage, "two"));
    stage.advance_clock(milliseconds(row.one) - MOMENT);
    assert!(received(&mut stage, "ann").is_empty());
    stage.advance_clock(MOMENT);
    assert_eq!(received(&mut stage, "ann")[0]["state"], "unseen");
}

fn given_up(row: &Row) {
    let told_of = |sessions: usize| {
        let mut stage = hub(&[]);
        stage.connect("ann", "ann", None);
        for n in 0..sessions {
            let session = n.to_string();
            begin(&mut stage, &session);
            assert!(reply(&mut stage, &session, "hello").starts_with("stored"));
        }
        stage.advance_clock(limits(&[]).unread_ttl);
        reply(&mut stage, "ann", "hello")
            .matches("note: 1 of")
            .count()
    };
    assert_eq!(told_of(row.one), row.one);
    assert_eq!(told_of(row.one + 1), row.one);
}
