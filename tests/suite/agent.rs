//! Claude Code's side: a recorded session, and lines and requests that are wrong.

use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Server, text_of};

/// A session of the real Claude Code with a recording server, replayed line by line.
#[test]
fn recorded_session_gets_the_recorded_responses() {
    let mut server = Server::in_process_listening(&[]);
    let mut apps: Vec<(String, App)> = Vec::new();
    for line in include_str!("../fixtures/agent-session.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect("the fixture is JSON");
        let message = &line["msg"];
        if line["from"] == "host" {
            server.send(message);
            continue;
        }
        if message["method"] == "notifications/claude/channel" {
            // The recording server made it up; here a client sends it.
            let params = &message["params"];
            let session = params["meta"]["chat_id"]
                .as_str()
                .expect("a message has a chat_id")
                .to_owned();
            if !apps.iter().any(|(name, _)| *name == session) {
                apps.push((session.clone(), App::connect(&server, &session)));
            }
            let (_, app) = apps
                .iter_mut()
                .find(|(name, _)| *name == session)
                .expect("the session has a client");
            app.send(&json!({
                "type": "message",
                "content": params["content"],
                "user": params["meta"]["user"],
                "ts": params["meta"]["ts"],
            }));
        }
        let mut answer = server.next_line();
        match message["method"].as_str() {
            Some("notifications/claude/channel") => {
                // The id is the server's own.
                let id = answer["params"]["meta"]["message_id"].take();
                assert!(id.is_string(), "{answer}");
                answer["params"]["meta"]["message_id"] =
                    message["params"]["meta"]["message_id"].clone();
                assert_eq!(answer, *message);
            }
            Some(_) => assert_eq!(answer, *message),
            None if message["id"] == 0 => {
                let (result, expected) = (&answer["result"], &message["result"]);
                assert_eq!(answer["id"], 0);
                assert_eq!(result["protocolVersion"], expected["protocolVersion"]);
                assert_eq!(result["capabilities"], expected["capabilities"]);
                assert_eq!(result["serverInfo"]["name"], "claude-socket");
                assert!(result["instructions"].is_string());
            }
            None if message["id"] == 1 => {
                let reply = &answer["result"]["tools"][0];
                let expected = &message["result"]["tools"][0];
                assert_eq!(answer["id"], 1);
                assert_eq!(reply["name"], expected["name"]);
                assert_eq!(
                    reply["inputSchema"]["required"],
                    expected["inputSchema"]["required"]
                );
                assert_eq!(reply["annotations"], expected["annotations"]);
                assert_eq!(reply["_meta"], expected["_meta"]);
            }
            None => assert_eq!(answer, *message),
        }
    }
    // The client in s1 was connected all the time.
    let (_, s1) = &mut apps[0];
    let seen = s1.until_pong();
    let replies: Vec<&str> = seen
        .iter()
        .filter_map(|message| message["content"].as_str())
        .collect();
    assert_eq!(replies, ["pong", "finished", "finished"]);
    let requests: Vec<&str> = seen
        .iter()
        .filter_map(|message| message["request_id"].as_str())
        .collect();
    assert_eq!(
        requests,
        ["isobz", "wuojk", "ppmsx"],
        "requests for the server's own tools are not shown"
    );
}

#[test]
fn tools_are_fully_described() {
    let mut server = Server::in_process(&[]);
    let tools = server.request("tools/list", &json!({}));
    let tools = tools["tools"].as_array().expect("tools/list has a list");
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str()).collect();
    assert_eq!(
        names,
        [Some("reply"), Some("status"), Some("fetch_messages")]
    );
    for tool in tools {
        assert!(
            tool["title"].is_string() && tool["description"].is_string(),
            "{tool}"
        );
        assert_eq!(tool["_meta"]["anthropic/alwaysLoad"], true, "{tool}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        for hint in [
            "readOnlyHint",
            "destructiveHint",
            "idempotentHint",
            "openWorldHint",
        ] {
            assert!(tool["annotations"][hint].is_boolean(), "{hint}: {tool}");
        }
        for argument in tool["inputSchema"]["required"]
            .as_array()
            .expect("required is a list")
        {
            let name = argument.as_str().expect("an argument has a name");
            assert!(
                tool["inputSchema"]["properties"][name].is_object(),
                "{name}: {tool}"
            );
        }
    }
}

/// Each line, and its response; `null` for none.
#[test]
fn line_gets_its_response_or_none() {
    let mut server = Server::listening(&[]);
    let error =
        |id: Value, code: i32| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code } });
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(64 << 20));
    let cases = [
        // Before the handshake, too.
        (
            r#"{"jsonrpc":"2.0","id":"server-discover-probe-1","method":"server/discover"}"#,
            error(json!("server-discover-probe-1"), -32601),
        ),
        (
            r#"{"jsonrpc":"2.0","id":-7,"method":"ping"}"#,
            json!({ "jsonrpc": "2.0", "id": -7, "result": {} }),
        ),
        (
            r#"{"jsonrpc":"2.0","id":"ü","method":"resources/list"}"#,
            error(json!("ü"), -32601),
        ),
        ("this is no JSON", error(Value::Null, -32700)),
        ("{\"jsonrpc\":\"2.0\",\"id\":1", error(Value::Null, -32700)),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            error(Value::Null, -32600),
        ),
        ("[]", error(Value::Null, -32600)),
        ("7", error(Value::Null, -32600)),
        (r#"{"jsonrpc":"2.0","id":5}"#, error(json!(5), -32600)),
        (
            r#"{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"dance"}}"#,
            error(json!(6), -32602),
        ),
        (
            r#"{"jsonrpc":"2.0","id":6,"method":"tools/call","params":[]}"#,
            error(json!(6), -32602),
        ),
        (&long, error(Value::Null, -32600)),
        ("", Value::Null),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            Value::Null,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/whatever","params":{}}"#,
            Value::Null,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/claude/channel/permission_request","params":{}}"#,
            Value::Null,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Value::Null),
    ];
    for (line, expected) in &cases {
        server.write(line.as_bytes());
        server.write(b"\n");
        let place = &line[..line.len().min(80)];
        if !expected.is_null() {
            crate::story::compare(
                &server.next_line(),
                expected,
                &mut Default::default(),
                place,
            );
        }
        assert_eq!(
            server.request("ping", &json!({})),
            json!({}),
            "after {place}"
        );
    }
    #[cfg(target_os = "linux")]
    assert!(
        server.memory("VmHWM") < 32 << 10,
        "the long line is not kept in memory"
    );
}

/// Neither an error without an id, nor one about what serde makes of it.
#[test]
fn wrong_parameter_is_named_in_the_error() {
    let mut server = Server::in_process(&[]);
    let mut error = |method: &str, params: &str| {
        server.write(
            format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":{method},\"params\":{params}}}\n")
                .as_bytes(),
        );
        let answer = server.next_line();
        assert_eq!(answer["id"], 7, "{answer}");
        let message = &answer["error"]["message"];
        message
            .as_str()
            .map_or_else(|| text_of(&answer["result"]), str::to_owned)
    };
    let cases = [
        (
            "\"tools/call\"",
            "[]",
            "Invalid params: \"params\" must be an object",
        ),
        (
            "\"tools/call\"",
            r#"["reply",{"chat_id":"s1","text":"x"}]"#,
            "Invalid params: \"params\" must be an object",
        ),
        (
            "\"tools/call\"",
            "1e999",
            "Invalid params: \"params\" must be an object",
        ),
        (
            "\"tools/call\"",
            "{}",
            "Invalid params: \"name\" is missing; it must be a string",
        ),
        (
            "\"tools/call\"",
            r#"{"name":7}"#,
            "Invalid params: \"name\" must be a string, not a number",
        ),
        (
            "\"tools/call\"",
            r#"{"name":"fetch_messages","arguments":{"session_id":"s1","limit":1e999}}"#,
            "fetch_messages: \"limit\" must be a number, not a number out of range",
        ),
        (
            "\"tools/call\"",
            r#"{"name":"reply","arguments":[]}"#,
            "reply: \"arguments\" must be an object",
        ),
        (
            "7",
            "{}",
            "Invalid Request: \"method\" must be a string, not a number",
        ),
        (
            "1e999",
            "{}",
            "Invalid Request: \"method\" must be a string, not a number out of range",
        ),
    ];
    for (method, params, expected) in cases {
        assert_eq!(error(method, params), expected, "{method} {params}");
    }
}

#[test]
fn agent_is_answered_whatever_it_reports_about_itself() {
    let mut server = Server::in_process_listening(&[]);
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let deep = format!(r#"{{"capabilities":{deep},"protocolVersion":"2024-11-05"}}"#);
    let cases = [
        ("[]", "2025-11-25"),
        (
            r#"{"clientInfo":[1e999],"protocolVersion":7}"#,
            "2025-11-25",
        ),
        (
            r#"{"clientInfo":{"name":"\ud83d","version":1e999},"protocolVersion":"2025-06-18"}"#,
            "2025-06-18",
        ),
        (&deep, "2024-11-05"),
    ];
    for (params, revision) in cases {
        let request =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
        server.write(format!("{request}\n").as_bytes());
        let answer = server.next_line();
        assert_eq!(answer["result"]["protocolVersion"], revision, "{answer}");
    }
}

#[test]
fn protocol_revision_is_echoed_if_known() {
    let mut server = Server::in_process_listening(&[]);
    let cases = [
        (json!("2025-11-25"), "2025-11-25"),
        (json!("2025-06-18"), "2025-06-18"),
        (json!("2025-03-26"), "2025-03-26"),
        (json!("2024-11-05"), "2024-11-05"),
        (json!("2026-07-28"), "2025-11-25"),
        (Value::Null, "2025-11-25"),
    ];
    for (requested, expected) in cases {
        let result = server.request("initialize", &json!({ "protocolVersion": requested }));
        assert_eq!(result["protocolVersion"], expected);
    }
}

#[test]
fn wrong_tool_argument_is_named_in_the_error() {
    let mut server = Server::in_process(&[]);
    let cases = [
        ("reply", json!({ "text": "x" }), "\"chat_id\" is missing"),
        (
            "reply",
            json!({ "chat_id": "s1", "text": 7 }),
            "\"text\" must be a string",
        ),
        ("reply", json!("x"), "\"arguments\" must be an object"),
        (
            "status",
            json!({ "chat_id": "s1", "status": "asleep" }),
            "thinking, tool_use, idle",
        ),
        (
            "fetch_messages",
            json!({ "session_id": "s1", "limit": "all" }),
            "\"limit\" must be a number, not a string",
        ),
        (
            "reply",
            json!({ "chat_id": "s1", "text": "x" }),
            "there is no session \"s1\"",
        ),
    ];
    for (tool, arguments, expected) in cases {
        let params = json!({ "name": tool, "arguments": arguments });
        let result = server.request("tools/call", &params);
        assert_eq!(result["isError"], true, "{arguments}");
        assert!(text_of(&result).contains(expected), "{result}");
    }
}

/// JavaScript writes half of a character as an escape, Python maybe as bytes. Nothing is lost for it,
/// be it in JSON inside a string.
#[test]
fn half_a_character_from_claude_becomes_a_replacement_character() {
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let call = |server: &mut Server, tool: &str, arguments: &[u8]| {
        let head = format!(
            r#"{{"jsonrpc":"2.0","id":"\udc00","method":"tools/call","\ud800":0,"params":{{"name":"{tool}","_meta":{{"\ud83d":"\ud83d"}},"arguments":"#
        );
        server.write(&[head.as_bytes(), arguments, b"}}\n"].concat());
        assert!(server.next_line()["error"].is_null());
    };
    let replies: [(&[u8], &str); 3] = [
        (
            br#"{"chat_id":"s1","text":"well done \ud83d"}"#,
            "well done \u{fffd}",
        ),
        (
            br#"{"chat_id":"s1","\ud83d":1,"text":"\\ud83d \ude00"}"#,
            "\\ud83d \u{fffd}",
        ),
        (
            b"{\"chat_id\":\"s1\",\"text\":\"raw \xed\xa0\xbd\"}",
            "raw \u{fffd}\u{fffd}\u{fffd}",
        ),
    ];
    for (arguments, expected) in replies {
        call(&mut server, "reply", arguments);
        assert_eq!(app.expect("reply")["content"], expected);
    }
    call(
        &mut server,
        "activity",
        br#"{"event":"UserPromptSubmit","prompt_id":"p1","prompt":"go \ud83d"}"#,
    );
    assert_eq!(app.expect("status")["status"], "thinking");
    call(&mut server, "activity", br#"{"event":"PreToolUse","prompt_id":"p1","tool_use_id":"t1","tool_name":"Bash","tool_input":"{\"command\":\"echo \\ud83d\"}"}"#);
    assert_eq!(app.expect("status")["detail"], "Bash: echo \u{fffd}");
    let params = r#"{"request_id":"abcde","tool_name":"Bash\ud83d","description":"\udc00","input_preview":"{\"command\":\"echo \\ud83d\"}"}"#;
    let notification =
        r#"{"jsonrpc":"2.0","method":"notifications/claude/channel/permission_request","params":"#;
    server.write(format!("{notification}{params}}}\n").as_bytes());
    let request = app.expect("permission_request");
    assert_eq!(
        (&request["tool_name"], &request["description"]),
        (&json!("Bash\u{fffd}"), &json!("\u{fffd}"))
    );

    // It ran with the input that the request shows, so it was allowed in the terminal.
    call(&mut server, "activity", br#"{"event":"PostToolUse","prompt_id":"p1","tool_use_id":"t1","tool_name":"Bash\ud83d","tool_input":"{ \"command\": \"echo \\ud83d\" }"}"#);
    assert_eq!(app.expect("permission_resolved")["by"], "terminal");
}

/// RFC 8259, section 8.1: it may be ignored.
#[test]
fn byte_order_mark_before_a_line_is_ignored() {
    for lines in [
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n",
        "\u{feff}\n\u{feff} {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n",
    ] {
        let mut server = Server::listening(&[]);
        server.write(lines.as_bytes());
        let answer = server.next_line();
        assert!(
            answer["id"] == 1 && answer["result"].is_object(),
            "{answer}"
        );
    }
}

/// Page by page, all messages are read, whatever they consist of.
#[test]
fn fetched_messages_have_24000_characters_at_most() {
    let mut server = Server::in_process(&["--history-size", "4MiB"]);
    let mut app = App::connect(&server, "s1");
    for number in 0..60 {
        app.send_message(&format!(
            "{number} {}",
            ["x", "🤖", "<channel"][number % 3].repeat(number * 100)
        ));
        server.next_message();
    }
    let mut before = None;
    let mut pages = 0;
    let mut seen = Vec::new();
    loop {
        let mut arguments = json!({ "session_id": "s1", "limit": 20 });
        if let Some(seq) = before {
            arguments["before"] = json!(seq);
        }
        let result = server.call("fetch_messages", &arguments);
        assert!(
            result.chars().count() <= 24_000,
            "{}",
            result.chars().count()
        );
        pages += 1;
        let numbers = result
            .lines()
            .filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok());
        seen.splice(0..0, numbers);
        let hint = "(there are earlier messages: call fetch_messages with \"before\": ";
        let Some(rest) = result.strip_prefix(hint) else {
            break;
        };
        let (seq, _) = rest.split_once(')').expect("the line ends");
        before = Some(seq.parse::<u64>().expect("it is a number"));
    }
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
    assert!(pages > 8, "{pages}");
    app.send_message(&"é".repeat(100_000));
    server.next_message();
    let result = server.call("fetch_messages", &json!({ "session_id": "s1" }));
    let (hint, line) = result.split_once('\n').expect("two lines");
    assert_eq!(
        hint,
        "(there are earlier messages: call fetch_messages with \"before\": 61)"
    );
    assert!(
        line.ends_with("é [cut off: this message has 100000 characters]"),
        "{line}"
    );
    assert!(
        (23_900..=24_000).contains(&result.chars().count()),
        "{}",
        result.chars().count()
    );
}

#[test]
fn fetched_messages_say_what_is_not_kept_any_more() {
    let mut server = Server::in_process(&["--history-ttl", "0", "--history-messages", "3"]);
    App::connect(&server, "s1").until_pong();
    server.wait_for_health(|health| health["clients"] == 0);
    // Nobody receives it, so it is the last to go.
    server.call("reply", &json!({ "chat_id": "s1", "text": "the answer" }));
    let mut app = App::connect(&server, "s2");
    for number in 2..=5 {
        app.send(&json!({ "type": "message", "session_id": "s1", "content": number.to_string() }));
        server.next_message();
    }
    let missing = "(messages 2 to 3 are not kept any more)";
    let all = ["assistant: the answer", missing, "user: 4", "user: 5"];
    assert_eq!(fetch(&mut server, 100, 100), all);
    let hint = "(there are earlier messages: call fetch_messages with \"before\": 4)";
    assert_eq!(
        fetch(&mut server, 2, 100),
        [&[hint][..], &all[1..]].concat()
    );
    assert_eq!(fetch(&mut server, 2, 4), all[..1]);
    // What is missing at the beginning is no earlier message.
    for number in 1..=4 {
        app.send_message(&number.to_string());
        server.next_message();
    }
    let result = server.call("fetch_messages", &json!({ "session_id": "s2" }));
    let first = result.lines().next();
    assert_eq!(first, Some("(message 1 is not kept any more)"));
}

/// Calls `fetch_messages` for the session `s1`, and returns the lines without times.
fn fetch(server: &mut Server, limit: u64, before: u64) -> Vec<String> {
    let arguments = json!({ "session_id": "s1", "limit": limit, "before": before });
    let result = server.call("fetch_messages", &arguments);
    let lines = result.lines().map(|line| match line.split_once("] ") {
        Some((_, said)) => said.to_owned(),
        None => line.to_owned(),
    });
    lines.collect()
}

#[test]
fn fetched_messages_that_are_only_on_disk_are_read() {
    let mut server = Server::in_process(&["--history-messages", "2"]);
    let mut app = App::connect(&server, "s1");
    for number in 1..=5 {
        app.send_message(&number.to_string());
        server.next_message();
    }
    let user = |number: u64| format!("user: {number}");
    let hint = |before| {
        format!("(there are earlier messages: call fetch_messages with \"before\": {before})")
    };
    assert_eq!(
        fetch(&mut server, 100, 100),
        (1..=5).map(user).collect::<Vec<_>>()
    );
    assert_eq!(
        fetch(&mut server, 3, 100),
        [hint(3), user(3), user(4), user(5)]
    );
    assert_eq!(fetch(&mut server, 2, 3), [user(1), user(2)]);
}

#[test]
fn messages_wait_until_agent_is_initialized() {
    for history_ttl in ["0", "30d"] {
        let mut server = Server::in_process_listening(&["--history-ttl", history_ttl]);
        let mut app = App::connect(&server, "s1");
        app.send(&json!({ "type": "message", "content": "early", "id": "a1" }));
        if history_ttl == "0" {
            assert_eq!(app.until_pong(), [] as [Value; 0], "it is not accepted yet");
        } else {
            assert_eq!(app.expect("delivery")["state"], "queued");
        }
        let result = server.request("initialize", &json!({ "protocolVersion": "2025-11-25" }));
        assert_eq!(result["protocolVersion"], "2025-11-25");
        assert_eq!(server.request("ping", &json!({})), json!({}));
        server.notify("notifications/initialized", &json!({}));
        assert_eq!(server.next_message()["content"], "early");
        assert_eq!(app.expect("delivery")["state"], "accepted");
    }
}

#[test]
fn own_tools_are_allowed_without_asking_clients() {
    let ask = |server: &mut Server, tool: &str| {
        let params = json!({
            "request_id": "abcde", "tool_name": tool, "description": "d", "input_preview": "{}",
        });
        server.notify("notifications/claude/channel/permission_request", &params);
    };
    let allowed = json!({ "request_id": "abcde", "behavior": "allow" });
    let verdict = "notifications/claude/channel/permission";

    let [plugin, raw, bridge] = [
        "mcp__plugin_claude-socket_claude-socket__",
        "mcp__claude-socket__",
        "mcp__bridge__",
    ];
    // The binary knows by its environment whether the plugin has started it.
    let servers = [
        (Server::start_as_plugin(&[]), plugin, [raw, bridge]),
        (Server::start(&[]), raw, [plugin, bridge]),
        (
            Server::start(&["--server-key", "bridge"]),
            bridge,
            [plugin, raw],
        ),
    ];
    for (mut server, own, others) in servers {
        let mut app = App::connect(&server, "s1");
        for tool in ["reply", "status", "fetch_messages"] {
            ask(&mut server, &format!("{own}{tool}"));
            assert_eq!(server.next_notification(verdict), allowed, "{own}{tool}");
        }
        assert_eq!(app.until_pong(), [] as [Value; 0]);
        let others = others.iter().map(|other| format!("{other}reply"));
        let strangers = ["mcp__other__reply", "reply"].map(str::to_owned);
        for tool in others.chain(strangers).chain([format!("{own}shell")]) {
            ask(&mut server, &tool);
            assert_eq!(app.next()["tool_name"], tool);
            app.send(
                &json!({ "type": "permission_response", "request_id": "abcde", "allowed": false }),
            );
            assert_eq!(app.expect("permission_resolved")["allowed"], false);
            assert_eq!(server.next_notification(verdict)["behavior"], "deny");
        }
    }

    let mut server = Server::in_process(&["--approve-own-tools", "false"]);
    let mut app = App::connect(&server, "s1");
    let own = format!("{plugin}reply");
    ask(&mut server, &own);
    assert_eq!(app.expect("permission_request")["tool_name"], own);
}
