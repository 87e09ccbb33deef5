//! `claude-socket demo`, as a newcomer would try it.

use std::io::{BufRead, BufReader, Lines};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Server, binary};

struct Demo {
    process: Child,
    address: SocketAddr,
    /// What it prints; it would miss a reader.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Its server ends with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the demo, and connects an app to the address that it prints.
fn start() -> (Demo, App) {
    let demo = start_with(binary().args(["demo", "--port", "0", "--pace", "1ms"]));
    let app = App::open(demo.address, "/");
    (demo, app)
}

fn start_with(command: &mut Command) -> Demo {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the demo starts");
    let stdout = process.stdout.take().expect("stdout is piped");
    let mut output = BufReader::new(stdout).lines();
    let mut find = |part: &str| {
        let mut lines = output.by_ref().map_while(Result::ok);
        let line = lines.find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("the demo prints no {part}"))
    };
    // First what a newcomer can open.
    let open = find("open ");
    let address = crate::server::address_in(&find("ws://"));
    assert!(open.ends_with(&format!(" http://{address}/")), "{open}");
    Demo {
        process,
        address,
        _output: output,
    }
}

/// Sends a message, and returns what comes back up to the status `idle`.
fn talk(app: &mut App, content: &str, verdict: bool) -> Vec<Value> {
    app.send_message(content);
    let mut heard = Vec::new();
    loop {
        let message = app.next();
        if message["type"] == "permission_request" {
            let answer = json!({
                "type": "permission_response",
                "request_id": message["request_id"],
                "allowed": verdict,
            });
            app.send(&answer);
        }
        let idle = message["status"] == "idle";
        heard.push(message);
        if idle {
            return heard;
        }
    }
}

fn reply(heard: &[Value]) -> &str {
    let mut replies = heard.iter().filter(|message| message["type"] == "reply");
    let reply = replies.next().and_then(|reply| reply["content"].as_str());
    assert!(replies.next().is_none(), "one reply is enough: {heard:?}");
    reply.unwrap_or_else(|| panic!("no reply: {heard:?}"))
}

#[test]
fn hello_gets_status_and_reply() {
    let (_demo, mut app) = start();
    let heard = talk(&mut app, "hello", true);
    let kinds: Vec<_> = heard
        .iter()
        .map(|message| (&message["type"], &message["status"]))
        .collect();
    let expected = [
        (&json!("status"), &json!("thinking")),
        (&json!("status"), &json!("tool_use")),
        (&json!("reply"), &Value::Null),
        (&json!("status"), &json!("idle")),
    ];
    assert_eq!(kinds, expected);
    assert!(reply(&heard).starts_with("Hello, user!"), "{heard:?}");
    for (said, part) in [
        ("what can you do?", "run date"),
        ("what did I say so far?", "user: hello"),
        ("What time is it?", "(UTC)"),
        ("Is this a question?", "> Is this a question?"),
        ("just some words", "> just some words"),
        ("show me markdown", "```sh"),
        ("forget to reply", "in the terminal only"),
    ] {
        let heard = talk(&mut app, said, true);
        assert!(reply(&heard).contains(part), "{said}: {heard:?}");
    }
}

/// The hooks of the fake agent cause the receipts and the stream.
#[test]
fn message_gets_receipts_statuses_and_stream() {
    let (_demo, mut app) = start();
    app.send(&json!({ "type": "hello", "stream": true }));
    app.expect("welcome");
    app.send(&json!({ "type": "message", "content": "run uname -a", "id": "a1" }));
    let mut streamed = String::new();
    let mut seen = Vec::new();
    loop {
        let message = app.next();
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        match text("type").as_str() {
            "stream" => streamed += &text("delta"),
            "delivery" => seen.push(text("state")),
            "status" => seen.push([text("status"), text("detail")].join(" ")),
            "permission_request" => app.send(&json!({
                "type": "permission_response",
                "request_id": message["request_id"],
                "allowed": true,
            })),
            "reply" => assert_eq!(text("content"), streamed),
            other => seen.push(other.to_owned()),
        }
        if message["status"] == "idle" {
            break;
        }
    }
    let expected = [
        "accepted",
        "seen",
        "thinking ",
        "tool_use Bash: uname -a",
        "permission_resolved",
        "thinking ",
        "answered",
        "idle ",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn pending_prompt_does_not_block_other_session() {
    let (demo, mut ann) = start();
    let mut bob = App::open(demo.address, "/?session=other");
    ann.send_message("run date");
    while ann.next()["type"] != "permission_request" {}
    bob.send_message("hello");
    let mut heard = Vec::new();
    while heard.last() != Some(&json!("idle")) {
        let message = bob.next();
        heard.push(if message["type"] == "status" {
            message["status"].clone()
        } else {
            message["type"].clone()
        });
    }
    assert!(heard.contains(&json!("reply")), "{heard:?}");
}

#[test]
fn command_runs_only_if_allowed() {
    let (_demo, mut app) = start();
    let heard = talk(&mut app, "run uname -a", true);
    let request = heard
        .iter()
        .find(|message| message["type"] == "permission_request");
    let request = request.expect("the demo asks first");
    assert_eq!(request["tool_name"], "Bash");
    assert_eq!(request["input_preview"], r#"{"command":"uname -a"}"#);
    assert!(reply(&heard).contains("`uname -a` says:"), "{heard:?}");

    let heard = talk(&mut app, "please run uname -a", false);
    assert_eq!(reply(&heard), "All right, I won't run `uname -a`.");

    let heard = talk(&mut app, "run rm -rf /", true);
    assert!(
        reply(&heard).contains("Claude would run `rm -rf /` now"),
        "{heard:?}"
    );
}

#[test]
fn server_ends_with_demo() {
    let (demo, mut app) = start();
    drop(demo);
    assert_eq!(app.close_code(), 1001);
}

/// Settings of the server may stand before the command or behind it. The address is known whatever
/// is logged.
#[test]
fn server_settings_are_passed_on_and_log_stays_off() {
    for arguments in [
        [
            "--port",
            "0",
            "--max-message",
            "100",
            "demo",
            "--log-level",
            "warn",
        ],
        [
            "demo",
            "--port",
            "0",
            "--max-message",
            "100",
            "--log-level",
            "off",
        ],
    ] {
        let mut command = binary();
        command.args(arguments);
        let demo = start_with(command.env("CLAUDE_SOCKET_LOG_LEVEL", "off"));
        let mut app = App::open(demo.address, "/?session=s1");
        app.send_message(&"x".repeat(100));
        assert_eq!(app.expect("error")["code"], "too_large");
    }
}

#[test]
fn demo_without_reader_goes_on() {
    let mut command = binary();
    let mut server = Server::spawn(command.args(["demo", "--port", "0"]));
    server.address = crate::server::address_in(&server.wait_for_log("listening on "));
    let mut app = App::connect(&server, "s1");
    let heard = talk(&mut app, "hello", true);
    assert!(reply(&heard).starts_with("Hello"), "{heard:?}");
}

#[test]
fn taken_port_is_explained_with_another_to_use() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = taken.local_addr().expect("the listener is bound").port();
    let mut process = binary()
        .args(["demo", "--log-level", "off", "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let stdout = process.stdout.take().expect("stdout is piped");
    let mut output = BufReader::new(stdout).lines().map_while(Result::ok);
    let hint = output.find(|line| line.contains("another port"));
    let hint = hint.expect("the demo prints a hint");
    assert!(hint.ends_with("claude-socket demo --port 0"), "{hint}");
    // It takes the port as soon as that is free.
    drop(taken);
    let banner = output.find(|line| line.contains("ws://"));
    let banner = banner.expect("the demo prints where it listens");
    assert!(
        banner.contains(&format!("ws://127.0.0.1:{port}/")),
        "{banner}"
    );
    process.kill().expect("the demo runs");
    process.wait().expect("the demo ends");
}
