//! A WebSocket client that makes its frames by hand, so that they can be wrong.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::server::{Server, TEST_TIMEOUT};

/// A client that makes its frames by hand.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub fn connect(server: &Server, session: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).expect("the server listens");
        stream
            .set_read_timeout(Some(TEST_TIMEOUT))
            .expect("the timeout is valid");
        stream
            .write_all(server.handshake(&format!("/?session={session}")).as_bytes())
            .expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream
                .read_exact(&mut byte)
                .expect("the server answers the handshake");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("the response has a text head");
        // The key and its response are those of RFC 6455, section 1.3.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self { stream }
    }

    /// Sends a short frame, masked with zeros.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).expect("a control frame is short");
        let mut frame = vec![first, 0x80 | length, 0, 0, 0, 0];
        frame.extend(payload);
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// Returns the first byte and the payload of the next frame.
    pub fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream
            .read_exact(&mut head)
            .expect("the server sends a frame");
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.stream
                    .read_exact(&mut long)
                    .expect("the frame has a length");
                usize::from(u16::from_be_bytes(long))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream
            .read_exact(&mut payload)
            .expect("the frame is complete");
        (head[0], payload)
    }

    /// Returns what is received until the connection ends.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }
}
