//! The `listener` thread: binds the port, however long that takes, and starts a thread for each
//! connection. It also reloads the tokens when they have changed.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Event;
use super::connection::Connection;
use super::context::{ConnectionPermit, Context};
use super::port::{self, BindError};
use crate::access::NoTokens;
use crate::audit::Record;
use crate::protocol::ConnId;

/// How often the tokens are checked for changes, and whether one has expired.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How often binding a taken port is tried again.
const BIND_RETRY: Duration = Duration::from_millis(500);
/// The retries after which the owner of the port is looked up again.
const RETRIES_PER_LOOKUP: u32 = 20;
/// How long accepting pauses when the system has no descriptor or memory left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// The most connections over the limit that get a response at the same time; further ones are
/// dropped.
const REJECT_CAPACITY: usize = 16;
/// The file descriptors that are kept for everything but admitted connections.
const RESERVED_FILES: usize = 32;

/// Starts the `listener` thread, and returns the number of open connections. `bound` is a listener
/// that is bound already; without one, the address of the settings is bound. The hub's loop gets
/// an [`Event::Listening`] whenever the server begins or fails to listen.
///
/// # Errors
/// If the system has no thread left.
pub fn start(mut context: Context, bound: Option<TcpListener>) -> io::Result<Arc<AtomicUsize>> {
    let open = context.open.clone();
    let files = raise_file_limit().saturating_sub(RESERVED_FILES).max(1);
    if context.options.max_connections > files {
        info!("the limit of open files allows for {files} connections");
        context.options.max_connections = files;
    }
    let address = SocketAddr::new(context.options.host, context.options.port);
    // The first try is made here, so that a free port is open before Claude Code has its first
    // answer.
    let first = match check_bind(&context) {
        Ok(()) => Some(bound.map_or_else(|| port::bind(address), Ok)),
        Err(why) => {
            error!("{why}");
            context.events.send(Event::Listening(Err(why)));
            None
        }
    };
    if let Some(Err(error)) = &first {
        // Finding out who has the port takes some 300 ms, and Claude may ask before.
        context.events.send(Event::Listening(Err(error.clone())));
    }
    let listener = Listener {
        context: Arc::new(context),
        address,
        connections: 0,
        reloaded: Instant::now(),
    };
    thread::Builder::new()
        .name("listener".into())
        .spawn(move || listener.run(first))?;
    Ok(open)
}

/// Checks that listening is allowed: if other machines can reach the address, there must be a
/// token.
///
/// # Errors
/// [`BindError::NoToken`] or [`BindError::TokenFileUnusable`].
fn check_bind(context: &Context) -> Result<(), BindError> {
    let host = context.options.host;
    if host.is_loopback() {
        return Ok(());
    }
    match context.access.usable_tokens() {
        // Who shows one that has expired is told so.
        Ok(_) | Err(NoTokens::Expired) => Ok(()),
        Err(NoTokens::NotConfigured) => Err(BindError::NoToken(host)),
        Err(NoTokens::FileUnusable(why)) => Err(BindError::TokenFileUnusable { host, why }),
    }
}

/// The `listener` thread.
struct Listener {
    context: Arc<Context>,
    address: SocketAddr,
    /// The connections so far.
    connections: u64,
    /// When the tokens were last checked for changes.
    reloaded: Instant,
}

impl Listener {
    /// Listens whenever that is allowed and possible, until the server has ended.
    fn run(mut self, mut first: Option<Result<TcpListener, BindError>>) {
        loop {
            while first.is_none() && self.must_stop() {
                if self.context.has_ended() {
                    return;
                }
                thread::sleep(BIND_RETRY);
                self.reload_tokens();
            }
            let bound = first.take().unwrap_or_else(|| port::bind(self.address));
            let Some(listener) = bound.map_or_else(|error| self.wait_for_port(error), Some) else {
                self.stopped();
                continue;
            };
            if let Ok(address) = listener.local_addr() {
                self.address = address;
                info!("listening on ws://{address}/ and http://{address}/");
                self.context.events.send(Event::Listening(Ok(address)));
            }
            self.accept(&listener);
            drop(listener);
            self.stopped();
        }
    }

    /// Tries until the port can be bound; `None` if listening is not allowed any more.
    fn wait_for_port(&mut self, mut error: BindError) -> Option<TcpListener> {
        let mut reported = String::new();
        loop {
            error.find_owner(self.address);
            let why = error.to_string();
            if why != reported {
                self.context
                    .events
                    .send(Event::Listening(Err(error.clone())));
                warn!("{why}");
                reported = why;
            }
            for _ in 0..RETRIES_PER_LOOKUP {
                thread::sleep(BIND_RETRY);
                self.reload_tokens();
                if self.must_stop() {
                    return None;
                }
                match port::bind(self.address) {
                    Ok(listener) => return Some(listener),
                    Err(again) => error = again,
                }
            }
        }
    }

    /// Accepts connections as long as that is allowed and possible.
    fn accept(&mut self, listener: &TcpListener) {
        // A connection that has ended before it is accepted must not block `accept`.
        let _ = listener.set_nonblocking(true);
        let mut is_paused = false;
        loop {
            let timeout = Timespec::try_from(RELOAD_INTERVAL).unwrap_or_default();
            // `poll` fails only if it is interrupted, and then there is nothing to accept.
            let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout));
            self.reload_tokens();
            if self.must_stop() {
                return;
            }
            match listener.accept() {
                Ok((stream, peer)) => {
                    is_paused = false;
                    self.connections += 1;
                    // On some systems the stream inherits the mode of the listener.
                    let _ = stream.set_nonblocking(false);
                    admit(ConnId(self.connections), stream, peer, &self.context);
                }
                Err(error) if is_transient(&error) => {}
                // The socket was shut down, and never listens again.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    let port = self.address.port();
                    return error!("port {port} is lost ({error}); taking it again");
                }
                Err(error) => {
                    if !is_paused {
                        error!("cannot accept connections ({error}); trying again until it works");
                    }
                    is_paused = true;
                    thread::sleep(ACCEPT_BACKOFF);
                }
            }
        }
    }

    /// Reloads the tokens every [`RELOAD_INTERVAL`].
    fn reload_tokens(&mut self) {
        if self.reloaded.elapsed() < RELOAD_INTERVAL {
            return;
        }
        self.reloaded = Instant::now();
        if self.context.access.refresh(SystemTime::now()) {
            self.context.events.send(Event::TokensChanged);
        }
    }

    /// Returns `true` if the server has ended, or listening is not allowed any more.
    fn must_stop(&self) -> bool {
        self.context.has_ended() || check_bind(&self.context).is_err()
    }

    /// Reports why nothing listens any more, if listening is not allowed any more.
    fn stopped(&self) {
        if let Err(why) = check_bind(&self.context) {
            error!("{why}");
            self.context.events.send(Event::Listening(Err(why)));
        }
    }
}

/// Starts the thread of one connection.
fn admit(conn: ConnId, stream: TcpStream, peer: SocketAddr, context: &Arc<Context>) {
    let max = context.options.max_connections;
    let (permit, open) = ConnectionPermit::acquire(context);
    if open >= max.saturating_add(REJECT_CAPACITY) {
        let why = format!("{open} connections are open");
        return context.audit.record(&Record::Refused {
            client: conn,
            from: peer,
            status: None,
            why: &why,
        });
    }
    let connection = Connection {
        conn,
        stream,
        peer,
        over_limit: open >= max,
        permit,
    };
    connection.start();
}

/// Returns `true` for errors of a single connection (accept(2)), and if no connection waits.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

/// Raises the limit of open files as far as the system allows, and returns it.
fn raise_file_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// The limit of macOS when it reports none.
    const OPEN_MAX: u64 = 10_240;
    let limit = getrlimit(Resource::Nofile);
    for current in [limit.maximum, Some(OPEN_MAX)] {
        let raised = Rlimit { current, ..limit };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            break;
        }
    }
    let now = getrlimit(Resource::Nofile).current;
    now.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}
