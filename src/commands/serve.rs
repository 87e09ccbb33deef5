//! Without a command: serve Claude Code on stdin and stdout, and clients on the port.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use super::Error;
use crate::audit::Audit;
use crate::config::ServerArgs;
use crate::logging;
use crate::server::{self, AgentIo};

/// Serves until Claude Code or the system ends it.
///
/// # Errors
/// Settings that cannot work, or no thread left to start with.
pub fn run(settings: &ServerArgs) -> Result<ExitCode, Error> {
    settings.check().map_err(Error::usage)?;
    let log = logging::start(settings.log_level, settings.log_file.as_deref());
    let log = log.map_err(Error::usage)?;
    let audit = Audit::open(settings.audit.as_deref()).map_err(Error::usage)?;
    if io::stdin().is_terminal() {
        eprintln!(
            "claude-socket is started by Claude Code, which then speaks to it on stdin. \
             To see it work without, end it with Ctrl-C and run: claude-socket demo"
        );
    }
    let config = settings.server_config(audit.clone());
    let files = (log.clone(), audit.clone());
    let reopen_files = move || {
        files.0.reopen();
        files.1.reopen();
    };
    let agent_io = AgentIo::process(reopen_files);
    let ended = agent_io.and_then(|agent_io| server::run(config, agent_io, None));
    audit.finish();
    log.finish();
    ended?;
    Ok(ExitCode::SUCCESS)
}
