//! What is on its way to one client. Whoever sends never waits.
//!
//! Frames are written at once, without blocking, by the thread that has them: the
//! hub's, or the connection's own for pongs and closes. Only when the socket is full
//! does a `client-N-drain` thread take over, until it has caught up; from then on
//! frames queue behind it. A client that stays behind past its limit is closed with
//! 1013. A client that is behind is not read from either, so that it can't ask for more
//! than it reads. So an idle or quick client costs one file descriptor and no second thread.

mod backlog;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, Write};
use std::iter;
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use log::info;
use parking_lot::{Condvar, Mutex};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use backlog::Backlog;

use super::batch::Frames;
use super::frame::{self, CloseCode};
use crate::protocol::ConnId;

/// The most pieces that go into one system call.
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
    /// A close frame was sent; nothing may follow it (RFC 6455, section 5.5.1). Changes
    /// only while `backlog` is locked, and only once.
    closed: AtomicBool,
    /// Nothing can be sent any more. What the client sent before may still be read.
    broken: AtomicBool,
    /// What waits for the drain thread, which runs as long as this is `Some`.
    backlog: Mutex<Option<Backlog>>,
    /// Whether there is a backlog, for who only wants to know that. Follows it, while it
    /// is locked.
    is_behind: AtomicBool,
    /// Told when the drain thread has written a frame, and when it ends.
    drained: Condvar,
    /// The drain thread has written something since this was looked at.
    progress: AtomicBool,
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
            closed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            backlog: Mutex::default(),
            is_behind: AtomicBool::new(false),
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

    /// Sends these pieces of a [`super::batch::Batch`], in order, after what was sent before.
    pub fn send(self: &Arc<Self>, batch: &Frames, pieces: &[Range<usize>]) {
        let mut backlog = self.backlog.lock();
        if self.takes_frames() {
            self.send_locked(&mut backlog, batch, pieces);
        }
    }

    /// Sends a close frame; nothing goes out after it.
    pub fn close(self: &Arc<Self>, code: CloseCode, reason: &str) {
        self.send_last(frame::close(code, reason));
    }

    /// Sends a frame after which nothing goes out.
    pub fn send_last(self: &Arc<Self>, frame: Bytes) {
        let mut backlog = self.backlog.lock();
        if self.takes_frames() {
            let whole = 0..frame.len();
            self.send_locked(&mut backlog, &frame.into(), &[whole]);
            self.closed.store(true, Ordering::Release);
            self.drained.notify_all();
        }
    }

    /// Whether a close frame was sent.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether there is a point in sending anything.
    pub fn takes_frames(&self) -> bool {
        !self.is_closed() && !self.broken.load(Ordering::Acquire)
    }

    /// Waits while much is waiting for the client. One that reads nothing for as long as
    /// `patience` is closed.
    pub fn wait_until_read(&self, patience: Duration) {
        // This is asked before every frame, and hardly any client is ever behind. One that
        // falls behind right now is noticed before its next frame.
        if !self.is_behind.load(Ordering::Acquire) {
            return;
        }
        let mut backlog = self.backlog.lock();
        while let Some(waiting) = &mut *backlog
            && waiting.is_much()
            && self.takes_frames()
        {
            let timed_out = self.drained.wait_for(&mut backlog, patience).timed_out();
            if let Some(waiting) = &mut *backlog
                && timed_out
                && !self.progress.swap(false, Ordering::Relaxed)
                && self.takes_frames()
            {
                self.close_slow(waiting);
            }
        }
    }

    /// Waits until everything is written, but not for long.
    pub fn finish(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut backlog = self.backlog.lock();
        while backlog.is_some() && !self.drained.wait_until(&mut backlog, deadline).timed_out() {}
    }

    /// Ends the connection, whatever still waits.
    pub fn abort(&self) {
        self.give_up_writing(&mut self.backlog.lock());
        // It fails only if the connection has already ended.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn send_locked(
        self: &Arc<Self>,
        backlog: &mut Option<Backlog>,
        batch: &Frames,
        mut pieces: &[Range<usize>],
    ) {
        if let Some(waiting) = backlog {
            if waiting.bytes() > self.limit {
                return self.close_slow(waiting);
            }
            return waiting.push_all(batch, pieces);
        }
        match self.write_without_blocking(batch, &mut pieces) {
            Ok(None) => {}
            Ok(Some(begun)) => {
                let begun = batch.keep(begun);
                let waiting = backlog.insert(Backlog::behind(&begun));
                waiting.push_all(batch, pieces);
                self.is_behind.store(true, Ordering::Release);
                let outbox = self.clone();
                let drain = thread::Builder::new()
                    .name(format!("{}-drain", self.conn))
                    .stack_size(STACK)
                    .spawn(move || outbox.drain(begun));
                if let Err(error) = drain {
                    info!("{}: no thread to wait for it ({error}); closed", self.conn);
                    self.give_up_writing(backlog);
                    let _ = self.stream.shutdown(Shutdown::Both);
                }
            }
            // The reading thread sees the same error when it has read what there is.
            Err(_) => self.give_up_writing(backlog),
        }
    }

    /// Writes what the socket takes of these pieces, and takes them away. Returns what is
    /// left of the one that was begun, if the socket did not take all.
    fn write_without_blocking(
        &self,
        batch: &Frames,
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

    /// Writes what the socket takes of several pieces.
    #[inline(never)] // its array would cost every reading thread a page of stack
    fn write_gathered(
        &self,
        batch: &Frames,
        first: Range<usize>,
        others: &[Range<usize>],
    ) -> rustix::io::Result<usize> {
        let pieces = iter::once(&first).chain(others);
        let mut slices = [IoSlice::new(&[]); GATHER];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(&batch[piece.clone()]);
        }
        let slices = &slices[..(1 + others.len()).min(GATHER)];
        let mut no_control = SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.stream, slices, &mut no_control, SendFlags::DONTWAIT)
    }

    /// The client is too slow. What it hasn't begun to get is dropped, and it is told
    /// why, if it ever reads again.
    fn close_slow(&self, backlog: &mut Backlog) {
        info!(
            "{}: closed, it reads too slowly ({} bytes were waiting)",
            self.conn,
            backlog.bytes()
        );
        // The frame that the drain thread holds may be partly written. It is finished
        // first, or the close could not be understood.
        *backlog = Backlog::default();
        backlog.push(frame::close(CloseCode::Again, "reading too slowly"));
        self.closed.store(true, Ordering::Release);
        self.drained.notify_all();
    }

    fn give_up_writing(&self, backlog: &mut Option<Backlog>) {
        *backlog = None;
        self.is_behind.store(false, Ordering::Release);
        self.drained.notify_all();
        self.broken.store(true, Ordering::Release);
    }

    /// The drain thread: writes the frame that was begun and those behind it, until
    /// there is none.
    fn drain(self: Arc<Self>, mut frame: Bytes) {
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
                    self.is_behind.store(false, Ordering::Release);
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
                // Nothing went out for a while. That's the client's business, unless
                // the connection is to end anyway.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_closed() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
