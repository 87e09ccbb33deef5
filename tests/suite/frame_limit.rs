//! No frame for a client is longer than `--max-frame`, whatever is in it, and nothing is lost for that.

use std::iter;
use std::time::Duration;

use claude_socket::hub::Limits;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::app::App;
use crate::hooks;
use crate::hub::HubStage;
use crate::server::Server;
use crate::story::Stage;

/// The usual `--max-frame`, in bytes.
const MAX_FRAME: usize = 512 * 1024;
/// The longest text in it, in bytes as JSON.
const MAX_TEXT: usize = 448 * 1024;
/// Texts that are longest as JSON, or that a cut could tear.
const WORST: [&str; 6] = ["\u{1}", "\"", "\u{7f}", "\u{2028}", "🤖", "x"];

/// Returns the next message and the length of its frame.
fn next(app: &mut App) -> (usize, Value) {
    loop {
        let frame = app.socket.read().expect("the server sends a message");
        if frame.is_text() {
            let message = serde_json::from_slice(&frame.clone().into_data());
            return (frame.len(), message.expect("a message is JSON"));
        }
    }
}

/// Returns all frames of an answer, each of which fits.
fn answer(app: &mut App, request: &Value) -> Vec<Value> {
    app.send(request);
    let mut frames = Vec::new();
    loop {
        let (length, frame) = next(app);
        assert!(length <= MAX_FRAME, "{length}");
        let more = frame["more"] == true;
        assert_eq!(frame.get("more"), more.then_some(&json!(true)));
        frames.push(frame);
        if !more {
            return frames;
        }
    }
}

#[test]
fn long_history_comes_in_several_frames() {
    let server = Server::start(&["--history-size", "2MiB"]);
    let mut ann = App::connect(&server, "s1");
    for number in 0..62 {
        ann.send_message(&format!("{number} {}", "x".repeat(17_000)));
        server.next_message();
    }
    let frames = answer(&mut ann, &json!({ "type": "fetch_history", "limit": 100 }));
    assert_eq!(frames.len(), 3);
    let messages = frames
        .iter()
        .flat_map(|frame| frame["messages"].as_array().expect("messages"));
    let seqs: Vec<_> = messages.map(|message| message["seq"].as_u64()).collect();
    let first = 1;
    assert_eq!(seqs, (first..=62).map(Some).collect::<Vec<_>>());
    // After a seq, too, and no more than was asked for.
    let after = json!({ "type": "fetch_history", "limit": 40, "since": first + 1 });
    let frames = answer(&mut ann, &after);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0]["messages"][0]["seq"], first + 2);
    let last = frames[1]["messages"].as_array().and_then(|all| all.last());
    assert_eq!(last.expect("a message")["seq"], first + 41);
    // What fits stays in one frame.
    let short = json!({ "type": "fetch_history", "limit": 2 });
    assert_eq!(answer(&mut ann, &short).len(), 1);
}

/// A message of just the limit reaches the others, and the history has it. The limit counts what is sent: with the
/// shortest escapes, and with the longest.
#[test]
fn message_of_the_limit_is_forwarded_within_the_frame() {
    let server = Server::start(&["--history-size", "4MiB"]);
    let mut ann = App::connect(&server, "s1");
    let mut bob = App::connect(&server, &"%F0%9F%A4%96".repeat(128));
    let robots = "🤖".repeat(128);
    for text in WORST {
        let frame = |count| {
            json!({
                "type": "message", "session_id": robots, "user": robots, "ts": "1".repeat(64),
                "content": text.repeat(count),
            })
            .to_string()
        };
        let each = frame(1).len() - frame(0).len();
        let count = (MAX_TEXT - frame(0).len()) / each;
        ann.send_text(&frame(count));
        server.next_message();
        let (length, message) = next(&mut bob);
        assert_eq!(message["type"], "user_message", "{text:?}");
        assert_eq!(message["content"], text.repeat(count));
        assert!(length <= MAX_FRAME, "{text:?}: {length}");
        ann.send_text(&frame(count + 1));
        while next(&mut ann).1["type"] != "error" {}
    }
    let frames = answer(&mut bob, &json!({ "type": "fetch_history", "limit": 100 }));
    assert!(frames.len() > 1);
}

#[test]
fn reply_that_does_not_fit_is_refused_with_what_to_do() {
    let mut server = Server::start(&[]);
    let mut ann = App::connect(&server, "s1");
    for (text, length) in [
        ("x".repeat(1_500_000), 1_500_000),
        ("x".repeat(MAX_TEXT + 1), MAX_TEXT + 1),
        ("\u{1}".repeat(MAX_TEXT / 6 + 1), (MAX_TEXT / 6 + 1) * 6),
    ] {
        let result = server.call("reply", &json!({ "chat_id": "s1", "text": text }));
        let expected = format!(
            "reply: \"text\" has {length} bytes as JSON, and the limit is {MAX_TEXT}; nothing was sent; split it into several replies, or write it to a file and reply with its path"
        );
        assert_eq!(result, expected);
    }
    assert_eq!(ann.until_pong(), [] as [Value; 0]);
    for text in WORST {
        let each = serde_json::to_string(text).expect("a text is JSON").len() - 2;
        let text = text.repeat(MAX_TEXT / each);
        assert_eq!(
            server.call("reply", &json!({ "chat_id": "s1", "text": text })),
            "sent"
        );
        let (length, reply) = next(&mut ann);
        assert_eq!(reply["content"], text);
        assert!(length <= MAX_FRAME, "{length}");
    }
}

/// Returns the `seq`s in the next frame of a client, and `true` if the answer goes on.
fn next_page(stage: &mut HubStage, client: &str) -> (Vec<u64>, bool) {
    let frame = stage.next_frame(client).expect("a frame is sent");
    assert_eq!(frame["type"], "history");
    let messages = frame["messages"].as_array().expect("it is a list");
    let seqs = messages.iter().filter_map(|item| item["seq"].as_u64());
    (seqs.collect(), frame["more"] == true)
}

/// While many clients are slow, frames are short, and each comes when there is room for it. What happens meanwhile changes
/// nothing in an answer but that what is not kept any more is missing.
#[test]
fn answer_goes_on_whatever_happens_meanwhile() {
    let mut stage = HubStage::with(Limits {
        history_messages: 6,
        history_bytes: 100_000,
        history_total: 1_000_000,
        ..HubStage::limits()
    });
    let message = json!({ "type": "message", "content": "x".repeat(15_000) }).to_string();
    stage.connect("ann", "s1", None);
    stage.connect("bob", "s1", None);
    for _ in 0..6 {
        stage.send_frame("ann", &message);
        stage.next_notification();
        stage.next_frame("bob");
    }
    let fetch = r#"{"type":"fetch_history","limit":5}"#;
    stage.slow_down();
    stage.send_frame("ann", fetch);
    stage.send_frame("bob", fetch);
    assert_eq!(next_page(&mut stage, "ann"), (vec![2, 3], true));
    assert_eq!(next_page(&mut stage, "bob"), (vec![2, 3], true));
    assert_eq!(stage.next_frame("ann"), None, "nothing comes unasked");
    // The oldest make room for new ones.
    for _ in 0..4 {
        stage.send_frame("ann", &message);
        assert_eq!(
            stage.next_frame("bob").expect("a frame")["type"],
            "user_message"
        );
    }
    assert!(stage.go_on("ann"));
    assert_eq!(next_page(&mut stage, "ann"), (vec![5, 6], false));
    assert!(!stage.go_on("ann"));
    // Who asks for something else gets the rest first.
    stage.send_frame("bob", r#"{"type":"fetch_history","limit":1}"#);
    assert_eq!(next_page(&mut stage, "bob"), (vec![5, 6], false));
    assert_eq!(next_page(&mut stage, "bob"), (vec![10], false));
    // A session that began anew under the name has other messages.
    stage.send_frame("bob", fetch);
    assert_eq!(next_page(&mut stage, "bob"), (vec![6, 7], true));
    stage.connect("cid", "s2", None);
    stage.send_frame(
        "cid",
        r#"{"type":"fetch_history","session_id":"s1","limit":5}"#,
    );
    assert_eq!(next_page(&mut stage, "cid"), (vec![6, 7], true));
    for client in ["ann", "bob"] {
        stage.disconnect(client);
    }
    while stage.next_notification().is_some() {}
    stage.advance_clock(Duration::from_secs(24 * 60 * 60));
    stage.connect("ann", "s1", None);
    for _ in 0..10 {
        stage.send_frame("ann", &message);
        stage.next_notification();
    }
    assert!(stage.go_on("cid"));
    assert_eq!(next_page(&mut stage, "cid"), (vec![], false));
    // One that was cut off gets no more.
    stage.send_frame("ann", fetch);
    stage.lose_connection("ann");
    assert!(!stage.go_on("ann"));
}

// ---- Any input ----

/// An input of the hub.
#[derive(Clone, Debug)]
enum Step {
    /// What a client says.
    Message(String),
    Reply(String),
    Status(String),
    /// What the terminal shows.
    Stream(String),
    /// How the turn ends, and Claude's last text.
    Stop(String),
    Fail(String),
    Ask(String, String),
    FetchHistory(usize, u64),
    ListSessions,
    /// What is no message.
    Nonsense(String),
}

/// Texts that are long as JSON, up to twice the frame.
fn text() -> impl Strategy<Value = String> {
    (select(&WORST[..]), 1_usize..32_000, any::<Index>()).prop_map(|(text, length, factor)| {
        let each = serde_json::to_string(text).expect("a text is JSON").len() - 2;
        text.repeat((length / each / (1 + factor.index(3))).max(1))
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => text().prop_map(Step::Message),
        4 => text().prop_map(Step::Reply),
        1 => text().prop_map(Step::Status),
        1 => text().prop_map(Step::Stream),
        1 => text().prop_map(Step::Stop),
        1 => text().prop_map(Step::Fail),
        1 => (text(), text()).prop_map(|(tool, preview)| Step::Ask(tool, preview)),
        2 => (1_usize..=100, 0_u64..20).prop_map(|(limit, since)| Step::FetchHistory(limit, since)),
        1 => Just(Step::ListSessions),
        1 => text().prop_map(Step::Nonsense),
    ]
}

/// The longest frame of a client and of the server.
const SMALL: (usize, usize) = (14_336, 16_384);

fn play(stage: &mut HubStage, name: &str, step: Step) {
    let send = |stage: &mut HubStage, frame: Value| {
        let frame = frame.to_string();
        if frame.len() <= SMALL.0 {
            stage.send_frame("ann", &frame);
        }
    };
    match step {
        Step::Message(content) => {
            let ts = "1".repeat(64);
            send(
                stage,
                json!({ "type": "message", "content": content, "user": name, "ts": ts, "id": name.chars().take(64).collect::<String>() }),
            );
            send(
                stage,
                json!({ "type": "message", "content": content, "user": name, "ts": ts }),
            );
            while let Some(params) = stage.next_notification() {
                let prompt = hooks::channel_tag(&params["meta"], "hi");
                stage.call_hook(json!({ "hook_event_name": "UserPromptSubmit", "prompt_id": "p1", "prompt": prompt }));
            }
        }
        Step::Reply(text) => {
            stage.call_tool("reply", json!({ "chat_id": name, "text": text }));
        }
        Step::Status(detail) => {
            stage.call_tool(
                "status",
                json!({ "chat_id": name, "status": "thinking", "detail": detail }),
            );
        }
        Step::Stream(delta) => {
            stage.call_hook(json!({
                "hook_event_name": "MessageDisplay", "prompt_id": "p1", "message_id": "t", "index": delta.len(), "delta": delta,
            }));
        }
        Step::Stop(text) => {
            stage.call_hook(
                json!({ "hook_event_name": "Stop", "prompt_id": "p1", "last_assistant_message": text }),
            );
        }
        Step::Fail(error) => {
            stage.call_hook(
                json!({ "hook_event_name": "StopFailure", "prompt_id": "p1", "error": error }),
            );
        }
        Step::Ask(tool, preview) => stage.request_permission(json!({
            "request_id": "abcde", "tool_name": tool, "description": preview, "input_preview": preview,
        })),
        Step::FetchHistory(limit, since) => {
            let since = Some(since).filter(|since| *since > 0);
            send(
                stage,
                json!({ "type": "fetch_history", "limit": limit, "since": since }),
            );
        }
        Step::ListSessions => send(stage, json!({ "type": "list_sessions" })),
        Step::Nonsense(kind) => {
            send(
                stage,
                json!({ "type": kind, "session_id": name, "id": name }),
            );
            send(
                stage,
                json!({ "type": "permission_response", "request_id": kind, "allowed": true }),
            );
        }
    }
}

/// Every answer is whole: its messages follow each other, and only its last frame has no `more`. Returns all frames.
fn check_answers(stage: &mut HubStage) -> Vec<Value> {
    let frames: Vec<Value> = iter::from_fn(|| stage.next_frame("ann")).collect();
    let mut seqs = Vec::new();
    let mut sessions = 0;
    for frame in &frames {
        let more = frame["more"] == true;
        if frame["type"] == "history" {
            let messages = frame["messages"].as_array().expect("messages");
            seqs.extend(
                messages
                    .iter()
                    .filter_map(|message| message["seq"].as_u64()),
            );
            if !more {
                assert!(seqs.is_sorted_by(|before, after| before + 1 == *after));
                seqs.clear();
            }
        }
        if frame["type"] == "sessions" {
            sessions += frame["sessions"].as_array().expect("sessions").len();
            if !more {
                assert_eq!(
                    sessions,
                    frame["total"].as_u64().expect("a number").min(100) as usize
                );
                sessions = 0;
            }
        }
    }
    assert_eq!((seqs.len(), sessions), (0, 0), "every answer ends");
    frames
}

/// Returns a stage with two clients in a session of this name, and many sessions beside it.
fn stage(name: &str) -> HubStage {
    let mut stage = HubStage::with(Limits {
        max_message: SMALL.0,
        max_frame: SMALL.1,
        max_sessions: 200,
        history_messages: 100,
        history_bytes: 200_000,
        history_total: 10_000_000,
        ..HubStage::limits()
    });
    stage.expect_hooks();
    stage.connect("ann", name, None);
    stage.send_frame("ann", r#"{"type":"hello","stream":true}"#);
    stage.connect("bob", name, None);
    stage
}

/// Shows this text in a hundred more sessions, and asks for all of them.
fn list_many(stage: &mut HubStage, name: &str, text: &str) {
    for number in 0..100 {
        let start: String = name.chars().skip(3).collect();
        let other = format!("{start}{number:03}");
        stage.connect(&other, &other, None);
        let status = json!({ "chat_id": other, "status": "tool_use", "detail": text });
        stage.call_tool("status", status);
        stage.call_tool("reply", json!({ "chat_id": other, "text": text }));
    }
    stage.send_frame("ann", r#"{"type":"list_sessions"}"#);
}

/// The stage checks the length of each frame.
#[test]
fn no_kind_of_frame_exceeds_the_limit_with_the_worst_text() {
    let name = "🤖".repeat(128);
    for text in WORST {
        let each = serde_json::to_string(text).expect("a text is JSON").len() - 2;
        // A text of blanks alone is no reply.
        let text = format!("x{}", text.repeat(SMALL.1 * 2 / each));
        let fitting: String = text.chars().take(SMALL.0 / each / 5 * 4).collect();
        let mut stage = stage(&name);
        for step in [
            Step::Message(fitting.clone()),
            Step::Stream(text.clone()),
            Step::Status(text.clone()),
            Step::Ask(text.clone(), text.clone()),
            Step::Stop(text.clone()),
            Step::Fail(text.clone()),
            Step::Reply(fitting),
            Step::Nonsense(text.chars().take(1_000).collect()),
            Step::FetchHistory(100, 0),
        ] {
            play(&mut stage, &name, step);
        }
        stage.send_frame("ann", r#"{"type":"ping"}"#);
        stage.send_frame(
            "bob",
            &json!({ "type": "message", "content": "hi", "user": name }).to_string(),
        );
        list_many(&mut stage, &name, &text[..text.floor_char_boundary(2_000)]);
        let frames = check_answers(&mut stage);
        let of_kind = |kind: &str| frames.iter().filter(|frame| frame["type"] == kind).count();
        for kind in [
            "reply",
            "stream",
            "status",
            "permission_request",
            "permission_resolved",
            "user_message",
            "delivery",
            "welcome",
            "pong",
            "error",
        ] {
            assert!(of_kind(kind) > 0, "{kind}");
        }
        assert!(of_kind("history") > 1 && of_kind("sessions") > 1);
        // What was cut says so.
        let note = format!(
            "[cut off: {} bytes in all; the terminal has the rest]",
            text.len()
        );
        let cut = |kind: &str, field: &str| {
            let mut all = frames.iter().filter(|frame| frame["type"] == kind);
            all.any(|frame| {
                frame[field]
                    .as_str()
                    .is_some_and(|text| text.ends_with(&note))
            })
        };
        assert!(cut("stream", "delta") && cut("reply", "content"));
        assert!(
            cut("permission_request", "description") && cut("permission_request", "input_preview")
        );
        assert!(frames.iter().any(|frame| {
            frame["detail"]
                .as_str()
                .is_some_and(|detail| detail.ends_with('…'))
        }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The stage checks the length of each frame.
    #[test]
    fn no_frame_exceeds_the_limit(name in select(vec!["\"", "🤖", "x"]), steps in vec(step(), 1..40), last in text()) {
        let name = name.repeat(128);
        let mut stage = stage(&name);
        for step in steps {
            play(&mut stage, &name, step);
        }
        list_many(&mut stage, &name, &last[..last.floor_char_boundary(2_000)]);
        check_answers(&mut stage);
    }
}
