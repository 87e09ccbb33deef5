//! Reads the arguments, starts the log, runs one command.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use claude_socket::audit::Audit;
#[cfg(feature = "completions")]
use claude_socket::commands::shell;
#[cfg(feature = "chat")]
use claude_socket::commands::terminal::chat;
#[cfg(feature = "terminal")]
use claude_socket::commands::terminal::{open, send, watch};
use claude_socket::commands::{demo, doctor, serve, token};
use claude_socket::config::{self, Settings};
use claude_socket::logging;

const AFTER_HELP: &str = if cfg!(feature = "terminal") {
    "CLAUDE_SOCKET_TOKEN in the environment is an operator's token; it has no flag."
} else {
    "CLAUDE_SOCKET_TOKEN in the environment is an operator's token; it has no flag.\n\
     This program was built without send, watch, open and chat: they come with --features cli."
};

/// Talk to a running Claude Code session over WebSocket.
///
/// Without a command this is the server that Claude Code starts as a channel: it
/// speaks MCP on stdin and stdout, and listens for apps on a port.
#[derive(Parser)]
#[command(
    version,
    args_override_self = true,
    after_help = AFTER_HELP
)]
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
    /// Talk to Claude in this terminal
    #[cfg(feature = "chat")]
    Chat(chat::Options),
    /// Say something to Claude from a script, and wait for the answer if wanted
    #[cfg(feature = "terminal")]
    Send(send::Options),
    /// Print everything that happens in a session, one line each
    #[cfg(feature = "terminal")]
    Watch(watch::Options),
    /// Open the chat page in the browser, or show it as a QR code for a phone
    #[cfg(feature = "terminal")]
    Open(open::Options),
    /// Find out why nothing arrives, and what to do about it
    Doctor(doctor::Options),
    /// Make, list and remove the tokens that let apps connect
    #[command(subcommand)]
    Token(token::Command),
    /// Print a script that completes the arguments in a shell
    #[cfg(feature = "completions")]
    Completions(shell::Completions),
    /// Print the manual page
    #[cfg(feature = "completions")]
    Man(shell::Man),
}

fn main() -> ExitCode {
    let command = config::ignore_empty_variables(Arguments::command());
    let parsed = command.try_get_matches().and_then(|matches| {
        let arguments = Arguments::from_arg_matches(&matches)?;
        Ok((arguments, config::flags(&matches)))
    });
    let (arguments, flags) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let Some(line) = config::explain(&error) else {
                error.exit();
            };
            return wrong(&line);
        }
    };
    if let Err(line) = arguments.settings.check() {
        return wrong(&line);
    }
    let ended = match &arguments.command {
        Some(Command::Demo(options)) => {
            demo::run(options, &arguments.settings, &flags).map(|()| ExitCode::SUCCESS)
        }
        #[cfg(feature = "chat")]
        Some(Command::Chat(options)) => chat::run(options, &arguments.settings),
        #[cfg(feature = "terminal")]
        Some(Command::Send(options)) => send::run(options, &arguments.settings),
        #[cfg(feature = "terminal")]
        Some(Command::Watch(options)) => watch::run(options, &arguments.settings),
        #[cfg(feature = "terminal")]
        Some(Command::Open(options)) => open::run(options, &arguments.settings),
        #[cfg(feature = "completions")]
        Some(Command::Completions(options)) => shell::completions(options, Arguments::command()),
        #[cfg(feature = "completions")]
        Some(Command::Man(options)) => shell::man(options, Arguments::command()),
        Some(Command::Doctor(options)) => doctor::run(options, &arguments.settings),
        Some(Command::Token(command)) => {
            token::run(command, &arguments.settings).map(|()| ExitCode::SUCCESS)
        }
        None => {
            let settings = &arguments.settings;
            let log = match logging::start(settings.log_level, settings.log_file.as_ref()) {
                Ok(log) => log,
                Err(error) => return wrong(&error.to_string()),
            };
            let audit = match Audit::open(settings.audit.as_deref()) {
                Ok(audit) => audit,
                Err(error) => return wrong(&error.to_string()),
            };
            let ended = serve::run(settings, &audit);
            audit.finish();
            log.finish();
            ended.map(|()| ExitCode::SUCCESS)
        }
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("claude-socket: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(line: &str) -> ExitCode {
    eprintln!("claude-socket: {line}");
    ExitCode::from(2)
}
