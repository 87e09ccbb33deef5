//! Taking the port, and finding out who else has it.

#[cfg(target_os = "linux")]
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::health::probe::{ProbeResult, probe};
#[cfg(target_os = "linux")]
use crate::owner;

/// How many connections may wait to be accepted. The kernel caps it.
const BACKLOG: i32 = 4096;
/// How a sentence of [`explain`] can be told from others.
pub const TAKEN: &str = "is taken by";
/// How long the holder of the port may take to say who it is.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// Listens on an address.
///
/// # Errors
/// The system's, above all that the port is taken.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // So that connections of an earlier server in TIME_WAIT don't block the port.
    // Two servers can't listen on it at once all the same.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Why the port can't be had and what to do, in one sentence. `owner` is who has it,
/// if it is taken.
pub fn explain(address: SocketAddr, error: &io::Error, owner: &str) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} {TAKEN} {owner}, so no app can reach this session; end that program, and this server takes the port over at once, or give this one another port (CLAUDE_SOCKET_PORT)"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "port {port} may not be used by this user, so no app can reach this session; set CLAUDE_SOCKET_PORT to a port above 1023"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "this machine has no address {}, so no app can reach this session; set CLAUDE_SOCKET_HOST to one that it has, such as 127.0.0.1",
            address.ip()
        ),
        _ => format!("cannot listen on {address} ({error}), so no app can reach this session"),
    }
}

/// Who has the port, as far as can be found out.
pub fn port_owner(address: SocketAddr) -> String {
    if let ProbeResult::Health(other) = probe(address, None, PROBE_TIMEOUT) {
        let (pid, since) = (other.pid, &other.started);
        return format!("another claude-socket (process {pid}, since {since})");
    }
    match process_listening_on(address.port()) {
        Some((pid, name)) => format!("\"{}\" (process {pid})", name.escape_debug()),
        None => "another program".to_owned(),
    }
}

/// Looks through `/proc`: which socket listens on the port, and which process has it
/// open. Only processes of the same user can be seen.
#[cfg(target_os = "linux")]
fn process_listening_on(port: u16) -> Option<(u32, String)> {
    let sockets: Vec<String> = owner::sockets(port, None)
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
    fn the_process_that_holds_a_port_is_found() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bind(address).expect("any port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (pid, _) = process_listening_on(port).expect("it is this process");
        assert_eq!(pid, std::process::id());
    }
}
