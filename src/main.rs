//! `claude-socket`: reads the arguments, starts the log, runs one command, or serves.

use std::env;
use std::process::ExitCode;

use claude_socket::arguments::{self, Arguments, CLIENT, PROGRAM, ServerCommand, wrong};
use claude_socket::audit::Audit;
use claude_socket::commands::{demo, doctor, serve, sibling, token};
use claude_socket::config::Settings;
use claude_socket::logging;

fn main() -> ExitCode {
    let names = CLIENT.map(|(name, _)| name);
    if let Some(command) = sibling::asked(env::args_os().skip(1), &names) {
        return wrong(&sibling::become_it(command));
    }
    let Arguments {
        command,
        settings,
        flags,
    } = match arguments::parse(arguments::of_server()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let ended = match &command {
        Some(ServerCommand::Demo(options)) => {
            demo::run(options, &settings, &flags).map(|()| ExitCode::SUCCESS)
        }
        Some(ServerCommand::Doctor(options)) => doctor::run(options, &settings),
        Some(ServerCommand::Token(command)) => {
            token::run(command, &settings).map(|()| ExitCode::SUCCESS)
        }
        None => return serve(&settings),
    };
    ended.unwrap_or_else(|error| failed(&error))
}

fn serve(settings: &Settings) -> ExitCode {
    let log = match logging::start(settings.log_level, settings.log_file.as_deref()) {
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
    ended.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &std::io::Error) -> ExitCode {
    eprintln!("{PROGRAM}: {error}");
    ExitCode::FAILURE
}
