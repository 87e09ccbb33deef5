//! What the hub does to the world around it.

use super::{AgentId, CallId, PermissionRequest, RequestId, ToolOutcome};
use crate::protocol::{ConnId, Grant, ServerMessage};

/// Where the hub's output goes. It is a sink, and not a queue of owned events, so that a
/// message is encoded from where it is stored, once for all who get it.
pub trait Effects {
    /// Sends a message to some clients. It is encoded once, however many they are.
    /// Returns how many of them can still be sent to.
    fn send(&mut self, to: impl Iterator<Item = ConnId>, message: &ServerMessage<&str>) -> usize;
    /// Returns `true` while many clients read slowly, so that a frame for one that asks should be short.
    fn is_congested(&self) -> bool;
    /// Closes a client's connection, after what was sent to it.
    fn close(&mut self, client: ConnId, reason: CloseReason);
    /// Answers a tool call.
    fn answer(&mut self, agent: AgentId, call: &CallId, outcome: &ToolOutcome<'_>);
    /// Answers a permission request of an agent.
    fn verdict(&mut self, agent: AgentId, request_id: &RequestId, allowed: bool);
    /// Holds back the senders of an agent's messages, or lets them go on.
    fn hold_senders(&mut self, agent: AgentId, hold: bool);
    /// Records what people may want to know later.
    fn record(&mut self, _event: &AuditEvent<'_>) {}
}

/// Why the hub closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The server ends.
    GoingAway,
    /// A limit is reached.
    TryAgainLater,
    /// The grant that let the client in isn't valid any more.
    Unauthorized,
    /// The session of its URL, and all that was said there, was removed.
    SessionRemoved,
    /// The tokens can't be read, so the grant can't be verified.
    AuthUnavailable,
}

/// What the audit keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditEvent<'a> {
    /// A client has answered a permission request.
    Verdict {
        client: ConnId,
        /// The name it goes by.
        user: &'a str,
        request: &'a PermissionRequest,
        /// The tool may run.
        allowed: bool,
    },
    /// A client asked for something it may not do, for the first time.
    Forbidden {
        client: ConnId,
        /// What it may do.
        grant: &'a Grant,
        /// The sentence it got.
        why: &'a str,
    },
}
