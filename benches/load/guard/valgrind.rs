//! Instructions and heap allocations of one message, counted by valgrind.
//!
//! Messages are sent one at a time, and the next only when every thread of the server sleeps.
//! Otherwise the scheduler decides whether a thread finds work while it still looks for some, or
//! sleeps and must be woken, and how many messages one wake-up takes. The count of a baseline run
//! is subtracted from that of a run with more messages, so that start and end don't count.
//!
//! Nothing is stored, except where the hub's thread is counted alone: how much the store's thread
//! does for a message depends on how many it finds.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::RUN_TIMEOUT;
use super::counts::Count;
use crate::agent::reply_call;
use crate::client::{Client, message_frame};
use crate::client_pool::ClientPool;
use crate::server::{Launch, PROGRAM, Result, Server, Target};
use crate::watchdog::with_timeout;

/// The clients that get a broadcast.
const BROADCAST_CLIENTS: usize = 100;
/// Messages of each kind before those that are counted: a session remembers 100, and allocates
/// until it has that many.
const WARM_UP: usize = 120;
/// Messages that are counted.
const COUNTED_MESSAGES: usize = 400;
/// Broadcasts that are counted.
const COUNTED_BROADCASTS: usize = 80;

/// How many messages of each kind are sent in one run.
#[derive(Clone, Copy)]
struct Traffic {
    messages: usize,
    replies: usize,
    broadcasts: usize,
}

/// The baseline of messages and replies, with one client.
const ONE_CLIENT: Traffic = Traffic {
    messages: WARM_UP,
    replies: WARM_UP,
    broadcasts: 0,
};
/// The baseline of broadcasts. Its 100 clients are only there for them, because their threads
/// make valgrind slow.
const MANY_CLIENTS: Traffic = Traffic {
    messages: 0,
    replies: 0,
    broadcasts: WARM_UP,
};

/// A kind of message: what a run has beyond its baseline.
struct Kind {
    name: &'static str,
    baseline: Traffic,
    more: Traffic,
    /// How many messages `more` has beyond `baseline`.
    counted: usize,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "message client to agent",
        baseline: ONE_CLIENT,
        more: Traffic {
            messages: WARM_UP + COUNTED_MESSAGES,
            ..ONE_CLIENT
        },
        counted: COUNTED_MESSAGES,
    },
    Kind {
        name: "reply agent to client",
        baseline: ONE_CLIENT,
        more: Traffic {
            replies: WARM_UP + COUNTED_MESSAGES,
            ..ONE_CLIENT
        },
        counted: COUNTED_MESSAGES,
    },
    Kind {
        name: "broadcast to 100 clients",
        baseline: MANY_CLIENTS,
        more: Traffic {
            broadcasts: WARM_UP + COUNTED_BROADCASTS,
            ..MANY_CLIENTS
        },
        counted: COUNTED_BROADCASTS,
    },
];

/// What the hub's thread may take for a message.
struct HubPromise {
    name: &'static str,
    memory_only: bool,
    /// The most instructions.
    most: f64,
}

const HUB_PROMISES: [HubPromise; 2] = [
    HubPromise {
        name: "message, hub's thread",
        memory_only: true,
        most: 12_500.0,
    },
    HubPromise {
        name: "stored message, hub's thread",
        memory_only: false,
        most: 25_000.0,
    },
];

/// A tool of valgrind.
struct Tool {
    /// What it counts.
    unit: &'static str,
    arguments: &'static [&'static str],
    /// The text before the count in its summary.
    label: &'static str,
}

const TOOLS: [Tool; 2] = [
    Tool {
        unit: "instructions",
        arguments: &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
        label: "Collected : ",
    },
    Tool {
        unit: "allocations",
        arguments: &[
            "--tool=memcheck",
            "--leak-check=no",
            "--undef-value-errors=no",
        ],
        label: "total heap usage: ",
    },
];

/// Returns an error that says why valgrind cannot run here.
pub fn check() -> Result<()> {
    let tried = Command::new("valgrind")
        .args(["--quiet", "--tool=none", PROGRAM, "--version"])
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

/// Counts instructions and allocations of each kind of message.
pub fn count() -> Result<Vec<Count>> {
    // All run at the same time, because no count depends on speed.
    let counted = thread::scope(|scope| {
        let [first, second] = TOOLS.map(|tool| scope.spawn(move || tool.count()));
        [first, second, scope.spawn(count_hub)].map(|tool| {
            tool.join()
                .unwrap_or_else(|_| Err("the thread of a valgrind tool panicked".into()))
        })
    });
    let mut counts = Vec::new();
    for tool in counted {
        counts.extend(tool?);
    }
    Ok(counts)
}

impl Tool {
    fn count(&self) -> Result<Vec<Count>> {
        // Two kinds share this baseline.
        let one_client = self.run(ONE_CLIENT)?;
        let counts = KINDS.iter().map(|kind| {
            let baseline = if kind.baseline.broadcasts == 0 {
                one_client
            } else {
                self.run(kind.baseline)?
            };
            let value = (self.run(kind.more)? - baseline) / kind.counted as f64;
            Ok(Count::new(kind.name, value, self.unit))
        });
        counts.collect()
    }

    /// Runs a server under this tool, and returns its count.
    fn run(&self, traffic: Traffic) -> Result<f64> {
        let log = traffic.run_under(self.arguments, true)?;
        self.parse(&log).ok_or_else(|| {
            let label = self.label.trim();
            let tool = self.arguments[0];
            format!("valgrind {tool} printed no \"{label}\" in its summary")
        })
    }

    /// Returns the count in the tool's summary: digits with commas in between.
    fn parse(&self, log: &str) -> Option<f64> {
        let (_, rest) = log.split_once(self.label)?;
        let digits: String = rest
            .chars()
            .take_while(|&c| c.is_ascii_digit() || c == ',')
            .filter(|&c| c != ',')
            .collect();
        digits.parse().ok()
    }
}

/// Counts the instructions of a message on the hub's thread, with and without a store.
fn count_hub() -> Result<Vec<Count>> {
    let more = Traffic {
        messages: WARM_UP + COUNTED_MESSAGES,
        ..ONE_CLIENT
    };
    let counts = HUB_PROMISES.iter().map(|promise| {
        let instructions = hub_instructions(more, promise.memory_only)?
            - hub_instructions(ONE_CLIENT, promise.memory_only)?;
        let each = instructions / COUNTED_MESSAGES as f64;
        Ok(Count::new(promise.name, each, "instructions").at_most(promise.most))
    });
    counts.collect()
}

/// Returns the instructions of the hub's thread in one run. It is the main thread, the first of
/// those for which callgrind writes a file each.
fn hub_instructions(traffic: Traffic, memory_only: bool) -> Result<f64> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callgrind");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)
        .map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    let out = format!("--callgrind-out-file={}/thread", folder.display());
    traffic.run_under(
        &["--tool=callgrind", "--separate-threads=yes", &out],
        memory_only,
    )?;
    let first = folder.join("thread-01");
    let text = fs::read_to_string(&first)
        .map_err(|error| format!("{} cannot be read: {error}", first.display()))?;
    let _ = fs::remove_dir_all(&folder);
    text.lines()
        .find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
        .ok_or_else(|| format!("{} had no \"totals\"", first.display()))
}

impl Traffic {
    /// Sends it to a server that a tool of valgrind runs. Returns the log, which ends with the
    /// tool's summary.
    fn run_under(self, arguments: &[&str], memory_only: bool) -> Result<String> {
        let mut command = vec!["valgrind".to_owned()];
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let target = Target {
            name: command[..2].join(" "),
            launch: Launch::Wrapped(command),
            limits: None,
            memory_only,
        };
        with_timeout(RUN_TIMEOUT, || {
            target.measure(|server| {
                self.send(server)?;
                Ok(server.finish())
            })
        })
    }

    fn send(self, server: &mut Server) -> Result<()> {
        let processes = server.processes;
        let mut client = Client::join(server.address, "one")?;
        let clients = if self.broadcasts > 0 {
            BROADCAST_CLIENTS
        } else {
            0
        };
        let mut pool = ClientPool::join(server.address, clients, |_| "all".into())?;
        processes.wait_until_idle()?;
        let (message, to_one, to_all) =
            (message_frame("one"), reply_call("one"), reply_call("all"));
        for _ in 0..self.messages {
            client.send(&message)?;
            server.agent.wait_for_message()?;
            processes.wait_until_idle()?;
        }
        for _ in 0..self.replies {
            server.agent.write(&to_one)?;
            client.wait_for("reply")?;
            server.agent.wait_for_result()?;
            processes.wait_until_idle()?;
        }
        for _ in 0..self.broadcasts {
            server.agent.write(&to_all)?;
            pool.wait_for_one_each()?;
            server.agent.wait_for_result()?;
            processes.wait_until_idle()?;
        }
        // Clients disconnect one after the other, so that the end is the same in every run.
        drop(client);
        processes.wait_until_idle()?;
        pool.disconnect_each(|| processes.wait_until_idle())
    }
}
