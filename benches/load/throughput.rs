//! Messages of clients a second, deliveries to clients a second, and the CPU time of each, under full
//! load.
//!
//! The load starts before the measurement and ends after it, so that neither the start nor the end
//! is in the figures.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};

use crate::agent::reply_call;
use crate::client::{Client, message_frame};
use crate::client_pool::ClientPool;
use crate::figures::{Figure, Unit};
use crate::options::Workload;
use crate::process::ProcessTree;
use crate::server::{Result, Server, Target};

/// Messages or replies in one write. A writer with a system call for each would be slower than the
/// server.
const BATCH_SIZE: usize = 100;
/// The most batches of replies in flight. Enough to keep the server busy, and so few that it doesn't
/// take a client which is a moment late for one that reads too slowly.
const MAX_IN_FLIGHT: usize = 20;

/// Measures messages of one client, and of four at once.
pub fn messages(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (clients, whose) in [(1, "one client"), (4, "four clients")] {
        let (rate, cpu) = target.measure(|server| measure_messages(server, clients, workload))?;
        figures.push(Figure::new(
            format!("messages of {whose}"),
            rate,
            Unit::PerSecond,
        ));
        figures.push(Figure::new("  CPU time of each", cpu, Unit::Seconds));
    }
    Ok(figures)
}

fn measure_messages(
    server: &mut Server,
    clients: usize,
    workload: &Workload,
) -> Result<(f64, f64)> {
    let clients = (0..clients).map(|n| BatchSender::join(server.address, n));
    let mut clients = clients.collect::<Result<Vec<_>>>()?;
    // The thread ends with the server.
    thread::spawn(move || while clients.iter_mut().all(|client| client.send_batch().is_ok()) {});
    let mut meter = RateMeter::new(server.processes, workload);
    let mut lines = 0;
    let measured = loop {
        lines += server.agent.count_available_lines()?;
        if let Some(measured) = meter.update(lines) {
            break measured;
        }
    };
    server.end();
    Ok(measured)
}

/// A client that sends the same batch again and again.
struct BatchSender {
    client: Client,
    batch: Vec<u8>,
}

impl BatchSender {
    fn join(server: SocketAddr, n: usize) -> Result<Self> {
        // In a session of its own: in the same one each would get the messages of the others.
        let session = format!("talk-{n}");
        let client = Client::join(server, &session)?;
        let batch = message_frame(&session).repeat(BATCH_SIZE);
        Ok(Self { client, batch })
    }

    fn send_batch(&mut self) -> Result<()> {
        self.client.send(&self.batch)?;
        // Discards what the server sends, so that it never waits for this client.
        let mut buffer = [0; 16 * 1024];
        let _ = recv(&self.client.stream, &mut buffer, RecvFlags::DONTWAIT);
        Ok(())
    }
}

/// Measures deliveries of replies to all clients of a session.
pub fn deliveries(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    let count = workload.clients;
    let (rate, cpu) = target.measure(|server| {
        let pool = ClientPool::join(server.address, count, |_| "s1".into())?;
        measure_deliveries(server, pool, count, workload)
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

fn measure_deliveries(
    server: &mut Server,
    mut pool: ClientPool,
    clients: usize,
    workload: &Workload,
) -> Result<(f64, f64)> {
    let Some((stdin, mut stdout)) = server.agent.take_pipes() else {
        return Err("the server's pipes are in use".into());
    };
    thread::spawn(move || {
        let mut answers = vec![0; 256 * 1024];
        while stdout.read(&mut answers).is_ok_and(|read| read > 0) {}
    });
    let (credits_sender, credits) = sync_channel(MAX_IN_FLIGHT);
    thread::spawn(move || write_batches(stdin, &credits));
    add_credits(&credits_sender, MAX_IN_FLIGHT)?;
    pool.reset_counts();
    let mut meter = RateMeter::new(server.processes, workload);
    let mut deliveries = 0;
    let mut tracker = BatchTracker::default();
    let measured = loop {
        let mut complete = 0;
        pool.read_ready(|before, now| {
            deliveries += (now - before) as usize;
            complete += tracker.record(before, now, clients);
        })?;
        add_credits(&credits_sender, complete)?;
        if let Some(measured) = meter.update(deliveries) {
            break measured;
        }
    };
    // The writer ends when there are no more credits, the reader with the server.
    drop(credits_sender);
    server.end();
    Ok(measured)
}

/// Lets the writer send `count` more batches.
fn add_credits(credits: &SyncSender<()>, count: usize) -> Result<()> {
    (0..count).try_for_each(|_| {
        credits
            .send(())
            .map_err(|_| "the server no longer reads its stdin".to_owned())
    })
}

/// Writes a batch of replies for each credit.
fn write_batches(mut stdin: ChildStdin, credits: &Receiver<()>) {
    let batch = reply_call("s1").repeat(BATCH_SIZE);
    for () in credits {
        if stdin.write_all(&batch).is_err() {
            return;
        }
    }
}

/// Counts who has received each batch.
#[derive(Default)]
struct BatchTracker {
    /// For each batch, the clients that have all of it.
    reached: Vec<usize>,
}

impl BatchTracker {
    /// Records that a client's count of replies went from `before` to `now`. Returns how many batches
    /// all clients have since.
    fn record(&mut self, before: u64, now: u64, clients: usize) -> usize {
        let batches = before as usize / BATCH_SIZE..now as usize / BATCH_SIZE;
        if self.reached.len() < batches.end {
            self.reached.resize(batches.end, 0);
        }
        let reached = &mut self.reached[batches];
        reached.iter_mut().for_each(|count| *count += 1);
        reached.iter().filter(|&&count| count == clients).count()
    }
}

/// Measures the rate of a counter, and the server's CPU time for each count.
struct RateMeter {
    server: ProcessTree,
    warm_up_end: Instant,
    duration: Duration,
    /// When the measurement started, with the CPU time in seconds and the count of then.
    started: Option<(Instant, f64, usize)>,
}

impl RateMeter {
    fn new(server: ProcessTree, workload: &Workload) -> Self {
        let duration = workload.load_time;
        let warm_up_end = Instant::now() + duration / 4;
        Self {
            server,
            warm_up_end,
            duration,
            started: None,
        }
    }

    /// Takes the total count of now. Returns the rate a second and the seconds of CPU time of each
    /// when the measurement is over.
    fn update(&mut self, count: usize) -> Option<(f64, f64)> {
        let now = Instant::now();
        let Some((started, cpu, first)) = self.started else {
            if now >= self.warm_up_end {
                self.started = Some((now, self.server.cpu(), count));
            }
            return None;
        };
        if now < started + self.duration {
            return None;
        }
        let count = (count - first) as f64;
        let took = (now - started).as_secs_f64();
        Some((count / took, (self.server.cpu() - cpu) / count))
    }
}
