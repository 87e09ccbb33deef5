//! The healthy client: it sends messages all the time, and records what it receives.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::MutexGuard;
use serde_json::{Value, json};
use tungstenite::{Error, Message};

use super::agent::{Agent, Shared};
use crate::app::App;
use crate::server::TEST_TIMEOUT;

/// Its session. Clients that misbehave may be in it, others that send messages must not.
pub const SESSION: &str = "healthy";
/// The time between two messages.
const PAUSE: Duration = Duration::from_millis(20);

/// The client, in a thread of its own.
pub struct Healthy {
    thread: Option<JoinHandle<Record>>,
    stop: Arc<AtomicBool>,
    rounds: Receiver<()>,
}

/// The longest times that it had to wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    /// For a pong, from the server itself.
    pub pong: Duration,
    /// For a reply, from Claude Code.
    pub reply: Duration,
}

impl Healthy {
    pub fn connect(agent: &Agent) -> Self {
        let app = App::connect(&agent.server, SESSION);
        let stop = Arc::new(AtomicBool::new(false));
        let (round, rounds) = bounded(0);
        let (agent, stops) = (agent.shared(), stop.clone());
        let thread = thread::spawn(move || Record::new(app).run(&agent, &stops, &round));
        Self {
            thread: Some(thread),
            stop,
            rounds,
        }
    }

    /// Waits for that many complete round trips.
    pub fn wait_for_rounds(&self, times: usize) {
        // The first one may have begun before.
        for _ in 0..=times {
            if self.rounds.recv_timeout(TEST_TIMEOUT).is_err() {
                break;
            }
        }
    }

    /// Disconnects when it has received everything that it waits for.
    pub fn leave(&mut self) -> Delays {
        let mut record = self.end();
        assert!(!record.disconnected, "the server keeps the healthy client");
        while record.replies < record.sent || (record.answered.len() as u64) < record.sent {
            record.read();
        }
        assert_eq!(record.pings, record.pongs);
        assert!(record.lost.is_empty(), "{:?} are lost", record.lost);
        let everything: Vec<u64> = (1..=record.sent).collect();
        assert_eq!(
            record.accepted, everything,
            "each message is accepted once, in order"
        );
        assert_eq!(
            record.answered, everything,
            "each message is answered once, in order"
        );
        assert_eq!(
            record.seqs.len() as u64,
            2 * record.sent,
            "no seq is missing"
        );
        assert_eq!(record.last_seq, 2 * record.sent, "no seq is skipped");
        record.delays
    }

    /// Asserts that it was disconnected because the server has ended, and knows the fate of all its
    /// messages but one. `messages` are those that Claude Code has received.
    pub fn assert_disconnected(&mut self, messages: &[Value]) {
        let record = self.end();
        assert!(
            record.disconnected,
            "the server tells the healthy client that it ends"
        );
        let received = messages
            .iter()
            .map(|content| content.as_str().and_then(|number| number.parse().ok()));
        let received: Vec<u64> = received
            .map(|number| number.expect("its messages are numbers"))
            .collect();
        assert_eq!(received, (1..=received.len() as u64).collect::<Vec<_>>());
        // Claude Code may have read what the server could not see it read.
        assert!(
            received.starts_with(&record.accepted),
            "{received:?} {:?}",
            record.accepted
        );
        let known = [&record.accepted, &record.queued, &record.rejected];
        let known: HashSet<_> = known.into_iter().flatten().collect();
        let unknown = record.sent - known.len() as u64;
        assert!(unknown <= 1, "the fate of {unknown} messages is unknown");
    }

    fn end(&mut self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        // It must not wait for the test to count its rounds.
        let (_, closed) = bounded(0);
        drop(mem::replace(&mut self.rounds, closed));
        let thread = self.thread.take().expect("it disconnects once");
        thread
            .join()
            .expect("the healthy client receives what it expects")
    }
}

/// What it has sent and received.
struct Record {
    app: App,
    sent: u64,
    pings: u64,
    pongs: u64,
    replies: u64,
    accepted: Vec<u64>,
    /// Those that wait on disk, or have waited there.
    queued: Vec<u64>,
    answered: Vec<u64>,
    rejected: Vec<u64>,
    lost: Vec<u64>,
    seqs: HashSet<u64>,
    last_seq: u64,
    disconnected: bool,
    delays: Delays,
}

impl Record {
    fn new(app: App) -> Self {
        Self {
            app,
            sent: 0,
            pings: 0,
            pongs: 0,
            replies: 0,
            accepted: Vec::new(),
            queued: Vec::new(),
            answered: Vec::new(),
            rejected: Vec::new(),
            lost: Vec::new(),
            seqs: HashSet::new(),
            last_seq: 0,
            disconnected: false,
            delays: Delays::default(),
        }
    }

    /// Makes round trips until it is stopped or disconnected.
    fn run(mut self, agent: &Shared, stop: &AtomicBool, round: &Sender<()>) -> Self {
        while !stop.load(Ordering::Relaxed) && !self.disconnected {
            self.round_trip(agent.replies.lock());
            let _ = round.try_send(());
            thread::sleep(PAUSE);
        }
        self
    }

    /// Sends a message, and waits for its reply unless replies are suspended.
    fn round_trip(&mut self, agent_replies: MutexGuard<'_, bool>) {
        let awaits_reply = *agent_replies;
        // While it waits for a reply, replies can't be suspended.
        let _guard = awaits_reply.then_some(agent_replies);
        let start = Instant::now();
        self.sent += 1;
        self.pings += 1;
        let number = self.sent.to_string();
        let message = json!({ "type": "message", "content": number, "id": number });
        let ping = json!({ "type": "ping" });
        for frame in [message, ping] {
            if self
                .app
                .socket
                .send(Message::text(frame.to_string()))
                .is_err()
            {
                // The reason follows on the socket.
                break;
            }
        }
        while self.pongs < self.pings && !self.disconnected {
            self.read();
        }
        self.delays.pong = self.delays.pong.max(start.elapsed());
        if awaits_reply {
            let start = Instant::now();
            while self.replies < self.sent && !self.disconnected {
                self.read();
            }
            self.delays.reply = self.delays.reply.max(start.elapsed());
        }
    }

    /// Reads one frame and records it.
    fn read(&mut self) {
        let text = match self.app.socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(Message::Ping(_) | Message::Pong(_)) => return,
            Ok(Message::Close(Some(frame))) if u16::from(frame.code) == 1001 => {
                self.disconnected = true;
                return;
            }
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::Interrupted => return,
            other => panic!("the healthy client received {other:?}"),
        };
        let message: Value = serde_json::from_str(&text).expect("a message is JSON");
        let number = |name: &str| -> u64 {
            let text = message[name].as_str();
            text.and_then(|number| number.parse().ok())
                .expect("the message is about one of its own")
        };
        match (message["type"].as_str(), message["state"].as_str()) {
            (Some("pong"), _) => self.pongs += 1,
            (Some("reply"), _) => {
                self.replies += 1;
                assert_eq!(
                    number("content"),
                    self.replies,
                    "no reply is lost or duplicated"
                );
                self.seq(&message);
            }
            (_, Some("accepted")) => {
                self.accepted.push(number("id"));
                self.seq(&message);
            }
            (_, Some("queued")) => self.queued.push(number("id")),
            (_, Some("answered")) => self.answered.push(number("id")),
            // It was accepted, and the end has come before its answer.
            (_, Some("lost")) => self.lost.push(number("id")),
            (_, Some("rejected")) => self.rejected.push(number("id")),
            (Some("error"), _) if message["code"] == "host_closed" => {}
            _ => panic!("the healthy client received {message}"),
        }
    }

    fn seq(&mut self, message: &Value) {
        let seq = message["seq"].as_u64().expect("the message has a seq");
        assert!(self.seqs.insert(seq), "seq {seq} is received once");
        self.last_seq = self.last_seq.max(seq);
    }
}
