//! A client of claude-socket, for threads: talk to a running Claude Code session.
//!
//! ```
//! # let server = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/doc/server.rs"));
//! # let url = server.url.clone();
//! use std::time::Duration;
//! use claude_socket_client::{Client, Options};
//! use claude_socket_client::protocol::ServerMessage;
//!
//! # fn talk(url: String) -> Result<(), claude_socket_client::Error> {
//! // let url = "ws://127.0.0.1:3100";
//! let client = Client::connect(Options {
//!     session: "greenhouse".to_owned(),
//!     user: "thermometer".to_owned(),
//!     ..Options::new(url)
//! })?;
//! let sent = client.send("31 °C. Should I open the window?");
//! sent.answered(Duration::from_secs(60))?;
//! for message in client.iter() {
//!     if let ServerMessage::Reply { content, .. } = message {
//!         println!("{content}");
//!         break;
//!     }
//! }
//! # Ok(())
//! # }
//! # talk(url).expect("it answers");
//! ```
//!
//! It is blocking, on purpose: one thread of its own keeps the connection, and everything
//! else happens on yours.
//!
//! - What is sent waits for the connection, and is sent again after it was lost, under the
//!   same id, so that Claude gets it once. [`Sent`] tells what becomes of it.
//! - Replies that were missed meanwhile come after a reconnect, each once and in order, before
//!   new ones.
//! - A lost connection is opened again, after a random and growing time, until the server says
//!   that this client must not connect.
//!
//! It speaks no TLS. Where the server is behind a proxy that does, go around it: by a private
//! network, or by a tunnel such as `ssh -L 3100:127.0.0.1:3100 HOST`.
//!
//! A [`Client`] that is dropped closes its connection at once. Wait for
//! [`accepted`](Sent::accepted) before, if the last message must arrive.

mod conversation;
mod driver;
mod options;
mod pending;
pub mod protocol;
mod sent;
// For the server's programs, which ask the same before they show a token.
#[doc(hidden)]
pub mod socket_owner;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use uuid::Uuid;

use crate::protocol::{HistoryItem, ServerMessage};
use conversation::{Conversation, Outgoing};
use driver::{Command, Wire};
pub use options::{Error, Options};
pub use pending::{Asked, Sessions};
pub use sent::{Receipt, Sent};

/// Why nothing is sent any more.
const ENDED: &str = "there is no connection any more";

/// Something that has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The server has said something. The first after every connect is its `welcome`.
    Message(ServerMessage),
    /// There is no connection, or an attempt to get one has failed.
    Disconnected {
        /// The close code (RFC 6455, section 7.4) or the HTTP status, if the server gave one.
        code: Option<u16>,
        /// Why, for people.
        reason: String,
        /// When the next attempt is; `None` if there will be none.
        retry_in: Option<Duration>,
    },
}

/// A connection to a session of a claude-socket server, kept as long as this is.
#[derive(Debug)]
pub struct Client {
    commands: Sender<Command>,
    wake: UnixStream,
    events: Receiver<Event>,
    dropped: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts to connect, and doesn't wait for it: what is sent before goes then. The first
    /// message of the server's, `welcome`, tells that it is there.
    ///
    /// # Errors
    /// [`Error::Address`] for an address or a token that cannot be used, [`Error::System`] if
    /// there is no thread to be had.
    pub fn connect(options: Options) -> Result<Self, Error> {
        let target = options::Target::of(&options)?;
        let token = options.token.clone();
        let is_plain = |token: &String| token.chars().all(|c| c.is_ascii_graphic());
        if token.as_ref().is_some_and(|token| !is_plain(token)) {
            let why = "the token has spaces or characters that cannot travel in a header; give it as it was printed";
            return Err(Error::Address(why.to_owned()));
        }
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let (commands, wanted) = unbounded();
        let (tell, events) = bounded(options.inbox_limit.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let guards = options.guard_token;
        let wire = Wire {
            conversation: Conversation::new(options, Instant::now()),
            target,
            token,
            guards,
            commands: wanted,
            wake: theirs,
            events: tell,
            overflow: events.clone(),
            dropped: dropped.clone(),
            ended: ended.clone(),
        };
        let thread = thread::Builder::new().name("claude-socket".into());
        let thread = thread.spawn(move || wire.run())?;
        Ok(Self {
            commands,
            wake: ours,
            events,
            dropped,
            ended,
            thread: Some(thread),
        })
    }

    /// Sends words to Claude, now or when there is a connection.
    pub fn send(&self, content: impl Into<String>) -> Sent {
        self.send_as(Uuid::new_v4().to_string(), content)
    }

    /// The same under an id of your own, such as one that was kept on disk: what an earlier
    /// client has sent under it, in the same words and as the same user, Claude gets once. It
    /// has 64 characters at most, and is shared by everyone in the session.
    pub fn send_as(&self, id: impl Into<String>, content: impl Into<String>) -> Sent {
        let sent = Sent::new(id.into());
        let ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let message = Outgoing {
            sent: sent.clone(),
            content: content.into(),
            ts,
        };
        self.order(Command::Send(message));
        // It may have ended before it has seen the message.
        if self.has_ended() {
            sent.fail(Error::Ended(ENDED.to_owned()));
        }
        sent
    }

    /// Asks for what was said in the session, oldest first. `limit` is the most messages, from 1
    /// to 100; with `since` the first ones after that `seq`, else the last ones. Wait for the
    /// [answer](Asked::answer), or leave it: it comes as a `history` message, too.
    pub fn fetch_history(&self, limit: usize, since: Option<u64>) -> Asked<Vec<HistoryItem>> {
        let asked = Asked::new();
        self.order(Command::FetchHistory(limit, since, asked.clone()));
        if self.has_ended() {
            asked.settle(Err(Error::Ended(ENDED.to_owned())));
        }
        asked
    }

    /// Asks which sessions there are, and how they are. Joins none of them. Wait for the
    /// [answer](Asked::answer), or leave it: it comes as a `sessions` message, too.
    pub fn fetch_sessions(&self) -> Asked<Sessions> {
        let asked = Asked::new();
        self.order(Command::FetchSessions(asked.clone()));
        if self.has_ended() {
            asked.settle(Err(Error::Ended(ENDED.to_owned())));
        }
        asked
    }

    /// Answers a permission request. The first verdict counts.
    pub fn decide(&self, request_id: impl Into<String>, allowed: bool) {
        self.order(Command::Decide(request_id.into(), allowed));
    }

    /// Waits for the server's next message.
    ///
    /// # Errors
    /// [`Error::Ended`] when there will be no more.
    pub fn recv(&self) -> Result<ServerMessage, Error> {
        let mut reason = "it was closed".to_owned();
        for event in &self.events {
            match event {
                Event::Message(message) => return Ok(message),
                Event::Disconnected { reason: why, .. } => reason = why,
            }
        }
        Err(Error::Ended(reason))
    }

    /// The same, but not for ever.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and [`Error::Ended`] when there will be no more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<ServerMessage, Error> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return self.recv();
        };
        let mut reason = "it was closed".to_owned();
        loop {
            match self.events.recv_deadline(deadline) {
                Ok(Event::Message(message)) => return Ok(message),
                Ok(Event::Disconnected { reason: why, .. }) => reason = why,
                Err(RecvTimeoutError::Timeout) => return Err(Error::TimedOut),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Ended(reason)),
            }
        }
    }

    /// The server's messages, until there will be no more.
    pub fn iter(&self) -> impl Iterator<Item = ServerMessage> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Messages and news of the connection, to `select!` on. Each comes here or by
    /// [`Client::recv`], not by both.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// How many messages were pushed out because nobody received them; see
    /// [`Options::inbox_limit`].
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn order(&self, command: Command) {
        // A thread that has ended does nothing any more.
        let _ = self.commands.send(command);
        // If it is full there is enough in it to wake the thread.
        let _ = (&self.wake).write(&[0]);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.order(Command::Close);
        if let Some(thread) = self.thread.take() {
            // Whatever has ended it, it has ended.
            let _ = thread.join();
        }
    }
}
