//! The command line: every command, and which of the two programs runs it.
//!
//! The package has two programs, so that a host that only serves needs only a small one:
//! `claude-socket` serves, and `claude-socket-cli` has the commands for people and scripts.
//! The first one starts the second for those, see [`commands::exec_cli`](crate::commands::exec_cli).

use std::env;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, value_parser};

use crate::commands::terminal::{chat, history, open, send, watch};
use crate::commands::{Error, Failure, PROGRAM, data, demo, doctor, shell, token};
use crate::config::{self, ServerArgs};

const ABOUT: &str = "Talk to a running Claude Code session over WebSocket";
const LONG_ABOUT: &str = "Talk to a running Claude Code session over WebSocket.

Without a command this is the server that Claude Code starts as a channel: it speaks MCP on stdin \
and stdout, and listens for apps on a port.";
const TOKEN_HELP: &str =
    "CLAUDE_SOCKET_TOKEN in the environment is an operator's token; it has no flag.";

/// The commands of `claude-socket-cli`, each with what it does in a line. `claude-socket` lists
/// them in its help without having their code.
const CLI_COMMANDS: [(&str, &str); 8] = [
    ("demo", DEMO),
    ("chat", CHAT),
    ("send", SEND),
    ("watch", WATCH),
    ("history", HISTORY),
    ("open", OPEN),
    ("completions", COMPLETIONS),
    ("man", MAN),
];
const DEMO: &str = "Try it without a Claude account: a stand-in for Claude Code answers the apps";
const CHAT: &str = "Talk to Claude in this terminal";
const SEND: &str = "Say something to Claude from a script, and wait for the answer if wanted";
const WATCH: &str = "Print everything that happens in a session, one line each";
const HISTORY: &str = "Print what was said in a session, or find words in what was said";
const OPEN: &str = "Open the chat page in the browser, or show it as a QR code for a phone";
const COMPLETIONS: &str = "Print a script that completes the arguments in a shell";
const MAN: &str = "Print the manual page";

/// A command line with these commands; without one, it is the server's.
#[derive(Parser)]
#[command(name = PROGRAM, bin_name = PROGRAM, version, about = ABOUT, long_about = LONG_ABOUT)]
#[command(args_override_self = true, after_help = TOKEN_HELP)]
pub struct Program<C: Subcommand> {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(subcommand)]
    pub command: Option<C>,
}

/// The commands of `claude-socket`.
#[derive(Subcommand)]
pub enum ServerCommand {
    /// Find out why nothing arrives, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Say where what was said is kept and how much it is, get it out, or remove it
    Data(data::DataArgs),
    /// Make, list and remove the tokens that let apps connect
    Token(token::TokenArgs),
}

/// The commands of `claude-socket-cli`.
#[derive(Subcommand)]
pub enum CliCommand {
    #[command(about = DEMO)]
    Demo(demo::DemoArgs),
    #[command(about = CHAT)]
    Chat(chat::ChatArgs),
    #[command(about = SEND)]
    Send(send::SendArgs),
    #[command(about = WATCH)]
    Watch(watch::WatchArgs),
    #[command(about = HISTORY)]
    History(history::HistoryArgs),
    #[command(about = OPEN)]
    Open(open::OpenArgs),
    #[command(about = COMPLETIONS)]
    Completions(shell::CompletionsArgs),
    #[command(about = MAN)]
    Man(shell::ManArgs),
}

/// The commands of both programs, for the help, the manual pages and the completions.
#[derive(Subcommand)]
pub enum AnyCommand {
    #[command(flatten)]
    Server(ServerCommand),
    #[command(flatten)]
    Cli(CliCommand),
}

/// Returns the command line of `claude-socket`. Its help lists the commands of the other program.
pub fn server_command() -> Command {
    let others = CLI_COMMANDS.map(|(name, about)| Command::new(name).about(about));
    program::<ServerCommand>().subcommands(others)
}

/// Returns the command line of `claude-socket-cli`, with the commands of both programs.
pub fn cli_command() -> Command {
    program::<AnyCommand>()
}

fn program<C: Subcommand>() -> Command {
    Program::<C>::command().mut_subcommands(|command| match command.get_name() {
        // It may stand before and behind what is done with the tokens.
        "token" => command.mut_arg("state_dir", |folder| folder.global(true)),
        "data" => command
            .mut_arg("state_dir", |folder| folder.global(true))
            .mut_arg("port", |port| port.global(true)),
        _ => command,
    })
}

/// Returns the command of `claude-socket-cli` that the arguments name, or ask for help about.
pub fn cli_subcommand(arguments: &[OsString]) -> Option<&'static str> {
    let mut arguments = arguments.iter();
    let first = arguments.next()?;
    let name = if first == "help" {
        arguments.next()?
    } else {
        first
    };
    let mut names = CLI_COMMANDS.iter().map(|(command, _)| *command);
    names.find(|command| name == command)
}

/// Returns this process's arguments, the name of the command first if there is one.
pub fn arguments() -> Vec<OsString> {
    command_first(env::args_os().skip(1).collect())
}

/// Settings that stand before a command are settings of that command: they are put behind its
/// name, where it checks them.
fn command_first(arguments: Vec<OsString>) -> Vec<OsString> {
    let settings = ServerArgs::augment_args(Command::new(PROGRAM))
        .mut_args(|setting| {
            let setting = setting.env(Resettable::Reset);
            setting.value_parser(value_parser!(OsString))
        })
        .no_binary_name(true)
        .args_override_self(true)
        .disable_help_subcommand(true)
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(value_parser!(OsString));
    // Wrong arguments are reported by the parser that reads them all.
    let Ok(matches) = settings.try_get_matches_from(&arguments) else {
        return arguments;
    };
    let Some((name, command)) = matches.subcommand() else {
        return arguments;
    };
    let given = config::given_flags(&matches);
    let rest = command.get_many::<OsString>("").unwrap_or_default();
    let name = std::iter::once(OsString::from(name));
    name.chain(given).chain(rest.cloned()).collect()
}

/// Reads the arguments.
///
/// # Errors
/// What is wrong with them, or the help if they ask for it.
pub fn parse<C: Subcommand>(
    command: Command,
    arguments: Vec<OsString>,
) -> Result<Program<C>, Error> {
    let mut command = config::ignore_empty_variables(command.no_binary_name(true));
    let is_command =
        |first: &OsString| first != "help" && !first.as_encoded_bytes().starts_with(b"-");
    if arguments.first().is_some_and(is_command) {
        // The variables of a server matter to a command only if it has such a setting.
        command = command.mut_args(|setting| setting.env(Resettable::Reset));
    }
    let matches = command.try_get_matches_from_mut(arguments);
    let program = matches.and_then(|matches| Program::from_arg_matches(&matches));
    let program = program.map_err(|error| match config::explain(&error, &command) {
        Some(line) => Error::Failed(Failure::Usage, line),
        None => Error::Arguments(error),
    })?;
    config::check_env_token().map_err(|line| Error::Failed(Failure::Usage, line))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_before_command_move_behind_its_name() {
        let cases = [
            ("", ""),
            ("--port 3200", "--port 3200"),
            ("send hi", "send hi"),
            ("--port 3200 send hi", "send --port=3200 hi"),
            (
                "--port=3200 --host ::1 watch --json",
                "watch --port=3200 --host=::1 --json",
            ),
            ("--port x send -- --port 1", "send --port=x -- --port 1"),
            ("--port send", "--port send"),
            ("--help send", "--help send"),
            ("help send", "help send"),
            ("send --help", "send --help"),
            ("--state-dir /a token list", "token --state-dir=/a list"),
        ];
        for (line, expected) in cases {
            let split = |line: &str| line.split_whitespace().map(OsString::from).collect();
            let expected: Vec<OsString> = split(expected);
            assert_eq!(command_first(split(line)), expected, "{line:?}");
        }
    }

    #[test]
    fn commands_of_cli_are_known_to_server() {
        let names = |command: Command| -> Vec<(String, String)> {
            let commands = command.get_subcommands();
            let named = commands.map(|command| {
                let about = command.get_about().map(ToString::to_string);
                (command.get_name().to_owned(), about.unwrap_or_default())
            });
            named.collect()
        };
        assert_eq!(names(server_command()), names(cli_command()));
        server_command().debug_assert();
        cli_command().debug_assert();
    }

    #[test]
    fn command_of_cli_is_found_first_or_behind_help() {
        let cases = [
            ("send hi", Some("send")),
            ("help send", Some("send")),
            ("send --help", Some("send")),
            ("sent", None),
            ("token add", None),
            ("help", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(cli_subcommand(&arguments), expected, "{line:?}");
        }
    }
}
