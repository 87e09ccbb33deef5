//! What is on its way to one client. Whoever sends never waits.
//!
//! Frames are written at once, without blocking, by the thread that has them: the
//! hub's, or the connection's own for pongs and closes. Only when the socket is full
//! does a `client-N-drain` thread take over, until it has caught up; from then on
//! frames queue behind it. A client that stays behind past its limit is closed with
//! 1013. So an idle or quick client costs one file descriptor and no second thread.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use log::info;
use parking_lot::Mutex;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::frame::{self, CloseCode};
use crate::protocol::ConnId;

/// The most frames that go into one system call.
const GATHER: usize = 64;
/// How long the drain thread waits for a client that reads nothing before it looks
/// whether there is still a point.
const PATIENCE: Duration = Duration::from_secs(5);
/// The drain thread's stack, in bytes. It only writes.
const STACK: usize = 64 * 1024;

/// The sending half of a connection.
#[derive(Debug)]
pub struct Outbox {
    conn: ConnId,
    stream: TcpStream,
    /// The most bytes that may wait for a slow client.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What waits for the drain thread, which runs as long as this is `Some`.
    backlog: Option<Backlog>,
    /// A close frame was sent; nothing may follow it (RFC 6455, section 5.5.1).
    closed: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Backlog {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }
}

impl Outbox {
    /// An outbox for a connection whose handshake is done.
    ///
    /// # Errors
    /// If the socket takes no timeout.
    pub fn new(conn: ConnId, stream: TcpStream, limit: usize) -> io::Result<Arc<Self>> {
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Arc::new(Self {
            conn,
            stream,
            limit,
            state: Mutex::default(),
        }))
    }

    /// The socket, for reading from it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends frames, in order, after what was sent before.
    pub fn send(self: &Arc<Self>, frames: &[Bytes]) {
        let mut state = self.state.lock();
        if !state.closed {
            self.send_locked(&mut state, frames);
        }
    }

    /// Sends a close frame; nothing goes out after it.
    pub fn close(self: &Arc<Self>, code: CloseCode, reason: &str) {
        self.send_last(frame::close(code, reason));
    }

    /// Sends a frame after which nothing goes out.
    pub fn send_last(self: &Arc<Self>, frame: Bytes) {
        let mut state = self.state.lock();
        if !state.closed {
            self.send_locked(&mut state, &[frame]);
            state.closed = true;
        }
    }

    /// Whether a close frame was sent, or the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Ends the connection, whatever still waits.
    pub fn abort(&self) {
        self.shut(&mut self.state.lock());
    }

    fn send_locked(self: &Arc<Self>, state: &mut State, frames: &[Bytes]) {
        if let Some(backlog) = &mut state.backlog {
            if backlog.bytes > self.limit {
                return self.give_up(state);
            }
            return frames.iter().for_each(|frame| backlog.push(frame.clone()));
        }
        match self.write_without_blocking(frames) {
            Ok(None) => {}
            Ok(Some((begun, rest))) => {
                let mut backlog = Backlog {
                    bytes: begun.len(),
                    ..Backlog::default()
                };
                rest.iter().for_each(|frame| backlog.push(frame.clone()));
                state.backlog = Some(backlog);
                let outbox = self.clone();
                let drain = thread::Builder::new()
                    .name(format!("{}-drain", self.conn))
                    .stack_size(STACK)
                    .spawn(move || outbox.drain(begun));
                if let Err(error) = drain {
                    info!("{}: no thread to wait for it ({error}); closed", self.conn);
                    self.shut(state);
                }
            }
            // The reading thread sees the same error, and ends the connection.
            Err(_) => self.shut(state),
        }
    }

    /// Writes what the socket takes. If it does not take all, returns what is left of
    /// the frame that was begun, and the frames after it.
    fn write_without_blocking<'f>(
        &self,
        mut frames: &'f [Bytes],
    ) -> io::Result<Option<(Bytes, &'f [Bytes])>> {
        let mut sent = 0; // bytes of the first frame
        while let Some(first) = frames.first() {
            let mut slices = [IoSlice::new(&[]); GATHER];
            slices[0] = IoSlice::new(&first[sent..]);
            for (slice, frame) in slices[1..].iter_mut().zip(&frames[1..]) {
                *slice = IoSlice::new(frame);
            }
            let slices = &slices[..frames.len().min(GATHER)];
            let mut no_control = SendAncillaryBuffer::default();
            let flags = SendFlags::DONTWAIT;
            match rustix::net::sendmsg(&self.stream, slices, &mut no_control, flags) {
                Ok(bytes) => sent += bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    return Ok(Some((first.slice(sent..), &frames[1..])));
                }
                Err(error) => return Err(error.into()),
            }
            while let Some(first) = frames.first()
                && sent >= first.len()
            {
                sent -= first.len();
                frames = &frames[1..];
            }
        }
        Ok(None)
    }

    /// The client is too slow. What it hasn't begun to get is dropped, and it is told
    /// why, if it ever reads again.
    fn give_up(&self, state: &mut State) {
        let Some(backlog) = &mut state.backlog else {
            return;
        };
        info!(
            "{}: closed, it reads too slowly ({} bytes were waiting)",
            self.conn, backlog.bytes
        );
        // The frame that the drain thread holds may be partly written. It is finished
        // first, or the close could not be understood.
        backlog.frames.clear();
        backlog.push(frame::close(CloseCode::Again, "reading too slowly"));
        state.closed = true;
    }

    fn shut(&self, state: &mut State) {
        state.closed = true;
        state.backlog = None;
        // It fails only if the connection has already ended.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The drain thread: writes the frame that was begun and those behind it, until
    /// there is none.
    fn drain(self: Arc<Self>, mut frame: Bytes) {
        loop {
            let bytes = frame.len();
            let written = self.write_blocking(frame);
            let mut state = self.state.lock();
            if written.is_err() {
                return self.shut(&mut state);
            }
            let Some(backlog) = &mut state.backlog else {
                return;
            };
            backlog.bytes = backlog.bytes.saturating_sub(bytes);
            match backlog.frames.pop_front() {
                Some(next) => frame = next,
                None => {
                    state.backlog = None;
                    return;
                }
            }
        }
    }

    fn write_blocking(&self, mut frame: Bytes) -> io::Result<()> {
        while !frame.is_empty() {
            match (&self.stream).write(&frame) {
                Ok(bytes) => frame.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing went out for a while. That's the client's business, unless
                // the connection is to end anyway.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && !self.state.lock().closed => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
