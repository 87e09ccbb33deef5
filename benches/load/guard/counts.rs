//! What needs neither a clock nor valgrind: the size of a program, and the memory of a connection.

use std::path::Path;

use crate::client_pool::ClientPool;
use crate::server::{Launch, PROGRAM, Result, Target};

/// The connections whose memory is measured.
const CONNECTIONS: usize = 1_000;

/// One counted figure, a row of the file.
pub struct Count {
    pub name: String,
    pub value: f64,
    /// What is counted: bytes, instructions or allocations.
    pub unit: &'static str,
}

/// Returns the size of one of our programs.
pub fn program_size(name: &str) -> Result<Count> {
    let file = Path::new(PROGRAM).with_file_name(name);
    let size = std::fs::metadata(&file)
        .map_err(|error| format!("the size of {} cannot be read: {error}", file.display()))?
        .len();
    Ok(Count {
        name: name.into(),
        value: size as f64,
        unit: "bytes",
    })
}

/// Returns the server's own memory (`RssAnon`) for each of [`CONNECTIONS`] idle connections.
pub fn connection_memory() -> Result<Count> {
    let target = Target {
        name: "claude-socket".into(),
        launch: Launch::Built,
        limits: None,
    };
    let value = target.measure(|server| {
        server.processes.wait_until_idle()?;
        let before = server.processes.memory().own;
        let _pool = ClientPool::join(server.address, CONNECTIONS, |_| "all".into())?;
        server.processes.wait_until_idle()?;
        Ok((server.processes.memory().own - before) / CONNECTIONS as f64)
    })?;
    Ok(Count {
        name: "idle connection".into(),
        value,
        unit: "bytes",
    })
}
