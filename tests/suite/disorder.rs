//! Hooks that are called late, twice, in the wrong order or not at all, by the thousand: the
//! invariants that must hold all the same.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::hooks;
use crate::hub::HubStage;
use crate::story::Stage;

/// A generator of pseudorandom numbers, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Knuth's MMIX generator.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

const SESSIONS: [&str; 3] = ["s1", "s2", "s3"];

/// What a client has received. Checks that each message may follow the ones before.
#[derive(Default)]
struct App {
    shown: (String, String),
    states: HashMap<String, String>,
    open: HashSet<String>,
}

impl App {
    fn receive(
        &mut self,
        session: &str,
        message: &Value,
        turns: &HashMap<String, HashSet<String>>,
    ) {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let about = |turn: &str| {
            let known = turns.get(turn).into_iter().flatten();
            known.cloned().collect::<Vec<_>>()
        };
        assert_eq!(text("session_id"), session, "{message}");
        match text("type").as_str() {
            "status" => {
                let shown = (text("status"), text("detail"));
                assert_ne!(shown, self.shown, "the status is sent only when it changes");
                self.shown = shown;
            }
            "delivery" => {
                let state = text("state");
                let before = self.states.insert(text("id"), state.clone());
                let may_follow: &[&str] = match state.as_str() {
                    "accepted" => &[""],
                    "seen" => &["accepted", "unseen"],
                    "unseen" => &["accepted"],
                    _ => &["accepted", "seen", "unseen"],
                };
                let before = before.unwrap_or_default();
                assert!(may_follow.contains(&&*before), "{before}, then {message}");
            }
            // The text of a turn is its name.
            "reply" if text("via") == "transcript" => {
                assert_eq!(about(&text("content")), [session], "{message}");
            }
            "stream" => assert_eq!(about(text("delta").trim()), [session], "{message}"),
            "permission_request" => assert!(self.open.insert(text("request_id")), "{message}"),
            "permission_resolved" => assert!(self.open.remove(&text("request_id")), "{message}"),
            "reply" | "error" | "welcome" => {}
            other => panic!("{other}: {message}"),
        }
    }
}

#[test]
fn random_hooks_keep_all_invariants() {
    for seed in 0..20 {
        play(&mut Dice(seed));
    }
}

fn play(dice: &mut Dice) {
    let mut stage = HubStage::new();
    let mut apps: HashMap<&str, App> = HashMap::new();
    for session in SESSIONS {
        stage.connect(session, session, None);
        stage.send_frame(session, r#"{"type":"hello","stream":true}"#);
        stage.next_frame(session);
        apps.entry(session).or_default().shown.0 = "idle".into();
    }
    // The messages that Claude Code has, and the sessions that each turn is about.
    let mut messages: Vec<Value> = Vec::new();
    let mut turns: HashMap<String, HashSet<String>> = HashMap::new();
    for step in 0..400 {
        let session = SESSIONS[dice.roll(3) as usize];
        // Mostly one of the latest turns.
        let turn = format!(
            "p{}",
            (step / 20 + dice.roll(3)).saturating_sub(dice.roll(2))
        );
        let tool = json!({ "command": format!("ls {}", dice.roll(4)) });
        let mut event = json!({
            "prompt_id": turn, "tool_name": "Bash", "tool_use_id": format!("t{}", dice.roll(5)),
            "tool_input": tool, "message_id": "m", "index": step, "delta": turn,
            "last_assistant_message": turn,
        });
        let mut hook = |stage: &mut HubStage, name: &str| {
            event["hook_event_name"] = name.into();
            for _ in 0..=dice.roll(2) {
                stage.call_hook(event.clone());
            }
        };
        match step % 13 {
            0 | 1 => {
                let message = json!({ "type": "message", "content": "x", "id": step.to_string() });
                stage.send_frame(session, &message.to_string());
            }
            2 => messages.extend(std::iter::from_fn(|| stage.next_notification())),
            3 | 4 => {
                let meta = messages.get((step as usize * 7) % messages.len().max(1));
                if let Some(meta) = meta.map(|message| &message["meta"]) {
                    let chat_id = meta["chat_id"]
                        .as_str()
                        .expect("a message has a chat_id")
                        .to_owned();
                    turns.entry(turn.clone()).or_default().insert(chat_id);
                    stage.call_hook(json!({
                        "hook_event_name": "UserPromptSubmit", "prompt_id": turn,
                        "prompt": hooks::channel_tag(meta, "x"),
                    }));
                }
            }
            5 if step % 5 == 0 => {
                turns
                    .entry(turn.clone())
                    .or_default()
                    .insert("the terminal".into());
                event["prompt"] = "do it".into();
                event["hook_event_name"] = "UserPromptSubmit".into();
                stage.call_hook(event);
            }
            5 | 6 => hook(&mut stage, "PreToolUse"),
            7 => hook(&mut stage, "PostToolUse"),
            8 => hook(&mut stage, "MessageDisplay"),
            9 => hook(&mut stage, "Stop"),
            10 => stage.request_permission(json!({
                "request_id": format!("r{step}"), "tool_name": "Bash",
                "input_preview": tool.to_string(),
            })),
            11 => {
                let allowed = json!({
                    "type": "permission_response", "request_id": format!("r{}", step - 1),
                    "allowed": dice.roll(2) == 0,
                });
                if dice.roll(3) == 0 {
                    stage.send_frame(session, &allowed.to_string());
                    stage.next_notification();
                }
            }
            _ => {
                stage.call_tool("reply", json!({ "chat_id": session, "text": "y" }));
                stage.advance_clock(Duration::from_secs(dice.roll(12)));
            }
        }
        for session in SESSIONS {
            while let Some(message) = stage.next_frame(session) {
                let app = apps.get_mut(session).expect("the client is connected");
                app.receive(session, &message, &turns);
            }
        }
    }
}
