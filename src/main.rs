//! Reads the arguments, starts the log, runs one command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use claude_socket::commands::{demo, serve};
use claude_socket::config::{self, Settings};
use claude_socket::logging;

/// Talk to a running Claude Code session over WebSocket.
///
/// Without a command this is the server that Claude Code starts as a channel: it
/// speaks MCP on stdin and stdout, and listens for apps on a port.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Try it without a Claude account: a stand-in for Claude Code answers the apps
    Demo(demo::Options),
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
    if let Err(line) = arguments.settings.check() {
        eprintln!("claude-socket: {line}");
        return ExitCode::from(2);
    }
    let ended = match &arguments.command {
        Some(Command::Demo(options)) => demo::run(options),
        None => serve(&arguments.settings),
    };
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
