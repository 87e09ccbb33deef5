//! The latency of one message in each direction, and of one reply to many clients.

use std::time::Instant;

use crate::agent::{Agent, reply_call};
use crate::client::{Client, message_frame};
use crate::client_pool::ClientPool;
use crate::figures::{Figure, Samples, Unit};
use crate::options::Workload;
use crate::server::{Result, Server, Target};

/// Measures client to agent, agent to client, and the round trip, with one message in flight.
pub fn one_message(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    target.measure(|server| {
        let mut client = Client::join(server.address, "s1")?;
        let mut figures = to_agent(server, &mut client, workload)?.into_figures("client → agent");
        figures.extend(to_client(server, &mut client, workload)?.into_figures("agent → client"));
        figures.extend(
            round_trip("s1", &mut server.agent, &mut client, workload)?.into_figures("round trip"),
        );
        Ok(figures)
    })
}

fn to_agent(server: &mut Server, client: &mut Client, workload: &Workload) -> Result<Samples> {
    let message = message_frame("s1");
    collect_samples(workload.warm_up, workload.samples, || {
        let start = Instant::now();
        client.send(&message)?;
        server.agent.wait_for_message()?;
        Ok(start.elapsed().as_secs_f64())
    })
}

fn to_client(server: &mut Server, client: &mut Client, workload: &Workload) -> Result<Samples> {
    let reply = reply_call("s1");
    collect_samples(workload.warm_up, workload.samples, || {
        let start = Instant::now();
        server.agent.write(&reply)?;
        client.wait_for("reply")?;
        let took = start.elapsed().as_secs_f64();
        server.agent.wait_for_result()?;
        Ok(took)
    })
}

/// Measures from a client's message until it has the agent's reply.
fn round_trip(
    session: &str,
    agent: &mut Agent,
    client: &mut Client,
    workload: &Workload,
) -> Result<Samples> {
    let (message, reply) = (message_frame(session), reply_call(session));
    collect_samples(workload.warm_up, workload.samples, || {
        let start = Instant::now();
        client.send(&message)?;
        agent.wait_for_message()?;
        agent.write(&reply)?;
        client.wait_for("reply")?;
        let took = start.elapsed().as_secs_f64();
        agent.wait_for_result()?;
        Ok(took)
    })
}

/// Measures one reply to all clients of a session, until the last has it.
pub fn broadcast(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    target.measure(|server| {
        let count = workload.clients;
        let mut pool = ClientPool::join(server.address, count, |_| "s1".into())?;
        let took = broadcasts(&mut server.agent, &mut pool, workload.broadcasts)?;
        Ok(took.into_figures(&format!(
            "one reply to {count} clients, until the last has it"
        )))
    })
}

/// Measures `times` replies, after a tenth of that to warm up.
fn broadcasts(agent: &mut Agent, pool: &mut ClientPool, times: usize) -> Result<Samples> {
    let reply = reply_call("s1");
    collect_samples(times / 10, times, || {
        let start = Instant::now();
        agent.write(&reply)?;
        pool.wait_for_one_each()?;
        let took = start.elapsed().as_secs_f64();
        agent.wait_for_result()?;
        Ok(took)
    })
}

fn collect_samples(
    warm_up: usize,
    samples: usize,
    mut once: impl FnMut() -> Result<f64>,
) -> Result<Samples> {
    for _ in 0..warm_up {
        once()?;
    }
    let mut all = Samples::default();
    for _ in 0..samples {
        all.push(once()?);
    }
    Ok(all)
}

/// Measures how memory, the latency of a reply to all clients, and the round trip of one more client in
/// a session of its own grow with the number of clients. These are the points of the plot.
pub fn growth(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut count = 1;
    loop {
        // A new server for each number of clients.
        figures.extend(target.measure(|server| growth_point(count, server, workload))?);
        if count >= target.max_clients(workload) {
            return Ok(figures);
        }
        count = (count * 10).min(target.max_clients(workload));
    }
}

fn growth_point(count: usize, server: &mut Server, workload: &Workload) -> Result<Vec<Figure>> {
    let mut pool = ClientPool::join(server.address, count, |_| "s1".into())?;
    let memory = server.processes.memory();
    // A tenth of the usual samples is enough, because only their median is used.
    let times = (workload.samples / 10).clamp(10, (1_000_000 / count).max(20));
    let mut all = broadcasts(&mut server.agent, &mut pool, times)?;
    let mut client = Client::join(server.address, "own")?;
    let workload = Workload {
        warm_up: workload.warm_up / 4,
        samples: workload.samples / 4,
        ..*workload
    };
    let mut own = round_trip("own", &mut server.agent, &mut client, &workload)?;
    let figure =
        |what, value, unit| Figure::new(format!("{what} with {count} clients"), value, unit);
    Ok(vec![
        figure(ROUND_TRIP, own.p50(), Unit::Seconds),
        figure(TO_ALL, all.p50(), Unit::Seconds),
        figure(MEMORY, memory.resident, Unit::Bytes),
    ])
}

// The beginnings of the names of the figures of `growth`, by which the plot finds them.
pub const ROUND_TRIP: &str = "round trip";
pub const TO_ALL: &str = "reply to all";
pub const MEMORY: &str = "memory";
