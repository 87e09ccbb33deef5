//! A server that is killed at random moments, while clients send and Claude Code replies, and started again. What a client
//! was told must stay true: its message is in the history, once, in its place, and was given to no two Claude Codes.
//!
//! A few kills are among the usual tests. Many take a minute:
//!
//! ```text
//! cargo test --test suite store_kills -- --ignored --nocapture
//! ```
//!
//! What happens depends on a seed, which is printed. `KILLS_SEED` repeats one as far as the machine does, and `KILLS` says
//! how many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tungstenite::client::client;
use tungstenite::{Message, WebSocket};

use crate::app::App;
use crate::disk::Disk;
use crate::server::{Server, Stdin, TEST_TIMEOUT, address_in, binary};
use crate::soak::Random;
use crate::state::State;

const CLIENTS: u64 = 6;
const SESSIONS: u64 = 3;
/// The most messages of a client without a receipt.
const WINDOW: usize = 8;
/// The longest that a server lives, in milliseconds.
const LIFE: u64 = 400;

#[test]
fn some_kills_lose_nothing() {
    play(10, true);
}

/// Claude Code ends, or somebody ends the server, while everybody talks.
#[test]
fn some_ends_lose_nothing_and_double_nothing() {
    let found = play(5, false);
    assert_eq!((found.twice, found.gone), (0, 0));
}

#[test]
#[ignore = "it takes a minute: cargo test --test suite store_kills -- --ignored --nocapture"]
fn many_kills_lose_nothing() {
    play(100, true);
}

/// Ends so many servers; if they are not killed, they may do what must be done first.
fn play(kills: u64, is_killed: bool) -> Found {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect(name));
    let now = SystemTime::UNIX_EPOCH.elapsed();
    let seed = number("KILLS_SEED").unwrap_or(now.expect("the clock is past 1970").as_secs());
    let kills = number("KILLS").unwrap_or(kills);
    println!("KILLS_SEED={seed} KILLS={kills}");

    let mut random = Random(seed);
    let state = State::new();
    let world = Arc::new(World::default());
    world.begin_sessions(&state);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| Client::start(number, seed, &world))
        .collect();
    for run in 1..=kills {
        let mut agent = AgentRun::start(&state, run, random.below(2) * random.below(100));
        // Some are killed before they listen.
        if !is_killed || random.below(8) > 0 {
            agent.listen(&world);
            thread::sleep(Duration::from_millis(random.below(LIFE)));
        } else {
            thread::sleep(Duration::from_millis(random.below(20)));
        }
        if is_killed {
            agent.kill(&world);
        } else {
            agent.end(&world);
        }
    }
    world.is_ending.store(true, Ordering::Relaxed);
    let mut agent = AgentRun::start(&state, kills + 1, 0);
    agent.listen(&world);
    let clients: Vec<Client> = clients
        .into_iter()
        .map(|client| client.join().expect("a client receives what it expects"))
        .collect();
    let histories = world.histories(agent.address);
    agent.end(&world);
    let found = world.check(&clients, &histories);
    println!("{found:?}");
    // The next server finds the same.
    let mut agent = AgentRun::start(&state, kills + 2, 0);
    agent.listen(&world);
    for (session, messages) in world.histories(agent.address) {
        let (before, after) = (places(&histories[&session]), places(&messages));
        // Claude Code may have gone on to answer.
        assert!(after.starts_with(&before), "{session}");
    }
    agent.end(&world);
    found
}

/// What a check has found.
#[derive(Debug, Default)]
struct Found {
    /// The messages, by their last state.
    states: BTreeMap<String, u32>,
    /// Those that were given to two Claude Codes: they were not on disk, and their senders sent them again.
    twice: u32,
    /// The places that somebody has seen and that are empty: what was there was not on disk.
    gone: usize,
}

/// Returns what is where in a history.
fn places(messages: &[Value]) -> Vec<(&Value, &Value)> {
    messages
        .iter()
        .map(|message| (&message["seq"], &message["content"]))
        .collect()
}

/// What all have seen.
#[derive(Default)]
struct World {
    /// Where the server listens, while it runs, and its number.
    address: Mutex<Option<(SocketAddr, u64)>>,
    /// No more is sent, and no more servers are killed.
    is_ending: AtomicBool,
    /// The messages that Claude Code was given, in their order, with the number of the run.
    given: Mutex<Vec<(String, u64)>>,
    /// What somebody has seen at each place of each session.
    seen: Mutex<HashMap<(String, u64), String>>,
}

impl World {
    /// Has something in each session, so that it is the same one from now on.
    fn begin_sessions(&self, state: &State) {
        let mut agent = AgentRun::start(state, 0, 0);
        agent.listen(self);
        for number in 0..SESSIONS {
            let session = format!("s{number}");
            let mut socket = connect(agent.address, &session).expect("the server listens");
            let message = json!({ "type": "message", "content": "begin", "id": "begin" });
            let _ = socket.send(Message::text(message.to_string()));
            while read(&mut socket, TEST_TIMEOUT).expect("the server answers")["state"]
                != "answered"
            {}
        }
        agent.end(self);
    }

    /// Records what is at a place: nothing else may be there, ever.
    fn see(&self, session: &str, seq: &Value, content: &str) {
        let seq = seq.as_u64().expect("it has a seq");
        let place = (session.to_owned(), seq);
        let mut seen = self.seen.lock();
        let known = seen.entry(place).or_insert_with(|| content.to_owned());
        assert_eq!(known, content, "seq {seq} of {session} is one message's");
    }

    /// Returns all messages of each session.
    fn histories(&self, address: SocketAddr) -> BTreeMap<String, Vec<Value>> {
        let sessions = (0..SESSIONS).map(|number| format!("s{number}"));
        let history = |session: String| {
            let mut app = App::open(address, &format!("/?session={session}"));
            let (mut messages, mut since) = (Vec::new(), 0);
            loop {
                app.send(&json!({ "type": "fetch_history", "limit": 100, "since": since }));
                let mut page = Vec::new();
                let mut more = true;
                while more {
                    let mut history = app.next();
                    if history["type"] != "history" {
                        // Claude Code still answers.
                        continue;
                    }
                    assert!(history["truncated_before"].is_null(), "{history}");
                    let items = history["messages"].as_array_mut().expect("a list");
                    page.append(items);
                    more = history["more"] == true;
                }
                let Some(last) = page.last() else { break };
                since = last["seq"].as_u64().expect("it has a seq");
                messages.append(&mut page);
            }
            (session, messages)
        };
        sessions.map(history).collect()
    }

    /// Checks that what clients and Claude Code have seen is what is there.
    fn check(&self, clients: &[Client], histories: &BTreeMap<String, Vec<Value>>) -> Found {
        let (mut places, mut found) = (HashMap::new(), Found::default());
        for (session, messages) in histories {
            let mut seqs = BTreeSet::new();
            for message in messages {
                let seq = message["seq"].as_u64().expect("it has a seq");
                let before = seqs.last().copied();
                assert!(before < Some(seq), "{session}: {seq} after {before:?}");
                seqs.insert(seq);
                let content = message["content"].as_str().expect("it has a content");
                self.see(session, &message["seq"], content);
                if message["role"] == "user" {
                    let other = places.insert((session.clone(), content.to_owned()), seq);
                    assert_eq!(other, None, "{content} is there once");
                }
            }
            let seen = self.seen.lock();
            let of_session = seen.iter().filter(|((other, _), _)| other == session);
            let gone = of_session.filter(|((_, seq), _)| !seqs.contains(seq));
            found.gone += gone.count();
        }
        let given = self.given.lock();
        let mut runs: HashMap<&str, Vec<u64>> = HashMap::new();
        for (content, run) in given.iter() {
            runs.entry(content).or_default().push(*run);
        }
        for client in clients {
            let mut before = 0;
            for (number, state) in &client.told {
                let content = client.content(*number);
                let place = places.get(&(client.session.clone(), content.clone()));
                let place =
                    *place.unwrap_or_else(|| panic!("{content} was told {state} and is gone"));
                assert!(place > before, "{content} is after the one before");
                before = place;
                *found.states.entry(state.clone()).or_default() += 1;
                let runs = runs.get(&*content).map_or(&[][..], |runs| runs);
                if let [.., before, last] = runs {
                    found.twice += 1;
                    // The server was killed before it was on disk, and its sender knew nothing and sent it again.
                    let told_by = client.told_by[number];
                    assert!(
                        before < last && *before < told_by,
                        "{content} in {runs:?}, told by {told_by}"
                    );
                }
                assert!(
                    !runs.is_empty() || state == "lost",
                    "{content} is {state} and was never given"
                );
            }
            assert_eq!(told_numbers(client), (1..=client.sent).collect::<Vec<_>>());
            // Claude Code was given them in their order.
            let own = given.iter();
            let own = own.filter_map(|(content, run)| Some((*run, client.number(content)?)));
            let own: Vec<_> = own.collect();
            assert!(own.is_sorted_by(|a, b| a < b), "{}: {own:?}", client.name);
        }
        found
    }
}

fn told_numbers(client: &Client) -> Vec<u64> {
    client.told.keys().copied().collect()
}

/// A server, and a Claude Code that ends with it.
struct AgentRun {
    server: Server,
    thread: Option<JoinHandle<Vec<String>>>,
    address: SocketAddr,
    run: u64,
}

impl AgentRun {
    /// Starts a server. Claude Code is ready after so many milliseconds.
    fn start(state: &State, run: u64, ready_after: u64) -> Self {
        let mut command = binary();
        command.args(["--port", "0", "--state-dir", state.path()]);
        let mut server = Server::spawn(&mut command);
        let (stdin, lines) = (server.stdin.take(), server.lines());
        let stdin = stdin.expect("its input is open");
        let thread = thread::spawn(move || {
            let ready_after = Duration::from_millis(ready_after);
            be_claude(stdin, &lines, Random(run), ready_after)
        });
        let address = server.address;
        Self {
            server,
            thread: Some(thread),
            address,
            run,
        }
    }

    /// Waits until the server listens, and tells the clients.
    fn listen(&mut self, world: &World) {
        self.address = address_in(&self.server.wait_for_log("listening on "));
        *world.address.lock() = Some((self.address, self.run));
    }

    fn kill(mut self, world: &World) {
        self.server.child().kill().expect("the server runs");
        self.server.child().wait().expect("it was started here");
        self.settle(world);
    }

    fn end(mut self, world: &World) {
        let pid = self.server.process();
        kill_process(pid, Signal::TERM).expect("it runs");
        let (status, _) = self.server.wait_for_exit();
        let log: Vec<String> = self.server.log.try_iter().collect();
        assert!(status.success(), "{status}: {log:#?}");
        self.settle(world);
    }

    /// Records what Claude Code was given.
    fn settle(&mut self, world: &World) {
        *world.address.lock() = None;
        let thread = self.thread.take().expect("it ends once");
        let given = thread.join().expect("the lines are JSON");
        let given = given.into_iter().map(|content| (content, self.run));
        world.given.lock().extend(given);
        while let Ok(line) = self.server.log.try_recv() {
            let is_bad = line.contains("damaged") || line.contains("panicked");
            assert!(!is_bad, "{line}");
        }
    }
}

/// Reads what the server writes until it ends, and answers two messages out of three. Returns the messages.
fn be_claude(
    mut stdin: Stdin,
    lines: &Receiver<Value>,
    mut random: Random,
    ready_after: Duration,
) -> Vec<String> {
    let mut send = |line: Value| {
        // The server may be dead.
        let _ = stdin.write_all(format!("{line}\n").as_bytes());
        let _ = stdin.flush();
    };
    thread::sleep(ready_after);
    let agent = json!({ "name": "claude-code", "version": "2.1.330" });
    let params = json!({ "protocolVersion": "2025-11-25", "clientInfo": agent });
    send(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }));
    send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    let mut given = Vec::new();
    for line in lines {
        let params = &line["params"];
        let Some(content) = params["content"].as_str() else {
            // The end of a line may be missing.
            continue;
        };
        given.push(content.to_owned());
        if content == "begin" || random.below(3) > 0 {
            let meta = &params["meta"];
            let arguments = json!({
                "chat_id": meta["chat_id"], "text": format!("re {content}"), "reply_to": meta["message_id"],
            });
            let params = json!({ "name": "reply", "arguments": arguments });
            send(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }));
        }
    }
    given
}

/// A client, over all servers.
struct Client {
    name: String,
    session: String,
    /// The number of its newest message.
    sent: u64,
    /// Its messages that it was told something of, and what last.
    told: BTreeMap<u64, String>,
    /// The run of the server that told it of each first.
    told_by: BTreeMap<u64, u64>,
    /// The run of the server that it is connected to.
    run: u64,
    random: Random,
    world: Arc<World>,
}

impl Client {
    fn start(number: u64, seed: u64, world: &Arc<World>) -> JoinHandle<Self> {
        let mut client = Self {
            name: format!("c{number}"),
            session: format!("s{}", number % SESSIONS),
            sent: 0,
            told: BTreeMap::new(),
            told_by: BTreeMap::new(),
            run: 0,
            random: Random(seed + 1_000 + number),
            world: world.clone(),
        };
        thread::spawn(move || {
            client.run();
            client
        })
    }

    fn content(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }

    /// Returns the number of its message.
    fn number(&self, content: &str) -> Option<u64> {
        let number = content.strip_prefix(&*self.name)?.strip_prefix('-')?;
        number.parse().ok()
    }

    fn run(&mut self) {
        let mut deadline = None;
        loop {
            let is_ending = self.world.is_ending.load(Ordering::Relaxed);
            if is_ending && self.is_settled() {
                return;
            }
            if is_ending {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + 3 * TEST_TIMEOUT);
                assert!(
                    Instant::now() < deadline,
                    "{} of {}: {:?}",
                    self.name,
                    self.sent,
                    self.told
                );
            }
            let address = *self.world.address.lock();
            let socket = address.and_then(|(address, _)| connect(address, &self.session));
            if let Some((mut socket, (_, run))) = socket.zip(address) {
                self.run = run;
                self.visit(&mut socket);
            } else {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Returns `true` if it knows what became of everything.
    fn is_settled(&self) -> bool {
        let is_known = |state: &String| state != "queued";
        self.told.len() as u64 == self.sent && self.told.values().all(is_known)
    }

    /// Uses a connection until the server has gone.
    fn visit(&mut self, socket: &mut Socket) {
        if self.catch_up(socket).is_none() {
            return;
        }
        loop {
            let is_ending = self.world.is_ending.load(Ordering::Relaxed);
            if is_ending && self.is_settled() {
                return;
            }
            let open = self.sent as usize - self.told.len();
            if !is_ending && open < WINDOW && self.random.below(3) > 0 {
                self.sent += 1;
                if self.send(socket, self.sent).is_none() {
                    return;
                }
                continue;
            }
            let patience = Duration::from_millis(1 + self.random.below(5));
            match read(socket, patience) {
                Ok(frame) => self.receive(&frame),
                Err(true) => {}
                Err(false) => return,
            }
        }
    }

    /// Does what a client does that has been away.
    fn catch_up(&mut self, socket: &mut Socket) -> Option<()> {
        let fetch = json!({ "type": "fetch_history", "limit": 20 });
        socket.send(Message::text(fetch.to_string())).ok()?;
        for number in 1..=self.sent {
            match self.told.get(&number).map(String::as_str) {
                None => self.send(socket, number)?,
                Some("queued" | "accepted") => {
                    let fetch = json!({ "type": "fetch_receipt", "id": self.content(number) });
                    socket.send(Message::text(fetch.to_string())).ok()?;
                }
                // Some are asked for though they are known.
                Some(_) if self.sent - number < 20 && self.random.below(4) == 0 => {
                    let fetch = json!({ "type": "fetch_receipt", "id": self.content(number) });
                    socket.send(Message::text(fetch.to_string())).ok()?;
                }
                Some(_) => {}
            }
        }
        Some(())
    }

    fn send(&self, socket: &mut Socket, number: u64) -> Option<()> {
        let content = self.content(number);
        let message = json!({ "type": "message", "content": content, "id": content });
        socket.send(Message::text(message.to_string())).ok()
    }

    fn receive(&mut self, frame: &Value) {
        let content = frame["content"].as_str().unwrap_or_default();
        match frame["type"].as_str() {
            Some("delivery") => {
                let id = frame["id"].as_str().expect("it has an id");
                let number = self.number(id).expect("it is one of its own");
                if frame["code"] == "host_closed" {
                    // It came after the end, and is sent again.
                    let told = self.told.get(&number);
                    assert!(
                        frame["seq"].is_null() && told.is_none(),
                        "{told:?}, then {frame}"
                    );
                    return;
                }
                assert!(!frame["seq"].is_null(), "the server knows {frame}");
                self.world.see(&self.session, &frame["seq"], id);
                let state = frame["state"].as_str().expect("it has a state").to_owned();
                self.told_by.entry(number).or_insert(self.run);
                let before = self.told.insert(number, state.clone());
                let before = before.as_deref().unwrap_or("");
                assert!(follows(before, &state), "{before:?}, then {frame}");
            }
            Some("reply" | "user_message") => {
                self.world.see(&self.session, &frame["seq"], content);
            }
            Some("history") => {
                for message in frame["messages"].as_array().expect("a list") {
                    let content = message["content"].as_str().expect("it has a content");
                    self.world.see(&self.session, &message["seq"], content);
                }
            }
            Some("status" | "pong") => {}
            Some("error") if frame["code"] == "host_closed" => {}
            _ => panic!("{} received {frame}", self.name),
        }
    }
}

/// Returns `true` if a message may be in the state `now` after that before.
fn follows(before: &str, now: &str) -> bool {
    let after: &[&str] = match before {
        "" | "queued" => &["queued", "accepted", "answered", "lost"],
        "accepted" => &["accepted", "answered", "lost"],
        "answered" => &["answered"],
        // It was given, and the answer comes late.
        "lost" => &["lost"],
        _ => &[],
    };
    after.contains(&now)
}

type Socket = WebSocket<TcpStream>;

fn connect(address: SocketAddr, session: &str) -> Option<Socket> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(TEST_TIMEOUT)).ok()?;
    let (socket, _) = client(format!("ws://{address}/?session={session}"), stream).ok()?;
    Some(socket)
}

/// Returns the next frame; `Err(true)` if none comes in time, and `Err(false)` if the server has gone.
fn read(socket: &mut Socket, patience: Duration) -> Result<Value, bool> {
    socket
        .get_ref()
        .set_read_timeout(Some(patience))
        .expect("the timeout is valid");
    match socket.read() {
        Ok(Message::Text(text)) => Ok(serde_json::from_str(&text).expect("a frame is JSON")),
        Ok(Message::Close(_)) => Err(false),
        Ok(_) => Err(true),
        Err(tungstenite::Error::Io(error)) => {
            use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
            Err(matches!(error.kind(), Interrupted | TimedOut | WouldBlock))
        }
        Err(_) => Err(false),
    }
}

/// Cuts the power at random moments: what programs had not written through to the disk is gone then.
#[test]
fn power_cuts_take_nothing_that_was_queued() {
    let seed = SystemTime::UNIX_EPOCH.elapsed();
    let seed = seed.expect("the clock is past 1970").as_secs();
    println!("seed {seed}");
    let mut random = Random(seed);
    let Some(mut disk) = Disk::of_image(24) else {
        return;
    };
    let (mut seen, mut queued) = (HashMap::new(), Vec::new());
    let (mut sent, mut gone) = (0, 0);
    for round in 0..6 {
        let mut server = disk.server(&[]);
        // Claude Code is there, or it isn't, and then everything waits.
        let is_there = round % 2 == 1;
        if is_there {
            server.initialize();
            while !queued.is_empty() {
                queued.remove(0);
                server.next_message();
            }
        }
        let mut app = App::connect(&server, "s1");
        for _ in 0..10 + random.below(200) {
            sent += 1;
            let content = format!("text {sent}");
            app.send(&json!({ "type": "message", "content": content, "id": content }));
            if is_there {
                server.next_message();
            }
            let delivery = app.expect("delivery");
            let seq = delivery["seq"].as_u64().expect("it has a seq");
            let other = seen.insert(seq, content.clone());
            assert_eq!(other, None, "seq {seq} is that of {content} alone");
            match delivery["state"].as_str() {
                Some("queued") => queued.push(content),
                Some("accepted") if is_there => {}
                _ => panic!("{delivery}"),
            }
        }
        kill_process(server.process(), Signal::STOP).expect("it runs");
        server.wait_for_state('T');
        let Some(after) = disk.after_power_cut() else {
            panic!("what was on the disk cannot be mounted");
        };
        drop(server);
        disk = after;
        let server = disk.server(&[]);
        let mut app = App::connect(&server, "s1");
        let (mut before, mut since, mut there) = (0, 0, Vec::new());
        loop {
            app.send(&json!({ "type": "fetch_history", "limit": 100, "since": since }));
            let history = app.expect("history");
            for message in history["messages"].as_array().expect("a list") {
                let seq = message["seq"].as_u64().expect("it has a seq");
                assert!(seq > before, "{seq} after {before}");
                before = seq;
                let content = message["content"].as_str().expect("it has a content");
                assert_eq!(seen.get(&seq).map(String::as_str), Some(content));
                there.push(content.to_owned());
            }
            if before == since {
                break;
            }
            since = before;
        }
        for content in &queued {
            assert!(there.contains(content), "{content} was queued and is gone");
        }
        gone = seen.len() - there.len();
    }
    println!("{sent} messages; {gone} of those that were not queued are gone");
}
