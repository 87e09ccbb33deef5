//! The client's thread: connects, reads, writes and waits as its [`Conversation`] says.

mod connect;

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tungstenite::{Error as WsError, Message, WebSocket};

use crate::conversation::{Conversation, Outgoing, Output};
use crate::options::Target;
use crate::pending::{Found, Pending, Sessions};
use crate::protocol::{HistoryItem, SessionId, VerdictItem};
use crate::refusal::Disconnect;
use crate::{Error, Event};

/// What the app wants.
#[derive(Debug)]
pub enum Command {
    Send(Outgoing),
    FetchHistory {
        limit: usize,
        since: Option<u64>,
        before: Option<u64>,
        pending: Pending<Vec<HistoryItem>>,
    },
    Search {
        text: Arc<str>,
        limit: usize,
        session: Option<SessionId>,
        pending: Pending<Vec<Found>>,
    },
    /// The limit.
    FetchVerdicts(usize, Pending<Vec<VerdictItem>>),
    FetchSessions(Pending<Sessions>),
    /// The request's id, and whether the tool may run.
    RespondToPermission(String, bool),
    /// The app has dropped its client.
    Close,
}

/// Why waiting has ended early.
enum Interrupted {
    /// The app has dropped its client.
    Closed,
    Disconnected(Disconnect),
}

impl<E: std::error::Error> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Disconnected(Disconnect::because(error))
    }
}

/// The state of the thread.
pub struct Driver {
    pub conversation: Conversation,
    pub target: Target,
    pub token: Option<String>,
    /// The token is only sent to a listener of this user or of root.
    pub guard_token: bool,
    /// The time limit of an attempt.
    pub connect_timeout: Duration,
    pub commands: Receiver<Command>,
    /// Is readable whenever there is a command.
    pub wake: UnixStream,
    pub events: Sender<Event>,
    /// The other end of `events`, to drop the oldest when nobody receives them.
    pub overflow: Receiver<Event>,
    /// The number of dropped events.
    pub dropped: Arc<AtomicU64>,
    /// Why the thread has ended. It is set before the last commands are handled.
    pub ended: Arc<Mutex<Option<Error>>>,
}

impl Driver {
    /// Runs until the app drops its client, or no attempt to connect would help.
    pub fn run(mut self) {
        while let Some(at) = self.conversation.connect_at() {
            let ended = self.wait_until(at).and_then(|()| self.connect());
            let ended = ended.and_then(|socket| self.run_connection(socket));
            match ended {
                Ok(()) | Err(Interrupted::Closed) => break,
                Err(Interrupted::Disconnected(disconnect)) => {
                    let (now, random) = (Instant::now(), random_unit());
                    self.conversation.disconnected(disconnect, now, random);
                    self.deliver();
                }
            }
        }
        let closed = Error::Ended("this client has ended".to_owned());
        let ended = self.conversation.end(closed);
        *self.ended.lock() = Some(ended);
        // What was sent meanwhile must fail, not wait.
        while let Ok(command) = self.commands.try_recv() {
            self.handle_command(command);
        }
    }

    /// Gives the app what has happened.
    fn deliver(&mut self) {
        while let Some(output) = self.conversation.next() {
            if let Output::Event(event) = output {
                self.emit(event);
            }
        }
    }

    fn emit(&mut self, mut event: Event) {
        while let Err(TrySendError::Full(back)) = self.events.try_send(event) {
            if self.overflow.try_recv().is_ok() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            event = back;
        }
    }

    fn handle_command(&mut self, command: Command) -> bool {
        match command {
            Command::Send(message) => self.conversation.send(message),
            Command::FetchHistory {
                limit,
                since,
                before,
                pending,
            } => self
                .conversation
                .fetch_history(limit, since, before, pending),
            Command::Search {
                text,
                limit,
                session,
                pending,
            } => self.conversation.search(text, limit, session, pending),
            Command::FetchVerdicts(limit, pending) => {
                self.conversation.fetch_verdicts(limit, pending);
            }
            Command::FetchSessions(pending) => self.conversation.fetch_sessions(pending),
            Command::RespondToPermission(id, allowed) => {
                self.conversation.respond_to_permission(id, allowed)
            }
            Command::Close => return false,
        }
        true
    }

    /// Waits until that time, and handles commands meanwhile.
    fn wait_until(&mut self, until: Instant) -> Result<(), Interrupted> {
        while Instant::now() < until {
            self.wait(None, Some(until))?;
            // A message can be rejected without a connection.
            self.deliver();
        }
        Ok(())
    }

    /// Waits for a socket, a command or a time, and handles the commands. Returns `true` if the socket is ready.
    fn wait(
        &mut self,
        socket: Option<(BorrowedFd<'_>, PollFlags)>,
        until: Option<Instant>,
    ) -> Result<bool, Interrupted> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up, so that it doesn't wake a moment too early.
        let timeout = left.map(|left| left + Duration::from_millis(1));
        let timeout = timeout.map(|left| Timespec::try_from(left).unwrap_or_default());
        let mut files = vec![PollFd::new(&self.wake, PollFlags::IN)];
        files.extend(socket.map(|(socket, wanted)| PollFd::from_borrowed_fd(socket, wanted)));
        match poll(&mut files, timeout.as_ref()) {
            // After a signal, everything is checked again.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Interrupted::Disconnected(Disconnect::because(error))),
        }
        let is_woken = !files[0].revents().is_empty();
        let has_socket = files.get(1).is_some_and(|file| !file.revents().is_empty());
        drop(files);
        if is_woken {
            // The bytes mean nothing more than that there are commands.
            let _ = (&self.wake).read(&mut [0; 256]);
        }
        while let Ok(command) = self.commands.try_recv() {
            if !self.handle_command(command) {
                return Err(Interrupted::Closed);
            }
        }
        Ok(has_socket)
    }

    /// Reads and writes until the connection is lost, or the app drops its client.
    fn run_connection(&mut self, mut socket: WebSocket<TcpStream>) -> Result<(), Interrupted> {
        let same = socket.get_ref().try_clone()?;
        self.conversation.connected(Instant::now());
        loop {
            let has_more = self.write(&mut socket)?;
            if self.read(&mut socket)? {
                continue;
            }
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, has_more);
            let until = self.conversation.heartbeat_at();
            match self.wait(Some((same.as_fd(), wanted)), until) {
                Err(Interrupted::Closed) => {
                    // As much as fits without blocking.
                    let _ = self.write(&mut socket);
                    let _ = socket.close(None);
                    let _ = socket.flush();
                    return Err(Interrupted::Closed);
                }
                other => other?,
            };
            self.conversation.heartbeat(Instant::now());
        }
    }

    /// Handles the conversation's outputs. Returns `true` if something is still unwritten.
    fn write(&mut self, socket: &mut WebSocket<TcpStream>) -> Result<bool, Interrupted> {
        let mut blocked = false;
        while let Some(output) = self.conversation.next() {
            let written = match output {
                Output::Event(event) => {
                    self.emit(event);
                    continue;
                }
                Output::Drop => {
                    let reason = "the server gives no sign of life";
                    return Err(Interrupted::Disconnected(Disconnect::because(reason)));
                }
                Output::Frame(text) => socket.write(Message::text(text)),
            };
            blocked |= would_block(written)?;
        }
        Ok(blocked | would_block(socket.flush())?)
    }

    /// Reads one message. Returns `true` if there was one.
    fn read(&mut self, socket: &mut WebSocket<TcpStream>) -> Result<bool, Interrupted> {
        match socket.read() {
            Ok(Message::Text(text)) => self.conversation.handle_frame(&text),
            Ok(Message::Close(frame)) => {
                // tungstenite has queued the answer.
                let _ = socket.flush();
                let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                    (u16::from(frame.code), frame.reason.to_string())
                });
                let disconnect = Disconnect::closed(code, &reason);
                return Err(Interrupted::Disconnected(disconnect));
            }
            Ok(_) => self.conversation.peer_alive(),
            Err(error) => return Ok(!would_block(Err(error))?),
        }
        Ok(true)
    }
}

/// Returns `true` if the socket was not ready.
fn would_block(done: Result<(), WsError>) -> Result<bool, Interrupted> {
    match done {
        Ok(()) => Ok(false),
        Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(Interrupted::Disconnected(Disconnect::because(error))),
    }
}

/// Returns a random number from 0 to 1.
fn random_unit() -> f64 {
    let mut random = [0; 4];
    match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}
