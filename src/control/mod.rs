//! The control socket: how programs of the same user talk to a running server, beside its port. What both sides share:
//! where it is, and what goes over it.
//!
//! It is a Unix stream socket. Each side sends lines of JSON, and begins with a [`Hello`]. Then come a [`Request`] and its
//! [`Answer`]. Only the user whom the server belongs to gets so far: the folder is for nobody else, and on Linux each side
//! asks the kernel who is at the other end.

mod client;
mod lines;
mod place;

use std::os::unix::net::UnixStream;

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use lines::{LineError, Lines};
pub use place::{Place, PlaceError, places};

use crate::hub::stored::Selection;
use crate::protocol::SessionId;

/// The version of what goes over the socket. A side that doesn't know the other's version says so and closes.
pub const VERSION: u32 = 1;

/// The first line of each side. A newer side may add fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub claude_socket_control: u32,
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
}

impl Hello {
    /// Returns that of this program.
    pub fn own() -> Self {
        Self {
            claude_socket_control: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        }
    }

    /// Returns `true` if the other side speaks as this one.
    pub fn is_understood(&self) -> bool {
        self.claude_socket_control == VERSION
    }
}

/// What a client of the control socket wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Sessions are to be forgotten, in memory and on disk.
    Remove(Removal),
}

/// Which sessions are to be removed: `session`, of one agent or of all; those of an `agent`; or `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub all: bool,
}

/// Returns `true` for a flag that is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Removal {
    /// Returns the sessions that are meant. `None` if none is named, or more than one way.
    pub fn selection(&self) -> Option<Selection> {
        match (self.session.as_deref(), self.agent.as_deref(), self.all) {
            (Some(session), agent, false) => Some(Selection::Session {
                agent: agent.map(str::to_owned),
                session: SessionId::parse("session", session, usize::MAX).ok()?,
            }),
            (None, Some(agent), false) => Some(Selection::Agent(agent.to_owned())),
            (None, None, true) => Some(Selection::All),
            _ => None,
        }
    }
}

impl From<&Selection> for Removal {
    fn from(selection: &Selection) -> Self {
        match selection {
            Selection::Session { agent, session } => Self {
                agent: agent.clone(),
                session: Some(session.as_str().to_owned()),
                all: false,
            },
            Selection::Agent(agent) => Self {
                agent: Some(agent.clone()),
                ..Self::default()
            },
            Selection::All => Self {
                all: true,
                ..Self::default()
            },
        }
    }
}

/// Sessions that the hub's loop is to remove.
#[derive(Debug)]
pub struct PendingRemoval {
    pub selection: Selection,
    /// Gets `true` when they are gone from the disk too, or never were there, and `false` if the disk can't be written.
    /// Disconnected if the server ends before.
    pub done: Sender<bool>,
}

/// What the server answers a [`Request`] with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The server has forgotten this.
    Removed {
        #[serde(flatten)]
        removal: Removal,
        /// It is gone from the disk too, or never was there.
        on_disk: bool,
    },
    /// It was not done.
    Error {
        code: ErrorCode,
        /// A sentence for people.
        message: String,
    },
}

/// Why a request was not done, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The other side speaks another version.
    Version,
    /// The line can't be understood: it asks for something that only a newer server does, or for nothing.
    InvalidRequest,
    /// Others are served.
    Busy,
    /// The server is ending.
    Ending,
    /// A kind that only a newer server knows.
    #[serde(other)]
    Other,
}

/// Returns `true` if the other end of a socket is a process of this user. Where the system doesn't say, the folder that
/// the socket is in has kept others out.
#[cfg(target_os = "linux")]
pub fn is_own_peer(stream: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

#[cfg(not(target_os = "linux"))]
pub fn is_own_peer(_stream: &UnixStream) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_names_sessions_in_one_way() {
        let session = |name| SessionId::parse("session", name, 9).expect("a name");
        let cases = [
            (r#"{"all":true}"#, Some(Selection::All)),
            (r#"{"agent":"a"}"#, Some(Selection::Agent("a".to_owned()))),
            (
                r#"{"agent":"a","session":"s"}"#,
                Some(Selection::Session {
                    agent: Some("a".to_owned()),
                    session: session("s"),
                }),
            ),
            (
                r#"{"session":"s"}"#,
                Some(Selection::Session {
                    agent: None,
                    session: session("s"),
                }),
            ),
            ("{}", None),
            (r#"{"session":""}"#, None),
            (r#"{"agent":"a","all":true}"#, None),
            (r#"{"session":"s","all":true}"#, None),
        ];
        for (text, expected) in cases {
            let removal: Removal = serde_json::from_str(text).expect(text);
            assert_eq!(removal.selection(), expected, "{text}");
            if let Some(selection) = expected {
                let again = serde_json::to_string(&Removal::from(&selection));
                assert_eq!(again.expect("it is JSON"), text);
            }
        }
        // Nothing may be removed because a word was not understood.
        assert!(serde_json::from_str::<Removal>(r#"{"agent":"a","sesion":"s"}"#).is_err());
    }

    #[test]
    fn hello_of_newer_side_is_read() {
        let text = r#"{"claude_socket_control":2,"version":"9.0.0","pid":1,"attach":{}}"#;
        let hello: Hello = serde_json::from_str(text).expect("more fields are no fault");
        assert!(!hello.is_understood());
        assert!(Hello::own().is_understood());
    }
}
