//! `claude-socket-cli`: the commands for people and scripts. `claude-socket` starts it for
//! them, so it speaks of itself by that name.

use std::process::ExitCode;

use claude_socket::args::{self, AnyCommand, CliCommand};
use claude_socket::commands::PROGRAM;
use claude_socket::commands::terminal::{chat, history, open, send, watch};
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
            CliCommand::Demo(args) => demo::run(&args),
            CliCommand::Chat(args) => chat::run(&args),
            CliCommand::Send(args) => send::run(&args),
            CliCommand::Watch(args) => watch::run(&args),
            CliCommand::History(args) => history::run(&args),
            CliCommand::Open(args) => open::run(&args),
            CliCommand::Completions(args) => shell::completions(&args, args::cli_command()),
            CliCommand::Man(args) => shell::man(&args, args::cli_command()),
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
