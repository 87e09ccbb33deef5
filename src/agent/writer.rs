//! The way to an agent: lines are gathered, and written at once where there is room, which
//! saves a message the wake-up of a thread. What there is no room for is written by the
//! `agent-writer` thread, which may wait, one chunk at a time.

use std::fs::File;
use std::io;
use std::mem;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;

use super::channel;
use super::rpc;
use super::stdout::Stdout;
use crate::hub::{CallId, Notification, RequestId};

/// With this many bytes waiting, no further message is taken from the inbox.
const HIGH_WATER_MARK: usize = 64 * 1024;
/// With this many bytes waiting, the agent's own requests are not read: it asks for more
/// than it reads.
const READ_PAUSE_MARK: usize = 4 * 1024 * 1024;

/// What the `agent-writer` thread reports.
#[derive(Debug)]
pub enum Event {
    /// A chunk was written.
    Written {
        /// The number of the last message up to its end.
        up_to: u64,
        /// Its buffer, to be used again: growing a new one takes longer than filling it.
        buffer: Vec<u8>,
    },
    /// Nothing can be written any more: the agent has closed its end.
    Failed(io::Error),
}

/// The result of [`AgentWriter::flush`].
#[derive(Debug, PartialEq, Eq)]
pub enum Flushed {
    /// There were none, or the thread is busy.
    Nothing,
    /// All were written, and there is room again. With messages among them: every message up to
    /// this number.
    Written(Option<u64>),
    /// The thread is writing them, so that messages up to this number may be read any moment.
    Writing(u64),
}

/// Lines for the thread.
#[derive(Debug)]
struct Chunk {
    lines: Vec<u8>,
    /// The number of the last message up to its end.
    up_to: u64,
}

/// The hub's end. It never blocks.
#[derive(Debug)]
pub struct AgentWriter {
    stdout: Arc<Stdout>,
    /// The lines that wait.
    pending: Vec<u8>,
    /// The number of the last message up to their end.
    up_to: u64,
    /// Somebody waits to hear that a message was written: one of the thread's or a pending one.
    is_awaited: bool,
    /// The number of the last message that was reported as written.
    reported: u64,
    chunks: Sender<Chunk>,
    /// The thread is writing a chunk.
    is_busy: bool,
    /// Writing has failed.
    is_broken: bool,
    /// A buffer that was used before.
    recycled: Vec<u8>,
}

impl AgentWriter {
    /// Starts the thread. The receiver is disconnected when the thread has ended.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(out: File) -> io::Result<(Self, Receiver<Event>)> {
        let stdout = Arc::new(Stdout::new(out));
        // Both have room for everything that is ever sent, as there is one chunk at a time.
        let (chunks, to_write) = bounded(1);
        let (events, written) = bounded(2);
        let writer = stdout.clone();
        thread::Builder::new()
            .name("agent-writer".into())
            .spawn(move || run(&writer, to_write, &events))?;
        let writer = Self {
            stdout,
            pending: Vec::new(),
            up_to: 0,
            is_awaited: false,
            reported: 0,
            chunks,
            is_busy: false,
            is_broken: false,
            recycled: Vec::new(),
        };
        Ok((writer, written))
    }

    /// Adds the result of a request.
    pub fn result(&mut self, id: &CallId, result: &impl Serialize) {
        rpc::write_result(&mut self.pending, id, result);
    }

    /// Adds an error as the answer to a request.
    pub fn error(&mut self, id: Option<&CallId>, error: &rpc::Error) {
        rpc::write_error(&mut self.pending, id, error);
    }

    /// Adds a message.
    pub fn message(&mut self, notification: &Notification<'_>) {
        channel::write_message(&mut self.pending, notification);
        self.up_to = notification.number;
        self.is_awaited |= notification.is_awaited;
    }

    /// Adds the answer to a permission request.
    pub fn verdict(&mut self, request_id: &RequestId, allowed: bool) {
        channel::write_verdict(&mut self.pending, request_id.as_str(), allowed);
    }

    /// Returns `true` if another message may be taken from the inbox.
    pub fn has_room(&self) -> bool {
        self.pending.len() < HIGH_WATER_MARK
    }

    /// Returns `true` if the agent must read before it is read from.
    pub fn is_congested(&self) -> bool {
        self.pending.len() >= READ_PAUSE_MARK
    }

    /// Writes the pending lines without blocking, or gives them to the thread.
    ///
    /// # Errors
    /// What writing fails with: the agent has closed its end.
    pub fn flush(&mut self) -> io::Result<Flushed> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.pending.is_empty() || self.is_busy {
            return Ok(Flushed::Nothing);
        }
        let written = self.stdout.try_write(&self.pending)?;
        if written == self.pending.len() {
            self.pending.clear();
            self.pending.shrink_to(2 * HIGH_WATER_MARK);
            // A message that is given again is awaited, too.
            let has_messages = mem::take(&mut self.is_awaited) || self.up_to > self.reported;
            self.reported = self.up_to;
            return Ok(Flushed::Written(has_messages.then_some(self.up_to)));
        }
        self.pending.drain(..written);
        let next = mem::take(&mut self.recycled);
        let chunk = Chunk {
            lines: mem::replace(&mut self.pending, next),
            up_to: self.up_to,
        };
        self.is_busy = true;
        // It fails only if the thread has ended, and then so does everything.
        let _ = self.chunks.try_send(chunk);
        Ok(Flushed::Writing(self.up_to))
    }

    /// Takes note that the thread has written its chunk, with messages up to this number.
    pub fn chunk_written(&mut self, up_to: u64, mut buffer: Vec<u8>) {
        self.is_busy = false;
        self.is_awaited &= !self.pending.is_empty();
        self.reported = up_to;
        buffer.clear();
        buffer.shrink_to(2 * HIGH_WATER_MARK);
        self.recycled = buffer;
    }

    /// Takes note that the thread could not write its chunk.
    pub fn mark_broken(&mut self) {
        self.is_broken = true;
    }

    /// Returns `true` while the thread writes a chunk, and an [`Event`] is to come.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Returns `true` while the thread writes messages.
    pub fn is_writing_messages(&self) -> bool {
        self.is_busy && self.up_to > self.reported
    }

    /// Returns `true` if the loop must wake up when the thread has written its chunk: somebody
    /// waits for that, or further lines do. Otherwise the event is found at the next wake-up.
    pub fn must_wake(&self) -> bool {
        self.is_busy && (self.is_awaited || !self.pending.is_empty())
    }

    /// Returns `true` if everything was written.
    pub fn is_drained(&self) -> bool {
        self.pending.is_empty() && !self.is_busy
    }
}

/// The `agent-writer` thread.
fn run(stdout: &Stdout, chunks: Receiver<Chunk>, events: &Sender<Event>) {
    for Chunk { lines, up_to } in chunks {
        let event = match stdout.write_all(&lines) {
            Ok(()) => Event::Written {
                up_to,
                buffer: lines,
            },
            Err(error) => Event::Failed(error),
        };
        // It fails only if the loop has ended, and then the process ends, too.
        if events.send(event).is_err() {
            return;
        }
    }
}
