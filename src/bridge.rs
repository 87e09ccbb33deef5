//! Starts the threads, and runs the hub's loop on the calling one.
//!
//! The loop sleeps until something happens, does it and whatever else is there
//! already, then sends what that brought: one write for each client concerned, one
//! chunk of lines for Claude Code. It never waits for anybody. While Claude Code does
//! not read, apps' messages are left where they are; everything else goes on.

mod apps;
mod farewell;
mod lines;
mod wires;

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select};
use log::info;
use rustix::io::ioctl_fionbio;
use uuid::Uuid;

use crate::access::{self, Access};
use crate::audit::Audit;
use crate::host;
use crate::host::mcp::Incoming;
use crate::host::output::Chunk;
use crate::hub::{Hub, Limits, Now};
use crate::lifetime::{self, Ending, Reason};
use crate::socket::door::Door;
use crate::socket::{self, Said, listener};
use wires::Wires;

/// How many events wait for the hub before their senders do.
const EVENTS_WAITING: usize = 1024;
/// How many apps' messages wait for the hub; beyond that they wait in the sockets.
const MESSAGES_WAITING: usize = 256;
/// How much one wake-up does before it sends.
const BATCH: usize = 256;
/// Why connections are closed at the end.
const SESSION_ENDED: &str = "the Claude Code session has ended";

/// How the bridge is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the hub keeps.
    pub limits: Limits,
    /// The apps' side.
    pub socket: socket::Options,
    /// Where tokens come from.
    pub access: access::Options,
    /// Whether permission requests for this server's own tools are allowed at once.
    pub approve_own_tools: bool,
    /// The server's name in a raw MCP config.
    pub server_key: String,
    /// The server was started by the plugin, so there are its hooks.
    pub has_hooks: bool,
}

/// Everything the hub's loop reacts to, by where it comes from.
enum Input {
    Event(Event),
    Line(Incoming),
    Said(Said),
    Alarm,
    Nothing,
}

/// What isn't held back while Claude Code doesn't read.
#[derive(Debug)]
enum Event {
    Host(host::Event),
    Socket(socket::Event),
    Ending(Ending),
}

impl From<host::Event> for Event {
    fn from(event: host::Event) -> Self {
        Self::Host(event)
    }
}

impl From<socket::Event> for Event {
    fn from(event: socket::Event) -> Self {
        Self::Socket(event)
    }
}

impl From<Ending> for Event {
    fn from(ending: Ending) -> Self {
        Self::Ending(ending)
    }
}

/// Serves Claude Code on stdin and stdout, and apps on the port, until Claude Code or
/// the system wants it to end.
///
/// # Errors
/// If the system has no thread left to start with.
pub fn run(options: Options, audit: &Audit) -> io::Result<()> {
    let access = Arc::new(Access::open(options.access.clone()));
    let (events_tx, events) = bounded(EVENTS_WAITING);
    let (said_tx, said) = bounded(MESSAGES_WAITING);
    lifetime::watch(events_tx.clone())?;
    let open = listener::start(Door {
        options: options.socket.clone(),
        access: access.clone(),
        audit: audit.clone(),
        events: events_tx.clone(),
        said: said_tx.clone(),
        open: Arc::default(),
        started: SystemTime::now(),
    })?;
    let (stdin, stdout) = (io::stdin(), io::stdout());
    // Whoever started this process may have left its pipes non-blocking. It fails for
    // what can't be so, such as a file.
    let _ = ioctl_fionbio(&stdin, false);
    let _ = ioctl_fionbio(&stdout, false);
    let host = host::start(
        BufReader::new(stdin),
        File::from(stdout.as_fd().try_clone_to_owned()?),
        events_tx,
        options.server_key.clone(),
    )?;
    let (id_prefix, _) = Uuid::new_v4().as_u64_pair();
    let mut hub = Hub::new(options.limits.clone(), id_prefix);
    if options.has_hooks {
        hub.expect_hooks();
    }
    let mut bridge = Bridge {
        now: now(),
        hub,
        wires: Wires::new(host.output, audit.clone()),
        access,
        relays_permission: None,
        not_listening: None,
        ending: None,
        events,
        lines: host.incoming,
        said,
        _sayer: said_tx,
        no_writer: bounded(0),
        options,
    };
    let ending = bridge.serve();
    info!("ending: {ending}");
    bridge.shut_down(ending.deadline, &host.written, &open);
    Ok(())
}

/// The hub with everything around it.
struct Bridge {
    options: Options,
    /// When this wake-up began.
    now: Now,
    hub: Hub,
    wires: Wires,
    access: Arc<Access>,
    /// Whether Claude Code was told that someone may answer its permission requests.
    relays_permission: Option<bool>,
    /// Why no app can connect, if none can.
    not_listening: Option<String>,
    ending: Option<Ending>,
    events: Receiver<Event>,
    lines: Receiver<Incoming>,
    said: Receiver<Said>,
    /// Keeps that channel open when nothing listens: a closed one is always ready.
    _sayer: Sender<Said>,
    /// Takes the writer's place in a `select!` while it has nothing to do.
    no_writer: (Sender<Chunk>, Receiver<Chunk>),
}

impl Bridge {
    /// The loop.
    fn serve(&mut self) -> Ending {
        loop {
            let first = self.next();
            self.now = now();
            self.handle(first);
            for _ in 0..BATCH {
                let must_send = self.ending.is_some() || self.wires.has_gathered_much();
                if must_send || !self.take_what_is_there() {
                    break;
                }
            }
            self.hand_over();
            self.flush();
            if let Some(ending) = self.ending.take() {
                return ending;
            }
        }
    }

    /// Sleeps until something can be done.
    fn next(&mut self) -> Input {
        let (nothing_said, no_lines) = (never(), never());
        let said = if self.takes_messages() {
            &self.said
        } else {
            &nothing_said
        };
        let lines = if self.takes_lines() {
            &self.lines
        } else {
            &no_lines
        };
        let alarm = self.hub.next_expiry().map_or_else(never, at);
        // After a flush something waits only if the writer is busy.
        let output = &mut self.wires.output;
        let writer = if output.is_empty() {
            self.no_writer.0.clone()
        } else {
            output.writer().clone()
        };
        select! {
            recv(self.events) -> event => event.map_or(Input::Nothing, Input::Event),
            recv(lines) -> line => Input::Line(line.unwrap_or(Incoming::End)),
            recv(said) -> said => said.map_or(Input::Nothing, Input::Said),
            recv(alarm) -> _ => Input::Alarm,
            send(writer, output.take()) -> _ => Input::Nothing,
        }
    }

    /// Sends clients what has gathered for them.
    fn flush(&mut self) {
        for conn in self.wires.flush() {
            self.lose(conn);
        }
    }

    /// Gives Claude Code what has gathered for it, as far as it takes it. What a reply
    /// brought clients goes first: Claude Code is told that it was sent.
    fn hand_over(&mut self) {
        self.flush();
        match self.wires.output.flush() {
            Ok(Some(number)) => self.hub.handed_over(self.now, number, &mut self.wires),
            Ok(None) => {}
            Err(error) => self.ending = Some(Ending::now(Reason::Unwritable(error))),
        }
    }

    /// Does one thing of each kind that is there already. Whether there was any.
    fn take_what_is_there(&mut self) -> bool {
        let event = self.events.try_recv().map(Input::Event);
        let line = self.takes_lines().then(|| self.lines.try_recv().ok());
        let line = line.flatten().map(Input::Line);
        let mut any = false;
        for input in event.into_iter().chain(line) {
            self.handle(input);
            any = true;
        }
        if self.takes_messages()
            && let Ok(said) = self.said.try_recv()
        {
            self.said(said);
            any = true;
        }
        any
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.event(event),
            Input::Line(line) => self.line(line),
            Input::Said(said) => self.said(said),
            Input::Alarm => self.alarm(),
            Input::Nothing => {}
        }
    }

    /// Whether Claude Code's next line can be taken: not if it doesn't read the answers.
    fn takes_lines(&self) -> bool {
        !self.wires.output.is_congested()
    }

    /// Whether apps' messages can go on to Claude Code.
    fn takes_messages(&self) -> bool {
        self.hub.is_host_ready() && self.wires.output.has_room()
    }

    /// It is time for something. What nobody waited to hear of may have been written.
    fn alarm(&mut self) {
        let (now, written) = (self.now, self.wires.output.written());
        self.hub.handed_over(now, written, &mut self.wires);
        self.hub.tick(now, &mut self.wires);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Host(host::Event::Written(number)) => {
                self.hub.handed_over(self.now, number, &mut self.wires);
            }
            Event::Host(host::Event::Unwritable(error)) => {
                self.ending = Some(Ending::now(Reason::Unwritable(error)));
            }
            Event::Socket(event) => self.socket(event),
            Event::Ending(ending) => self.ending = Some(ending),
        }
    }
}

fn now() -> Now {
    Now {
        at: Instant::now(),
        wall: SystemTime::now(),
    }
}
