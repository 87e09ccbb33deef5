//! WebSocket frames (RFC 6455, section 5), as a server sends them: unmasked, whole,
//! and encoded once for however many clients get them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

pub use tungstenite::protocol::frame::coding::CloseCode;

use crate::json;

/// What let the client in doesn't hold any more.
pub const UNAUTHORIZED: CloseCode = CloseCode::Library(4401);
/// The header's length of most frames: those of 126 to 65,535 bytes.
const USUAL_HEADER: usize = 4;

/// A text frame with a message as JSON.
pub fn text(message: &impl Serialize) -> Bytes {
    let mut frame = Vec::with_capacity(256);
    append_text(&mut frame, message);
    frame.into()
}

/// The same behind other frames.
pub fn append_text(frames: &mut Vec<u8>, message: &impl Serialize) {
    // The header's length depends on the payload's, so the payload comes first, and moves
    // if it was guessed wrong.
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
        .expect("there is room for it");
}

/// A ping.
pub fn ping() -> Bytes {
    encode(Frame::ping(Bytes::new()))
}

/// A close frame. The reason is cut to what fits into a control frame.
pub fn close(code: CloseCode, reason: &str) -> Bytes {
    const MAX_REASON: usize = 123;
    let cut = reason.floor_char_boundary(MAX_REASON);
    let reason: Cow<'_, str> = reason[..cut].into();
    encode(Frame::close(Some(CloseFrame {
        code,
        reason: reason.as_ref().into(),
    })))
}

/// Whether these bytes are a close frame.
pub fn is_close(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 0x0f == 8)
}

fn encode(frame: Frame) -> Bytes {
    let mut bytes = Vec::with_capacity(frame.len());
    frame.format(&mut bytes).expect("memory takes everything");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn frames_of_every_header_length_read_back() {
        for length in [0, 1, 123, 124, 65_533, 65_534, 70_000] {
            let content = "x".repeat(length);
            let frame = text(&content);
            let mut cursor = Cursor::new(&frame);
            let header = FrameHeader::parse(&mut cursor).expect("it is valid");
            let (header, size) = header.expect("it is complete");
            let payload = &frame[cursor.position() as usize..];
            assert_eq!(header.opcode, OpCode::Data(Data::Text));
            assert_eq!(size as usize, payload.len());
            assert_eq!(payload, format!("\"{content}\"").as_bytes());
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(close(CloseCode::Away, &"é".repeat(100)).len(), 2 + 2 + 122);
        assert!(is_close(&close(CloseCode::Away, "")));
        assert!(!is_close(&ping()));
    }
}
