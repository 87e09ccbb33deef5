//! claude-socket connects a running Claude Code session with anything that can open a
//! WebSocket.
//!
//! It is a synchronous program: blocking threads do the I/O, one thread owns all
//! session state, crossbeam channels connect them. There is no async runtime.
//!
//! Apps in Rust need [`client`] and [`protocol`]. Everything else belongs to the two programs of
//! this package and changes as these want; with `cargo doc --document-private-items` each name
//! in this tour is a link.
//!
//! ```text
//!   Claude Code                                                                   apps
//!       │                                                                           │
//!       │ stdin    ┌─────────────┐ lines   ┌────────────────┐ said, events ┌────────┴───┐
//!       ├─────────►│ host-reader ├────────►│                │◄─────────────┤  client-1  │
//!       │          └─────────────┘         │                │              │  client-2  │
//!       │ stdout                           │      main:     │ answered,    │     …      │
//!       │◄─────────────────────────────────┤                │ summary      │            │
//!       │          ┌─────────────┐ chunks  │   the hub's    ├─────────────►│            │
//!       │◄─────────┤ host-writer │◄────────┤      loop      │              └────────▲───┘
//!       │  if it   └──────┬──────┘         │                │ events       ┌────────┴───┐
//!       │  must wait      │ events,        │                │◄─────────────┤  listener  │
//!       │                 │ written        │                │              └────────────┘
//!       │                 └───────────────►│                │ frames            apps
//!       │          ┌─────────┐  events     │                ├──────────────────►│
//!       └─────────►│ signals ├────────────►│                │ backlog  ┌────────┴───────┐
//!      its death   └─────────┘             │                ├─────────►│ client-N-drain │
//!                                          └───────┬────────┘          └────────────────┘
//!                      everyone │ log lines        │ audit lines, also of listener, client-N
//!                          ┌────▼────┐        ┌────▼────┐
//!                  stderr ◄┤   log   │        │  audit  ├► a file
//!                          └─────────┘        └─────────┘
//! ```
//!
//! # The threads
//!
//! | thread | blocks on | started by |
//! |---|---|---|
//! | main | its channels | the system; [`bridge`] runs the hub's loop on it |
//! | `host-reader` | stdin | [`host::start`] |
//! | `host-writer` | stdout, for what the hub could not write at once | [`host::start`] |
//! | `listener` | accept, for a second; then it looks whether the tokens have changed | [`socket::listener`], [`access`] |
//! | `client-N` | its socket, reading | [`socket::connection`]: one for the handshake, then one for the WebSocket |
//! | `client-N-drain` | its socket, writing | [`socket::outbox`], only while that client is slow |
//! | `signals` | signals, its parent's death, the end of stdin or stdout | [`lifetime`] |
//! | `log` | stderr, the log file | [`logging`], with a [`line_writer`] |
//! | `audit` | the audit file, if one is named | [`audit`], with a [`line_writer`] |
//!
//! # The channels, all bounded
//!
//! | channel | from | to | what |
//! |---|---|---|---|
//! | lines | `host-reader` | hub | what Claude Code says |
//! | said | `client-N` | hub | words for Claude; left alone while Claude Code doesn't read |
//! | events | `client-N`, `listener`, `host-writer`, `signals` | hub | everything else |
//! | chunks | hub | `host-writer` | lines for Claude Code that stdout did not take at once |
//! | written | `host-writer` | hub | nothing; it is closed when the writer has ended |
//! | answered | hub | `client-N` | nothing; it is closed when a long answer was sent, and the client is heard again |
//! | summary | hub | `client-N` | figures for a page such as `/healthz` |
//! | log lines | everyone | `log` | dropped when it is full |
//! | audit lines | hub, `listener`, `client-N` | `audit` | dropped and counted when it is full |
//!
//! Two ways out are no channels. To stdout and to the sockets the hub's thread writes by itself,
//! without waiting. A client that doesn't take everything has a backlog of frames behind a lock,
//! bounded by bytes, which its `client-N-drain` writes.
//!
//! # The path of a message
//!
//! 1. `client-N` reads a frame, and [`protocol::parse`] turns it into a
//!    [`protocol::ClientMessage`], or into a refusal that names the field.
//! 2. The [`bridge`] takes it from the *said* channel if there is room on the way to
//!    Claude Code, and gives it to the [`hub`].
//! 3. [`hub::Hub::message`] stores it, sends it to the other people in the session, and
//!    has a [`hub::Notification`] for Claude Code.
//! 4. [`host::channel`] makes that a JSON-RPC line. [`host::output`] writes what a wake-up of
//!    the hub has brought to stdout, or leaves it to `host-writer` where that would wait, and
//!    the sender gets its `delivery`.
//! 5. Claude answers with the `reply` tool: `host-reader` reads the call, [`host::mcp`]
//!    understands it, [`host::tools`] runs it, and [`hub::Hub::reply`] sends the answer to
//!    everyone in the session: encoded once, into the wake-up's [`socket::batch`], of which
//!    each one's [`socket::outbox`] writes the pieces that are for it.
//!
//! Beside that path, Claude Code's hooks call the tool `activity`, if they are there:
//! [`host::activity`] understands them, and [`hub::Hub::hook`] draws conclusions. Statuses
//! and receipts get better by them; no message waits for one.
//!
//! # The other side
//!
//! [`client`] is what apps written in Rust use, and the commands `send`, `watch`, `chat` and
//! `open` ([`commands::terminal`]). Its one thread, `claude-socket`, connects, reads and writes
//! as a state machine says that knows neither sockets nor the clock. Two channels lead there and
//! back: *commands*, which is not bounded, as whoever sends must not wait for a connection; and
//! *events*, where the oldest makes room when nobody receives them. [`owner`] tells whose program
//! listens, before a token is shown to it.
//!
//! Three commands have threads of their own beside that. `chat` prints on `chat-screen` while its
//! main thread reads the keyboard, `demo` reads the lines of the server that it has started, and
//! `doctor` reads what `claude` prints.
//!
//! The package has two programs, [`arguments`] says why; `claude-socket` becomes
//! `claude-socket-cli` for the commands that are not its own ([`commands::sibling`]).
//!
//! # Where things are
//!
//! Imports point one way: `main`, `cli` → [`arguments`] → [`commands`] → [`bridge`] → [`host`], [`socket`] → [`hub`]
//! → [`protocol`] → [`json`], and [`commands`] → [`client`] → [`protocol`]. [`config`] holds every setting, [`access`] who may connect.
//! [`health`] is what a server says of itself, and the probe that asks for it; [`socket`] and [`commands`] use it.

// The tour names every room, also those that have no page of their own.
#![allow(rustdoc::private_intra_doc_links)]

// For apps.
pub mod client;
pub mod protocol;

// For the two programs, the tests and the fuzzers. They change as these want.
pub mod access;
pub mod agent;
pub mod arguments;
pub mod audit;
pub mod commands;
pub mod config;
pub mod hub;
pub mod logging;
pub mod server;
pub mod socket;

mod health;
mod json;
mod line_writer;
mod owner;
mod timed_read;
