//! The commands of `claude-socket-cli`: each exit code, each command, and a chat in a terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use claude_socket::sanitize;
use crossbeam_channel::{Receiver, unbounded};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::app::App;
use crate::client::between;
use crate::hooks::{call_activity, channel_tag};
use crate::prepare::prepare;
use crate::server::{Server, TEST_TIMEOUT, address_in, binary};
use crate::state::State;

/// Returns a command that connects to this port.
fn command(port: u16, arguments: &[&str]) -> Command {
    let mut command = binary();
    command
        .env_remove("USER")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    command.args(arguments).args(["--port", &port.to_string()]);
    command
}

/// Runs a command with this text on stdin.
fn run(command: &mut Command, stdin: &str) -> Output {
    let mut child = start(command.stdin(Stdio::piped()));
    let mut pipe = child.stdin.take().expect("the stream is piped");
    // A command that reads nothing closes the pipe.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    child.wait_with_output().expect("the program runs")
}

fn start(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

fn send(server: &Server, arguments: &[&str], stdin: &str) -> Output {
    let mut command = command(server.address.port(), &["send"]);
    run(command.args(arguments), stdin)
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("the listener is bound").port()
}

fn reply(server: &mut Server, text: &str) {
    server.call("reply", &json!({ "chat_id": "default", "text": text }));
}

#[test]
fn send_ends_when_message_is_accepted() {
    let server = Server::start(&[]);
    let cases: [(&[&str], &str, &str); 4] = [
        (
            &["from the argument", "--user", "cron"],
            "",
            "from the argument",
        ),
        (&["-"], "from a pipe\n", "from a pipe"),
        (&[], "two\nlines\n\n", "two\nlines"),
        (&[], "\u{feff}of a file\r\n", "of a file"),
    ];
    for (arguments, stdin, expected) in cases {
        let output = send(&server, arguments, stdin);
        assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
        assert_eq!(printed(&output), "");
        let heard = server.next_message();
        assert_eq!(heard["content"], expected);
        let user = if arguments.len() > 1 { "cron" } else { "user" };
        assert_eq!(heard["meta"]["user"], user);
    }
    let output = send(&server, &["x", "--json", "--session", "s1"], "");
    assert_eq!(server.next_message()["meta"]["chat_id"], "s1");
    let report: Value = serde_json::from_str(&printed(&output)).expect("the output is JSON");
    assert_eq!(
        (&report["state"], &report["seq"]),
        (&json!("accepted"), &json!(1))
    );
}

#[test]
fn send_with_wait_prints_answer() {
    let mut server = Server::start(&[]);
    let port = server.address.port();
    for json in [false, true] {
        let mut command = command(port, &["send", "how warm?", "--wait"]);
        let child = start(command.args(json.then_some("--json")));
        assert_eq!(server.next_message()["content"], "how warm?");
        reply(&mut server, "21 °C\nor so");
        let output = child.wait_with_output().expect("the program runs");
        assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
        if json {
            let report: Value =
                serde_json::from_str(&printed(&output)).expect("the output is JSON");
            assert_eq!(report["state"], "answered");
            assert_eq!(report["answer"]["content"], "21 °C\nor so");
        } else {
            assert_eq!(printed(&output), "21 °C\nor so\n");
        }
    }
}

#[test]
fn failing_send_has_exit_code_and_sentence_of_its_own() {
    let server = Server::start(&["--max-message", "1KiB"]);
    let long = "x".repeat(2_000);
    let cases: [(&[&str], u8, &str, &str); 7] = [
        (&[&long], 1, "refused", "1024"),
        (&["--wait=soon", "x"], 2, "", "--wait cannot be \"soon\""),
        (&["x", "--session", ""], 2, "", "--session"),
        (&["--wait", "10s"], 2, "usage", "--wait=10s"),
        (&[""], 2, "usage", "nothing to send"),
        (&[], 2, "usage", "nothing to send"),
        (&["anyone?", "--wait=50ms"], 3, "timed_out", "50ms"),
    ];
    for (arguments, code, state, why) in cases {
        let output = send(&server, arguments, "");
        assert_eq!(
            output.status.code(),
            Some(code.into()),
            "{arguments:?}: {}",
            complained(&output)
        );
        assert!(complained(&output).contains(why), "{}", complained(&output));
        assert_eq!(printed(&output), "", "stdout is for the answer");
        if state.is_empty() {
            continue;
        }
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let output = send(&server, &arguments, "");
        assert_eq!(output.status.code(), Some(code.into()));
        let report: Value = serde_json::from_str(&printed(&output)).expect("the output is JSON");
        assert_eq!(report["state"], state);
    }
}

/// Claude Code had it, and so nobody says that the server refused it.
#[test]
fn send_tells_message_that_is_lost_from_one_that_was_rejected() {
    let sent = |server: &Server, json: bool| {
        let mut command = command(server.address.port(), &["send", "anyone?", "--wait"]);
        start(command.args(json.then_some("--json")))
    };
    let ended = |mut server: Server, child: Child| {
        drop(server.stdin.take());
        child.wait_with_output().expect("the program runs")
    };
    let why = "Claude Code has ended, and whether it has seen this message is unknown";
    for json in [false, true] {
        let server = Server::start(&[]);
        let child = sent(&server, json);
        server.next_message();
        let output = ended(server, child);
        let said = [printed(&output), complained(&output)].concat();
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(said.contains(r#""state":"lost""#), json, "{said}");
    }
    let server = proven(&["--history-ttl", "0"]);
    let child = sent(&server, true);
    server.next_message();
    let output = ended(server, child);
    let said = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        r#""code":"host_closed""#,
        "has ended and has not seen the message",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

/// Returns a server whose hooks have proven to work, after one message.
fn proven(flags: &[&str]) -> Server {
    let mut server = Server::start_as_plugin(flags);
    let mut app = App::connect(&server, "default");
    app.send_message("first");
    see(&mut server, "first");
    server
}

/// Takes the next message and has a hook report it as seen.
fn see(server: &mut Server, content: &str) {
    let meta = server.next_message()["meta"].take();
    let prompt = channel_tag(&meta, content);
    let seen = json!({ "event": "UserPromptSubmit", "prompt_id": "p1", "prompt": prompt });
    call_activity(server, &seen);
}

/// Claude Code has ended without having seen it, so it waits on disk, and so does `send`.
#[test]
fn send_with_wait_gets_answer_of_next_claude_code() {
    let state = State::new();
    let port = free_port();
    let flags = ["--state-dir", state.path(), "--port", &port.to_string()];
    let server = proven(&flags);
    let child = start(&mut command(port, &["send", "anyone?", "--wait"]));
    server.next_message();
    server.end();
    let mut server = Server::start_as_plugin(&flags);
    see(&mut server, "anyone?");
    // The answer is for who is there.
    server.wait_for_health(|health| health["clients"] == 1);
    reply(&mut server, "yes");
    let output = child.wait_with_output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
    assert_eq!(printed(&output), "yes\n");
}

/// Other tests of `send` have a pipe on stdin, and so never reach this sentence.
#[test]
fn send_without_text_on_terminal_asks_for_text() {
    let (_keyboard, side) = pseudo_terminal();
    let mut command = command(free_port(), &["send"]);
    let output = start(command.stdin(side()))
        .wait_with_output()
        .expect("send ends");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        complained(&output),
        "claude-socket: there is nothing to send; give a text, or pipe one in\n"
    );
}

/// Starting `claude` takes seconds. The doctor does; the others must fail at once.
#[test]
fn commands_without_server_point_to_doctor_and_never_start_claude() {
    let folder = folder("claude-that-records");
    let record = folder.join("started");
    program(
        &folder,
        "claude",
        &format!("echo \"$*\" >>'{}'", record.display()),
    );
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let port = free_port();
    let commands: [&[&str]; 4] = [&["send", "x"], &["watch"], &["history"], &["open"]];
    for arguments in commands {
        let mut command = command(port, arguments);
        let output = run(command.env("PATH", &path), "");
        let said = complained(&output);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {said}");
        assert_eq!(
            said,
            format!(
                "claude-socket: nothing listens on 127.0.0.1:{port}; to see what to do, run: claude-socket doctor\n"
            )
        );
    }
    let mut chat = Terminal::chat(port, &[], &[("PATH", &path)]);
    chat.shows("run: claude-socket doctor");
    assert!(!record.exists(), "claude was started");
    // The record works: the doctor leaves one.
    run(command(port, &["doctor"]).env("PATH", &path), "");
    assert!(record.exists(), "the doctor starts claude");
}

#[test]
fn token_is_taken_from_environment() {
    let state = State::new();
    let token = state.add("ann", "operator", None);
    let viewer = state.add("eve", "viewer", None);
    let mut server = Server::listening(&["--state-dir", state.path()]);
    server.token = Some(token.clone());
    server.initialize();
    let port = server.address.port();
    let try_with = |token: &str| {
        let mut command = command(port, &["send", "x"]);
        run(command.env("CLAUDE_SOCKET_TOKEN", token), "")
    };
    let output = try_with("");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complained(&output).contains("CLAUDE_SOCKET_TOKEN"),
        "{}",
        complained(&output)
    );
    let output = try_with("0123456789abcdef0123456789abcdef");
    assert_eq!(output.status.code(), Some(1));
    let output = try_with(&viewer);
    assert_eq!(output.status.code(), Some(1), "{}", complained(&output));
    assert!(
        complained(&output).contains("viewer"),
        "{}",
        complained(&output)
    );
    let output = try_with(&token);
    assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
    assert_eq!(server.next_message()["meta"]["user"], "ann");
}

#[test]
fn send_over_rate_of_token_says_when_to_try_again() {
    let state = State::new();
    let dev = state.add_with("dev", "sender", &["--rate", "1/d"]);
    let mut server = Server::listening(&["--state-dir", state.path()]);
    server.initialize();
    let try_with = |arguments: &[&str]| {
        let mut command = command(server.address.port(), &["send", "x"]);
        let command = command.args(arguments).env("CLAUDE_SOCKET_TOKEN", &dev);
        run(command, "")
    };
    let output = try_with(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
    let output = try_with(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", complained(&output));
    let why = "this token's rate of 1/d is used up; send the message again in ";
    assert!(complained(&output).contains(why), "{}", complained(&output));
    let output = try_with(&["--json"]);
    let report: Value = serde_json::from_str(&printed(&output)).expect("the output is JSON");
    assert_eq!(
        (&report["state"], &report["code"]),
        (&json!("refused"), &json!("busy"))
    );
    let seconds = report["retry_after"].as_u64();
    assert!(
        seconds.is_some_and(|seconds| (1..=86_400).contains(&seconds)),
        "{report}"
    );
}

#[test]
fn refusal_is_told_with_its_code() {
    let state = State::new();
    let token = state.add("shed", "sender", Some("shed-1"));
    let server = Server::listening(&["--state-dir", state.path()]);
    let refused = |arguments: &[&str]| {
        let mut command = command(server.address.port(), arguments);
        let output = run(command.env("CLAUDE_SOCKET_TOKEN", &token), "");
        assert_eq!(output.status.code(), Some(1), "{}", complained(&output));
        output
    };
    let sentence = "this token is for sessions \"shed-1\" and not for \"default\"";
    for arguments in [&["send", "x"][..], &["watch"], &["history"]] {
        let why = complained(&refused(arguments));
        assert!(why.contains(sentence), "{why}");
    }
    let json = |arguments: &[&str], fields: [&str; 3]| {
        let line = printed(&refused(arguments));
        let said: Value = serde_json::from_str(&line).expect("the output is JSON");
        let [state, code, why] = fields.map(|field| said[field].as_str().unwrap_or_default());
        assert_eq!((state, code), ("refused", "forbidden_session"), "{said}");
        assert!(why.starts_with(sentence), "{said}");
    };
    json(&["send", "x", "--json"], ["state", "code", "error"]);
    json(&["watch", "--json"], ["type", "code", "message"]);
}

#[test]
fn watch_prints_one_line_per_event_and_no_control_characters() {
    let mut server = Server::start(&[]);
    let port = server.address.port();
    for json in [false, true] {
        let mut command = command(port, &["watch"]);
        let mut child = start(command.args(json.then_some("--json")));
        let mut lines = BufReader::new(child.stdout.take().expect("the stream is piped")).lines();
        let mut line = || {
            lines
                .next()
                .expect("the terminal shows more")
                .expect("the output is text")
        };
        let first = line();
        assert!(
            first.contains(if json {
                r#""type":"welcome""#
            } else {
                "connected"
            }),
            "{first}"
        );
        let mut app = App::connect(&server, "default");
        app.send(&json!({ "type": "message", "content": "a\u{1b}[2Jb\nc", "user": "bob" }));
        server.next_message();
        let said = line();
        assert!(!said.contains('\u{1b}'), "{said:?}");
        if json {
            let message: Value = serde_json::from_str(&said).expect("the output is JSON");
            assert_eq!(message["content"], "a\u{1b}[2Jb\nc");
        } else {
            assert!(said.ends_with(r"bob: a\u{1b}[2Jb\nc"), "{said}");
        }
        server.call(
            "status",
            &json!({ "chat_id": "default", "status": "thinking" }),
        );
        assert!(line().contains("think"));
        reply(&mut server, "done");
        assert!(line().contains("done"));
        // Otherwise the status would be the first thing that the next one shows.
        server.call("status", &json!({ "chat_id": "default", "status": "idle" }));
        // By its own process id.
        child.kill().expect("the program runs");
        child.wait().expect("the program ends");
    }
}

fn history(port: u16, arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let output = run(command(port, &["history"]).args(arguments), "");
    let lines = printed(&output).lines().map(str::to_owned).collect();
    (output.status.code(), lines, complained(&output))
}

#[test]
fn history_prints_what_was_said_and_no_control_characters() {
    let mut server = Server::start(&[]);
    let port = server.address.port();
    assert_eq!(history(port, &[]), (Some(0), Vec::new(), String::new()));
    let mut app = App::connect(&server, "default");
    let ts = "2026-01-02T03:04:05Z";
    app.send(&json!({ "type": "message", "content": "a\u{1b}[2Jb\nc", "user": "bob", "ts": ts }));
    server.next_message();
    reply(&mut server, "done");
    let (code, lines, why) = history(port, &[]);
    assert_eq!((code, lines.len()), (Some(0), 2), "{why}");
    assert!(
        lines[0].starts_with("2026-01-02 03:04:05 bob"),
        "{}",
        lines[0]
    );
    assert!(lines[0].ends_with(r"a\u{1b}[2Jb\nc"), "{}", lines[0]);
    assert!(lines[1].ends_with("claude: done"), "{}", lines[1]);
    let (_, lines, _) = history(port, &["--json", "--limit", "1"]);
    let item: Value = serde_json::from_str(&lines[0]).expect("the output is JSON");
    assert_eq!(
        (lines.len(), &item["content"], &item["session_id"]),
        (1, &json!("done"), &json!("default"))
    );
    assert_eq!(history(port, &["--since", "1"]).1.len(), 1);

    for (arguments, why) in [
        (&["--limit", "0"][..], "whole number from 1 on"),
        (&["--search", "x", "--limit", "101"], "give 100 at most"),
        (&["--search", "x", "--since", "1"], "--since"),
    ] {
        let (code, _, said) = history(port, arguments);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

/// More messages than one answer of the server has, from the end and from the beginning.
#[test]
fn history_goes_on_over_several_answers() {
    let mut server = Server::start(&["--history-messages", "400"]);
    let port = server.address.port();
    let _somebody = App::connect(&server, "default");
    for number in 1..=230 {
        reply(&mut server, &number.to_string());
    }
    let seqs = |arguments: &[&str]| -> Vec<u64> {
        let (code, lines, why) = history(port, &[arguments, &["--json"]].concat());
        assert_eq!(code, Some(0), "{why}");
        let seq = |line: &String| {
            let item: Value = serde_json::from_str(line).expect("the output is JSON");
            item["seq"].as_u64().expect("an item has a seq")
        };
        lines.iter().map(seq).collect()
    };
    assert_eq!(seqs(&["--limit", "205"]), Vec::from_iter(26..=230));
    assert_eq!(seqs(&["--limit", "1000"]), Vec::from_iter(1..=230));
    assert_eq!(
        seqs(&["--limit", "150", "--since", "20"]),
        Vec::from_iter(21..=170)
    );
    assert_eq!(
        seqs(&["--limit", "110", "--before", "201"]),
        Vec::from_iter(91..=200)
    );
    assert_eq!(
        seqs(&["--since", "10", "--before", "13"]),
        Vec::from_iter(11..=12)
    );
}

#[test]
fn history_finds_words_in_all_sessions_or_one() {
    let server = Server::start(&[]);
    let port = server.address.port();
    for session in ["s1", "s2"] {
        let mut app = App::connect(&server, session);
        app.send_message("Please open the WINDOW");
        server.next_message();
        app.send_message("and the door");
        server.next_message();
    }
    let (code, lines, why) = history(port, &["--search", "window op"]);
    assert_eq!((code, lines.len()), (Some(0), 2), "{why}");
    for session in ["s1", "s2"] {
        let is_there = |line: &String| line.contains(&format!(" {session} user"));
        assert_eq!(
            lines.iter().filter(|line| is_there(line)).count(),
            1,
            "{lines:?}"
        );
    }
    let (_, lines, _) = history(port, &["--search", "window", "--session", "s2", "--json"]);
    let item: Value = serde_json::from_str(&lines[0]).expect("the output is JSON");
    assert_eq!((lines.len(), &item["session_id"]), (1, &json!("s2")));
    assert_eq!(
        history(port, &["--search", "elephant"]),
        (Some(0), Vec::new(), String::new())
    );
}

/// A server that queues the first message, and gives it to Claude Code if `accepts`.
fn queueing_server(accepts: bool) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = listener.local_addr().expect("the listener is bound").port();
    let serve = move || {
        let (stream, _) = listener.accept().expect("the command connects");
        let mut socket = tungstenite::accept(stream).expect("the command speaks WebSocket");
        while let Ok(message) = socket.read() {
            let Ok(Value::Object(said)) = serde_json::from_str(&message.to_string()) else {
                continue;
            };
            let delivery = |state: &str| {
                json!({
                    "type": "delivery", "session_id": "default", "id": said["id"], "seq": 1, "state": state,
                    "message_id": "00000000-0000-0000-0000-000000000001",
                })
            };
            let answers = match said["type"].as_str() {
                Some("hello") => vec![json!({
                    "type": "welcome", "server": "claude-socket", "version": "0", "session_id": "default",
                    "role": "operator", "seq": 0, "created": "t", "max_message": 1000,
                    "host": { "name": "", "version": "", "ready": true },
                })],
                Some("message") if accepts => vec![
                    delivery("queued"),
                    delivery("accepted"),
                    json!({
                        "type": "reply", "session_id": "default", "seq": 2, "content": "yes", "ts": "t",
                        "message_id": "00000000-0000-0000-0000-000000000002",
                    }),
                    delivery("answered"),
                ],
                Some("message") => vec![delivery("queued")],
                _ => Vec::new(),
            };
            for answer in answers {
                let sent = socket.send(tungstenite::Message::text(answer.to_string()));
                sent.expect("the command reads");
            }
        }
    };
    (port, thread::spawn(serve))
}

#[test]
fn send_succeeds_when_message_is_queued_and_waits_on_for_answer() {
    let try_send = |accepts: bool, arguments: &[&str]| {
        let (port, served) = queueing_server(accepts);
        let output = run(command(port, &["send", "anyone?"]).args(arguments), "");
        served.join().expect("the server has not failed");
        (output.status.code(), printed(&output), complained(&output))
    };
    let (code, out, said) = try_send(false, &[]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{said}");
    assert!(said.starts_with("queued: "), "{said}");
    let (code, out, said) = try_send(false, &["--json"]);
    let report: Value = serde_json::from_str(&out).expect("the output is JSON");
    assert_eq!((code, &report["state"]), (Some(0), &json!("queued")));
    assert_eq!(said, "");
    let (code, _, said) = try_send(false, &["--wait=50ms"]);
    assert_eq!(code, Some(3));
    assert!(said.contains("kept on disk"), "{said}");
    let (code, out, said) = try_send(true, &["--wait"]);
    assert_eq!((code, out.as_str()), (Some(0), "yes\n"), "{said}");
}

/// What the server has not kept while there was no connection is marked, before what it has kept. With the store, it has
/// kept everything.
#[test]
fn watch_marks_what_is_missing_after_reconnect() {
    for (json, ttl) in [(false, "0"), (true, "0"), (false, "30d")] {
        let mut server = Server::start(&["--history-ttl", ttl, "--history-messages", "2"]);
        // Somebody has the answers, so they are not kept for this one.
        let _other = App::connect(&server, "default");
        let between = between(server.address);
        let mut command = command(between.address.port(), &["watch"]);
        let mut child = start(command.args(json.then_some("--json")));
        let mut lines = BufReader::new(child.stdout.take().expect("the stream is piped")).lines();
        let mut until = |part: &str| {
            let lines = lines.by_ref().map(|line| line.expect("the output is text"));
            let mut lines = lines.skip_while(|line| !line.contains(part));
            lines.next().expect("the terminal shows more")
        };
        until("claude-code");
        between.cut();
        until("disconnected");
        for text in ["one", "two", "three"] {
            reply(&mut server, text);
        }
        between.mend();
        until("claude-code");
        let is_kept = ttl != "0";
        let (gap, next) = (until(""), until(""));
        if is_kept {
            assert!(gap.contains("one"), "{gap}");
        } else if json {
            let gap: Value = serde_json::from_str(&gap).expect("the output is JSON");
            assert_eq!(gap, json!({ "type": "gap", "after": 0, "until": 2 }));
        } else {
            let (_, what) = gap.split_once(' ').expect("a line begins with the time");
            assert!(
                what.starts_with("gap: some messages are missing here"),
                "{gap}"
            );
        }
        assert!(next.contains("two"), "{next}");
        // By its own process id.
        child.kill().expect("the program runs");
        child.wait().expect("the program ends");
    }
}

/// Puts a shell script into a folder, as a program of that name.
fn program(folder: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the folder takes files");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("the file is ours");
}

/// Code points, in ranges.
type Ranges = Vec<(u32, u32)>;

/// The page and the terminal hide the same characters, but for the joiners of letters and emoji,
/// which a terminal needs.
#[test]
fn invisible_characters_are_same_on_page_and_in_terminal() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/basic/sanitize.js");
    // Prints the ranges of what the page writes out.
    let script = format!(
        "import {{ visible }} from '{}';
        const ranges = [];
        for (let code = 0; code <= 0x10ffff; code += 1) {{
          if (code >= 0xd800 && code <= 0xdfff) continue;
          const text = String.fromCodePoint(code);
          if (visible(text) === text) continue;
          if (ranges.at(-1)?.[1] === code - 1) ranges.at(-1)[1] = code;
          else ranges.push([code, code]);
        }}
        console.log(JSON.stringify(ranges));",
        page.display()
    );
    let output = Command::new("node")
        .args(["--input-type=module", "--eval", &script])
        .output()
        .expect("Node 20 or newer is needed for this test");
    assert!(output.status.success(), "{}", complained(&output));
    let of_page: Ranges = serde_json::from_slice(&output.stdout).expect("node prints ranges");

    let is_hidden =
        |c: &char| (c.is_control() && !"\n\t".contains(*c)) || sanitize::is_invisible(*c);
    let mut of_terminal: Ranges = Vec::new();
    for code in ('\0'..=char::MAX).filter(is_hidden).map(u32::from) {
        match of_terminal.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => of_terminal.push((code, code)),
        }
    }
    assert_eq!(of_page, of_terminal);
    // What the table hides is what is written out.
    for c in ('\0'..=char::MAX).filter(is_hidden) {
        let is_kept = sanitize::lines(&c.to_string()) == c.to_string();
        assert_eq!(is_kept, "\u{200c}\u{200d}".contains(c), "{c:?}");
    }
}

/// Returns the folder of a fake browser, and the file in which it keeps what it is asked to open.
fn browser(name: &str) -> (PathBuf, PathBuf) {
    let folder = folder(name);
    let asked = folder.join("asked");
    let script = format!(
        "case $1 in\nhttp*) echo \"$1\" ;;\n*) stat -c %a \"$1\"; cat \"$1\" ;;\nesac >'{}'",
        asked.display()
    );
    for opener in ["xdg-open", "open"] {
        program(&folder, opener, &script);
    }
    (folder, asked)
}

#[test]
fn open_starts_browser_with_hidden_token() {
    let (folder, asked) = browser("browser-open");
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let server = Server::start(&[]);
    let port = server.address.port();
    let mut command_ = command(port, &["open", "--session", "a b"]);
    let output = run(command_.env("PATH", &path), "");
    assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
    let page = format!("http://127.0.0.1:{port}/?session=a+b\n");
    assert_eq!(
        std::fs::read_to_string(&asked).expect("the browser was started"),
        page
    );

    let state = State::new();
    let token = state.add("ann", "operator", None);
    let server = Server::listening(&["--state-dir", state.path()]);
    let port = server.address.port();
    let mut command_ = command(port, &["open"]);
    let output = run(
        command_
            .env("PATH", &path)
            .env("CLAUDE_SOCKET_TOKEN", &token),
        "",
    );
    assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
    assert!(
        !printed(&output).contains(&token),
        "it stays out of the terminal"
    );
    let asked = std::fs::read_to_string(&asked).expect("the browser was started");
    assert!(asked.starts_with("600\n"), "{asked}");
    assert!(
        asked.contains(&format!("url=http://127.0.0.1:{port}/#token={token}\"")),
        "{asked}"
    );
}

#[test]
fn qr_code_contains_page_and_token() {
    let state = State::new();
    let token = state.add("ann", "operator", None);
    let server = Server::listening(&["--state-dir", state.path()]);
    let port = server.address.port();
    let mut command = command(port, &["open", "--qr", "--session", "s1"]);
    let output = run(command.env("CLAUDE_SOCKET_TOKEN", &token), "");
    assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
    let text = printed(&output);
    let rows: Vec<Vec<char>> = text
        .lines()
        .filter(|line| line.chars().all(|c| " ▀▄█".contains(c)))
        .map(|line| line.chars().collect())
        .collect();
    let (width, height) = (rows[0].len(), rows.len() * 2);
    // Light modules are drawn, and a camera sees more than one pixel for each.
    const SCALE: usize = 4;
    let dark = |x: usize, y: usize| {
        let drawn = match rows[y / 2].get(x) {
            Some('█') => true,
            Some('▀') => y.is_multiple_of(2),
            Some('▄') => !y.is_multiple_of(2),
            _ => false,
        };
        !drawn
    };
    let grey = |x: usize, y: usize| if dark(x / SCALE, y / SCALE) { 0 } else { 255 };
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(width * SCALE, height * SCALE, grey);
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1, "{text}");
    let (_, read) = grids[0].decode().expect("the QR code is readable");
    let page = format!("http://127.0.0.1:{port}/?session=s1#token={token}");
    assert_eq!(read, page);
    assert!(text.ends_with(&format!("{page}\n")), "{text}");
}

#[test]
fn completions_and_man_pages_are_valid() {
    prepare(&["zsh", "fish"]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for shell in ["bash", "zsh", "fish"] {
        let output = binary()
            .args(["completions", shell])
            .output()
            .expect("the program runs");
        assert!(output.status.success());
        let script = folder.join(format!("completions.{shell}"));
        std::fs::write(&script, &output.stdout).expect("the folder takes a script");
        let parsed = Command::new(shell)
            .arg("-n")
            .arg(&script)
            .output()
            .expect("the shell is installed");
        assert!(parsed.status.success(), "{shell}: {}", complained(&parsed));
        assert!(printed(&output).contains("session"), "{shell}");
    }
    let asks = [
        (
            "bash",
            "source completions.bash; COMP_WORDS=(claude-socket send --w); COMP_CWORD=2; \
             $(complete -p claude-socket | grep -o '_claude[a-z_]*') claude-socket --w send; \
             echo \"${COMPREPLY[@]}\"",
        ),
        (
            "fish",
            "source completions.fish; complete -C 'claude-socket send --w'",
        ),
    ];
    for (shell, script) in asks {
        let mut ask = Command::new(shell);
        let answer = ask.args(["-c", script]).current_dir(folder).output();
        let answer = printed(&answer.expect("the shell is installed"));
        assert!(answer.starts_with("--wait"), "{shell}: {answer}");
        assert_eq!(answer.lines().count(), 1, "{shell}: {answer}");
    }
    let commands = [
        "send", "watch", "history", "open", "chat", "data", "token", "demo", "doctor",
    ];
    for command in [None].into_iter().chain(commands.map(Some)) {
        let page = binary()
            .arg("man")
            .args(command)
            .output()
            .expect("the program runs");
        let page = printed(&page);
        assert!(page.contains(".SH SYNOPSIS"), "{command:?}: {page}");
        assert!(page.contains(command.unwrap_or("doctor")), "{command:?}");
    }
    let output = binary()
        .args(["man", "nothing"])
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
}

/// A new pseudo-terminal: the keyboard and screen, and a function that opens its other side for a
/// program.
pub fn pseudo_terminal() -> (File, impl Fn() -> File) {
    let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal is available");
    grantpt(&pty).expect("the terminal is ours");
    unlockpt(&pty).expect("the terminal is ours");
    let name = ptsname(&pty, Vec::new()).expect("the terminal has a name");
    let name = name.into_string().expect("the name is text");
    let side = move || {
        let mut options = File::options();
        let opened = options.read(true).write(true).open(&name);
        opened.expect("the terminal opens")
    };
    (File::from(pty), side)
}

/// `claude-socket chat` in a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn chat(port: u16, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let (keyboard, side) = pseudo_terminal();
        let mut command = command(port, &["chat"]);
        command.args(arguments).envs(variables.iter().copied());
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().expect("the program starts");
        drop(command);
        let mut output = keyboard
            .try_clone()
            .expect("the terminal has another descriptor");
        let (to_test, screen) = unbounded();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                // Read on, whether the test looks or not.
                let _ = to_test.send(bytes[..read].to_vec());
            }
        });
        Self {
            child,
            keyboard,
            screen,
            seen: String::new(),
        }
    }

    fn types(&mut self, text: &str) {
        self.keyboard
            .write_all(text.as_bytes())
            .expect("the program reads");
    }

    /// Waits until this is on the screen, and forgets what was before.
    fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            if let Some((_, rest)) = self.seen.split_once(text) {
                self.seen = rest.to_owned();
                return;
            }
            match self.screen.recv_deadline(deadline) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("«{text}» is never shown, but {:?}", self.seen),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(server: &mut Server, id: &str) {
    let params = json!({
        "request_id": id, "tool_name": "Bash", "description": "make \u{1b}[2J", "input_preview": "{}",
    });
    server.notify("notifications/claude/channel/permission_request", &params);
}

#[test]
fn chat_in_terminal_shows_messages_and_sends_verdicts() {
    let mut server = Server::start(&[]);
    let mut bob = App::connect(&server, "default");
    bob.send(&json!({ "type": "message", "content": "earlier", "user": "bob" }));
    server.next_message();
    let arguments = ["--user", "ann"];
    let mut chat = Terminal::chat(server.address.port(), &arguments, &[("NO_COLOR", "1")]);
    chat.shows("session default, as operator; claude-code 2.1.330 is there");
    chat.shows("bob: earlier");

    // What comes while a line is being typed doesn't become part of it.
    chat.types("how wa");
    bob.send(&json!({ "type": "message", "content": "in between", "user": "bob" }));
    server.next_message();
    chat.shows("bob: in between");
    chat.shows("how wa");
    chat.types("rm?\r");
    let heard = server.next_message();
    assert_eq!(
        (&heard["content"], &heard["meta"]["user"]),
        (&json!("how warm?"), &json!("ann"))
    );
    server.call(
        "status",
        &json!({ "chat_id": "default", "status": "tool_use", "detail": "Bash: look" }),
    );
    chat.shows("· Claude uses a tool: Bash: look");
    reply(&mut server, "21 °C\u{1b}[2J");
    chat.shows("claude: 21 °C\\u{1b}[2J");

    // The arrow brings the line back.
    chat.types("\u{1b}[A");
    chat.shows("how warm?");
    chat.types("\r");
    assert_eq!(server.next_message()["content"], "how warm?");

    ask(&mut server, "abcde");
    chat.shows("Claude wants to use Bash (abcde): make \\u{1b}[2J");
    chat.shows("yes or no to abcde?");
    // A stray Enter decides nothing, and other words are words.
    chat.types("\r");
    chat.types("yes of course\r");
    assert_eq!(server.next_message()["content"], "yes of course");
    let verdict = loop {
        // Until it has been on the screen for a moment.
        chat.types("y\r");
        match server.lines().recv_timeout(Duration::from_millis(300)) {
            Ok(line) => break line,
            Err(_) => chat.shows("has just come"),
        }
    };
    assert_eq!(
        verdict["params"],
        json!({ "request_id": "abcde", "behavior": "allow" })
    );
    chat.shows("abcde is allowed by ann");

    let deadline = Instant::now() + TEST_TIMEOUT;
    let status = loop {
        // Between two lines the terminal takes it for itself.
        chat.types("\u{4}");
        match chat.child.try_wait().expect("chat is our child") {
            Some(status) => break status,
            None => assert!(
                Instant::now() < deadline,
                "it does not end: {:?}",
                chat.seen
            ),
        }
        // What it still prints.
        let _ = chat.screen.recv_timeout(Duration::from_millis(100));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn no_color_and_dumb_terminal_turn_colors_off() {
    let server = Server::start(&[]);
    let port = server.address.port();
    let dim = "\u{1b}[2msession default";
    Terminal::chat(port, &[], &[]).shows(dim);
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut chat = Terminal::chat(port, &[], &[variable]);
        chat.shows("session default");
        assert!(
            !chat.seen.contains("\u{1b}[2m"),
            "{variable:?}: {:?}",
            chat.seen
        );
    }
}

#[test]
fn chat_without_terminal_points_to_send() {
    let output = run(&mut command(free_port(), &["chat"]), "hi\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        complained(&output).contains("claude-socket send"),
        "{}",
        complained(&output)
    );
}

const CLI: &str = env!("CARGO_BIN_EXE_claude-socket-cli");

/// Returns an empty folder of this name.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder is made");
    folder
}

/// Returns a copy of the server's program in a folder. It is not made by this process: another
/// test may be starting a program just now, and hold the open file for a moment, and what is open
/// for writing cannot be run.
fn copy_of_server(folder: &Path) -> PathBuf {
    let copy = folder.join("claude-socket");
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_claude-socket"))
        .arg(&copy)
        .status();
    assert!(copied.expect("every system has cp").success());
    copy
}

/// Runs a program without the environment of the tests.
fn run_at(program: &Path, path: &Path, arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).args(arguments);
    run(&mut command, stdin)
}

/// `claude-socket` looks beside its file, beside the link by which it was called, and on the PATH,
/// and passes all arguments on.
#[test]
fn cli_is_found_beside_server_and_on_path() {
    use std::os::unix::fs::symlink;

    let server = Server::start(&[]);
    let port = server.address.port().to_string();
    let nowhere = folder("cli-nowhere");
    let link_to = |name: &str, server: &Path, cli: Option<&Path>| {
        let folder = folder(name);
        symlink(server, folder.join("claude-socket")).expect("the folder takes a link");
        if let Some(cli) = cli {
            symlink(cli, folder.join("claude-socket-cli")).expect("the folder takes a link");
        }
        folder
    };
    let whole = Path::new(env!("CARGO_BIN_EXE_claude-socket"));
    let alone = copy_of_server(&folder("cli-alone"));
    let cli = Path::new(CLI);
    let on_path = folder("cli-on-path");
    symlink(cli, on_path.join("claude-socket-cli")).expect("the folder takes a link");
    let linked = link_to("cli-linked", whole, None).join("claude-socket");
    let two_links = link_to("cli-two-links", &alone, Some(cli)).join("claude-socket");
    let cases: [(&Path, &Path); 4] = [
        (whole, &nowhere),
        (&linked, &nowhere),
        (&two_links, &nowhere),
        (&alone, &on_path),
    ];
    for (program, path) in cases {
        let output = run_at(program, path, &["--port", &port, "send"], "from stdin");
        assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
        assert_eq!(server.next_message()["content"], "from stdin");
        let output = run_at(program, path, &["send", "", "--port", &port], "");
        assert_eq!(output.status.code(), Some(2), "{}", complained(&output));
    }

    for (name, arguments) in [
        ("send", &["send", "x"][..]),
        ("watch", &["help", "watch"]),
        ("man", &["--port=1", "man"]),
    ] {
        let output = run_at(&alone, &nowhere, arguments, "");
        assert_eq!(output.status.code(), Some(2));
        let said = complained(&output);
        let expected = format!("claude-socket: {name} is a command of claude-socket-cli");
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.contains("cargo install"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// A relative folder of the PATH must not be searched: it may be one with foreign files.
#[test]
fn cli_in_current_folder_is_not_run() {
    use std::os::unix::fs::symlink;

    let alone = copy_of_server(&folder("cli-elsewhere"));
    let here = folder("cli-here");
    symlink(CLI, here.join("claude-socket-cli")).expect("the folder takes a link");
    for path in ["", ":", ".", "/nowhere:", "../cli-here"] {
        let mut command = Command::new(&alone);
        command.env_clear().env("PATH", path).current_dir(&here);
        let output = run(command.args(["man", "send"]), "");
        assert_eq!(output.status.code(), Some(2), "PATH={path}");
        let said = complained(&output);
        assert!(said.contains("nor on the PATH"), "PATH={path}: {said}");
    }
}

/// A link `claude-socket-cli` to `claude-socket` must not start itself for ever.
#[test]
fn server_named_like_cli_does_not_start_itself() {
    use std::os::unix::fs::symlink;

    let folder = folder("cli-again");
    let program = copy_of_server(&folder);
    symlink("claude-socket", folder.join("claude-socket-cli")).expect("the folder takes a link");
    let output = run_at(&program, &folder, &["send", "x"], "");
    assert_eq!(output.status.code(), Some(2));
    let said = complained(&output);
    let own_path = folder.join("claude-socket-cli");
    let expected = format!(
        "`claude-socket-cli` at {} is the server program",
        own_path.display()
    );
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn cli_started_by_other_version_warns() {
    let mut command = Command::new(CLI);
    command.args(["man", "send"]);
    for (version, complains) in [(env!("CARGO_PKG_VERSION"), false), ("0.0.9", true)] {
        let output = run(command.env("CLAUDE_SOCKET_CALLER_VERSION", version), "");
        assert_eq!(output.status.code(), Some(0));
        let said = complained(&output);
        assert_eq!(said.contains("0.0.9"), complains, "{said}");
        assert_eq!(said.is_empty(), !complains, "{said}");
    }
}

#[test]
fn cli_leaves_server_commands_to_server() {
    let cli = Path::new(CLI);
    let nowhere = Path::new("/nonexistent");
    for arguments in [&[][..], &["doctor"], &["token", "list"], &["data"]] {
        let output = run_at(cli, nowhere, arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = complained(&output);
        assert!(said.contains("run the same with claude-socket"), "{said}");
    }
    let port = free_port().to_string();
    let output = run_at(cli, nowhere, &["send", "x", "--port", &port], "");
    assert_eq!(output.status.code(), Some(4), "{}", complained(&output));
}

#[test]
fn help_lists_all_commands_and_settings_of_each() {
    let commands = [
        "demo",
        "doctor",
        "data",
        "token",
        "chat",
        "send",
        "watch",
        "history",
        "open",
        "completions",
        "man",
    ];
    let server = Path::new(env!("CARGO_BIN_EXE_claude-socket"));
    let nowhere = Path::new("/nonexistent");
    let help = |program: &Path, arguments: &[&str]| {
        let output = run_at(program, nowhere, arguments, "");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        printed(&output)
    };
    let whole = help(server, &["--help"]);
    assert_eq!(whole, help(Path::new(CLI), &["--help"]));
    for command in commands {
        let line = whole
            .lines()
            .find(|line| line.starts_with(&format!("  {command} ")));
        let about = line.and_then(|line| line.trim().strip_prefix(command));
        let own = help(server, &[command, "--help"]);
        assert!(
            own.starts_with(about.expect("the help lists the command").trim()),
            "{own}"
        );
        assert!(
            own.contains(&format!("Usage: claude-socket {command}")),
            "{own}"
        );
        assert_eq!(own, help(server, &["help", command]));
        assert_eq!(own.contains("--max-sessions"), command == "demo", "{own}");
        let connects = ["chat", "send", "watch", "history", "open"].contains(&command);
        assert_eq!(
            own.contains("The server's port"),
            connects || command == "doctor"
        );
        assert_eq!(own.contains("CLAUDE_SOCKET_TOKEN in"), connects, "{own}");
    }
    let typo = run_at(server, nowhere, &["sent"], "");
    assert_eq!(typo.status.code(), Some(2));
    assert!(
        complained(&typo).contains("'send'"),
        "{}",
        complained(&typo)
    );

    // A setting that is not in its help is refused, wherever it stands. A variable of the server
    // is ignored.
    let port = free_port().to_string();
    for arguments in [
        ["send", "x", "--port", &port, "--max-sessions", "5"],
        ["--max-sessions", "5", "--port", &port, "send", "x"],
    ] {
        let output = run_at(server, nowhere, &arguments, "");
        assert_eq!(output.status.code(), Some(2), "{}", complained(&output));
        let said = complained(&output);
        assert!(
            said.contains("unexpected argument '--max-sessions'"),
            "{said}"
        );
    }
    let mut send = Command::new(server);
    send.env_clear().env("CLAUDE_SOCKET_MAX_SESSIONS", "none");
    let output = run(send.args(["send", "x", "--port", &port]), "");
    assert_eq!(output.status.code(), Some(4), "{}", complained(&output));
}

/// Starts a server of another user with these variables; `None` unless the tests run as root.
#[cfg(target_os = "linux")]
fn server_of_somebody_else(name: &str, variables: &[(&str, &str)]) -> Option<Server> {
    use std::os::unix::process::CommandExt;

    const SOMEBODY_ELSE: u32 = 61_743;
    if !rustix::process::getuid().is_root() {
        eprintln!("only root can start a server as another user");
        return None;
    }
    // In a folder that other users can read.
    let folder = std::env::temp_dir().join(format!("claude-socket-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder is made");
    let copy = copy_of_server(&folder);
    let mut command = Command::new(&copy);
    command.args(["--port", "0"]).env_clear();
    command.envs(variables.iter().copied());
    let mut server = Server::spawn(command.uid(SOMEBODY_ELSE).gid(SOMEBODY_ELSE));
    server.address = address_in(&server.wait_for_log("listening on "));
    std::fs::remove_dir_all(folder).expect("the folder is ours");
    server.initialize();
    Some(server)
}

/// Unless `--trust-server` says otherwise.
#[cfg(target_os = "linux")]
#[test]
fn token_is_withheld_from_listener_of_other_user() {
    const TOKEN: &str = "sixteen-letters-and-more";
    let Some(server) = server_of_somebody_else("token", &[("CLAUDE_SOCKET_TOKEN", TOKEN)]) else {
        return;
    };
    let port = server.address.port();
    let run_with = |arguments: &[&str]| {
        let mut command = command(port, arguments);
        let output = run(command.env("CLAUDE_SOCKET_TOKEN", TOKEN), "");
        (output.status.code(), complained(&output), printed(&output))
    };
    for arguments in [
        &["send", "x"][..],
        &["watch"],
        &["history"],
        &["open", "--qr"],
    ] {
        let (code, said, printed) = run_with(arguments);
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{said}");
        assert!(
            said.contains("does not belong to this user or root"),
            "{said}"
        );
        assert!(said.contains("--trust-server"), "{said}");
        assert!(!said.contains(TOKEN), "{said}");
    }
    let (code, said, _) = run_with(&["send", "x", "--trust-server"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said, printed) = run_with(&["open", "--qr", "--trust-server"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(printed.contains(TOKEN), "{printed}");
    // Trusted or not, a wrong token is distinguished from one that was not sent.
    let mut wrong = command(port, &["send", "x", "--trust-server"]);
    let wrong = run(
        wrong.env("CLAUDE_SOCKET_TOKEN", "this-is-none-of-its-tokens"),
        "",
    );
    let said = complained(&wrong);
    assert_eq!(wrong.status.code(), Some(1), "{said}");
    assert!(said.contains("none of its tokens"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn token_is_withheld_from_listener_that_asks_for_none() {
    let Some(server) = server_of_somebody_else("open", &[]) else {
        return;
    };
    let port = server.address.port();
    for arguments in [&["send", "x"][..], &["open", "--qr"]] {
        let mut command = command(port, arguments);
        let output = run(
            command.env("CLAUDE_SOCKET_TOKEN", "sixteen-letters-and-more"),
            "",
        );
        let said = complained(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--trust-server"), "{said}");
        assert_eq!(printed(&output), "");
    }
}
