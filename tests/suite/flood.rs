//! The end under a flood: what ends the process does not wait behind what clients send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::ExitStatus;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::app::App;
use crate::raw::Raw;
use crate::server::{Server, TEST_TIMEOUT};

/// The threads that the clients share.
const THREADS: usize = 2;
/// How often each client sends before the server is ended.
const ROUNDS: usize = 50;

/// How often each case is tried. A machine that is busy with something else can take the processor
/// away from the server for longer than the second that the end may take.
const ATTEMPTS: usize = 5;

/// What many clients do at the same time, as fast as the server lets them.
struct Flood {
    name: &'static str,
    clients: usize,
    /// What each sends, again and again.
    message: String,
    /// Claude Code reads what it gets.
    agent_reads: bool,
}

/// What ends the process.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Terminate,
    Interrupt,
    StdinEnds,
}

/// A client that sends the same frame for ever, and reads what comes.
struct Flooder {
    stream: TcpStream,
    frame: Vec<u8>,
    /// The bytes of the frame that were sent the last time.
    sent: usize,
    /// What was received and is no whole frame yet.
    received: Vec<u8>,
    close_code: Option<u16>,
}

impl Flooder {
    fn connect(server: &Server, session: &str, message: &str) -> Self {
        let stream = Raw::connect(server, session).stream;
        stream
            .set_nonblocking(true)
            .expect("a socket can be non-blocking");
        Self {
            stream,
            frame: text_frame(message),
            sent: 0,
            received: Vec::new(),
            close_code: None,
        }
    }

    /// Sends and receives what it can without waiting. Returns `false` once it is closed.
    fn go_on(&mut self) -> bool {
        if self.close_code.is_some() {
            return false;
        }
        // The server reads no further once it has closed.
        if let Ok(sent) = self.stream.write(&self.frame[self.sent..]) {
            self.sent = (self.sent + sent) % self.frame.len();
        }
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(read) => self.received.extend(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
        while let Some(end) = frame_end(&self.received) {
            let frame: Vec<u8> = self.received.drain(..end).collect();
            if let [0x88, _, high, low, ..] = frame[..] {
                self.close_code = Some(u16::from_be_bytes([high, low]));
            }
        }
        self.close_code.is_none()
    }
}

/// Returns a text frame of a client, masked with zeros (RFC 6455, section 5.2).
fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    let length = text.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// Returns how long the first frame of a server is, if it is complete.
fn frame_end(bytes: &[u8]) -> Option<usize> {
    let (head, length) = match *bytes.get(1)? {
        126 => (
            4,
            u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into(),
        ),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let end = head + usize::try_from(length).ok()?;
    (end <= bytes.len()).then_some(end)
}

fn floods() -> [Flood; 5] {
    let message = |content: &str| json!({ "type": "message", "content": content }).to_string();
    let long = message(&"x".repeat(450_000));
    let short = message("x");
    let request = |kind: &str| json!({ "type": kind }).to_string();
    let flood = |name, clients, message, agent_reads| Flood {
        name,
        clients,
        message,
        agent_reads,
    };
    [
        flood("long messages", 4, long.clone(), true),
        flood("long messages that nobody reads", 4, long, false),
        flood("short messages", 200, short, true),
        flood("pings", 1_000, request("ping"), true),
        flood("lists of sessions", 200, request("list_sessions"), true),
    ]
}

/// Ends a server while all clients send, and returns its exit status and the close codes. It ends
/// itself with another status than 0 if that takes a second.
fn end_under(flood: &Flood, cause: Cause) -> (ExitStatus, Vec<Option<u16>>) {
    let mut server = Server::start(&[]);
    let mut quiet = App::connect(&server, "quiet");
    let mut groups = [const { Vec::new() }; THREADS];
    for client in 0..flood.clients {
        let session = format!("s{client}");
        groups[client % THREADS].push(Flooder::connect(&server, &session, &flood.message));
    }
    if flood.agent_reads {
        let lines = server.lines();
        thread::spawn(move || lines.iter().for_each(drop));
    }
    let is_flooded = Barrier::new(THREADS + 1);
    let (status, mut codes) = thread::scope(|scope| {
        let threads = groups.map(|group| scope.spawn(|| close_codes(group, &is_flooded)));
        is_flooded.wait();
        match cause {
            Cause::Terminate => kill_process(server.process(), Signal::TERM).expect("it runs"),
            Cause::Interrupt => kill_process(server.process(), Signal::INT).expect("it runs"),
            Cause::StdinEnds => drop(server.stdin.take()),
        }
        let (status, _) = server.wait_for_exit();
        let codes = threads.map(|thread| thread.join().expect("the clients end"));
        (status, codes.concat())
    });
    if status.success() {
        codes.push(Some(quiet.close_code()));
    }
    (status, codes)
}

/// Lets clients send until they are closed, and returns their close codes.
fn close_codes(mut clients: Vec<Flooder>, is_flooded: &Barrier) -> Vec<Option<u16>> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut rounds = 0;
    let mut is_open = true;
    while is_open && Instant::now() < deadline {
        is_open = false;
        for client in &mut clients {
            is_open |= client.go_on();
        }
        rounds += 1;
        if rounds == ROUNDS {
            is_flooded.wait();
        }
    }
    if rounds < ROUNDS {
        // Its close codes are wrong, which the test finds.
        is_flooded.wait();
    }
    clients.iter().map(|client| client.close_code).collect()
}

#[test]
fn process_ends_in_good_order_under_a_flood() {
    for flood in floods() {
        for cause in [Cause::Terminate, Cause::Interrupt, Cause::StdinEnds] {
            let ended = |_| {
                let (status, codes) = end_under(&flood, cause);
                let is_good = status.success() && codes.iter().all(|code| *code == Some(1001));
                (!is_good).then(|| format!("{} {cause:?}: {status}, {codes:?}", flood.name))
            };
            let failures: Vec<String> = (0..ATTEMPTS).map_while(ended).collect();
            assert!(failures.len() < ATTEMPTS, "{}", failures[0]);
        }
    }
}
