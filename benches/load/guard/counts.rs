//! What needs neither a clock nor valgrind: the size of a program, the memory of a connection, and
//! what is written to disk.

use std::path::Path;

use super::RUN_TIMEOUT;
use crate::client::{Client, message_frame_of};
use crate::client_pool::ClientPool;
use crate::server::{Launch, PROGRAM, Result, Target};
use crate::watchdog::with_timeout;

/// The connections whose memory is measured.
const CONNECTIONS: usize = 1_000;
/// The messages whose bytes on disk are counted.
const STORED_MESSAGES: usize = 1_000;
/// The bytes of each of them.
const STORED_LENGTH: usize = 100;
const MIB: f64 = 1024.0 * 1024.0;

/// One counted figure.
pub struct Count {
    pub name: String,
    pub value: f64,
    /// What is counted: bytes, instructions or allocations.
    pub unit: &'static str,
    /// Whether it is a row of the file. It is not if it depends on what the scheduler does.
    pub is_recorded: bool,
    /// The most that was promised.
    pub most: Option<f64>,
}

impl Count {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            is_recorded: true,
            most: None,
        }
    }

    /// Promises that it is never more than `most`.
    pub fn at_most(self, most: f64) -> Self {
        Self {
            most: Some(most),
            ..self
        }
    }

    /// Compares it only with what was promised.
    pub fn unrecorded(self) -> Self {
        Self {
            is_recorded: false,
            ..self
        }
    }

    /// Returns a sentence if it is more than was promised.
    pub fn broken_promise(&self) -> Option<String> {
        let Self {
            name, value, unit, ..
        } = self;
        let most = self.most.filter(|most| value > most)?;
        Some(format!("{name}: {value:.0} {unit}, at most {most:.0}"))
    }
}

/// Returns the size of one of our programs.
pub fn program_size(name: &str) -> Result<Count> {
    let size = file_size(&Path::new(PROGRAM).with_file_name(name))?;
    Ok(Count::new(name, size, "bytes"))
}

/// Returns the sizes of the static programs in this folder, and the memory that the server takes
/// when it is idle and its store is open (`VmRSS`).
pub fn static_programs(folder: &Path) -> Result<[Count; 3]> {
    let server = folder.join("claude-socket");
    let target = Target {
        name: "the static claude-socket".into(),
        launch: Launch::Program(server.clone()),
        limits: None,
        memory_only: false,
    };
    let memory = target.measure(|server| {
        // Once a client is in a session, the store is open.
        drop(Client::join(server.address, "one")?);
        server.processes.wait_until_idle()?;
        if !server.has_store() {
            return Err("no store is open".into());
        }
        Ok(server.processes.memory().resident)
    })?;
    let commands = file_size(&folder.join("claude-socket-cli"))?;
    let counts = [
        Count::new("static claude-socket", file_size(&server)?, "bytes").at_most(4.0 * MIB),
        Count::new("static claude-socket-cli", commands, "bytes").at_most(3.0 * MIB),
        Count::new("static claude-socket, idle", memory, "bytes").at_most(4.0 * MIB),
    ];
    Ok(counts.map(Count::unrecorded))
}

/// Returns the bytes of a file.
fn file_size(file: &Path) -> Result<f64> {
    let metadata = std::fs::metadata(file)
        .map_err(|error| format!("the size of {} cannot be read: {error}", file.display()))?;
    Ok(metadata.len() as f64)
}

/// Returns the bytes that go to disk for each of [`STORED_MESSAGES`] that come one right after the
/// other, with what the start and the end of the server write for them.
pub fn disk_bytes() -> Result<Count> {
    let bytes = disk_bytes_of(1 + STORED_MESSAGES)? - disk_bytes_of(1)?;
    let each = bytes / STORED_MESSAGES as f64;
    if each <= 0.0 {
        return Err(format!(
            "what a message costs on disk cannot be counted in {}: is that in memory?",
            env!("CARGO_TARGET_TMPDIR")
        ));
    }
    // How many messages one commit takes depends on the scheduler.
    Ok(Count::new("stored message, on disk", each, "bytes")
        .at_most(1024.0)
        .unrecorded())
}

/// Returns the bytes that a server has written to disk when it has ended after `messages`.
fn disk_bytes_of(messages: usize) -> Result<f64> {
    let target = Target {
        name: "claude-socket".into(),
        launch: Launch::Built,
        limits: None,
        memory_only: false,
    };
    with_timeout(RUN_TIMEOUT, || {
        target.measure(|server| {
            let mut client = Client::join(server.address, "one")?;
            let message = message_frame_of("one", &"m".repeat(STORED_LENGTH));
            for _ in 0..messages {
                client.send(&message)?;
            }
            for _ in 0..messages {
                server.agent.wait_for_message()?;
            }
            server.finish_counting_disk()
        })
    })
}

/// Returns the server's own memory (`RssAnon`) for each of [`CONNECTIONS`] idle connections.
pub fn connection_memory() -> Result<Count> {
    let target = Target {
        name: "claude-socket".into(),
        launch: Launch::Built,
        limits: None,
        memory_only: true,
    };
    let value = target.measure(|server| {
        server.processes.wait_until_idle()?;
        let before = server.processes.memory().own;
        let _pool = ClientPool::join(server.address, CONNECTIONS, |_| "all".into())?;
        server.processes.wait_until_idle()?;
        Ok((server.processes.memory().own - before) / CONNECTIONS as f64)
    })?;
    Ok(Count::new("idle connection", value, "bytes"))
}
