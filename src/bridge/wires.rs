//! What the hub has effects on: the way to Claude Code, and every client's outbox.
//! What one wake-up brings is gathered, and sent together.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use log::error;

use super::SESSION_ENDED;
use crate::host::output::Output;
use crate::hub::{Closing, Effects, Notification};
use crate::protocol::{ConnId, ServerMessage};
use crate::socket::frame::{self, CloseCode};
use crate::socket::outbox::Outbox;

/// Everything the hub has effects on.
pub struct Wires {
    /// The way to Claude Code.
    pub output: Output,
    /// The clients.
    pub peers: HashMap<ConnId, Peer>,
    /// The clients that something waits for.
    waiting: Vec<ConnId>,
}

/// What the bridge keeps of one connection.
pub struct Peer {
    outbox: Arc<Outbox>,
    /// What this wake-up has brought for it.
    frames: Vec<Bytes>,
    /// How many of its messages were taken.
    pub taken: u64,
    /// It has gone, and is forgotten when this many were taken.
    pub leaves_after: Option<u64>,
}

impl Peer {
    /// A client that has just connected.
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            frames: Vec::new(),
            taken: 0,
            leaves_after: None,
        }
    }
}

impl Wires {
    /// No clients yet.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            peers: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Sends what has gathered. Nothing here blocks.
    pub fn flush(&mut self) {
        self.output.flush();
        for conn in self.waiting.drain(..) {
            if let Some(peer) = self.peers.get_mut(&conn) {
                peer.outbox.send(&mem::take(&mut peer.frames));
            }
        }
    }
}

impl Effects for Wires {
    fn send(&mut self, to: impl Iterator<Item = ConnId>, message: &ServerMessage<'_>) {
        let mut encoded = None;
        for conn in to {
            let Some(peer) = self.peers.get_mut(&conn) else {
                continue;
            };
            let frame = encoded.get_or_insert_with(|| frame::text(message));
            if peer.frames.is_empty() {
                self.waiting.push(conn);
            }
            peer.frames.push(frame.clone());
        }
    }

    fn close(&mut self, client: ConnId, reason: Closing) {
        let Some(peer) = self.peers.get_mut(&client) else {
            return error!("{client} is to be closed, but is not connected");
        };
        let (code, reason) = match reason {
            Closing::GoingAway => (CloseCode::Away, SESSION_ENDED),
            Closing::TryAgainLater => (CloseCode::Again, "a limit of the server is reached"),
        };
        peer.outbox.send(&mem::take(&mut peer.frames));
        peer.outbox.close(code, reason);
    }

    fn notify(&mut self, notification: &Notification<'_>) {
        self.output.notify(notification);
    }
}
