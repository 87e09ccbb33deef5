//! A server with the test in Claude Code's place: the real binary as a child process, or
//! [`server::run`] in a thread of the test. Pipes and sockets are real in both cases.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::Resettable;
use clap::{Args, FromArgMatches};
use claude_socket::agent::channel::ServerKey;
use claude_socket::audit::Audit;
use claude_socket::config::ServerArgs;
use claude_socket::server::{self, AgentIo, Config};
use crossbeam_channel::{Receiver, bounded, never, unbounded};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::state::State;

/// The longest that anything may take that should happen at once. Machines can be slow.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns a command for the binary under test, without the settings of this environment.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claude-socket"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CLAUDE_")) {
        command.env_remove(name);
    }
    // The tests must not read the tokens of the user who runs them.
    command.env("HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/nobody"));
    // The test takes messages from the start.
    command.env("CLAUDE_SOCKET_CHANNEL_DELAY", "0s");
    command
}

/// The variable with the state folder.
const STATE_VARIABLE: &str = "CLAUDE_SOCKET_STATE_DIR";

/// What runs the server.
enum Runner {
    Process(Child),
    /// Receives the result of [`server::run`]; `None` once it has been received.
    Thread(Option<Receiver<io::Result<()>>>),
}

/// The server's input.
pub type Stdin = Box<dyn Write + Send + Sync>;

/// A running server.
pub struct Server {
    runner: Runner,
    pub stdin: Option<Stdin>,
    /// Its output, read one line ahead: the reader stops when the test takes no lines.
    lines: Receiver<Value>,
    /// Its log. A server in this process has none.
    pub log: Receiver<String>,
    /// The address where it listens; port 0 if it doesn't.
    pub address: SocketAddr,
    /// Its state folder, unless the test has given it one.
    pub state: Option<State>,
    /// The token for [`Server::get`], if it requires one.
    pub token: Option<String>,
    requests: u64,
}

impl Server {
    /// Starts the binary on a free port, and initializes it.
    pub fn start(flags: &[&str]) -> Self {
        let mut server = Self::listening(flags);
        server.initialize();
        server
    }

    /// Starts the binary on a free port. Claude Code has sent nothing yet.
    pub fn listening(flags: &[&str]) -> Self {
        let mut server = Self::spawn(binary().args(["--port", "0"]).args(flags));
        let line = server.wait_for_log("listening on ");
        server.address = address_in(&line);
        server
    }

    /// Starts the binary as the plugin does, so that it expects hooks.
    pub fn start_as_plugin(flags: &[&str]) -> Self {
        let mut command = binary();
        command.args(["--port", "0"]).args(flags);
        let mut server = Self::spawn(command.env("CLAUDE_PLUGIN_ROOT", "/plugin"));
        server.address = address_in(&server.wait_for_log("listening on "));
        server.initialize();
        server
    }

    /// Starts a command that becomes the server. It gets a state folder of its own, unless its environment names one.
    pub fn spawn(command: &mut Command) -> Self {
        let mut variables = command.get_envs();
        let state = match variables.any(|(name, _)| name == STATE_VARIABLE) {
            true => None,
            false => Some(State::new()),
        };
        if let Some(state) = &state {
            command.env(STATE_VARIABLE, state.path());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut server = Self::from_child(child, stdout);
        server.state = state;
        server
    }

    /// Returns the server that runs as this child and writes to the other end of `stdout`.
    pub fn from_child(mut child: Child, stdout: impl Read + Send + 'static) -> Self {
        let stderr = child.stderr.take().expect("stderr is piped");
        let stdin = child.stdin.take();
        let (to_test, log) = unbounded();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // The pipe must be read even if the test doesn't take the lines.
                let _ = to_test.send(line);
            }
        });
        Self {
            runner: Runner::Process(child),
            stdin: stdin.map(|stdin| Box::new(stdin) as _),
            lines: read_lines(stdout),
            log,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            state: None,
            token: None,
            requests: 1_000,
        }
    }

    /// Runs the server in a thread, on a free port, and initializes it.
    pub fn in_process(flags: &[&str]) -> Self {
        let mut server = Self::in_process_listening(flags);
        server.initialize();
        server
    }

    /// Runs the server in a thread, on a free port. Claude Code has sent nothing yet.
    pub fn in_process_listening(flags: &[&str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("the listener is bound");
        let (input, stdin) = io::pipe().expect("the system makes a pipe");
        let (stdout, output) = io::pipe().expect("the system makes a pipe");
        let agent_io = AgentIo::new(BufReader::new(input), File::from(OwnedFd::from(output)));
        let state = State::new();
        let config = config(&[&["--state-dir", state.path()], flags].concat());
        let (to_test, result) = bounded(1);
        thread::Builder::new()
            .name("server".into())
            .spawn(move || {
                // The test doesn't take it if it has failed.
                let _ = to_test.send(server::run(config, agent_io, Some(listener)));
            })
            .expect("the system starts a thread");
        Self {
            runner: Runner::Thread(Some(result)),
            stdin: Some(Box::new(stdin)),
            lines: read_lines(stdout),
            log: unbounded().1,
            address,
            state: Some(state),
            token: None,
            requests: 1_000,
        }
    }

    /// Initializes the server, so that it accepts messages of clients.
    pub fn initialize(&mut self) {
        let agent = json!({ "name": "claude-code", "version": "2.1.330" });
        let params = json!({ "protocolVersion": "2025-11-25", "clientInfo": agent });
        self.request("initialize", &params);
        self.notify("notifications/initialized", &json!({}));
    }

    /// Returns the child process.
    pub fn child(&mut self) -> &mut Child {
        match &mut self.runner {
            Runner::Process(child) => child,
            Runner::Thread(_) => panic!("the server runs in this process"),
        }
    }

    /// Returns the id of the process that the server runs in.
    pub fn pid(&self) -> u32 {
        match &self.runner {
            Runner::Process(child) => child.id(),
            Runner::Thread(_) => std::process::id(),
        }
    }

    /// Returns its process, for the system calls of rustix.
    pub fn process(&self) -> Pid {
        let pid = i32::try_from(self.pid()).expect("process ids are small");
        Pid::from_raw(pid).expect("process ids are positive")
    }

    /// Returns its output, for another thread to read.
    pub fn lines(&self) -> Receiver<Value> {
        self.lines.clone()
    }

    /// Waits for a line of the log that contains `part`, and returns it.
    pub fn wait_for_log(&self, part: &str) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            match self.log.recv_deadline(deadline) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(_) => panic!("the server never logs «{part}»"),
            }
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).expect("the server reads");
        stdin.flush().expect("the server reads");
    }

    pub fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    pub fn notify(&mut self, method: &str, params: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Sends a request and returns its result, or its error. The response must be the next
    /// line.
    pub fn request(&mut self, method: &str, params: &Value) -> Value {
        let id = self.send_request(method, params);
        let mut answer = self.next_line();
        assert_eq!(answer["id"], id, "{answer}");
        let field = if answer["error"].is_null() {
            "result"
        } else {
            "error"
        };
        answer[field].take()
    }

    /// Sends a request and returns its id.
    pub fn send_request(&mut self, method: &str, params: &Value) -> u64 {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// Calls a tool and returns the text of the result.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> String {
        let params = json!({ "name": tool, "arguments": arguments });
        text_of(&self.request("tools/call", &params))
    }

    /// Returns the next line that the server writes.
    pub fn next_line(&self) -> Value {
        self.lines
            .recv_timeout(TEST_TIMEOUT)
            .expect("the server writes a line")
    }

    /// Returns the params of the next line, which must be a notification of this method.
    pub fn next_notification(&self, method: &str) -> Value {
        let mut line = self.next_line();
        assert_eq!(line["method"], method, "{line}");
        line["params"].take()
    }

    /// Returns the next message of a client.
    pub fn next_message(&self) -> Value {
        self.next_notification("notifications/claude/channel")
    }

    /// Sends a plain HTTP request and returns the status and the body of the response.
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

    /// Sends these bytes on a new connection and returns what comes until it is closed.
    pub fn http(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        stream
            .set_read_timeout(Some(TEST_TIMEOUT))
            .expect("the timeout is valid");
        // A server may refuse a request that it hasn't read to the end.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Returns the head of a WebSocket handshake.
    pub fn handshake(&self, path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        )
    }

    /// Returns the response to `/healthz`.
    pub fn health(&self) -> Value {
        serde_json::from_str(&self.get("/healthz").1).expect("the body is JSON")
    }

    /// Polls `/healthz` until its response meets the condition.
    pub fn wait_for_health(&self, condition: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !condition(&self.health()) {
            assert!(Instant::now() < deadline, "{}", self.health());
        }
    }

    /// Waits until the process exits. Returns its status and how long that took.
    pub fn wait_for_exit(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        // The log ends when every thread has.
        while start.elapsed() < TEST_TIMEOUT {
            if let Some(status) = self
                .child()
                .try_wait()
                .expect("the child can be waited for")
            {
                return (status, start.elapsed());
            }
            let _ = self.log.recv_timeout(Duration::from_millis(5));
        }
        panic!("the server does not exit");
    }

    /// Closes the server's input and waits until it has ended.
    pub fn end(mut self) {
        drop(self.stdin.take());
        self.join();
    }

    fn join(&mut self) {
        // Its last lines must not keep it from ending.
        self.lines = never();
        match &mut self.runner {
            Runner::Process(child) => drop(child.wait()),
            Runner::Thread(result) => {
                let Some(result) = result.take() else { return };
                let result = result.recv_timeout(TEST_TIMEOUT);
                let result = result.expect("the server ends and does not panic");
                result.expect("the server has threads to start with");
            }
        }
    }

    /// Waits until its main thread is in this state of proc(5): `S` when it sleeps, `T` when it
    /// is stopped.
    #[cfg(target_os = "linux")]
    pub fn wait_for_state(&self, state: char) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let stat = format!("/proc/{0}/task/{0}/stat", self.pid());
        let wanted = format!(") {state} ");
        while !std::fs::read_to_string(&stat)
            .expect("the server runs")
            .contains(&wanted)
        {
            assert!(
                Instant::now() < deadline,
                "the server never is in state {state}"
            );
        }
    }

    /// Returns a figure from `/proc/PID/status`, in KiB.
    #[cfg(target_os = "linux")]
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the server runs");
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect("the status has the figure");
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("the figure is a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.runner {
            // It has ended already, or must not outlive the test.
            Runner::Process(child) => drop(child.kill()),
            Runner::Thread(_) => drop(self.stdin.take()),
        }
        if !thread::panicking() || matches!(self.runner, Runner::Process(_)) {
            self.join();
        }
    }
}

/// Returns the settings that these flags stand for, whatever the environment says. Without a state folder, nothing is kept
/// on disk.
pub fn config(flags: &[&str]) -> Config {
    let command = ServerArgs::augment_args(clap::Command::new("claude-socket"))
        .no_binary_name(true)
        .args_override_self(true)
        .mut_args(|arg| arg.env(Resettable::Reset));
    // The test takes messages from the start.
    let flags = [&["--channel-delay", "0s"], flags].concat();
    let matches = command.get_matches_from(&flags);
    let settings = ServerArgs::from_arg_matches(&matches).expect("the flags are valid");
    settings.check().expect("the flags are valid together");
    let mut config = settings.server_config(Audit::default());
    config.access.token = None;
    if settings.state.state_dir.is_none() {
        config.access.file = None;
        config.control = None;
        config.store = None;
        config.limits.stores = false;
    }
    config.has_hooks = false;
    config.server_key = if flags.contains(&"--server-key") {
        settings.server_key.as_str().into()
    } else {
        // What is recorded of Claude Code is recorded with the plugin.
        ServerKey::Plugin
    };
    config
}

/// Starts a thread that reads the server's lines. It is at most one line ahead of the test.
fn read_lines(stdout: impl Read + Send + 'static) -> Receiver<Value> {
    let (to_test, lines) = bounded(0);
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // A line that isn't JSON reaches the test as a string, and fails there.
            let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
            if to_test.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Returns the address in a line of the log.
pub fn address_in(line: &str) -> SocketAddr {
    let address = line
        .split("ws://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    address
        .and_then(|address| address.parse().ok())
        .expect("the line has an address")
}

/// Returns the texts of a tool's result, a line each.
pub fn text_of(result: &Value) -> String {
    let blocks = result["content"].as_array();
    let blocks = blocks.unwrap_or_else(|| panic!("not a tool result: {result}"));
    let text = |block: &Value| {
        let text = block["text"].as_str().expect("a block has a text");
        text.to_owned()
    };
    blocks.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Returns the status of an HTTP response; 0 if there is none.
pub fn status_of(answer: &str) -> u16 {
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or(0)
}
