//! The commands that are clients of a server: `send`, `watch`, `history`, `chat` and `open`.

pub mod chat;
mod format;
pub mod history;
pub mod open;
pub mod send;
mod style;
pub mod watch;

use std::env;
use std::net::SocketAddr;

use clap::Args;

use super::{Error, Failure, doctor};
use crate::client::{self, Client};
use crate::config::{self, AddressArgs};
use crate::json;
use crate::protocol::{DEFAULT_SESSION, DEFAULT_USER, MAX_NAME};
use crate::socket_owner::{self, UNTRUSTED_OWNER};

/// Stands below the help of each command.
pub const TOKEN_HELP: &str =
    "CLAUDE_SOCKET_TOKEN in the environment is the token to connect with; it has no flag.";

/// Says how to send the token to a listener that is not trusted.
const TRUST_HINT: &str =
    "\n  the same command with --trust-server, if you know whose program that is";

/// Which session of which server to connect to, and as whom.
#[derive(Args, Clone, Debug)]
pub struct ConnectArgs {
    #[command(flatten)]
    pub server: AddressArgs,
    /// The chat to take part in
    #[arg(long, value_name = "SESSION", default_value = DEFAULT_SESSION, value_parser = name)]
    pub session: String,
    /// Who speaks; this machine's user if left out, and the name of the token if there is one
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub user: Option<String>,
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Which server may see the token.
#[derive(Args, Clone, Copy, Debug)]
pub struct TrustArgs {
    /// Send the token to any listener on the port, also if it is another user's program
    #[arg(long)]
    pub trust_server: bool,
}

impl ConnectArgs {
    /// Starts a client, which connects in the background.
    ///
    /// # Errors
    /// If there is no thread for it, or the address cannot work.
    pub fn connect(&self, stream: bool) -> Result<Client, Error> {
        let login = || env::var("USER").ok().filter(|user| name(user).is_ok());
        let user = self.user.clone().or_else(login);
        let client = Client::connect(client::Options {
            session: self.session.clone(),
            user: user.unwrap_or_else(|| DEFAULT_USER.to_owned()),
            token: config::env_token(),
            stream,
            guard_token: !self.trust.trust_server,
            ..client::Options::new(format!("ws://{}", self.server.address()))
        });
        client.map_err(Error::refused)
    }

    /// Returns why there is no connection, and what to do about it. `code` and `reason` are what
    /// the client was told.
    pub fn unreachable(&self, code: Option<u16>, reason: &str) -> Error {
        self.trust
            .check(self.server.address())
            .err()
            .unwrap_or_else(|| {
                let failure = code.map_or(Failure::NoServer, |_| Failure::Refused);
                Error::Failed(failure, reason.to_owned())
            })
    }
}

impl TrustArgs {
    /// Returns `true` if what listens must not see the token that there is.
    fn must_withhold_token(self, server: SocketAddr) -> bool {
        !self.trust_server
            && config::env_token().is_some()
            && !socket_owner::is_trusted_listener(server)
    }

    /// Checks whether the server can be talked to, and may see the token.
    ///
    /// # Errors
    /// What prevents it, and what to do.
    pub fn check(self, server: SocketAddr) -> Result<(), Error> {
        let Some(diagnosis) = doctor::diagnose(server, self.trust_server) else {
            return if self.must_withhold_token(server) {
                Err(Error::refused(format_args!(
                    "what listens on {server} {UNTRUSTED_OWNER}; to go on:{TRUST_HINT}"
                )))
            } else {
                Ok(())
            };
        };
        let says = diagnosis.says;
        let why = if diagnosis.withheld_token {
            format!("{says}; to go on:{TRUST_HINT}")
        } else {
            format!("{says}; to see what to do, run: claude-socket doctor")
        };
        let failure = if diagnosis.is_refusal {
            Failure::Refused
        } else {
            Failure::NoServer
        };
        Err(Error::Failed(failure, why))
    }
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("give a name that is not empty".to_owned());
    }
    json::check_name("name", text, MAX_NAME)?;
    Ok(text.to_owned())
}
