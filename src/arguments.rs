//! The command line: every command, which of the two programs runs it, and which settings
//! matter to it.
//!
//! The package has two programs, so that a host that only serves needs only a small one:
//! `claude-socket` serves, and `claude-socket-cli` has the commands for people and scripts.
//! The first one starts the second for those, see [`commands::sibling`](crate::commands::sibling).

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand};

use crate::commands::terminal::{chat, open, send, watch};
use crate::commands::{demo, doctor, shell, token};
use crate::config::{self, Settings};

/// The program's name, whichever of the two speaks.
pub const PROGRAM: &str = "claude-socket";

const ABOUT: &str = "Talk to a running Claude Code session over WebSocket";
const LONG_ABOUT: &str = "Talk to a running Claude Code session over WebSocket.

Without a command this is the server that Claude Code starts as a channel: it speaks MCP on stdin \
and stdout, and listens for apps on a port.";
const TOKEN: &str =
    "CLAUDE_SOCKET_TOKEN in the environment is an operator's token; it has no flag.";

/// What each command of [`ClientCommand`] does, in a line.
pub const CLIENT: [(&str, &str); 6] = [
    ("chat", CHAT),
    ("send", SEND),
    ("watch", WATCH),
    ("open", OPEN),
    ("completions", COMPLETIONS),
    ("man", MAN),
];
const CHAT: &str = "Talk to Claude in this terminal";
const SEND: &str = "Say something to Claude from a script, and wait for the answer if wanted";
const WATCH: &str = "Print everything that happens in a session, one line each";
const OPEN: &str = "Open the chat page in the browser, or show it as a QR code for a phone";
const COMPLETIONS: &str = "Print a script that completes the arguments in a shell";
const MAN: &str = "Print the manual page";

/// The commands of `claude-socket`.
#[derive(Subcommand)]
pub enum ServerCommand {
    /// Try it without a Claude account: a stand-in for Claude Code answers the apps
    Demo(demo::Options),
    /// Find out why nothing arrives, and what to do about it
    Doctor(doctor::Options),
    /// Make, list and remove the tokens that let apps connect
    #[command(subcommand)]
    Token(token::Command),
}

/// The commands of `claude-socket-cli`.
#[derive(Subcommand)]
pub enum ClientCommand {
    /// See [`chat`].
    #[command(about = CHAT)]
    Chat(chat::Options),
    /// See [`send`].
    #[command(about = SEND)]
    Send(send::Options),
    /// See [`watch`].
    #[command(about = WATCH)]
    Watch(watch::Options),
    /// See [`open`].
    #[command(about = OPEN)]
    Open(open::Options),
    /// See [`shell`].
    #[command(about = COMPLETIONS)]
    Completions(shell::Completions),
    /// See [`shell`].
    #[command(about = MAN)]
    Man(shell::Man),
}

/// All commands.
#[derive(Subcommand)]
pub enum AnyCommand {
    /// One that `claude-socket` runs itself.
    #[command(flatten)]
    Server(ServerCommand),
    /// One that `claude-socket-cli` runs.
    #[command(flatten)]
    Client(ClientCommand),
}

/// The command line of `claude-socket`. Of the client's commands it knows what its help says.
pub fn of_server() -> Command {
    let names = CLIENT.map(|(name, about)| Command::new(name).about(about));
    let program = ServerCommand::augment_subcommands(program());
    complete(program.subcommands(names), true)
}

/// The command line of `claude-socket-cli`, with what it leaves to the other program.
pub fn of_client() -> Command {
    complete(AnyCommand::augment_subcommands(program()), true)
}

/// The same as it is shown to shells, in which a command has no settings that don't matter
/// to it.
pub fn to_complete() -> Command {
    let program = AnyCommand::augment_subcommands(program());
    let program = program.mut_args(|setting| setting.global(false));
    complete(program, false)
}

fn program() -> Command {
    let program = Command::new(PROGRAM)
        .bin_name(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .args_override_self(true)
        .after_help(TOKEN);
    Settings::augment_args(program)
}

/// Finishes a program: what it is about, and the settings of each command. A command takes all
/// of them, wherever they stand, and its help is about those that matter to it. With `hides`, it
/// has the others and doesn't show them.
fn complete(program: Command, hides: bool) -> Command {
    let settings = Settings::augment_args(Command::new(""));
    let mut program = program.about(ABOUT).long_about(LONG_ABOUT);
    for command in program.get_subcommands_mut() {
        let use_of = use_of(command.get_name());
        let mut own = std::mem::take(command);
        for setting in settings.get_arguments() {
            if let Some(shown) = use_of.shown(setting) {
                own = own.arg(shown);
            } else if hides {
                own = own.arg(setting.clone().hide(true));
            }
        }
        *command = own;
    }
    program
}

/// What a command does with the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// It starts a server with them.
    Serve,
    /// It finds the server by them.
    Connect,
    /// It finds the tokens by them.
    Tokens,
    /// Nothing.
    Nothing,
}

fn use_of(command: &str) -> Use {
    match command {
        "demo" => Use::Serve,
        "chat" | "send" | "watch" | "open" | "doctor" => Use::Connect,
        "token" => Use::Tokens,
        _ => Use::Nothing,
    }
}

impl Use {
    /// The setting as the help of such a command shows it, if it does.
    fn shown(self, setting: &Arg) -> Option<Arg> {
        let help = match (self, setting.get_id().as_str()) {
            (Self::Serve, _) | (Self::Connect | Self::Tokens, "state_dir") => None,
            (Self::Connect, "port") => Some("The server's port"),
            (Self::Connect, "host") => Some("The server's address"),
            _ => return None,
        };
        let setting = setting.clone();
        Some(match help {
            Some(help) => setting.help(help),
            None => setting,
        })
    }
}

/// What was on the command line.
pub struct Arguments<C> {
    /// The command, if there is one.
    pub command: Option<C>,
    /// The settings, from there and from the environment.
    pub settings: Settings,
    /// The settings that were on the command line, as flags again.
    pub flags: Vec<OsString>,
}

/// Reads this process's arguments. Prints what is wrong with them, or the help if they ask
/// for it.
///
/// # Errors
/// The exit code, if that was all.
pub fn parse<C: FromArgMatches>(command: Command) -> Result<Arguments<C>, ExitCode> {
    let command = config::ignore_empty_variables(command);
    let parsed = command.try_get_matches().and_then(|matches| read(&matches));
    let arguments = parsed.map_err(|error| match config::explain(&error) {
        Some(line) => wrong(&line),
        None => error.exit(),
    })?;
    arguments.settings.check().map_err(|line| wrong(&line))?;
    Ok(arguments)
}

fn read<C: FromArgMatches>(matches: &ArgMatches) -> Result<Arguments<C>, clap::Error> {
    let command = matches
        .subcommand_name()
        .map(|_| C::from_arg_matches(matches));
    Ok(Arguments {
        command: command.transpose()?,
        settings: Settings::from_arg_matches(matches)?,
        flags: config::flags(matches),
    })
}

/// Says that the command line is wrong.
pub fn wrong(line: &str) -> ExitCode {
    eprintln!("{PROGRAM}: {line}");
    ExitCode::from(2)
}
