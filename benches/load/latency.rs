//! What one message takes, each way, and one reply to many clients.

use std::time::Instant;

use crate::agent::{Agent, reply_call};
use crate::client::{Client, message_frame};
use crate::client_pool::ClientPool;
use crate::figures::{Figure, Samples, Unit};
use crate::options::Workload;
use crate::server::{Result, Server, Target};

/// Client to agent, agent to client, and there and back. One message is on its way at a
/// time.
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

/// A client asks, Claude answers, the client has the answer.
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

/// One reply to a session full of clients, until the last of them has it.
pub fn broadcast(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    target.measure(|server| {
        let count = workload.clients;
        let mut pool = ClientPool::join(server.address, count, |_| "s1".into())?;
        let took = one_to_all(&mut server.agent, &mut pool, workload.broadcasts)?;
        Ok(took.into_figures(&format!("one reply to {count} clients, the last has it")))
    })
}

/// As often as asked for, after a tenth of that to warm up.
fn one_to_all(agent: &mut Agent, pool: &mut ClientPool, times: usize) -> Result<Samples> {
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

/// How latency and memory grow with the number of clients: that of a reply to all of them, and
/// that of one more client in a session of its own. These are the points of the plot.
pub fn growth(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut count = 1;
    loop {
        // Each number on a server that nothing has happened to yet.
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
    // A tenth of the usual samples: here only their middle counts.
    let times = (workload.samples / 10).clamp(10, (1_000_000 / count).max(20));
    let mut all = one_to_all(&mut server.agent, &mut pool, times)?;
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

/// What the figures of [`growth`] begin with.
pub const ROUND_TRIP: &str = "round trip";
/// The second of them.
pub const TO_ALL: &str = "reply to all";
/// The third.
pub const MEMORY: &str = "memory";
