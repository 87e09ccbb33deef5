//! The audit: what the log and the audit file record of who connected and who decided.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::access::{connect, shake, text};
use crate::app::App;
use crate::hooks::call_activity;
use crate::server::{Server, binary, status_of};
use crate::state::State;

/// A head may have 64 KiB, and whoever is refused must not fill the disk with it.
#[test]
fn refused_headers_are_recorded_with_256_characters() {
    let state = State::new();
    let audit = state.file().with_file_name("audit");
    fs::create_dir_all(state.path()).expect("the folder is writable");
    let path = audit.to_str().expect("the path is text");
    let mut server = Server::start(&["--state-dir", state.path(), "--audit", path]);
    let long = "x".repeat(60_000);
    let host = server.address.to_string();
    let headers = [
        format!("Host: {long}\r\n"),
        format!("Host: {host}\r\nOrigin: {long}\r\n"),
        format!("Host: {host}\r\nOrigin: https://{long}.example\r\n"),
        format!("Host: {host}\r\nVia: {long}\r\n"),
    ];
    for headers in &headers {
        let answer = server.http(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes());
        assert_eq!(status_of(&answer), 403, "{answer}");
    }
    drop(server.stdin.take());
    let log: Vec<String> = server.log.iter().collect();
    assert!(server.wait_for_exit().0.success());
    let lines = fs::read_to_string(&audit).expect("the audit file exists");
    let refused = |line: &&str| line.contains("refused");
    let records = log.iter().map(String::as_str).chain(lines.lines());
    let records: Vec<&str> = records.filter(refused).collect();
    assert_eq!(records.len(), 2 * headers.len(), "{records:?}");
    for record in records {
        let repeated = record.matches('x').count();
        assert!(repeated <= 256 + 20, "{repeated} of {record}");
    }
}

/// Who, from where, as whom, and what they decided; never the content of a message, nor a token.
#[test]
fn log_and_audit_file_record_who_did_what() {
    let state = State::new();
    let [ann, dev] = [
        state.add("ann", "operator", None),
        state.add("dev", "sender", Some("s*")),
    ];
    let audit = state.file().with_extension("audit");
    let mut server = Server::start(&[
        "--state-dir",
        state.path(),
        "--audit",
        audit.to_str().expect("the path is text"),
        "--log-level",
        "trace",
    ]);
    let mut apps = [connect(&server, "s1", &ann), connect(&server, "s1", &dev)];
    apps[1].send_message("a secret");
    assert_eq!(server.next_message()["content"], "a secret");
    let verdict = json!({ "type": "permission_response", "request_id": "abcde", "allowed": true });
    apps[1].send(&verdict);
    apps[1].expect("error");
    apps[1].send(&verdict);
    apps[1].expect("error");
    let request = json!({ "request_id": "abcde", "tool_name": "Ba\nsh", "description": "a secret", "input_preview": "a secret" });
    server.notify("notifications/claude/channel/permission_request", &request);
    apps[0].expect("user_message");
    apps[0].expect("permission_request");
    apps[0].send(&verdict);
    assert_eq!(
        server.next_notification("notifications/claude/channel/permission")["behavior"],
        "allow"
    );
    apps[0].expect("permission_resolved");
    let own = json!({ "request_id": "fghij", "tool_name": "mcp__claude-socket__reply" });
    server.notify("notifications/claude/channel/permission_request", &own);
    server.next_notification("notifications/claude/channel/permission");
    assert_eq!(
        status_of(&shake(&server, "/?token=wrong-token", "Referer: x\r\n")),
        401
    );
    assert_eq!(
        status_of(&shake(&server, &format!("/?session=house&token={dev}"), "")),
        403
    );
    drop(apps);
    server.token = Some(ann.clone());
    server.wait_for_health(|health| health["clients"] == 0);
    drop(server.stdin.take());
    let log: Vec<String> = server.log.iter().collect();
    assert!(server.wait_for_exit().0.success());
    let log = log.join("\n");
    let lines = fs::read_to_string(&audit).expect("the audit file exists");
    for secret in [&ann, &dev, "a secret", "wrong-token"] {
        assert!(
            !log.contains(secret) && !lines.contains(secret),
            "{secret}: {log}\n{lines}"
        );
    }
    for part in [
        "is in session \"s1\" as operator \"ann\"",
        "as sender \"dev\" for sessions \"s*\"",
        "ann at client-1 allowed Ba\\nsh (abcde)",
        "claude-socket allowed mcp__claude-socket__reply (fghij)",
        "is refused: 401, this token is not known",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(
        fs::metadata(&audit)
            .expect("the audit file exists")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let count = |wanted: Value| {
        let matches = |line: &&Value| {
            wanted
                .as_object()
                .expect("the case is an object")
                .iter()
                .all(|(name, value)| line[name] == *value)
        };
        lines.iter().filter(matches).count()
    };
    let cases = [
        json!({ "event": "connected", "user": "ann", "role": "operator", "session": "s1", "client": "client-1" }),
        json!({ "event": "connected", "user": "dev", "role": "sender", "session": "s1" }),
        json!({ "event": "disconnected", "client": "client-1" }),
        json!({ "event": "forbidden", "user": "dev" }),
        json!({ "event": "verdict", "user": "ann", "tool": "Ba\nsh", "request_id": "abcde", "allowed": true, "client": "client-1" }),
        json!({ "event": "verdict", "user": "claude-socket", "request_id": "fghij", "client": null }),
        json!({ "event": "refused", "status": 401 }),
        json!({ "event": "refused", "status": 403 }),
    ];
    for case in cases {
        assert_eq!(count(case.clone()), 1, "{case}: {lines:#?}");
    }
    for line in &lines {
        assert!(
            line["ts"].as_str().is_some_and(|ts| ts.ends_with('Z')),
            "{line}"
        );
        assert_eq!(
            line["from"].is_string(),
            line["event"] == "connected" || line["event"] == "refused",
            "{line}"
        );
    }
}

/// A tool's name comes from Claude Code. No part of it may pass for a line of the log.
#[test]
fn tool_name_with_line_ends_is_escaped_in_log() {
    let mut server = Server::start(&["--log-level", "info"]);
    let mut app = App::connect(&server, "s1");
    let name = "Ba\nsh\u{1b}[2J";
    for id in ["abcde", "fghij"] {
        let request = json!({ "request_id": id, "tool_name": name, "input_preview": format!("{{ \"a\": \"{id}\" }}") });
        server.notify("notifications/claude/channel/permission_request", &request);
        app.expect("permission_request");
    }
    let ran =
        json!({ "event": "PostToolUse", "tool_name": name, "tool_input": "{\"a\":\"abcde\"}" });
    call_activity(&mut server, &ran);
    server.wait_for_log("Ba\\nsh\\u{1b}[2J (abcde) was allowed in the terminal");
    call_activity(&mut server, &json!({ "event": "Stop" }));
    server.wait_for_log("Ba\\nsh\\u{1b}[2J (fghij) was denied in the terminal");
}

/// A full disk costs lines of the audit file, and one line of the log.
#[test]
#[cfg(target_os = "linux")]
fn full_disk_costs_only_audit_lines() {
    let mut server = Server::start(&["--audit", "/dev/full"]);
    for _ in 0..3 {
        let mut app = App::connect(&server, "s1");
        app.send_message("hello");
        assert_eq!(server.next_message()["content"], "hello");
    }
    drop(server.stdin.take());
    let log: Vec<String> = server.log.iter().collect();
    assert!(server.wait_for_exit().0.success());
    let told = log.iter().filter(|line| line.contains("/dev/full")).count();
    assert_eq!(told, 1, "{log:#?}");

    let output = binary()
        .args(["--audit", "/nowhere/at/all"])
        .output()
        .expect("claude-socket runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains("CLAUDE_SOCKET_AUDIT") && stderr.contains("/nowhere/at/all"),
        "{stderr}"
    );
}
