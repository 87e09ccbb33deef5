//! The store: what outlives the process, in a SQLite database. The hub's thread never waits for it: changes and questions
//! go into queues, and what became of them comes back as [`StoreInput`]s.
//!
//! | thread | does |
//! |---|---|
//! | `store` | opens the database, writes, indexes, removes what is old ([`writer`]) |
//! | `store-reader` | answers questions ([`reader`]) |
//! | `store-search` | answers those that look at much, from the first of them on |
//! | `store-watch` | says that the disk hangs, while something waits for it ([`shared`]) |
//!
//! What can't be written is kept in memory, within bounds, and tried again. The files are in [`files`], the tables in
//! [`schema`].

mod apply;
mod clock;
pub mod data;
mod files;
mod health;
mod queries;
mod reader;
mod removal;
mod rows;
mod schema;
mod search;
mod shared;
mod spans;
mod unclean;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

pub use health::{Health, State};

use crate::hub::stored::{Change, Query, QueryId, StoreInput};
use files::Files;
use shared::Shared;
use writer::Writer;

/// Where the store is, and what it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the databases, which is made if there is none.
    pub folder: PathBuf,
    /// The server's port: each has a database of its own.
    pub port: u16,
    /// The agent whose messages wait.
    pub agent: Arc<str>,
    /// How long messages are kept.
    pub ttl: Duration,
    /// The most bytes of the database. The oldest messages go first.
    pub max_bytes: u64,
}

/// A store that runs. Dropped without [`Store::close`], it ends when it has done what it has taken.
pub struct Store {
    shared: Arc<Shared>,
    files: Files,
    questions: Sender<(QueryId, Query)>,
    /// The questions that look at much; `None` if the system had no thread for them.
    searches: OnceLock<Option<Sender<(QueryId, Query)>>>,
    /// Whether everything is on disk, at the end.
    closed: Receiver<bool>,
}

/// Starts the threads of a store. Never waits for the disk.
///
/// # Errors
/// If the system has no thread left.
pub fn start(options: Options) -> io::Result<(Store, Receiver<StoreInput>)> {
    // Bounded by what it reports about: a commit, a question.
    let (reports, receiver) = unbounded();
    let (close, closed) = bounded(1);
    let shared = Arc::new(Shared::new(reports));
    let files = Files::new(options.folder.clone(), options.port);
    let store = Store {
        shared: shared.clone(),
        questions: start_reader("store-reader", &shared, &files)?,
        searches: OnceLock::new(),
        files: files.clone(),
        closed,
    };
    let hangs = writer::disk_hangs(&files.database());
    let of_watch = shared.clone();
    spawn("store-watch", move || of_watch.watch_disk(&hangs))?;
    let writer = Writer::new(shared, files, options);
    spawn("store", move || {
        let _ = close.send(writer.run());
    })?;
    Ok((store, receiver))
}

/// Starts a thread that answers questions, until nobody can ask any more.
///
/// # Errors
/// If the system has no thread left.
fn start_reader(
    name: &str,
    shared: &Arc<Shared>,
    files: &Files,
) -> io::Result<Sender<(QueryId, Query)>> {
    // Bounded by the clients: each waits for its answer.
    let (questions, asked) = unbounded();
    let (shared, files) = (shared.clone(), files.clone());
    spawn(name, move || reader::run(&shared, &files, &asked))?;
    Ok(questions)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map(drop)
}

impl Store {
    /// Has changes written. Never waits.
    pub fn write(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.shared.push(changes);
        }
    }

    /// Asks a question. Never waits: the answer comes as [`StoreInput::Answer`].
    pub fn ask(&self, id: QueryId, query: Query) {
        self.shared.asked(id);
        let questions = match query {
            Query::Search { .. } | Query::Sessions { .. } => self.searches(),
            _ => &self.questions,
        };
        // The reader ends when this is dropped, not before.
        let _ = questions.send((id, query));
    }

    /// Returns where questions go that look at much: a search for a common word in a million messages takes seconds, and
    /// whoever opens a session must not wait for that. Their thread is started for the first.
    fn searches(&self) -> &Sender<(QueryId, Query)> {
        let started = self
            .searches
            .get_or_init(|| start_reader("store-search", &self.shared, &self.files).ok());
        started.as_ref().unwrap_or(&self.questions)
    }

    /// Returns `true` if so much waits to be written that nothing more should be taken from clients.
    pub fn is_behind(&self) -> bool {
        self.shared.is_behind()
    }

    pub fn health(&self) -> Arc<Health> {
        Arc::new(self.shared.health())
    }

    /// Writes everything, and closes the database. Returns `false` if that was not possible by the deadline.
    pub fn close(self, deadline: Instant) -> bool {
        self.shared.close();
        self.closed.recv_deadline(deadline).unwrap_or(false)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.close();
        self.shared.end();
    }
}
