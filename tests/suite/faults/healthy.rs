//! The healthy client: it talks all the while, and keeps book of what comes back.

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
use crate::server::PATIENCE;

/// Its session, in which nobody else is.
pub const SESSION: &str = "healthy";
/// How long it waits between two messages.
const PAUSE: Duration = Duration::from_millis(20);

/// The client, in a thread of its own.
pub struct Healthy {
    thread: Option<JoinHandle<Book>>,
    stop: Arc<AtomicBool>,
    beats: Receiver<()>,
}

/// The longest it had to wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    /// For the server itself.
    pub pong: Duration,
    /// For Claude Code.
    pub reply: Duration,
}

impl Healthy {
    pub fn connect(agent: &Agent) -> Self {
        let app = App::connect(&agent.server, SESSION);
        let stop = Arc::new(AtomicBool::new(false));
        let (beat, beats) = bounded(0);
        let (agent, stops) = (agent.shared(), stop.clone());
        let thread = thread::spawn(move || Book::new(app).keep(&agent, &stops, &beat));
        Self {
            thread: Some(thread),
            stop,
            beats,
        }
    }

    /// Waits until it has been heard so many times from now on.
    pub fn beats(&self, times: usize) {
        // The first may have begun before.
        for _ in 0..=times {
            if self.beats.recv_timeout(PATIENCE).is_err() {
                break;
            }
        }
    }

    /// It leaves, when it has got everything that it waits for.
    pub fn leave(&mut self) -> Pulse {
        let mut book = self.end();
        assert!(!book.sent_away, "the healthy client was sent away");
        while book.replies < book.sent || (book.answered.len() as u64) < book.sent {
            book.read();
        }
        assert_eq!(book.pings, book.pongs);
        let everything: Vec<u64> = (1..=book.sent).collect();
        assert_eq!(book.accepted, everything, "each is accepted once, in order");
        assert_eq!(book.answered, everything, "each is answered once, in order");
        assert_eq!(book.seqs.len() as u64, 2 * book.sent, "no seq is missing");
        assert_eq!(book.last_seq, 2 * book.sent, "no seq is skipped");
        book.pulse
    }

    /// It was sent away because the server has ended, and knows of each message whether
    /// Claude Code has got it.
    pub fn was_sent_away(&mut self, heard: &[Value]) {
        let book = self.end();
        assert!(book.sent_away, "nobody has told it that the server ends");
        let told = heard
            .iter()
            .map(|content| content.as_str().and_then(|number| number.parse().ok()));
        let told: Vec<u64> = told.map(|number| number.expect("a number")).collect();
        assert_eq!(told, (1..=told.len() as u64).collect::<Vec<_>>());
        // Claude Code may have read what the server could not see it read.
        assert!(
            told.starts_with(&book.accepted),
            "{told:?} {:?}",
            book.accepted
        );
        let unknown = book.sent - book.accepted.len() as u64 - book.rejected.len() as u64;
        assert!(
            unknown <= 1,
            "it does not know what became of {unknown} messages"
        );
    }

    fn end(&mut self) -> Book {
        self.stop.store(true, Ordering::Relaxed);
        // So that it doesn't wait for someone to hear it.
        let (_, nobody) = bounded(0);
        drop(mem::replace(&mut self.beats, nobody));
        let thread = self.thread.take().expect("it has not left before");
        thread.join().expect("the healthy client is healthy")
    }
}

/// What it has sent, and what came back.
struct Book {
    app: App,
    sent: u64,
    pings: u64,
    pongs: u64,
    replies: u64,
    accepted: Vec<u64>,
    answered: Vec<u64>,
    rejected: Vec<u64>,
    seqs: HashSet<u64>,
    last_seq: u64,
    sent_away: bool,
    pulse: Pulse,
}

impl Book {
    fn new(app: App) -> Self {
        Self {
            app,
            sent: 0,
            pings: 0,
            pongs: 0,
            replies: 0,
            accepted: Vec::new(),
            answered: Vec::new(),
            rejected: Vec::new(),
            seqs: HashSet::new(),
            last_seq: 0,
            sent_away: false,
            pulse: Pulse::default(),
        }
    }

    /// Talks until it is to stop, or is sent away.
    fn keep(mut self, agent: &Shared, stop: &AtomicBool, beat: &Sender<()>) -> Self {
        while !stop.load(Ordering::Relaxed) && !self.sent_away {
            self.beat(agent.answers.lock());
            let _ = beat.try_send(());
            thread::sleep(PAUSE);
        }
        self
    }

    /// Says something, and waits for what comes back.
    fn beat(&mut self, agent_answers: MutexGuard<'_, bool>) {
        let awaits_reply = *agent_answers;
        // While it waits for a reply the host doesn't become busy.
        let _guard = awaits_reply.then_some(agent_answers);
        let start = Instant::now();
        self.sent += 1;
        self.pings += 1;
        let number = self.sent.to_string();
        let said = json!({ "type": "message", "content": number, "id": number });
        let ping = json!({ "type": "ping" });
        for frame in [said, ping] {
            if self
                .app
                .socket
                .send(Message::text(frame.to_string()))
                .is_err()
            {
                // Why, it reads in a moment.
                break;
            }
        }
        while self.pongs < self.pings && !self.sent_away {
            self.read();
        }
        self.pulse.pong = self.pulse.pong.max(start.elapsed());
        if awaits_reply {
            let start = Instant::now();
            while self.replies < self.sent && !self.sent_away {
                self.read();
            }
            self.pulse.reply = self.pulse.reply.max(start.elapsed());
        }
    }

    /// Reads one frame and enters it.
    fn read(&mut self) {
        let text = match self.app.socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(Message::Ping(_) | Message::Pong(_)) => return,
            Ok(Message::Close(Some(frame))) if u16::from(frame.code) == 1001 => {
                self.sent_away = true;
                return;
            }
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::Interrupted => return,
            other => panic!("the healthy client got {other:?}"),
        };
        let message: Value = serde_json::from_str(&text).expect("it is JSON");
        let number = |name: &str| -> u64 {
            let text = message[name].as_str();
            text.and_then(|number| number.parse().ok())
                .expect("it is one of its own")
        };
        match (message["type"].as_str(), message["state"].as_str()) {
            (Some("pong"), _) => self.pongs += 1,
            (Some("reply"), _) => {
                self.replies += 1;
                assert_eq!(number("content"), self.replies, "lost or doubled");
                self.seq(&message);
            }
            (_, Some("accepted")) => {
                self.accepted.push(number("id"));
                self.seq(&message);
            }
            (_, Some("answered")) => self.answered.push(number("id")),
            (_, Some("rejected")) => self.rejected.push(number("id")),
            (Some("error"), _) if message["code"] == "host_closed" => {}
            _ => panic!("the healthy client got {message}"),
        }
    }

    fn seq(&mut self, message: &Value) {
        let seq = message["seq"].as_u64().expect("it has one");
        assert!(self.seqs.insert(seq), "seq {seq} comes twice");
        self.last_seq = self.last_seq.max(seq);
    }
}
