//! claude-socket connects a running Claude Code session with anything that can open a
//! WebSocket.
//!
//! It is a synchronous program: blocking threads do the I/O, one thread owns all
//! session state, crossbeam channels connect them. There is no async runtime.

pub mod host;
pub mod hub;
pub mod json;
pub mod protocol;
pub mod socket;
