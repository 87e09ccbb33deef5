//! Everything that can go wrong, in a table with one row a fault: [`clients`], [`agents`]
//! and the [`machine`].
//!
//! Beside each fault a healthy client talks with Claude Code all the while, and must
//! notice nothing: none of its messages is lost or doubled, and none is delayed by more
//! than a second. What delays a second pair, of which the fault knows nothing, is the
//! machine's doing and not counted. When it is over, the server has never had more than
//! 64 MiB of memory, and does nothing any more.

mod agent;
mod agents;
mod clients;
mod healthy;
mod machine;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{PATIENCE, Server};
use agent::Agent;
use healthy::{Healthy, Pulse};

/// The most memory that the server may ever take, in KiB.
const MEMORY: u64 = 64 << 10;
/// The longest that the healthy client may wait, if the machine is quick.
const DELAY: Duration = Duration::from_secs(1);
/// How long the server is watched doing nothing.
const STILL: Duration = Duration::from_millis(250);
/// How often the healthy client is heard before a fault, and after it.
const BEATS: usize = 3;

/// A table of faults, each a test: `name(scene) [flags] { what goes wrong }`.
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

/// A server with a host and a healthy client, and another one to compare with.
pub struct Scene {
    pub agent: Agent,
    pub healthy: Healthy,
    control: (Agent, Healthy),
}

impl Scene {
    /// Starts everything, the first server with these flags.
    pub fn start(flags: &[&str]) -> Self {
        Self::with(Server::listening(flags))
    }

    /// Takes a server that listens and has heard nothing yet.
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

    /// Lets something go wrong, and looks at what came of it.
    pub fn play(mut self, fault: impl FnOnce(&mut Self)) {
        self.healthy.beats(BEATS);
        fault(&mut self);
        self.healthy.beats(BEATS);
        let pulse = self.healthy.leave();
        let control = self.control.1.leave();
        judge(pulse, control);
        let server = &self.agent.server;
        server.wait_for_health(|health| health["clients"] == 0);
        is_still(server);
        let memory = server.memory("VmHWM");
        assert!(memory < MEMORY, "it took {memory} KiB of memory");
    }

    /// The same for what ends the server. That doesn't take longer than a second, and the
    /// healthy client knows of each of its messages what became of it.
    pub fn play_to_the_end(mut self, fault: impl FnOnce(&mut Self)) {
        self.healthy.beats(BEATS);
        let memory = self.agent.server.memory("VmHWM");
        assert!(memory < MEMORY, "it took {memory} KiB of memory");
        fault(&mut self);
        let (status, took) = self.agent.server.wait_for_exit();
        assert!(status.success(), "{status}");
        assert!(took < DELAY, "it took {took:?} to end");
        self.healthy.was_sent_away(&self.agent.heard_of_healthy());
    }
}

/// Nothing may have delayed the healthy client that didn't delay the other one, too.
fn judge(pulse: Pulse, control: Pulse) {
    for (what, took, usual) in [
        ("a pong", pulse.pong, control.pong),
        ("a reply", pulse.reply, control.reply),
    ] {
        assert!(
            took <= DELAY + usual,
            "{what} took {took:?}; elsewhere {usual:?}"
        );
    }
}

/// Waits until the server does nothing at all for a while: it takes no time of the
/// processor, and none of its threads wakes up.
fn is_still(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = activity(server);
        thread::sleep(STILL);
        if activity(server) == before {
            return;
        }
        assert!(Instant::now() < deadline, "it never comes to rest");
    }
}

/// What the server has done so far: its time on the processor, in ticks (proc(5), `stat`),
/// and how often its threads have gone to sleep.
fn activity(server: &Server) -> (u64, u64) {
    let mut sum = (processor_ticks(server), 0);
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    for task in tasks.flatten() {
        // A thread may end while it is looked at.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let switches = status
            .lines()
            .filter(|line| line.contains("ctxt_switches"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        sum.1 += switches.sum::<u64>();
    }
    sum
}

/// Its time on the processor, in ticks of ten milliseconds.
fn processor_ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("it has a name");
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
    field(14)
        .zip(field(15))
        .map(|(user, system)| user + system)
        .expect("numbers")
}
