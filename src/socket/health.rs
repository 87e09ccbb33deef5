//! What `/healthz` says: written by the server, read by whoever wonders how it is.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::hub::{ChannelHealth, Stats};

/// How a server is. Another version's may say less.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// Always `claude-socket`.
    pub server: String,
    /// The server's version.
    #[serde(default)]
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// How many sessions there are.
    #[serde(default)]
    pub sessions: usize,
    /// How many clients are connected.
    #[serde(default)]
    pub clients: usize,
    /// How many permission requests wait for a verdict.
    #[serde(default)]
    pub permissions: usize,
    /// Claude Code.
    #[serde(default)]
    pub host: Host,
    /// The way into Claude's conversation.
    #[serde(default)]
    pub channel: ChannelHealth,
}

/// Claude Code, as far as it has introduced itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Whether it takes messages.
    pub ready: bool,
}

impl Health {
    /// How this server is, which started at that time.
    pub fn of(started: SystemTime, stats: &Stats) -> Self {
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
            host: Host {
                name,
                version,
                ready: stats.agent_ready,
            },
            channel: stats.channel.clone(),
        }
    }

    /// When it started; `None` if what says so isn't a claude-socket.
    pub fn since(&self) -> Option<SystemTime> {
        let started = humantime::parse_rfc3339(&self.started).ok()?;
        (self.server == env!("CARGO_PKG_NAME")).then_some(started)
    }
}
