//! A WebSocket: the thread that reads from one client, to the end.

mod wire;

use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};
use wire::Wire;

use super::door::{Door, Place};
use super::frame::{self, CloseCode};
use super::outbox::Outbox;
use super::{Event, Said, linger};
use crate::audit::Record;
use crate::protocol::{
    self, ClientMessage, ClientRequest, ConnId, ErrorCode, Grant, LastNames, Refusal, SessionId,
};

/// What is read at once, in bytes. It is kept while the connection idles.
const READ_BUFFER: usize = 2 * 1024;
/// A message up to this many times the limit is still read, so that it can be
/// answered and the connection kept; a longer one closes it.
const TOLERATED: usize = 4;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Handshake<E> {
    /// Its number.
    pub conn: ConnId,
    /// The socket.
    pub stream: TcpStream,
    /// The session of its URL.
    pub session: SessionId,
    /// What the client may do.
    pub grant: Arc<Grant>,
    /// What it has sent since.
    pub rest: Vec<u8>,
    /// Its place among the connections, and what they share.
    pub door: Place<E>,
}

/// The reading half of a WebSocket. The hub hears of its end, however it ends. It is kept off
/// the stack, of which every client would keep the pages.
pub struct Client<E: From<Event>> {
    conn: ConnId,
    door: Arc<Door<E>>,
    outbox: Arc<Outbox>,
    socket: WebSocket<Wire>,
    /// How many messages for Claude it has sent.
    sent: u64,
    /// The names in the last one.
    names: LastNames,
}

/// Tells the hub of a client, and has what reads from it; `None` if the connection has broken.
pub fn begin<E: From<Event>>(handshake: Handshake<E>) -> Option<(Box<Client<E>>, Place<E>)> {
    let Handshake {
        conn,
        stream,
        session,
        grant,
        rest,
        door,
    } = handshake;
    let options = &door.options;
    stream.set_read_timeout(Some(options.ping_interval)).ok()?;
    let outbox = Outbox::new(conn, stream, options.max_backlog).ok()?;
    door.tell(Event::Connected {
        conn,
        session,
        grant,
        outbox: outbox.clone(),
    });
    let longest = options.max_message.saturating_mul(TOLERATED);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    let wire = Wire::new(outbox.clone());
    let client = Client {
        conn,
        door: door.share(),
        outbox,
        socket: WebSocket::from_partially_read(wire, rest, Role::Server, Some(config)),
        sent: 0,
        names: LastNames::default(),
    };
    Some((Box::new(client), door))
}

/// Serves a client to its end.
pub fn serve<E: From<Event>>(mut client: Box<Client<E>>, place: Place<E>) {
    let (conn, outbox) = (client.conn, client.outbox.clone());
    let why = client.read();
    // The hub hears of it now; the place is free when the socket is.
    drop(client);
    place
        .audit
        .record(&Record::Disconnected { client: conn, why });
    if outbox.is_closed() {
        outbox.finish();
        linger(outbox.stream());
    }
    outbox.abort();
}

impl<E: From<Event>> Drop for Client<E> {
    fn drop(&mut self) {
        self.door.tell(Event::Disconnected {
            conn: self.conn,
            after: self.sent,
        });
    }
}

impl<E: From<Event>> Client<E> {
    /// Reads to the end, and says how it came.
    fn read(&mut self) -> &'static str {
        let interval = self.door.options.ping_interval;
        let mut silent = Duration::ZERO;
        let mut pinged = Instant::now();
        loop {
            self.outbox.wait_until_read(self.door.options.ping_timeout);
            let message = self.socket.read();
            if self.outbox.is_closed() {
                // Whatever comes now comes too late, but for the answer to the close.
                match message {
                    Ok(Message::Close(_)) => return "it was closed",
                    Ok(_) => continue,
                    Err(_) => return "it did not answer the close",
                }
            }
            match message {
                Ok(Message::Text(text)) => self.frame(&text),
                Ok(Message::Binary(_)) => self.refuse(Refusal::new(
                    ErrorCode::InvalidMessage,
                    "binary frames are not understood; send JSON as text",
                )),
                Ok(Message::Close(_)) => {
                    // Sends the close that tungstenite has prepared.
                    let _ = self.socket.flush();
                    return "it closed";
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if is_timeout(&error) => {
                    silent += interval;
                    if silent >= self.door.options.ping_timeout {
                        self.outbox.close(CloseCode::Away, "no sign of life");
                        return "it gave no sign of life";
                    }
                    self.outbox.send_frame(frame::ping());
                    pinged = Instant::now();
                    continue;
                }
                Err(error) => return self.end(&error),
            }
            silent = Duration::ZERO;
            // The clock is looked at when something has arrived, not for each message of it.
            if mem::take(&mut self.socket.get_mut().has_read) && pinged.elapsed() >= interval {
                self.outbox.send_frame(frame::ping());
                pinged = Instant::now();
            }
        }
    }

    /// Passes on what a text frame says. Kept out of `read`, where its variables would
    /// cost every idle connection a page of stack.
    #[inline(never)]
    fn frame(&mut self, text: &str) {
        let options = &self.door.options;
        if text.len() > options.max_message {
            return self.refuse(protocol::refuse(text, too_large(options.max_message)));
        }
        match protocol::parse_next(text, options.max_name, &mut self.names) {
            Ok(ClientMessage::Message(message)) => {
                self.sent += 1;
                let conn = self.conn;
                // If the hub is gone, so is the process in a moment.
                let _ = self.door.said.send(Said { conn, message });
            }
            Ok(ClientMessage::Request(request)) => self.ask(request),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// Asks the hub. What has a long answer is asked one by one, so that a client that
    /// asks for much at once delays nobody but itself.
    fn ask(&self, request: ClientRequest) {
        let is_long = matches!(
            request,
            ClientRequest::FetchHistory { .. } | ClientRequest::ListSessions
        );
        let (answered, answer) = is_long.then(|| bounded(0)).unzip();
        self.door.tell(Event::Asked {
            conn: self.conn,
            after: self.sent,
            request,
            answered,
        });
        // Nothing is sent: it ends.
        let _: Option<Result<(), _>> = answer.map(|answer| answer.recv());
    }

    fn refuse(&self, refusal: Refusal) {
        self.door.tell(Event::Refused {
            conn: self.conn,
            after: self.sent,
            refusal,
        });
    }

    /// Closes the connection as RFC 6455 (section 7.4.1) wants it after this error.
    #[inline(never)]
    fn end(&self, error: &Error) -> &'static str {
        match error {
            Error::Capacity(_) => {
                let refusal = too_large(self.door.options.max_message);
                self.outbox.send_frame(frame::text(&refusal.error()));
                self.outbox.close(CloseCode::Size, &refusal.message);
                "its message was far too large"
            }
            Error::Utf8(_) => {
                self.outbox
                    .close(CloseCode::Invalid, "the text is not UTF-8");
                "its text was not UTF-8"
            }
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                "the connection broke"
            }
            Error::Protocol(error) => {
                self.outbox.close(CloseCode::Protocol, &error.to_string());
                "it broke the WebSocket protocol"
            }
            _ => "it closed",
        }
    }
}

fn too_large(max: usize) -> Refusal {
    Refusal::new(
        ErrorCode::TooLarge,
        format!(
            "a message may have {max} bytes at most; send less, or raise CLAUDE_SOCKET_MAX_MESSAGE"
        ),
    )
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
