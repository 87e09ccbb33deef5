//! `claude-socket`: serves, or runs one of the commands that a host without people needs.

use std::process::ExitCode;

use claude_socket::args::{self, ServerCommand};
use claude_socket::commands::{Error, data, doctor, exec_cli, serve, token};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

fn run() -> Result<ExitCode, Error> {
    let arguments = args::arguments();
    if let Some(command) = args::cli_subcommand(&arguments) {
        return Err(exec_cli::exec(command, &arguments));
    }
    let program = args::parse(args::server_command(), arguments)?;
    match program.command {
        None => serve::run(&program.server),
        Some(ServerCommand::Doctor(args)) => doctor::run(&args),
        Some(ServerCommand::Data(args)) => data::run(&args),
        Some(ServerCommand::Token(args)) => token::run(&args),
    }
}
