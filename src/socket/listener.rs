//! The `listener` thread: takes the port, however long that takes, and starts a
//! thread for each connection.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::Sender;
use log::{error, info, warn};

use super::connection::Connection;
use super::door::{Door, Place};
use super::{Event, Options, Said, port};
use crate::protocol::ConnId;

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
pub fn start<E: From<Event> + Send + 'static>(
    mut options: Options,
    events: Sender<E>,
    said: Sender<Said>,
) -> io::Result<Arc<AtomicUsize>> {
    let open = Arc::new(AtomicUsize::new(0));
    if !options.host.is_loopback() {
        let host = options.host;
        let why = format!(
            "nothing listens: at {host} (CLAUDE_SOCKET_HOST) other machines could connect, and only this one may; use 127.0.0.1, ::1 or localhost"
        );
        error!("{why}");
        // The hub is there as long as its channel.
        let _ = events.send(Event::Listening(Err(why)).into());
        return Ok(open);
    }
    let files = raise_file_limit().saturating_sub(RESERVED_FILES).max(1);
    if options.max_connections > files {
        info!("the limit of open files allows for {files} connections");
        options.max_connections = files;
    }
    let address = SocketAddr::new(options.host, options.port);
    // The first try is made here, so that a free port is open before Claude Code
    // has its first answer.
    let first = port::bind(address);
    if let Err(error) = &first {
        // Who has the port takes a moment to find out; Claude may ask before.
        let why = port::explain(address, error, "another program");
        let _ = events.send(Event::Listening(Err(why)).into());
    }
    let door = Arc::new(Door {
        options,
        events,
        said,
        open: open.clone(),
        started: SystemTime::now(),
    });
    thread::Builder::new()
        .name("listener".into())
        .spawn(move || {
            let listener = first.unwrap_or_else(|error| wait_for(address, error, &door));
            if let Ok(address) = listener.local_addr() {
                info!("listening on ws://{address}/ and http://{address}/");
                door.tell(Event::Listening(Ok(address)));
            }
            accept(&listener, &door);
        })?;
    Ok(open)
}

/// Tries until the port can be had.
fn wait_for<E: From<Event>>(
    address: SocketAddr,
    mut error: io::Error,
    door: &Door<E>,
) -> TcpListener {
    let mut told = String::new();
    loop {
        let why = port::explain(address, &error, &port::holder(address));
        if why != told {
            door.tell(Event::Listening(Err(why.clone())));
            warn!("{why}");
            told = why;
        }
        for _ in 0..RETRIES_PER_LOOKUP {
            thread::sleep(RETRY);
            match port::bind(address) {
                Ok(listener) => return listener,
                Err(again) => error = again,
            }
        }
    }
}

fn accept<E: From<Event> + Send + 'static>(listener: &TcpListener, door: &Arc<Door<E>>) {
    let mut rests = false;
    for number in 1.. {
        let (stream, peer) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    if !rests {
                        error!("cannot accept connections ({error}); trying again until it works");
                    }
                    rests = true;
                    thread::sleep(REST);
                }
            }
        };
        rests = false;
        admit(ConnId(number), stream, peer, door);
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
        return warn!("{conn} from {peer} is cut: {open} connections are open");
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

/// Errors that concern one connection only (accept(2)).
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
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
