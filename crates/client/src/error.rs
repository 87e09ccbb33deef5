//! What can go wrong for an app.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::Refusal;
use crate::protocol::ErrorCode;

/// Why something was not done.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub enum Error {
    /// The options name no server that this client can talk to, or a token that no header can carry.
    Address(String),
    /// The system gives no thread or no socket. It is the [`source`](std::error::Error::source).
    System(Arc<io::Error>),
    /// The message was not taken, by the server or by this client.
    Rejected {
        /// Why, for programs; [`ErrorCode::QueueFull`] if it is this client's own limit. `None` if the server gave none.
        code: Option<ErrorCode>,
        /// Why, for people.
        why: String,
        /// After which time the server can take it, if the reason is the rate of this client's token
        /// ([`ErrorCode::Busy`]).
        retry_after: Option<Duration>,
    },
    /// Claude Code has ended, or the server was restarted, and whether Claude has seen the message is unknown. Says what can
    /// be done, for people.
    Lost(String),
    /// It has not happened in time. It still can.
    TimedOut,
    /// There is no connection any more, and there will be none. Says why, for people.
    Ended(String),
    /// There will be no connection, because the server doesn't let this client in.
    Refused(Refusal),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) => f.write_str(why),
            Self::System(error) => error.fmt(f),
            Self::Rejected { why, .. } | Self::Lost(why) => f.write_str(why),
            Self::TimedOut => f.write_str("it has not happened in time"),
            Self::Ended(why) => write!(f, "the connection has ended: {why}"),
            Self::Refused(refusal) => write!(f, "the server refuses: {}", refusal.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::System(Arc::new(error))
    }
}

/// Two errors of the system are equal if they are of the same kind.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(why), Self::Address(other))
            | (Self::Lost(why), Self::Lost(other))
            | (Self::Ended(why), Self::Ended(other)) => why == other,
            (Self::System(error), Self::System(other)) => error.kind() == other.kind(),
            (
                Self::Rejected {
                    code,
                    why,
                    retry_after,
                },
                Self::Rejected {
                    code: c,
                    why: w,
                    retry_after: r,
                },
            ) => (code, why, retry_after) == (c, w, r),
            (Self::TimedOut, Self::TimedOut) => true,
            (Self::Refused(refusal), Self::Refused(other)) => refusal == other,
            _ => false,
        }
    }
}

impl Eq for Error {}
