//! How long a client waits while others ask for as much as they can.
//!
//! Each case has a server of its own, a load (`flood`), and a client in another session that pings,
//! says something and asks for `/healthz`, one after the other. With a load, none of it should take
//! 100 ms at p99.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, QUESTION, message_frame, message_frame_of, text_frame};
use crate::figures::{Figure, Samples, Unit};
use crate::flood::{ask_always, ask_unread, send_always, send_to_slow};
use crate::options::Workload;
use crate::server::{Result, Server, TIMEOUT, Target};

/// The time between two rounds of the client.
const PAUSE: Duration = Duration::from_millis(2);
/// Messages or pings in one write of a client that floods.
const BATCH_SIZE: usize = 100;
/// The bytes of the text of the longest message that a server takes by default (docs/limits.md), less
/// what is around it.
const LONGEST: usize = 448 * 1024 - 256;
/// The bytes of a text that is too long, and read all the same.
const TOO_LONG: usize = 1_000_000;
/// A hundred of these fill the history of a session by default: 1 MiB.
const HISTORY_TEXT: usize = 10_000;
/// A little less than the sessions that one connection may begin by default.
const SESSIONS_OF_ONE: usize = 4_990;
/// How often slow clients get the longest message.
const SLOW_INTERVAL: Duration = Duration::from_millis(100);
/// What a slow client reads, in bytes a second: nearly what it gets, so that all of them always have a backlog.
const SLOW_RATE: usize = 4_000_000;
/// The names of what the client waits for.
const WAITS: [&str; 3] = ["ping", "message", "/healthz"];

/// Asks for the longest answer.
const FETCH_HISTORY: &[u8] = br#"{"type":"fetch_history","limit":100}"#;

/// Runs until the flag is set.
type Load = Box<dyn FnOnce(&AtomicBool) -> Result<()> + Send>;

/// A load by its name, and what it needs before.
struct Case {
    name: String,
    prepare: Box<dyn Fn(SocketAddr) -> Result<Load>>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        prepare: impl Fn(SocketAddr) -> Result<Load> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            prepare: Box::new(prepare),
        }
    }
}

fn cases(workload: &Workload) -> Vec<Case> {
    let many = workload.clients;
    let few = many / 10;
    let list_sessions = br#"{"type":"list_sessions"}"#;
    let escaped = "\\u0001";
    vec![
        Case::new("nobody else", |_| Ok(Box::new(rest))),
        Case::new("one client: the longest messages", |server| {
            flood(server, 1, message_frame_of("flood-0", &"x".repeat(LONGEST)))
        }),
        Case::new("one client: the longest messages, of <", |server| {
            flood(server, 1, message_frame_of("flood-0", &"<".repeat(LONGEST)))
        }),
        Case::new("one client: messages that are too long", |server| {
            flood(
                server,
                1,
                message_frame_of("flood-0", &"x".repeat(TOO_LONG)),
            )
        }),
        Case::new("4 clients: pings without end", |server| {
            flood(server, 4, ping().repeat(BATCH_SIZE))
        }),
        Case::new("4 clients: messages without end", |server| {
            flood(server, 4, message_frame("flood").repeat(BATCH_SIZE))
        }),
        Case::new(
            format!("{few} members: messages without end"),
            move |server| flood_session(server, few, few),
        ),
        Case::new(
            format!("{few} of {many} members: messages without end"),
            move |server| flood_session(server, few, many),
        ),
        Case::new(
            format!("{few} slow members: the longest messages"),
            move |server| {
                let sender = Client::join(server, "slow")?;
                let others = join(server, few, |_| "slow".into())?;
                let frame = message_frame_of("slow", &"x".repeat(LONGEST));
                Ok(Box::new(move |stop| {
                    send_to_slow(sender, &others, &frame, SLOW_INTERVAL, SLOW_RATE, stop)
                }))
            },
        ),
        Case::new(format!("{many} members: pings"), move |server| {
            let clients = join(server, many, |_| "pings".into())?;
            Ok(Box::new(move |stop| ask_always(clients, &ping(), stop)))
        }),
        Case::new(
            format!("{many} clients: lists of 10,000 sessions"),
            move |server| {
                fill_sessions(server)?;
                ask(server, many, list_sessions)
            },
        ),
        Case::new(format!("{many} clients: long histories"), move |server| {
            fill_history(server, &"x".repeat(HISTORY_TEXT))?;
            ask(server, many, FETCH_HISTORY)
        }),
        Case::new(
            format!("{many} clients: long histories, all escaped"),
            move |server| {
                fill_history(server, &escaped.repeat(HISTORY_TEXT))?;
                ask(server, many, FETCH_HISTORY)
            },
        ),
        Case::new(
            "300 clients: long histories that they don't read",
            |server| {
                fill_history(server, &"x".repeat(HISTORY_TEXT))?;
                let requests = text_frame(FETCH_HISTORY).repeat(BATCH_SIZE);
                Ok(Box::new(move |stop| {
                    ask_unread(server, 300, "long", &requests, stop)
                }))
            },
        ),
    ]
}

/// Measures each case as long as a rate under full load.
pub fn fairness(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    // What is on its way to slow clients counts as memory of the server there.
    if target.limits.is_some() {
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for Case { name, prepare } in cases(workload) {
        let measured = target.measure(|server| measure(server, &prepare, workload.load_time));
        let (cpu, waits) = measured.map_err(|error| format!("{name}: {error}"))?;
        figures.push(Figure::new(format!("{name}; CPU"), cpu, Unit::Cores));
        for (what, mut samples) in WAITS.iter().zip(waits) {
            for (rank, of) in [(0.5, "p50"), (0.99, "p99"), (1.0, "slowest")] {
                let name = format!("  {what}, {of}");
                figures.push(Figure::new(name, samples.percentile(rank), Unit::Seconds));
            }
        }
    }
    Ok(figures)
}

/// Returns how many processors the server has used, and the waits of the client.
fn measure(
    server: &mut Server,
    prepare: impl Fn(SocketAddr) -> Result<Load>,
    duration: Duration,
) -> Result<(f64, [Samples; 3])> {
    let Some((stdin, mut stdout)) = server.agent.take_pipes() else {
        return Err("the server's pipes are in use".into());
    };
    // The thread ends with the server.
    thread::spawn(move || {
        let mut lines = vec![0; 256 * 1024];
        while stdout.read(&mut lines).is_ok_and(|read| read > 0) {}
    });
    let mut probe = Probe::join(server.address)?;
    let load = prepare(server.address)?;
    let stop = AtomicBool::new(false);
    let (start, cpu) = (Instant::now(), server.processes.cpu());
    let cpu = thread::scope(|scope| {
        let load = scope.spawn(|| load(&stop));
        let probed = probe.sample_for(duration);
        let cpu = server.processes.cpu() - cpu;
        stop.store(true, Relaxed);
        load.join().map_err(|_| "the load panicked".to_owned())??;
        probed.map(|()| cpu / start.elapsed().as_secs_f64())
    })?;
    drop(stdin);
    server.end();
    Ok((cpu, probe.waits))
}

/// The client that waits.
struct Probe {
    client: Client,
    server: SocketAddr,
    /// Messages so far.
    messages: usize,
    /// In seconds, of each of [`WAITS`].
    waits: [Samples; 3],
}

impl Probe {
    fn join(server: SocketAddr) -> Result<Self> {
        Ok(Self {
            client: Client::join(server, "probe")?,
            server,
            messages: 0,
            waits: Default::default(),
        })
    }

    fn sample_for(&mut self, duration: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < duration {
            self.sample()?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<()> {
        let start = Instant::now();
        self.client.send(&ping())?;
        self.client.wait_for("pong")?;
        self.waits[0].push(start.elapsed().as_secs_f64());

        self.messages += 1;
        let message = format!(
            r#"{{"type":"message","content":"{QUESTION}","id":"{}"}}"#,
            self.messages
        );
        let start = Instant::now();
        self.client.send(&text_frame(message.as_bytes()))?;
        // Claude Code has it.
        self.client.wait_for("accepted")?;
        self.waits[1].push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        get_health(self.server).map_err(|error| format!("/healthz isn't answered ({error})"))?;
        self.waits[2].push(start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Asks for `/healthz` on a connection of its own, as health checks do.
fn get_health(server: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let status = answer.lines().next().unwrap_or_default();
    Err(io::Error::other(status.to_owned()))
}

fn ping() -> Vec<u8> {
    text_frame(br#"{"type":"ping"}"#)
}

/// A load of nothing.
fn rest(stop: &AtomicBool) -> Result<()> {
    while !stop.load(Relaxed) {
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn join(
    server: SocketAddr,
    count: usize,
    session: impl Fn(usize) -> String,
) -> Result<Vec<Client>> {
    let clients = (0..count).map(|n| Client::join(server, &session(n)));
    clients.collect()
}

/// Returns a load of clients that send without end, each connected to a session of its own.
fn flood(server: SocketAddr, count: usize, frames: Vec<u8>) -> Result<Load> {
    let clients = join(server, count, |n| format!("flood-{n}"))?;
    Ok(Box::new(move |stop| {
        send_always(clients, count, &frames, stop)
    }))
}

/// Returns a load of messages without end from some of the members of a session.
fn flood_session(server: SocketAddr, senders: usize, members: usize) -> Result<Load> {
    let clients = join(server, members, |_| "flood".into())?;
    let messages = message_frame("flood").repeat(BATCH_SIZE);
    Ok(Box::new(move |stop| {
        send_always(clients, senders, &messages, stop)
    }))
}

/// Returns a load of members of the session `long` that ask again when they are answered.
fn ask(server: SocketAddr, count: usize, request: &[u8]) -> Result<Load> {
    let clients = join(server, count, |_| "long".into())?;
    // The pong comes after all of the answer.
    let requests = [text_frame(request), ping()].concat();
    Ok(Box::new(move |stop| ask_always(clients, &requests, stop)))
}

/// Begins nearly 10,000 sessions.
fn fill_sessions(server: SocketAddr) -> Result<()> {
    for client in 0..2 {
        let sessions =
            (0..SESSIONS_OF_ONE).map(|n| message_frame(&format!("session-{client}-{n}")));
        say(server, sessions)?;
    }
    Ok(())
}

/// Fills the history of the session `long`.
fn fill_history(server: SocketAddr, text: &str) -> Result<()> {
    let message = message_frame_of("long", text);
    say(server, (0..100).map(|_| message.clone()))
}

/// Sends messages, and returns when the server has taken all.
fn say(server: SocketAddr, messages: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let mut client = Client::join(server, "long")?;
    for message in messages {
        client.send(&message)?;
    }
    client.send(&ping())?;
    client.wait_for("pong")
}
