//! The `listener` thread: takes the port, however long that takes, and starts a
//! thread for each connection. It also looks whether the tokens have changed.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Event;
use super::connection::Connection;
use super::door::{Door, Place};
use super::port::{self, BindError};
use crate::access::NoTokens;
use crate::audit::Record;
use crate::protocol::ConnId;

/// How often it is looked whether the tokens have changed.
const LOOK: Duration = Duration::from_secs(1);
/// How often a taken port is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How many retries pass before the holder of the port is looked up again.
const RETRIES_PER_LOOKUP: u32 = 20;
/// How long accepting rests when the system has no descriptor or memory left.
const REST: Duration = Duration::from_millis(100);
/// How many connections over the limit are told so at once; further ones are cut.
const TURNED_AWAY: usize = 16;
/// File descriptors for everything that is no connection, and for those turned away.
const RESERVED_FILES: usize = 32;

/// Starts listening, or tells the hub why that isn't possible. Returns the count of
/// open connections.
///
/// # Errors
/// If the system has no thread left.
pub fn start<E: From<Event> + Send + 'static>(mut door: Door<E>) -> io::Result<Arc<AtomicUsize>> {
    let open = door.open.clone();
    let files = raise_file_limit().saturating_sub(RESERVED_FILES).max(1);
    if door.options.max_connections > files {
        info!("the limit of open files allows for {files} connections");
        door.options.max_connections = files;
    }
    let address = SocketAddr::new(door.options.host, door.options.port);
    // The first try is made here, so that a free port is open before Claude Code
    // has its first answer.
    let first = match why_not(&door) {
        None => Some(port::bind(address)),
        Some(why) => {
            error!("{why}");
            // The hub is there as long as its channel.
            door.tell(Event::Listening(Err(why)));
            None
        }
    };
    if let Some(Err(error)) = &first {
        // Who has the port takes a moment to find out; Claude may ask before.
        door.tell(Event::Listening(Err(error.to_string())));
    }
    let listener = Listener {
        door: Arc::new(door),
        address,
        connections: 0,
        looked: Instant::now(),
    };
    thread::Builder::new()
        .name("listener".into())
        .spawn(move || listener.run(first))?;
    Ok(open)
}

/// Why nothing may listen, if so: other machines can reach the address, and there is no
/// token that they could show.
fn why_not<E>(door: &Door<E>) -> Option<String> {
    let host = door.options.host;
    if host.is_loopback() {
        return None;
    }
    match door.access.usable_tokens() {
        Ok(_) => None,
        Err(NoTokens::NotConfigured) => Some(format!(
            "nothing listens: at {host} (CLAUDE_SOCKET_HOST) other machines could connect, and without a token only this one may; make one with \"claude-socket token add NAME --role operator\", set CLAUDE_SOCKET_TOKEN, or listen on 127.0.0.1"
        )),
        Err(NoTokens::FileUnusable(why)) => Some(format!("nothing listens on {host}: {why}")),
    }
}

/// The `listener` thread.
struct Listener<E> {
    door: Arc<Door<E>>,
    address: SocketAddr,
    /// How many there were.
    connections: u64,
    /// When it was last looked whether the tokens have changed.
    looked: Instant,
}

impl<E: From<Event> + Send + 'static> Listener<E> {
    /// Listens whenever that is possible.
    fn run(mut self, mut first: Option<Result<TcpListener, BindError>>) {
        loop {
            while first.is_none() && self.must_stop() {
                thread::sleep(RETRY);
                self.look();
            }
            let bound = first.take().unwrap_or_else(|| port::bind(self.address));
            let Some(listener) = bound.map_or_else(|error| self.wait_for_port(error), Some) else {
                self.stopped();
                continue;
            };
            if let Ok(address) = listener.local_addr() {
                self.address = address;
                info!("listening on ws://{address}/ and http://{address}/");
                self.door.tell(Event::Listening(Ok(address)));
            }
            self.accept(&listener);
            drop(listener);
            self.stopped();
        }
    }

    /// Tries until the port can be had. None if it isn't wanted any more.
    fn wait_for_port(&mut self, mut error: BindError) -> Option<TcpListener> {
        let mut told = String::new();
        loop {
            error.find_owner(self.address);
            let why = error.to_string();
            if why != told {
                self.door.tell(Event::Listening(Err(why.clone())));
                warn!("{why}");
                told = why;
            }
            for _ in 0..RETRIES_PER_LOOKUP {
                thread::sleep(RETRY);
                self.look();
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
        // One that has gone before it could be accepted must not stop everything.
        let _ = listener.set_nonblocking(true);
        let mut rests = false;
        loop {
            let timeout = Timespec::try_from(LOOK).unwrap_or_default();
            // It fails only when interrupted, and then there is nothing to accept.
            let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout));
            self.look();
            if self.must_stop() {
                return;
            }
            match listener.accept() {
                Ok((stream, peer)) => {
                    rests = false;
                    self.connections += 1;
                    // Some systems hand it on.
                    let _ = stream.set_nonblocking(false);
                    admit(ConnId(self.connections), stream, peer, &self.door);
                }
                Err(error) if is_passing(&error) => {}
                // Whatever has ended the listening, it doesn't begin again by itself.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    let port = self.address.port();
                    return error!("port {port} is lost ({error}); taking it again");
                }
                Err(error) => {
                    if !rests {
                        error!("cannot accept connections ({error}); trying again until it works");
                    }
                    rests = true;
                    thread::sleep(REST);
                }
            }
        }
    }

    /// Looks from time to time whether the tokens have changed.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if self.door.access.refresh() {
            self.door.tell(Event::AccessChanged);
        }
    }

    /// Whether the last token is gone, and with it the right to listen.
    fn must_stop(&self) -> bool {
        why_not(&self.door).is_some()
    }

    /// Says why nothing listens any more.
    fn stopped(&self) {
        if let Some(why) = why_not(&self.door) {
            error!("{why}");
            self.door.tell(Event::Listening(Err(why)));
        }
    }
}

/// Starts the thread of one connection.
fn admit<E: From<Event> + Send + 'static>(
    conn: ConnId,
    stream: TcpStream,
    peer: SocketAddr,
    door: &Arc<Door<E>>,
) {
    let max = door.options.max_connections;
    let (place, open) = Place::take(door);
    if open >= max.saturating_add(TURNED_AWAY) {
        let why = format!("{open} connections are open");
        return door.audit.record(&Record::Refused {
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
        too_many: open >= max,
        door: place,
    };
    connection.start();
}

/// Errors that concern one connection only (accept(2)), and that there is none.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

/// Raises the limit of open files as far as the system lets this process. Returns it.
fn raise_file_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// What macOS allows when it says that there is no limit.
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
