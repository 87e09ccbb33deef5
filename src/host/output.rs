//! What is on its way to Claude Code. The hub's thread gathers it, and writes it at once if
//! there is room: that saves a message a thread's wake-up. What there is no room for, and
//! what comes behind that, is written by `host-writer`, which may wait.

use std::fs::File;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use serde::Serialize;

use super::rpc::{self, Id};
use super::way::Way;
use super::{Event, channel};
use crate::hub::Notification;

/// With this many bytes waiting for Claude Code, apps' messages stay in their sockets.
const ROOM: usize = 64 * 1024;
/// With this many, also Claude Code's own requests stay in its pipe: it asks for
/// more than it reads.
const CONGESTED: usize = 4 * 1024 * 1024;

/// Lines for Claude Code that belong together: what one wake-up of the hub brought.
#[derive(Debug, Default)]
pub struct Chunk {
    lines: Vec<u8>,
    /// The number of the last app message among them, or of an earlier one.
    last: u64,
    /// Whether someone waits to hear that it was written.
    receipt: bool,
}

/// The hub's end. It never blocks; whoever feeds it asks first whether there is room.
#[derive(Debug)]
pub struct Output {
    pending: Chunk,
    chunks: Sender<Chunk>,
    /// How many chunks the writer was given.
    given: u64,
    shared: Arc<Shared>,
}

/// What both ends know.
#[derive(Debug)]
struct Shared {
    way: Way,
    /// The last app message of the chunk that is being written.
    started: AtomicU64,
    /// The last app message that was written.
    written: AtomicU64,
    /// How many chunks the writer has written.
    done: AtomicU64,
    /// The buffer of the last one, to be used again: growing a new one for each takes longer
    /// than filling it.
    spare: Mutex<Vec<u8>>,
}

impl Output {
    /// Adds an answer.
    pub fn result(&mut self, id: &Id, result: &impl Serialize) {
        rpc::write_result(&mut self.pending.lines, id, result);
    }

    /// Adds an error answer.
    pub fn error(&mut self, id: Option<&Id>, error: &rpc::Error) {
        rpc::write_error(&mut self.pending.lines, id, error);
    }

    /// Adds a notification.
    pub fn notify(&mut self, notification: &Notification<'_>) {
        channel::write(&mut self.pending.lines, notification);
        if let Notification::Message {
            number, receipt, ..
        } = notification
        {
            self.pending.last = *number;
            self.pending.receipt |= receipt;
        }
    }

    /// Adds the answer to a permission request.
    pub fn verdict(&mut self, request_id: &str, allowed: bool) {
        channel::write_verdict(&mut self.pending.lines, request_id, allowed);
    }

    /// Whether another message of an app fits in.
    pub fn has_room(&self) -> bool {
        self.pending.lines.len() < ROOM
    }

    /// Whether Claude Code has asked for so much that it should read first.
    pub fn is_congested(&self) -> bool {
        self.pending.lines.len() >= CONGESTED
    }

    /// The last app message of the chunk that the writer has begun to write. An answer
    /// to it can come in before the writer has said that it was written.
    pub fn started(&self) -> u64 {
        self.shared.started.load(Ordering::Acquire)
    }

    /// The last app message that was written.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    /// Lets the writer end when it has written what it has.
    pub fn close(&mut self) {
        (self.chunks, _) = bounded(0);
    }

    /// Whether something waits for the writer.
    pub fn is_empty(&self) -> bool {
        self.pending.lines.is_empty()
    }

    /// Writes what is waiting, or hands it over unless the writer is busy. Then the
    /// channel to it is [`Output::writer`], for a `select!`.
    ///
    /// Returns the number of the last app message, if everything up to it is written now
    /// and someone waits to hear that.
    ///
    /// # Errors
    /// What writing fails with: Claude Code has closed its end.
    pub fn flush(&mut self) -> io::Result<Option<u64>> {
        if self.is_empty() {
            return Ok(None);
        }
        if self.given == self.shared.done.load(Ordering::Acquire) {
            let Chunk { lines, last, .. } = &mut self.pending;
            self.shared.started.store(*last, Ordering::Release);
            let written = self.shared.way.write_now(lines)?;
            lines.drain(..written);
            if lines.is_empty() {
                lines.shrink_to(2 * ROOM);
                self.shared.written.store(*last, Ordering::Release);
                let last = *last;
                return Ok(mem::take(&mut self.pending.receipt).then_some(last));
            }
        }
        if !self.chunks.is_full() {
            let chunk = self.take();
            // It fails only if the writer has ended, and then so does everything.
            let _ = self.chunks.try_send(chunk);
        }
        Ok(None)
    }

    /// The channel to the writer.
    pub fn writer(&self) -> &Sender<Chunk> {
        &self.chunks
    }

    /// What is waiting, to be sent to the writer.
    pub fn take(&mut self) -> Chunk {
        self.given += 1;
        let next = Chunk {
            lines: mem::take(&mut *self.shared.spare.lock()),
            last: self.pending.last,
            receipt: false,
        };
        mem::replace(&mut self.pending, next)
    }
}

/// The two ends of what is written to `out`.
pub fn open(out: File) -> (Output, Writer) {
    let (chunks, receiver) = bounded(1);
    let shared = Arc::new(Shared {
        way: Way::new(out),
        started: AtomicU64::new(0),
        written: AtomicU64::new(0),
        done: AtomicU64::new(0),
        spare: Mutex::default(),
    });
    let output = Output {
        pending: Chunk::default(),
        chunks,
        given: 0,
        shared: shared.clone(),
    };
    let writer = Writer {
        chunks: receiver,
        shared,
    };
    (output, writer)
}

/// The writer's end.
#[derive(Debug)]
pub struct Writer {
    chunks: Receiver<Chunk>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Writes chunks until the hub's end is gone, and reports what it must.
    ///
    /// # Errors
    /// What writing fails with: Claude Code has closed its end.
    pub fn run(self, report: impl Fn(Event)) -> io::Result<()> {
        let Self { chunks, shared } = self;
        for mut chunk in chunks {
            shared.started.store(chunk.last, Ordering::Release);
            shared.way.write_all(&chunk.lines)?;
            shared.written.store(chunk.last, Ordering::Release);
            shared.done.fetch_add(1, Ordering::AcqRel);
            if chunk.receipt {
                report(Event::Written(chunk.last));
            }
            chunk.lines.clear();
            chunk.lines.shrink_to(2 * ROOM);
            *shared.spare.lock() = chunk.lines;
        }
        Ok(())
    }
}
