//! An app: a WebSocket client over a real socket.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::client_with_config;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::server::{PATIENCE, Server};

pub struct App {
    pub socket: WebSocket<TcpStream>,
}

impl App {
    /// Connects to a session, up to the point where the hub knows of it.
    pub fn connect(server: &Server, session: &str) -> Self {
        let mut app = Self::open(server.address, &format!("/?session={session}"));
        app.until_pong();
        app
    }

    pub fn open(address: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .max_message_size(None)
            .max_frame_size(None);
        let url = format!("ws://{address}{path}");
        let (socket, _) = client_with_config(url, stream, Some(config)).expect("it lets us in");
        Self { socket }
    }

    pub fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("it reads");
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

    /// The next message.
    pub fn next(&mut self) -> Value {
        loop {
            match self.read().expect("the server says something") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other}"),
            }
        }
    }

    /// The next message, which is of this type.
    pub fn expect(&mut self, kind: &str) -> Value {
        let message = self.next();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Asks whether the hub has heard everything so far. Returns what it had to say
    /// before.
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

    /// Reads on until the server closes. Returns its close frame.
    pub fn read_close(&mut self) -> Option<CloseFrame> {
        loop {
            match self.read() {
                Ok(Message::Close(frame)) => return frame,
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return None,
                Err(error) => panic!("no close, but {error}"),
            }
        }
    }

    /// The same as `closed`, as a number.
    pub fn close_code(&mut self) -> u16 {
        self.read_close().map_or(0, |frame| frame.code.into())
    }
}
