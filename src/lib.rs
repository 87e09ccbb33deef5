//! claude-socket connects a running Claude Code session with anything that can open a
//! WebSocket.
//!
//! It is a synchronous program: blocking threads do the I/O, one thread owns all session
//! state, crossbeam channels connect them. There is no async runtime.
//!
//! Clients in Rust use the crate `claude-socket-client` in `crates/client`, which has the
//! [`client`] and the messages of the [`protocol`]. Everything here belongs to the two programs
//! of this package and changes as they need; with `cargo doc --document-private-items` each
//! name in this tour is a link.
//!
//! ```text
//!   Claude Code                                                                clients
//!       │                                                                         │
//!       │ stdin    ┌──────────────┐ lines   ┌────────────────┐ events    ┌────────┴───┐
//!       ├─────────►│ agent-reader ├────────►│                │◄──────────┤  client-1  │
//!       │          └──────────────┘         │                │           │  client-2  │
//!       │ stdout                            │      main:     │ handled,  │     …      │
//!       │◄──────────────────────────────────┤                │ stats     │            │
//!       │          ┌──────────────┐ chunks  │   the hub's    ├──────────►│            │
//!       │◄─────────┤ agent-writer │◄────────┤      loop      │           └────────▲───┘
//!       │  if it   └──────┬───────┘         │                │ events    ┌────────┴───┐
//!       │  must wait      │ written         │                │◄──────────┤  listener  │
//!       │                 └────────────────►│                │           └────────────┘
//!       │          ┌─────────┐  shutdown    │                │ frames         clients
//!       └─────────►│ signals ├─────────────►│                ├────────────────►│
//!      its death   └─────────┘              │                │ backlog  ┌──────┴─────────┐
//!                  ┌──────────────┐ changes │                ├─────────►│ client-N-drain │
//!      database ◄──┤    store     │◄────────┤                │          └────────────────┘
//!               ──►│ store-reader │◄────────┤                │
//!                  └──────────┬───┘ queries │                │
//!                             └────────────►│                │
//!                                  reports  └───────┬────────┘
//!                       everyone │ log lines        │ audit lines, also of listener, client-N
//!                           ┌────▼────┐        ┌────▼────┐
//!                   stderr ◄┤   log   │        │  audit  ├► a file
//!                           └─────────┘        └─────────┘
//! ```
//!
//! # The threads
//!
//! | thread | blocks on | started by |
//! |---|---|---|
//! | main | its channels | the system; [`server::run`] runs the hub's loop on it |
//! | `agent-reader` | stdin | [`agent::start`] |
//! | `agent-writer` | stdout, for what the hub's thread could not write at once | [`agent::writer`] |
//! | `listener` | accept, for a second; then it looks whether the tokens have changed | [`socket::listener`], [`access`] |
//! | `client-N` | its socket, reading | [`socket::connection`]: one for the handshake, then one for the WebSocket |
//! | `client-N-drain` | its socket, writing | [`socket::outbox`], only while that client is slow |
//! | `signals` | signals, the death of its parent or of Claude Code, the end of stdin or stdout | [`server::AgentIo::process`] |
//! | `log` | stderr, the log file | [`logging`], with a [`line_writer`] |
//! | `audit` | the audit file, if one is named | [`audit`], with a [`line_writer`] |
//! | `control` | accept, on the control socket | [`server::control`] |
//! | `control-N` | one connection of the control socket | `control` |
//! | `store` | the disk, writing | [`store::start`], when the port is taken; not with `--history-ttl 0` |
//! | `store-reader` | the disk, reading | the same |
//! | `store-search` | the disk, searching and listing | [`store`], for the first such question |
//! | `store-watch` | its clock, to notice a disk that hangs | the same |
//!
//! # The channels, all bounded
//!
//! | channel | from | to | what |
//! |---|---|---|---|
//! | lines | `agent-reader` | hub | what Claude Code says; not received while it asks for more than it reads |
//! | events | `client-N`, `listener`, `control-N` | hub | which connections have events for it: each has a queue of its own, so a client's frames keep their order, and is visited in turns ([`socket::event_queue`]) |
//! | chunks | hub | `agent-writer` | lines for Claude Code that stdout did not take at once, one chunk at a time |
//! | written | `agent-writer` | hub | that the chunk was written; disconnected when the writer has ended |
//! | shutdown | `signals` | hub | why to end, once |
//! | handled | hub | `client-N` | that an answer goes on; disconnected when it is complete, and the client is read again |
//! | stats | hub | `client-N` | figures for a page such as `/healthz` |
//! | done | hub | `control-N` | that what was removed is gone from the disk; disconnected when the server ends |
//! | log lines | everyone | `log` | dropped when it is full |
//! | changes | hub | `store` | what must be on disk; while too much waits, no messages are taken and the agent isn't read |
//! | queries | hub | `store-reader` | what the hub must know from the disk: one for each client or tool call that waits for it |
//! | reports | `store`, `store-reader` | hub | up to where changes are on disk, and answers |
//! | audit lines | hub, `listener`, `client-N` | `audit` | dropped and counted when it is full |
//!
//! Four ways are no channels. To stdout and to the sockets the hub's thread writes itself,
//! without blocking. A client that doesn't take everything has a backlog of frames behind a
//! lock, bounded by bytes, which its `client-N-drain` writes. And what has come from a client is in a
//! queue behind a lock, bounded by bytes too. While an agent's inbox is full, the hub's loop takes
//! no messages from the queues; when one is full, its `client-N` waits, so that its socket is not
//! read. What all of them have pending together is bounded by [`socket::pending`]. What is to be kept
//! waits for `store` in a queue behind a lock, bounded by bytes as well: [`store`] says when nothing more
//! should be taken from clients.
//!
//! # The path of a message
//!
//! 1. `client-N` reads a frame in [`socket::reader`], and [`protocol::parse`] turns it into a
//!    [`protocol::ClientMessage`], or into a rejection that names the field. Channel tags in its text
//!    are escaped for Claude ([`sanitize`]).
//! 2. The loop takes it from the client's queue as an event when it is its turn ([`server`]), and calls
//!    [`hub::Hub::handle`].
//! 3. The [`hub`] adds it to the session's history and to the journal of what the store is to keep, sends it to the
//!    other clients of the session, and puts it into the agent's inbox.
//! 4. At the end of its turn the loop takes messages from the inbox ([`hub::Hub::poll_agent`]) while
//!    [`agent::writer`] has room. [`agent::channel`] makes each a JSON-RPC line, and the writer
//!    writes them to stdout, or leaves them to `agent-writer` where that would block. Once they
//!    are written, and on disk if there is a store, the senders get their `delivery`.
//! 5. Claude answers with the `reply` tool: `agent-reader` reads the call, [`agent::mcp`] and
//!    [`agent::tools`] parse it, the hub runs it and sends the reply to everyone in the session:
//!    encoded once, into the turn's [`socket::frame::Batch`], of which each client's
//!    [`socket::outbox`] writes the ranges that are for it.
//!
//! At the end of its turn the loop also gives the [`store`] what has changed ([`hub::Hub::poll_store`]), and asks it what
//! the hub needs to know ([`hub::Hub::poll_query`]). A client whose input needs that waits, and its queue with it; nobody
//! else does.
//!
//! Beside that path, Claude Code's hooks call the tool `activity`, if they are there:
//! [`agent::activity`] parses what they report, and the hub draws conclusions. Statuses and
//! receipts get better by them; no message depends on them.
//!
//! A Claude Code that has just started drops what comes before it has registered the channel, and tells
//! nobody. So [`hub::Hub::poll_agent`] returns nothing for a while, and where there are hooks then only
//! one message, the *trial*, until that was seen.
//!
//! # The other side
//!
//! [`client`] is what clients written in Rust use, and the commands `send`, `watch`, `history`, `chat` and
//! `open` ([`commands::terminal`]). Its one thread, `claude-socket`, connects, reads and writes
//! for a state machine that knows neither sockets nor the clock. Two channels lead there and
//! back: *commands*, which is not bounded, because sending must not wait for a connection; and
//! *events*, which drops the oldest when nobody receives them. `socket_owner`, in the same
//! crate, says which user's program listens, before a token is sent to it.
//!
//! Three commands have threads of their own beside that. `chat` prints on `chat-screen` while its
//! main thread reads the keyboard. `demo` reads the lines of the server that it started on
//! `server-stdout`, and whether it listens ([`ready`]) on `server-ready`. `doctor` reads what
//! `claude` prints on `claude-stdout`.
//!
//! The package has two programs, [`args`] says why; `claude-socket` becomes
//! `claude-socket-cli` for the commands that are not its own ([`commands::exec_cli`]).
//!
//! # Where things are
//!
//! Imports point one way: `main`, `cli` → [`args`] → [`commands`] → [`server`] → [`agent`],
//! [`socket`], [`store`] → [`hub`] → [`protocol`] → [`json`] → `claude-socket-client`, and [`commands`] →
//! [`client`]. [`config`] holds every setting, [`access`] who may connect. [`health`] is what a
//! server reports about itself, and the probe that asks for it; [`socket`] and [`commands`] use
//! it. [`control`] is what goes over the control socket, on which [`commands`] ask a running
//! [`server`] for something. [`sanitize`] makes text of others safe to show, for [`agent`], [`hub`] and [`commands`].
//! [`memory`] tells [`socket`] whether there is room for what a client wants.

// The tour names every room, also those that have no page of their own.
#![allow(rustdoc::private_intra_doc_links)]

pub use claude_socket_client as client;

pub mod access;
pub mod agent;
pub mod args;
pub mod audit;
pub mod commands;
pub mod config;
pub mod control;
pub mod hub;
pub mod logging;
pub mod protocol;
pub mod sanitize;
pub mod server;
pub mod socket;
pub mod store;

mod ancestors;
mod append_file;
mod health;
mod json;
mod line_writer;
mod memory;
mod private_file;
mod ready;
mod timed_read;

use claude_socket_client::socket_owner;
