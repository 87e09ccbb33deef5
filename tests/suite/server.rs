//! The real binary as a child, with the test in Claude Code's place: real pipes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use serde_json::{Value, json};

/// How long anything may take that should happen at once. Machines can be slow.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The binary under test.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claude-socket"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CLAUDE_")) {
        command.env_remove(name);
    }
    // The tokens of whoever runs the tests are none of their business.
    command.env("HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/nobody"));
    command
}

/// A running server.
pub struct Server {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    /// Its output, read one line ahead: who doesn't take lines stops reading.
    lines: Receiver<Value>,
    /// Its log.
    pub log: Receiver<String>,
    /// Where it listens; port 0 if it doesn't.
    pub address: SocketAddr,
    /// The token to look in with, if it wants one.
    pub token: Option<String>,
    requests: u64,
}

impl Server {
    /// Starts it, on a free port, up to the point where messages can go through.
    pub fn start(flags: &[&str]) -> Self {
        let mut server = Self::listening(flags);
        server.shake_hands();
        server
    }

    /// Starts it, on a free port, without saying a word.
    pub fn listening(flags: &[&str]) -> Self {
        let mut server = Self::spawn(binary().args(["--port", "0"]).args(flags));
        let line = server.logged("listening on ");
        server.address = address_in(&line);
        server
    }

    /// Starts it as the plugin does, so that it knows that there must be hooks.
    pub fn of_plugin(flags: &[&str]) -> Self {
        let mut command = binary();
        command.args(["--port", "0"]).args(flags);
        let mut server = Self::spawn(command.env("CLAUDE_PLUGIN_ROOT", "/plugin"));
        server.address = address_in(&server.logged("listening on "));
        server.shake_hands();
        server
    }

    /// Starts a command that becomes the server.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("it is piped");
        Self::around(child, stdout)
    }

    /// A server that was started with its output on its way to `stdout`.
    pub fn around(mut child: Child, stdout: impl Read + Send + 'static) -> Self {
        let stderr = child.stderr.take().expect("it is piped");
        let (to_test, lines) = bounded(0);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // What isn't JSON reaches the test as a string, and fails there.
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if to_test.send(line).is_err() {
                    return;
                }
            }
        });
        let (to_test, log) = unbounded();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Read on, whether the test listens or not.
                let _ = to_test.send(line);
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            log,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: None,
            requests: 1_000,
        }
    }

    pub fn shake_hands(&mut self) {
        let host = json!({ "name": "claude-code", "version": "2.1.330" });
        let params = json!({ "protocolVersion": "2025-11-25", "clientInfo": host });
        self.request("initialize", &params);
        self.notify("notifications/initialized", &json!({}));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its output, for somebody else to read.
    pub fn lines(&self) -> Receiver<Value> {
        self.lines.clone()
    }

    /// Waits for a line of the log.
    pub fn logged(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_deadline(deadline) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(_) => panic!("the log never said «{part}»"),
            }
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("it is still open");
        stdin.write_all(bytes).expect("the server reads");
        stdin.flush().expect("the server reads");
    }

    pub fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    pub fn notify(&mut self, method: &str, params: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Sends a request and returns its result, or its error. Nothing else may come
    /// in between.
    pub fn request(&mut self, method: &str, params: &Value) -> Value {
        let id = self.ask(method, params);
        let mut answer = self.line();
        assert_eq!(answer["id"], id, "{answer}");
        let field = if answer["error"].is_null() {
            "result"
        } else {
            "error"
        };
        answer[field].take()
    }

    /// Sends a request. Returns its id.
    pub fn ask(&mut self, method: &str, params: &Value) -> u64 {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// Sends a request to which nobody will see the answer.
    pub fn request_without_answer(&mut self) {
        self.ask("ping", &json!({}));
    }

    /// Uses a tool and returns the text of the result.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> String {
        let params = json!({ "name": tool, "arguments": arguments });
        text_of(&self.request("tools/call", &params))
    }

    /// The next line it writes.
    pub fn line(&self) -> Value {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("the server says something")
    }

    /// The params of the next notification it writes.
    pub fn notified(&self, method: &str) -> Value {
        let mut line = self.line();
        assert_eq!(line["method"], method, "{line}");
        line["params"].take()
    }

    /// The next message from an app.
    pub fn heard(&self) -> Value {
        self.notified("notifications/claude/channel")
    }

    /// What a plain HTTP request gets: the status and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let host = self.address;
        let token = self.token.as_ref();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{token}\r\n");
        let answer = self.http(head.as_bytes());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status_of(&answer), body.to_owned())
    }

    /// What these bytes get on a fresh connection, until it is closed.
    pub fn http(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // A server may refuse what it hasn't read to the end.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The head of a WebSocket handshake.
    pub fn handshake(&self, path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        )
    }

    /// `/healthz`.
    pub fn health(&self) -> Value {
        serde_json::from_str(&self.get("/healthz").1).expect("it is JSON")
    }

    /// Asks for its health until that has what is wanted.
    pub fn health_until(&self, wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.health()) {
            assert!(Instant::now() < deadline, "{}", self.health());
        }
    }

    /// Waits for its end. Returns how it ended and how long that took.
    pub fn ended(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        // The log ends when every thread has.
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                return (status, start.elapsed());
            }
            let _ = self.log.recv_timeout(Duration::from_millis(5));
        }
        panic!("it does not end");
    }

    /// Waits until its main thread is in this state of proc(5): `S` when it sleeps for
    /// want of anything to do, `T` when it is stopped.
    #[cfg(target_os = "linux")]
    pub fn is_in_state(&self, state: char) {
        let deadline = Instant::now() + PATIENCE;
        let stat = format!("/proc/{0}/task/{0}/stat", self.pid());
        let wanted = format!(") {state} ");
        while !std::fs::read_to_string(&stat)
            .expect("it runs")
            .contains(&wanted)
        {
            assert!(Instant::now() < deadline, "it never is in state {state}");
        }
    }

    /// A figure from `/proc/PID/status`, in KiB.
    #[cfg(target_os = "linux")]
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect("it is there");
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, or must not outlive the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line of the log.
pub fn address_in(line: &str) -> SocketAddr {
    let address = line
        .split("ws://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    address
        .and_then(|address| address.parse().ok())
        .expect("an address")
}

/// The text of a tool's result.
pub fn text_of(result: &Value) -> String {
    let text = result["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no tool result: {result}"))
        .to_owned()
}

/// The status of an HTTP answer; 0 if there is none.
pub fn status_of(answer: &str) -> u16 {
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or(0)
}
