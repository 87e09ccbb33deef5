//! As much as goes: messages of clients a second, deliveries to clients a second, and what CPU time
//! each of them takes.
//!
//! Both send for a while before the clock runs, and go on while it runs, so that neither the
//! start nor the end is in the figure.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};

use crate::agent::reply;
use crate::client::{Client, message};
use crate::client_pool::ClientPool;
use crate::figures::{Figure, Unit};
use crate::options::Effort;
use crate::process::Tree;
use crate::server::{Outcome, Server, Target};

/// How many messages or replies are written at once. A writer that makes a system call for each
/// would be slower than the server.
const BATCH: usize = 100;
/// How many batches of replies may be on their way. It must be enough to keep the server at work,
/// and so little that a client which is a moment late isn't one that reads too slowly.
const WINDOW: usize = 20;

/// Messages of one client, and of four at once.
pub fn messages(target: &Target, effort: &Effort) -> Outcome<Vec<Figure>> {
    let mut figures = Vec::new();
    for (clients, whose) in [(1, "one client"), (4, "four clients")] {
        let (rate, cpu) = target.measure(|server| said(server, clients, effort))?;
        figures.push(Figure::new(
            format!("messages of {whose}"),
            rate,
            Unit::PerSecond,
        ));
        figures.push(Figure::new("  CPU time of each", cpu, Unit::Seconds));
    }
    Ok(figures)
}

fn said(server: &mut Server, clients: usize, effort: &Effort) -> Outcome<(f64, f64)> {
    let clients = (0..clients).map(|n| Talker::join(server.address, n));
    let mut clients = clients.collect::<Outcome<Vec<_>>>()?;
    // It ends when the server has.
    thread::spawn(move || while clients.iter_mut().all(|client| client.talk().is_ok()) {});
    let mut clock = Clock::new(server.tree, effort);
    let mut lines = 0;
    let measured = loop {
        lines += server.agent.count_lines()?;
        if let Some(measured) = clock.look(lines) {
            break measured;
        }
    };
    server.end();
    Ok(measured)
}

/// A client that says the same again and again.
struct Talker {
    client: Client,
    batch: Vec<u8>,
}

impl Talker {
    fn join(server: SocketAddr, n: usize) -> Outcome<Self> {
        // In a session of its own, or each of them would get what the others say.
        let session = format!("talk-{n}");
        let client = Client::join(server, &session)?;
        let batch = message(&session).repeat(BATCH);
        Ok(Self { client, batch })
    }

    fn talk(&mut self) -> Outcome<()> {
        self.client.send(&self.batch)?;
        // What the server says to it, if anything, must not wait there.
        let mut buffer = [0; 16 * 1024];
        let _ = recv(&self.client.stream, &mut buffer, RecvFlags::DONTWAIT);
        Ok(())
    }
}

/// Replies to a session full of clients.
pub fn deliveries(target: &Target, effort: &Effort) -> Outcome<Vec<Figure>> {
    let count = effort.pool;
    let (rate, cpu) = target.measure(|server| {
        let pool = ClientPool::join(server.address, count, |_| "s1".into())?;
        delivered(server, pool, count, effort)
    })?;
    Ok(vec![
        Figure::new(
            format!("deliveries to {count} clients"),
            rate,
            Unit::PerSecond,
        ),
        Figure::new("  CPU time of each", cpu, Unit::Seconds),
    ])
}

fn delivered(
    server: &mut Server,
    mut pool: ClientPool,
    clients: usize,
    effort: &Effort,
) -> Outcome<(f64, f64)> {
    let Some((stdin, mut stdout)) = server.agent.take() else {
        return Err("its pipes are in use".into());
    };
    thread::spawn(move || {
        let mut answers = vec![0; 256 * 1024];
        while stdout.read(&mut answers).is_ok_and(|read| read > 0) {}
    });
    let (batches, permitted) = sync_channel(WINDOW);
    thread::spawn(move || write_batches(stdin, &permitted));
    permit(&batches, WINDOW)?;
    pool.forget();
    let mut clock = Clock::new(server.tree, effort);
    let mut deliveries = 0;
    // How many clients have the whole of each batch; the oldest that someone misses is the first.
    let mut missing = Batches::default();
    let measured = loop {
        let mut complete = 0;
        pool.read(|before, now| {
            deliveries += (now - before) as usize;
            complete += missing.got(before, now, clients);
        })?;
        permit(&batches, complete)?;
        if let Some(measured) = clock.look(deliveries) {
            break measured;
        }
    };
    // The writer ends with its last batch, and the reader when the server has ended.
    drop(batches);
    server.end();
    Ok(measured)
}

fn permit(batches: &SyncSender<()>, count: usize) -> Outcome<()> {
    (0..count).try_for_each(|_| {
        batches
            .send(())
            .map_err(|_| "it doesn't read its stdin any more".to_owned())
    })
}

fn write_batches(mut stdin: ChildStdin, permitted: &Receiver<()>) {
    let batch = reply("s1").repeat(BATCH);
    for () in permitted {
        if stdin.write_all(&batch).is_err() {
            return;
        }
    }
}

/// Which batches all clients have got.
#[derive(Default)]
struct Batches {
    /// How many clients have each.
    reached: Vec<usize>,
}

impl Batches {
    /// A client had `before` replies, and has `now`. How many batches that completes.
    fn got(&mut self, before: u64, now: u64, clients: usize) -> usize {
        let batches = before as usize / BATCH..now as usize / BATCH;
        if self.reached.len() < batches.end {
            self.reached.resize(batches.end, 0);
        }
        let reached = &mut self.reached[batches];
        reached.iter_mut().for_each(|count| *count += 1);
        reached.iter().filter(|&&count| count == clients).count()
    }
}

/// What happens between two moments.
struct Clock {
    server: Tree,
    warm: Instant,
    load: Duration,
    began: Option<(Instant, f64, usize)>,
}

impl Clock {
    fn new(server: Tree, effort: &Effort) -> Self {
        let load = Duration::from_secs_f64(effort.load);
        let warm = Instant::now() + load / 4;
        Self {
            server,
            warm,
            load,
            began: None,
        }
    }

    /// `count` things have happened by now. Once enough time has gone by, how many of them
    /// happened a second, and the CPU time of each in seconds.
    fn look(&mut self, count: usize) -> Option<(f64, f64)> {
        let now = Instant::now();
        let Some((began, cpu, first)) = self.began else {
            if now >= self.warm {
                self.began = Some((now, self.server.cpu(), count));
            }
            return None;
        };
        if now < began + self.load {
            return None;
        }
        let count = (count - first) as f64;
        let took = (now - began).as_secs_f64();
        Some((count / took, (self.server.cpu() - cpu) / count))
    }
}
