//! What the benchmark can be asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Plays the agent (Claude Code) and its clients around claude-socket, and measures it.
///
/// Without arguments it measures the program that cargo has just built. With others it needs a
/// server that speaks MCP on stdin and stdout, and the WebSocket protocol of the README on the
/// port in the environment variable CLAUDE_SOCKET_PORT. CPU time and memory are those of the
/// server and all processes it has started, as /proc tells.
#[derive(Parser, Clone)]
#[command(name = "cargo bench --", version)]
pub struct Options {
    /// Measure this server instead, started by the shell
    #[arg(long, value_name = "COMMAND")]
    pub server: Option<String>,

    /// Measure this one too, in turn with the first, and print ratios
    #[arg(long, value_name = "COMMAND")]
    pub vs: Option<String>,

    /// Measure what has this word in its name; can be given several times. See --list
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,

    /// Only say what there is to measure
    #[arg(long)]
    pub list: bool,

    /// Fewer samples and clients: to see whether all of it works
    #[arg(long)]
    pub quick: bool,

    /// Measure everything so many times, in turn, and tell the middle of each figure
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Measure each server once more on a small machine: one core (taskset -c 0) and 64 MiB of
    /// memory (a cgroup, so it takes root)
    #[arg(long)]
    pub small: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Draw how latency and memory grow with the number of clients, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Count instead of measuring, and compare with what this file says: what tests/guard does
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "vs", "only", "quick", "small", "json", "plot"])]
    pub guard: Option<PathBuf>,

    /// Write what was counted into that file
    #[arg(long, requires = "guard")]
    pub record: bool,

    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Workload {
    /// How often a server is started.
    pub starts: usize,
    /// Before anything is measured, so that caches and compilers have warmed up.
    pub warm_up: usize,
    /// Of each latency.
    pub samples: usize,
    /// Broadcasts to many clients.
    pub broadcasts: usize,
    /// How many clients get them.
    pub clients: usize,
    /// The most clients that are connected at once.
    pub max_clients: usize,
    /// For how long messages are sent as fast as possible, in seconds.
    pub load_time: Duration,
    /// For how long nothing happens, in seconds.
    pub idle_time: Duration,
}

impl Workload {
    /// Of a benchmark that somebody waits for, or of one that counts.
    pub fn new(quick: bool) -> Self {
        if quick {
            return Self {
                starts: 3,
                warm_up: 50,
                samples: 100,
                broadcasts: 5,
                clients: 100,
                max_clients: 500,
                load_time: Duration::from_millis(200),
                idle_time: Duration::from_millis(500),
            };
        }
        Self {
            starts: 21,
            warm_up: 2_000,
            samples: 2_000,
            broadcasts: 200,
            clients: 1_000,
            max_clients: 10_000,
            load_time: Duration::from_secs(3),
            idle_time: Duration::from_secs(5),
        }
    }
}
