//! Reads the arguments, starts the log, runs one command.

use std::process::ExitCode;

use clap::Parser;
use claude_socket::commands::serve;
use claude_socket::config::{self, Settings};
use claude_socket::logging;

/// Talk to a running Claude Code session over WebSocket.
///
/// This is the server that Claude Code starts as a channel: it
/// speaks MCP on stdin and stdout, and listens for apps on a port.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let Some(line) = config::explain(&error) else {
                error.exit();
            };
            eprintln!("claude-socket: {line}");
            return ExitCode::from(2);
        }
    };
    let ended = serve(&arguments.settings);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("claude-socket: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: &Settings) -> std::io::Result<()> {
    let log = logging::start(settings.log_level, settings.log_file.as_ref())?;
    let ended = serve::run(settings);
    log.finish();
    ended
}
