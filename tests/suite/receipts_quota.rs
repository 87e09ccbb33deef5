//! The receipts of all sessions together: whose are forgotten when they are too many.

use claude_socket::hub::Limits;
use serde_json::{Value, json};

use crate::hub::HubStage;
use crate::story::Stage;

fn stage() -> HubStage {
    HubStage::with(Limits {
        max_sessions: 10_000,
        max_sessions_per_token: 10_000,
        receipts_total: 100_000,
        inbox_messages: 100,
        ..HubStage::limits()
    })
}

/// Sends a message with an id. Returns `true` if the agent gets it, and `false` if it was known.
fn send(stage: &mut HubStage, client: &str, session: &str, id: &str) -> bool {
    let message = json!({"type": "message", "session_id": session, "content": "x", "id": id});
    stage.send_frame(client, &message.to_string());
    let is_new = stage.next_notification().is_some();
    let receipt = stage.next_frame(client).expect("a receipt");
    assert_eq!(receipt["state"], "accepted");
    is_new
}

#[test]
fn ids_of_one_client_push_out_its_own_oldest_only() {
    let mut stage = stage();
    stage.connect("ann", "quiet", None);
    let ids: Vec<_> = (0..10).map(|n| format!("a{n}")).collect();
    for id in &ids {
        assert!(send(&mut stage, "ann", "quiet", id));
    }
    stage.connect("eve", "eve", None);
    for n in 0..3_000 {
        assert!(send(&mut stage, "eve", "eve", &n.to_string()));
        assert!(send(
            &mut stage,
            "eve",
            &format!("eve{}", n % 10),
            &n.to_string()
        ));
    }
    for id in &ids {
        assert!(!send(&mut stage, "ann", "quiet", id), "{id} is known");
    }
    assert!(
        !send(&mut stage, "eve", "eve", "2999"),
        "the newest is known"
    );
    assert!(
        send(&mut stage, "eve", "eve", "0"),
        "the oldest is forgotten"
    );
}

/// Sent again, such a message must not get to the agent twice.
#[test]
fn ids_of_messages_in_the_inbox_are_not_forgotten() {
    let mut stage = stage();
    stage.connect("eve", "eve", None);
    let send = |stage: &mut HubStage, id: &str| {
        let message = json!({"type": "message", "content": "x", "id": id});
        stage.send_frame("eve", &message.to_string());
    };
    let ids: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    for _ in 0..2 {
        for id in &ids {
            send(&mut stage, id);
        }
    }
    let given = std::iter::from_fn(|| stage.next_notification());
    assert_eq!(given.count(), ids.len());
}

/// Nobody is told of an answer to a message without an id, but it counts as waiting for one.
#[test]
fn messages_without_an_id_count_too() {
    let mut stage = stage();
    stage.connect("ann", "quiet", None);
    assert!(send(&mut stage, "ann", "quiet", "a1"));
    stage.connect("eve", "eve", None);
    for n in 0..5_000 {
        let message =
            json!({"type": "message", "session_id": format!("eve{}", n % 5), "content": "x"});
        stage.send_frame("eve", &message.to_string());
        while stage.next_notification().is_some() {}
    }
    stage.call_tool("reply", json!({"chat_id": "quiet", "text": "yes"}));
    let states: Vec<Value> = std::iter::from_fn(|| stage.next_frame("ann")).collect();
    assert_eq!(states[1]["state"], "answered", "{states:?}");
}
