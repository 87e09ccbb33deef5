//! A minute of everything at once: 200 clients connect, send, decide, send wrong frames and
//! disconnect, while Claude Code stops reading and writes wrong lines. At the end every message must
//! have been delivered exactly once, and threads, files and memory must be as before.
//!
//! It takes longer than all other tests together, so it is run by itself:
//!
//! ```text
//! cargo test --test suite soak -- --ignored --nocapture
//! ```
//!
//! What happens depends on a seed, which is printed. `SOAK_SEED` repeats one, and
//! `SOAK_SECONDS` makes it longer or shorter.

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use socket2::SockRef;
use tungstenite::{Error, Message};

use crate::app::App;
use crate::server::{Server, TEST_TIMEOUT, address_in, binary};

const CLIENTS: u64 = 200;
const SESSIONS: u64 = 20;
/// How long sessions and permission requests are kept: long enough for every client to come back.
const TTL: &str = "5s";
/// The most that memory may grow after the first few seconds, in KiB: less than half a kilobyte for
/// each connection there was.
const MAX_GROWTH: u64 = 4 << 10;
/// Wrong frames.
const BAD_FRAMES: [&[u8]; 4] = [
    b"\x81\xfe\0\xc8\0\0\0\0{\"type\":\"mess", // half a frame
    b"\x81\x82\0\0\0\0\xc3\x28",               // not UTF-8
    b"\x81\x02hi",                             // no mask
    b"\x81\xff\0\0\0\0\x40\0\0\0\0\0\0\0",     // a gibibyte
];

#[test]
#[ignore = "it takes a minute: cargo test --test suite soak -- --ignored --nocapture"]
fn soak() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect(name));
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("the clock is past 1970");
    let seed = number("SOAK_SEED").unwrap_or(now.as_secs());
    let seconds = number("SOAK_SECONDS").unwrap_or(60);
    println!("SOAK_SEED={seed} SOAK_SECONDS={seconds}");

    let flags = [
        "--session-ttl",
        TTL,
        "--unseen-ttl",
        TTL,
        "--permission-ttl",
        TTL,
    ];
    // What one thread allocates and another frees stays in the arena of the first, so that the memory depends on which
    // thread has had which arena (mallopt(3), M_ARENA_MAX).
    let mut command = binary();
    command.args(["--port", "0"]).args(flags);
    let mut server = Server::spawn(command.env("MALLOC_ARENA_MAX", "1"));
    server.address = address_in(&server.wait_for_log("listening on "));
    server.initialize();
    // The first question to the store opens files.
    drop(App::connect(&server, "first"));
    let base = Footprint::of(&server);
    let agent = Agent::start(server, seed);
    // The allocator keeps what it once had to get, so the first seconds don't count.
    let mut rounds = Vec::new();
    for (round, length) in [(0, seconds / 6), (1, seconds - seconds / 6)] {
        agent.set_wild(true);
        play(
            &agent,
            seed + round * CLIENTS,
            round,
            Duration::from_secs(length),
        );
        agent.set_wild(false);
        rounds.push(agent.wait_until_idle());
    }
    let (warm, end) = (&rounds[0], &rounds[1]);
    println!(
        "{} messages; at the start {base:?}, warm {warm:?}, at the end {end:?}",
        agent.received.lock().len()
    );
    assert_eq!(
        (end.threads, end.files),
        (base.threads, base.files),
        "threads and files are as before"
    );
    assert!(
        end.memory < warm.memory + MAX_GROWTH,
        "memory does not grow: {warm:?}, then {end:?}"
    );
    assert!(end.memory < 64 << 10, "{end:?}");
}

/// Runs all clients for a while, and checks that each message was delivered once.
fn play(agent: &Arc<Agent>, seed: u64, round: u64, length: Duration) {
    let until = Instant::now() + length;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = Client {
                agent: agent.clone(),
                name: format!("{round}-{number}"),
                session: format!("s{}", number % SESSIONS),
                random: Random(seed + number),
                sent: 0,
                unknown: Vec::new(),
                accepted: HashSet::new(),
                requests: Vec::new(),
            };
            thread::spawn(move || {
                while Instant::now() < until {
                    client.visit();
                }
                client.settle();
                client.accepted
            })
        })
        .collect();
    while Instant::now() < until {
        agent.misbehave();
    }
    for client in clients {
        let accepted = client.join().expect("the client receives what it expects");
        let received = agent.received.lock();
        for id in accepted {
            assert_eq!(received.get(&id), Some(&1), "how often {id} was delivered");
        }
    }
}

/// A client, over all its connections.
struct Client {
    agent: Arc<Agent>,
    name: String,
    session: String,
    random: Random,
    /// The number of different messages so far.
    sent: u64,
    /// The messages without a receipt yet.
    unknown: Vec<String>,
    accepted: HashSet<String>,
    /// The permission requests that it has received.
    requests: Vec<String>,
}

impl Client {
    /// Connects, acts at random, and disconnects in one of four ways.
    fn visit(&mut self) {
        let mut app = self.connect();
        for _ in 0..self.random.below(20) {
            if self.act(&mut app).is_err() {
                return;
            }
            let pause = self.random.below(300);
            self.read(&mut app, Duration::from_millis(20 + pause));
        }
        let stream = SockRef::from(app.socket.get_ref())
            .try_clone()
            .expect("a socket can be duplicated");
        match self.random.below(4) {
            0 => {
                let _ = app.socket.close(None);
                self.read(&mut app, Duration::from_millis(300));
            }
            1 => drop(stream.set_linger(Some(Duration::ZERO))),
            2 => {
                let frame = BAD_FRAMES[self.random.below(4) as usize];
                let _ = app.socket.get_mut().write_all(frame);
            }
            // It stops reading for a while before it disconnects.
            _ => thread::sleep(Duration::from_millis(self.random.below(500))),
        }
    }

    /// Connects, and resends the messages without a receipt.
    fn connect(&mut self) -> App {
        let path = format!("/?session={}", self.session);
        let mut app = App::open(self.agent.address, &path);
        for id in &self.unknown {
            let _ = app.socket.send(message(id));
        }
        app
    }

    fn act(&mut self, app: &mut App) -> Result<(), Error> {
        let frame = match self.random.below(10) {
            0..6 => {
                self.sent += 1;
                let id = format!("{}-{}", self.name, self.sent);
                let frame = message(&id);
                self.unknown.push(id);
                frame
            }
            6 => Message::text(r#"{"type":"fetch_history","limit":100}"#),
            7 => Message::text("{\"type\":\"message\",\"content\":"),
            8 => Message::binary(vec![0; 100]),
            _ => match self.requests.pop() {
                Some(id) => Message::text(
                    json!({ "type": "permission_response", "request_id": id, "allowed": true })
                        .to_string(),
                ),
                None => Message::text(r#"{"type":"ping"}"#),
            },
        };
        app.socket.send(frame)
    }

    /// Reads for that long.
    fn read(&mut self, app: &mut App, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            app.socket
                .get_ref()
                .set_read_timeout(Some(left))
                .expect("the timeout is valid");
            match app.socket.read() {
                Ok(Message::Text(text)) => {
                    self.receive(&serde_json::from_str(&text).expect("a message is JSON"))
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn receive(&mut self, message: &Value) {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        match (message["type"].as_str(), message["state"].as_str()) {
            (_, Some("accepted" | "answered")) => {
                let id = text("id");
                self.unknown.retain(|unknown| *unknown != id);
                self.accepted.insert(id);
            }
            (_, Some(_)) => panic!("{} received {message}", self.name),
            (Some("permission_request"), _) => self.requests.push(text("request_id")),
            (Some("reply" | "user_message"), _) => assert_eq!(message["session_id"], self.session),
            (Some("error"), _) => {
                let expected = [
                    "invalid_json",
                    "invalid_message",
                    "unknown_request",
                    "too_large",
                ];
                assert!(
                    expected.contains(&&*text("code")),
                    "{} received {message}",
                    self.name
                );
            }
            _ => {}
        }
    }

    /// Reconnects until every message has a receipt.
    fn settle(&mut self) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !self.unknown.is_empty() {
            assert!(
                Instant::now() < deadline,
                "{}: {:?} have no receipt",
                self.name,
                self.unknown
            );
            let mut app = self.connect();
            self.read(&mut app, Duration::from_millis(500));
        }
        assert_eq!(self.accepted.len() as u64, self.sent);
    }
}

fn message(id: &str) -> Message {
    let content = format!("{id} {}", "x".repeat(200));
    Message::text(json!({ "type": "message", "content": content, "id": id }).to_string())
}

/// Claude Code.
struct Agent {
    address: SocketAddr,
    server: Mutex<Server>,
    random: Mutex<Random>,
    /// It replies at random.
    wild: AtomicBool,
    /// The lock is held while it doesn't read.
    reading: Mutex<()>,
    /// How often each message was delivered.
    received: Mutex<HashMap<String, u64>>,
    /// The permission requests with a verdict.
    verdicts: Mutex<HashSet<String>>,
}

impl Agent {
    fn start(server: Server, seed: u64) -> Arc<Self> {
        let lines = server.lines();
        let agent = Arc::new(Self {
            address: server.address,
            server: Mutex::new(server),
            random: Mutex::new(Random(seed)),
            wild: AtomicBool::new(false),
            reading: Mutex::default(),
            received: Mutex::default(),
            verdicts: Mutex::default(),
        });
        let reader = agent.clone();
        thread::spawn(move || {
            for line in lines {
                drop(reader.reading.lock());
                reader.take(&line);
            }
        });
        agent
    }

    fn take(&self, line: &Value) {
        let params = &line["params"];
        if let Some(content) = params["content"].as_str() {
            let id = content
                .split(' ')
                .next()
                .expect("the content begins with an id")
                .to_owned();
            *self.received.lock().entry(id).or_default() += 1;
            if self.is_wild() && self.random.lock().below(4) == 0 {
                let arguments = json!({ "chat_id": params["meta"]["chat_id"], "text": content });
                let params = json!({ "name": "reply", "arguments": arguments });
                self.server.lock().send_request("tools/call", &params);
            }
        } else if let Some(id) = params["request_id"].as_str() {
            assert!(
                self.verdicts.lock().insert(id.to_owned()),
                "each request has one verdict, also {id}"
            );
        }
    }

    fn set_wild(&self, wild: bool) {
        self.wild.store(wild, Ordering::Relaxed);
    }

    fn is_wild(&self) -> bool {
        self.wild.load(Ordering::Relaxed)
    }

    /// Does something wrong, or requests a permission.
    fn misbehave(&self) {
        let (fault, duration) = {
            let mut random = self.random.lock();
            (random.below(8), Duration::from_millis(random.below(400)))
        };
        match fault {
            0 => {
                let _paused = self.reading.lock();
                thread::sleep(duration);
            }
            1 => self.server.lock().write(b"\xff{garbage\n[\n"),
            2 => {
                // Half a line, and later the rest.
                let mut server = self.server.lock();
                server.write(br#"{"jsonrpc":"2.0","id":1,"#);
                thread::sleep(duration);
                server.write(b"\"method\":\"ping\"}\n");
            }
            3 => {
                let pid = self.server.lock().process();
                kill_process(pid, Signal::STOP).expect("the server runs");
                thread::sleep(duration);
                kill_process(pid, Signal::CONT).expect("the server runs");
            }
            _ => {
                let id = self.random.lock().below(1 << 40).to_string();
                let request = json!({ "request_id": id, "tool_name": "Bash", "description": "d", "input_preview": "{}" });
                let method = "notifications/claude/channel/permission_request";
                self.server.lock().notify(method, &request);
                thread::sleep(duration);
            }
        }
    }

    /// Waits until there are no clients, sessions and requests. Returns what the server still takes.
    fn wait_until_idle(&self) -> Footprint {
        let server = self.server.lock();
        let deadline = Instant::now() + 2 * TEST_TIMEOUT;
        loop {
            let health = server.health();
            let left = ["clients", "sessions", "permissions"].map(|name| health[name].as_u64());
            if left == [Some(0); 3] {
                return Footprint::of(&server);
            }
            assert!(
                Instant::now() < deadline,
                "the server is never idle: {health}"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What the server takes of the machine's resources.
#[derive(Debug)]
struct Footprint {
    /// In KiB.
    memory: u64,
    threads: u64,
    files: usize,
}

impl Footprint {
    fn of(server: &Server) -> Self {
        let files = || {
            fs::read_dir(format!("/proc/{}/fd", server.pid()))
                .expect("the server runs")
                .count()
        };
        // The connection of the health request may still be closing.
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut seen = (server.memory("Threads"), files());
        loop {
            thread::sleep(Duration::from_millis(600));
            let again = (server.memory("Threads"), files());
            if again == seen || Instant::now() > deadline {
                break;
            }
            seen = again;
        }
        Self {
            memory: server.memory("VmRSS"),
            threads: seen.0,
            files: seen.1,
        }
    }
}

/// A generator of pseudorandom numbers from a seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit
    }
}
