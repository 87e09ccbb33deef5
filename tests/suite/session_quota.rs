//! Room for sessions: nobody can use it up for the others.

use claude_socket::hub::Limits;
use serde_json::json;

use crate::hub::HubStage;
use crate::story::Stage;

fn stage() -> HubStage {
    HubStage::with(Limits {
        max_sessions: 1_000,
        max_sessions_per_token: 500,
        ..HubStage::limits()
    })
}

/// Returns how many sessions the server has, as a client sees it.
fn count(stage: &mut HubStage, client: &str) -> u64 {
    stage.send_frame(client, &json!({"type": "list_sessions"}).to_string());
    let sessions = stage.next_frame(client).expect("an answer");
    sessions["total"].as_u64().expect("it is a number")
}

#[test]
fn client_that_leaves_one_name_after_another_uses_up_no_sessions() {
    let mut stage = stage();
    stage.connect("ann", "quiet", None);
    for n in 0..3_000 {
        let name = format!("eve{n}");
        stage.connect(&name, &name, None);
        assert_eq!(stage.next_frame(&name), None);
        stage.disconnect(&name);
    }
    assert!(count(&mut stage, "ann") <= 65);
    stage.connect("bob", "new", None);
    assert_eq!(stage.next_frame("bob"), None, "bob is let in");
}

#[test]
fn client_that_begins_many_sessions_leaves_room_for_others() {
    let mut stage = stage();
    stage.connect("eve", "eve", None);
    for n in 0..2_000 {
        let message = json!({"type": "message", "session_id": format!("eve{n}"), "content": "x"});
        stage.send_frame("eve", &message.to_string());
    }
    let refused = std::iter::from_fn(|| stage.next_frame("eve")).count();
    assert_eq!(refused, 1_501);
    for n in 0..500 {
        let name = format!("ann{n}");
        stage.connect(&name, &name, None);
        assert_eq!(stage.next_frame(&name), None, "{name} is let in");
    }
}
