//! `claude-socket data`: where what was said is kept, how much it is, and how to get it out or remove it.

mod export;
mod list;
mod remove;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Error;
use crate::config::{PortArgs, StateArgs};
use crate::store::data::{AgentSizes, Data, SessionSizes, Sizes};

/// Which database, and what to do with it.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    #[command(flatten)]
    port: PortArgs,
    #[command(flatten)]
    state: StateArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<DataCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum DataCommand {
    /// Remove sessions with all that was said there, also from a running server
    Remove(remove::RemoveArgs),
    /// Print all messages of a session as JSON, one a line
    Export(export::ExportArgs),
}

/// What a command works on.
struct Place {
    /// The state folder.
    state: PathBuf,
    port: u16,
    data: Data,
}

/// Says what is kept, or does something with it.
///
/// # Errors
/// If the database can't be read or changed, or has not what is named.
pub fn run(args: &DataArgs) -> Result<ExitCode, Error> {
    let Some(state) = args.state.folder() else {
        return Err(Error::refused(
            "there is no folder for messages: this user has no home; set CLAUDE_SOCKET_STATE_DIR",
        ));
    };
    let port = args.port.port;
    let place = Place {
        data: Data::new(&state.join("store"), port),
        state,
        port,
    };
    match &args.command {
        None => list::run(&place, args.json),
        Some(_) if args.json => Err(Error::usage(
            "--json is for the list; what export prints is JSON anyway",
        )),
        Some(DataCommand::Remove(what)) => remove::run(&place, what),
        Some(DataCommand::Export(what)) => export::run(&place, what),
    }?;
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn sizes(&self) -> Result<Sizes, Error> {
        self.data.inspect().map_err(Error::refused)
    }

    /// Says that there is no database.
    fn nothing(&self, sizes: &Sizes) -> String {
        format!(
            "nothing is kept of port {}: there is no {}",
            self.port,
            sizes.path.display()
        )
    }
}

/// Returns the sessions with this name, or of this agent, or both.
///
/// # Errors
/// If there are none: a sentence that names those that there are.
fn find<'a>(
    sizes: &'a Sizes,
    agent: Option<&str>,
    session: Option<&str>,
) -> Result<Vec<&'a SessionSizes>, Error> {
    let is_meant = |data: &&AgentSizes| agent.is_none_or(|agent| data.name == agent);
    let agents: Vec<_> = sizes.agents.iter().filter(is_meant).collect();
    if let Some(agent) = agent.filter(|_| agents.is_empty()) {
        let names = names(sizes.agents.iter().map(|agent| agent.name.as_str()));
        return Err(Error::refused(format_args!(
            "there is no agent {agent:?}; {names}"
        )));
    }
    let all = || agents.iter().flat_map(|agent| &agent.sessions);
    let is_it = |data: &&SessionSizes| session.is_none_or(|session| data.name == session);
    let found: Vec<_> = all().filter(is_it).collect();
    if let Some(session) = session.filter(|_| found.is_empty()) {
        let names = names(all().map(|data| data.name.as_str()));
        return Err(Error::refused(format_args!(
            "there is no session {session:?}; {names}"
        )));
    }
    Ok(found)
}

/// The most names in a sentence.
const MAX_NAMES: usize = 20;

/// Says which names there are.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let names: std::collections::BTreeSet<_> = all.collect();
    let listed: Vec<_> = names
        .iter()
        .take(MAX_NAMES)
        .map(|name| format!("{name:?}"))
        .collect();
    match names.len() {
        0 => "there are none".to_owned(),
        count if count > MAX_NAMES => format!(
            "there are {} and {} more; look at: claude-socket data",
            listed.join(", "),
            count - MAX_NAMES
        ),
        1 => format!("there is only {}", listed.join(", ")),
        _ => format!("there are {}", listed.join(", ")),
    }
}

/// Returns a number with its noun.
fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(agents: &[(&str, &[&str])]) -> Sizes {
        let session = |name: &&str| SessionSizes {
            name: (*name).to_owned(),
            messages: 1,
            bytes: 1,
            said: None,
        };
        let agents = agents.iter().map(|(name, sessions)| AgentSizes {
            name: (*name).to_owned(),
            sessions: sessions.iter().map(session).collect(),
        });
        Sizes {
            path: PathBuf::new(),
            bytes: 0,
            agents: agents.collect(),
            aside: Vec::new(),
        }
    }

    #[test]
    fn sessions_are_found_or_those_there_are_named() {
        let all = sizes(&[("a", &["s1", "s2"]), ("b", &["s1"])]);
        let found = |agent, session| match find(&all, agent, session) {
            Ok(found) => Ok(found.len()),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(found(None, Some("s1")), Ok(2));
        assert_eq!(found(Some("a"), None), Ok(2));
        assert_eq!(found(Some("b"), Some("s1")), Ok(1));
        assert_eq!(found(None, None), Ok(3));
        let cases = [
            (
                Some("c"),
                None,
                r#"there is no agent "c"; there are "a", "b""#,
            ),
            (
                Some("b"),
                Some("s2"),
                r#"there is no session "s2"; there is only "s1""#,
            ),
        ];
        for (agent, session, why) in cases {
            assert_eq!(found(agent, session), Err(why.to_owned()));
        }
        let names: Vec<_> = (0..30).map(|number| format!("s{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let many = sizes(&[("a", &names)]);
        let why = find(&many, None, Some("x")).expect_err("there is none");
        assert!(why.to_string().contains(" and 10 more"), "{why}");
        let why = find(&sizes(&[]), None, Some("x")).expect_err("there is none");
        assert!(why.to_string().ends_with("there are none"), "{why}");
    }
}
