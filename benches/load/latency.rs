//! What one message takes, each way, and one reply to many clients.

use std::time::Instant;

use crate::agent::{Agent, reply};
use crate::client::{Client, message};
use crate::client_pool::ClientPool;
use crate::figures::{Figure, Samples, Unit};
use crate::options::Effort;
use crate::server::{Outcome, Server, Target};

/// Client to agent, agent to client, and there and back. One message is on its way at a
/// time.
pub fn one(target: &Target, effort: &Effort) -> Outcome<Vec<Figure>> {
    target.measure(|server| {
        let mut client = Client::join(server.address, "s1")?;
        let mut figures = there(server, &mut client, effort)?.figures("client → agent");
        figures.extend(back(server, &mut client, effort)?.figures("agent → client"));
        figures.extend(
            round_trip("s1", &mut server.agent, &mut client, effort)?.figures("round trip"),
        );
        Ok(figures)
    })
}

fn there(server: &mut Server, client: &mut Client, effort: &Effort) -> Outcome<Samples> {
    let message = message("s1");
    measure(effort.warm_up, effort.samples, || {
        let start = Instant::now();
        client.send(&message)?;
        server.agent.heard()?;
        Ok(start.elapsed().as_secs_f64())
    })
}

fn back(server: &mut Server, client: &mut Client, effort: &Effort) -> Outcome<Samples> {
    let reply = reply("s1");
    measure(effort.warm_up, effort.samples, || {
        let start = Instant::now();
        server.agent.write(&reply)?;
        client.take("reply")?;
        let took = start.elapsed().as_secs_f64();
        server.agent.answered()?;
        Ok(took)
    })
}

/// A client asks, Claude answers, the client has the answer.
fn round_trip(
    session: &str,
    agent: &mut Agent,
    client: &mut Client,
    effort: &Effort,
) -> Outcome<Samples> {
    let (message, reply) = (message(session), reply(session));
    measure(effort.warm_up, effort.samples, || {
        let start = Instant::now();
        client.send(&message)?;
        agent.heard()?;
        agent.write(&reply)?;
        client.take("reply")?;
        let took = start.elapsed().as_secs_f64();
        agent.answered()?;
        Ok(took)
    })
}

/// One reply to a session full of clients, until the last of them has it.
pub fn broadcast(target: &Target, effort: &Effort) -> Outcome<Vec<Figure>> {
    target.measure(|server| {
        let count = effort.pool;
        let mut pool = ClientPool::join(server.address, count, |_| "s1".into())?;
        let took = to_all(&mut server.agent, &mut pool, effort.broadcasts)?;
        Ok(took.figures(&format!("one reply to {count} clients, the last has it")))
    })
}

/// As often as asked for, after a tenth of that to warm up.
fn to_all(agent: &mut Agent, pool: &mut ClientPool, times: usize) -> Outcome<Samples> {
    let reply = reply("s1");
    measure(times / 10, times, || {
        let start = Instant::now();
        agent.write(&reply)?;
        pool.all_get_one()?;
        let took = start.elapsed().as_secs_f64();
        agent.answered()?;
        Ok(took)
    })
}

fn measure(
    warm_up: usize,
    samples: usize,
    mut once: impl FnMut() -> Outcome<f64>,
) -> Outcome<Samples> {
    for _ in 0..warm_up {
        once()?;
    }
    let mut all = Samples::default();
    for _ in 0..samples {
        all.push(once()?);
    }
    Ok(all)
}

/// How latency and memory grow with the number of clients: that of a reply to all of them, and
/// that of one more client in a session of its own. These are the points of the plot.
pub fn growth(target: &Target, effort: &Effort) -> Outcome<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut count = 1;
    loop {
        // Each number on a server that nothing has happened to yet.
        figures.extend(target.measure(|server| with(count, server, effort))?);
        if count >= target.most(effort) {
            return Ok(figures);
        }
        count = (count * 10).min(target.most(effort));
    }
}

fn with(count: usize, server: &mut Server, effort: &Effort) -> Outcome<Vec<Figure>> {
    let mut pool = ClientPool::join(server.address, count, |_| "s1".into())?;
    let memory = server.tree.memory();
    // A tenth of the usual samples: here only their middle counts.
    let times = (effort.samples / 10).clamp(10, (1_000_000 / count).max(20));
    let mut all = to_all(&mut server.agent, &mut pool, times)?;
    let mut client = Client::join(server.address, "own")?;
    let effort = Effort {
        warm_up: effort.warm_up / 4,
        samples: effort.samples / 4,
        ..*effort
    };
    let mut own = round_trip("own", &mut server.agent, &mut client, &effort)?;
    let figure =
        |what, value, unit| Figure::new(format!("{what} with {count} clients"), value, unit);
    Ok(vec![
        figure(ROUND_TRIP, own.p50(), Unit::Seconds),
        figure(TO_ALL, all.p50(), Unit::Seconds),
        figure(MEMORY, memory.resident, Unit::Bytes),
    ])
}

/// What the figures of [`growth`] begin with.
pub const ROUND_TRIP: &str = "round trip";
/// The second of them.
pub const TO_ALL: &str = "reply to all";
/// The third.
pub const MEMORY: &str = "memory";
