//! The main loop without a process: a client, an agent, and what goes between them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use claude_socket::server::{self, AgentIo};
use serde_json::{Value, json};

use crate::app::App;
use crate::server::{self as test_server, Server};

/// From the first message to the end, it takes milliseconds.
#[test]
fn message_and_reply_pass_and_server_ends_with_its_input() {
    let mut server = Server::in_process(&[]);
    let mut client = App::connect(&server, "s1");

    client.send(&json!({ "type": "message", "content": "hi", "user": "ann", "id": "a1" }));
    let message = server.next_message();
    assert_eq!(message["content"], "hi");
    assert_eq!(message["meta"]["chat_id"], "s1");
    assert_eq!(message["meta"]["user"], "ann");
    let delivery = client.expect("delivery");
    assert_eq!(delivery["id"], "a1");
    assert_eq!(delivery["state"], "accepted");

    let result = server.call("reply", &json!({ "chat_id": "s1", "text": "hello ann" }));
    assert_eq!(result, "sent");
    assert_eq!(client.expect("reply")["content"], "hello ann");
    assert_eq!(client.expect("delivery")["state"], "answered");

    let closing = std::thread::spawn(move || client.close_code());
    let start = Instant::now();
    server.end();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(closing.join().expect("the client reads the close"), 1001);
}

/// What was asked before the input ended is still answered.
#[test]
fn requests_before_end_of_input_are_answered() {
    let mut server = Server::in_process(&[]);
    let ping = server.send_request("ping", &json!({}));
    drop(server.stdin.take());
    assert_eq!(server.next_line()["id"], ping);
    server.end();
}

/// A client that never got its message through is told so, if the message can't wait on disk.
#[test]
fn message_before_initialization_is_rejected_at_the_end() {
    let server = Server::in_process_listening(&["--history-ttl", "0"]);
    let mut client = App::connect(&server, "s1");
    client.send(&json!({ "type": "message", "content": "too late", "id": "a1" }));
    client.until_pong();
    let rejected = std::thread::spawn(move || {
        let delivery = client.expect("delivery");
        (delivery, client.close_code())
    });
    server.end();
    let (delivery, code) = rejected.join().expect("the client reads to the close");
    assert_eq!(delivery["state"], "rejected");
    assert_eq!(delivery["code"], "host_closed");
    assert_eq!(code, 1001);
}

/// Claude Code with a socket in place of the server's stdout, as Node makes it, which is only
/// read when the test reads it.
struct SocketAgent {
    stdin: PipeWriter,
    lines: BufReader<UnixStream>,
    address: SocketAddr,
}

impl SocketAgent {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("the listener is bound");
        let (input, stdin) = io::pipe().expect("the system makes a pipe");
        let (end, output) = UnixStream::pair().expect("the system makes a pair of sockets");
        let agent_io = AgentIo::new(BufReader::new(input), File::from(OwnedFd::from(output)));
        let config = test_server::config(&[]);
        thread::spawn(move || server::run(config, agent_io, Some(listener)));
        end.set_read_timeout(Some(test_server::TEST_TIMEOUT))
            .expect("a socket takes a timeout");
        let lines = BufReader::new(end);
        let mut agent = Self {
            stdin,
            lines,
            address,
        };
        let client = json!({ "name": "claude-code", "version": "2.1.330" });
        let params = json!({ "protocolVersion": "2025-11-25", "clientInfo": client });
        agent.send(&[
            json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }),
        ]);
        assert_eq!(agent.next_line()["id"], 1);
        agent
    }

    /// Sends lines in one write.
    fn send(&mut self, lines: &[Value]) {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.stdin
            .write_all(lines.as_bytes())
            .expect("the server reads");
    }

    fn next_line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the server writes");
        serde_json::from_str(&line).expect("the server writes JSON")
    }
}

fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// The result is longer than what may wait for Claude Code, and the socket takes it at once.
#[test]
fn inbox_is_given_after_long_tool_result() {
    let mut agent = SocketAgent::start();
    let mut client = App::open(agent.address, "/?session=s1");
    for _ in 0..80 {
        client.send_message(&"x".repeat(1_000));
    }
    client.until_pong();
    let arguments = json!({ "session_id": "s1", "limit": 100 });
    let params = json!({ "name": "fetch_messages", "arguments": arguments });
    agent.send(&[
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params }),
        initialized(),
    ]);
    assert_eq!(agent.next_line()["id"], 2);
    for _ in 0..80 {
        assert_eq!(agent.next_line()["method"], "notifications/claude/channel");
    }
}

/// What is in the inbox then would be dropped by Claude Code.
#[test]
fn inbox_is_rejected_when_input_ends() {
    const SENT: usize = 200;
    let mut agent = SocketAgent::start();
    agent.send(&[initialized()]);
    let mut client = App::open(agent.address, "/?session=s1");
    // More than the socket and the writer take.
    for n in 0..SENT {
        let content = "x".repeat(4_000);
        client.send(&json!({ "type": "message", "content": content, "id": n.to_string() }));
    }
    let mut deliveries = client.until_pong();
    let SocketAgent { stdin, lines, .. } = agent;
    drop(stdin);
    deliveries.extend(client.until_closed());
    let with_state = |state: &str| {
        let with = deliveries
            .iter()
            .filter(|delivery| delivery["state"] == state);
        with.map(|delivery| delivery["id"].to_string())
            .collect::<BTreeSet<_>>()
    };
    let (accepted, rejected) = (with_state("accepted"), with_state("rejected"));
    assert!(accepted.is_disjoint(&rejected));
    assert!(
        rejected.len() > SENT / 2,
        "{} were rejected",
        rejected.len()
    );
    let given = lines.lines().map_while(Result::ok);
    let given = given.filter(|line| line.contains("notifications/claude/channel"));
    assert!(given.count() + rejected.len() <= SENT);
}
