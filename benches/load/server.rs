//! The measured server, a child process: its command, its start, its end.
//!
//! A server never outlives the benchmark. It ends when its [`Server`] is dropped, when the benchmark
//! is interrupted (`watchdog`), and when the benchmark is killed, because that closes its stdin.

use std::env;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::agent::Agent;
use crate::limits::Limits;
use crate::options::Workload;
use crate::process::ProcessTree;
use crate::watchdog::{kill, with_running};

/// The longest wait for anything that should happen at once. Machines can be slow.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The time that a server has to exit after its stdin was closed; then it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(10);

/// The bytes of a server's log that are kept.
const LOG_TAIL: usize = 4096;

/// A result whose error is a sentence for people.
pub type Result<T, E = String> = std::result::Result<T, E>;

/// A server that can be measured.
#[derive(Clone)]
pub struct Target {
    /// The head of its column in the table.
    pub name: String,
    pub launch: Launch,
    /// The limits of a small machine, if it runs on one.
    pub limits: Option<Limits>,
    /// Whether it keeps nothing on disk. If it does, its store is new and empty at each start.
    pub memory_only: bool,
}

/// How a server is started.
#[derive(Clone)]
pub enum Launch {
    /// [`PROGRAM`].
    Built,
    /// Another build of it.
    Program(PathBuf),
    /// A command that the shell runs.
    Shell(String),
    /// A program and arguments, to which [`PROGRAM`] is added as the last: valgrind.
    Wrapped(Vec<String>),
}

/// The path of the `claude-socket` that cargo has built with the optimizations of a release.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_claude-socket");

impl Target {
    /// Returns the command that starts it, without the `CLAUDE_*` variables of this process.
    fn command(&self) -> Command {
        let mut line: Vec<String> = match &self.launch {
            Launch::Built => vec![PROGRAM.into()],
            Launch::Program(path) => vec![path.display().to_string()],
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
        // The benchmark takes messages from the start.
        command.env("CLAUDE_SOCKET_CHANNEL_DELAY", "0s");
        if self.memory_only {
            command.env("CLAUDE_SOCKET_HISTORY_TTL", "0s");
        }
        command
    }

    /// Starts it on a free port.
    pub fn spawn(&self) -> Result<Server> {
        let port =
            free_port().map_err(|error| format!("no port from 20000 to 29999 is free: {error}"))?;
        let state = state_folder(port)?;
        let mut command = self.command();
        let child = command
            .env("CLAUDE_SOCKET_PORT", port.to_string())
            .env("CLAUDE_SOCKET_STATE_DIR", &state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A process group of its own, so that one signal reaches its children too.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{self} cannot be started: {error}"))?;
        Ok(Server::new(self.name.clone(), port, state, child))
    }

    /// Starts a server, calls `measure` once messages can pass, and ends the server.
    pub fn measure<T>(&self, measure: impl FnOnce(&mut Server) -> Result<T>) -> Result<T> {
        let mut server = self.spawn()?;
        let ready = server.handshake().and_then(|()| server.wait_for_port());
        let measured = ready.and_then(|()| measure(&mut server));
        measured.map_err(|error| server.explain(error))
    }

    /// Returns the most clients that it can have at once here.
    pub fn max_clients(&self, workload: &Workload) -> usize {
        // With more, a small machine runs out of memory and the kernel kills the server.
        let limit = if self.limits.is_some() {
            1_000
        } else {
            usize::MAX
        };
        workload.max_clients.min(limit)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.launch {
            Launch::Built => f.write_str(PROGRAM),
            Launch::Program(path) => path.display().fmt(f),
            Launch::Shell(command) => write!(f, "`{command}`"),
            Launch::Wrapped(around) => write!(f, "`{} {PROGRAM}`", around.join(" ")),
        }
    }
}

/// A running server.
pub struct Server {
    /// The other end of its stdin and stdout.
    pub agent: Agent,
    /// The address that it listens on.
    pub address: SocketAddr,
    pub processes: ProcessTree,
    /// Its state folder, which is removed when it has ended.
    pub state: PathBuf,
    name: String,
    child: Child,
    /// Returns the last [`LOG_TAIL`] bytes of its stderr.
    log: Option<thread::JoinHandle<String>>,
}

impl Server {
    fn new(name: String, port: u16, state: PathBuf, mut child: Child) -> Self {
        with_running(|groups| groups.push(child.id()));
        let agent = Agent::new(child.stdin.take(), child.stdout.take());
        let log = child
            .stderr
            .take()
            .map(|stderr| thread::spawn(move || tail(stderr)));
        Self {
            agent,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            processes: ProcessTree(child.id()),
            state,
            name,
            child,
            log,
        }
    }

    /// Does the handshake of MCP.
    pub fn handshake(&mut self) -> Result<()> {
        self.agent.initialize()?;
        self.agent.send_initialized()
    }

    /// Waits until its port accepts a connection. Tries every 50 µs, because this time is measured.
    pub fn wait_for_port(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server exited before it listened ({status})"));
            }
            thread::sleep(Duration::from_micros(50));
        }
        let port = self.address.port();
        Err(format!(
            "the server doesn't listen on CLAUDE_SOCKET_PORT={port} after {TIMEOUT:?}"
        ))
    }

    /// Returns `true` if its store has been made.
    pub fn has_store(&self) -> bool {
        let name = format!("store/{}.db", self.address.port());
        self.state.join(name).exists()
    }

    /// Ends the server, and returns `error` with its name and the last five lines of its log.
    pub fn explain(&mut self, error: String) -> String {
        let log = self.finish();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        let lines: String = lines
            .iter()
            .rev()
            .map(|line| format!("\n    {line}"))
            .collect();
        let log = if lines.is_empty() {
            "; it logged nothing".into()
        } else {
            format!("; its log ends with:{lines}")
        };
        format!("{}: {error}{log}", self.name)
    }

    /// Ends the server, and returns the last [`LOG_TAIL`] bytes of its log.
    pub fn finish(&mut self) -> String {
        self.end();
        let log = self.log.take().and_then(|log| log.join().ok());
        log.unwrap_or_default()
    }

    /// Ends the server, and returns the bytes that it has had written to disk from its start to its
    /// end: `write_bytes` of proc(5).
    pub fn finish_counting_disk(&mut self) -> Result<f64> {
        self.agent.close();
        // A process that nobody has waited for can still be asked.
        let ended = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .map(|pid| {
                waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                )
            });
        let bytes = self.processes.disk_bytes();
        self.end();
        match (ended, bytes) {
            (Some(Ok(Some(_))), Some(bytes)) => Ok(bytes),
            _ => Err("what the server wrote to disk cannot be read from /proc".into()),
        }
    }

    /// Closes its stdin, waits [`EXIT_GRACE`] at most, then kills its process group.
    pub fn end(&mut self) {
        self.agent.close();
        let deadline = Instant::now() + EXIT_GRACE;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(1));
        }
        // Also when it has exited: its children may still run.
        kill(self.child.id());
        let _ = self.child.wait();
        with_running(|groups| groups.retain(|&group| group != self.child.id()));
        let _ = fs::remove_dir_all(&self.state);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes an empty state folder for the server on this port. The tokens of the user who runs the
/// benchmark must not apply, nor what an earlier server has stored.
fn state_folder(port: u16) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("state-{port}"));
    let _ = fs::remove_dir_all(&folder);
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&folder)
        .map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    Ok(folder)
}

/// Returns a port from 20000 to 29999 that nobody listens on; outgoing connections get higher ones.
/// Never returns the same port twice in a row, because another thread may be about to start its
/// server there.
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

/// Reads to the end, and returns the last [`LOG_TAIL`] bytes.
fn tail(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        let excess = kept.len().saturating_sub(LOG_TAIL);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
