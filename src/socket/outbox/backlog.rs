//! The frames that wait for a slow client.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::super::frame::{EncodedFrames, WaitingFrames};
use crate::memory;

/// What a waiting frame costs beside its bytes: its entry in the queue, of which half may be empty,
/// the counter of those who share its buffer, and what the allocator adds to each.
const OVERHEAD: usize = 176;

/// The frame that the drain thread is writing, and those behind it.
#[derive(Debug, Default)]
pub struct Backlog {
    frames: VecDeque<WaitingFrames>,
    /// Memory of all of them, in bytes.
    bytes: usize,
    /// Memory of the one that is being written.
    writing: usize,
    /// What was added since there was room for it.
    unchecked: usize,
}

/// After how many more bytes it is checked whether there is room for them.
const CHECK_INTERVAL: usize = 64 * 1024;

impl Backlog {
    /// Returns the backlog of a frame that is being written, and its bytes.
    pub fn begin(begun: WaitingFrames) -> (Self, Bytes) {
        let cost = cost(&begun);
        let backlog = Self {
            frames: VecDeque::new(),
            bytes: cost,
            writing: cost,
            unchecked: cost,
        };
        (backlog, begun.bytes)
    }

    /// Memory of what waits and of what is being written, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, frame: WaitingFrames) {
        self.bytes += cost(&frame);
        self.frames.push_back(frame);
    }

    /// Adds these pieces of a batch, in order. Returns `false`, and leaves out the rest, if they
    /// would be more than `limit` bytes with what waits already, or if there is no memory for them.
    pub fn push_all(
        &mut self,
        batch: &EncodedFrames,
        pieces: &[Range<usize>],
        limit: usize,
    ) -> bool {
        pieces.iter().all(|piece| {
            let frame = batch.detach(piece.clone());
            let fits = self.bytes + cost(&frame) <= limit && self.has_room(cost(&frame));
            if fits {
                self.push(frame);
            }
            fits
        })
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        self.unchecked += bytes;
        if self.unchecked < CHECK_INTERVAL {
            return true;
        }
        self.unchecked = 0;
        memory::has_room(bytes)
    }

    /// Drops the frames that are not begun.
    pub fn drop_waiting(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = self.writing;
    }

    /// Adds a close frame, whatever waits already.
    pub fn push_last(&mut self, frame: Bytes) {
        let memory = frame.len();
        self.push(WaitingFrames {
            bytes: frame,
            memory,
        });
    }

    /// Removes and returns the next frame, which is written now.
    pub fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= self.writing;
        self.writing = cost(&frame);
        Some(frame.bytes)
    }
}

/// Memory of a waiting frame, in bytes.
fn cost(frame: &WaitingFrames) -> usize {
    frame.memory + OVERHEAD
}
