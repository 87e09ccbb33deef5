//! What is remembered: a sentence in the log, and a line of JSON.

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::Serialize;

use crate::protocol::{ConnId, Grant, SessionId};

/// Something to be remembered.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    /// A client has connected.
    Connected {
        /// Who.
        client: ConnId,
        /// From where.
        from: SocketAddr,
        /// Into which session.
        session: &'a SessionId,
        /// As whom.
        grant: &'a Grant,
    },
    /// It has gone.
    Disconnected {
        /// Who.
        client: ConnId,
        /// In a few words.
        why: &'a str,
    },
    /// Somebody was not let in.
    Refused {
        /// The connection.
        client: ConnId,
        /// From where.
        from: SocketAddr,
        /// The HTTP status; none for a connection that was cut.
        status: Option<u16>,
        /// The sentence that went with it.
        why: &'a str,
    },
    /// A client wanted what it may not do, for the first time.
    Forbidden {
        /// Who.
        client: ConnId,
        /// As whom.
        grant: &'a Grant,
        /// The sentence it got.
        why: &'a str,
    },
    /// A permission request was answered.
    Verdict {
        /// By which connection; none if by the server itself.
        client: Option<ConnId>,
        /// By whom.
        user: &'a str,
        /// About which tool.
        tool: &'a str,
        /// Which request.
        request_id: &'a str,
        /// The answer.
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

/// A line of the file. What a record has nothing to say about is left out.
#[derive(Default, Serialize)]
pub struct Line<'a> {
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

impl<'a> Line<'a> {
    /// The line that stands for those that could not be written.
    pub fn lost(lines: u64) -> Self {
        Self {
            event: "lost",
            lines: Some(lines),
            ..Self::default()
        }
    }

    /// The line of a record.
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

    /// The line as text, with the time.
    pub fn encode(mut self) -> Vec<u8> {
        self.ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = serde_json::to_vec(&self).expect("it is JSON");
        line.push(b'\n');
        line
    }
}
