//! Claude Code's side: what it is given and when, and what is taken of what it says.

use serde_json::{Value, json};

use super::sessions::milliseconds;
use super::{Check, Row, hub, limits, received, reply, see, take, write};
use crate::app::App;
use crate::hub::HubStage;
use crate::server::Server;
use crate::story::Stage;

pub const CHECKS: &[(&str, Check)] = &[
    (
        "time that messages wait for a Claude Code that has just started",
        channel_delay,
    ),
    (
        "the same where hooks report what is seen",
        channel_delay_with_hooks,
    ),
    (
        "time until the first message is given again, where hooks do not report it as seen",
        time_until_repeat,
    ),
    ("times that it is given", attempts),
    ("line of Claude Code", line),
    ("name and version of Claude Code", name_and_version),
    ("text of a `reply`, as JSON", reply_text),
    (
        "text of an answer from the terminal, as JSON",
        terminal_text,
    ),
    ("text of a `stream`, as JSON", stream_text),
    ("result of `fetch_messages`", fetch_messages),
    (
        "sessions that a tool names if there is no such one",
        named_sessions,
    ),
    ("`detail` of a `status`", status_detail),
    ("`detail` of a tool that a hook reports", hook_detail),
    ("id of a tool use that a hook reports", tool_use_id),
    ("running tools that hooks report", running_tools),
    ("permission requests", permission_requests),
    ("time of a permission request", permission_ttl),
    ("id of a permission request", request_id),
    ("`tool_name` of a permission request, as JSON", tool_name),
    (
        "`description` of a permission request, as JSON",
        description,
    ),
    (
        "`input_preview` of a permission request, as JSON",
        input_preview,
    ),
];

/// A hub whose agent is ready from now on, in which a client has sent a message.
fn just_started(delay: usize, has_hooks: bool) -> HubStage {
    let mut stage = HubStage::not_ready(limits(&["--channel-delay", &format!("{delay}ms")]));
    if has_hooks {
        stage.expect_hooks();
    }
    stage.connect("ann", "s1", None);
    stage.send_frame("ann", r#"{"type":"message","content":"one","id":"a1"}"#);
    stage.make_ready();
    stage
}

/// The agent is given a message after so many milliseconds, and not before.
fn assert_given_after(stage: &mut HubStage, time: usize) {
    stage.advance_clock(milliseconds(time - 1));
    assert_eq!(take(stage), None);
    stage.advance_clock(milliseconds(1));
    assert_eq!(take(stage).expect("it is given")["content"], "one");
}

fn channel_delay(row: &Row) {
    assert_given_after(&mut just_started(row.one, false), row.one);
}

fn channel_delay_with_hooks(row: &Row) {
    let (_, whole) = row.settings[0].part;
    assert_given_after(&mut just_started(row.one * whole, true), row.one);
}

fn time_until_repeat(row: &Row) {
    let mut stage = just_started(0, true);
    assert!(take(&mut stage).is_some());
    assert_given_after(&mut stage, row.one);
}

fn attempts(row: &Row) {
    let mut stage = just_started(0, true);
    for _ in 0..row.one {
        assert!(take(&mut stage).is_some());
        assert!(!states(&mut stage).contains(&json!("unseen")));
        stage.advance_clock(limits(&[]).seen_timeout);
    }
    assert_eq!(take(&mut stage), None);
    assert!(states(&mut stage).contains(&json!("unseen")));
}

fn states(stage: &mut HubStage) -> Vec<Value> {
    let frames = received(stage, "ann");
    frames.iter().map(|frame| frame["state"].clone()).collect()
}

fn line(row: &Row) {
    let mut server = Server::in_process(&[]);
    let line = |length: usize| {
        let start = r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":""#;
        let end = "\"}}";
        let filling = "x".repeat(length - start.len() - end.len());
        format!("{start}{filling}{end}\n")
    };
    server.write(line(row.one - 1).as_bytes());
    assert_eq!(server.next_line()["result"], json!({}));
    server.write(line(row.one).as_bytes());
    assert_eq!(server.next_line()["error"]["code"], -32600);
}

fn name_and_version(row: &Row) {
    let mut server = Server::in_process_listening(&[]);
    for length in [row.one, row.one + 1] {
        let text = "é".repeat(length);
        let agent = json!({ "name": text, "version": text });
        server.request("initialize", &json!({ "clientInfo": agent }));
        let host = &server.health()["host"];
        for name in ["name", "version"] {
            assert_eq!(host[name], "é".repeat(row.one));
        }
    }
}

fn reply_text(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    assert_eq!(reply(&mut stage, "s1", &"x".repeat(row.one)), "sent");
    let refused = reply(&mut stage, "s1", &"x".repeat(row.one + 1));
    assert!(
        refused.contains(&format!("the limit is {}; nothing was sent", row.one)),
        "{refused}"
    );
    assert_eq!(received(&mut stage, "ann").len(), 1);
}

fn terminal_text(row: &Row) {
    let answer = |length: usize| {
        let mut stage = hub(&[]);
        stage.connect("ann", "s1", None);
        stage.send_frame("ann", r#"{"type":"message","content":"one"}"#);
        let message = take(&mut stage).expect("the message is given");
        see(&mut stage, &message);
        let text = "x".repeat(length);
        stage.call_hook(json!({
            "hook_event_name": "Stop", "prompt_id": "p1", "last_assistant_message": text,
        }));
        let frames = received(&mut stage, "ann");
        let reply = frames.into_iter().find(|frame| frame["type"] == "reply");
        reply.expect("the answer is sent")["content"].take()
    };
    assert_cut(&answer(row.one), &answer(row.one + 1), row.one);
}

fn stream_text(row: &Row) {
    let delta = |length: usize| {
        let mut stage = hub(&[]);
        stage.connect("ann", "s1", None);
        stage.send_frame("ann", r#"{"type":"hello","stream":true}"#);
        stage.send_frame("ann", r#"{"type":"message","content":"one"}"#);
        let message = take(&mut stage).expect("the message is given");
        see(&mut stage, &message);
        received(&mut stage, "ann");
        stage.call_hook(json!({
            "hook_event_name": "MessageDisplay", "prompt_id": "p1", "delta": "x".repeat(length),
        }));
        received(&mut stage, "ann").remove(0)["delta"].take()
    };
    assert_cut(&delta(row.one), &delta(row.one + 1), row.one);
}

/// The first text is whole, and the second one, of a byte more, is cut to the same length and says so.
fn assert_cut(whole: &Value, cut: &Value, length: usize) {
    assert_eq!(*whole, "x".repeat(length));
    let cut = cut.as_str().expect("it is a text");
    let json = serde_json::to_string(cut).expect("a text is JSON");
    assert!(json.len() - 2 <= length, "{}", json.len());
    assert!(cut.ends_with("the terminal has the rest]"));
}

fn fetch_messages(row: &Row) {
    let fetch = |lengths: &[usize]| {
        let mut stage = hub(&[]);
        stage.connect("ann", "s1", None);
        for length in lengths {
            write(&mut stage, "ann", "s1", &"é".repeat(*length));
        }
        let result = stage.call_tool("fetch_messages", json!({ "session_id": "s1" }));
        let length = result.chars().count();
        (result, length)
    };
    // A line has a time and a name, and the hint has room that is kept for it.
    let (whole, length) = fetch(&[row.one - 200]);
    assert!(!whole.contains("cut off") && length <= row.one, "{length}");
    let (cut, length) = fetch(&[row.one]);
    assert!(cut.contains("cut off: this message has"), "{length}");
    assert!((row.one - 200..=row.one).contains(&length), "{length}");
    let half = row.one / 2;
    let (older_left_out, length) = fetch(&[half, half, 1]);
    assert!(older_left_out.contains("\"before\": 2"));
    assert!(length <= row.one, "{length}");
}

fn named_sessions(row: &Row) {
    let mut stage = hub(&[]);
    for n in 0..row.one {
        stage.connect(&n.to_string(), &n.to_string(), None);
    }
    let all = reply(&mut stage, "unknown", "x");
    assert!(all.contains("\"0\"") && !all.contains(" more"), "{all}");
    stage.connect("z", "z", None);
    let some = reply(&mut stage, "unknown", "x");
    assert!(some.contains(" and 1 more"), "{some}");
}

fn status_detail(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    for length in [row.one, row.one + 1] {
        let detail = "é".repeat(length);
        stage.call_tool(
            "status",
            json!({ "chat_id": "s1", "status": "tool_use", "detail": detail }),
        );
        assert_detail(&mut stage, detail, row.one);
    }
}

/// The client is shown the detail, in so many characters at most.
fn assert_detail(stage: &mut HubStage, mut detail: String, most: usize) {
    if detail.chars().count() > most {
        detail = detail.chars().take(most - 1).chain(['…']).collect();
    }
    let frames = received(stage, "ann");
    let last = frames.last().expect("a status is sent");
    assert_eq!(last["detail"], detail);
}

/// A hub in whose terminal a turn was begun.
fn terminal_turn() -> HubStage {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    let prompt =
        json!({ "hook_event_name": "UserPromptSubmit", "prompt_id": "p1", "prompt": "go" });
    stage.call_hook(prompt);
    stage
}

fn hook(stage: &mut HubStage, event: &str, id: &str, command: &str) {
    stage.call_hook(json!({
        "hook_event_name": event, "prompt_id": "p1", "tool_use_id": id,
        "tool_name": "Bash", "tool_input": { "command": command },
    }));
}

fn hook_detail(row: &Row) {
    let mut stage = terminal_turn();
    for length in [row.one, row.one + 1] {
        let command = "é".repeat(length - "Bash: ".len());
        hook(&mut stage, "PreToolUse", "t1", &command);
        assert_detail(&mut stage, format!("Bash: {command}"), row.one);
    }
}

/// Two tools run, whose ids differ in the last character, and one of them ends.
fn tool_use_id(row: &Row) {
    let last_status = |length: usize| {
        let mut stage = terminal_turn();
        let [one, other] = ['1', '2'].map(|end| "é".repeat(length - 1) + &end.to_string());
        hook(&mut stage, "PreToolUse", &one, "one");
        hook(&mut stage, "PreToolUse", &other, "other");
        hook(&mut stage, "PostToolUse", &other, "");
        let mut frames = received(&mut stage, "ann");
        frames.pop().expect("a status is sent")
    };
    assert_eq!(last_status(row.one)["detail"], "Bash: one");
    assert_eq!(last_status(row.one + 1)["status"], "thinking");
}

fn running_tools(row: &Row) {
    // What is shown when all tools but the first have ended.
    let last_shown = |tools: usize| {
        let mut stage = terminal_turn();
        for n in 0..tools {
            hook(&mut stage, "PreToolUse", &n.to_string(), &n.to_string());
        }
        for n in 1..tools {
            hook(&mut stage, "PostToolUse", &n.to_string(), "");
        }
        let mut frames = received(&mut stage, "ann");
        frames.pop().expect("a status is sent")
    };
    assert_eq!(last_shown(row.one)["detail"], "Bash: 0");
    assert_eq!(last_shown(row.one + 1)["status"], "thinking");
}

fn permission_requests(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    let ask = |stage: &mut HubStage, n: usize| {
        stage.request_permission(json!({ "request_id": n.to_string(), "tool_name": "Bash" }));
    };
    for n in 1..=row.all {
        ask(&mut stage, n);
    }
    let frames = received(&mut stage, "ann");
    assert!(
        frames
            .iter()
            .all(|frame| frame["type"] == "permission_request")
    );
    ask(&mut stage, row.all + 1);
    let frames = received(&mut stage, "ann");
    let closed: Vec<_> = frames
        .iter()
        .filter(|frame| frame["type"] == "permission_resolved")
        .map(|frame| &frame["request_id"])
        .collect();
    assert_eq!(closed, ["1"]);
}

fn permission_ttl(row: &Row) {
    let mut stage = hub(&[]);
    stage.connect("ann", "s1", None);
    stage.request_permission(json!({ "request_id": "abcde", "tool_name": "Bash" }));
    stage.advance_clock(milliseconds(row.one - 1));
    assert_eq!(received(&mut stage, "ann").len(), 1);
    stage.advance_clock(milliseconds(1));
    assert_eq!(received(&mut stage, "ann")[0]["by"], "expired");
}

fn request_id(row: &Row) {
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    for length in [row.one + 1, row.one] {
        server.notify(
            "notifications/claude/channel/permission_request",
            &json!({ "request_id": "x".repeat(length), "tool_name": "Bash" }),
        );
    }
    assert_eq!(
        app.expect("permission_request")["request_id"],
        "x".repeat(row.one)
    );
}

fn assert_cut_in_request(field: &str, row: &Row) {
    let shown = |length: usize| {
        let mut stage = hub(&[]);
        stage.connect("ann", "s1", None);
        let mut request = json!({ "request_id": "abcde", "tool_name": "Bash" });
        request[field] = "x".repeat(length).into();
        stage.request_permission(request);
        received(&mut stage, "ann")[0][field].take()
    };
    assert_cut(&shown(row.one), &shown(row.one + 1), row.one);
}

fn tool_name(row: &Row) {
    assert_cut_in_request("tool_name", row);
}

fn description(row: &Row) {
    assert_cut_in_request("description", row);
}

fn input_preview(row: &Row) {
    assert_cut_in_request("input_preview", row);
}
