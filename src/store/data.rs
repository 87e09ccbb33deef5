//! What `claude-socket data` needs: how much a store holds, removing it, exporting it. Reading works beside a server that
//! has the store open; removing doesn't, the server must do that itself.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::apply::Tables;
use super::files::{self, FileError, Files, Lock, Locking};
use super::removal;
use super::rows::{self, COLUMNS, columns, row_ids};
use super::schema::{self, SchemaError};
use crate::hub::stored::{Selection, SessionNumber};
use crate::protocol::{HistoryItem, SessionId};

/// What a store holds.
#[derive(Debug)]
pub struct Sizes {
    /// The database.
    pub path: PathBuf,
    /// The bytes of the database and its log.
    pub bytes: u64,
    pub agents: Vec<AgentSizes>,
    /// Databases that were damaged or replaced, and the bytes of each.
    pub aside: Vec<(PathBuf, u64)>,
}

/// What a store holds of an agent.
#[derive(Debug)]
pub struct AgentSizes {
    pub name: String,
    /// By name.
    pub sessions: Vec<SessionSizes>,
}

/// What a store holds of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSizes {
    pub name: String,
    pub messages: u64,
    /// Of their texts.
    pub bytes: u64,
    /// When the oldest that is left was said, and the newest.
    pub said: Option<(SystemTime, SystemTime)>,
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Removed {
    pub sessions: usize,
    /// Databases that were set aside, which may hold the same and were left.
    pub aside: Vec<PathBuf>,
}

/// Why a store can't be read or changed. Its `Display` is one sentence.
#[derive(Debug)]
pub enum DataError {
    /// A server has it open: the number of its process, if that is known.
    InUse(PathBuf, Option<u32>),
    File(FileError),
    Schema(PathBuf, SchemaError),
    /// There is no such session.
    NoSession(String),
    /// What was exported can't be written.
    Output(io::Error),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path, process) => {
                write!(
                    f,
                    "the messages in {} are in use by a claude-socket",
                    path.display()
                )?;
                if let Some(process) = process {
                    write!(f, " (process {process})")?;
                }
                f.write_str(", which must remove them itself; end it, and try again")
            }
            Self::File(error) => error.fmt(f),
            Self::Schema(path, error) => {
                write!(f, "the messages in {} ", path.display())?;
                match error {
                    SchemaError::Newer(version) => write!(
                        f,
                        "are of version {version}, which a newer claude-socket has written; update claude-socket"
                    ),
                    SchemaError::Foreign => {
                        f.write_str("are a database of another program; move it away")
                    }
                    SchemaError::NoLog => f.write_str(
                        "cannot be opened, for no log can be kept beside them; keep them on a disk of this computer",
                    ),
                    SchemaError::Sqlite(error) => {
                        write!(f, "cannot be read ({error}); check the disk")
                    }
                }
            }
            Self::NoSession(name) => write!(
                f,
                "there is no session \"{name}\"; \"claude-socket data\" lists those that there are"
            ),
            Self::Output(error) => write!(
                f,
                "what is exported cannot be written ({error}); make room there"
            ),
        }
    }
}

impl std::error::Error for DataError {}

impl From<FileError> for DataError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// The store of one port.
#[derive(Clone, Debug)]
pub struct Data {
    files: Files,
}

/// Returns the ports that have a database in this folder.
pub fn ports(folder: &Path) -> Vec<u16> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let port = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        name.strip_suffix(".db")?.parse().ok()
    };
    let mut ports: Vec<u16> = entries
        .filter_map(|entry| port(&entry.ok()?.path()))
        .collect();
    ports.sort_unstable();
    ports
}

impl Data {
    /// Returns the store of a port, which may have nothing yet.
    pub fn new(folder: &Path, port: u16) -> Self {
        let files = Files::new(folder.to_owned(), port);
        Self { files }
    }

    /// Returns what the store holds.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn inspect(&self) -> Result<Sizes, DataError> {
        let mut sizes = Sizes {
            path: self.files.database(),
            bytes: self.files.bytes(),
            agents: Vec::new(),
            aside: self.files.aside().into_iter().map(with_bytes).collect(),
        };
        if let Some((database, _lock)) = self.open()? {
            sizes.agents = agents(&database).map_err(|error| self.failure(error))?;
        }
        Ok(sizes)
    }

    /// Writes a session as JSON lines, a message each, oldest first. Returns how many.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn export(
        &self,
        agent: Option<&str>,
        session: &SessionId,
        out: &mut impl Write,
    ) -> Result<usize, DataError> {
        let mut exported = None;
        if let Some((database, _lock)) = self.open()? {
            let failure = |error| self.failure(error);
            for (number, agent) in named(&database, agent, session).map_err(failure)? {
                let lines = self.export_one(&database, number, session, &agent, out)?;
                *exported.get_or_insert(0) += lines;
            }
        }
        exported.ok_or_else(|| DataError::NoSession(session.to_string()))
    }

    fn export_one(
        &self,
        database: &Connection,
        number: SessionNumber,
        session: &SessionId,
        agent: &str,
        out: &mut impl Write,
    ) -> Result<usize, DataError> {
        let failure = |error| self.failure(error);
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", m.key FROM messages m WHERE id BETWEEN ? AND ? ORDER BY id"
        );
        let mut statement = database.prepare(sql).map_err(failure)?;
        let (first, last) = row_ids(number);
        let mut rows = statement.query([first, last]).map_err(failure)?;
        let mut lines = 0;
        while let Some(row) = rows.next().map_err(failure)? {
            let message = rows::message(row).map_err(failure)?;
            let line = Line {
                session_id: session.as_str(),
                agent,
                id: row.get(COLUMNS).map_err(failure)?,
                item: message.item(),
            };
            serde_json::to_writer(&mut *out, &line)
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
                .map_err(DataError::Output)?;
            lines += 1;
        }
        Ok(lines)
    }

    /// Removes sessions, so that nothing of them is left in the files.
    ///
    /// # Errors
    /// [`DataError`], and [`DataError::InUse`] while a server has the store open.
    pub fn remove(&self, selection: &Selection) -> Result<Removed, DataError> {
        if self.files.identity().is_none() && self.files.aside().is_empty() {
            return Ok(Removed::default());
        }
        self.files.check()?;
        let _lock = match self.files.lock()? {
            Locking::Locked(lock) => lock,
            Locking::Taken(process) => {
                return Err(DataError::InUse(self.files.database(), process));
            }
        };
        if *selection == Selection::All {
            return self.remove_all();
        }
        let path = self.files.database();
        if self.files.identity().is_none() {
            return Ok(Removed {
                sessions: 0,
                aside: self.files.aside(),
            });
        }
        let database =
            schema::open(&path).map_err(|error| DataError::Schema(path.clone(), error))?;
        let sessions = remove(&database, selection).map_err(|error| self.failure(error))?;
        Ok(Removed {
            sessions,
            aside: self.files.aside(),
        })
    }

    /// Removes the files, whatever is in them.
    fn remove_all(&self) -> Result<Removed, DataError> {
        let path = self.files.database();
        let count = || {
            let database = schema::open_to_read(&path).ok()?;
            let sql = "SELECT count(*) FROM sessions";
            database.query_row(sql, [], |row| row.get::<_, i64>(0)).ok()
        };
        let sessions = count().map_or(0, |count| usize::try_from(count).unwrap_or(0));
        let removed = files::remove(&path)
            .and_then(|()| self.files.remove_leftovers())
            .and_then(|()| self.files.remove_aside());
        removed.map_err(|error| FileError::Failed(path, error))?;
        Ok(Removed {
            sessions,
            aside: Vec::new(),
        })
    }

    /// Opens the database to read; `None` if there is none. If no server has it, it is brought to this version.
    fn open(&self) -> Result<Option<(Connection, Option<Lock>)>, DataError> {
        if self.files.identity().is_none() {
            return Ok(None);
        }
        self.files.check()?;
        let path = self.files.database();
        let (opened, lock) = match self.files.lock()? {
            Locking::Locked(lock) => (schema::open(&path), Some(lock)),
            Locking::Taken(_) => (schema::open_to_read(&path), None),
        };
        let database = opened.map_err(|error| DataError::Schema(path, error))?;
        Ok(Some((database, lock)))
    }

    fn failure(&self, error: rusqlite::Error) -> DataError {
        DataError::Schema(self.files.database(), SchemaError::Sqlite(error))
    }
}

/// A message as it is exported: as in a `history`, and where it was said.
#[derive(Serialize)]
struct Line<'a> {
    session_id: &'a str,
    agent: &'a str,
    /// The client's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(flatten)]
    item: HistoryItem<&'a str>,
}

fn with_bytes(path: PathBuf) -> (PathBuf, u64) {
    let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    (path, bytes)
}

fn agents(database: &Connection) -> rusqlite::Result<Vec<AgentSizes>> {
    let mut statement = database.prepare("SELECT id, name FROM agents ORDER BY name")?;
    let mut rows = statement.query([])?;
    let mut agents = Vec::new();
    while let Some(row) = rows.next()? {
        agents.push(AgentSizes {
            name: row.get(1)?,
            sessions: sessions(database, row.get(0)?)?,
        });
    }
    Ok(agents)
}

fn sessions(database: &Connection, agent: i64) -> rusqlite::Result<Vec<SessionSizes>> {
    let mut statement = database
        .prepare("SELECT number, name FROM sessions WHERE agent = ? ORDER BY name, number")?;
    let mut size = database.prepare(
        "SELECT count(*), coalesce(sum(octet_length(content)), 0), min(said), max(said) FROM messages
        WHERE id BETWEEN ? AND ?",
    )?;
    let mut rows = statement.query([agent])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let (first, last) = row_ids(SessionNumber(row.get(0)?));
        let name = row.get(1)?;
        sessions.push(size.query_row([first, last], |row| {
            let said: (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
            Ok(SessionSizes {
                name,
                messages: row.get::<_, i64>(0)?.cast_unsigned(),
                bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                said: said
                    .0
                    .zip(said.1)
                    .map(|(first, last)| (rows::time(first), rows::time(last))),
            })
        })?);
    }
    Ok(sessions)
}

/// Returns the sessions of a name, with their agents.
fn named(
    database: &Connection,
    agent: Option<&str>,
    session: &SessionId,
) -> rusqlite::Result<Vec<(SessionNumber, String)>> {
    let mut statement = database.prepare(
        "SELECT number, agents.name FROM sessions JOIN agents ON agents.id = agent
        WHERE sessions.name = ?1 AND (?2 IS NULL OR agents.name = ?2) ORDER BY number",
    )?;
    let named = statement.query_map(params![session.as_str(), agent], |row| {
        Ok((SessionNumber(row.get(0)?), row.get(1)?))
    })?;
    named.collect()
}

fn remove(database: &Connection, selection: &Selection) -> rusqlite::Result<usize> {
    let transaction = database.unchecked_transaction()?;
    Tables::new(database)?.index_all()?;
    let sessions = removal::remove(database, selection)?;
    transaction.commit()?;
    // What was removed is overwritten already: where there is no room for it, the file keeps its size.
    let _ = database.execute_batch("VACUUM");
    schema::empty_log(database)?;
    Ok(sessions)
}
