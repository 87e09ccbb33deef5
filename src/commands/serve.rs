//! Without a command: serve Claude Code on stdin and stdout, and apps on the port.

use std::io::{self, IsTerminal};

use crate::audit::Audit;
use crate::config::Settings;
use crate::server::{self, AgentIo};

/// Serves until Claude Code or the system wants it to end.
///
/// # Errors
/// If the system has no thread left to start with.
pub fn run(settings: &Settings, audit: &Audit) -> io::Result<()> {
    if io::stdin().is_terminal() {
        eprintln!(
            "claude-socket is started by Claude Code, which then speaks to it on stdin. \
             To see it work without, end it with Ctrl-C and run: claude-socket demo"
        );
    }
    let config = settings.server_config(audit.clone());
    server::run(config, AgentIo::process()?, None)
}
