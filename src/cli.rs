//! `claude-socket-cli`: the commands for people and scripts. `claude-socket` starts it for
//! them, so it speaks of itself by that name.

use std::process::ExitCode;

use claude_socket::args::{self, AnyCommand, CliCommand, PROGRAM};
use claude_socket::commands::terminal::{chat, open, send, watch};
use claude_socket::commands::{Error, Failure, demo, exec_cli, shell};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

fn run() -> Result<ExitCode, Error> {
    exec_cli::warn_of_version_mismatch();
    let program = args::parse(args::cli_command(), args::arguments())?;
    match program.command {
        Some(AnyCommand::Cli(command)) => match command {
            CliCommand::Demo(options) => demo::run(&options),
            CliCommand::Chat(options) => chat::run(&options),
            CliCommand::Send(options) => send::run(&options),
            CliCommand::Watch(options) => watch::run(&options),
            CliCommand::Open(options) => open::run(&options),
            CliCommand::Completions(options) => shell::completions(&options, args::cli_command()),
            CliCommand::Man(options) => shell::man(&options, args::cli_command()),
        },
        Some(AnyCommand::Server(_)) => Err(not_here("this command")),
        None => Err(not_here("the server")),
    }
}

fn not_here(what: &str) -> Error {
    let line = format!(
        "{what} is not in {}; run the same with {PROGRAM}",
        exec_cli::NAME
    );
    Error::Failed(Failure::Usage, line)
}
