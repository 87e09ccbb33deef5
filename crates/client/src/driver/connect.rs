//! Getting a connection: the address, the socket, the handshake.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::{Error as WsError, HandshakeError, WebSocket};

use super::{Disconnect, Driver, Interrupted};
use crate::socket_owner::{self, UNTRUSTED_OWNER};

/// How long an address may take to answer, and as long again for the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Driver {
    /// Connects to the first address of the target that answers, and does the handshake.
    pub(super) fn connect(&mut self) -> Result<WebSocket<TcpStream>, Interrupted> {
        let (host, port) = (self.target.host.clone(), self.target.port);
        let found = (host.as_str(), port).to_socket_addrs();
        let addresses = found.map_err(|error| {
            let reason = format!("the address of {host} cannot be found ({error})");
            Interrupted::Disconnected(Disconnect::because(reason))
        })?;
        let mut last = Disconnect::because(format!("{host} has no address"));
        for address in addresses {
            match self.connect_to(address) {
                Ok(stream) => return self.handshake_with(stream),
                Err(Interrupted::Disconnected(failed)) => last = failed,
                Err(Interrupted::Closed) => return Err(Interrupted::Closed),
            }
        }
        Err(Interrupted::Disconnected(last))
    }

    fn connect_to(&mut self, address: SocketAddr) -> Result<TcpStream, Interrupted> {
        let failed = |error: io::Error| {
            let reason = match error.kind() {
                io::ErrorKind::ConnectionRefused => format!("nothing listens on {address}"),
                _ => format!("{address} cannot be reached ({error})"),
            };
            Interrupted::Disconnected(Disconnect::because(reason))
        };
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // Messages are short, and must not wait for more of them.
        let _ = socket.set_tcp_nodelay(true);
        match socket.connect(&address.into()) {
            Ok(()) => return Ok(socket.into()),
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(failed(error)),
        }
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        while !self.wait(Some((socket.as_fd(), PollFlags::OUT)), Some(deadline))? {
            if Instant::now() >= deadline {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
        }
        match socket.take_error().map_err(failed)? {
            Some(error) => Err(failed(error)),
            None => Ok(socket.into()),
        }
    }

    fn handshake_with(&mut self, stream: TcpStream) -> Result<WebSocket<TcpStream>, Interrupted> {
        let mut request = ClientRequestBuilder::new(self.target.uri.clone());
        if let Some(token) = &self.token {
            let server = stream.peer_addr()?;
            if self.guard_token && !socket_owner::is_trusted_peer(server, stream.local_addr()?) {
                let reason = format!("what listens on {server} {UNTRUSTED_OWNER}");
                return Err(Interrupted::Disconnected(Disconnect::because(reason)));
            }
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let same = stream.try_clone()?;
        let mut attempt = client_with_config(request, stream, None);
        loop {
            match attempt {
                Ok((socket, _)) => return Ok(socket),
                Err(HandshakeError::Failure(error)) => {
                    return Err(Interrupted::Disconnected(disconnect_reason(error)));
                }
                Err(HandshakeError::Interrupted(half)) => {
                    self.wait(Some((same.as_fd(), PollFlags::IN)), Some(deadline))?;
                    if Instant::now() >= deadline {
                        let reason = "the server has not answered in time";
                        return Err(Interrupted::Disconnected(Disconnect::because(reason)));
                    }
                    attempt = half.handshake();
                }
            }
        }
    }
}

/// Returns why the handshake or the connection has failed.
pub(super) fn disconnect_reason(error: WsError) -> Disconnect {
    let WsError::Http(answer) = error else {
        return Disconnect::because(error);
    };
    /// The body of the server's refusal.
    #[derive(serde::Deserialize)]
    struct Rejection {
        error: String,
    }
    let status = answer.status();
    let body = answer.body().as_deref().unwrap_or_default();
    let reason = match serde_json::from_slice::<Rejection>(body) {
        Ok(refusal) => refusal.error,
        Err(_) => format!("the server answers with the HTTP status {status}"),
    };
    Disconnect {
        code: Some(status.as_u16()),
        reason,
        // The others are transient.
        permanent: matches!(status.as_u16(), 400 | 401 | 403 | 404),
    }
}
