//! What hooks make of a session: a recorded one, played through the templates of
//! `plugin/hooks/hooks.json` as Claude Code fills them in, and what a host can get wrong.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Server, binary};

const HOOKS: &str = include_str!("../../plugin/hooks/hooks.json");

/// The arguments that the tool is called with when this event happens, one for each hook
/// that is there for it.
pub fn arguments(event: &Value) -> Vec<Value> {
    let hooks: Value = serde_json::from_str(HOOKS).expect("it is JSON");
    let name = event["hook_event_name"].as_str().expect("an event");
    let mut calls = Vec::new();
    for matcher in hooks["hooks"][name].as_array().into_iter().flatten() {
        for hook in matcher["hooks"].as_array().expect("a list") {
            let input = hook["input"].as_object().expect("an object");
            let filled = input.iter().map(|(argument, template)| {
                let template = template.as_str().expect("a string");
                (argument.clone(), Value::String(fill(template, event)))
            });
            calls.push(Value::Object(filled.collect()));
        }
    }
    calls
}

/// Every value arrives as a string: an object as its JSON, a missing one as `""`.
fn fill(template: &str, event: &Value) -> String {
    let name = template
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .expect("the templates are one field each");
    match &event[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A message as it goes into the conversation.
pub fn channel_tag(meta: &Value, content: &str) -> String {
    let mut tag = String::from("<channel source=\"plugin:claude-socket:claude-socket\"");
    for name in ["chat_id", "user", "ts", "message_id"] {
        if let Some(value) = meta[name].as_str() {
            let value = value.replace('&', "&amp;").replace('"', "&quot;");
            let value = value.replace('<', "&lt;").replace('>', "&gt;");
            tag += &format!(" {name}=\"{value}\"");
        }
    }
    format!("{tag}>\n{content}\n</channel>")
}

/// Calls the tool as a hook does. Nothing may come back into the conversation.
pub fn tell(server: &mut Server, arguments: &Value) {
    let params = json!({ "name": "activity", "arguments": arguments });
    let result = server.request("tools/call", &params);
    assert_eq!(result, json!({ "content": [] }), "{arguments}");
}

fn hook(server: &mut Server, event: &Value) {
    for arguments in arguments(event) {
        tell(server, &arguments);
    }
}

/// What an app has got, in a few words each.
fn brief(message: &Value) -> String {
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    let more = match text("type") {
        "delivery" => format!("{} {}", text("id"), text("state")),
        "status" => format!("{} {}", text("status"), text("detail")),
        "reply" => format!("{} {}", text("content"), text("via")),
        "stream" => text("delta").to_owned(),
        "permission_request" => text("request_id").to_owned(),
        "permission_resolved" => {
            format!(
                "{} {} {}",
                text("request_id"),
                message["allowed"],
                text("by")
            )
        }
        _ => String::new(),
    };
    format!("{} {more}", text("type")).trim().to_owned()
}

/// One whole session of the real host: its hooks, its requests for permission, its
/// replies, and the messages of three apps.
#[test]
fn a_recorded_session_is_shown_to_its_apps() {
    let mut server = Server::in_process(&[]);
    let mut apps: HashMap<&str, App> = HashMap::new();
    for session in ["s1", "s2", "s3"] {
        let mut app = App::connect(&server, session);
        app.send(&json!({ "type": "hello", "stream": true }));
        app.expect("welcome");
        apps.insert(session, app);
    }
    // A replayed request for permission gets a name of its own.
    let mut asked = 0;
    for line in include_str!("../fixtures/hook-events.jsonl").lines() {
        let mut event: Value = serde_json::from_str(line).expect("the fixture is JSON");
        let own = event["mcp_server"].is_object();
        match event["hook_event_name"].as_str().expect("an event") {
            "UserPromptSubmit" => {
                let prompt = event["prompt"].as_str().expect("a prompt").to_owned();
                let attribute = |name: &str| {
                    let rest = prompt.split(&format!(" {name}=\"")).nth(1);
                    rest.and_then(|rest| rest.split('"').next())
                        .expect("it is there")
                };
                let content = prompt.lines().nth(1).expect("a text");
                let id = attribute("message_id");
                let app = apps.get_mut(attribute("chat_id")).expect("it is in");
                app.send(&json!({
                    "type": "message", "content": content, "id": id,
                    "user": attribute("user"), "ts": attribute("ts"),
                }));
                let meta = &server.next_message()["meta"];
                let real = meta["message_id"].as_str().expect("an id");
                event["prompt"] = prompt
                    .replace(&format!("\"{id}\""), &format!("\"{real}\""))
                    .into();
                assert_eq!(event["prompt"], channel_tag(meta, content));
            }
            "PermissionRequest" => {
                asked += 1;
                let request = json!({
                    "request_id": format!("ask-{asked}"),
                    "tool_name": event["tool_name"],
                    "input_preview": event["tool_input"].to_string().replace(':', ": "),
                });
                server.notify("notifications/claude/channel/permission_request", &request);
                if own {
                    let verdict =
                        server.next_notification("notifications/claude/channel/permission");
                    assert_eq!(verdict["behavior"], "allow");
                }
                // So that it has come before the next app's message does, another way.
                server.request("ping", &json!({}));
            }
            "PostToolUse" if own => {
                assert_eq!(server.call("reply", &event["tool_input"]), "sent");
            }
            _ => {}
        }
        hook(&mut server, &event);
    }
    let heard = |app: &mut App| -> Vec<String> { app.until_pong().iter().map(brief).collect() };
    let s1 = [
        "delivery m1 accepted",
        "delivery m1 seen",
        "status thinking",
        "reply pong",
        "delivery m1 answered",
        "stream All done here.",
        "status idle",
        "delivery m2 accepted",
        "delivery m2 seen",
        "status thinking",
        "status tool_use Bash: make a file",
        "permission_request ask-2",
        "permission_resolved ask-2 true terminal",
        "status thinking",
        "reply finished",
        "delivery m2 answered",
        "stream All done here.",
        "status idle",
        "delivery m3 accepted",
        "delivery m3 seen",
        "status thinking",
        "status tool_use Bash: make a file",
        "permission_request ask-4",
        // Somebody has pressed Esc.
        "delivery m4 accepted",
        "delivery m4 seen",
        "permission_resolved ask-4 false terminal",
        "status thinking",
        "status tool_use Bash: fail on purpose",
        "status thinking",
        "reply finished",
        "delivery m3 answered",
        "delivery m4 answered",
        "stream All done here.",
        "status idle",
        "delivery m5 accepted",
        "delivery m5 seen",
        "status thinking",
        "stream I will just answer in the terminal.\n\n",
        "stream Second paragraph of the answer.",
        "reply I will just answer in the terminal.\n\nSecond paragraph of the answer. transcript",
        "delivery m5 answered",
        "status idle",
        "delivery m6 accepted",
        "delivery m6 seen",
        "status thinking",
        "status tool_use Bash: make a file",
        "permission_request ask-6",
        "permission_resolved ask-6 true terminal",
        "status thinking",
        // Two others have joined in, so nothing more of it is for this one alone.
        "status idle",
    ];
    // The empty places stand for requests that everyone is asked.
    let prompts: Vec<_> = s1
        .iter()
        .filter(|line| line.starts_with("permission"))
        .collect();
    assert_eq!(
        heard(apps.get_mut("s1").expect("s1")),
        s1.map(|line| line.trim_end())
    );
    for (session, more) in [
        (
            "s2",
            &[
                "delivery m7 accepted",
                "delivery m7 seen",
                "status thinking",
                "status idle",
            ][..],
        ),
        (
            "s3",
            &[
                "delivery m8 accepted",
                "delivery m8 seen",
                "status thinking",
                "reply finished",
                "delivery m8 answered",
                "status idle",
            ],
        ),
    ] {
        let (asked, others): (Vec<_>, Vec<_>) = heard(apps.get_mut(session).expect("it is in"))
            .into_iter()
            .partition(|line| line.starts_with("permission"));
        assert_eq!(others, more, "{session}");
        assert!(asked.iter().eq(prompts.iter().copied()), "{session}");
    }
    let health = server.health();
    assert_eq!(
        health["channel"],
        json!({ "plugin": false, "hooks": true, "proven": true, "unseen": 0 })
    );
    let (_, metrics) = server.get("/metrics");
    assert!(
        metrics.contains("claude_socket_messages_seen_total 8\n"),
        "{metrics}"
    );
}

/// A hook's call is answered with nothing at all, whatever is in it.
#[test]
fn nothing_that_a_hook_says_disturbs_claude() {
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let tools = server.request("tools/list", &json!({})).to_string();
    assert!(!tools.contains("activity"), "Claude must not know of it");
    let huge = "x".repeat(10 << 20);
    let long = "x".repeat(1 << 20);
    let cases = [
        json!({}),
        json!([]),
        json!("x"),
        json!(null),
        json!({ "event": 7 }),
        json!({ "event": "" }),
        json!({ "event": "Tomorrow's" }),
        json!({ "event": "UserPromptSubmit" }),
        json!({ "event": "UserPromptSubmit", "prompt": {} }),
        json!({ "event": "PreToolUse" }),
        json!({ "event": "PreToolUse", "tool_name": "Bash", "tool_input": huge }),
        json!({ "event": "PostToolUse", "tool_name": "Bash" }),
        json!({ "event": "MessageDisplay", "prompt_id": long, "delta": long }),
        json!({ "event": "Stop", "prompt_id": "p9", "last_assistant_message": long }),
        json!({ "event": "SubagentStop", "last_assistant_message": "not for you" }),
    ];
    for arguments in &cases {
        tell(&mut server, arguments);
    }
    // Nobody has asked anything, so nothing of it is for anybody but where Claude is.
    let heard: Vec<_> = app.until_pong().iter().map(brief).collect();
    assert_eq!(
        heard,
        [
            "status thinking",
            "status tool_use Bash",
            "status thinking",
            "status idle"
        ]
    );
    assert_eq!(
        server.call("reply", &json!({ "chat_id": "s1", "text": "still here" })),
        "sent"
    );
    assert_eq!(app.expect("reply")["content"], "still here");
}

/// Megabytes of input are compared with what was asked, shown in a line, and gone.
#[test]
fn a_huge_input_is_shown_in_a_short_line() {
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let event = |name: &str| {
        json!({
            "hook_event_name": name,
            "prompt_id": "p1",
            "tool_use_id": "t1",
            "tool_name": "Write",
            "tool_input": { "content": "x\n".repeat(1 << 20), "file_path": "/home/pi/big" },
            "cwd": "/home/pi",
        })
    };
    let typed =
        json!({ "hook_event_name": "UserPromptSubmit", "prompt_id": "p1", "prompt": "write" });
    hook(&mut server, &typed);
    assert_eq!(brief(&app.next()), "status thinking");
    hook(&mut server, &event("PreToolUse"));
    assert_eq!(brief(&app.next()), "status tool_use Write: big");
    let preview = format!("{{ \"content\": \"{}…", "x\\n".repeat(60));
    let request = json!({ "request_id": "abcde", "tool_name": "Write", "input_preview": preview });
    server.notify("notifications/claude/channel/permission_request", &request);
    assert_eq!(brief(&app.next()), "permission_request abcde");
    hook(&mut server, &event("PostToolUse"));
    assert_eq!(
        brief(&app.next()),
        "permission_resolved abcde true terminal"
    );
    assert_eq!(brief(&app.next()), "status thinking");
}

/// Where nothing can be heard, hooks get the same nothing.
#[test]
fn hooks_are_answered_without_a_port_too() {
    let holder = Server::start(&[]);
    let port = holder.address.port().to_string();
    let mut server = Server::spawn(binary().args(["--port", &port]));
    server.wait_for_log("is taken by");
    server.initialize();
    tell(
        &mut server,
        &json!({ "event": "UserPromptSubmit", "prompt": "hi" }),
    );
}

/// The health page says whether the channel works; it is `null` as long as nobody knows.
#[test]
fn health_tells_what_is_known_of_the_channel() {
    let mut server = Server::in_process(&[]);
    let unknown = json!({ "plugin": false, "hooks": false, "proven": null, "unseen": 0 });
    assert_eq!(server.health()["channel"], unknown);
    tell(&mut server, &json!({ "event": "SubagentStop" }));
    assert_eq!(server.health()["channel"]["hooks"], true);
}

/// The plugin's environment promises hooks, so a message that none shows is missing.
#[test]
fn the_plugin_without_the_channel_flag_is_noticed() {
    let server = Server::start_as_plugin(&["--seen-timeout", "1ms"]);
    let mut app = App::connect(&server, "s1");
    app.send(&json!({ "type": "message", "content": "anybody?", "id": "a1" }));
    server.next_message();
    assert_eq!(brief(&app.next()), "delivery a1 accepted");
    let unseen = app.expect("delivery");
    assert_eq!(unseen["state"], "unseen");
    let hint = unseen["hint"].as_str().expect("a hint");
    assert!(hint.contains("--channels"), "{hint}");
    // One without an id counts, too.
    app.send_message("hello?");
    server.next_message();
    server.wait_for_health(|health| health["channel"]["unseen"] == 2);
    let health = server.health();
    let channel = &health["channel"];
    assert_eq!(
        (&channel["plugin"], &channel["hooks"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(channel["proven"], false);
    let hint = channel["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("without the channel flag"), "{health}");
}

/// Every hook calls this server's tool with nothing but templates, and on no event on
/// which Claude Code can't.
#[test]
fn the_plugins_hooks_are_as_claude_code_wants_them() {
    let hooks: Value = serde_json::from_str(HOOKS).expect("it is JSON");
    for (event, matchers) in hooks["hooks"].as_object().expect("an object") {
        assert!(
            !["SessionStart", "Setup"].contains(&event.as_str()),
            "{event}"
        );
        let called = arguments(&json!({ "hook_event_name": event }));
        assert_eq!(called.len(), 1, "{event}");
        assert_eq!(called[0]["event"], *event);
        let hook = &matchers[0]["hooks"][0];
        assert_eq!(hook["type"], "mcp_tool", "{event}");
        assert_eq!(
            hook["server"], "plugin:claude-socket:claude-socket",
            "{event}"
        );
        assert_eq!(hook["tool"], "activity", "{event}");
    }
}
