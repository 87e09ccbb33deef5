//! What travels over the WebSocket: JSON objects in text frames.
//!
//! A client sends [`ClientMessage`]s, the server sends [`ServerMessage`]s. A newer server may send more than this version
//! knows: a type is read as [`ServerMessage::Unknown`], a code or a source as `Other`, and a field is skipped.

mod client;
mod field;
mod ids;
mod role;
mod server;
mod surrogates;

pub use client::{ClientMessage, ClientRequest, NewMessage};
pub use field::{FieldError, FieldErrorKind, check_name};
pub use ids::{MessageId, SessionId};
pub use role::Role;
pub use server::{
    Author, DeliveryState, ErrorCode, HistoryItem, HostInfo, ReplySource, ServerMessage,
    SessionItem, Status, VerdictItem,
};
pub use surrogates::replace_lone_surrogates;

/// The close code for a client whose token was removed or changed or has expired, or that needs one now.
pub const UNAUTHORIZED: u16 = 4401;
/// The session of a client that names none.
pub const DEFAULT_SESSION: &str = "default";
/// The name of an author who gives none.
pub const DEFAULT_USER: &str = "user";
/// The number of messages in a `history` if the client names no limit.
pub const DEFAULT_LIMIT: usize = 50;
/// The most messages in one `history`.
pub const MAX_LIMIT: usize = 100;
/// The most sessions in one `sessions`.
pub const MAX_SESSIONS_LISTED: usize = 100;
/// The most characters of the words that a client searches for.
pub const MAX_SEARCH: usize = 200;
/// The most characters of a session's last message in `sessions`.
pub const MAX_EXCERPT: usize = 200;
/// The most characters of the `id` that a client gives a message.
pub const MAX_MESSAGE_ID: usize = 64;
/// The most characters of the `ts` that a client gives a message.
pub const MAX_TIMESTAMP: usize = 64;
