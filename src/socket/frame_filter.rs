//! What tungstenite doesn't do with the frames of a client (RFC 6455, section 5.2): refuse a length
//! that is encoded in more bytes than need be, and wait with memory for a payload until it comes.

use std::io::{self, Cursor, Read};

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::memory::MessageRoom;

/// The most bytes that are read at once. They never reach beyond the fragment in which they begin.
const MAX_READ: usize = 2 * 1024;
/// The usual payload of a fragment, in bytes. With what else is in it, tungstenite's buffer then has
/// 4 KiB at most: it never shrinks, and 200 connections that had sent one long frame each and idled
/// held 770 MiB. Must be a multiple of 4, the length of a mask.
const FRAGMENT: u64 = 1024;
/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;

/// Reads the frames of a client. Passes short ones on as they are, and a long one in fragments, for
/// each of which memory is reserved when it comes: of 14 bytes that announce 4 MiB, tungstenite
/// would reserve 4 MiB. The message that it makes of the fragments is freed with the message.
#[derive(Debug)]
pub struct FrameFilter {
    /// A frame with a longer payload is passed on as it is, and refused by tungstenite.
    longest: u64,
    /// The beginning of a header that is not complete.
    held: Vec<u8>,
    /// How many bytes of payload come before the next header.
    payload: u64,
    /// The header of the fragments that follow, and their bytes of payload.
    later: Option<(FrameHeader, u64)>,
    /// The length of the message so far, of which the latest data frame is a part.
    message: u64,
    /// The room for it.
    pub room: MessageRoom,
    /// Why nothing more is read, behind all bytes that were passed on.
    end: Option<End>,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The client breaks the protocol.
    Violation(&'static str),
    NoMemory,
}

impl FrameFilter {
    pub fn new(longest: u64) -> Self {
        Self {
            longest,
            held: Vec::new(),
            payload: 0,
            later: None,
            message: 0,
            room: MessageRoom::default(),
            end: None,
        }
    }

    /// Reads from `source` into `bytes`, which must have room for a header whenever one comes next.
    /// Returns 0 at the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] with a message for the client if it breaks the protocol,
    /// [`io::ErrorKind::OutOfMemory`] if there is no room for its message, and those of `source`.
    pub fn read(&mut self, source: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.end {
                Some(End::Violation(why)) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                Some(End::NoMemory) => return Err(io::ErrorKind::OutOfMemory.into()),
                None => {}
            }
            if self.payload == 0
                && let Some((header, left)) = self.later.take()
            {
                if self.has_room(&header, left.min(FRAGMENT)) {
                    return Ok(self.begin_fragment(header, left, FRAGMENT, bytes));
                }
                continue;
            }
            let room = bytes.len().min(MAX_READ);
            let end = match &self.later {
                Some(_) => room.min(usize::try_from(self.payload).unwrap_or(room)),
                None => room,
            };
            let held = self.held.len();
            bytes[..held].copy_from_slice(&self.held);
            let read = source.read(&mut bytes[held..end])?;
            if read == 0 {
                return Ok(0);
            }
            self.held.clear();
            let passed = self.scan(&mut bytes[..held + read]);
            if passed > 0 {
                return Ok(passed);
            }
        }
    }

    /// Goes through the headers in `bytes`. Returns how many bytes are passed on.
    fn scan(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut end) = (0, bytes.len());
        loop {
            let skipped = (end - at).min(usize::try_from(self.payload).unwrap_or(usize::MAX));
            at += skipped;
            self.payload -= skipped as u64;
            if at == end {
                return end;
            }
            if let Some((size, length)) = short_message(&bytes[at..end]) {
                self.payload = length;
                at += size;
                continue;
            }
            let mut cursor = Cursor::new(&bytes[at..end]);
            let (header, length) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.held.extend_from_slice(&bytes[at..end]);
                    return at;
                }
                // Tungstenite parses it again, and reports it.
                Err(_) => {
                    self.payload = u64::MAX;
                    continue;
                }
            };
            let size = cursor.position() as usize;
            self.end = violation(&header, length, size).map(End::Violation);
            if self.end.is_some() {
                return at;
            }
            // What has been read already needs no header in between.
            let first = ((end - at - size) as u64).next_multiple_of(4).max(FRAGMENT);
            if length <= self.longest && !self.has_room(&header, length.min(first)) {
                return at;
            }
            if length <= first || length > self.longest {
                self.payload = length;
                at += size;
                continue;
            }
            // The header doesn't get longer, and what follows moves up.
            let begun = self.begin_fragment(header, length, first, &mut bytes[at..at + size]);
            bytes.copy_within(at + size..end, at + begun);
            at += begun;
            end -= size - begun;
        }
    }

    /// Returns `true` if there is room for so many more bytes of a message.
    fn has_room(&mut self, header: &FrameHeader, bytes: u64) -> bool {
        match header.opcode {
            OpCode::Control(_) => return true,
            OpCode::Data(Data::Continue) => self.message += bytes,
            OpCode::Data(_) => self.message = bytes,
        }
        let has_room = self
            .room
            .reserve(usize::try_from(self.message).unwrap_or(usize::MAX));
        if !has_room {
            self.end = Some(End::NoMemory);
        }
        has_room
    }

    /// Writes the header of a fragment into `bytes`, and returns its length. The fragment has `most`
    /// bytes of the payload, or what is `left` of it.
    fn begin_fragment(
        &mut self,
        header: FrameHeader,
        left: u64,
        most: u64,
        bytes: &mut [u8],
    ) -> usize {
        self.payload = left.min(most);
        let later = left - self.payload;
        let mut fragment = header.clone();
        if later > 0 {
            // A multiple of four bytes comes before, so the mask is the same.
            let next = FrameHeader {
                opcode: OpCode::Data(Data::Continue),
                ..header
            };
            self.later = Some((next, later));
            fragment.is_final = false;
        }
        let room = bytes.len();
        let mut rest = bytes;
        fragment
            .format(self.payload, &mut rest)
            .expect("there is room for a header");
        room - rest.len()
    }
}

/// Returns what is wrong with a header of this size, if tungstenite doesn't report it at once.
fn violation(header: &FrameHeader, length: u64, size: usize) -> Option<&'static str> {
    let is_control = matches!(header.opcode, OpCode::Control(_));
    if is_control && length > MAX_CONTROL {
        return Some("a control frame is longer than 125 bytes");
    }
    (header.len(length) != size).then_some("the length of a frame has more bytes than it needs")
}

/// Returns the lengths of the header and of the payload of a masked frame that is a whole message, and so short that
/// nothing can be wrong with its length. That is nearly every frame, and saves 340 instructions of a message.
fn short_message(bytes: &[u8]) -> Option<(usize, u64)> {
    match *bytes {
        [0x81..=0x8f, length @ 0x80..0xfe, _, _, _, _, ..] => Some((6, u64::from(length & 0x7f))),
        [0x81 | 0x82, 0xfe, high, low, _, _, _, _, ..] => {
            let length = u64::from(u16::from_be_bytes([high, low]));
            (126..=FRAGMENT).contains(&length).then_some((8, length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// Returns a masked frame whose length is encoded in 0, 2 or 8 more bytes.
    fn frame(first: u8, payload: &[u8], more: usize) -> Vec<u8> {
        let length = payload.len() as u64;
        let mut frame = vec![first];
        match more {
            0 => frame.push(0x80 | payload.len() as u8),
            2 => frame.push(0x80 | 126),
            _ => frame.push(0x80 | 127),
        }
        frame.extend_from_slice(&length.to_be_bytes()[8 - more..]);
        frame.extend_from_slice(&MASK);
        frame.extend_from_slice(payload);
        frame
    }

    /// Passes bytes on that come in pieces of this size, to a reader with this much room.
    fn filter(sent: &[u8], piece: usize, room: usize) -> (Vec<u8>, Option<io::Error>) {
        let mut filter = FrameFilter::new(1 << 20);
        let mut pieces = sent.chunks(piece).collect::<Vec<_>>().into_iter();
        let mut current: &[u8] = &[];
        let mut passed = Vec::new();
        loop {
            let mut bytes = vec![0; room];
            struct Source<'s, 'p>(&'s mut std::vec::IntoIter<&'p [u8]>, &'s mut &'p [u8]);
            impl Read for Source<'_, '_> {
                fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                    if self.1.is_empty() {
                        *self.1 = self.0.next().unwrap_or_default();
                    }
                    self.1.read(bytes)
                }
            }
            match filter.read(&mut Source(&mut pieces, &mut current), &mut bytes) {
                Ok(0) => return (passed, None),
                Ok(read) => passed.extend_from_slice(&bytes[..read]),
                Err(error) => return (passed, Some(error)),
            }
        }
    }

    /// Parses frames into their first bytes and payloads.
    fn parse(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(first) = bytes.first() {
            let mut cursor = Cursor::new(bytes);
            let header = FrameHeader::parse(&mut cursor).expect("the header is valid");
            let (header, length) = header.expect("the header is complete");
            assert_eq!(header.mask, Some(MASK));
            let (payload, rest) = bytes[cursor.position() as usize..]
                .split_at(usize::try_from(length).expect("it is short"));
            frames.push((*first, payload.to_vec()));
            bytes = rest;
        }
        frames
    }

    #[test]
    fn long_frames_are_passed_in_fragments_and_short_ones_as_they_are() {
        let long: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let short = frame(0x81, b"hi", 0);
        let sent = [
            &short[..],
            &frame(0x81, &long, 8),
            &short,
            &frame(0x89, b"", 0),
            // Fragments themselves.
            &frame(0x01, &long[..16_385], 2),
            &frame(0x80, &long[..16_384], 2),
            &short,
        ]
        .concat();
        for (piece, room) in [(1, 14), (3, 4096), (1_000, 2_000), (200_000, 100_000)] {
            let (passed, error) = filter(&sent, piece, room);
            assert!(error.is_none(), "{error:?}");
            let frames = parse(&passed);
            assert!(frames.iter().all(|(_, part)| part.len() <= MAX_READ));
            let expected: [(u8, bool, &[u8]); 7] = [
                (0x81, true, b"hi"),
                (0x81, true, &long),
                (0x81, true, b"hi"),
                (0x89, true, b""),
                (0x01, false, &long[..16_385]),
                (0x00, true, &long[..16_384]),
                (0x81, true, b"hi"),
            ];
            let mut frames = frames.into_iter();
            for (first, is_final, payload) in expected {
                let (opcode, mut whole) = frames.next().expect("a frame");
                let mut last = opcode;
                while whole.len() < payload.len() {
                    let (next, part) = frames.next().expect("a fragment");
                    assert_eq!((last & 0x80, next & 0x0f), (0, 0), "{piece} {room}");
                    whole.extend(part);
                    last = next;
                }
                assert_eq!(opcode & 0x0f, first & 0x0f, "{piece} {room}");
                assert_eq!(last & 0x80 != 0, is_final, "{piece} {room}");
                assert_eq!(whole, payload);
            }
            assert!(frames.next().is_none());
        }
    }

    #[test]
    fn violation_comes_behind_what_was_valid() {
        let short = frame(0x81, b"hi", 0);
        for (wrong, part) in [
            (frame(0x81, b"hi", 2), "more bytes"),
            (frame(0x81, &[0; 125], 2), "more bytes"),
            (frame(0x81, b"hi", 8), "more bytes"),
            (frame(0x81, &[0; 65_535], 8), "more bytes"),
            (frame(0x89, b"hi", 2), "more bytes"),
            (frame(0x89, &[0; 126], 2), "125"),
            (frame(0x88, &[0; 70_000], 8), "125"),
        ] {
            for piece in [1, 5, 100_000] {
                let (passed, error) = filter(&[&short[..], &wrong].concat(), piece, 100_000);
                assert_eq!(passed, short);
                let error = error.expect("it is a violation");
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert!(error.to_string().contains(part), "{error}");
            }
        }
    }

    #[test]
    fn what_tungstenite_refuses_is_passed_as_it_is() {
        let too_long = b"\x81\xff\0\0\0\0\x40\0\0\0\0\0\0\0rest";
        let bad_opcode = b"\x83\x80\0\0\0\0rest";
        for sent in [&too_long[..], bad_opcode] {
            let (passed, error) = filter(sent, 1, 20);
            assert_eq!(passed, sent);
            assert!(error.is_none());
        }
    }
}
