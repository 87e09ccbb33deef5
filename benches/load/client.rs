//! One client: a blocking WebSocket client, and its frames (RFC 6455, section 5).
//!
//! Written by hand so that it takes little CPU time from the server: frames are encoded before the
//! timing starts, and the mask is zero, which leaves the bytes as they are. The server must unmask
//! them all the same.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::agent::contains;
use crate::server::{Result, TIMEOUT};

/// The text of a message: 57 characters, a usual length.
pub const QUESTION: &str = "How warm is it in the greenhouse, and is the window open?";

/// A connection after the handshake.
pub struct Client {
    /// A blocking socket.
    pub stream: TcpStream,
    /// Bytes that were read from the socket and are not parsed yet.
    received: Vec<u8>,
}

impl Client {
    /// Connects, and returns once the client is in the session.
    ///
    /// A `101` alone doesn't prove that, because another thread may own the sessions. Only that
    /// thread can send the history, so the client asks for it and waits.
    pub fn join(server: SocketAddr, session: &str) -> Result<Self> {
        let mut client = Self::connect(server, session)?;
        client.send(&text_frame(br#"{"type":"fetch_history","limit":1}"#))?;
        client.wait_for("history")?;
        Ok(client)
    }

    /// Connects, and returns after the server's `101`.
    pub fn connect(server: SocketAddr, session: &str) -> Result<Self> {
        let stream =
            connect_tcp(server).map_err(|error| format!("a client cannot connect ({error})"))?;
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(TIMEOUT)))
            .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)));
        prepared.map_err(|error| format!("a socket cannot be set up ({error})"))?;
        let mut client = Self {
            stream,
            received: Vec::new(),
        };
        // The key of RFC 6455, section 1.3.
        let head = format!(
            "GET /?session={session} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.send(head.as_bytes())?;
        loop {
            if let Some(end) = client
                .received
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
            {
                let head: Vec<u8> = client.received.drain(..end + 4).collect();
                if head.starts_with(b"HTTP/1.1 101") {
                    return Ok(client);
                }
                let head = String::from_utf8_lossy(&head);
                return Err(format!(
                    "the server rejected a client: {}",
                    head.lines().next().unwrap_or_default()
                ));
            }
            client.read_more()?;
        }
    }

    /// Sends all bytes; blocks while the socket is full.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.stream.write_all(bytes);
        sent.map_err(|error| format!("a client cannot send ({error})"))
    }

    /// Reads up to the next message of type `kind`; skips others.
    pub fn wait_for(&mut self, kind: &str) -> Result<()> {
        let kind = format!("\"{kind}\"");
        loop {
            let Some((head, payload)) = parse_header(&self.received)
                .filter(|(head, payload)| self.received.len() >= head + payload)
            else {
                self.read_more()?;
                continue;
            };
            let is_text = self.received[0] & 0xf == 1;
            // Searches the whole text, because fields have no order; no other value is this word.
            let found = is_text && contains(&self.received[head..head + payload], kind.as_bytes());
            self.received.drain(..head + payload);
            if found {
                return Ok(());
            }
        }
    }

    fn read_more(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err("the server closed a client's connection".into()),
            Ok(read) => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(format!("a client received nothing ({error})")),
        }
    }
}

/// Connects from 127.0.0.1, or from 127.0.0.2 to 127.0.0.9 when its ports are used up: one address
/// has 28,000 on most systems.
fn connect_tcp(server: SocketAddr) -> std::io::Result<TcpStream> {
    match TcpStream::connect(server) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {}
        done => return done,
    }
    let mut last = ErrorKind::AddrNotAvailable.into();
    for n in 2..=9 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, n)), 0);
        match socket
            .bind(&from.into())
            .and_then(|()| socket.connect(&server.into()))
        {
            Ok(()) => return Ok(socket.into()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns a frame with a client's message.
pub fn message_frame(session: &str) -> Vec<u8> {
    message_frame_of(session, QUESTION)
}

/// Returns a frame with a client's message of this text, which is JSON between quotation marks.
pub fn message_frame_of(session: &str, text: &str) -> Vec<u8> {
    let message = format!(
        r#"{{"type":"message","session_id":"{session}","content":"{text}","user":"ann","ts":"2026-01-01T00:00:00.000Z"}}"#
    );
    text_frame(message.as_bytes())
}

/// Returns a client's text frame, with a mask of zero.
pub fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Returns the lengths in bytes of a server frame's header and payload, or `None` if the header is
/// incomplete.
pub fn parse_header(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        )),
        127 => Some((
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        )),
        length => Some((2, usize::from(length))),
    }
}

/// Counts the text frames in what a server sends.
#[derive(Default)]
pub struct FrameCounter {
    pub frames: u64,
    /// Those of less than 126 bytes.
    pub short: u64,
    /// Bytes of the current frame that have not come yet.
    remaining: usize,
    /// The beginning of a header that has not come to its end.
    partial_header: Vec<u8>,
}

impl FrameCounter {
    /// Counts the frames in `bytes`, which can begin and end anywhere in one.
    pub fn consume(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let now = self.remaining.min(bytes.len());
            self.remaining -= now;
            bytes = &bytes[now..];
            if bytes.is_empty() {
                return;
            }
            if self.partial_header.is_empty() {
                let Some((head, payload)) = parse_header(bytes) else {
                    self.partial_header.extend_from_slice(bytes);
                    return;
                };
                self.count(bytes[0], payload);
                self.remaining = head + payload;
            } else {
                self.partial_header.push(bytes[0]);
                bytes = &bytes[1..];
                if let Some((_, payload)) = parse_header(&self.partial_header) {
                    let first = self.partial_header[0];
                    self.partial_header.clear();
                    self.count(first, payload);
                    self.remaining = payload;
                }
            }
        }
    }

    /// Counts a text frame, and no ping. The header is enough: the server sends the rest with it.
    fn count(&mut self, first: u8, payload: usize) {
        if first & 0xf == 1 {
            self.frames += 1;
            self.short += u64::from(payload < 126);
        }
    }
}
