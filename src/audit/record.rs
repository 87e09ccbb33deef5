//! The records of the audit: a sentence in the log, and a line of JSON in the file.

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::Serialize;

use crate::protocol::{ConnId, Grant, SessionId};

/// Something that the audit remembers.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    /// A client has connected.
    Connected {
        client: ConnId,
        from: SocketAddr,
        session: &'a SessionId,
        grant: &'a Grant,
    },
    /// A client has disconnected.
    Disconnected {
        client: ConnId,
        /// In a few words.
        why: &'a str,
    },
    /// A connection was not admitted.
    Refused {
        client: ConnId,
        from: SocketAddr,
        /// The HTTP status; `None` for a connection that was closed without an answer.
        status: Option<u16>,
        /// The sentence of the answer.
        why: &'a str,
    },
    /// A client wanted what it may not do, for the first time.
    Forbidden {
        client: ConnId,
        grant: &'a Grant,
        /// The sentence of the answer.
        why: &'a str,
    },
    /// A permission request was answered.
    Verdict {
        /// `None` if the server itself answered.
        client: Option<ConnId>,
        user: &'a str,
        tool: &'a str,
        request_id: &'a str,
        allowed: bool,
    },
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected {
                client,
                from,
                session,
                grant,
            } => write!(
                f,
                "{client} from {from} is in session \"{session}\" as {grant}"
            ),
            Self::Disconnected { client, why } => write!(f, "{client} has gone: {why}"),
            Self::Refused {
                client,
                from,
                status: Some(status),
                why,
            } => write!(
                f,
                "{client} from {from} is refused: {status}, {}",
                why.escape_debug()
            ),
            Self::Refused {
                client, from, why, ..
            } => write!(f, "{client} from {from} is cut: {why}"),
            Self::Forbidden { client, grant, why } => {
                write!(f, "{client} is refused as {grant}: {}", why.escape_debug())
            }
            Self::Verdict {
                client,
                user,
                tool,
                request_id,
                allowed,
            } => {
                let place = client.map(|client| format!(" at {client}"));
                let word = if *allowed { "allowed" } else { "denied" };
                write!(
                    f,
                    "{user}{} {word} {} ({})",
                    place.unwrap_or_default(),
                    tool.escape_debug(),
                    request_id.escape_debug()
                )
            }
        }
    }
}

/// A line of the file. Fields that a record doesn't have are left out.
#[derive(Default, Serialize)]
pub struct AuditLine<'a> {
    ts: String,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
}

impl<'a> AuditLine<'a> {
    /// The line in place of those that could not be written.
    pub fn lost(lines: u64) -> Self {
        Self {
            event: "lost",
            lines: Some(lines),
            ..Self::default()
        }
    }

    /// The line of a record, without its time.
    pub fn of(record: &Record<'a>) -> Self {
        let named = |event, client: ConnId| Self {
            event,
            client: Some(client.to_string()),
            ..Self::default()
        };
        match *record {
            Record::Connected {
                client,
                from,
                session,
                grant,
            } => Self {
                from: Some(from),
                session: Some(session.as_str()),
                ..named("connected", client).by(grant)
            },
            Record::Disconnected { client, why } => Self {
                why: Some(why),
                ..named("disconnected", client)
            },
            Record::Refused {
                client,
                from,
                status,
                why,
            } => Self {
                from: Some(from),
                status,
                why: Some(why),
                ..named("refused", client)
            },
            Record::Forbidden { client, grant, why } => Self {
                why: Some(why),
                ..named("forbidden", client).by(grant)
            },
            Record::Verdict {
                client,
                user,
                tool,
                request_id,
                allowed,
            } => Self {
                event: "verdict",
                client: client.map(|client| client.to_string()),
                user: Some(user),
                tool: Some(tool),
                request_id: Some(request_id),
                allowed: Some(allowed),
                ..Self::default()
            },
        }
    }

    fn by(self, grant: &'a Grant) -> Self {
        Self {
            user: grant.user.as_deref(),
            role: Some(grant.role.as_str()),
            ..self
        }
    }

    /// Encodes the line, with the time and a line end.
    pub fn encode(mut self) -> Vec<u8> {
        self.ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = serde_json::to_vec(&self).expect("an audit line serializes");
        line.push(b'\n');
        line
    }
}
