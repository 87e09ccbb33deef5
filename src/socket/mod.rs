//! The apps' side: the listener, one thread a connection, and what is sent to each.
//!
//! `listener` accepts, and starts a `client-N` for each connection. That thread reads
//! the HTTP head, passes the [`admission`], and either answers a plain request or upgrades
//! to WebSocket and reads until the end. What it reads goes to the hub; what the hub
//! has for the client goes through its [`outbox`].

pub mod admission;
pub(crate) mod assets;
pub(crate) mod batch;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod credentials;
pub(crate) mod door;
pub(crate) mod frame;
pub mod http;
pub(crate) mod listener;
pub(crate) mod outbox;
pub(crate) mod pages;
pub(crate) mod port;

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::hub::Summary;
use crate::protocol::{ClientRequest, ConnId, Grant, NewMessage, Refusal, SessionId};
use admission::AllowedOrigins;
use outbox::Outbox;

/// How the apps' side is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port; 0 for any.
    pub port: u16,
    /// Origins that are let in beside loopback ones.
    pub allowed_origins: AllowedOrigins,
    /// The most connections at once.
    pub max_connections: usize,
    /// The longest message of a client, in bytes.
    pub max_message: usize,
    /// The longest session id and user name, in characters.
    pub max_name: usize,
    /// The most bytes that wait for one slow client.
    pub max_backlog: usize,
    /// How long a client has for the head of its request.
    pub handshake_timeout: Duration,
    /// How often a client is pinged.
    pub ping_interval: Duration,
    /// After how long without a sign of life a client is dropped.
    pub ping_timeout: Duration,
}

/// Words for Claude, from a client.
#[derive(Debug)]
pub struct Said {
    /// Who sent them.
    pub conn: ConnId,
    /// The words.
    pub message: NewMessage,
}

/// Everything else that the hub learns from the apps' side.
///
/// Words and events take two channels, so that words can be left waiting. `after`
/// keeps a client's frames in order all the same: it counts the words that the same
/// client sent before.
#[derive(Debug)]
pub enum Event {
    /// A client has connected.
    Connected {
        /// Who.
        conn: ConnId,
        /// The session of its URL.
        session: SessionId,
        /// What it may do.
        grant: Arc<Grant>,
        /// Where to send to it.
        outbox: Arc<Outbox>,
    },
    /// It asks for something.
    Asked {
        /// Who.
        conn: ConnId,
        /// How many messages it sent before.
        after: u64,
        /// For what.
        request: ClientRequest,
        /// Dropped when it is answered, for a client that waits for that.
        answered: Option<Sender<()>>,
    },
    /// It sent something that can't be taken.
    Refused {
        /// Who.
        conn: ConnId,
        /// How many messages it sent before.
        after: u64,
        /// Why.
        refusal: Refusal,
    },
    /// It has gone.
    Disconnected {
        /// Who.
        conn: ConnId,
        /// How many messages it sent before.
        after: u64,
    },
    /// A plain HTTP request wants to know how things are.
    Inspect(Sender<Summary>),
    /// Other tokens count now.
    AccessChanged,
    /// The server listens, or a sentence says why it doesn't.
    Listening(Result<SocketAddr, String>),
}

/// How long a client that is to be closed may go on sending.
const LINGER: Duration = Duration::from_millis(500);
/// How much of that is read, in bytes.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Says that no more will come, and reads on for a moment: closing a socket with
/// unread data resets the connection, and the client would lose the last words.
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
