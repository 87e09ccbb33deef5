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
/// The longest header of an unmasked frame, in bytes.
const MAX_HEADER: usize = 10;

/// A text frame with a message as JSON.
pub fn text(message: &impl Serialize) -> Bytes {
    // The header's length depends on the payload's, so the payload comes first,
    // behind as much room as any header takes, and the header moves up against it.
    let mut frame = Vec::with_capacity(256);
    frame.resize(MAX_HEADER, 0);
    json::write(&mut frame, message);
    let header = FrameHeader {
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    };
    let length = (frame.len() - MAX_HEADER) as u64;
    let start = MAX_HEADER - header.len(length);
    header
        .format(length, &mut &mut frame[start..MAX_HEADER])
        .expect("there is room for it");
    Bytes::from(frame).slice(start..)
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
