//! The server's side of the [control socket](crate::control): the `control` thread accepts, and a `control-N` serves each
//! connection.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use log::{debug, info, warn};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use super::main_loop::Server;
use crate::control::{
    Answer, ErrorCode, Hello, LineError, Lines, PendingRemoval, Place, Removal, Request,
    is_own_peer, places,
};
use crate::hub::Input;
use crate::socket::Event;
use crate::socket::event_queue::Events;

/// The most connections at once; further ones are told so.
const MAX_CONNECTIONS: usize = 8;
/// How long a client may take to say who it is and what it wants, and to take the answer.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what is removed may take until it is gone from the disk.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(45);
/// How long accepting pauses when the system has no descriptor or memory left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Where the control socket is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state folder.
    pub state: PathBuf,
    /// The port as it is configured.
    pub port: u16,
}

/// The control socket: not there before the port is taken, and removed when this is dropped.
pub struct Control {
    /// Where it will be; `None` if there is no folder for it.
    options: Option<Options>,
    events: Arc<Events>,
    open: Option<OpenSocket>,
    /// What was removed and is not gone from the disk yet.
    removals: Removals,
}

/// The socket, as long as it is this server's.
struct OpenSocket {
    path: PathBuf,
    /// The `control` thread ends when this is closed.
    _wake: UnixStream,
    /// No other server replaces the socket meanwhile.
    _lock: File,
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        // One that is left behind is replaced.
        let _ = fs::remove_file(&self.path);
    }
}

impl Control {
    /// Returns a socket that isn't open yet. What comes there goes to the hub's loop through `events`.
    pub fn new(options: Option<Options>, events: Arc<Events>) -> Self {
        Self {
            options,
            events,
            open: None,
            removals: Removals::default(),
        }
    }

    /// Removes the socket. What still waits there is told that the server ends.
    pub fn close(&mut self) {
        self.open = None;
        self.removals.0.clear();
    }

    /// Opens the socket, unless it is open. Without it, the server works all the same.
    pub fn open(&mut self) {
        let Some(options) = self.options.as_ref().filter(|_| self.open.is_none()) else {
            return;
        };
        match open(options, &self.events) {
            Ok(socket) => {
                debug!("control socket: {}", socket.path.display());
                self.open = Some(socket);
            }
            Err(why) => warn!(
                "there is no control socket, so \"claude-socket data remove\" works only while this server is down: {why}"
            ),
        }
    }
}

/// Opens the socket in the first place that has room for its path.
///
/// # Errors
/// A sentence that says what to do.
fn open(options: &Options, events: &Arc<Events>) -> Result<OpenSocket, String> {
    // The name of a place elsewhere depends on where the folder really is. If it can't be made, that is reported below.
    let mut state = DirBuilder::new();
    let _ = state.recursive(true).mode(0o700).create(&options.state);
    let places = places(&options.state, options.port);
    let place = places.first();
    let place = place.ok_or("every path that it could have is too long; use a shorter folder")?;
    place.make().map_err(|error| error.to_string())?;
    let failed = |error: io::Error| format!("{}: {error}", place.socket().display());
    let Some(lock) = lock(&place.lock()).map_err(failed)? else {
        let port = options.port;
        return Err(format!(
            "another server with port {port} in its settings has {}; give each a port of its own, or a state folder",
            place.socket().display()
        ));
    };
    let listener = bind(place).map_err(failed)?;
    let (wake, woken) = UnixStream::pair().map_err(failed)?;
    let acceptor = Acceptor {
        listener,
        woken,
        events: events.clone(),
        open: Arc::default(),
        connections: 0,
    };
    let thread = thread::Builder::new().name("control".into());
    let thread = thread.spawn(move || acceptor.run());
    thread.map_err(failed)?;
    Ok(OpenSocket {
        path: place.socket(),
        _wake: wake,
        _lock: lock,
    })
}

/// Locks the file for this process, or returns `None` if another one has done so.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes the socket. Whoever has the lock may replace one that was left behind.
fn bind(place: &Place) -> io::Result<UnixListener> {
    let path = place.socket();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Nobody else gets into the folder, but who looks at the file should see that.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The `control` thread.
struct Acceptor {
    listener: UnixListener,
    /// Readable when the server ends.
    woken: UnixStream,
    events: Arc<Events>,
    /// The number of open connections.
    open: Arc<AtomicUsize>,
    /// The connections so far.
    connections: u64,
}

impl Acceptor {
    fn run(mut self) {
        loop {
            let mut files = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.woken, PollFlags::IN),
            ];
            // `poll` fails only if it is interrupted, and then there is nothing to accept.
            let _ = poll(&mut files, None);
            if !files[1].revents().is_empty() {
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => self.serve(stream),
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    debug!("the control socket cannot accept connections ({error})");
                    thread::sleep(ACCEPT_BACKOFF);
                }
            }
        }
    }

    fn serve(&mut self, stream: UnixStream) {
        if !is_own_peer(&stream) {
            return warn!("somebody else's program was turned away from the control socket");
        }
        // On some systems the stream inherits the mode of the listener.
        let _ = stream.set_nonblocking(false);
        let is_full = self.open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS;
        let mut connection = Connection {
            lines: Lines::new(stream),
            deadline: Instant::now() + CLIENT_TIMEOUT,
            events: self.events.clone(),
            open: self.open.clone(),
        };
        if is_full {
            let busy = error(ErrorCode::Busy, "the server serves others; try again");
            // A socket that is new takes some lines at once.
            let _ = connection.greet_and_answer(&busy);
            return;
        }
        self.connections += 1;
        let thread = thread::Builder::new().name(format!("control-{}", self.connections));
        let served = thread.spawn(move || {
            if let Err(error) = connection.run() {
                debug!("a client of the control socket has failed: {error}");
            }
        });
        if let Err(error) = served {
            warn!("the system has no thread left for a client of the control socket ({error})");
        }
    }
}

/// Returns `true` for errors of accepting that say nothing about the next connection.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// One connection of the control socket.
struct Connection {
    lines: Lines,
    deadline: Instant,
    events: Arc<Events>,
    open: Arc<AtomicUsize>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn greet_and_answer(&mut self, answer: &Answer) -> Result<(), LineError> {
        self.lines.write(&Hello::own(), self.deadline)?;
        self.lines.write(answer, self.deadline)
    }

    fn run(&mut self) -> Result<(), LineError> {
        self.lines.write(&Hello::own(), self.deadline)?;
        let client: Hello = self.lines.read(self.deadline)?;
        let answer = if client.is_understood() {
            match self.lines.read(self.deadline) {
                Ok(Request::Remove(removal)) => self.remove(&client, removal),
                Err(LineError::Invalid(why)) => error(
                    ErrorCode::InvalidRequest,
                    &format!("the running server does not know how to do that ({why})"),
                ),
                Err(error) => return Err(error),
            }
        } else {
            let own = env!("CARGO_PKG_VERSION");
            let why = format!("this server is of version {own}, and does not understand that");
            error(ErrorCode::Version, &why)
        };
        self.lines.write(&answer, Instant::now() + CLIENT_TIMEOUT)
    }

    fn remove(&self, client: &Hello, removal: Removal) -> Answer {
        let Some(selection) = removal.selection() else {
            let why = "name a session, an agent, an agent and a session, or all";
            return error(ErrorCode::InvalidRequest, why);
        };
        info!("process {} has asked to remove {selection}", client.pid);
        let (done, is_done) = bounded(1);
        self.events
            .send(Event::Remove(PendingRemoval { selection, done }));
        match is_done.recv_timeout(REMOVE_TIMEOUT) {
            Ok(on_disk) => Answer::Removed { removal, on_disk },
            Err(RecvTimeoutError::Timeout) => Answer::Removed {
                removal,
                on_disk: false,
            },
            Err(RecvTimeoutError::Disconnected) => error(
                ErrorCode::Ending,
                "the running server has just ended; run this command again",
            ),
        }
    }
}

fn error(code: ErrorCode, why: &str) -> Answer {
    Answer::Error {
        code,
        message: why.to_owned(),
    }
}

/// What was removed, and is not gone from the disk yet.
#[derive(Debug, Default)]
struct Removals(Vec<(u64, Sender<bool>)>);

impl Removals {
    /// Adds one. It is gone from the disk when so many changes are.
    fn add(&mut self, changes: u64, done: Sender<bool>) {
        self.0.push((changes, done));
    }

    /// Answers those that are gone from the disk, as `stored` changes are there; or all, if nothing can be written.
    fn answer(&mut self, stored: u64, is_failing: bool) {
        self.0.retain(|(changes, done)| {
            let is_answered = is_failing || *changes <= stored;
            if is_answered {
                // It has room for one.
                let _ = done.try_send(!is_failing);
            }
            !is_answered
        });
    }
}

impl Server {
    /// Forgets sessions.
    pub fn remove(&mut self, removal: PendingRemoval) {
        self.handle_input(Input::Remove(removal.selection));
        self.flush_store();
        let (given, _) = self.storage.progress();
        self.control.removals.add(given, removal.done);
        self.answer_removals();
    }

    /// Answers the removals that are gone from the disk; all of them if nothing can be written.
    pub fn answer_removals(&mut self) {
        let (_, stored) = self.storage.progress();
        let is_failing = self.storage.is_failing();
        self.control.removals.answer(stored, is_failing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_is_answered_when_it_is_gone_from_disk() {
        let mut removals = Removals::default();
        let [first, second, third] = [3, 5, 9].map(|changes| {
            let (done, is_done) = bounded(1);
            removals.add(changes, done);
            is_done
        });
        removals.answer(4, false);
        assert_eq!(first.try_recv(), Ok(true));
        assert!(second.try_recv().is_err());
        removals.answer(5, false);
        assert_eq!(second.try_recv(), Ok(true));
        removals.answer(5, true);
        assert_eq!(third.try_recv(), Ok(false));
        assert!(removals.0.is_empty());
    }
}
