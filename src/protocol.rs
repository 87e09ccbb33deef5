//! The messages of the crate `claude-socket-client`, and what only the server has: it checks what clients send, and
//! knows what each may do.

mod grant;
mod ids;
mod parse;
mod rate;

pub use claude_socket_client::protocol::*;

pub use grant::{Grant, SessionPattern};
pub use ids::ConnId;
pub use parse::{
    FETCH_HISTORY, FETCH_RECEIPT, FETCH_VERDICTS, NameCache, PERMISSION_RESPONSE, Rejection,
    SEARCH, clamp_limit, parse, parse_cached, reject,
};
pub use rate::{Rate, RateLimit};

/// The `by` of a permission request that was answered in the terminal.
pub const TERMINAL: &str = "terminal";
/// The `by` of a permission request that nobody has answered in time.
pub const EXPIRED: &str = "expired";
/// The names that no user may have.
pub const RESERVED_NAMES: [&str; 2] = [TERMINAL, EXPIRED];
/// The most characters of a token's name, and of a pattern for sessions.
pub const MAX_NAME: usize = 128;
/// The most characters of a client's text that an error message repeats.
pub const MAX_QUOTED: usize = 100;
