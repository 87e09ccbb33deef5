//! The frames on their way to one client. Sending never blocks.
//!
//! Frames are written at once, without blocking, by the thread that has them: the hub's, or
//! the connection's own for pongs and closes. Only when the socket is full does a
//! `client-N-drain` thread take over, until it has caught up; meanwhile frames queue behind
//! it. A client whose backlog exceeds its limit is closed with 1013. A client with a backlog is
//! not read from either, so that it can't ask for more than it reads. So an idle or fast client
//! costs one file descriptor and no second thread.

mod backlog;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, Write};
use std::iter;
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use log::info;
use parking_lot::{Condvar, Mutex};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use backlog::Backlog;

use super::frame::{self, CloseCode, EncodedFrames};
use crate::memory;
use crate::protocol::ConnId;

/// With this many bytes waiting for a client, it is not read from.
const READ_PAUSE_MARK: usize = 256 * 1024;
/// With this many bytes waiting for a client, it gets no further frame of an answer.
const ANSWER_PAUSE_MARK: usize = 16 * 1024;
/// The most pieces in one system call.
const MAX_IOVECS: usize = 64;
/// How long the drain thread waits for a client that reads nothing before it checks whether
/// the connection is to end.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The drain thread's stack, in bytes. It only writes.
const STACK: usize = 64 * 1024;

/// The sending half of a connection.
#[derive(Debug)]
pub struct Outbox {
    conn: ConnId,
    stream: TcpStream,
    /// The most bytes of memory that what waits for a slow client may take. Frames that were begun in
    /// one write may take more.
    limit: usize,
    /// A close frame was sent; nothing may follow it (RFC 6455, section 5.5.1). Changes once,
    /// and only while `backlog` is locked.
    closed: AtomicBool,
    /// Writing has failed. What the client sent before may still be read.
    broken: AtomicBool,
    /// The number of clients that have a backlog.
    slow: Arc<AtomicUsize>,
    /// The frames for the drain thread, which runs as long as this is `Some`.
    backlog: Mutex<Option<Backlog>>,
    /// Mirrors `backlog.is_some()`, to be read without the lock.
    has_backlog: AtomicBool,
    /// Notified when the drain thread has written a frame, and when it ends.
    drained: Condvar,
    /// The drain thread has written something since this was reset.
    progress: AtomicBool,
}

impl Outbox {
    /// Returns the outbox of a connection whose handshake is done.
    ///
    /// # Errors
    /// If the socket takes no timeout.
    pub fn new(
        conn: ConnId,
        stream: TcpStream,
        limit: usize,
        slow: Arc<AtomicUsize>,
    ) -> io::Result<Arc<Self>> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Arc::new(Self {
            conn,
            stream,
            limit,
            closed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            slow,
            backlog: Mutex::default(),
            has_backlog: AtomicBool::new(false),
            drained: Condvar::new(),
            progress: AtomicBool::new(false),
        }))
    }

    /// The socket, for reading from it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a frame, after what was sent before.
    pub fn send_frame(self: &Arc<Self>, frame: Bytes) {
        let whole = 0..frame.len();
        self.send(&frame.into(), &[whole]);
    }

    /// Sends these pieces of a [`frame::Batch`], in order, after what was sent before.
    pub fn send(self: &Arc<Self>, batch: &EncodedFrames, pieces: &[Range<usize>]) {
        let mut backlog = self.backlog.lock();
        if self.is_open() {
            self.send_locked(&mut backlog, batch, pieces);
        }
    }

    /// Sends these pieces as [`Outbox::send`] does, but leaves writing to the drain thread.
    pub fn send_later(self: &Arc<Self>, batch: &EncodedFrames, pieces: &[Range<usize>]) {
        let mut backlog = self.backlog.lock();
        if !self.is_open() {
            return;
        }
        match (backlog.is_some(), pieces.split_first()) {
            (false, Some((first, others))) => {
                self.begin_backlog(&mut backlog, batch, first.clone(), others);
            }
            _ => self.send_locked(&mut backlog, batch, pieces),
        }
    }

    /// Sends a close frame. Nothing is sent after it.
    pub fn close(self: &Arc<Self>, code: CloseCode, reason: &str) {
        self.send_close(frame::close(code, reason));
    }

    /// Sends this close frame. Nothing is sent after it.
    pub fn send_close(self: &Arc<Self>, frame: Bytes) {
        let mut backlog = self.backlog.lock();
        if self.is_open() {
            match &mut *backlog {
                Some(waiting) => waiting.push_last(frame),
                None => {
                    let whole = 0..frame.len();
                    self.send_locked(&mut backlog, &frame.into(), &[whole]);
                }
            }
            self.closed.store(true, Ordering::Release);
            self.drained.notify_all();
        }
    }

    /// Returns `true` if a close frame was sent.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Returns `true` if frames can still be sent.
    pub fn is_open(&self) -> bool {
        !self.is_closed() && !self.broken.load(Ordering::Acquire)
    }

    /// Blocks while the client has a long backlog. One that reads nothing for `timeout` is
    /// closed.
    pub fn wait_for_drain(&self, timeout: Duration) {
        self.wait_while_over(READ_PAUSE_MARK, timeout);
    }

    /// Blocks while hardly more can wait for the client than what waits already. One that reads
    /// nothing for `timeout` is closed.
    pub fn wait_for_room(&self, timeout: Duration) {
        self.wait_while_over(ANSWER_PAUSE_MARK, timeout);
    }

    fn wait_while_over(&self, mark: usize, timeout: Duration) {
        // This is called before every frame, and hardly any client ever has a backlog. One that
        // gets one right now is noticed before its next frame.
        if !self.has_backlog.load(Ordering::Acquire) {
            return;
        }
        let mut backlog = self.backlog.lock();
        while let Some(waiting) = &mut *backlog
            && waiting.bytes() > mark
            && self.is_open()
        {
            let timed_out = self.drained.wait_for(&mut backlog, timeout).timed_out();
            if let Some(waiting) = &mut *backlog
                && timed_out
                && !self.progress.swap(false, Ordering::Relaxed)
                && self.is_open()
            {
                self.close_slow(waiting);
            }
        }
    }

    /// Blocks until everything is written, but at most [`WRITE_TIMEOUT`].
    pub fn finish(&self) {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        let mut backlog = self.backlog.lock();
        while backlog.is_some() && !self.drained.wait_until(&mut backlog, deadline).timed_out() {}
    }

    /// Ends the connection and drops what still waits.
    pub fn abort(&self) {
        self.mark_broken(&mut self.backlog.lock());
        // It fails only if the connection has already ended.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn send_locked(
        self: &Arc<Self>,
        backlog: &mut Option<Backlog>,
        batch: &EncodedFrames,
        mut pieces: &[Range<usize>],
    ) {
        if let Some(waiting) = backlog {
            if !waiting.push_all(batch, pieces, self.limit) {
                self.close_slow(waiting);
            }
            return;
        }
        match self.write_without_blocking(batch, &mut pieces) {
            Ok(None) => {}
            Ok(Some(begun)) => self.begin_backlog(backlog, batch, begun, pieces),
            // The reading thread sees the same error when it has read what there is.
            Err(_) => self.mark_broken(backlog),
        }
    }

    /// Lets a drain thread write what is left of a piece, and those behind it.
    fn begin_backlog(
        self: &Arc<Self>,
        backlog: &mut Option<Backlog>,
        batch: &EncodedFrames,
        begun: Range<usize>,
        pieces: &[Range<usize>],
    ) {
        // What was begun must be finished, however long it is.
        let (waiting, begun) = Backlog::begin(batch.detach(begun));
        let waiting = backlog.insert(waiting);
        if !waiting.push_all(batch, pieces, self.limit) {
            self.close_slow(waiting);
        }
        self.has_backlog.store(true, Ordering::Release);
        if let Err(error) = self.clone().start_drain(begun) {
            info!("{}: no thread to wait for it ({error}); closed", self.conn);
            self.mark_broken(backlog);
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }

    /// Writes what the socket accepts of these pieces and removes them. Returns the rest of the
    /// piece that was begun, if the socket did not accept all.
    fn write_without_blocking(
        &self,
        batch: &EncodedFrames,
        pieces: &mut &[Range<usize>],
    ) -> io::Result<Option<Range<usize>>> {
        let mut sent = 0; // bytes of the first piece
        while let Some((first, others)) = pieces.split_first() {
            let rest = first.start + sent..first.end;
            let written = if others.is_empty() {
                rustix::net::send(&self.stream, &batch[rest.clone()], SendFlags::DONTWAIT)
            } else {
                self.write_gathered(batch, rest.clone(), others)
            };
            match written {
                Ok(bytes) => sent += bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    *pieces = others;
                    return Ok(Some(rest));
                }
                Err(error) => return Err(error.into()),
            }
            while let Some((first, others)) = pieces.split_first()
                && sent >= first.len()
            {
                sent -= first.len();
                *pieces = others;
            }
        }
        Ok(None)
    }

    /// Writes what the socket accepts of several pieces.
    #[inline(never)] // its array would cost every reading thread a page of stack
    fn write_gathered(
        &self,
        batch: &EncodedFrames,
        first: Range<usize>,
        others: &[Range<usize>],
    ) -> rustix::io::Result<usize> {
        let pieces = iter::once(&first).chain(others);
        let mut slices = [IoSlice::new(&[]); MAX_IOVECS];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(&batch[piece.clone()]);
        }
        let slices = &slices[..(1 + others.len()).min(MAX_IOVECS)];
        let mut no_control = SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.stream, slices, &mut no_control, SendFlags::DONTWAIT)
    }

    /// Closes a client that reads too slowly. Frames that are not begun are dropped.
    fn close_slow(&self, backlog: &mut Backlog) {
        info!(
            "{}: closed, it reads too slowly ({} bytes were waiting)",
            self.conn,
            backlog.bytes()
        );
        // The frame that the drain thread holds may be partly written. It is finished first, or
        // the close could not be parsed.
        backlog.drop_waiting();
        backlog.push_last(frame::close(CloseCode::Again, "reading too slowly"));
        self.closed.store(true, Ordering::Release);
        self.drained.notify_all();
    }

    fn mark_broken(&self, backlog: &mut Option<Backlog>) {
        *backlog = None;
        self.has_backlog.store(false, Ordering::Release);
        self.drained.notify_all();
        self.broken.store(true, Ordering::Release);
    }

    /// Starts the drain thread.
    ///
    /// # Errors
    /// If the system has none, or no memory for it.
    fn start_drain(self: Arc<Self>, begun: Bytes) -> io::Result<()> {
        if !memory::has_room(STACK) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let thread = thread::Builder::new()
            .name(format!("{}-drain", self.conn))
            .stack_size(STACK);
        let run = move || {
            self.slow.fetch_add(1, Ordering::Relaxed);
            self.drain(begun);
            self.slow.fetch_sub(1, Ordering::Relaxed);
        };
        thread.spawn(run).map(drop)
    }

    /// The drain thread: writes the frame that was begun and those behind it until there is
    /// none.
    fn drain(&self, mut frame: Bytes) {
        loop {
            if self.write_blocking(frame).is_err() {
                return self.abort();
            }
            let mut backlog = self.backlog.lock();
            match backlog.as_mut().and_then(Backlog::pop) {
                Some(next) => {
                    frame = next;
                    self.drained.notify_all();
                }
                None => {
                    *backlog = None;
                    self.has_backlog.store(false, Ordering::Release);
                    self.drained.notify_all();
                    return;
                }
            }
        }
    }

    fn write_blocking(&self, mut frame: Bytes) -> io::Result<()> {
        while !frame.is_empty() {
            match (&self.stream).write(&frame) {
                Ok(bytes) => {
                    frame.advance(bytes);
                    self.progress.store(true, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The client reads nothing for now, which it may, unless it was closed.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_closed() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
