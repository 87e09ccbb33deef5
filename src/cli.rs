//! `claude-socket-cli`: the commands for people and scripts. `claude-socket` starts it for
//! them, so it speaks of itself by that name.

use std::process::ExitCode;

use claude_socket::arguments::{self, AnyCommand, Arguments, ClientCommand, PROGRAM, wrong};
use claude_socket::commands::terminal::{chat, open, send, watch};
use claude_socket::commands::{shell, sibling};

fn main() -> ExitCode {
    if let Some(line) = sibling::odd_caller() {
        eprintln!("{PROGRAM}: {line}");
    }
    let Arguments {
        command, settings, ..
    } = match arguments::parse(arguments::of_client()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let Some(AnyCommand::Client(command)) = command else {
        let what = command.map_or("the server", |_| "this command");
        let line = format!(
            "{what} is not in {}; run the same with {PROGRAM}",
            sibling::NAME
        );
        return wrong(&line);
    };
    let ended = match &command {
        ClientCommand::Chat(options) => chat::run(options, &settings),
        ClientCommand::Send(options) => send::run(options, &settings),
        ClientCommand::Watch(options) => watch::run(options, &settings),
        ClientCommand::Open(options) => open::run(options, &settings),
        ClientCommand::Completions(options) => {
            shell::completions(options, arguments::to_complete())
        }
        ClientCommand::Man(options) => shell::man(options, arguments::of_client()),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("{PROGRAM}: {error}");
        ExitCode::FAILURE
    })
}
