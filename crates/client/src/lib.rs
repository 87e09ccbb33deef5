//! A client of claude-socket: talk to a running Claude Code session.
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
//! It is blocking, on purpose: one thread of its own keeps the connection, and everything else happens on yours.
//!
//! - A message waits for the connection, and is sent again under the same id after the connection was lost, so that
//!   Claude gets it once. [`SentMessage`] tells what became of it.
//! - Replies that were missed come after a reconnect, each once and in order, before new ones.
//! - A lost connection is opened again, after a random and growing time, until the server says that this client must not
//!   connect (401 or 403). Then everything that waits fails with [`Error::Refused`], and another [`Client`] is needed, with
//!   a token that is valid.
//!
//! It has no TLS. To reach a server behind a proxy that has, go around the proxy: by a private network, or by a tunnel
//! such as `ssh -L 3100:127.0.0.1:3100 HOST`.
//!
//! A [`Client`] that is dropped closes its connection at once. Wait for [`queued`](SentMessage::queued) before, if the last
//! message must arrive.
//!
//! Public enums are non-exhaustive, and so are structs that only the server makes: a newer version may know more.

mod conversation;
mod driver;
mod error;
mod options;
mod pending;
pub mod protocol;
mod refusal;
mod sent_message;
// For the server's programs, which check the same before they show a token.
#[doc(hidden)]
pub mod socket_owner;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use parking_lot::Mutex;
use uuid::Uuid;

use conversation::{Conversation, Outgoing};
use driver::{Command, Driver};
pub use error::Error;
pub use options::Options;
pub use pending::{Found, Pending, Sessions};
use protocol::{HistoryItem, ServerMessage, SessionId, VerdictItem};
pub use refusal::Refusal;
pub use sent_message::{Receipt, SentMessage};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub enum Event {
    /// The server has sent a message. The first one after each connect is its `welcome`.
    Message(ServerMessage),
    /// Of what was said while there was no connection, the server doesn't keep all messages any more: some between these
    /// two `seq`s are missing. Tell people.
    Gap {
        /// The last message before the gap.
        after: u64,
        /// The first message of which on all are there.
        until: u64,
    },
    /// The server doesn't let this client in. The `Disconnected` that follows says whether it will be asked again.
    Refused(Refusal),
    /// The connection was lost, or an attempt to connect has failed.
    Disconnected {
        /// The close code (RFC 6455, section 7.4) or the HTTP status, if the server gave one.
        code: Option<u16>,
        /// Why, for people.
        reason: String,
        /// The time until the next attempt; `None` if there will be none.
        retry_in: Option<Duration>,
    },
}

/// A connection to a session of a claude-socket server, kept until this is dropped.
#[derive(Debug)]
pub struct Client {
    commands: Sender<Command>,
    wake: UnixStream,
    events: Receiver<Event>,
    dropped: Arc<AtomicU64>,
    /// Why there will be no connection any more.
    ended: Arc<Mutex<Option<Error>>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts to connect, and doesn't wait for it: what is sent before goes then. The server's first message, `welcome`,
    /// tells that the connection is there.
    ///
    /// # Errors
    /// [`Error::Address`] for an address or a token that cannot be used, [`Error::System`] if the system gives no thread.
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
        let (commands, received) = unbounded();
        let (sender, events) = bounded(options.receive_capacity.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(Mutex::new(None));
        let guard_token = options.guard_token;
        let connect_timeout = options.connect_timeout;
        let driver = Driver {
            conversation: Conversation::new(options, Instant::now()),
            target,
            token,
            guard_token,
            connect_timeout,
            commands: received,
            wake: theirs,
            events: sender,
            overflow: events.clone(),
            dropped: dropped.clone(),
            ended: ended.clone(),
        };
        let thread = thread::Builder::new().name("claude-socket".into());
        let thread = thread.spawn(move || driver.run())?;
        Ok(Self {
            commands,
            wake: ours,
            events,
            dropped,
            ended,
            thread: Some(thread),
        })
    }

    /// Sends a message for Claude, now or when there is a connection.
    pub fn send(&self, content: impl Into<String>) -> SentMessage {
        self.send_as(Uuid::new_v4().to_string(), content)
    }

    /// Sends a message under an id of your own, such as one that was kept on disk: what an earlier client has sent under
    /// it, with the same text and user, Claude gets once. An id has 64 characters at most, and is shared by everyone in
    /// the session.
    pub fn send_as(&self, id: impl Into<String>, content: impl Into<String>) -> SentMessage {
        let sent = SentMessage::new(id.into());
        let ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let message = Outgoing {
            sent: sent.clone(),
            content: content.into(),
            ts,
        };
        self.send_command(Command::Send(message));
        // The thread may have ended before it got the message.
        if let Some(error) = self.end() {
            sent.fail(error);
        }
        sent
    }

    /// Asks for messages of the session, oldest first. `limit` is the most messages, from 1 to 100; with `since` the first
    /// ones after that `seq`, else the last ones; with `before` only those before that `seq`. The
    /// [answer](Pending::answer) comes as a `history` message, too.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use claude_socket_client::{Client, Error};
    /// # fn scroll_up(client: &Client, oldest: u64) -> Result<(), Error> {
    /// let page = client.fetch_history(50, None, Some(oldest));
    /// for item in page.answer(Duration::from_secs(10))? {
    ///     println!("{}: {}", item.seq, item.content);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn fetch_history(
        &self,
        limit: usize,
        since: Option<u64>,
        before: Option<u64>,
    ) -> Pending<Vec<HistoryItem>> {
        self.request(|pending| Command::FetchHistory {
            limit,
            since,
            before,
            pending,
        })
    }

    /// Finds the newest messages in which all of these words are, of one session, or of all that this client may read.
    /// `limit` is the most messages, from 1 to 100. The [answer](Pending::answer) has each session once; it comes as a
    /// `history` message for each, too.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use claude_socket_client::{Client, Error};
    /// # fn find(client: &Client) -> Result<(), Error> {
    /// let found = client.search("window open", 20, None);
    /// for session in found.answer(Duration::from_secs(10))? {
    ///     println!("{}: {}", session.session_id, session.messages.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn search(
        &self,
        text: impl Into<String>,
        limit: usize,
        session: Option<&str>,
    ) -> Pending<Vec<Found>> {
        self.request(|pending| Command::Search {
            text: text.into().into(),
            limit,
            session: session.map(SessionId::unchecked),
            pending,
        })
    }

    /// Asks which permission requests were decided last, oldest first. Only an operator can. `limit` is the most, from 1 to
    /// 100. The [answer](Pending::answer) comes as a `verdicts` message, too.
    pub fn fetch_verdicts(&self, limit: usize) -> Pending<Vec<VerdictItem>> {
        self.request(|pending| Command::FetchVerdicts(limit, pending))
    }

    /// Asks which sessions there are, and how they are. Joins none of them. The [answer](Pending::answer) comes as a
    /// `sessions` message, too.
    pub fn fetch_sessions(&self) -> Pending<Sessions> {
        self.request(Command::FetchSessions)
    }

    fn request<T: Clone>(&self, command: impl FnOnce(Pending<T>) -> Command) -> Pending<T> {
        let pending = Pending::new();
        self.send_command(command(pending.clone()));
        // The thread may have ended before it got the request.
        if let Some(error) = self.end() {
            pending.settle(Err(error));
        }
        pending
    }

    /// Answers a permission request. The first response counts.
    pub fn respond_to_permission(&self, request_id: impl Into<String>, allowed: bool) {
        self.send_command(Command::RespondToPermission(request_id.into(), allowed));
    }

    /// Waits for the server's next message.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Ended`] when there will be no more.
    pub fn recv(&self) -> Result<ServerMessage, Error> {
        for event in &self.events {
            if let Event::Message(message) = event {
                return Ok(message);
            }
        }
        Err(self.end_error())
    }

    /// Waits for the server's next message, for that long at most.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and [`Error::Refused`] or [`Error::Ended`] when there will be no more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<ServerMessage, Error> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return self.recv();
        };
        loop {
            match self.events.recv_deadline(deadline) {
                Ok(Event::Message(message)) => return Ok(message),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Error::TimedOut),
                Err(RecvTimeoutError::Disconnected) => return Err(self.end_error()),
            }
        }
    }

    /// Returns the server's messages, until there will be no more.
    pub fn iter(&self) -> impl Iterator<Item = ServerMessage> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Returns the channel of messages and disconnects, to `select!` on. An event comes here or by [`Client::recv`], not
    /// by both.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// Returns the number of events that were dropped because nobody received them; see [`Options::receive_capacity`].
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns why the thread has ended. What was sent to it before this has returned `None` is handled.
    fn end(&self) -> Option<Error> {
        self.ended.lock().clone()
    }

    fn end_error(&self) -> Error {
        let closed = || Error::Ended("it was closed".to_owned());
        self.end().unwrap_or_else(closed)
    }

    fn send_command(&self, command: Command) {
        // A thread that has ended handles no more commands.
        let _ = self.commands.send(command);
        // If it is full, there is enough in it to wake the thread.
        let _ = (&self.wake).write(&[0]);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.send_command(Command::Close);
        if let Some(thread) = self.thread.take() {
            // A panic in there is no reason for one here.
            let _ = thread.join();
        }
    }
}
