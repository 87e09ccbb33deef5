//! The command line, and how much is measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures claude-socket: plays the agent (Claude Code) and its clients.
///
/// Without arguments it measures the program that cargo has just built. Another server must speak MCP
/// on stdin and stdout, and the WebSocket protocol of docs/protocol.md on the port in the environment
/// variable CLAUDE_SOCKET_PORT. CPU time and memory are those of the server and its child processes,
/// from /proc.
#[derive(Parser, Clone)]
#[command(name = "cargo bench --", version)]
pub struct Options {
    /// Measure this server instead; the shell starts it
    #[arg(long, value_name = "COMMAND")]
    pub server: Option<String>,

    /// Measure this one too, in turn with the first, and print ratios
    #[arg(long, value_name = "COMMAND")]
    pub vs: Option<String>,

    /// Measure only scenarios with this in their name (see --list); can be repeated
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,

    /// List the scenarios
    #[arg(long)]
    pub list: bool,

    /// Fewer samples and clients, only to test that everything works
    #[arg(long)]
    pub quick: bool,

    /// Measure everything this often, and print the median of each figure
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Measure each server also on a small machine: one core (taskset -c 0) and 64 MiB of memory (a
    /// cgroup, which needs root)
    #[arg(long)]
    pub small: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Draw how latency and memory grow with the number of clients, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Count instead of measuring, and compare with this file; used by tests/guard
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "vs", "only", "quick", "small", "json", "plot"])]
    pub guard: Option<PathBuf>,

    /// Count also the static programs in this folder, which .ci/build has built
    #[arg(long = "static", value_name = "FOLDER", requires = "guard")]
    pub static_programs: Option<PathBuf>,

    /// Record what was counted in that file
    #[arg(long, requires = "guard")]
    pub record: bool,

    /// Ignored: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Starts of a server.
    pub starts: usize,
    /// Messages before the first sample, for caches and compilers to warm up.
    pub warm_up: usize,
    /// Samples of each latency.
    pub samples: usize,
    /// Broadcasts to many clients.
    pub broadcasts: usize,
    /// The clients that get them.
    pub clients: usize,
    /// The most clients that are connected at once.
    pub max_clients: usize,
    /// How long a rate under full load is measured.
    pub load_time: Duration,
    /// How long the CPU time of idle clients is measured.
    pub idle_time: Duration,
}

impl Workload {
    /// Returns the full workload, or with `quick` one that takes seconds.
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
