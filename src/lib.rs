//! claude-socket connects a running Claude Code session with anything that can open a
//! WebSocket.
//!
//! It is a synchronous program: blocking threads do the I/O, one thread owns all
//! session state, crossbeam channels connect them. There is no async runtime.
//!
//! ```text
//!   Claude Code                                                              apps
//!       │                                                                      │
//!       │ stdin    ┌─────────────┐ lines   ┌───────────────┐ said   ┌──────────┴─┐
//!       ├─────────►│ host-reader ├────────►│               │◄───────┤  client-1  │
//!       │          └─────────────┘         │   the hub's   │        │  client-2  │
//!       │ stdout   ┌─────────────┐ chunks  │     loop      │ events │     …      │
//!       │◄─────────┤ host-writer │◄────────┤               │◄───────┤  listener  │
//!       │          └──────┬──────┘         │ (main thread) │        └──────────▲─┘
//!       │                 │ events         │               │ send, or          │
//!       │          ┌──────┴──┐  events     │               │ client-N-drain    │
//!       └─────────►│ signals ├────────────►│               ├───────────────────┘
//!      its death   └─────────┘             └───────────────┘
//! ```
//!
//! # The threads
//!
//! | thread | blocks on | started by |
//! |---|---|---|
//! | main | its channels | the system; [`bridge`] runs the hub's loop on it |
//! | `host-reader` | stdin | [`host::start`] |
//! | `host-writer` | stdout | [`host::start`] |
//! | `listener` | accept, for a second; then it looks whether the tokens have changed | [`socket::listener`], [`access`] |
//! | `client-N` | its socket, reading | [`socket::connection`]: one for the handshake, then one for the WebSocket |
//! | `client-N-drain` | its socket, writing | [`socket::outbox`], only while that client is slow |
//! | `signals` | signals, its parent's death, stdin's end | [`lifetime`] |
//! | `log` | stderr, the log file | [`logging`] |
//! | `audit` | the audit file, if one is named | [`audit`] |
//!
//! # The channels, all bounded
//!
//! | channel | from | to | what |
//! |---|---|---|---|
//! | lines | `host-reader` | hub | what Claude Code says |
//! | said | `client-N` | hub | words for Claude; left alone while Claude Code doesn't read |
//! | events | everyone | hub | everything else |
//! | chunks | hub | `host-writer` | lines for Claude Code, one chunk a wake-up |
//! | log lines | everyone | `log` | dropped when it is full |
//! | audit lines | hub, `client-N` | `audit` | dropped and counted when it is full |
//!
//! # The path of a message
//!
//! 1. `client-N` reads a frame, and [`protocol::parse`] turns it into a
//!    [`protocol::ClientMessage`], or into a refusal that names the field.
//! 2. The [`bridge`] takes it from the *said* channel if there is room on the way to
//!    Claude Code, and gives it to the [`hub`].
//! 3. [`hub::Hub::message`] stores it, sends it to the other people in the session, and
//!    has a [`hub::Notification`] for Claude Code.
//! 4. [`host::channel`] writes that as a JSON-RPC line, `host-writer` writes the line to
//!    stdout, and the sender gets its `delivery`.
//! 5. Claude answers with the `reply` tool: `host-reader` reads the call, [`host::mcp`]
//!    understands it, [`host::tools`] runs it, and [`hub::Hub::reply`] sends the answer to
//!    everyone in the session, encoded once, through each one's [`socket::outbox`].
//!
//! Beside that path, Claude Code's hooks call the tool `activity`, if they are there:
//! [`host::activity`] understands them, and [`hub::Hub::hook`] draws conclusions. Statuses
//! and receipts get better by them; no message waits for one.
//!
//! # The other side
//!
//! [`client`] is what apps written in Rust use, and the commands `send`, `watch`, `chat` and
//! `open` ([`commands::terminal`]). Its one thread, `claude-socket`, connects, reads and writes
//! as a state machine says that knows neither sockets nor the clock.
//!
//! # Where things are
//!
//! Imports point one way: `main`, `cli` → [`arguments`] → [`commands`] → [`bridge`] → [`host`], [`socket`] → [`hub`]
//! → [`protocol`] → [`json`], and [`commands`] → [`client`] → [`protocol`]. [`config`] holds every setting, [`access`] who may connect.

pub mod access;
pub mod arguments;
pub mod audit;
pub mod bridge;
pub mod client;
pub mod commands;
pub mod config;
pub mod host;
pub mod hub;
pub mod json;
pub mod lifetime;
pub mod logging;
pub mod owner;
pub mod protocol;
pub mod socket;
