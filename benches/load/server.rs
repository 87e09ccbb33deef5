//! The server that is measured, as a child process: which command it is, its start, its end.
//!
//! Whatever happens, it ends: when a [`Server`] is dropped, when the benchmark is interrupted
//! (`watchdog`), and also when the benchmark is killed, because then its stdin ends.

use std::env;
use std::fmt;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::limits::Limits;
use crate::options::Workload;
use crate::process::ProcessTree;
use crate::watchdog::{kill, with_running};

/// How long anything may take that should happen at once. Machines can be slow.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to end after its stdin has, before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(10);

/// What goes wrong in a measurement, as a sentence.
pub type Result<T, E = String> = std::result::Result<T, E>;

/// A server that can be measured.
#[derive(Clone)]
pub struct Target {
    /// What it is called in the table.
    pub name: String,
    /// How it is started.
    pub launch: Launch,
    /// What it must live with.
    pub limits: Option<Limits>,
}

/// How a server is started.
#[derive(Clone)]
pub enum Launch {
    /// The program that cargo has built.
    Built,
    /// A command for the shell.
    Shell(String),
    /// A program and its arguments, around the one that cargo has built.
    Wrapped(Vec<String>),
}

/// The program that cargo has built, with the optimisations of a release.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_claude-socket");

impl Target {
    /// The command that starts it, without a variable that is meant for another server.
    fn command(&self) -> Command {
        let mut line: Vec<String> = match &self.launch {
            Launch::Built => vec![PROGRAM.into()],
            Launch::Shell(command) => vec!["sh".into(), "-c".into(), command.clone()],
            Launch::Wrapped(around) => around.iter().cloned().chain([PROGRAM.into()]).collect(),
        };
        if let Some(limits) = &self.limits {
            line = limits.wrap(line);
        }
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]);
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("CLAUDE_")) {
            command.env_remove(name);
        }
        // The tokens of whoever measures are none of its business.
        command.env(
            "CLAUDE_SOCKET_STATE_DIR",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/nobody"),
        );
        command
    }

    /// Starts it on a free port.
    pub fn spawn(&self) -> Result<Server> {
        let port = free_port().map_err(|error| format!("there is no free port: {error}"))?;
        let mut command = self.command();
        let child = command
            .env("CLAUDE_SOCKET_PORT", port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that all of it can be ended at once.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{self} cannot be started: {error}"))?;
        Ok(Server::around(self.name.clone(), port, child))
    }

    /// Starts it, up to the point where messages can go through, measures something, and ends it.
    pub fn measure<T>(&self, measure: impl FnOnce(&mut Server) -> Result<T>) -> Result<T> {
        let mut server = self.spawn()?;
        let ready = server.handshake().and_then(|()| server.wait_for_port());
        let measured = ready.and_then(|()| measure(&mut server));
        measured.map_err(|error| server.explain(error))
    }

    /// The most clients that it can have at once here.
    pub fn max_clients(&self, workload: &Workload) -> usize {
        // On a small machine, more would not fit, and the system would end it.
        let fitting = if self.limits.is_some() {
            1_000
        } else {
            usize::MAX
        };
        workload.max_clients.min(fitting)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.launch {
            Launch::Built => f.write_str(PROGRAM),
            Launch::Shell(command) => write!(f, "«{command}»"),
            Launch::Wrapped(around) => write!(f, "«{} {PROGRAM}»", around.join(" ")),
        }
    }
}

/// A running server.
pub struct Server {
    /// The agent's place: its stdin and stdout.
    pub agent: Agent,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its processes.
    pub processes: ProcessTree,
    name: String,
    child: Child,
    /// The end of what it logs.
    log: Option<thread::JoinHandle<String>>,
}

impl Server {
    fn around(name: String, port: u16, mut child: Child) -> Self {
        with_running(|pids| pids.push(child.id()));
        let agent = Agent::new(child.stdin.take(), child.stdout.take());
        let log = child
            .stderr
            .take()
            .map(|stderr| thread::spawn(move || tail(stderr)));
        Self {
            agent,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            processes: ProcessTree(child.id()),
            name,
            child,
            log,
        }
    }

    /// MCP's handshake.
    pub fn handshake(&mut self) -> Result<()> {
        self.agent.initialize()?;
        self.agent.send_initialized()
    }

    /// Waits until it answers on its port. Looks often: this is measured.
    pub fn wait_for_port(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended before it listened ({status})"));
            }
            thread::sleep(Duration::from_micros(50));
        }
        let port = self.address.port();
        Err(format!(
            "it doesn't listen on CLAUDE_SOCKET_PORT={port} after {TIMEOUT:?}"
        ))
    }

    /// What went wrong, with what the server has said about it.
    pub fn explain(&mut self, error: String) -> String {
        let log = self.finish();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        let said: String = lines
            .iter()
            .rev()
            .map(|line| format!("\n    {line}"))
            .collect();
        let said = if said.is_empty() {
            ", and it logged nothing".into()
        } else {
            format!("; its last words:{said}")
        };
        format!("{}: {error}{said}", self.name)
    }

    /// Ends it, and returns the end of its log.
    pub fn finish(&mut self) -> String {
        self.end();
        let log = self.log.take().and_then(|log| log.join().ok());
        log.unwrap_or_default()
    }

    /// Ends it: stdin first, then by force.
    pub fn end(&mut self) {
        self.agent.close();
        let deadline = Instant::now() + EXIT_GRACE;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(1));
        }
        // Also if it has ended: what it has started may not have.
        kill(self.child.id());
        let _ = self.child.wait();
        with_running(|pids| pids.retain(|&pid| pid != self.child.id()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A port that nobody listens on, below those that the system gives to outgoing connections.
/// Never the same twice in a row: another thread may be about to start its server there.
fn free_port() -> io::Result<u16> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let free = (0..10_000).find_map(|_| {
        let next = process::id()
            .wrapping_mul(97)
            .wrapping_add(TRIED.fetch_add(1, Relaxed));
        let port = 20_000 + (next % 10_000) as u16;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some(port)
    });
    free.ok_or_else(|| io::ErrorKind::AddrInUse.into())
}

/// Reads to the end, and keeps the last of it.
fn tail(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        let too_many = kept.len().saturating_sub(4096);
        kept.drain(..too_many);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
