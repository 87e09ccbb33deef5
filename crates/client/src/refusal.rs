//! Why a server does not let a client in, and what that means for the next attempt.

use std::time::Duration;

use crate::protocol::UNAUTHORIZED;

/// What the server answers instead of opening the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct Refusal {
    /// The HTTP status. 401 also if the server has closed the connection because the token is not valid any more.
    pub status: u16,
    /// The kind, for programs: what the server calls it, or `http_` and the status if there is no word for it.
    pub code: String,
    /// One sentence for people.
    pub message: String,
}

impl Refusal {
    /// Returns `true` if another attempt would not help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.status, 401 | 403)
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Disconnect {
    /// The close code, or the HTTP status.
    pub code: Option<u16>,
    pub reason: String,
    pub refusal: Option<Refusal>,
    /// How long the server wants no other attempt.
    pub retry_after: Duration,
}

impl Disconnect {
    /// The connection was lost, or there is no server.
    pub fn because(reason: impl ToString) -> Self {
        Self {
            code: None,
            reason: reason.to_string(),
            refusal: None,
            retry_after: Duration::ZERO,
        }
    }

    /// The server has closed the connection.
    pub fn closed(code: u16, reason: &str) -> Self {
        let reason = match reason {
            "" => format!("the server has closed the connection ({code})"),
            _ => reason.to_owned(),
        };
        let refusal = (code == UNAUTHORIZED).then(|| Refusal {
            status: 401,
            code: "unauthorized".to_owned(),
            message: reason.clone(),
        });
        Self {
            code: Some(code),
            refusal,
            ..Self::because(reason)
        }
    }

    /// The server has answered the handshake with another status than 101 (RFC 6455, section 4.1).
    pub fn refused(status: u16, body: &[u8], retry_after: Duration) -> Self {
        /// The body of the server's refusal. Older ones have a sentence only.
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Body {
            code: Option<String>,
            message: Option<String>,
            error: Option<String>,
        }
        // A proxy refuses with a page.
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let refusal = Refusal {
            status,
            code: body.code.unwrap_or_else(|| format!("http_{status}")),
            message: body
                .message
                .or(body.error)
                .unwrap_or_else(|| format!("the server answers with the HTTP status {status}")),
        };
        Self {
            code: Some(status),
            reason: refusal.message.clone(),
            refusal: Some(refusal),
            retry_after,
        }
    }
}
