//! Faults of the agent.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Scene, faults};
use crate::app::App;
use crate::server::{Server, address_in, binary, text_of};
use crate::state::State;

faults! {
    /// Each line gets an error and has no other effect.
    garbage_lines_get_errors(scene) [] {
        let deep = "[".repeat(100_000);
        let mut lines: Vec<Vec<u8>> = [
            "{", "}", "null", "\"\"", "1e999", "[]", "{}", "\u{feff}{}", "\0", "{\"id\":1,\"id\":2}",
            r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"reply","arguments":7,"name":7}}"#,
            &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{deep}"#),
            &deep,
        ]
        .map(|line| line.as_bytes().to_vec())
        .to_vec();
        let mut random = 1_u64;
        for length in 1..1_000 {
            let bytes = (0..length).map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Never a line end.
                (random >> 56) as u8 | 0x80
            });
            lines.push(bytes.collect());
        }
        for line in lines {
            scene.agent.write(&[&line[..], b"\r\n"].concat());
            let answer = scene.agent.response();
            assert!(answer["error"]["code"].is_i64(), "{answer}");
        }
    }

    line_of_100_megabytes_gets_error(scene) [] {
        scene.agent.write_slowly(|stdin| {
            let part = vec![b'x'; 1_000_000];
            stdin.write_all(br#"{"jsonrpc":"2.0","id":1,"method":""#).expect("the server reads");
            (0..100).for_each(|_| stdin.write_all(&part).expect("the server reads"));
            stdin.write_all(b"\"}\n").expect("the server reads");
        });
        assert_eq!(scene.agent.response()["error"]["code"], -32600);
    }

    half_a_line_delays_nobody(scene) [] {
        scene.agent.write_slowly(|stdin| {
            stdin.write_all(br#"{"jsonrpc":"2.0","id":1,"#).expect("the server reads");
            scene.healthy.wait_for_rounds(20);
            stdin.write_all(b"\"method\":\"ping\"}\n").expect("the server reads");
        });
        assert_eq!(scene.agent.response()["result"], json!({}));
    }

    unread_messages_are_delivered_later(scene) [] {
        scene.agent.stop_reading();
        // Less than an inbox holds, as senders wait beyond that, the healthy client, too.
        let text = "x".repeat(10_000);
        let mut apps: Vec<App> = (0..10)
            .map(|number| App::connect(&scene.agent.server, &format!("s{number}")))
            .collect();
        for app in &mut apps {
            for number in 0..8 {
                app.send(&json!({ "type": "message", "content": text, "id": number.to_string() }));
            }
        }
        scene.healthy.wait_for_rounds(20);
        scene.agent.resume_reading();
        for _ in 0..80 {
            assert_eq!(scene.agent.next_message()["content"], text);
        }
        for app in &mut apps {
            for number in 0..8 {
                assert_eq!(app.expect("delivery")["id"], number.to_string());
            }
            assert_eq!(app.until_pong(), [] as [Value; 0]);
        }
    }

    /// All of them are written before the first response is read.
    ten_thousand_tool_calls_at_once_are_answered(scene) [] {
        let mut app = App::connect(&scene.agent.server, "s1");
        for id in 0..10_000 {
            let arguments = json!({ "chat_id": "s1", "status": "thinking", "detail": id.to_string() });
            let params = json!({ "name": "status", "arguments": arguments });
            scene.agent.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }));
        }
        for id in 0..10_000 {
            let answer = scene.agent.response();
            assert_eq!((&answer["id"], text_of(&answer["result"])), (&json!(id), "sent".to_owned()));
        }
        for id in 0..10_000 {
            assert_eq!(app.expect("status")["detail"], id.to_string());
        }
    }
}

/// They are answered at once, and messages wait.
#[test]
fn requests_before_initialize_are_answered() {
    let mut server = Server::listening(&[]);
    let mut early = App::connect(&server, "s1");
    early.send_message("early");
    early.until_pong();
    let tools = server.request("tools/list", &json!({}));
    assert_eq!(tools["tools"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        server.call("reply", &json!({ "chat_id": "s1", "text": "hi" })),
        "sent"
    );
    assert_eq!(early.expect("reply")["content"], "hi");
    let request = json!({ "request_id": "abcde", "tool_name": "Bash" });
    server.notify("notifications/claude/channel/permission_request", &request);
    assert_eq!(early.expect("permission_request")["request_id"], "abcde");
    assert_eq!(
        server.request("server/discover", &json!({}))["code"],
        -32601
    );
    // Otherwise the healthy client would get the request too.
    early.send(&json!({ "type": "permission_response", "request_id": "abcde", "allowed": false }));
    let verdict = server.next_notification("notifications/claude/channel/permission");
    assert_eq!(verdict["behavior"], "deny");
    Scene::with(server).play(|scene| {
        assert_eq!(scene.agent.next_message()["content"], "early");
        drop(early);
    });
}

#[test]
fn closed_stdin_ends_server() {
    Scene::start(&[]).play_to_the_end(|scene| {
        scene.agent.suspend_replies();
        scene.agent.close_stdin();
    });
}

#[test]
fn closed_stdout_ends_server() {
    let (server, output) = server_with_socket_as_output();
    Scene::with(server).play_to_the_end(|scene| {
        scene.agent.suspend_replies();
        output.shutdown(Shutdown::Both).expect("the socket is open");
    });
}

/// The same while the server writes nothing.
#[test]
fn closed_stdout_ends_idle_server() {
    let (mut server, output) = server_with_socket_as_output();
    server.initialize();
    let mut app = App::connect(&server, "s1");
    output.shutdown(Shutdown::Both).expect("the socket is open");
    let (status, took) = server.wait_for_exit();
    assert!(
        status.success() && took < Duration::from_secs(1),
        "{status} {took:?}"
    );
    assert_eq!(app.close_code(), 1001);
}

fn server_with_socket_as_output() -> (Server, UnixStream) {
    let (test, output) = UnixStream::pair().expect("the system makes sockets");
    let state = State::new();
    let child = binary()
        .args(["--port", "0", "--state-dir", state.path()])
        .stdin(Stdio::piped())
        .stdout(OwnedFd::from(output))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut server =
        Server::from_child(child, test.try_clone().expect("a socket can be duplicated"));
    server.state = Some(state);
    server.address = address_in(&server.wait_for_log("listening on "));
    (server, test)
}

/// A client that resends the messages without a receipt gets each of them delivered once.
#[test]
fn resent_messages_are_delivered_once_after_restart() {
    for is_killed in [false, true] {
        const MESSAGES: u64 = 40;
        let mut before = Server::start(&[]);
        let port = before.address.port().to_string();
        let mut app = App::connect(&before, "s1");
        let message = |number: u64| json!({ "type": "message", "content": number.to_string(), "id": number.to_string() });
        (0..MESSAGES).for_each(|number| app.send(&message(number)));
        let mut received: Vec<Value> = (0..MESSAGES / 2)
            .map(|_| before.next_message()["content"].clone())
            .collect();
        let mut accepted: Vec<Value> = received
            .iter()
            .map(|_| app.expect("delivery")["id"].clone())
            .collect();
        // From here on nobody reads the server's lines, except for one that is read ahead.
        if is_killed {
            before.child().kill().expect("the server runs");
        } else {
            drop(before.stdin.take());
        }
        before.child().wait().expect("the child can be waited for");
        received.extend(
            before
                .lines()
                .try_iter()
                .map(|line| line["params"]["content"].clone()),
        );
        while let Ok(message) = app.socket.read() {
            let Ok(text) = message.to_text() else {
                continue;
            };
            let Ok(message) = serde_json::from_str::<Value>(text) else {
                continue;
            };
            if message["state"] == "accepted" {
                accepted.push(message["id"].clone());
            }
        }
        drop(before);
        Scene::with(Server::listening(&["--port", &port])).play(|scene| {
            let mut app = App::connect(&scene.agent.server, "s1");
            let unknown: Vec<u64> = (0..MESSAGES)
                .filter(|number| !accepted.contains(&json!(number.to_string())))
                .collect();
            for number in &unknown {
                // Twice, to check that it is delivered once.
                app.send(&message(*number));
                app.send(&message(*number));
            }
            for number in &unknown {
                assert_eq!(scene.agent.next_message()["content"], number.to_string());
            }
            app.until_pong();
            assert!(
                scene.agent.messages.is_empty(),
                "no message is delivered twice"
            );
        });
    }
}
