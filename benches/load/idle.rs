//! The start of a server, its memory, and the cost of idle clients.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::client_pool::ClientPool;
use crate::figures::{Figure, Samples, Unit};
use crate::options::Workload;
use crate::process::Memory;
use crate::server::{Result, Server, Target};

/// Measures from the start of the process until the result of `initialize`, and until a client's
/// WebSocket handshake is done. Each has starts of its own, because trying the port again and again
/// takes CPU time from the server.
pub fn start(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    let (mut initialize, mut port) = (Samples::default(), Samples::default());
    for n in 0..=workload.starts {
        let answered = time_start(target, |server| server.agent.initialize())?;
        let listens = time_start(target, |server| {
            // Some servers don't listen before the agent's first line.
            server.agent.send_initialize()?;
            server.wait_for_port()?;
            Client::connect(server.address, "s1").map(drop)
        })?;
        // The first start is left out: it reads the program from the disk.
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

/// Returns the seconds from the start of a server to the end of `act`.
fn time_start(target: &Target, act: impl FnOnce(&mut Server) -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    let mut server = target.spawn()?;
    let done = act(&mut server);
    let took = start.elapsed().as_secs_f64();
    done.map_err(|error| server.explain(error))?;
    Ok(took)
}

/// Measures the memory of a server without clients, and the size of its program.
pub fn idle(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    target.measure(|server| {
        settle(workload);
        let memory = server.processes.memory();
        let program = server.processes.program().unwrap_or(f64::NAN);
        Ok(vec![
            Figure::new("memory, idle (VmRSS)", memory.resident, Unit::Bytes),
            Figure::new("  its own part (RssAnon)", memory.own, Unit::Bytes),
            Figure::new("program, without what it loads", program, Unit::Bytes),
        ])
    })
}

/// Measures memory and CPU time with idle clients: 1,000 and 10,000 in one session, and 9,999 with a
/// session each.
pub fn clients(target: &Target, workload: &Workload) -> Result<Vec<Figure>> {
    let most = target.max_clients(workload);
    let mut figures = idle_clients(
        target,
        workload.clients,
        "clients",
        |_| "s1".into(),
        workload,
    )?;
    if most > workload.clients {
        figures.extend(idle_clients(
            target,
            most,
            "clients",
            |_| "s1".into(),
            workload,
        )?);
    }
    // One less than the sessions that a server must allow.
    let sessions = most - 1;
    figures.extend(idle_clients(
        target,
        sessions,
        "clients in a session each",
        |n| format!("s{n}"),
        workload,
    )?);
    Ok(figures)
}

fn idle_clients(
    target: &Target,
    count: usize,
    who: &str,
    session: impl Fn(usize) -> String,
    workload: &Workload,
) -> Result<Vec<Figure>> {
    target.measure(|server| {
        settle(workload);
        let before = server.processes.memory();
        let pool = ClientPool::join(server.address, count, session)?;
        settle(workload);
        let during = server.processes.memory();
        let cpu = server.processes.cpu();
        thread::sleep(workload.idle_time);
        let cpu = (server.processes.cpu() - cpu) / workload.idle_time.as_secs_f64();
        drop(pool);
        settle(workload);
        let after = server.processes.memory();
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

/// Gives the server time to become idle: a fifth of the idle time, at least 300 ms.
fn settle(workload: &Workload) {
    thread::sleep((workload.idle_time / 5).max(Duration::from_millis(300)));
}
