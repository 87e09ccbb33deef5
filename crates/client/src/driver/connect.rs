//! Getting a connection: the address, the socket, the handshake, and why the server refuses it.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use http::Response;
use http::header::{CONTENT_LENGTH, HeaderName, RETRY_AFTER};
use rustix::event::PollFlags;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::{Error as WsError, HandshakeError, WebSocket};

use super::{Driver, Interrupted};
use crate::refusal::Disconnect;
use crate::socket_owner::{self, UNTRUSTED_OWNER};

/// The longest body of a refusal that is read, in bytes.
const MAX_REFUSAL: usize = 16 * 1024;
/// The longest wait that a server can ask for, in seconds: what the npm package's timers take.
const MAX_RETRY_AFTER: u64 = 24 * 24 * 3600;

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
            let deadline = Instant::now().checked_add(self.connect_timeout);
            match self.connect_to(address, deadline) {
                Ok(stream) => return self.handshake_with(stream, deadline),
                Err(Interrupted::Disconnected(failed)) => last = failed,
                Err(Interrupted::Closed) => return Err(Interrupted::Closed),
            }
        }
        Err(Interrupted::Disconnected(last))
    }

    fn connect_to(
        &mut self,
        address: SocketAddr,
        deadline: Option<Instant>,
    ) -> Result<TcpStream, Interrupted> {
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
        while !self.wait(Some((socket.as_fd(), PollFlags::OUT)), deadline)? {
            if is_over(deadline) {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
        }
        match socket.take_error().map_err(failed)? {
            Some(error) => Err(failed(error)),
            None => Ok(socket.into()),
        }
    }

    fn handshake_with(
        &mut self,
        stream: TcpStream,
        deadline: Option<Instant>,
    ) -> Result<WebSocket<TcpStream>, Interrupted> {
        let mut request = ClientRequestBuilder::new(self.target.uri.clone());
        if let Some(token) = &self.token {
            let server = stream.peer_addr()?;
            if self.guard_token && !socket_owner::is_trusted_peer(server, stream.local_addr()?) {
                let reason = format!("what listens on {server} {UNTRUSTED_OWNER}");
                return Err(Interrupted::Disconnected(Disconnect::because(reason)));
            }
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        let same = stream.try_clone()?;
        let mut attempt = client_with_config(request, stream, None);
        loop {
            match attempt {
                Ok((socket, _)) => return Ok(socket),
                Err(HandshakeError::Failure(WsError::Http(answer))) => {
                    return Err(self.refusal(&answer, &same, deadline)?);
                }
                Err(HandshakeError::Failure(error)) => {
                    return Err(Interrupted::Disconnected(Disconnect::because(error)));
                }
                Err(HandshakeError::Interrupted(half)) => {
                    self.wait(Some((same.as_fd(), PollFlags::IN)), deadline)?;
                    if is_over(deadline) {
                        let reason = "the server has not answered in time";
                        return Err(Interrupted::Disconnected(Disconnect::because(reason)));
                    }
                    attempt = half.handshake();
                }
            }
        }
    }
    /// Returns what the server has answered instead of opening the connection.
    fn refusal(
        &mut self,
        answer: &Response<Option<Vec<u8>>>,
        stream: &TcpStream,
        deadline: Option<Instant>,
    ) -> Result<Interrupted, Interrupted> {
        // As much as came with the head.
        let mut body = answer.body().clone().unwrap_or_default();
        let length = number(answer, CONTENT_LENGTH).map_or(MAX_REFUSAL, |length| length as usize);
        while body.len() < length.min(MAX_REFUSAL) && !is_over(deadline) {
            let mut chunk = [0; 1024];
            match (&*stream).read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => body.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Some((stream.as_fd(), PollFlags::IN)), deadline)?;
                }
                // The status says enough.
                Err(_) => break,
            }
        }
        // A date is not understood.
        let retry_after = number(answer, RETRY_AFTER)
            .unwrap_or_default()
            .min(MAX_RETRY_AFTER);
        let retry_after = Duration::from_secs(retry_after);
        let disconnect = Disconnect::refused(answer.status().as_u16(), &body, retry_after);
        Ok(Interrupted::Disconnected(disconnect))
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Returns the number that a header has.
fn number(answer: &Response<Option<Vec<u8>>>, name: HeaderName) -> Option<u64> {
    answer.headers().get(name)?.to_str().ok()?.parse().ok()
}
