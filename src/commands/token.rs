//! `claude-socket token`: make, list and remove the tokens that let clients connect.
//! A running server applies every change within two seconds.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Error;
use crate::access;
use crate::access::expiry::Expiry;
use crate::access::file::{self, StoredToken};
use crate::access::token::{self, Digest};
use crate::config::{self, StateArgs};
use crate::protocol::{Rate, RateLimit, Role, SessionPattern};

/// Where the tokens are, and what to do with them.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    #[command(flatten)]
    state: StateArgs,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it, this once
    Add(AddArgs),
    /// List the tokens, without what is secret of them
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a token; its clients are disconnected
    Remove {
        /// Whose
        name: String,
    },
}

/// The token to make.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// Who uses it; its messages are signed with this
    name: String,
    /// What it allows: operator (all), sender (talk and read), viewer (read)
    #[arg(long, value_parser = Role::parse)]
    role: Role,
    /// The sessions it is for, such as greenhouse-1 or greenhouse-*; all if left out
    #[arg(long, value_name = "PATTERN", value_parser = SessionPattern::parse)]
    session: Option<SessionPattern>,
    /// The most messages in a time, such as 10/s, 30/m, 200/h or 1000/d, or none for no limit; if
    /// left out 60/m for a sender, and none for an operator
    #[arg(long, value_parser = RateLimit::parse)]
    rate: Option<RateLimit>,
    /// How long it is valid, such as 12h or 90d, or until when in UTC, such as 2027-01-01; for ever
    /// if left out
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    expires: Option<Expiry>,
}

fn expiry(text: &str) -> Result<Expiry, String> {
    Expiry::parse(text, SystemTime::now())
}

/// Runs one of the commands for tokens.
///
/// # Errors
/// If the file cannot be read or written, or the name is wrong.
pub fn run(args: &TokenArgs) -> Result<ExitCode, Error> {
    let Some(path) = args.state.token_file() else {
        return Err(Error::refused(
            "there is no folder for tokens: this user has no home; set CLAUDE_SOCKET_STATE_DIR",
        ));
    };
    match &args.command {
        TokenCommand::Add(new) => add(&path, new),
        TokenCommand::List { json: true } => list_as_json(&path),
        TokenCommand::List { json: false } => list(&path),
        TokenCommand::Remove { name } => remove(&path, name),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(path: &Path, new: &AddArgs) -> io::Result<()> {
    new.check().map_err(io::Error::other)?;
    let (name, now) = (&new.name, SystemTime::now());
    let token = token::generate()?;
    let stored = StoredToken {
        name: name.clone(),
        role: new.role,
        sessions: new.session.clone(),
        rate: new.rate,
        expires: new.expires,
        sha256: Digest::of(&token),
        created: humantime::format_rfc3339_seconds(now).to_string(),
    };
    let (is_first, has_operator) = change(path, |tokens| {
        if tokens.iter().any(|token| token.name == *name) {
            return Err(format!(
                "there is already a token of the name \"{name}\"; remove it first (claude-socket token remove), or choose another name"
            ));
        }
        let is_first = tokens.is_empty();
        tokens.push(stored);
        let mut valid = tokens.iter().filter(|token| !token.is_expired(now));
        Ok((is_first, valid.any(|token| token.role.can_approve())))
    })?;
    writeln!(io::stdout(), "{token}")?;
    let mut notes = format!(
        "This is shown only once; only its SHA-256 is kept, in {}.\n\
         Connect with \"Authorization: Bearer TOKEN\", or with ?token=TOKEN in the address.\n",
        path.display()
    );
    notes += &new.limits();
    if is_first {
        notes += "From now on every connection needs a token, also those of this machine.\n";
    }
    if !has_operator {
        notes += "None of the tokens there is an operator's: unless CLAUDE_SOCKET_TOKEN is set, permission prompts stay in the terminal.\n";
    }
    // It fails only if stderr is closed.
    let _ = io::stderr().write_all(notes.as_bytes());
    Ok(())
}

impl AddArgs {
    /// Checks what goes together.
    ///
    /// # Errors
    /// One sentence that says what to do.
    fn check(&self) -> Result<(), String> {
        access::check_name(&self.name).map_err(|error| error.to_string())?;
        if self.role.can_approve() && self.session.is_some() {
            return Err("an operator answers permission requests, which belong to no session, and cannot be bound to some; leave out --session, or choose sender or viewer".to_owned());
        }
        if !self.role.can_send() && self.rate.is_some() {
            return Err(
                "a viewer sends nothing, and needs no rate; leave out --rate, or choose sender"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Says what limits it, if anything does.
    fn limits(&self) -> String {
        let mut limits = String::new();
        if self.role == Role::Sender && self.rate.is_none() {
            limits += &format!(
                "It may send {} messages a minute; --rate allows more, or less.\n",
                Rate::OF_SENDERS.burst()
            );
        }
        if let Some(expiry) = self.expires {
            limits += &format!("It is valid until {expiry}.\n");
        }
        limits
    }
}

fn remove(path: &Path, name: &str) -> io::Result<()> {
    let left = change(path, |tokens| {
        let before = tokens.len();
        tokens.retain(|token| token.name != name);
        if tokens.len() == before {
            return Err(format!(
                "there is no token of the name \"{name}\"; look at: claude-socket token list"
            ));
        }
        Ok(tokens.len())
    })?;
    let mut notes = format!("Removed \"{name}\"; its clients are disconnected.\n");
    if left == 0 {
        notes += "That was the last one: unless CLAUDE_SOCKET_TOKEN is set, programs of this machine connect without a token now, and nobody else does.\n";
    }
    let _ = io::stderr().write_all(notes.as_bytes());
    Ok(())
}

fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut Vec<StoredToken>) -> Result<T, String>,
) -> io::Result<T> {
    file::change(path, |tokens| change(tokens).map_err(io::Error::other))
}

fn read(path: &Path) -> io::Result<Vec<StoredToken>> {
    Ok(file::read(path)?.unwrap_or_default())
}

fn list_as_json(path: &Path) -> io::Result<()> {
    let (tokens, now) = (read(path)?, SystemTime::now());
    let tokens = tokens.iter().map(|token| {
        json!({
            "name": token.name,
            "role": token.role,
            "sessions": token.sessions,
            "rate": token.rate().map(|rate| rate.to_string()),
            "expires": token.expires,
            "expires_in": token.expires.map(|expiry| expiry.left(now).as_secs()),
            "created": token.created,
        })
    });
    writeln!(io::stdout(), "{:#}", tokens.collect::<serde_json::Value>())
}

/// The columns of the list.
const COLUMNS: [&str; 6] = ["NAME", "ROLE", "SESSIONS", "RATE", "EXPIRES", "CREATED"];

fn list(path: &Path) -> io::Result<()> {
    let (tokens, now) = (read(path)?, SystemTime::now());
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    if config::env_secret().is_ok_and(|token| token.is_some()) {
        let (name, role) = (access::OPERATOR, Role::Operator.as_str());
        let row = [name, role, "all", "none", "never", "CLAUDE_SOCKET_TOKEN"];
        rows.push(row.map(str::to_owned));
    }
    rows.extend(tokens.iter().map(|token| row(token, now)));
    if rows.len() == 1 {
        eprintln!(
            "There are no tokens in {}: programs of this machine connect without, and nobody else does.",
            path.display()
        );
        return Ok(());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2, 3, 4].map(|column| width(column).unwrap_or(0));
    let mut out = io::stdout().lock();
    for [name, role, sessions, rate, expires, created] in &rows {
        let [a, b, c, d, e] = widths;
        writeln!(
            out,
            "{name:a$}  {role:b$}  {sessions:c$}  {rate:d$}  {expires:e$}  {created}"
        )?;
    }
    Ok(())
}

fn row(token: &StoredToken, now: SystemTime) -> [String; COLUMNS.len()] {
    let sessions = token.sessions.as_ref().map(SessionPattern::to_string);
    let rate = match token.rate() {
        Some(rate) => rate.to_string(),
        None if token.role.can_send() => "none".to_owned(),
        // It sends nothing.
        None => "-".to_owned(),
    };
    [
        token.name.clone(),
        token.role.as_str().to_owned(),
        sessions.unwrap_or_else(|| "all".to_owned()),
        rate,
        match token.expires {
            None => "never".to_owned(),
            Some(expiry) if expiry.is_over(now) => format!("{expiry} (expired)"),
            Some(expiry) => format!("{expiry} (in {})", expiry.left_in_words(now)),
        },
        token.created.clone(),
    ]
}
