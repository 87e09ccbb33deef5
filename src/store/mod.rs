//! The store: what outlives the process, in a SQLite database. The hub's thread never waits for it: changes and questions
//! go into queues, and what became of them comes back as [`StoreInput`]s.
//!
//! | thread | does |
//! |---|---|
//! | `store` | opens the database, writes, indexes, removes what is old ([`writer`]) |
//! | `store-reader` | answers questions ([`reader`]) |
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
use std::sync::Arc;
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
    questions: Sender<(QueryId, Query)>,
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
    let (questions, asked) = unbounded();
    let (close, closed) = bounded(1);
    let shared = Arc::new(Shared::new(reports));
    let files = Files::new(options.folder.clone(), options.port);
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.into())
            .spawn(run)
            .map(drop)
    };
    let store = Store {
        shared: shared.clone(),
        questions,
        closed,
    };
    let hangs = writer::disk_hangs(&files.database());
    let of_watch = shared.clone();
    spawn("store-watch", Box::new(move || of_watch.watch_disk(&hangs)))?;
    let (of_reader, files_of_reader) = (shared.clone(), files.clone());
    spawn(
        "store-reader",
        Box::new(move || reader::run(&of_reader, &files_of_reader, &asked)),
    )?;
    let writer = Writer::new(shared, files, options);
    spawn(
        "store",
        Box::new(move || {
            let _ = close.send(writer.run());
        }),
    )?;
    Ok((store, receiver))
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
        // The reader ends when this is dropped, not before.
        let _ = self.questions.send((id, query));
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
