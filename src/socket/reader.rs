//! The reading half of a WebSocket: the thread that reads from one client to the end.

use std::io::{self, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use super::context::{ConnectionPermit, Context};
use super::event_queue::EventQueue;
use super::frame::{self, CloseCode};
use super::frame_filter::FrameFilter;
use super::outbox::Outbox;
use super::{Event, OVERSIZE_FACTOR, linger};
use crate::audit::Record;
use crate::hub::ClientInput;
use crate::protocol::{
    self, ClientMessage, ClientRequest, ConnId, ErrorCode, Grant, NameCache, Rejection, SessionId,
};

/// Bytes that are read at once. The buffer is kept while the connection idles.
const READ_BUFFER: usize = 2 * 1024;

/// How long a client may go on sending after it was closed. A silent one is noticed when it
/// would be pinged.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a message is refused for which there is no memory.
const NO_MEMORY: &str = "the server has no memory left for this message; try again later";

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Upgraded {
    pub conn: ConnId,
    pub stream: TcpStream,
    /// The session of its URL.
    pub session: SessionId,
    /// What the client may do.
    pub grant: Arc<Grant>,
    /// What it has sent behind the head of its request.
    pub rest: Vec<u8>,
    pub permit: ConnectionPermit,
}

/// Reads from one WebSocket, and reports the disconnect on drop. Boxed, because stack pages
/// once touched stay resident for the life of the thread.
pub struct Reader {
    conn: ConnId,
    context: Arc<Context>,
    outbox: Arc<Outbox>,
    queue: Arc<EventQueue>,
    /// Nothing more is to be read before there is room in the queue.
    is_full: bool,
    socket: WebSocket<OutboxStream>,
    /// The names in the latest message.
    names: NameCache,
}

/// Reports the client to the hub and returns its reader; `None` if the connection is broken.
pub fn begin(upgraded: Upgraded) -> Option<(Box<Reader>, ConnectionPermit)> {
    let Upgraded {
        conn,
        stream,
        session,
        grant,
        rest,
        permit,
    } = upgraded;
    let options = &permit.options;
    stream.set_read_timeout(Some(options.ping_interval)).ok()?;
    let outbox = Outbox::new(conn, stream, options.max_backlog, permit.slow.clone()).ok()?;
    let queue = EventQueue::for_client(&permit.events, conn, &outbox);
    queue.push(Event::Connected {
        conn,
        session,
        grant,
        outbox: outbox.clone(),
        queue: queue.clone(),
    });
    let longest = options.max_message.saturating_mul(OVERSIZE_FACTOR);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    let stream = OutboxStream::new(outbox.clone(), queue.clone(), rest, longest);
    let reader = Reader {
        conn,
        context: permit.context(),
        outbox,
        queue,
        is_full: false,
        socket: WebSocket::from_raw_socket(stream, Role::Server, Some(config)),
        names: NameCache::default(),
    };
    Some((Box::new(reader), permit))
}

/// Reads from a client to the end, and ends its connection.
pub fn run(mut reader: Box<Reader>, permit: ConnectionPermit) {
    let (conn, outbox) = (reader.conn, reader.outbox.clone());
    let why = reader.read();
    // The hub gets the disconnect now; the permit is free when the socket is.
    drop(reader);
    permit
        .audit
        .record(&Record::Disconnected { client: conn, why });
    if outbox.is_closed() {
        outbox.finish();
        linger(outbox.stream());
    }
    outbox.abort();
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.queue.push(Event::Disconnected(self.conn));
    }
}

impl Reader {
    /// What is sent to the client.
    pub fn outbox(&self) -> Arc<Outbox> {
        self.outbox.clone()
    }

    /// Reads to the end and returns how that came, for the audit.
    fn read(&mut self) -> &'static str {
        let interval = self.context.options.ping_interval;
        let mut silent = Duration::ZERO;
        let mut pinged = Instant::now();
        loop {
            self.outbox
                .wait_for_drain(self.context.options.ping_timeout);
            if mem::take(&mut self.is_full) {
                self.wait_for_room();
            }
            let message = self.socket.read();
            if self.outbox.is_closed() {
                // The close was sent: drop everything except the peer's close.
                match message {
                    Ok(Message::Close(_)) => return "it was closed",
                    Ok(_) => continue,
                    Err(_) if self.queue.is_cut_off() => return "it had too much pending",
                    Err(_) => return "it did not answer the close",
                }
            }
            match message {
                Ok(Message::Text(text)) => {
                    self.socket.get_mut().finish_message();
                    let request = self.handle_frame(&text);
                    // The answer may take long to be sent.
                    drop(text);
                    if let Some(request) = request {
                        self.request(request);
                    }
                }
                Ok(Message::Binary(bytes)) => {
                    self.socket.get_mut().finish_message();
                    self.reject_binary(&bytes);
                }
                Ok(Message::Close(_)) => {
                    // Sends the close that tungstenite has prepared.
                    let _ = self.socket.flush();
                    return "it closed";
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if is_timeout(&error) => {
                    silent += interval;
                    if silent >= self.context.options.ping_timeout {
                        self.outbox.close(CloseCode::Away, "no sign of life");
                        return "it gave no sign of life";
                    }
                    self.outbox.send_frame(frame::ping());
                    self.queue.shrink();
                    pinged = Instant::now();
                    continue;
                }
                Err(error) => return self.end(&error),
            }
            silent = Duration::ZERO;
            // The clock is read once for each read from the socket, not for each message in it.
            if mem::take(&mut self.socket.get_mut().has_read) && pinged.elapsed() >= interval {
                self.outbox.send_frame(frame::ping());
                pinged = Instant::now();
            }
        }
    }

    /// Blocks until the hub's loop has taken half of what waits in the queue. From a client that has
    /// hung up, what is left in the socket is read at once, so that its thread and its place
    /// are free.
    #[inline(never)]
    fn wait_for_room(&self) {
        let (outbox, queue) = (&self.outbox, &self.queue);
        queue.wait_for_room(|| !outbox.is_open() || has_hung_up(outbox.stream()));
    }

    /// Parses a text frame and sends it to the hub. Returns a request with a long answer. Not inlined into `read`, where its
    /// variables would cost every idle connection a page of stack.
    #[inline(never)]
    fn handle_frame(&mut self, text: &str) -> Option<ClientRequest> {
        let options = &self.context.options;
        let room = &mut self.socket.get_mut().frames.room;
        let parsed = if text.len() > options.max_message {
            Err(protocol::reject(text, too_large(options.max_message)))
        } else if room.reserve_whole(text.len()) {
            protocol::parse_cached(text, options.max_name, &mut self.names)
        } else {
            let why = Rejection::new(ErrorCode::Busy, NO_MEMORY);
            Err(protocol::reject(text, why))
        };
        room.release();
        match parsed {
            Ok(ClientMessage::Message(message)) => {
                self.send(ClientInput::Message(message.into()), None);
            }
            Ok(ClientMessage::Request(
                request @ (ClientRequest::FetchHistory { .. }
                | ClientRequest::Search { .. }
                | ClientRequest::FetchVerdicts { .. }
                | ClientRequest::ListSessions),
            )) => return Some(request),
            Ok(ClientMessage::Request(request)) => self.send(ClientInput::Request(request), None),
            Err(rejection) => self.reject(rejection),
        }
        None
    }

    /// Sends the hub a request with a long answer, and waits until that is complete. Each further
    /// frame of the answer is asked for when those before are written. So a client that asks for
    /// much, or reads slowly, delays nobody but itself, and little waits for it.
    #[inline(never)]
    fn request(&mut self, request: ClientRequest) {
        let mut input = ClientInput::Request(request);
        loop {
            self.outbox.wait_for_room(self.context.options.ping_timeout);
            let (handled, more) = bounded(1);
            self.send(input, Some(handled));
            // The channel is disconnected when the answer is complete.
            if more.recv().is_err() || !self.outbox.is_open() {
                return;
            }
            input = ClientInput::GoOn;
        }
    }

    /// Rejects a binary frame. A message in it gets its receipt.
    #[inline(never)]
    fn reject_binary(&mut self, bytes: &[u8]) {
        let why = "binary frames are not understood; send JSON as text";
        let why = Rejection::new(ErrorCode::InvalidMessage, why);
        let text = str::from_utf8(bytes).unwrap_or_default();
        let rejection = protocol::reject(text, why);
        self.socket.get_mut().frames.room.release();
        self.reject(rejection);
    }

    fn reject(&mut self, rejection: Rejection) {
        self.send(ClientInput::Rejected(rejection), None);
    }

    fn send(&mut self, input: ClientInput, handled: Option<Sender<()>>) {
        self.is_full = self.queue.push(Event::Input {
            conn: self.conn,
            input,
            handled,
        });
    }

    /// Closes the connection with the code of RFC 6455, section 7.4.1, for this error.
    #[inline(never)]
    fn end(&self, error: &Error) -> &'static str {
        match error {
            Error::Capacity(_) => {
                let rejection = too_large(self.context.options.max_message);
                self.outbox.send_frame(frame::text(&rejection.error()));
                self.outbox.close(CloseCode::Size, &rejection.message);
                "its message was far too large"
            }
            Error::Utf8(_) => {
                self.outbox
                    .close(CloseCode::Invalid, "the text is not UTF-8");
                "its text was not UTF-8"
            }
            Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.break_off(&error.to_string())
            }
            Error::Io(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                self.outbox.close(CloseCode::Again, NO_MEMORY);
                "there was no memory for its message"
            }
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                "the connection broke"
            }
            Error::Protocol(error) => self.break_off(&error.to_string()),
            _ => "it closed",
        }
    }

    /// Closes the connection of a client that breaks the protocol.
    fn break_off(&self, why: &str) -> &'static str {
        self.outbox.close(CloseCode::Protocol, why);
        "it broke the WebSocket protocol"
    }
}

/// The stream that tungstenite reads and writes. It reads the socket, and writes through the
/// outbox, so that pongs and closes don't interleave with other frames.
struct OutboxStream {
    socket: SocketReader,
    frames: FrameFilter,
    /// When reading first found the connection closed.
    closed: Option<Instant>,
    /// Something was read since this was reset.
    has_read: bool,
    queue: Arc<EventQueue>,
    /// The bytes read since the last message was complete.
    unfinished: usize,
    /// Those of them that the queue counts.
    counted: usize,
}

impl OutboxStream {
    /// `rest` was read already. A frame may have `longest` bytes.
    fn new(outbox: Arc<Outbox>, queue: Arc<EventQueue>, rest: Vec<u8>, longest: usize) -> Self {
        Self {
            socket: SocketReader { outbox, rest },
            frames: FrameFilter::new(longest as u64),
            closed: None,
            has_read: false,
            queue,
            unfinished: 0,
            counted: 0,
        }
    }

    /// A message was complete.
    fn finish_message(&mut self) {
        self.unfinished = 0;
        self.count();
    }

    /// Lets the queue count what was read of a message that is not complete.
    fn count(&mut self) {
        if self.counted != self.unfinished {
            self.counted = self.unfinished;
            self.queue.set_unfinished(self.counted);
        }
    }
}

impl Read for OutboxStream {
    /// Fails [`CLOSE_TIMEOUT`] after the close, also in the middle of a message.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.count();
        if self.queue.is_cut_off() {
            return Ok(0);
        }
        if self.socket.outbox.is_closed() {
            let since = *self.closed.get_or_insert_with(Instant::now);
            if since.elapsed() >= CLOSE_TIMEOUT {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.has_read = true;
        let read = self.frames.read(&mut self.socket, bytes)?;
        self.unfinished += read;
        Ok(read)
    }
}

/// Reads the socket.
struct SocketReader {
    outbox: Arc<Outbox>,
    /// What was read with the head of the request.
    rest: Vec<u8>,
}

impl Read for SocketReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if !self.rest.is_empty() {
            let mut rest = &mem::take(&mut self.rest)[..];
            let read = rest.read(bytes)?;
            self.rest = rest.to_vec();
            return Ok(read);
        }
        loop {
            match self.outbox.stream().read(bytes) {
                // A read with a timeout isn't restarted by the system (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Write for OutboxStream {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        let bytes = Bytes::copy_from_slice(frame);
        if frame::is_close(frame) {
            self.socket.outbox.send_close(bytes);
        } else {
            self.socket.outbox.send_frame(bytes);
        }
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large(max: usize) -> Rejection {
    Rejection::new(
        ErrorCode::TooLarge,
        format!(
            "a message may have {max} bytes at most; split it into several, or raise the server's --max-message and --max-frame"
        ),
    )
}

/// Returns `true` if nothing can come from a client any more but what the socket holds.
fn has_hung_up(stream: &TcpStream) -> bool {
    #[cfg(target_os = "linux")]
    let end = PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    let end = PollFlags::HUP;
    let mut socket = [PollFd::new(stream, end)];
    // The end of the connection is reported unasked (poll(2)).
    poll(&mut socket, Some(&Timespec::default())).is_ok_and(|events| events > 0)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
