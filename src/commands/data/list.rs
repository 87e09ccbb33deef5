//! The list of what is kept.

use std::io::{self, Write};
use std::time::SystemTime;

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::{Place, counted};
use crate::commands::Error;
use crate::sanitize;
use crate::store::data::{AgentSizes, SessionSizes, Sizes};

/// The columns of the table.
const COLUMNS: [&str; 6] = ["AGENT", "SESSION", "MESSAGES", "TEXT", "FIRST", "LAST"];
/// Stands for all sessions of an agent.
const ALL: &str = "(all)";

/// Prints where the database is, how much it is, and what is in it.
///
/// # Errors
/// If it can't be read.
pub fn run(place: &Place, as_json: bool) -> Result<(), Error> {
    let sizes = place.sizes()?;
    let printed = if as_json {
        print_json(&sizes)
    } else {
        print_table(place, &sizes)
    };
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// Returns what there is of an agent, as of one session.
fn total(agent: &AgentSizes) -> SessionSizes {
    let sessions = || agent.sessions.iter();
    let first = sessions().filter_map(|session| Some(session.said?.0)).min();
    let last = sessions().filter_map(|session| Some(session.said?.1)).max();
    SessionSizes {
        name: ALL.to_owned(),
        messages: sessions().map(|session| session.messages).sum(),
        bytes: sessions().map(|session| session.bytes).sum(),
        said: first.zip(last),
    }
}

fn print_json(sizes: &Sizes) -> io::Result<()> {
    let said = |session: &SessionSizes| session.said.map(|(first, last)| [time(first), time(last)]);
    let agents = sizes.agents.iter().map(|agent| {
        let total = total(agent);
        let sessions = agent.sessions.iter().map(|session| {
            json!({
                "session_id": session.name,
                "messages": session.messages,
                "text_bytes": session.bytes,
                "said": said(session),
            })
        });
        json!({
            "agent": agent.name,
            "messages": total.messages,
            "text_bytes": total.bytes,
            "said": said(&total),
            "sessions": sessions.collect::<Value>(),
        })
    });
    let aside = sizes.aside.iter();
    let aside = aside.map(|(database, bytes)| json!({ "database": database, "bytes": bytes }));
    let report = json!({
        "database": sizes.path,
        "bytes": sizes.bytes,
        "agents": agents.collect::<Value>(),
        "set_aside": aside.collect::<Value>(),
    });
    writeln!(io::stdout(), "{report:#}")
}

fn print_table(place: &Place, sizes: &Sizes) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if sizes.bytes == 0 {
        eprintln!("There is nothing: {}.", place.nothing(sizes));
    } else {
        let messages = sizes.agents.iter().map(|agent| total(agent).messages).sum();
        writeln!(
            out,
            "What was said at port {} is in {}: {}, {} on disk.",
            place.port,
            sizes.path.display(),
            counted(messages, "message"),
            size(sizes.bytes)
        )?;
    }
    if !sizes.agents.is_empty() {
        writeln!(out)?;
        print_rows(&mut out, sizes)?;
    }
    for (database, bytes) in &sizes.aside {
        writeln!(
            out,
            "\n{} ({}) was set aside, because it was damaged or replaced. \"claude-socket data remove --all\" removes it too.",
            database.display(),
            size(*bytes)
        )?;
    }
    Ok(())
}

fn print_rows(out: &mut impl Write, sizes: &Sizes) -> io::Result<()> {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for agent in &sizes.agents {
        rows.push(row(&agent.name, &total(agent)));
        let sessions = agent.sessions.iter();
        rows.extend(sessions.map(|session| row(&agent.name, session)));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2, 3, 4].map(|column| width(column).unwrap_or(0));
    for [agent, session, messages, bytes, first, last] in &rows {
        let [a, b, c, d, e] = widths;
        writeln!(
            out,
            "{agent:a$}  {session:b$}  {messages:>c$}  {bytes:>d$}  {first:e$}  {last}"
        )?;
    }
    Ok(())
}

fn row(agent: &str, session: &SessionSizes) -> [String; COLUMNS.len()] {
    let (first, last) = session.said.unzip();
    let time = |at: Option<SystemTime>| at.map_or_else(|| "-".to_owned(), time);
    [
        sanitize::line(agent),
        sanitize::line(&session.name),
        session.messages.to_string(),
        size(session.bytes),
        time(first),
        time(last),
    ]
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
