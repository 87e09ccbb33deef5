//! What the hub has effects on: the way to Claude Code, and every client's outbox.
//! What one wake-up brings is gathered, and sent together.

use std::mem;
use std::sync::Arc;

use log::error;
use rustc_hash::FxHashMap;

use super::SESSION_ENDED;
use crate::audit::{Audit, Record};
use crate::host::output::Output;
use crate::hub::{Closing, Effects, Notification, Remarkable};
use crate::protocol::{ConnId, Grant, ServerMessage, SessionId};
use crate::socket::batch::{Batch, Frames, Portion};
use crate::socket::frame::{self, CloseCode};
use crate::socket::outbox::Outbox;

/// With this many bytes encoded, a wake-up ends and they are sent, so that those who asked
/// for little don't wait for those who asked for much, and that outboxes can tell who reads.
const MAX_GATHERED: usize = 256 * 1024;

/// Everything the hub has effects on.
pub struct Wires {
    /// The way to Claude Code.
    pub output: Output,
    /// Where it is remembered who did what.
    pub audit: Audit,
    /// The clients.
    pub peers: FxHashMap<ConnId, Peer>,
    /// The clients that something waits for.
    waiting: Vec<ConnId>,
    /// What this wake-up has encoded for them.
    batch: Batch,
}

/// What the bridge keeps of one connection.
pub struct Peer {
    outbox: Arc<Outbox>,
    /// The session of its URL.
    pub home: SessionId,
    /// What it may do.
    pub grant: Arc<Grant>,
    /// What this wake-up has brought for it.
    portion: Portion,
    /// It is to be closed after that.
    closing: Option<(CloseCode, &'static str)>,
    /// How many of its messages were taken.
    pub taken: u64,
    /// It was here, and has left the hub; what it said before still counts.
    pub gone: bool,
    /// It has gone, but as many of its messages are still to be taken.
    pub leaves_after: Option<u64>,
}

impl Peer {
    /// A client that has just connected.
    pub fn new(outbox: Arc<Outbox>, home: SessionId, grant: Arc<Grant>) -> Self {
        Self {
            outbox,
            home,
            grant,
            portion: Portion::default(),
            closing: None,
            taken: 0,
            gone: false,
            leaves_after: None,
        }
    }

    fn takes_frames(&self) -> bool {
        self.closing.is_none() && self.outbox.takes_frames()
    }

    fn flush(&mut self, batch: &Frames) {
        let portion = mem::take(&mut self.portion);
        if !portion.is_empty() {
            self.outbox.send(batch, portion.pieces());
        }
        if let Some((code, reason)) = self.closing {
            self.outbox.close(code, reason);
        }
    }
}

impl Wires {
    /// No clients yet.
    pub fn new(output: Output, audit: Audit) -> Self {
        Self {
            output,
            audit,
            peers: FxHashMap::default(),
            waiting: Vec::new(),
            batch: Batch::default(),
        }
    }

    /// Whether it is time to send.
    pub fn has_gathered_much(&self) -> bool {
        self.batch.len() > MAX_GATHERED
    }

    /// Sends clients what has gathered for them. Nothing here blocks. Returns those to
    /// which nothing can be sent any more.
    pub fn flush(&mut self) -> Vec<ConnId> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let batch = self.batch.take();
        let mut gone = Vec::new();
        for conn in self.waiting.drain(..) {
            if let Some(peer) = self.peers.get_mut(&conn) {
                peer.flush(&batch);
                if !peer.takes_frames() {
                    gone.push(conn);
                }
            }
        }
        self.batch.refill(batch);
        gone
    }
}

impl Effects for Wires {
    fn send(&mut self, to: impl Iterator<Item = ConnId>, message: &ServerMessage<&str>) -> usize {
        let mut encoded = None;
        let mut reached = 0;
        for conn in to {
            let Some(peer) = self.peers.get_mut(&conn) else {
                continue;
            };
            if !peer.takes_frames() {
                // So that the flush finds it.
                self.waiting.push(conn);
                continue;
            }
            reached += 1;
            let frame = encoded.get_or_insert_with(|| self.batch.add(message));
            if peer.portion.is_empty() {
                self.waiting.push(conn);
            }
            peer.portion.push(frame.clone());
        }
        reached
    }

    fn close(&mut self, client: ConnId, reason: Closing) {
        let Some(peer) = self.peers.get_mut(&client) else {
            return error!("{client} is to be closed, but is not connected");
        };
        let (code, reason) = match reason {
            Closing::GoingAway => (CloseCode::Away, SESSION_ENDED),
            Closing::TryAgainLater => (CloseCode::Again, "a limit of the server is reached"),
            Closing::Unauthorized => (
                frame::UNAUTHORIZED,
                "the token was removed or changed, or one is needed now",
            ),
            Closing::Unverifiable => (CloseCode::Again, "the tokens cannot be read"),
        };
        peer.closing.get_or_insert((code, reason));
        self.waiting.push(client);
    }

    fn notify(&mut self, notification: &Notification<'_>) {
        self.output.notify(notification);
    }

    fn record(&mut self, event: &Remarkable<'_>) {
        self.audit.record(&match *event {
            Remarkable::Verdict {
                client,
                user,
                request,
                allowed,
            } => Record::Verdict {
                client: Some(client),
                user,
                tool: &request.tool_name,
                request_id: &request.request_id,
                allowed,
            },
            Remarkable::Forbidden { client, grant, why } => {
                Record::Forbidden { client, grant, why }
            }
        });
    }
}
