//! A WebSocket client that puts its frames together by hand, as it likes.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::server::{PATIENCE, Server};

/// A client that puts its frames together by hand.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub fn connect(server: &Server, session: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
            .write_all(server.handshake(&format!("/?session={session}")).as_bytes())
            .expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("it answers");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("it is text");
        // The key and its answer are those of RFC 6455, section 1.3.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self { stream }
    }

    /// Sends a short frame, masked with zeros.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).expect("it is short");
        let mut frame = vec![first, 0x80 | length, 0, 0, 0, 0];
        frame.extend(payload);
        self.stream.write_all(&frame).expect("it reads");
    }

    /// The next frame: its first byte and its payload.
    pub fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("a frame");
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long).expect("a length");
                usize::from(u16::from_be_bytes(long))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).expect("a payload");
        (head[0], payload)
    }

    /// What still comes until the connection ends.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }
}
