//! What the hub does to the world around it.

use super::PermissionRequest;
use crate::protocol::{ConnId, Grant, MessageId, ServerMessage, SessionId};

/// What the hub does to the world.
pub trait Effects {
    /// Sends a message to some clients. It is encoded once, however many they are.
    /// Returns how many of them can still be sent to.
    fn send(&mut self, to: impl Iterator<Item = ConnId>, message: &ServerMessage<&str>) -> usize;
    /// Closes a client's connection, after what was sent to it.
    fn close(&mut self, client: ConnId, reason: Closing);
    /// Tells Claude Code something.
    fn notify(&mut self, notification: &Notification<'_>);
    /// Remembers something that people may want to know later.
    fn record(&mut self, _event: &Remarkable<'_>) {}
}

/// Why the hub closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The server ends.
    GoingAway,
    /// A limit is reached.
    TryAgainLater,
    /// What let the client in doesn't hold any more.
    Unauthorized,
    /// It can't be told at the moment whether that still holds.
    Unverifiable,
}

/// What people may want to know later.
#[derive(Clone, Debug, PartialEq)]
pub enum Remarkable<'a> {
    /// A client has answered a permission request.
    Verdict {
        /// The client.
        client: ConnId,
        /// What it goes by.
        user: &'a str,
        /// The request.
        request: &'a PermissionRequest,
        /// Whether the tool may run.
        allowed: bool,
    },
    /// A client wanted what it may not do, for the first time.
    Forbidden {
        /// The client.
        client: ConnId,
        /// What it may do.
        grant: &'a Grant,
        /// The sentence it got.
        why: &'a str,
    },
}

/// What Claude Code is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Notification<'a> {
    /// Someone at an app has said something.
    Message {
        /// Counts these notifications, from 1, for [`super::Hub::handed_over`].
        number: u64,
        /// Whether someone waits for it to be handed over.
        receipt: bool,
        /// The text.
        content: &'a str,
        /// The session.
        chat_id: &'a SessionId,
        /// Who said it.
        user: &'a str,
        /// When.
        ts: &'a str,
        /// The server's id of it.
        message_id: MessageId,
    },
    /// A permission request is answered.
    Verdict {
        /// Which one.
        request_id: &'a str,
        /// Whether the tool may run.
        allowed: bool,
    },
}
