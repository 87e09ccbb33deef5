//! A client: an app's WebSocket over a real socket.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::client_with_config;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::server::{Server, TEST_TIMEOUT};

pub struct App {
    pub socket: WebSocket<TcpStream>,
}

impl App {
    /// Connects to a session, and waits until the hub knows of the connection.
    pub fn connect(server: &Server, session: &str) -> Self {
        let mut app = Self::open(server.address, &format!("/?session={session}"));
        app.until_pong();
        app
    }

    pub fn open(address: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream
            .set_read_timeout(Some(TEST_TIMEOUT))
            .expect("the timeout is valid");
        stream
            .set_nodelay(true)
            .expect("a TCP socket has this option");
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .max_message_size(None)
            .max_frame_size(None);
        let url = format!("ws://{address}{path}");
        let (socket, _) = client_with_config(url, stream, Some(config))
            .expect("the server accepts the handshake");
        Self { socket }
    }

    pub fn send_text(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .expect("the server reads");
    }

    pub fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    pub fn send_message(&mut self, content: &str) {
        self.send(&json!({ "type": "message", "content": content }));
    }

    fn read(&mut self) -> Result<Message, Error> {
        loop {
            match self.socket.read() {
                // A read with a timeout isn't restarted by the system.
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Returns the next message.
    pub fn next(&mut self) -> Value {
        loop {
            match self.read().expect("the server sends a message") {
                Message::Text(text) => {
                    return serde_json::from_str(&text).expect("a message is JSON");
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("the server sends {other}"),
            }
        }
    }

    /// Returns the next message, which must be of this type.
    pub fn expect(&mut self, kind: &str) -> Value {
        let message = self.next();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Sends a ping and returns the messages before its pong. By then the hub has handled
    /// everything that was sent before.
    pub fn until_pong(&mut self) -> Vec<Value> {
        self.send(&json!({ "type": "ping" }));
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message["type"] == "pong" {
                return before;
            }
            before.push(message);
        }
    }

    /// Reads until the server closes, and returns its close frame.
    pub fn read_close(&mut self) -> Option<CloseFrame> {
        loop {
            match self.read() {
                Ok(Message::Close(frame)) => return frame,
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return None,
                Err(error) => panic!("the server does not close: {error}"),
            }
        }
    }

    /// Reads until the server closes, and returns what it had to say before.
    pub fn until_closed(&mut self) -> Vec<Value> {
        let mut before = Vec::new();
        while let Ok(Message::Text(text)) = self.read() {
            before.push(serde_json::from_str(&text).expect("the server sends JSON"));
        }
        before
    }

    /// Reads until the server closes, and returns its close code; 0 if there is none.
    pub fn close_code(&mut self) -> u16 {
        self.read_close().map_or(0, |frame| frame.code.into())
    }
}
