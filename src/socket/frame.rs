//! WebSocket frames (RFC 6455, section 5) as a server sends them, unmasked and whole. Those of
//! one turn of the hub's loop are encoded once into one [`Batch`], with the byte ranges that each
//! client receives: adjacent ranges are merged into one write, and a broadcast needs no copy for
//! each client.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::ops::{Deref, Range};

use bytes::Bytes;
use serde::Serialize;
use smallvec::SmallVec;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

pub use tungstenite::protocol::frame::coding::CloseCode;

use claude_socket_client::protocol;

use crate::json;

/// The close code for a client whose grant isn't valid any more.
pub const UNAUTHORIZED: CloseCode = CloseCode::Library(protocol::UNAUTHORIZED);
/// Why connections are closed at the end.
pub const SESSION_ENDED: &str = "the Claude Code session has ended";
/// The header's length of most frames: those with 126 to 65,535 bytes of payload.
const USUAL_HEADER: usize = 4;

/// Returns a text frame with a message as JSON.
pub fn text(message: &impl Serialize) -> Bytes {
    let mut frame = Vec::with_capacity(256);
    append_text(&mut frame, message);
    frame.into()
}

/// Appends a text frame with a message as JSON.
fn append_text(frames: &mut Vec<u8>, message: &impl Serialize) {
    // The header's length depends on the payload's, so the payload is written first, and moved if
    // the guess was wrong.
    let start = frames.len();
    let payload = start + USUAL_HEADER;
    frames.resize(payload, 0);
    json::write(frames, message);
    let header = FrameHeader {
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    };
    let length = frames.len() - payload;
    let size = header.len(length as u64);
    if size != USUAL_HEADER {
        let end = start + size + length;
        frames.resize(end.max(payload + length), 0);
        frames.copy_within(payload..payload + length, start + size);
        frames.truncate(end);
    }
    header
        .format(length as u64, &mut &mut frames[start..start + size])
        .expect("there is room for the header");
}

/// Returns a ping.
pub fn ping() -> Bytes {
    encode(Frame::ping(Bytes::new()))
}

/// Returns a close frame. The reason is cut to what fits into a control frame.
pub fn close(code: CloseCode, reason: &str) -> Bytes {
    const MAX_REASON: usize = 123;
    let cut = reason.floor_char_boundary(MAX_REASON);
    let reason: Cow<'_, str> = reason[..cut].into();
    encode(Frame::close(Some(CloseFrame {
        code,
        reason: reason.as_ref().into(),
    })))
}

/// Returns `true` for a close frame.
pub fn is_close(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 0x0f == 8)
}

fn encode(frame: Frame) -> Bytes {
    let mut bytes = Vec::with_capacity(frame.len());
    frame
        .format(&mut bytes)
        .expect("writing to memory cannot fail");
    bytes.into()
}

/// The most copies of a batch's ranges that are remembered.
const MAX_COPIES: usize = 8;
/// The most bytes of capacity that a buffer keeps for the next turn.
const KEPT_CAPACITY: usize = 64 * 1024;

/// A buffer of frames.
#[derive(Debug, Default)]
pub struct Batch(Vec<u8>);

impl Batch {
    /// Adds a text frame and returns its range.
    pub fn add(&mut self, message: &impl Serialize) -> Range<usize> {
        let start = self.0.len();
        append_text(&mut self.0, message);
        start..self.0.len()
    }

    /// The bytes in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes and returns the frames, to be sent. [`Batch::reclaim`] takes the buffer back.
    pub fn freeze(&mut self) -> EncodedFrames {
        let capacity = self.0.capacity();
        let bytes = if self.is_empty() {
            Bytes::new()
        } else {
            mem::take(&mut self.0).into()
        };
        EncodedFrames {
            bytes,
            capacity,
            copies: RefCell::default(),
        }
    }

    /// Uses the buffer again, unless a client has kept a range of it.
    pub fn reclaim(&mut self, sent: EncodedFrames) {
        if sent.bytes.is_unique() {
            self.0 = sent.bytes.into();
            self.0.clear();
            self.0.shrink_to(KEPT_CAPACITY);
        }
    }
}

/// Frames to be sent.
#[derive(Debug)]
pub struct EncodedFrames {
    bytes: Bytes,
    /// The capacity of the buffer, which stays in memory while a range of it is kept.
    capacity: usize,
    /// The last copies of ranges that wait. The slow clients of a broadcast share them.
    copies: RefCell<VecDeque<(Range<usize>, Bytes)>>,
}

/// Frames that wait.
#[derive(Debug)]
pub struct WaitingFrames {
    pub bytes: Bytes,
    /// The bytes of memory that they keep: of all of their buffer, though others may share it.
    pub memory: usize,
}

impl EncodedFrames {
    /// Returns a range that has to wait. It shares the buffer or an earlier copy, unless it is so
    /// small that it would keep more than twice its own memory: the capacity may come from a much
    /// longer frame before.
    pub fn detach(&self, piece: Range<usize>) -> WaitingFrames {
        if piece.len() * 2 >= self.capacity {
            return WaitingFrames {
                bytes: self.bytes.slice(piece),
                memory: self.capacity,
            };
        }
        let mut copies = self.copies.borrow_mut();
        let has_piece = |copy: &&(Range<usize>, Bytes)| {
            let (range, _) = copy;
            range.start <= piece.start && piece.end <= range.end && piece.len() * 2 >= range.len()
        };
        if let Some((range, copy)) = copies.iter().find(has_piece) {
            return WaitingFrames {
                bytes: copy.slice(piece.start - range.start..piece.end - range.start),
                memory: range.len(),
            };
        }
        let bytes = Bytes::copy_from_slice(&self.bytes[piece.clone()]);
        if copies.len() == MAX_COPIES {
            copies.pop_back();
        }
        copies.push_front((piece, bytes.clone()));
        let memory = bytes.len();
        WaitingFrames { bytes, memory }
    }
}

impl From<Bytes> for EncodedFrames {
    fn from(bytes: Bytes) -> Self {
        let capacity = bytes.len();
        Self {
            bytes,
            capacity,
            copies: RefCell::default(),
        }
    }
}

impl Deref for EncodedFrames {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The ranges of a batch that one client receives, in order.
#[derive(Debug, Default)]
pub struct FrameRanges(SmallVec<[Range<usize>; 1]>);

impl FrameRanges {
    /// Adds the range of the next frame.
    #[inline(always)] // once for each client of a broadcast
    pub fn push(&mut self, frame: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == frame.start => last.end = frame.end,
            _ => self.0.push(frame),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_slice(&self) -> &[Range<usize>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn frames_of_every_header_length_parse_back() {
        for length in [0, 1, 123, 124, 65_533, 65_534, 70_000] {
            let content = "x".repeat(length);
            let frame = text(&content);
            let mut cursor = Cursor::new(&frame);
            let header = FrameHeader::parse(&mut cursor).expect("the header is valid");
            let (header, size) = header.expect("the header is complete");
            let payload = &frame[cursor.position() as usize..];
            assert_eq!(header.opcode, OpCode::Data(Data::Text));
            assert_eq!(size as usize, payload.len());
            assert_eq!(payload, format!("\"{content}\"").as_bytes());
        }
    }

    #[test]
    fn long_reason_is_cut_between_characters() {
        assert_eq!(close(CloseCode::Away, &"é".repeat(100)).len(), 2 + 2 + 122);
        assert!(is_close(&close(CloseCode::Away, "")));
        assert!(!is_close(&ping()));
    }

    #[test]
    fn adjacent_frames_are_one_range() {
        let mut batch = Batch::default();
        let frames: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .map(|text| batch.add(text))
            .collect();
        let mut ranges = FrameRanges::default();
        for place in [0, 1, 3] {
            ranges.push(frames[place].clone());
        }
        assert_eq!(ranges.as_slice(), [0..10, 15..20]);
    }

    #[test]
    fn buffer_is_reused_unless_a_range_is_kept() {
        let mut batch = Batch::default();
        batch.add(&"a");
        let sent = batch.freeze();
        let buffer = sent.as_ptr();
        batch.reclaim(sent);
        batch.add(&"b");
        let sent = batch.freeze();
        assert_eq!(sent.as_ptr(), buffer);
        let kept = sent.bytes.slice(1..);
        batch.reclaim(sent);
        batch.add(&"c");
        assert_eq!(kept, &b"\x03\"b\""[..]);
    }

    #[test]
    fn kept_range_keeps_little_more_memory() {
        let mut batch = Batch::default();
        let long = batch.add(&"x".repeat(10_000));
        let short = batch.add(&"a");
        let sent = batch.freeze();
        let shared = sent.detach(long);
        assert!(!shared.bytes.is_unique(), "a long range is shared");
        assert_eq!(shared.memory, sent.capacity, "and counts as all of it");
        let copy = sent.detach(short.clone());
        assert_eq!(
            copy.bytes.as_ptr(),
            sent.detach(short.clone()).bytes.as_ptr(),
            "one copy is enough"
        );
        let rest = sent.detach(short.start + 1..short.end);
        assert_eq!(
            rest.bytes.as_ptr(),
            copy.bytes[1..].as_ptr(),
            "also for the rest of it"
        );
        assert_eq!((copy.memory, rest.memory), (short.len(), short.len()));
        let end = sent.detach(short.end - 1..short.end);
        assert_ne!(
            end.bytes.as_ptr(),
            copy.bytes[copy.bytes.len() - 1..].as_ptr(),
            "a small part is a copy"
        );
        batch.reclaim(sent);
        // The buffer still has room for the long one.
        let short = batch.add(&"a");
        let sent = batch.freeze();
        drop(sent.detach(short));
        assert!(sent.bytes.is_unique(), "a short range is a copy");
    }
}
