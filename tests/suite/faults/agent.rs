//! Claude Code during a fault: replies to the healthy client, and keeps the messages of others.

use std::io::Write;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use super::healthy;
use crate::server::{Server, Stdin, TEST_TIMEOUT};

/// A server and the agent it is connected to.
pub struct Agent {
    pub server: Server,
    shared: Arc<Shared>,
    /// The messages of clients other than the healthy one.
    pub messages: Receiver<Value>,
    /// The responses to requests of the test.
    pub responses: Receiver<Value>,
}

/// What the test and the thread that reads the server's lines share.
pub struct Shared {
    stdin: Mutex<Option<Stdin>>,
    /// Replies are sent to the healthy client. It locks this while it waits for one.
    pub replies: Mutex<bool>,
    /// The thread reads.
    reads: Mutex<bool>,
    resumed: Condvar,
    /// The messages of the healthy client.
    healthy_messages: Mutex<Vec<Value>>,
}

impl Agent {
    pub fn new(mut server: Server) -> Self {
        let shared = Arc::new(Shared {
            stdin: Mutex::new(server.stdin.take()),
            replies: Mutex::new(true),
            reads: Mutex::new(true),
            resumed: Condvar::new(),
            healthy_messages: Mutex::default(),
        });
        let (to_test, messages) = unbounded();
        let (to_requester, responses) = unbounded();
        let lines = server.lines();
        let agent = shared.clone();
        thread::spawn(move || agent.run(&lines, &to_test, &to_requester));
        Self {
            server,
            shared,
            messages,
            responses,
        }
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Stops promising replies to the healthy client, which then doesn't wait for them.
    pub fn suspend_replies(&self) {
        *self.shared.replies.lock() = false;
    }

    /// Promises replies again.
    pub fn resume_replies(&self) {
        *self.shared.replies.lock() = true;
    }

    pub fn stop_reading(&self) {
        self.suspend_replies();
        *self.shared.reads.lock() = false;
    }

    pub fn resume_reading(&self) {
        *self.shared.reads.lock() = true;
        self.shared.resumed.notify_all();
        self.resume_replies();
    }

    pub fn close_stdin(&self) {
        drop(self.shared.stdin.lock().take());
    }

    pub fn write(&self, bytes: &[u8]) {
        self.shared.write(bytes);
    }

    /// Writes a line in pieces. Nothing may come in between, so replies are suspended.
    pub fn write_slowly(&self, write: impl FnOnce(&mut Stdin)) {
        self.suspend_replies();
        write(self.shared.stdin.lock().as_mut().expect("stdin is open"));
        self.resume_replies();
    }

    pub fn send(&self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// Returns the next message of a client other than the healthy one.
    pub fn next_message(&self) -> Value {
        self.messages
            .recv_timeout(TEST_TIMEOUT)
            .expect("the server passes on a message")
    }

    /// Returns the next response to a request of the test.
    pub fn response(&self) -> Value {
        self.responses
            .recv_timeout(TEST_TIMEOUT)
            .expect("the server answers the request")
    }

    /// Returns the messages of the healthy client so far.
    pub fn healthy_messages(&self) -> Vec<Value> {
        self.shared.healthy_messages.lock().clone()
    }
}

impl Shared {
    fn run(&self, lines: &Receiver<Value>, messages: &Sender<Value>, responses: &Sender<Value>) {
        for mut line in lines {
            let mut reads = self.reads.lock();
            while !*reads {
                self.resumed.wait(&mut reads);
            }
            drop(reads);
            let params = line["params"].take();
            if line["method"].is_null() {
                // The healthy client checks the replies itself.
                if line["id"] != "reply" {
                    let _ = responses.send(line);
                }
            } else if params["meta"]["chat_id"] == healthy::SESSION {
                self.healthy_messages.lock().push(params["content"].clone());
                self.reply(&params["content"]);
            } else {
                let _ = messages.send(params);
            }
        }
    }

    fn reply(&self, text: &Value) {
        let arguments = json!({ "chat_id": healthy::SESSION, "text": text });
        let params = json!({ "name": "reply", "arguments": arguments });
        let call =
            json!({ "jsonrpc": "2.0", "id": "reply", "method": "tools/call", "params": params });
        self.write(format!("{call}\n").as_bytes());
    }

    fn write(&self, bytes: &[u8]) {
        if let Some(stdin) = self.stdin.lock().as_mut() {
            // The server may have ended, which the test checks elsewhere.
            let _ = stdin.write_all(bytes);
        }
    }
}
