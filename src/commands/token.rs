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
use crate::access::file::{self, StoredToken};
use crate::access::token::{self, Digest};
use crate::config::{self, StateArgs};
use crate::protocol::{Role, SessionPattern};

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
    Add {
        /// Who uses it; its messages are signed with this
        name: String,
        /// What it allows: operator (all), sender (talk and read), viewer (read)
        #[arg(long, value_parser = Role::parse)]
        role: Role,
        /// The sessions it is for, such as greenhouse-1 or greenhouse-*; all if left out
        #[arg(long, value_name = "PATTERN", value_parser = SessionPattern::parse)]
        session: Option<SessionPattern>,
    },
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
        TokenCommand::Add {
            name,
            role,
            session,
        } => add(&path, name, *role, session.clone()),
        TokenCommand::List { json: true } => list_as_json(&path),
        TokenCommand::List { json: false } => list(&path),
        TokenCommand::Remove { name } => remove(&path, name),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(path: &Path, name: &str, role: Role, sessions: Option<SessionPattern>) -> io::Result<()> {
    access::check_name(name).map_err(io::Error::other)?;
    if role.can_approve() && sessions.is_some() {
        return Err(io::Error::other(
            "an operator answers permission requests, which belong to no session, and cannot be bound to some; leave out --session, or choose sender or viewer",
        ));
    }
    let token = token::generate()?;
    let stored = StoredToken {
        name: name.to_owned(),
        role,
        sessions,
        sha256: Digest::of(&token),
        created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    let (is_first, has_operator) = change(path, |tokens| {
        if tokens.iter().any(|token| token.name == name) {
            return Err(format!(
                "there is already a token of the name \"{name}\"; remove it first (claude-socket token remove), or choose another name"
            ));
        }
        let is_first = tokens.is_empty();
        tokens.push(stored);
        Ok((
            is_first,
            tokens.iter().any(|token| token.role.can_approve()),
        ))
    })?;
    writeln!(io::stdout(), "{token}")?;
    let mut notes = format!(
        "This is shown only once; only its SHA-256 is kept, in {}.\n\
         Connect with \"Authorization: Bearer TOKEN\", or with ?token=TOKEN in the address.\n",
        path.display()
    );
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
    let tokens = read(path)?;
    let tokens = tokens.iter().map(|token| {
        json!({
            "name": token.name,
            "role": token.role,
            "sessions": token.sessions,
            "created": token.created,
        })
    });
    writeln!(io::stdout(), "{:#}", tokens.collect::<serde_json::Value>())
}

fn list(path: &Path) -> io::Result<()> {
    let tokens = read(path)?;
    let sessions = |token: &StoredToken| match &token.sessions {
        Some(pattern) => pattern.to_string(),
        None => "all".to_owned(),
    };
    let mut rows = vec![["NAME", "ROLE", "SESSIONS", "CREATED"].map(str::to_owned)];
    if config::env_secret().is_ok_and(|token| token.is_some()) {
        let role = Role::Operator.as_str();
        rows.push([access::OPERATOR, role, "all", "CLAUDE_SOCKET_TOKEN"].map(str::to_owned));
    }
    rows.extend(tokens.iter().map(|token| {
        let role = token.role.as_str().to_owned();
        [
            token.name.clone(),
            role,
            sessions(token),
            token.created.clone(),
        ]
    }));
    if rows.len() == 1 {
        eprintln!(
            "There are no tokens in {}: programs of this machine connect without, and nobody else does.",
            path.display()
        );
        return Ok(());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let mut out = io::stdout().lock();
    for [name, role, sessions, created] in &rows {
        let [a, b, c] = widths;
        writeln!(out, "{name:a$}  {role:b$}  {sessions:c$}  {created}")?;
    }
    Ok(())
}
