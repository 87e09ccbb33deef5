//! Removes sessions: through the running server, so that its memory forgets them too; else in the database.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{Place, counted, find};
use crate::commands::Error;
use crate::control::{Client, Removal};
use crate::hub::stored::Selection;
use crate::protocol::SessionId;
use crate::store::data::{SessionSizes, Sizes};

/// What to remove.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub struct RemoveArgs {
    /// A session; of one agent if that is named, else of all
    #[arg(long, value_name = "ID", group = "what")]
    session: Option<String>,
    /// All sessions of an agent, and the verdicts of its permission requests
    #[arg(long, value_name = "NAME", group = "what")]
    agent: Option<String>,
    /// Everything
    #[arg(long, group = "what", conflicts_with_all = ["session", "agent"])]
    all: bool,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

impl RemoveArgs {
    fn selection(&self) -> Result<Selection, Error> {
        let session = self.session.as_deref();
        let session = session.map(|session| SessionId::parse("session", session, usize::MAX));
        let session = session.transpose().map_err(Error::usage)?;
        Ok(match (session, self.agent.clone()) {
            (Some(session), agent) => Selection::Session { agent, session },
            (None, Some(agent)) => Selection::Agent(agent),
            (None, None) => Selection::All,
        })
    }
}

/// Removes what the arguments name.
///
/// # Errors
/// If there is no such session or agent, nobody has confirmed it, or it can't be removed.
pub fn run(place: &Place, args: &RemoveArgs) -> Result<(), Error> {
    let selection = args.selection()?;
    let sizes = place.sizes()?;
    let server = Client::connect(&place.state, place.port).map_err(Error::refused)?;
    let is_anything = sizes.bytes > 0 || !sizes.aside.is_empty();
    let found = match &selection {
        Selection::All if !is_anything && server.is_none() => {
            eprintln!("There is nothing to remove: {}.", place.nothing(&sizes));
            return Ok(());
        }
        // What is not on disk may be in its memory.
        _ if server.is_some() && sizes.bytes == 0 => Vec::new(),
        _ => find(&sizes, args.agent.as_deref(), args.session.as_deref())?,
    };
    let what = described(&selection, &found);
    if !args.yes {
        confirm(&what)?;
    }
    match server {
        Some(server) => {
            let is_on_disk = server.remove(Removal::from(&selection));
            if !is_on_disk.map_err(Error::refused)? {
                // It may be one that could not open the database.
                place.data.remove(&selection).map_err(|error| {
                    Error::refused(format_args!(
                        "the running server has forgotten {what}, but cannot write to the database now; look at: claude-socket doctor; here it is not removed either: {error}"
                    ))
                })?;
            }
            if selection == Selection::All {
                remove_aside(&sizes)?;
            }
        }
        None => {
            let removed = place.data.remove(&selection);
            removed.map_err(Error::refused)?;
        }
    }
    eprintln!("Removed {what}.");
    if selection != Selection::All {
        for (database, _) in &sizes.aside {
            eprintln!(
                "{} was set aside, and may hold the same; \"claude-socket data remove --all\" removes it.",
                database.display()
            );
        }
    }
    Ok(())
}

/// Removes the databases that were set aside: no server has them open.
fn remove_aside(sizes: &Sizes) -> io::Result<()> {
    for (database, _) in &sizes.aside {
        let mut log = database.clone().into_os_string();
        log.push("-wal");
        for file in [log.into(), database.clone()] {
            match fs::remove_file::<PathBuf>(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Says what is removed, and how much that is.
fn described(selection: &Selection, found: &[&SessionSizes]) -> String {
    let messages = found.iter().map(|data| data.messages).sum();
    let sessions = found.len() as u64;
    let count = match selection {
        _ if found.is_empty() => return selection.to_string(),
        Selection::Session { .. } if sessions == 1 => counted(messages, "message"),
        _ => format!(
            "{} with {}",
            counted(sessions, "session"),
            counted(messages, "message")
        ),
    };
    format!("{selection} ({count})")
}

/// Asks whether it is meant.
///
/// # Errors
/// If it isn't, or nobody can be asked.
fn confirm(what: &str) -> Result<(), Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::usage(format_args!(
            "this removes {what}, and nobody can be asked without a terminal; say --yes if that is meant"
        )));
    }
    eprint!("Remove {what}? It cannot be undone. [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::refused("nothing is removed")),
    }
}
