//! What a server takes when nothing happens: its start, its memory, idle clients.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::client_pool::ClientPool;
use crate::figures::{Figure, Samples, Unit};
use crate::options::Effort;
use crate::process::Memory;
use crate::server::{Outcome, Server, Target};

/// From the start of the process until `initialize` is answered, and until the port answers a
/// client's handshake. The two are taken from different starts: who tries the port again and again
/// takes CPU time from the start.
pub fn start(target: &Target, effort: &Effort) -> Outcome<Vec<Figure>> {
    let (mut initialize, mut port) = (Samples::default(), Samples::default());
    for n in 0..=effort.starts {
        let answered = timed(target, |server| server.agent.initialize())?;
        let listens = timed(target, |server| {
            // Some servers listen only after the agent has said something.
            server.agent.ask_to_initialize()?;
            server.wait_for_port()?;
            Client::open(server.address, "s1").map(drop)
        })?;
        // The first one reads the program from the disk.
        if n > 0 {
            initialize.push(answered);
            port.push(listens);
        }
    }
    Ok(vec![
        Figure::new(
            "start until initialize is answered, p50",
            initialize.p50(),
            Unit::Seconds,
        ),
        Figure::new(
            "start until the port answers, p50",
            port.p50(),
            Unit::Seconds,
        ),
    ])
}

fn timed(target: &Target, act: impl FnOnce(&mut Server) -> Outcome<()>) -> Outcome<f64> {
    let start = Instant::now();
    let mut server = target.spawn()?;
    let done = act(&mut server);
    let took = start.elapsed().as_secs_f64();
    done.map_err(|error| server.explain(error))?;
    Ok(took)
}

/// The memory of a server that nobody uses, and the size of the program.
pub fn idle(target: &Target, effort: &Effort) -> Outcome<Vec<Figure>> {
    target.measure(|server| {
        settle(effort);
        let memory = server.tree.memory();
        let program = server.tree.program().unwrap_or(f64::NAN);
        Ok(vec![
            Figure::new("memory, idle (VmRSS)", memory.resident, Unit::Bytes),
            Figure::new("  its own part (RssAnon)", memory.own, Unit::Bytes),
            Figure::new("program, without what it loads", program, Unit::Bytes),
        ])
    })
}

/// Memory and CPU time of idle clients, a thousand and ten thousand in one session, and the
/// most in a session each.
pub fn clients(target: &Target, effort: &Effort) -> Outcome<Vec<Figure>> {
    let most = target.most(effort);
    let mut figures = with(target, effort.pool, "clients", |_| "s1".into(), effort)?;
    if most > effort.pool {
        figures.extend(with(target, most, "clients", |_| "s1".into(), effort)?);
    }
    // One less than the sessions that a server has to allow.
    let alone = most - 1;
    figures.extend(with(
        target,
        alone,
        "clients in a session each",
        |n| format!("s{n}"),
        effort,
    )?);
    Ok(figures)
}

fn with(
    target: &Target,
    count: usize,
    who: &str,
    session: impl Fn(usize) -> String,
    effort: &Effort,
) -> Outcome<Vec<Figure>> {
    target.measure(|server| {
        settle(effort);
        let before = server.tree.memory();
        let pool = ClientPool::join(server.address, count, session)?;
        settle(effort);
        let during = server.tree.memory();
        let cpu = server.tree.cpu();
        thread::sleep(Duration::from_secs_f64(effort.idle));
        let cpu = (server.tree.cpu() - cpu) / effort.idle;
        drop(pool);
        settle(effort);
        let after = server.tree.memory();
        let each = |memory: fn(&Memory) -> f64| (memory(&during) - memory(&before)) / count as f64;
        Ok(vec![
            Figure::new(
                format!("{count} {who}: memory (VmRSS)"),
                during.resident,
                Unit::Bytes,
            ),
            Figure::new(
                "  memory of each (VmRSS)",
                each(|memory| memory.resident),
                Unit::Bytes,
            ),
            Figure::new(
                "  memory of each (RssAnon)",
                each(|memory| memory.own),
                Unit::Bytes,
            ),
            Figure::new("  CPU, idle", cpu, Unit::Cores),
            Figure::new(
                "  memory after they left (VmRSS)",
                after.resident,
                Unit::Bytes,
            ),
            Figure::new("  its own part (RssAnon)", after.own, Unit::Bytes),
        ])
    })
}

/// Gives it the time to finish what it has begun.
fn settle(effort: &Effort) {
    thread::sleep(Duration::from_secs_f64((effort.idle / 5.0).max(0.3)));
}
