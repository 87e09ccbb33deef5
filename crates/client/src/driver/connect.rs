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

use super::{Interrupted, Lost, Wire};
use crate::socket_owner::{self, UNTRUSTED_OWNER};

/// How long one address may take to answer, and then the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Wire {
    /// Connects to the first address of the target's that answers, and shakes hands.
    pub(super) fn connect(&mut self) -> Result<WebSocket<TcpStream>, Interrupted> {
        let (host, port) = (self.target.host.clone(), self.target.port);
        let found = (host.as_str(), port).to_socket_addrs();
        let addresses = found.map_err(|error| {
            let reason = format!("the address of {host} cannot be found ({error})");
            Interrupted::Lost(Lost::because(reason))
        })?;
        let mut last = Lost::because(format!("{host} has no address"));
        for address in addresses {
            match self.connect_to(address) {
                Ok(stream) => return self.shake_hands(stream),
                Err(Interrupted::Lost(lost)) => last = lost,
                Err(Interrupted::Closed) => return Err(Interrupted::Closed),
            }
        }
        Err(Interrupted::Lost(last))
    }

    fn connect_to(&mut self, address: SocketAddr) -> Result<TcpStream, Interrupted> {
        let failed = |error: io::Error| {
            let reason = match error.kind() {
                io::ErrorKind::ConnectionRefused => format!("nothing listens on {address}"),
                _ => format!("{address} cannot be reached ({error})"),
            };
            Interrupted::Lost(Lost::because(reason))
        };
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // Words are short, and shouldn't wait for more of them.
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

    fn shake_hands(&mut self, stream: TcpStream) -> Result<WebSocket<TcpStream>, Interrupted> {
        let mut request = ClientRequestBuilder::new(self.target.uri.clone());
        if let Some(token) = &self.token {
            let server = stream.peer_addr()?;
            if self.guards && !socket_owner::is_trusted_peer(server, stream.local_addr()?) {
                let reason = format!("what listens on {server} {UNTRUSTED_OWNER}");
                return Err(Interrupted::Lost(Lost::because(reason)));
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
                    return Err(Interrupted::Lost(lost_by(error)));
                }
                Err(HandshakeError::Interrupted(half)) => {
                    self.wait(Some((same.as_fd(), PollFlags::IN)), Some(deadline))?;
                    if Instant::now() >= deadline {
                        let reason = "the server has not answered in time";
                        return Err(Interrupted::Lost(Lost::because(reason)));
                    }
                    attempt = half.handshake();
                }
            }
        }
    }
}

/// Why the handshake or the connection has failed.
pub(super) fn lost_by(error: WsError) -> Lost {
    let WsError::Http(answer) = error else {
        return Lost::because(error);
    };
    /// How the server refuses.
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    let status = answer.status();
    let body = answer.body().as_deref().unwrap_or_default();
    let reason = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.error,
        Err(_) => format!("the server answers with the HTTP status {status}"),
    };
    Lost {
        code: Some(status.as_u16()),
        reason,
        // The others pass.
        for_good: matches!(status.as_u16(), 400 | 401 | 403 | 404),
    }
}
