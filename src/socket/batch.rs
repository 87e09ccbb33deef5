//! What one wake-up of the hub brings clients: frames one behind the other in one buffer, and
//! of these what each client gets. Neighbours are one piece, so that a client that gets a
//! hundred frames is written to once, and of a broadcast nothing is kept for each client.

use std::mem;
use std::ops::{Deref, Range};

use bytes::Bytes;
use serde::Serialize;
use smallvec::SmallVec;

use super::frame;

/// More than this many bytes of a buffer are not kept for the next wake-up.
const KEPT: usize = 64 * 1024;

/// Frames one behind the other.
#[derive(Debug, Default)]
pub struct Batch(Vec<u8>);

impl Batch {
    /// Adds a text frame, and says where it is.
    pub fn add(&mut self, message: &impl Serialize) -> Range<usize> {
        let start = self.0.len();
        frame::append_text(&mut self.0, message);
        start..self.0.len()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The frames, to be sent. What is sent at once leaves the buffer to [`Batch::refill`].
    pub fn take(&mut self) -> Frames {
        let capacity = self.0.capacity();
        let bytes = if self.is_empty() {
            Bytes::new()
        } else {
            mem::take(&mut self.0).into()
        };
        Frames { bytes, capacity }
    }

    /// Uses the buffer again, unless some client has kept a piece of it.
    pub fn refill(&mut self, sent: Frames) {
        if sent.bytes.is_unique() {
            self.0 = sent.bytes.into();
            self.0.clear();
            self.0.shrink_to(KEPT);
        }
    }
}

/// Frames that are to be sent.
#[derive(Debug)]
pub struct Frames {
    bytes: Bytes,
    /// The bytes of the buffer they are in, which whoever keeps a piece keeps in memory.
    capacity: usize,
}

impl Frames {
    /// A piece that has to wait. It is shared with the others who wait for it, unless it is
    /// so small that it would keep far more in memory than it is counted for: the buffer
    /// may have been used for something much longer before.
    pub fn keep(&self, piece: Range<usize>) -> Bytes {
        if piece.len() * 2 >= self.capacity {
            self.bytes.slice(piece)
        } else {
            Bytes::copy_from_slice(&self.bytes[piece])
        }
    }
}

impl From<Bytes> for Frames {
    fn from(bytes: Bytes) -> Self {
        let capacity = bytes.len();
        Self { bytes, capacity }
    }
}

impl Deref for Frames {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The places of what one client gets of a batch, in order.
#[derive(Debug, Default)]
pub struct Portion(SmallVec<[Range<usize>; 1]>);

impl Portion {
    /// Adds the next frame's place.
    pub fn push(&mut self, frame: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == frame.start => last.end = frame.end,
            _ => self.0.push(frame),
        }
    }

    /// Whether the client gets nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pieces.
    pub fn pieces(&self) -> &[Range<usize>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_piece() {
        let mut batch = Batch::default();
        let frames: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .map(|text| batch.add(text))
            .collect();
        let mut portion = Portion::default();
        for place in [0, 1, 3] {
            portion.push(frames[place].clone());
        }
        assert_eq!(portion.pieces(), [0..10, 15..20]);
    }

    #[test]
    fn a_buffer_is_used_again_unless_a_piece_of_it_is_kept() {
        let mut batch = Batch::default();
        batch.add(&"a");
        let sent = batch.take();
        let buffer = sent.as_ptr();
        batch.refill(sent);
        batch.add(&"b");
        let sent = batch.take();
        assert_eq!(sent.as_ptr(), buffer);
        let kept = sent.bytes.slice(1..);
        batch.refill(sent);
        batch.add(&"c");
        assert_eq!(kept, &b"\x03\"b\""[..]);
    }

    #[test]
    fn what_is_kept_keeps_little_more_in_memory() {
        let mut batch = Batch::default();
        let long = batch.add(&"x".repeat(10_000));
        let short = batch.add(&"a");
        let sent = batch.take();
        assert!(!sent.keep(long).is_unique(), "it is shared");
        assert!(sent.keep(short).is_unique(), "it is a copy");
        batch.refill(sent);
        // The buffer still has room for the long one.
        let short = batch.add(&"a");
        let sent = batch.take();
        assert!(sent.keep(short).is_unique(), "it is a copy");
        assert!(sent.bytes.is_unique());
    }
}
