//! The end: the agent gets its last lines, everything is written to disk, every client is told what became of its
//! messages, and the connections are closed, all within one deadline.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::main_loop::Server;
use super::now;
use crate::hub::{ClientInput, Input};
use crate::socket::Event;

/// How much of the time that is left is kept for the clients.
const CLOSE_GRACE: Duration = Duration::from_millis(300);
/// When no client has sent anything for so long, what was in the sockets is read.
const QUIET: Duration = Duration::from_millis(10);
/// How long messages are rejected that come after the agent has got its last line, and how often
/// queues of clients are visited for it. Whoever has sent more gets no receipts for the rest, so
/// that a flood leaves time to close every connection.
const LATE_TIME: Duration = Duration::from_millis(150);
const MAX_LATE_VISITS: usize = 4 * 1024;
/// How long writing to disk may take at most before the connections are closed.
const MAX_STORE_TIME: Duration = Duration::from_millis(500);
/// How often the number of open connections is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

impl Server {
    /// Ends everything until `deadline`.
    pub fn shut_down(mut self, deadline: Instant, open_connections: &AtomicUsize) {
        self.drain_agent(deadline - CLOSE_GRACE);
        let late = Instant::now() + LATE_TIME;
        self.reject_pending(late.min(deadline - CLOSE_GRACE / 2));
        self.store_everything(deadline);
        self.handle_input(Input::Shutdown);
        self.out.flush();
        self.disconnect_readers();
        self.flush_store();
        // Meanwhile the connections are closed.
        self.storage.close(deadline);
        while open_connections.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Ends the queues of the clients' events: a reader that waits for room, or for the rest of an
    /// answer, would not read on to the close.
    fn disconnect_readers(&mut self) {
        self.turns.end();
        self.control.close();
        self.long_requests.clear();
        self.unanswered.clear();
    }

    /// Has everything written to disk, so that the senders of messages that wait there are told.
    fn store_everything(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let deadline = Instant::now() + (left / 2).min(MAX_STORE_TIME);
        self.flush_store();
        while self.storage.is_writing()
            && let Ok(input) = self.storage.inputs().recv_deadline(deadline)
        {
            self.now = now();
            self.store_input(Some(input));
            self.flush_store();
        }
        self.flush_clients();
    }

    /// Gives the agent the lines that wait for it, if it reads them in time. It gets no further
    /// messages from its inbox: it has ended, or is about to, and would drop them.
    fn drain_agent(&mut self, deadline: Instant) {
        // If it fails, the messages among them are rejected below.
        while self.write_agent().is_ok() && !self.out.agent.is_drained() {
            let Ok(event) = self.agent_written.recv_deadline(deadline) else {
                return;
            };
            self.now = now();
            self.agent_writer(event);
        }
    }

    /// Rejects the messages that the agent doesn't get any more, also those of senders that
    /// were held back, or are on their way here.
    fn reject_pending(&mut self, deadline: Instant) {
        self.handle_input(Input::Closing);
        for _ in 0..MAX_LATE_VISITS {
            if Instant::now() >= deadline {
                return;
            }
            if !self.visit_next(Self::late_event) {
                match self.turns.ready().recv_timeout(QUIET) {
                    Ok(queue) => self.visit(queue, Self::late_event),
                    Err(_) => return,
                }
            }
            if self.out.should_flush() {
                self.flush_clients();
            }
        }
    }

    /// Handles an event, unless it asks for an answer: the connection is closed before anybody could
    /// use that.
    fn late_event(&mut self, event: Event) {
        if !matches!(
            event,
            Event::Input {
                input: ClientInput::Request(_) | ClientInput::Rejected(_),
                ..
            }
        ) {
            self.client_event(event);
        }
    }
}
