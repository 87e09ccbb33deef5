//! Replies that nobody has received: no limit and nobody's messages push them out, and they are bounded where they are
//! made.

use claude_socket::hub::Limits;
use serde_json::json;

use crate::hub::HubStage;
use crate::story::Stage;

const TOTAL: usize = 64_000;

fn stage() -> HubStage {
    stage_with(TOTAL)
}

fn stage_with(history_total: usize) -> HubStage {
    HubStage::with(Limits {
        max_sessions: 100,
        max_sessions_per_token: 100,
        history_messages: 5,
        history_bytes: 20_000,
        history_total,
        ..HubStage::limits()
    })
}

fn send(stage: &mut HubStage, client: &str, session: &str, length: usize) {
    let message = json!({"type": "message", "session_id": session, "content": "x".repeat(length)});
    stage.send_frame(client, &message.to_string());
    while stage.next_notification().is_some() {}
}

/// Replies with a text of this length, to a session that nobody is in.
fn reply(stage: &mut HubStage, session: &str, length: usize) -> String {
    stage.call_tool(
        "reply",
        json!({"chat_id": session, "text": "x".repeat(length)}),
    )
}

/// Returns the texts in a session's history.
fn history(stage: &mut HubStage, session: &str) -> Vec<String> {
    stage.connect("reader", session, None);
    stage.send_frame(
        "reader",
        &json!({"type": "fetch_history", "limit": 100}).to_string(),
    );
    let history = stage.next_frame("reader").expect("an answer");
    stage.disconnect("reader");
    let messages = history["messages"].as_array().expect("it is a list");
    let texts = messages
        .iter()
        .map(|message| message["content"].as_str().expect("a text"));
    texts.map(str::to_owned).collect()
}

fn begin(stage: &mut HubStage, session: &str) {
    stage.connect(session, session, None);
    stage.disconnect(session);
}

#[test]
fn unreceived_reply_survives_every_flood() {
    let mut stage = stage();
    begin(&mut stage, "quiet");
    stage.call_tool("reply", json!({"chat_id": "quiet", "text": "the answer"}));
    stage.connect("eve", "eve", None);
    for n in 0..300 {
        send(&mut stage, "eve", "quiet", 10_000);
        send(&mut stage, "eve", &format!("eve{}", n % 90), 10_000);
    }
    let texts = history(&mut stage, "quiet");
    assert_eq!(texts[0], "the answer");
    assert_eq!(texts.last().map(String::len), Some(10_000));
}

#[test]
fn reply_that_cannot_be_kept_is_refused_and_none_is_dropped() {
    let mut stage = stage();
    begin(&mut stage, "s1");
    let mut kept = 0;
    let refused = loop {
        let answer = reply(&mut stage, "s1", 1_000);
        if !answer.starts_with("stored") {
            break answer;
        }
        kept += 1;
        assert!(kept * 1_000 < TOTAL / 4, "a quarter is for one session");
    };
    assert!(kept > 10, "{kept} are kept");
    let expected = format!(
        "reply: nobody has received the last {kept} replies to session \"s1\", and there is no room for more; nothing was \
         sent; reply when somebody writes there again"
    );
    assert_eq!(refused, expected);
    begin(&mut stage, "s2");
    assert!(reply(&mut stage, "s2", 1_000).starts_with("stored"));
    assert_eq!(history(&mut stage, "s1").len(), kept);
    assert!(reply(&mut stage, "s1", 1_000).starts_with("stored"));
}

#[test]
fn unreceived_replies_of_all_sessions_take_half_of_the_history() {
    // Each session takes a good thousand bytes of it beside its messages.
    let total = 200_000;
    let mut stage = stage_with(total);
    let sessions: Vec<_> = (0..30).map(|n| format!("s{n}")).collect();
    let mut kept = 0;
    for session in &sessions {
        begin(&mut stage, session);
        if reply(&mut stage, session, 10_000).starts_with("stored") {
            kept += 1;
        }
    }
    assert!((8..=total / 2 / 10_000).contains(&kept), "{kept} are kept");
    stage.connect("ann", "ann", None);
    for length in [5_000; 4] {
        send(&mut stage, "ann", "ann", length);
    }
    assert!(
        history(&mut stage, "ann").len() >= 3,
        "there is room for what others say"
    );
}

/// A long reply must find a room that is too small for two.
#[test]
fn first_unreceived_reply_is_always_kept() {
    let mut stage = stage();
    begin(&mut stage, "s1");
    assert!(reply(&mut stage, "s1", TOTAL).starts_with("stored"));
    begin(&mut stage, "s2");
    assert!(reply(&mut stage, "s2", 10).starts_with("reply: nobody has received"));
    assert_eq!(history(&mut stage, "s1"), ["x".repeat(TOTAL)]);
    assert!(reply(&mut stage, "s2", 10).starts_with("stored"));
}
