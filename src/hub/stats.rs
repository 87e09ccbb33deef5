//! Figures of the hub, for `/healthz` and `/metrics`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Figures at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub sessions: usize,
    /// Connected clients.
    pub clients: usize,
    /// Pending permission requests.
    pub permissions: usize,
    /// What has happened since the start.
    pub counters: Counters,
    /// The agent accepts messages.
    pub agent_ready: bool,
    /// The agent's name and version, once it has introduced itself.
    pub agent: Option<(String, String)>,
    /// What is known of the way into the agent's conversation.
    pub channel: ChannelHealth,
}

/// What is known of the way into the conversation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelHealth {
    /// Hooks must call, because the plugin has started the server.
    pub plugin: bool,
    /// A hook has called.
    pub hooks: bool,
    /// Messages get into the conversation: `None` until one was seen, or should have been.
    pub proven: Option<bool>,
    /// Messages that should have been seen and were not.
    pub unseen: usize,
    /// What may be wrong, for people, if messages don't get into the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'static, str>>,
}

/// What has happened since the start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Messages accepted from clients.
    pub messages: u64,
    /// Messages sent again, and not accepted twice.
    pub resent: u64,
    /// Messages that Claude Code has put into its conversation.
    pub seen: u64,
    pub replies: u64,
    /// Verdicts of clients.
    pub verdicts: u64,
    /// Rejected frames of clients.
    pub rejected: u64,
}
