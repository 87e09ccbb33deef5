//! The frames that wait for a slow client.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::super::frame::EncodedFrames;

/// The frames behind the one that the drain thread is writing.
#[derive(Debug, Default)]
pub struct Backlog {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The bytes of the frame that it is writing.
    writing: usize,
}

impl Backlog {
    /// Returns an empty backlog behind this frame, which is being written.
    pub fn behind(begun: &Bytes) -> Self {
        Self {
            writing: begun.len(),
            ..Self::default()
        }
    }

    /// Memory of the waiting frames, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns `true` if more bytes than this wait, with the frame that is being written.
    pub fn is_over(&self, mark: usize) -> bool {
        self.bytes + self.writing > mark
    }

    /// Memory of a waiting frame, in bytes.
    fn cost(frame: &Bytes) -> usize {
        /// Its entry in the queue and the allocator's overhead.
        const OVERHEAD: usize = 128;
        frame.len() + OVERHEAD
    }

    pub fn push(&mut self, frame: Bytes) {
        self.bytes += Self::cost(&frame);
        self.frames.push_back(frame);
    }

    /// Adds these pieces of a batch, in order.
    pub fn push_all(&mut self, batch: &EncodedFrames, pieces: &[Range<usize>]) {
        for piece in pieces {
            self.push(batch.detach(piece.clone()));
        }
    }

    /// Removes and returns the next frame, which is written now.
    pub fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= Self::cost(&frame);
        self.writing = frame.len();
        Some(frame)
    }
}
