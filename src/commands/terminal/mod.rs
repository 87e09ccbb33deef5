//! The program as a client: `send`, `watch`, `chat` and `open`, for shells, scripts and people.

pub mod chat;
pub mod open;
pub mod paint;
pub mod send;
pub mod watch;
mod words;

use std::env;
use std::process::ExitCode;

use clap::Args;

use super::{doctor, text};
use crate::client::{Client, Error, Options};
use crate::config::Settings;
use crate::json;
use crate::owner::{self, UNTRUSTED_OWNER};
use crate::protocol::{DEFAULT_SESSION, DEFAULT_USER, MAX_NAME};

/// What stands below the help of each command.
pub const TOKEN: &str =
    "CLAUDE_SOCKET_TOKEN in the environment is the token to connect with; it has no flag.";

/// What to type to show the token all the same.
const INSIST: &str = "\n  the same command with --trust-server, if you know whose program that is";

/// Where to talk, and as whom.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The chat to take part in
    #[arg(long, value_name = "SESSION", default_value = DEFAULT_SESSION, value_parser = name)]
    pub session: String,
    /// Who speaks; this machine's user if left out, and the name of the token if there is one
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub user: Option<String>,
    #[command(flatten)]
    trust: Trust,
}

impl Place {
    /// Starts to connect to the server of these settings.
    ///
    /// # Errors
    /// If there cannot be a connection.
    pub fn connect(&self, settings: &Settings, stream: bool) -> Result<Client, Error> {
        let login = || env::var("USER").ok().filter(|user| name(user).is_ok());
        let user = self.user.clone().or_else(login);
        Client::connect(Options {
            session: self.session.clone(),
            user: user.unwrap_or_else(|| DEFAULT_USER.to_owned()),
            token: settings.token_to_show(),
            stream,
            guard_token: !self.trust.trust_server,
            ..Options::new(format!("ws://{}", settings.server()))
        })
    }
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("give a name that is not empty".to_owned());
    }
    json::check_name("name", text, MAX_NAME)?;
    Ok(text.to_owned())
}

/// Why a command has ended without success; each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server, or what it is asked, says no.
    Refused,
    /// The command line is wrong.
    Usage,
    /// Nobody has answered in time.
    TimedOut,
    /// There is no server.
    NoServer,
}

impl Failure {
    /// The exit code.
    pub fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused => 1,
            Self::Usage => 2,
            Self::TimedOut => 3,
            Self::NoServer => 4,
        })
    }

    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Usage => "usage",
            Self::TimedOut => "timed_out",
            Self::NoServer => "no_server",
        }
    }
}

/// Which server may see the token.
#[derive(Args, Clone, Copy, Debug)]
pub struct Trust {
    /// Show the token to whoever listens on the port, also if it is another user's program
    #[arg(long)]
    pub trust_server: bool,
}

impl Trust {
    /// Whether what listens must not see the token that there is.
    fn withholds(self, settings: &Settings) -> bool {
        !self.trust_server
            && settings.token_to_show().is_some()
            && !owner::is_trusted_listener(settings.server())
    }

    /// Why there is no connection, with what to do about it. `code` and `reason` are what the
    /// client was told.
    pub fn unreachable(
        self,
        settings: &Settings,
        code: Option<u16>,
        reason: &str,
    ) -> (Failure, String) {
        self.obstacle(settings).unwrap_or_else(|| {
            let failure = code.map_or(Failure::NoServer, |_| Failure::Refused);
            (failure, reason.to_owned())
        })
    }

    /// Returns what keeps everyone from talking to the server, or this program from showing it
    /// the token.
    pub fn obstacle(self, settings: &Settings) -> Option<(Failure, String)> {
        let Some(diagnosis) = doctor::diagnose(settings, self.trust_server) else {
            let why = || {
                format!(
                    "what listens on {} {UNTRUSTED_OWNER}; to go on:{INSIST}",
                    settings.server()
                )
            };
            return self.withholds(settings).then(|| (Failure::Refused, why()));
        };
        let says = diagnosis.says;
        let why = if diagnosis.withheld_token {
            format!("{says}; to go on:{INSIST}")
        } else {
            format!("{says}; to see what to do, run: claude-socket doctor")
        };
        let failure = if diagnosis.is_refusal {
            Failure::Refused
        } else {
            Failure::NoServer
        };
        Some((failure, why))
    }
}

/// Prints why a command has failed.
pub fn failed(failure: Failure, why: &str) -> ExitCode {
    eprintln!("claude-socket: {}", text::lines(why));
    failure.code()
}
