//! What waits for a client that doesn't read as fast as others speak.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::super::batch::Frames;

/// With this many bytes waiting for a client, it should read before it is heard again.
const MUCH: usize = 256 * 1024;

/// The frames behind the one that the drain thread is writing.
#[derive(Debug, Default)]
pub struct Backlog {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The bytes of the one that it is writing.
    writing: usize,
}

impl Backlog {
    /// Nothing waits yet behind this frame, which is being written.
    pub fn behind(begun: &Bytes) -> Self {
        Self {
            writing: begun.len(),
            ..Self::default()
        }
    }

    /// What waits, in bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the client should read before it is heard again.
    pub fn is_much(&self) -> bool {
        self.bytes + self.writing > MUCH
    }

    /// What a waiting frame costs in memory, in bytes.
    fn cost(frame: &Bytes) -> usize {
        /// Its place in the queue, and its allocation's.
        const OVERHEAD: usize = 128;
        frame.len() + OVERHEAD
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Bytes) {
        self.bytes += Self::cost(&frame);
        self.frames.push_back(frame);
    }

    /// Adds these pieces of a batch, in order.
    pub fn push_all(&mut self, batch: &Frames, pieces: &[Range<usize>]) {
        for piece in pieces {
            self.push(batch.keep(piece.clone()));
        }
    }

    /// Takes the next one, to be written.
    pub fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= Self::cost(&frame);
        self.writing = frame.len();
        Some(frame)
    }
}
