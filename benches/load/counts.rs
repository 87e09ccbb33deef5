//! What one message costs in numbers that no clock is needed for: instructions and allocations,
//! counted by valgrind, memory of a connection, bytes of the program.
//!
//! Messages go through one at a time, and the next one only when every thread of the server
//! sleeps. Otherwise it would depend on the scheduler whether a thread finds work while it is
//! still looking for some, or sleeps and has to be woken, and how many messages one wake-up
//! takes. Two runs are compared, of which one has some hundred messages more, so start and end
//! don't count.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::agent::reply;
use crate::client::{Client, message};
use crate::client_pool::ClientPool;
use crate::process::Tree;
use crate::server::{OURS, Outcome, PATIENCE, Server, Start, Target};
use crate::watch::within;

/// The clients that get a broadcast.
const POOL: usize = 100;
/// The connections whose memory is measured.
const CONNECTIONS: usize = 1_000;
/// Messages of each kind before those that are counted: a session remembers 100, and while that
/// grows, it allocates.
const BEFORE: usize = 120;
/// Messages that are counted.
const COUNTED: usize = 400;
/// Broadcasts that are counted.
const BROADCASTS: usize = 80;

/// How often the same is counted; the least counts.
const RUNS: usize = 1;

/// How long a run may take before its server is killed.
const LIMIT: Duration = Duration::from_secs(120);

/// What is to happen in a run.
#[derive(Clone, Copy)]
struct Play {
    messages: usize,
    replies: usize,
    broadcasts: usize,
}

/// With one client, and with a pool: its threads make valgrind slow, so they are only there for
/// broadcasts.
const ONE: Play = Play {
    messages: BEFORE,
    replies: BEFORE,
    broadcasts: 0,
};
/// The other.
const ALL: Play = Play {
    messages: 0,
    replies: 0,
    broadcasts: BEFORE,
};

/// Each kind: its name, two runs, and how many more the second one has.
const KINDS: [(&str, Play, Play, usize); 3] = [
    (
        "message client to agent",
        ONE,
        Play {
            messages: BEFORE + COUNTED,
            ..ONE
        },
        COUNTED,
    ),
    (
        "reply agent to client",
        ONE,
        Play {
            replies: BEFORE + COUNTED,
            ..ONE
        },
        COUNTED,
    ),
    (
        "broadcast to 100 clients",
        ALL,
        Play {
            broadcasts: BEFORE + BROADCASTS,
            ..ALL
        },
        BROADCASTS,
    ),
];

/// A tool of valgrind's, and which number in its summary counts.
struct Tool {
    unit: &'static str,
    arguments: &'static [&'static str],
    before: &'static str,
}

const TOOLS: [Tool; 2] = [
    Tool {
        unit: "instructions",
        arguments: &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
        before: "Collected : ",
    },
    Tool {
        unit: "allocations",
        arguments: &[
            "--tool=memcheck",
            "--leak-check=no",
            "--undef-value-errors=no",
        ],
        before: "total heap usage: ",
    },
];

/// A number, and what it counts.
pub struct Count {
    /// Of what.
    pub name: String,
    /// How many.
    pub value: f64,
    /// Of which.
    pub unit: &'static str,
}

/// Why valgrind can't run here, if it can't.
pub fn valgrind() -> Result<(), String> {
    let tried = Command::new("valgrind")
        .args(["--quiet", "--tool=none", OURS, "--version"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "valgrind cannot run the program ({})",
            output.status
        )),
        Err(error) => Err(format!("valgrind cannot be started ({error})")),
    }
}

/// Instructions and allocations of each kind of message.
pub fn under_valgrind() -> Outcome<Vec<Count>> {
    // Both tools at the same time: nothing here depends on how quick anything is.
    let counted = thread::scope(|scope| {
        let tools = TOOLS.map(|tool| scope.spawn(move || tool.count()));
        tools.map(|tool| {
            tool.join()
                .unwrap_or_else(|_| Err("the count has failed".into()))
        })
    });
    let mut counts = Vec::new();
    for tool in counted {
        counts.extend(tool?);
    }
    Ok(counts)
}

impl Tool {
    fn count(&self) -> Outcome<Vec<Count>> {
        let one = self.run(ONE)?;
        let counts = KINDS.iter().map(|&(name, less, more, times)| {
            let base = if less.broadcasts == 0 {
                one
            } else {
                self.run(less)?
            };
            let value = (self.run(more)? - base) / times as f64;
            Ok(Count {
                name: name.into(),
                value,
                unit: self.unit,
            })
        });
        counts.collect()
    }

    /// One run. Who has the least is least disturbed: a timer that goes off while it runs adds
    /// to it, and nothing takes away.
    fn run(&self, play: Play) -> Outcome<f64> {
        let mut least = f64::MAX;
        for _ in 0..RUNS {
            least = least.min(self.run_once(play)?);
        }
        Ok(least)
    }

    fn run_once(&self, play: Play) -> Outcome<f64> {
        let mut around = vec!["valgrind".to_owned()];
        around.extend(self.arguments.iter().map(|&argument| argument.to_owned()));
        let name = around[..2].join(" ");
        let target = Target {
            name,
            start: Start::Under(around),
            limits: None,
        };
        let log = within(LIMIT, || {
            target.measure(|server| {
                play.on(server)?;
                Ok(server.finish())
            })
        })?;
        let count = log.split_once(self.before).and_then(|(_, rest)| {
            let digits: String = rest
                .chars()
                .take_while(|&c| c.is_ascii_digit() || c == ',')
                .filter(|&c| c != ',')
                .collect();
            digits.parse().ok()
        });
        count.ok_or_else(|| {
            format!(
                "{} says nothing about \"{}\"",
                target.name,
                self.before.trim()
            )
        })
    }
}

impl Play {
    fn on(self, server: &mut Server) -> Outcome<()> {
        let mut client = Client::join(server.address, "one")?;
        let clients = if self.broadcasts > 0 { POOL } else { 0 };
        let mut pool = ClientPool::join(server.address, clients, |_| "all".into())?;
        until_idle(server.tree)?;
        let (message, to_one, to_all) = (message("one"), reply("one"), reply("all"));
        for _ in 0..self.messages {
            client.send(&message)?;
            server.agent.heard()?;
            until_idle(server.tree)?;
        }
        for _ in 0..self.replies {
            server.agent.write(&to_one)?;
            client.take("reply")?;
            server.agent.answered()?;
            until_idle(server.tree)?;
        }
        for _ in 0..self.broadcasts {
            server.agent.write(&to_all)?;
            pool.all_get_one()?;
            server.agent.answered()?;
            until_idle(server.tree)?;
        }
        // One after the other, so that the end is always the same too.
        drop(client);
        until_idle(server.tree)?;
        pool.leave(|| until_idle(server.tree))
    }
}

/// How many bytes of its own the server has for each of many connections that are idle.
pub fn memory_of_connection() -> Outcome<Count> {
    let target = Target {
        name: "claude-socket".into(),
        start: Start::Ours,
        limits: None,
    };
    let value = target.measure(|server| {
        until_idle(server.tree)?;
        let before = server.tree.memory().own;
        let _pool = ClientPool::join(server.address, CONNECTIONS, |_| "all".into())?;
        until_idle(server.tree)?;
        Ok((server.tree.memory().own - before) / CONNECTIONS as f64)
    })?;
    Ok(Count {
        name: "idle connection".into(),
        value,
        unit: "bytes",
    })
}

/// How large a program of ours is.
pub fn size(name: &str) -> Outcome<Count> {
    let file = Path::new(OURS).with_file_name(name);
    let size = std::fs::metadata(&file)
        .map_err(|error| format!("{}: {error}", file.display()))?
        .len();
    Ok(Count {
        name: name.into(),
        value: size as f64,
        unit: "bytes",
    })
}

/// Waits until every thread sleeps, seen twice: between two system calls one can look as if.
fn until_idle(server: Tree) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = 0;
    while seen < 2 {
        if Instant::now() > deadline {
            return Err(format!("it is still at work after {PATIENCE:?}"));
        }
        seen = if server.is_idle() { seen + 1 } else { 0 };
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}
