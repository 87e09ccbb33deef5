//! What the hub has effects on: the way to the agent, every client's outbox, the audit. What
//! one turn of the loop brings is gathered, and sent together.

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use log::error;
use rustc_hash::FxHashMap;

use crate::agent::tools;
use crate::agent::writer::AgentWriter;
use crate::audit::{Audit, Record};
use crate::hub::{AgentId, AuditEvent, CallId, CloseReason, Effects, RequestId, ToolOutcome};
use crate::protocol::{ConnId, ServerMessage};
use crate::socket::event_queue::EventQueue;
use crate::socket::frame::{self, Batch, CloseCode, EncodedFrames, FrameRanges, SESSION_ENDED};
use crate::socket::outbox::Outbox;

/// With this many bytes encoded, a turn ends and they are sent, so that clients that asked for
/// little don't wait for those that asked for much, and outboxes can tell who reads.
const FLUSH_THRESHOLD: usize = 256 * 1024;

/// With so many frames for all clients together, a turn ends and they are sent.
const MAX_DELIVERIES: usize = 256 * 1024;

/// How many bytes of long outputs the hub's thread writes in one turn. The other long ones are left to
/// drain threads: a socket takes 450 KB in some 200 µs, and a broadcast may have a thousand.
const MAX_WRITTEN: usize = 8 * 1024 * 1024;
/// From so many bytes for one client on, a thread costs less than writing them.
const LONG_OUTPUT: usize = 64 * 1024;

/// With more clients than this that have a backlog, frames of answers are short.
const MANY_SLOW: usize = 16;

/// Everything the hub has effects on.
pub struct Outputs {
    /// The way to the agent.
    pub agent: AgentWriter,
    pub audit: Audit,
    /// The connected clients.
    pub links: FxHashMap<ConnId, Link>,
    /// Senders of messages are held back.
    holds_senders: bool,
    /// The number of clients that have a backlog.
    slow: Arc<AtomicUsize>,
    /// The clients with something to send or to close.
    dirty: Vec<ConnId>,
    /// What this turn has encoded for them.
    batch: Batch,
    /// How many frames that is for all of them together.
    deliveries: usize,
}

/// Where to send to one client.
pub struct Link {
    outbox: Arc<Outbox>,
    queue: Arc<EventQueue>,
    /// What this turn has brought for it.
    ranges: FrameRanges,
    /// The connection is closed after that.
    closing: Option<(CloseCode, &'static str)>,
}

impl Link {
    pub fn new(outbox: Arc<Outbox>, queue: Arc<EventQueue>) -> Self {
        Self {
            outbox,
            queue,
            ranges: FrameRanges::default(),
            closing: None,
        }
    }

    fn is_open(&self) -> bool {
        self.closing.is_none() && self.outbox.is_open()
    }

    /// Sends what this turn has brought. Of long outputs, `room` bytes may be written here.
    fn flush(&mut self, batch: &EncodedFrames, room: &mut usize) {
        let ranges = mem::take(&mut self.ranges);
        if !ranges.is_empty() {
            let bytes: usize = ranges.as_slice().iter().map(Range::len).sum();
            let is_long = bytes >= LONG_OUTPUT;
            if is_long && bytes > *room {
                self.outbox.send_later(batch, ranges.as_slice());
            } else {
                *room -= if is_long { bytes } else { 0 };
                self.outbox.send(batch, ranges.as_slice());
            }
        }
        if let Some((code, reason)) = self.closing {
            self.outbox.close(code, reason);
        }
    }
}

impl Outputs {
    pub fn new(agent: AgentWriter, audit: Audit, slow: Arc<AtomicUsize>) -> Self {
        Self {
            agent,
            audit,
            links: FxHashMap::default(),
            holds_senders: false,
            slow,
            dirty: Vec::new(),
            batch: Batch::default(),
            deliveries: 0,
        }
    }

    /// Returns `true` if so much is encoded that the turn must end.
    pub fn should_flush(&self) -> bool {
        self.batch.len() > FLUSH_THRESHOLD || self.deliveries > MAX_DELIVERIES
    }

    /// How many frames this turn of the loop has brought, for all clients together.
    pub fn deliveries(&self) -> usize {
        self.deliveries
    }

    /// Removes a client that has disconnected.
    pub fn disconnected(&mut self, conn: ConnId) {
        if let Some(link) = self.links.remove(&conn) {
            link.queue.retire(conn);
        }
    }

    /// Returns `true` while senders wait for messages to be written.
    pub fn holds_senders(&self) -> bool {
        self.holds_senders
    }

    /// Sends clients what this turn has brought for them. Never blocks. Returns those to which
    /// nothing can be sent any more.
    pub fn flush(&mut self) -> Vec<ConnId> {
        if self.dirty.is_empty() {
            return Vec::new();
        }
        let batch = self.batch.freeze();
        self.deliveries = 0;
        let mut lost = Vec::new();
        let mut room = MAX_WRITTEN;
        for conn in self.dirty.drain(..) {
            if let Some(link) = self.links.get_mut(&conn) {
                link.flush(&batch, &mut room);
                if !link.is_open() {
                    link.queue.wake();
                    lost.push(conn);
                }
            }
        }
        self.batch.reclaim(batch);
        lost
    }
}

impl Effects for Outputs {
    fn send(&mut self, to: impl Iterator<Item = ConnId>, message: &ServerMessage<&str>) -> usize {
        let mut encoded = None;
        let mut reached = 0;
        for conn in to {
            let Some(link) = self.links.get_mut(&conn) else {
                continue;
            };
            if !link.is_open() {
                // So that the flush finds it.
                self.dirty.push(conn);
                continue;
            }
            reached += 1;
            let frame = encoded.get_or_insert_with(|| self.batch.add(message));
            if link.ranges.is_empty() {
                self.dirty.push(conn);
            }
            link.ranges.push(frame.clone());
        }
        self.deliveries += reached;
        reached
    }

    fn is_congested(&self) -> bool {
        self.slow.load(Ordering::Relaxed) > MANY_SLOW
    }

    fn close(&mut self, client: ConnId, reason: CloseReason) {
        let Some(link) = self.links.get_mut(&client) else {
            return error!("{client} is to be closed, but is not connected");
        };
        let (code, reason) = match reason {
            CloseReason::GoingAway => (CloseCode::Away, SESSION_ENDED),
            CloseReason::TryAgainLater => (CloseCode::Again, "a limit of the server is reached"),
            CloseReason::Unauthorized => (
                frame::UNAUTHORIZED,
                "the token was removed or changed or has expired, or one is needed now",
            ),
            CloseReason::SessionRemoved => (
                CloseCode::Restart,
                "the session was removed, with all that was said there",
            ),
            CloseReason::AuthUnavailable => (CloseCode::Again, "the tokens cannot be read"),
        };
        link.closing.get_or_insert((code, reason));
        self.dirty.push(client);
    }

    fn answer(&mut self, _: AgentId, call: &CallId, outcome: &ToolOutcome<'_>) {
        self.agent.result(call, &tools::render(outcome));
    }

    fn verdict(&mut self, _: AgentId, request_id: &RequestId, allowed: bool) {
        self.agent.verdict(request_id, allowed);
    }

    fn hold_senders(&mut self, _: AgentId, hold: bool) {
        self.holds_senders = hold;
    }

    fn record(&mut self, event: &AuditEvent<'_>) {
        self.audit.record(&match *event {
            AuditEvent::Verdict {
                client,
                user,
                request,
                allowed,
            } => Record::Verdict {
                client: Some(client),
                user,
                tool: &request.tool_name,
                request_id: request.request_id.as_str(),
                allowed,
            },
            AuditEvent::Forbidden { client, grant, why } => {
                Record::Forbidden { client, grant, why }
            }
        });
    }
}
