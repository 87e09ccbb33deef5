//! Claude Code beside a fault: answers the healthy client, and keeps what others say.

use std::io::Write;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use super::healthy;
use crate::server::{PATIENCE, Server, Stdin};

/// The server, and whom it takes for Claude Code.
pub struct Agent {
    pub server: Server,
    shared: Arc<Shared>,
    /// What clients other than the healthy one have said.
    pub heard: Receiver<Value>,
    /// Answers to what the test asked.
    pub answers: Receiver<Value>,
}

/// What the thread that reads the server's lines and the test share.
pub struct Shared {
    stdin: Mutex<Option<Stdin>>,
    /// Whether it answers the healthy client. Locked by that while it waits for an answer.
    pub answers: Mutex<bool>,
    /// Whether it reads.
    reads: Mutex<bool>,
    reads_again: Condvar,
    /// What the healthy client has said.
    heard_of_healthy: Mutex<Vec<Value>>,
}

impl Agent {
    pub fn new(mut server: Server) -> Self {
        let shared = Arc::new(Shared {
            stdin: Mutex::new(server.stdin.take()),
            answers: Mutex::new(true),
            reads: Mutex::new(true),
            reads_again: Condvar::new(),
            heard_of_healthy: Mutex::default(),
        });
        let (to_test, heard) = unbounded();
        let (to_asker, answers) = unbounded();
        let lines = server.lines();
        let agent = shared.clone();
        thread::spawn(move || agent.run(&lines, &to_test, &to_asker));
        Self {
            server,
            shared,
            heard,
            answers,
        }
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// From now on nobody counts on its answers. What it was asked before is answered.
    pub fn is_busy(&self) {
        *self.shared.answers.lock() = false;
    }

    /// And now again.
    pub fn is_free(&self) {
        *self.shared.answers.lock() = true;
    }

    pub fn stops_reading(&self) {
        self.is_busy();
        *self.shared.reads.lock() = false;
    }

    pub fn reads_on(&self) {
        *self.shared.reads.lock() = true;
        self.shared.reads_again.notify_all();
        self.is_free();
    }

    pub fn closes_stdin(&self) {
        drop(self.shared.stdin.lock().take());
    }

    pub fn write(&self, bytes: &[u8]) {
        self.shared.write(bytes);
    }

    /// Writes a line bit by bit. Nothing else may come in between, so it is busy with that.
    pub fn writes_slowly(&self, write: impl FnOnce(&mut Stdin)) {
        self.is_busy();
        write(self.shared.stdin.lock().as_mut().expect("it is open"));
        self.is_free();
    }

    pub fn send(&self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// What a client other than the healthy one says next.
    pub fn next_message(&self) -> Value {
        self.heard.recv_timeout(PATIENCE).expect("someone speaks")
    }

    /// The next answer to what the test asked.
    pub fn answer(&self) -> Value {
        self.answers.recv_timeout(PATIENCE).expect("it answers")
    }

    /// What the healthy client has said.
    pub fn heard_of_healthy(&self) -> Vec<Value> {
        self.shared.heard_of_healthy.lock().clone()
    }
}

impl Shared {
    fn run(&self, lines: &Receiver<Value>, heard: &Sender<Value>, answers: &Sender<Value>) {
        for mut line in lines {
            let mut reads = self.reads.lock();
            while !*reads {
                self.reads_again.wait(&mut reads);
            }
            drop(reads);
            let params = line["params"].take();
            if line["method"].is_null() {
                // Whether a reply was taken is seen by whom it was for.
                if line["id"] != "reply" {
                    let _ = answers.send(line);
                }
            } else if params["meta"]["chat_id"] == healthy::SESSION {
                self.heard_of_healthy.lock().push(params["content"].clone());
                self.reply(&params["content"]);
            } else {
                let _ = heard.send(params);
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
            // The server may have ended: that is for others to judge.
            let _ = stdin.write_all(bytes);
        }
    }
}
