//! How a server is: what `/healthz` says, and how another program asks for it ([`probe`]).

pub mod probe;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::hub::{ChannelHealth, Stats};

/// Figures of the whole server at one moment.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub hub: Stats,
    pub store: StoreHealth,
}

/// The body of `/healthz`. A server of another version may say less.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// Always `claude-socket`.
    pub server: String,
    #[serde(default)]
    pub version: String,
    /// The server's process id.
    pub pid: u32,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    #[serde(default)]
    pub sessions: usize,
    /// Clients that are connected.
    #[serde(default)]
    pub clients: usize,
    /// Permission requests that are pending.
    #[serde(default)]
    pub permissions: usize,
    /// Claude Code.
    #[serde(default)]
    pub host: Agent,
    /// Says whether messages get into Claude's conversation.
    #[serde(default)]
    pub channel: ChannelHealth,
    /// What is kept on disk.
    #[serde(default)]
    pub store: StoreHealth,
}

/// How the store is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreHealth {
    pub state: StoreState,
    /// What it has on disk.
    pub bytes: u64,
    /// Changes that are not on disk yet.
    pub pending: u64,
    /// What is wrong and what to do, for people, if nothing can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Whether what is said gets on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    /// It will be open in a moment.
    Opening,
    Open,
    /// It can't be written now. What is said meanwhile is kept in memory.
    Failing,
    /// It could not be opened. What is said is kept in memory only.
    Unavailable,
    /// Nothing is to be kept on disk, or nothing is known of it.
    #[default]
    #[serde(other)]
    Off,
}

/// An agent, as far as it has introduced itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Agent {
    pub name: Option<String>,
    pub version: Option<String>,
    /// Takes messages.
    pub ready: bool,
}

impl Health {
    /// Returns the health of this process, which has served since `started`.
    pub fn of(started: SystemTime, figures: &Figures) -> Self {
        let Figures { hub: stats, store } = figures;
        let (name, version) = stats.agent.clone().unzip();
        Self {
            status: "ok".to_owned(),
            server: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: humantime::format_rfc3339_seconds(started).to_string(),
            sessions: stats.sessions,
            clients: stats.clients,
            permissions: stats.permissions,
            host: Agent {
                name,
                version,
                ready: stats.agent_ready,
            },
            channel: stats.channel.clone(),
            store: store.clone(),
        }
    }

    /// Returns when the server started, or `None` if this isn't what a claude-socket says.
    pub fn since(&self) -> Option<SystemTime> {
        let started = humantime::parse_rfc3339(&self.started).ok()?;
        (self.server == env!("CARGO_PKG_NAME")).then_some(started)
    }
}
