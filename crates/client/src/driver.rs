//! The client's thread: connects, reads, writes and waits, as its [`Conversation`] says.

mod connect;

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tungstenite::{Error as WsError, Message, WebSocket};

use super::Event;
use super::conversation::{Conversation, Outgoing, Output};
use super::options::Target;
use super::pending::{Asked, Sessions};
use crate::protocol::HistoryItem;
use connect::lost_by;

/// The server's close code for a token that isn't valid any more.
const UNAUTHORIZED: u16 = 4401;

/// What the user wants.
#[derive(Debug)]
pub enum Command {
    /// Words for Claude.
    Send(Outgoing),
    /// What was said.
    FetchHistory(usize, Option<u64>, Asked<Vec<HistoryItem>>),
    /// Which sessions there are.
    FetchSessions(Asked<Sessions>),
    /// A verdict.
    Decide(String, bool),
    /// No more.
    Close,
}

/// Why there is no connection.
struct Lost {
    code: Option<u16>,
    reason: String,
    for_good: bool,
}

impl Lost {
    fn because(reason: impl ToString) -> Self {
        Self {
            code: None,
            reason: reason.to_string(),
            for_good: false,
        }
    }
}

/// Why something that was waited for has not happened.
enum Interrupted {
    /// The user wants no more.
    Closed,
    /// The connection is no more.
    Lost(Lost),
}

impl<E: std::error::Error> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Lost(Lost::because(error))
    }
}

/// Everything the thread has.
pub struct Wire {
    /// What to say and when.
    pub conversation: Conversation,
    /// Where to.
    pub target: Target,
    /// What to show there.
    pub token: Option<String>,
    /// Whether it is shown only to who is known to be this user's or root's.
    pub guards: bool,
    /// What the user wants.
    pub commands: Receiver<Command>,
    /// Has a byte whenever there is a command.
    pub wake: UnixStream,
    /// What the user is told.
    pub events: Sender<Event>,
    /// The other end, to take out what nobody receives.
    pub overflow: Receiver<Event>,
    /// How many were taken out.
    pub dropped: Arc<AtomicU64>,
    /// Set at the end, before the last commands are taken.
    pub ended: Arc<AtomicBool>,
}

impl Wire {
    /// Runs until the user wants no more, or no attempt to connect would help.
    pub fn run(mut self) {
        while let Some(at) = self.conversation.connect_at() {
            let ended = self.rest(at).and_then(|()| self.connect());
            let ended = ended.and_then(|socket| self.converse(socket));
            match ended {
                Ok(()) | Err(Interrupted::Closed) => break,
                Err(Interrupted::Lost(lost)) => {
                    let Lost {
                        code,
                        reason,
                        for_good,
                    } = lost;
                    let (now, chance) = (Instant::now(), chance());
                    self.conversation.lost(code, reason, for_good, now, chance);
                    self.deliver();
                }
            }
        }
        self.conversation.end();
        self.ended.store(true, Ordering::SeqCst);
        // Whoever has sent something since must not wait for it.
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
    }

    /// Tells the user what there is to tell.
    fn deliver(&mut self) {
        while let Some(output) = self.conversation.next() {
            if let Output::Event(event) = output {
                self.tell(event);
            }
        }
    }

    fn tell(&mut self, mut event: Event) {
        while let Err(TrySendError::Full(back)) = self.events.try_send(event) {
            if self.overflow.try_recv().is_ok() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            event = back;
        }
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Send(message) => self.conversation.send(message),
            Command::FetchHistory(limit, since, asked) => {
                self.conversation.fetch_history(limit, since, asked);
            }
            Command::FetchSessions(asked) => self.conversation.fetch_sessions(asked),
            Command::Decide(id, allowed) => self.conversation.decide(id, allowed),
            Command::Close => return false,
        }
        true
    }

    /// Waits until then, while messages are taken.
    fn rest(&mut self, until: Instant) -> Result<(), Interrupted> {
        while Instant::now() < until {
            self.wait(None, Some(until))?;
        }
        Ok(())
    }

    /// Waits for a socket, a command or a time, and takes the commands. Whether the socket
    /// has something.
    fn wait(
        &mut self,
        socket: Option<(BorrowedFd<'_>, PollFlags)>,
        until: Option<Instant>,
    ) -> Result<bool, Interrupted> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up, so that it isn't asked for again a moment too early.
        let timeout = left.map(|left| left + Duration::from_millis(1));
        let timeout = timeout.map(|left| Timespec::try_from(left).unwrap_or_default());
        let mut files = vec![PollFd::new(&self.wake, PollFlags::IN)];
        files.extend(socket.map(|(socket, wanted)| PollFd::from_borrowed_fd(socket, wanted)));
        match poll(&mut files, timeout.as_ref()) {
            // It was interrupted; everything is looked at again.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Interrupted::Lost(Lost::because(error))),
        }
        let is_woken = !files[0].revents().is_empty();
        let has_socket = files.get(1).is_some_and(|file| !file.revents().is_empty());
        drop(files);
        if is_woken {
            // There is nothing more in it than that there are commands.
            let _ = (&self.wake).read(&mut [0; 256]);
        }
        while let Ok(command) = self.commands.try_recv() {
            if !self.obey(command) {
                return Err(Interrupted::Closed);
            }
        }
        Ok(has_socket)
    }

    /// Reads and writes until the connection is lost or not wanted any more.
    fn converse(&mut self, mut socket: WebSocket<TcpStream>) -> Result<(), Interrupted> {
        let same = socket.get_ref().try_clone()?;
        self.conversation.opened(Instant::now());
        loop {
            let has_more = self.write(&mut socket)?;
            if self.read(&mut socket)? {
                continue;
            }
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, has_more);
            let until = self.conversation.beat_at();
            match self.wait(Some((same.as_fd(), wanted)), until) {
                Err(Interrupted::Closed) => {
                    // As far as it goes without waiting.
                    let _ = self.write(&mut socket);
                    let _ = socket.close(None);
                    let _ = socket.flush();
                    return Err(Interrupted::Closed);
                }
                other => other?,
            };
            self.conversation.beat(Instant::now());
        }
    }

    /// Does what is to be done. Whether something still waits to be written.
    fn write(&mut self, socket: &mut WebSocket<TcpStream>) -> Result<bool, Interrupted> {
        let mut blocked = false;
        while let Some(output) = self.conversation.next() {
            let written = match output {
                Output::Event(event) => {
                    self.tell(event);
                    continue;
                }
                Output::Drop => {
                    let reason = "the server gives no sign of life";
                    return Err(Interrupted::Lost(Lost::because(reason)));
                }
                Output::Frame(text) => socket.write(Message::text(text)),
            };
            blocked |= must_wait(written)?;
        }
        Ok(blocked | must_wait(socket.flush())?)
    }

    /// Reads what has come. Whether there was something.
    fn read(&mut self, socket: &mut WebSocket<TcpStream>) -> Result<bool, Interrupted> {
        match socket.read() {
            Ok(Message::Text(text)) => self.conversation.heard(&text),
            Ok(Message::Close(frame)) => {
                // The answer to it is tungstenite's.
                let _ = socket.flush();
                let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                    (u16::from(frame.code), frame.reason.to_string())
                });
                let reason = match reason.as_str() {
                    "" => format!("the server has closed the connection ({code})"),
                    _ => reason,
                };
                return Err(Interrupted::Lost(Lost {
                    code: Some(code),
                    reason,
                    for_good: code == UNAUTHORIZED,
                }));
            }
            Ok(_) => self.conversation.sign_of_life(),
            Err(error) => return Ok(!must_wait(Err(error))?),
        }
        Ok(true)
    }
}

/// Whether the socket was not ready for it.
fn must_wait(done: Result<(), WsError>) -> Result<bool, Interrupted> {
    match done {
        Ok(()) => Ok(false),
        Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(Interrupted::Lost(lost_by(error))),
    }
}

/// A random number from 0 to 1.
fn chance() -> f64 {
    let mut random = [0; 4];
    match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}
