//! The user who owns the listener on a local port; checked before a token is sent to it.
//!
//! A program that takes the port while the server is down gets what clients send there. On Linux
//! the kernel's tables of sockets (proc_net_tcp.txt of its documentation) say which user each
//! belongs to.

#[cfg(target_os = "linux")]
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The rest of the sentence for a token that was not sent. It follows the subject.
pub const UNTRUSTED_OWNER: &str = "does not belong to this user or root; the token was not sent";

/// Returns `true` if a token may be sent to the listener at an address. On this machine, the
/// listener must be this user's or root's; only Linux can tell. A listener on another
/// machine is trusted, because the user has given its address.
pub fn is_trusted_listener(server: SocketAddr) -> bool {
    !is_here(server.ip()) || is_trusted(server.port(), None)
}

/// Returns `true` if a token may be sent through a connection to `server`, of which `own` is this
/// end. The connection may have been accepted by a program that doesn't listen any more.
pub fn is_trusted_peer(server: SocketAddr, own: SocketAddr) -> bool {
    !is_here(server.ip()) || is_trusted(server.port(), Some(own.port()))
}

/// Returns `true` for an address of this machine.
fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(target_os = "linux")]
fn is_trusted(port: u16, client: Option<u16>) -> bool {
    all_owned_by(&sockets(port, client), rustix::process::geteuid().as_raw())
}

#[cfg(not(target_os = "linux"))]
fn is_trusted(_port: u16, _client: Option<u16>) -> bool {
    true
}

/// Returns `true` if a socket listens, and all sockets are this user's or root's.
#[cfg(target_os = "linux")]
fn all_owned_by(sockets: &[Socket], user: u32) -> bool {
    let is_trusted = |socket: &Socket| [user, 0].contains(&socket.user);
    sockets.iter().any(|socket| socket.listens) && sockets.iter().all(is_trusted)
}

/// A socket of this machine.
#[cfg(target_os = "linux")]
#[derive(Debug, PartialEq, Eq)]
pub struct Socket {
    /// The user id; root's for a connection that was not accepted yet.
    pub user: u32,
    /// As in `socket:[INODE]`, the links' target in `/proc/PID/fd`.
    pub inode: String,
    /// It listens, and is not a connection.
    pub listens: bool,
}

/// Returns the sockets that listen on a port, and those of this port that are connected to
/// `client`, the port of a client.
#[cfg(target_os = "linux")]
pub fn sockets(port: u16, client: Option<u16>) -> Vec<Socket> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| sockets_in(&table, port, client))
        .collect()
}

#[cfg(target_os = "linux")]
fn sockets_in(table: &str, port: u16, client: Option<u16>) -> Vec<Socket> {
    const ESTABLISHED: &str = "01";
    const LISTEN: &str = "0A";
    let port_of = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let socket = |line: &str| {
        let mut fields = line.split_whitespace();
        let (local, remote, state) = (fields.nth(1)?, fields.next()?, fields.next()?);
        let (user, inode) = (fields.nth(3)?.parse().ok()?, fields.nth(1)?.to_owned());
        let listens = state == LISTEN;
        let is_other_end = state == ESTABLISHED && client.is_some() && port_of(remote) == client;
        (port_of(local)? == port && (listens || is_other_end)).then_some(Socket {
            user,
            inode,
            listens,
        })
    };
    table.lines().skip(1).filter_map(socket).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn own_listener_is_trusted() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("any port is free");
        let address = listener.local_addr().expect("the listener is bound");
        assert!(is_trusted_listener(address));
        let client = TcpStream::connect(address).expect("the listener listens");
        let own = client.local_addr().expect("the client is connected");
        assert!(is_trusted_peer(address, own), "not accepted yet");
        let _server = listener.accept().expect("a client is there");
        assert!(is_trusted_peer(address, own));
        drop(listener);
        assert!(!is_trusted_listener(address), "nobody listens");
        assert!(!is_trusted_peer(address, own), "nobody listens any more");
        // Documentation addresses (RFC 5737) are never this machine's.
        assert!(is_trusted_listener(SocketAddr::from((
            [192, 0, 2, 1],
            3100
        ))));
    }

    #[test]
    fn socket_of_another_user_is_not_trusted() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let row = |remote: u16, state: &str, user: u32, inode: u32| {
            format!(
                "   0: 0100007F:0C1C 0100007F:{remote:04X} {state} 00000000:00000000 00:00000000 00000000  {user}        0 {inode} 1 0000000000000000 100 0 0 10 0\n"
            )
        };
        let listening = |user: u32| row(0, "0A", user, 7);
        let [ann, root, eve] = [1000, 0, 1001].map(listening);
        let [to_other, to_us] = [4_000, 4_001].map(|port| row(port, "01", 1001, 10));
        let of = |rows: &[&String]| {
            let rows: String = rows.iter().map(|row| row.as_str()).collect();
            sockets_in(&format!("{head}{rows}"), 3100, Some(4_001))
        };
        assert_eq!(
            of(&[&ann, &to_other]),
            [Socket {
                user: 1000,
                inode: "7".into(),
                listens: true
            }]
        );
        assert!(all_owned_by(&of(&[&ann, &root, &to_other]), 1000));
        assert!(!all_owned_by(&of(&[&ann, &eve]), 1000));
        // Eve has accepted us, and left the port to Ann.
        assert!(!all_owned_by(&of(&[&ann, &to_us]), 1000));
        assert!(!all_owned_by(&of(&[]), 1000));
    }
}
