//! Binds the port, and finds out which process has it if it is taken.

use std::fmt;
#[cfg(target_os = "linux")]
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::health::probe::{ProbeResult, probe};
#[cfg(target_os = "linux")]
use crate::socket_owner;

/// How many connections may wait to be accepted. The kernel caps it.
const BACKLOG: i32 = 4096;
/// The owner of a port that can't be found out.
const UNKNOWN_OWNER: &str = "another program";
/// How long the owner of the port may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// Why the server does not listen. Its `Display` is one sentence that says what to do.
#[derive(Clone, Debug)]
pub enum BindError {
    /// Other machines can reach the address, and no token is configured.
    NoToken(IpAddr),
    /// Other machines can reach the address, and the file with the tokens can't be used.
    TokenFileUnusable {
        /// The address.
        host: IpAddr,
        /// What is wrong with the file, as a sentence.
        why: String,
    },
    /// Another program has the port.
    InUse {
        /// The port.
        port: u16,
        /// Who has it, as far as that is known.
        owner: String,
    },
    /// This user may not bind the port.
    NotPermitted {
        /// The port.
        port: u16,
    },
    /// This machine has no such address.
    NoSuchAddress(IpAddr),
    /// Any other error of the system.
    Other {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: Arc<io::Error>,
    },
}

impl BindError {
    fn new(address: SocketAddr, error: io::Error) -> Self {
        let port = address.port();
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse {
                port,
                owner: UNKNOWN_OWNER.to_owned(),
            },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { port },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress(address.ip()),
            _ => Self::Other {
                address,
                error: Arc::new(error),
            },
        }
    }

    /// Finds out who has the port, if it is in use. Blocks for some 300 ms at most.
    pub fn find_owner(&mut self, address: SocketAddr) {
        if let Self::InUse { owner, .. } = self {
            *owner = port_owner(address);
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken(host) => write!(
                f,
                "nothing listens: at {host} (CLAUDE_SOCKET_HOST) other machines could connect, and without a token only this one may; make one with \"claude-socket token add NAME --role operator\", set CLAUDE_SOCKET_TOKEN, or listen on 127.0.0.1"
            ),
            Self::TokenFileUnusable { host, why } => {
                write!(f, "nothing listens on {host}: {why}")
            }
            Self::InUse { port, owner } => write!(
                f,
                "port {port} is taken by {owner}, so no app can reach this session; end that program, and this server takes the port over as soon as it is free, or give this one another port (CLAUDE_SOCKET_PORT)"
            ),
            Self::NotPermitted { port } => write!(
                f,
                "port {port} may not be used by this user, so no app can reach this session; set CLAUDE_SOCKET_PORT to a port above 1023"
            ),
            Self::NoSuchAddress(ip) => write!(
                f,
                "this machine has no address {ip}, so no app can reach this session; set CLAUDE_SOCKET_HOST to one that it has, such as 127.0.0.1"
            ),
            Self::Other { address, error } => write!(
                f,
                "cannot listen on {address} ({error}), so no app can reach this session"
            ),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Other { error, .. } => Some(&**error),
            _ => None,
        }
    }
}

/// Listens on an address.
///
/// # Errors
/// One of the system's [`BindError`]s, most often [`BindError::InUse`].
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address).map_err(|error| BindError::new(address, error))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // So that connections of an earlier server in TIME_WAIT don't block the port.
    // Two servers still can't listen on it at the same time.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Returns who has the port, as far as can be found out.
pub fn port_owner(address: SocketAddr) -> String {
    if let ProbeResult::Health(other) = probe(address, None, PROBE_TIMEOUT) {
        let (pid, since) = (other.pid, &other.started);
        return format!("another claude-socket (process {pid}, since {since})");
    }
    match process_listening_on(address.port()) {
        Some((pid, name)) => format!("\"{}\" (process {pid})", name.escape_debug()),
        None => UNKNOWN_OWNER.to_owned(),
    }
}

/// Returns the id and the name of the process that has a socket open which listens on the port,
/// from `/proc`. Only processes of the same user can be seen.
#[cfg(target_os = "linux")]
fn process_listening_on(port: u16) -> Option<(u32, String)> {
    let sockets: Vec<String> = socket_owner::sockets(port, None)
        .iter()
        .map(|listener| format!("socket:[{}]", listener.inode))
        .collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse().ok())
        else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let has_it = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|target| {
                sockets
                    .iter()
                    .any(|socket| target.as_os_str() == socket.as_str())
            });
        if has_it {
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            return Some((pid, name.trim_end().to_owned()));
        }
    }
    None
}

#[cfg(not(target_os = "linux"))]
fn process_listening_on(_port: u16) -> Option<(u32, String)> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn taken_port_is_in_use_by_its_owner() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bind(address).expect("a free port binds");
        let address = listener.local_addr().expect("a listener has an address");
        let mut error = bind(address).expect_err("a taken port does not bind");
        let port = address.port();
        let start = format!("port {port} is taken by another program, so no app");
        assert!(error.to_string().starts_with(&start), "{error}");
        error.find_owner(address);
        let own = format!("(process {})", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        // Documentation addresses (RFC 5737) are never this machine's.
        let documentation = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = bind(documentation).expect_err("another machine's address does not bind");
        assert!(matches!(error, BindError::NoSuchAddress(_)), "{error}");
    }

    #[test]
    fn listening_process_is_found_by_its_port() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bind(address).expect("a free port binds");
        let address = listener.local_addr().expect("a listener has an address");
        let (pid, _) = process_listening_on(address.port()).expect("the owner is found");
        assert_eq!(pid, std::process::id());
    }
}
