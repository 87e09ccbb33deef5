//! What travels over the WebSocket: JSON objects in text frames.

mod client;
mod grant;
mod names;
mod server;

pub use client::{
    ClientMessage, ClientRequest, LastNames, NewMessage, Refusal, clamp_limit, parse, parse_next,
    refuse,
};
pub use grant::{Grant, Role, SessionPattern};
pub use names::{ConnId, MessageId, SessionId};
pub use server::{
    Activity, DeliveryState, ErrorCode, HistoryItem, HostInfo, ServerMessage, SessionItem, Speaker,
    Via,
};

/// The session of a client that names none.
pub const DEFAULT_SESSION: &str = "default";
/// The name of someone who gives none.
pub const DEFAULT_USER: &str = "user";
/// Who has decided if it was nobody here: somebody at the terminal.
pub const TERMINAL: &str = "terminal";
/// Who has decided if nobody has: time is over.
pub const EXPIRED: &str = "expired";
/// Under these names nobody here decides anything.
pub const RESERVED_DECIDERS: [&str; 2] = [TERMINAL, EXPIRED];
/// How many messages `fetch_history` and `fetch_messages` give when they are not told.
pub const DEFAULT_LIMIT: usize = 50;
/// The most messages one `history` holds.
pub const MAX_LIMIT: usize = 100;
/// The most sessions one `sessions` holds.
pub const MAX_SESSIONS_LISTED: usize = 100;
/// How much of each session's last message it holds, in characters.
pub const MAX_EXCERPT: usize = 200;
/// The longest `id` a client may give a message, in characters.
pub const MAX_MESSAGE_ID: usize = 64;
/// The longest name of a token, and the longest pattern for sessions, in characters.
pub const MAX_NAME: usize = 128;
/// How much of a foreign text is repeated in an error message, in characters.
pub const MAX_ECHO: usize = 100;
