//! The server: starts the threads, and runs the hub's loop on the calling one.

mod agent_events;
mod client_events;
pub mod control;
mod hangups;
mod main_loop;
mod outputs;
mod shutdown;
mod signals;
mod starters;
mod storage;
mod turns;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Receiver, never};
use log::info;
use rustc_hash::FxHashMap;
use rustix::io::ioctl_fionbio;
use uuid::Uuid;

use crate::access::{self, Access};
use crate::agent;
use crate::agent::mcp::Parser;
use crate::agent::stdin::Stdin;
use crate::audit::Audit;
use crate::hub::{AgentId, AgentInput, Hub, Input, Limits, Now};
use crate::socket::context::Context;
use crate::socket::event_queue::Events;
use crate::socket::{self, listener};
use crate::store;
use control::Control;
use main_loop::Server;
use outputs::Outputs;
pub use signals::Shutdown;
use storage::Storage;
use turns::Turns;

/// The settings of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the hub keeps.
    pub limits: Limits,
    /// The name of the agent.
    pub agent: Arc<str>,
    /// Where the store is, and what it keeps; `None` if nothing is kept on disk.
    pub store: Option<store::Options>,
    /// The clients' side.
    pub socket: socket::Options,
    /// Where tokens come from.
    pub access: access::Options,
    /// Where to tell whoever started the server that it listens.
    pub ready_file: Option<PathBuf>,
    /// Permission requests for this server's own tools are allowed at once.
    pub approve_own_tools: bool,
    /// The name that Claude Code has for this server.
    pub server_key: agent::channel::ServerKey,
    /// The server was started by the plugin, so there are its hooks.
    pub has_hooks: bool,
    /// Where the control socket is; `None` if there is none.
    pub control: Option<control::Options>,
    /// Records who came, went and decided.
    pub audit: Audit,
}

/// The two directions of an agent, and what ends it.
pub struct AgentIo<R> {
    /// What Claude Code says. The server ends when it ends.
    pub input: R,
    /// What Claude Code is told.
    pub output: File,
    /// Reports a reason to end that shows elsewhere, such as a signal.
    pub shutdown: Receiver<Shutdown>,
}

impl AgentIo<BufReader<Stdin>> {
    /// Returns stdin and stdout of this process, and starts the `signals` thread that reports
    /// signals and the end of the processes that started this one. It calls `reopen_files`, which must not block,
    /// when a SIGHUP asks for that.
    ///
    /// # Errors
    /// If signals can't be caught, or the system has no thread left.
    pub fn process(reopen_files: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shutdown = signals::watch(reopen_files)?;
        let (stdin, stdout) = (io::stdin(), io::stdout());
        // The parent may have left its pipes non-blocking. This fails for files that can't be
        // so, such as regular ones.
        let _ = ioctl_fionbio(&stdin, false);
        let _ = ioctl_fionbio(&stdout, false);
        Ok(Self {
            input: BufReader::new(Stdin::new(File::from(stdin.as_fd().try_clone_to_owned()?))),
            output: File::from(stdout.as_fd().try_clone_to_owned()?),
            shutdown,
        })
    }
}

impl<R> AgentIo<R> {
    /// Returns an agent on the other end of these files, which ends when `input` ends.
    pub fn new(input: R, output: File) -> Self {
        Self {
            input,
            output,
            shutdown: never(),
        }
    }
}

/// Serves an agent, and clients on the port, until the agent or the system ends it. `listener`
/// is bound already; without one, the address of the settings is bound as soon as it is free.
/// It stops accepting connections within a second after this has returned.
///
/// # Errors
/// If the system has no thread left to start with.
pub fn run(
    config: Config,
    agent_io: AgentIo<impl BufRead + Send + 'static>,
    listener: Option<TcpListener>,
) -> io::Result<()> {
    let access = Arc::new(Access::open(config.access.clone()));
    let (events, ready) = Events::new(config.socket.max_pending);
    let slow = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicBool::new(false));
    let open_connections = listener::start(
        Context {
            options: config.socket.clone(),
            access: access.clone(),
            audit: config.audit.clone(),
            events: events.clone(),
            slow: slow.clone(),
            open: Arc::default(),
            long_heads: AtomicUsize::new(0),
            ended: ended.clone(),
            started: SystemTime::now(),
        },
        listener,
    )?;
    let parser = Parser {
        server_key: config.server_key.clone(),
    };
    let agent = agent::start(agent_io.input, agent_io.output, parser)?;
    // Each half of a UUID has fixed bits, at different places.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    let id_prefix = high.rotate_left(32) ^ low;
    let mut server = Server {
        now: now(),
        hub: Hub::new(config.limits.clone(), id_prefix, config.agent.clone()),
        out: Outputs::new(agent.writer, config.audit.clone(), slow),
        access,
        permission_relay_announced: None,
        listen_error: None,
        shutdown: None,
        control: Control::new(config.control.clone(), events.clone()),
        turns: Turns::new(events, ready),
        long_requests: VecDeque::new(),
        unanswered: FxHashMap::default(),
        storage: Storage::new(config.store.clone()),
        agent_lines: agent.incoming,
        agent_written: agent.written,
        signals: agent_io.shutdown,
        config,
    };
    if server.config.has_hooks {
        server.handle_input(Input::Agent(AgentId::FIRST, AgentInput::HooksExpected));
    }
    let shutdown = server.run();
    info!("ending: {shutdown}");
    server.shut_down(shutdown.deadline, &open_connections);
    ended.store(true, Ordering::Relaxed);
    Ok(())
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: SystemTime::now(),
    }
}
