//! What the hub has effects on: the way to the agent, every client's outbox, the audit. What
//! one turn of the loop brings is gathered, and sent together.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use log::error;
use rustc_hash::FxHashMap;

use crate::agent::tools;
use crate::agent::writer::AgentWriter;
use crate::audit::{Audit, Record};
use crate::hub::{AgentId, AuditEvent, CallId, CloseReason, Effects, RequestId, ToolOutcome};
use crate::protocol::{ConnId, ServerMessage};
use crate::socket::context::SenderHold;
use crate::socket::frame::{self, Batch, CloseCode, EncodedFrames, FrameRanges, SESSION_ENDED};
use crate::socket::outbox::Outbox;

/// With this many bytes encoded, a turn ends and they are sent, so that clients that asked for
/// little don't wait for those that asked for much, and outboxes can tell who reads.
const FLUSH_THRESHOLD: usize = 256 * 1024;

/// With more clients than this that have a backlog, frames of answers are short.
const MANY_SLOW: usize = 16;

/// Everything the hub has effects on.
pub struct Outputs {
    /// The way to the agent.
    pub agent: AgentWriter,
    pub audit: Audit,
    /// The connected clients.
    pub links: FxHashMap<ConnId, Link>,
    hold: Arc<SenderHold>,
    /// The number of clients that have a backlog.
    slow: Arc<AtomicUsize>,
    /// The clients with something to send or to close.
    dirty: Vec<ConnId>,
    /// What this turn has encoded for them.
    batch: Batch,
}

/// Where to send to one client.
pub struct Link {
    outbox: Arc<Outbox>,
    /// What this turn has brought for it.
    ranges: FrameRanges,
    /// The connection is closed after that.
    closing: Option<(CloseCode, &'static str)>,
}

impl Link {
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            ranges: FrameRanges::default(),
            closing: None,
        }
    }

    fn is_open(&self) -> bool {
        self.closing.is_none() && self.outbox.is_open()
    }

    fn flush(&mut self, batch: &EncodedFrames) {
        let ranges = mem::take(&mut self.ranges);
        if !ranges.is_empty() {
            self.outbox.send(batch, ranges.as_slice());
        }
        if let Some((code, reason)) = self.closing {
            self.outbox.close(code, reason);
        }
    }
}

impl Outputs {
    pub fn new(
        agent: AgentWriter,
        audit: Audit,
        hold: Arc<SenderHold>,
        slow: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            agent,
            audit,
            links: FxHashMap::default(),
            hold,
            slow,
            dirty: Vec::new(),
            batch: Batch::default(),
        }
    }

    /// Returns `true` if so much is encoded that the turn must end.
    pub fn should_flush(&self) -> bool {
        self.batch.len() > FLUSH_THRESHOLD
    }

    /// Returns `true` while senders wait for messages to be written.
    pub fn holds_senders(&self) -> bool {
        self.hold.is_on()
    }

    /// Returns `true` while a sender still waits for room in the inbox.
    pub fn has_held_senders(&self) -> bool {
        self.hold.has_waiting()
    }

    /// Sends clients what this turn has brought for them. Never blocks. Returns those to which
    /// nothing can be sent any more.
    pub fn flush(&mut self) -> Vec<ConnId> {
        if self.dirty.is_empty() {
            return Vec::new();
        }
        let batch = self.batch.freeze();
        let mut lost = Vec::new();
        for conn in self.dirty.drain(..) {
            if let Some(link) = self.links.get_mut(&conn) {
                link.flush(&batch);
                if !link.is_open() {
                    lost.push(conn);
                }
            }
        }
        self.batch.reclaim(batch);
        if !lost.is_empty() {
            self.hold.wake_closed();
        }
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
        self.hold.set(hold);
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
