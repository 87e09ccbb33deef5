//! Faults, in tables with one row each: [`client_faults`], [`agent_faults`], [`machine_faults`] and
//! [`store_faults`].
//!
//! During each fault a healthy client exchanges messages with Claude Code. None of them may be
//! lost, duplicated or delayed by more than a second. The delay of a control pair, which is not
//! exposed to the fault, is the machine's and not counted. Afterwards the server must be idle, and
//! must never have had more than 64 MiB of memory.

mod agent;
mod agent_faults;
mod client_faults;
mod healthy;
mod machine_faults;
mod store_faults;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Server, TEST_TIMEOUT};
use agent::Agent;
use healthy::{Delays, Healthy};

/// The most memory that the server may ever take, in KiB.
const MEMORY: u64 = 64 << 10;
/// The longest that the healthy client may wait beyond the delay of the control pair.
const DELAY: Duration = Duration::from_secs(1);
/// How long the server must be idle.
const IDLE_TIME: Duration = Duration::from_millis(250);
/// The round trips of the healthy client before a fault, and after it.
const ROUNDS: usize = 3;

/// A table of faults, each a test: `name(scene) [flags] { fault }`.
macro_rules! faults {
    ($($(#[$about:meta])* $name:ident($scene:ident) $flags:tt $fault:block)*) => {
        $(
            $(#[$about])*
            #[test]
            fn $name() {
                $crate::faults::Scene::start(&$flags).play(|$scene| $fault);
            }
        )*
    };
}
use faults;

/// A server with an agent and a healthy client, and a control pair with a server of its own.
pub struct Scene {
    pub agent: Agent,
    pub healthy: Healthy,
    control: (Agent, Healthy),
}

impl Scene {
    /// Starts everything, the server of the fault with these flags.
    pub fn start(flags: &[&str]) -> Self {
        Self::with(Server::listening(flags))
    }

    /// Takes a server that listens and is not initialized.
    pub fn with(server: Server) -> Self {
        let pair = |mut server: Server| {
            server.initialize();
            let agent = Agent::new(server);
            let healthy = Healthy::connect(&agent);
            (agent, healthy)
        };
        let control = pair(Server::listening(&[]));
        let (agent, healthy) = pair(server);
        Self {
            agent,
            healthy,
            control,
        }
    }

    /// Runs a fault and checks its consequences.
    pub fn play(self, fault: impl FnOnce(&mut Self)) {
        self.play_on(fault);
    }

    /// Does as [`Self::play`]. Returns Claude Code with the server, which still runs.
    pub fn play_on(mut self, fault: impl FnOnce(&mut Self)) -> Agent {
        self.healthy.wait_for_rounds(ROUNDS);
        fault(&mut self);
        self.healthy.wait_for_rounds(ROUNDS);
        let delays = self.healthy.leave();
        let control = self.control.1.leave();
        assert_prompt(delays, control);
        let server = &self.agent.server;
        server.wait_for_health(|health| health["clients"] == 0);
        wait_until_idle(server);
        let memory = server.memory("VmHWM");
        assert!(memory < MEMORY, "the server took {memory} KiB of memory");
        self.agent
    }

    /// Runs a fault that ends the server. It must end within a second, and the healthy client
    /// must know the fate of each of its messages.
    pub fn play_to_the_end(mut self, fault: impl FnOnce(&mut Self)) {
        self.healthy.wait_for_rounds(ROUNDS);
        let memory = self.agent.server.memory("VmHWM");
        assert!(memory < MEMORY, "the server took {memory} KiB of memory");
        fault(&mut self);
        let (status, took) = self.agent.server.wait_for_exit();
        assert!(status.success(), "{status}");
        assert!(took < DELAY, "the server took {took:?} to end");
        self.healthy
            .assert_disconnected(&self.agent.healthy_messages());
    }
}

/// Asserts that the healthy client waited no longer than allowed beyond the control pair.
fn assert_prompt(delays: Delays, control: Delays) {
    for (what, took, usual) in [
        ("a pong", delays.pong, control.pong),
        ("a reply", delays.reply, control.reply),
    ] {
        assert!(
            took <= DELAY + usual,
            "{what} took {took:?}; for the control pair {usual:?}"
        );
    }
}

/// Waits until the server is idle: it takes no processor time, and none of its threads wakes up.
fn wait_until_idle(server: &Server) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let before = activity(server);
        thread::sleep(IDLE_TIME);
        if activity(server) == before {
            return;
        }
        assert!(Instant::now() < deadline, "the server is never idle");
    }
}

/// Returns the server's processor time, in ticks (proc(5), `stat`), and its context switches.
fn activity(server: &Server) -> (u64, u64) {
    let mut sum = (processor_ticks(server), 0);
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
    for task in tasks.flatten() {
        // A thread may have ended meanwhile.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let switches = status
            .lines()
            .filter(|line| line.contains("ctxt_switches"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        sum.1 += switches.sum::<u64>();
    }
    sum
}

/// Returns the server's processor time, in ticks of ten milliseconds.
fn processor_ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("the server runs");
    let (_, fields) = stat.rsplit_once(") ").expect("the process has a name");
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
    field(14)
        .zip(field(15))
        .map(|(user, system)| user + system)
        .expect("the times are numbers")
}
