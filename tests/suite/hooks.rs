//! Hooks: a recorded session, played through the templates of `plugin/hooks/hooks.json` as Claude
//! Code fills them in, and calls that are wrong.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Server, binary};

const HOOKS: &str = include_str!("../../plugin/hooks/hooks.json");

/// Returns the arguments of the tool for this event, one for each of its hooks.
pub fn arguments(event: &Value) -> Vec<Value> {
    let hooks: Value = serde_json::from_str(HOOKS).expect("hooks.json is JSON");
    let name = event["hook_event_name"]
        .as_str()
        .expect("an event has a name");
    let mut calls = Vec::new();
    for matcher in hooks["hooks"][name].as_array().into_iter().flatten() {
        for hook in matcher["hooks"]
            .as_array()
            .expect("a matcher has a list of hooks")
        {
            let input = hook["input"].as_object().expect("a hook has input");
            let filled = input.iter().map(|(argument, template)| {
                let template = template.as_str().expect("a template is a string");
                (argument.clone(), Value::String(fill(template, event)))
            });
            calls.push(Value::Object(filled.collect()));
        }
    }
    calls
}

/// Fills in a template. Every value becomes a string: an object its JSON, a missing one `""`.
fn fill(template: &str, event: &Value) -> String {
    let name = template
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .expect("a template is one field");
    match &event[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns a message as it stands in the conversation.
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

/// The result of the tool: a hook's output that adds nothing to the conversation.
pub fn no_output() -> Value {
    json!({ "content": [{ "type": "text", "text": "{}" }] })
}

/// Calls the tool as a hook does. The result must add nothing to the conversation.
pub fn call_activity(server: &mut Server, arguments: &Value) {
    let params = json!({ "name": "activity", "arguments": arguments });
    let result = server.request("tools/call", &params);
    assert_eq!(result, no_output(), "{arguments}");
}

fn call_hook(server: &mut Server, event: &Value) {
    for arguments in arguments(event) {
        call_activity(server, &arguments);
    }
}

/// Returns a message to a client in a few words.
fn summary(message: &Value) -> String {
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

/// A session of the real Claude Code: its hooks, its permission requests, its replies, and the
/// messages of three clients.
#[test]
fn recorded_session_is_shown_to_its_clients() {
    for history_ttl in ["0", "30d"] {
        let mut server = Server::in_process(&["--history-ttl", history_ttl]);
        let apps = play_recorded_session(&mut server);
        // Receipts wait until messages are on disk, and nothing else waits with them.
        check_recorded_session(&server, apps, history_ttl != "0");
    }
}

fn play_recorded_session(server: &mut Server) -> HashMap<&'static str, App> {
    let mut apps: HashMap<&str, App> = HashMap::new();
    for session in ["s1", "s2", "s3"] {
        let mut app = App::connect(server, session);
        app.send(&json!({ "type": "hello", "stream": true }));
        app.expect("welcome");
        apps.insert(session, app);
    }
    // Each permission request gets an id of its own.
    let mut requests = 0;
    for line in include_str!("../fixtures/hook-events.jsonl").lines() {
        let mut event: Value = serde_json::from_str(line).expect("the fixture is JSON");
        let own = event["mcp_server"].is_object();
        match event["hook_event_name"]
            .as_str()
            .expect("an event has a name")
        {
            "UserPromptSubmit" => {
                let prompt = event["prompt"]
                    .as_str()
                    .expect("a prompt is a string")
                    .to_owned();
                let attribute = |name: &str| {
                    let rest = prompt.split(&format!(" {name}=\"")).nth(1);
                    rest.and_then(|rest| rest.split('"').next())
                        .expect("the tag has the attribute")
                };
                let content = prompt.lines().nth(1).expect("the message has a line");
                let id = attribute("message_id");
                let app = apps
                    .get_mut(attribute("chat_id"))
                    .expect("the session has a client");
                app.send(&json!({
                    "type": "message", "content": content, "id": id,
                    "user": attribute("user"), "ts": attribute("ts"),
                }));
                let meta = &server.next_message()["meta"];
                let real = meta["message_id"].as_str().expect("a message has an id");
                event["prompt"] = prompt
                    .replace(&format!("\"{id}\""), &format!("\"{real}\""))
                    .into();
                assert_eq!(event["prompt"], channel_tag(meta, content));
            }
            "PermissionRequest" => {
                requests += 1;
                let request = json!({
                    "request_id": format!("ask-{requests}"),
                    "tool_name": event["tool_name"],
                    "input_preview": event["tool_input"].to_string().replace(':', ": "),
                });
                server.notify("notifications/claude/channel/permission_request", &request);
                if own {
                    let verdict =
                        server.next_notification("notifications/claude/channel/permission");
                    assert_eq!(verdict["behavior"], "allow");
                }
                // It must have arrived before the next client's message, which takes another way.
                server.request("ping", &json!({}));
            }
            "PostToolUse" if own => {
                assert_eq!(server.call("reply", &event["tool_input"]), "sent");
            }
            _ => {}
        }
        call_hook(server, &event);
    }
    apps
}

fn check_recorded_session(server: &Server, mut apps: HashMap<&str, App>, receipts_wait: bool) {
    let mut received = |session, count| -> Vec<String> {
        let app = apps.get_mut(session).expect("the session has a client");
        let received = (0..count).map(|_| summary(&app.next())).collect();
        assert_eq!(app.until_pong(), [] as [Value; 0]);
        received
    };
    let in_order = |mut lines: Vec<String>| {
        if receipts_wait {
            lines.sort_by_key(|line| line.starts_with("delivery"));
        }
        lines
    };
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
        // The user interrupts the turn.
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
        // Two other sessions take part in the turn, so its text is for none of them.
        "status idle",
    ];
    let prompts: Vec<_> = s1
        .iter()
        .filter(|line| line.starts_with("permission"))
        .collect();
    let expected = s1.map(|line| line.trim_end().to_owned());
    assert_eq!(
        in_order(received("s1", s1.len())),
        in_order(expected.to_vec())
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
        let (asked, others): (Vec<_>, Vec<_>) = received(session, more.len() + prompts.len())
            .into_iter()
            .partition(|line| line.starts_with("permission"));
        let more = more.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(in_order(others), in_order(more), "{session}");
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

/// Any call of a hook has an empty result.
#[test]
fn any_hook_call_has_no_output() {
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let tools = server.request("tools/list", &json!({})).to_string();
    assert!(
        !tools.contains("activity"),
        "Claude does not see the tool of hooks"
    );
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
        call_activity(&mut server, arguments);
    }
    // No client has sent a message, so the clients only get the status.
    let received: Vec<_> = app.until_pong().iter().map(summary).collect();
    assert_eq!(
        received,
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

/// Megabytes of input are compared with the request's preview and not kept.
#[test]
fn huge_tool_input_is_shown_in_a_short_line() {
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
    call_hook(&mut server, &typed);
    assert_eq!(summary(&app.next()), "status thinking");
    call_hook(&mut server, &event("PreToolUse"));
    assert_eq!(summary(&app.next()), "status tool_use Write: big");
    let preview = format!("{{ \"content\": \"{}…", "x\\n".repeat(60));
    let request = json!({ "request_id": "abcde", "tool_name": "Write", "input_preview": preview });
    server.notify("notifications/claude/channel/permission_request", &request);
    assert_eq!(summary(&app.next()), "permission_request abcde");
    call_hook(&mut server, &event("PostToolUse"));
    assert_eq!(
        summary(&app.next()),
        "permission_resolved abcde true terminal"
    );
    assert_eq!(summary(&app.next()), "status thinking");
}

#[test]
fn hooks_are_answered_while_port_is_taken() {
    let holder = Server::start(&[]);
    let port = holder.address.port().to_string();
    let mut server = Server::spawn(binary().args(["--port", &port]));
    server.wait_for_log("is taken by");
    server.initialize();
    call_activity(
        &mut server,
        &json!({ "event": "UserPromptSubmit", "prompt": "hi" }),
    );
}

/// `proven` is `null` until a message was seen or missed.
#[test]
fn health_shows_that_hooks_are_called() {
    let mut server = Server::in_process(&[]);
    let unknown = json!({ "plugin": false, "hooks": false, "proven": null, "unseen": 0 });
    assert_eq!(server.health()["channel"], unknown);
    call_activity(&mut server, &json!({ "event": "SubagentStop" }));
    assert_eq!(server.health()["channel"]["hooks"], true);
}

/// The plugin has hooks, so a message that no hook reports is unseen.
#[test]
fn plugin_without_channel_flag_leaves_messages_unseen() {
    let server = Server::start_as_plugin(&["--seen-timeout", "1ms"]);
    let mut app = App::connect(&server, "s1");
    app.send(&json!({ "type": "message", "content": "anybody?", "id": "a1" }));
    // The first message is given three times.
    for _ in 0..3 {
        assert_eq!(server.next_message()["content"], "anybody?");
    }
    assert_eq!(summary(&app.next()), "delivery a1 accepted");
    let unseen = app.expect("delivery");
    assert_eq!(unseen["state"], "unseen");
    let hint = unseen["hint"]
        .as_str()
        .expect("an unseen message has a hint");
    assert!(hint.contains("--channels"), "{hint}");
    // A message without an id counts too.
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

/// Every hook calls this server's tool, with templates only, and on no event on which Claude Code
/// can't call tools.
#[test]
fn plugin_hooks_call_the_activity_tool() {
    let hooks: Value = serde_json::from_str(HOOKS).expect("hooks.json is JSON");
    for (event, matchers) in hooks["hooks"].as_object().expect("hooks.json has hooks") {
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

/// Deeper than a parser that recurses can follow.
#[test]
fn input_of_any_depth_is_shown_and_recognized() {
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let input = format!(r#"{{"command":"ls","nested":{nested}}}"#);
    let hook = |event: &str| {
        json!({
            "event": event, "prompt_id": "p1", "tool_use_id": "t1", "tool_name": "Bash", "tool_input": input,
            "background_tasks": nested,
        })
    };
    call_activity(&mut server, &hook("UserPromptSubmit"));
    assert_eq!(app.expect("status")["status"], "thinking");
    call_activity(&mut server, &hook("PreToolUse"));
    assert_eq!(app.expect("status")["detail"], "Bash: ls");
    let preview = input.replace(':', ": ");
    let request = json!({ "request_id": "abcde", "tool_name": "Bash", "input_preview": preview });
    server.notify("notifications/claude/channel/permission_request", &request);
    assert_eq!(app.expect("permission_request")["input_preview"], preview);
    call_activity(&mut server, &hook("PostToolUse"));
    assert_eq!(app.expect("permission_resolved")["by"], "terminal");
    call_activity(&mut server, &hook("Stop"));
}
