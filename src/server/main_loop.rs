//! The hub's loop. It sleeps until something happens, handles that and whatever else is
//! there already, as much as there is time for and requests with long answers last, then sends
//! what that brought: one write for each client concerned, one for the agent, one batch for the store. It never waits for a
//! client, for the agent or for the store.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, at, never, select};
use rustc_hash::FxHashMap;

use super::client_events::LongRequest;
use super::control::Control;
use super::outputs::Outputs;
use super::signals::{Reason, Shutdown};
use super::storage::Storage;
use super::turns::Turns;
use super::{Config, now};
use crate::access::Access;
use crate::agent::mcp::Incoming;
use crate::agent::writer::{self, Flushed};
use crate::hub::stored::StoreInput;
use crate::hub::{AgentId, AgentInput, ClientInput, Hub, Input, Now};
use crate::protocol::ConnId;
use crate::socket;
use crate::socket::event_queue::EventQueue;

/// The most lines of the agent, and queues of clients of each kind, that are handled before their output is sent.
const BATCH: usize = 256;
/// How long events are handled before their output is sent, if they take long. With 5 ms, a thousand clients got
/// their replies at half the speed, as each write brought less.
const BATCH_TIME: Duration = Duration::from_millis(20);

/// The hub with everything around it.
pub struct Server {
    pub config: Config,
    /// When this turn of the loop began.
    pub now: Now,
    pub hub: Hub,
    pub out: Outputs,
    pub access: Arc<Access>,
    /// What Claude Code was told: that somebody may answer its permission requests, or not.
    pub permission_relay_announced: Option<bool>,
    /// Why no client can connect.
    pub listen_error: Option<socket::port::BindError>,
    /// The server ends after this turn.
    pub shutdown: Option<Shutdown>,
    pub turns: Turns,
    pub control: Control,
    /// Requests that wait for their turn.
    pub long_requests: VecDeque<LongRequest>,
    /// Whoever waits until a long request is handled, of clients that wait for the store.
    pub unanswered: FxHashMap<ConnId, Sender<()>>,
    pub storage: Storage,
    pub agent_lines: Receiver<Incoming>,
    pub agent_written: Receiver<writer::Event>,
    pub signals: Receiver<Shutdown>,
}

/// Everything the loop reacts to, by where it comes from.
enum Event {
    Client(Arc<EventQueue>),
    AgentLine(Incoming),
    AgentWriter(writer::Event),
    /// `None` if the store's thread has ended.
    Store(Option<StoreInput>),
    Shutdown(Shutdown),
    Timeout,
}

impl Server {
    /// Runs the loop until there is a reason to end.
    pub fn run(&mut self) -> Shutdown {
        loop {
            let event = self.next_event();
            self.now = now();
            self.handle_event(event);
            for _ in 0..BATCH {
                if self.shutdown.is_some()
                    || self.out.should_flush()
                    || !self.drain_ready()
                    || self.is_late()
                {
                    break;
                }
            }
            self.answer_long_requests();
            self.flush();
            self.flush_store();
            if let Some(shutdown) = self.shutdown.take() {
                return shutdown;
            }
            if self.out.agent.is_writing_messages() {
                // More messages can't be written yet. Let them gather, and wake up once for all.
                thread::yield_now();
            }
        }
    }

    /// Sleeps until the next event.
    fn next_event(&self) -> Event {
        // Sources that have nothing to say take no part: each costs about 200 instructions.
        let (no_lines, no_writer) = (never(), never());
        let agent_lines = if self.reads_agent() {
            &self.agent_lines
        } else {
            &no_lines
        };
        let agent_written = if self.out.agent.must_wake() || self.out.holds_senders() {
            &self.agent_written
        } else {
            &no_writer
        };
        let has_more = !self.long_requests.is_empty() || self.turns.has_more(self.holds_senders());
        let timeout = if has_more {
            at(self.now.instant)
        } else {
            self.hub.poll_timeout().map_or_else(never, at)
        };
        select! {
            recv(self.signals) -> shutdown => {
                shutdown.map_or_else(|_| ended("signals"), Event::Shutdown)
            }
            recv(timeout) -> _ => Event::Timeout,
            recv(agent_written) -> event => {
                event.map_or_else(|_| ended("agent-writer"), Event::AgentWriter)
            }
            recv(self.storage.inputs()) -> input => Event::Store(input.ok()),
            recv(agent_lines) -> line => Event::AgentLine(line.unwrap_or(Incoming::End)),
            recv(self.turns.ready()) -> queue => {
                queue.map_or_else(|_| ended("listener"), Event::Client)
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Client(queue) => self.visit(queue, Self::client_event),
            Event::AgentLine(line) => self.agent_line(line),
            Event::AgentWriter(event) => self.agent_writer(event),
            Event::Store(input) => self.store_input(input),
            Event::Shutdown(shutdown) => self.shutdown = Some(shutdown),
            Event::Timeout => self.hub.handle_timeout(self.now, &mut self.out),
        }
    }

    /// Handles one event of each source that is ready. Returns `false` if none was.
    fn drain_ready(&mut self) -> bool {
        let mut is_any = false;
        if let Ok(shutdown) = self.signals.try_recv() {
            self.shutdown = Some(shutdown);
            return true;
        }
        if self.out.agent.is_busy()
            && let Ok(event) = self.agent_written.try_recv()
        {
            self.agent_writer(event);
            is_any = true;
        }
        if let Ok(input) = self.storage.inputs().try_recv() {
            self.store_input(Some(input));
            is_any = true;
        }
        is_any |= self.visit_next(Self::client_event);
        if self.reads_agent()
            && let Ok(line) = self.agent_lines.try_recv()
        {
            self.agent_line(line);
            is_any = true;
        }
        is_any
    }

    /// Returns `true` if this turn of the loop has taken so long that its output must be sent.
    pub fn is_late(&self) -> bool {
        self.now.instant.elapsed() >= BATCH_TIME
    }

    /// Returns `true` if the agent may go on: not while it asks for more than it reads, or the store has too much to
    /// write.
    fn reads_agent(&self) -> bool {
        !self.out.agent.is_congested() && !self.storage.is_behind()
    }

    /// Returns `true` while senders wait: for room in the inbox, or for the store.
    pub fn holds_senders(&self) -> bool {
        self.out.holds_senders() || self.storage.is_behind()
    }

    #[inline(always)] // an input has 100 bytes, which would be copied once more
    pub fn handle_input(&mut self, input: Input) {
        self.hub.handle(self.now, input, &mut self.out);
    }

    // ---- Output ----

    /// Sends what this turn has brought. Clients first, so that a reply is on their sockets before its
    /// tool result says "sent"; then the agent, and then clients again, whose receipts
    /// follow from what was written to it.
    fn flush(&mut self) {
        self.flush_clients();
        // An agent that ends gets no further messages: it would drop them.
        let written = match self.shutdown {
            None => self.flush_agent(),
            Some(_) => self.write_agent().map(drop),
        };
        if let Err(error) = written {
            self.shutdown = Some(Shutdown::now(Reason::WriteFailed(error)));
        }
        self.flush_clients();
    }

    pub fn flush_clients(&mut self) {
        for conn in self.out.flush() {
            self.handle_input(Input::Client(conn, ClientInput::Lost));
        }
    }

    /// Writes to the agent as much as it reads: what it was answered, then messages from its
    /// inbox.
    ///
    /// # Errors
    /// What writing fails with: the agent has closed its end.
    fn flush_agent(&mut self) -> io::Result<()> {
        loop {
            while self.out.agent.has_room()
                && let Some(notification) = self.hub.poll_agent(AgentId::FIRST)
            {
                self.out.agent.message(&notification);
            }
            if !self.write_agent()? {
                return Ok(());
            }
        }
    }

    /// Writes what waits for the agent, without blocking, or gives it to the thread. Returns `true`
    /// if there was anything, so that there is room for further messages.
    ///
    /// # Errors
    /// What writing fails with: the agent has closed its end.
    pub fn write_agent(&mut self) -> io::Result<bool> {
        let input = match self.out.agent.flush()? {
            Flushed::Nothing => return Ok(false),
            Flushed::Written(None) => return Ok(true),
            Flushed::Written(Some(number)) => AgentInput::Written(number),
            Flushed::Writing(number) => AgentInput::Writing(number),
        };
        self.handle_input(Input::Agent(AgentId::FIRST, input));
        Ok(true)
    }
}

/// A thread that must run as long as the server has ended, which only a panic can do.
fn ended(thread: &'static str) -> Event {
    Event::Shutdown(Shutdown::now(Reason::ThreadEnded(thread)))
}
