//! The clients' side: the listener, one thread for each connection, and what is sent to each.
//!
//! `listener` accepts, and starts a `client-N` for each connection. That thread reads the
//! HTTP head, has it admitted by the [`admission`], and either answers a plain request or upgrades to
//! WebSocket and reads until the end. What it reads goes to the hub through its [`event_queue`]; what
//! the hub has for the client goes through its [`outbox`].

pub mod admission;
pub(crate) mod assets;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod cors;
pub(crate) mod credentials;
pub(crate) mod event_queue;
pub(crate) mod frame;
pub(crate) mod frame_filter;
pub mod http;
pub(crate) mod listener;
pub mod origin;
pub(crate) mod outbox;
pub(crate) mod pages;
pub(crate) mod pending;
pub(crate) mod port;
pub(crate) mod reader;
pub(crate) mod website;

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::control::PendingRemoval;
use crate::health::Figures;
use crate::hub::ClientInput;
use crate::protocol::{ConnId, Grant, SessionId};
use event_queue::EventQueue;
use origin::AllowedOrigins;
use outbox::Outbox;
use port::BindError;

/// A message up to this many times the limit is read and rejected; a longer one closes the
/// connection.
pub const OVERSIZE_FACTOR: usize = 4;

/// The settings of the clients' side.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port; 0 for any.
    pub port: u16,
    /// Origins that are admitted beside loopback ones.
    pub allowed_origins: AllowedOrigins,
    /// The most connections.
    pub max_connections: usize,
    /// The longest frame of a client, in bytes.
    pub max_message: usize,
    /// The longest session id and user name, in characters.
    pub max_name: usize,
    /// The most bytes that wait for one slow client.
    pub max_backlog: usize,
    /// The most bytes of all clients that are not complete messages, or wait for the hub.
    pub max_pending: usize,
    /// How long a client may take to send the head of its request.
    pub handshake_timeout: Duration,
    /// How often a client is pinged.
    pub ping_interval: Duration,
    /// After how long without any frame a client is dropped.
    pub ping_timeout: Duration,
}

/// An event of the clients' side, for the hub's loop.
#[derive(Debug)]
pub enum Event {
    /// A client has connected.
    Connected {
        /// Its connection.
        conn: ConnId,
        /// The session of its URL.
        session: SessionId,
        /// What it may do.
        grant: Arc<Grant>,
        /// Where to send to it.
        outbox: Arc<Outbox>,
        /// Where its events come from.
        queue: Arc<EventQueue>,
    },
    /// Something came from a client.
    Input {
        /// Its connection.
        conn: ConnId,
        /// For the hub.
        input: ClientInput,
        /// Dropped when the input is handled, for a reader that waits for that. If the answer goes on, something is
        /// sent before.
        handled: Option<Sender<()>>,
    },
    /// A connection has ended, and what came from it before is held back.
    HungUp(ConnId),
    /// A connection has ended. Nothing more comes from it.
    Disconnected(ConnId),
    /// A plain HTTP request asks for the figures of the hub.
    Stats(Sender<Figures>),
    /// The tokens have changed.
    TokensChanged,
    /// A client of the control socket removes sessions.
    Remove(PendingRemoval),
    /// The server listens at an address, or doesn't.
    Listening(Result<SocketAddr, BindError>),
}

impl Event {
    /// Memory of the event, in bytes.
    fn bytes(&self) -> usize {
        let more = match self {
            Self::Input { input, .. } => input.heap_bytes(),
            _ => 0,
        };
        size_of::<Self>() + more
    }

    /// Returns the connection that it came from, if it must be handled in the order in which that has sent it.
    pub fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Connected { conn, .. } | Self::Input { conn, .. } | Self::Disconnected(conn) => {
                Some(*conn)
            }
            Self::HungUp(_)
            | Self::Stats(_)
            | Self::TokensChanged
            | Self::Remove(_)
            | Self::Listening(_) => None,
        }
    }

    /// Returns `true` for a message of a client.
    pub fn is_message(&self) -> bool {
        let Self::Input { input, .. } = self else {
            return false;
        };
        matches!(input, ClientInput::Message(_))
    }
}

/// How long a client that was closed may go on sending.
const LINGER: Duration = Duration::from_millis(500);
/// The most bytes of that which are read.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Ends the sending direction and reads on for a moment: closing a socket with unread data
/// resets the connection, and the client would lose the last frames.
fn linger(mut stream: &TcpStream) {
    let deadline = Instant::now() + LINGER;
    // It fails only if the connection has already ended.
    let _ = stream.shutdown(Shutdown::Write);
    // Not on the stack: there it would cost every connection a page, all its life.
    let mut rest = vec![0; 4096];
    let mut read = 0;
    while read < LINGER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut rest) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(bytes) => read += bytes,
        }
    }
}
