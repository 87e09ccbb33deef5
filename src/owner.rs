//! Whose a program is that listens on a port of this machine: before a token is shown to it.
//!
//! Who takes the port while the server is down gets what apps send there. On Linux the kernel's
//! tables of sockets (proc_net_tcp.txt of its documentation) say which user each belongs to.

#[cfg(target_os = "linux")]
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Why a token was not shown, after the address.
pub const STRANGER: &str = "is no program of this user or of root, as far as the system tells, so the token was not shown to it";

/// Whether a token may be shown to what listens at an address: on another machine, whoever has
/// named it decides that; on this one, it must be this user's or root's, as far as the system
/// tells. Only Linux does.
pub fn may_see_token(server: SocketAddr) -> bool {
    !is_here(server.ip()) || is_trusted(server.port(), None)
}

/// The same for the other end of a connection, which may have been accepted by a program that
/// listens no more. `own` is this end.
pub fn may_see_token_at(server: SocketAddr, own: SocketAddr) -> bool {
    !is_here(server.ip()) || is_trusted(server.port(), Some(own.port()))
}

/// Whether it is an address of this machine.
fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(target_os = "linux")]
fn is_trusted(port: u16, client: Option<u16>) -> bool {
    are_of(&sockets(port, client), rustix::process::geteuid().as_raw())
}

#[cfg(not(target_os = "linux"))]
fn is_trusted(_port: u16, _client: Option<u16>) -> bool {
    true
}

/// Whether one listens, and all are this user's or root's.
#[cfg(target_os = "linux")]
fn are_of(sockets: &[Socket], user: u32) -> bool {
    let is_trusted = |socket: &Socket| [user, 0].contains(&socket.user);
    sockets.iter().any(|socket| socket.listens) && sockets.iter().all(is_trusted)
}

/// A socket of this machine.
#[cfg(target_os = "linux")]
#[derive(Debug, PartialEq, Eq)]
pub struct Socket {
    /// The user it belongs to; root for a connection that nobody has accepted yet.
    pub user: u32,
    /// What it is in `/proc/PID/fd`.
    pub inode: String,
    /// Whether it waits for connections.
    pub listens: bool,
}

/// The sockets that listen on a port, and those of it that are connected to the port of a
/// client.
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
    fn what_this_user_listens_with_may_see_a_token() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("any port is free");
        let address = listener.local_addr().expect("it is bound");
        assert!(may_see_token(address));
        let client = TcpStream::connect(address).expect("it listens");
        let own = client.local_addr().expect("it is connected");
        assert!(may_see_token_at(address, own), "not accepted yet");
        let _server = listener.accept().expect("it is there");
        assert!(may_see_token_at(address, own));
        drop(listener);
        assert!(!may_see_token(address), "nobody listens");
        assert!(!may_see_token_at(address, own), "nobody listens any more");
        // Documentation addresses (RFC 5737) are never this machine's.
        assert!(may_see_token(SocketAddr::from(([192, 0, 2, 1], 3100))));
    }

    #[test]
    fn a_socket_of_another_user_is_not_trusted() {
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
        assert!(are_of(&of(&[&ann, &root, &to_other]), 1000));
        assert!(!are_of(&of(&[&ann, &eve]), 1000));
        // Eve has accepted us, and left the port to Ann.
        assert!(!are_of(&of(&[&ann, &to_us]), 1000));
        assert!(!are_of(&of(&[]), 1000));
    }
}
