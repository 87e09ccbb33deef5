//! What can be told about the hub from outside.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Figures for `/healthz` and `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Sessions there are.
    pub sessions: usize,
    /// Clients connected.
    pub clients: usize,
    /// Permission requests waiting.
    pub permissions: usize,
    /// What has happened since the start.
    pub counts: Counts,
    /// Whether Claude Code takes messages.
    pub host_ready: bool,
    /// Its name and version, if it has introduced itself.
    pub host: Option<(String, String)>,
    /// The way into the conversation.
    pub channel: Channel,
}

/// What is known of the way into the conversation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Channel {
    /// Whether hooks must be there, because the plugin has started the server.
    pub plugin: bool,
    /// Whether one has called yet.
    pub hooks: bool,
    /// Whether apps' messages get there: `None` until one has been seen, or should have.
    pub proven: Option<bool>,
    /// Messages that should have been seen, and have not.
    pub unseen: usize,
    /// What may be wrong, for people, if messages don't get there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'static, str>>,
}

/// What has happened since the start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Messages taken from clients.
    pub messages: u64,
    /// Messages sent again, and not taken twice.
    pub resent: u64,
    /// Messages that Claude Code has put into its conversation.
    pub seen: u64,
    /// Replies of Claude's.
    pub replies: u64,
    /// Verdicts given by clients.
    pub verdicts: u64,
    /// Client frames refused.
    pub refused: u64,
}
