//! The thread that writes. It opens the database, makes each wake-up's changes in one commit, and opens it again after
//! whatever went wrong.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};
use rusqlite::{Connection, ErrorCode};

use super::apply::{Tables, must_last};
use super::clock::Clock;
use super::files::{FileError, Files, Identity, Lock, Locking};
use super::health::State;
use super::queries::Unsettled;
use super::schema::{self, SchemaError};
use super::shared::{Shared, Work};
use super::{Options, queries, removal, rows, unclean};
use crate::hub::stored::{Change, Selection, SessionNumber, StoreInput};

/// How long it is waited before something is tried again: doubled each time, from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often old messages are removed, while something is written.
const REMOVAL_INTERVAL: Duration = Duration::from_hours(1);
/// The spans that are removed in one transaction, and how long it may take before the last of them: others' changes wait
/// no longer than for these.
const SPANS_AT_ONCE: usize = 16;
const REMOVAL_TIME: Duration = Duration::from_secs(1);
/// How long it is waited for readers who keep the log from being emptied.
const LOG_RETRY: Duration = Duration::from_secs(1);

/// The thread's state.
pub struct Writer {
    pub shared: Arc<Shared>,
    pub files: Files,
    pub options: Options,
    /// Held as long as the thread runs.
    lock: Option<Lock>,
    /// Which file it was that was open last.
    identity: Option<Identity>,
    /// Taken, and not on disk.
    held: Vec<Vec<Change>>,
    /// With those that are held, so many changes have come.
    pushed: u64,
    /// Once the database can be written, the hub must send what it knows.
    must_resend: bool,
    /// The hub knows that the database was open.
    was_open: bool,
    is_closing: bool,
    retry: Duration,
    /// What the agent was given in an earlier run, and is not settled yet.
    unsettled: Option<Unsettled>,
}

/// Why the database can't be used now.
enum Failure {
    /// Only the process with this number, which has it open, can say when that ends.
    Locked(Option<u32>),
    /// Nothing changes that but somebody who sees to it; then the program must be started again.
    Refused(String),
    /// It may be over soon.
    Transient(String),
    /// Its content is not what was written.
    Damaged(String),
    /// Another file has its name.
    Replaced,
    /// No file has its name.
    Removed,
}

/// The database while it is open.
struct Session<'c> {
    database: &'c Connection,
    tables: Tables<'c>,
    clock: Clock,
    /// When old messages are looked for next; then, or after the next commit if that is later.
    removal_due: Instant,
    /// Older ones, and then the oldest, are being removed.
    is_removing: bool,
    /// What was removed may still be in the log.
    must_empty_log: bool,
    is_full_sync: bool,
    /// Nothing is certain to last through a power cut yet, not even that the database is open.
    is_first: bool,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, files: Files, options: Options) -> Self {
        Self {
            shared,
            files,
            options,
            lock: None,
            identity: None,
            held: Vec::new(),
            pushed: 0,
            must_resend: false,
            was_open: false,
            is_closing: false,
            retry: RETRY.0,
            unsettled: None,
        }
    }

    /// Runs until the store is closed. Returns `true` if everything is on disk then.
    pub fn run(mut self) -> bool {
        loop {
            self.shared.begin_writing();
            let result = self.open_and_serve();
            self.shared.end_writing();
            match result {
                Ok(()) => return true,
                Err(failure) => self.recover(failure),
            }
            if self.is_closing {
                return false;
            }
        }
    }

    fn open_and_serve(&mut self) -> Result<(), Failure> {
        let mut database = self.open()?;
        self.begin(&mut database)?;
        let result = {
            let mut session = self.session(&database)?;
            self.serve(&mut session)
        };
        if result.is_ok() {
            // If it can't be marked, the next server believes that this one has crashed.
            let _ = unclean::end(&database);
            // The last connection that is closed empties the log too, but says nothing if it can't.
            let _ = schema::empty_log(&database);
        }
        result
    }

    fn open(&mut self) -> Result<Connection, Failure> {
        self.files.check()?;
        self.lock.take_if(|lock| !self.files.is_locked(lock));
        if self.lock.is_none() {
            match self.files.lock()? {
                Locking::Locked(lock) => self.lock = Some(lock),
                Locking::Taken(process) => return Err(Failure::Locked(process)),
            }
        }
        self.check_identity()?;
        if self.files.create()? {
            self.files
                .remove_leftovers()
                .map_err(|error| FileError::Failed(self.files.database(), error))?;
            // What was written is in a file that is gone.
            self.must_resend |= self.was_open;
        }
        let database =
            schema::open(&self.files.database()).map_err(|error| self.schema_failure(error))?;
        self.identity = self.files.identity();
        Ok(database)
    }

    /// Checks that no other file has the database's name.
    fn check_identity(&self) -> Result<(), Failure> {
        match (self.identity, self.files.identity()) {
            (Some(before), Some(now)) if before != now => Err(Failure::Replaced),
            (Some(_), None) => Err(Failure::Removed),
            _ => Ok(()),
        }
    }

    /// Tells the hub what there is, the first time. Later that everything can be written again.
    fn begin(&mut self, database: &mut Connection) -> Result<(), Failure> {
        if !self.was_open {
            let agent = &self.options.agent;
            let opened = (|| {
                let transaction = database.transaction()?;
                unclean::begin(&transaction)?;
                let given = Unsettled::before(Tables::new(&transaction)?.position());
                let unsettled = queries::settle(&transaction, agent, given)?;
                let opened = queries::open(&transaction, agent)?;
                removal::remove_empty(&transaction, self.options.ttl)?;
                transaction.commit()?;
                Ok((opened, unsettled))
            })();
            let (opened, unsettled) = opened.map_err(|error| self.failure(&error))?;
            self.unsettled = unsettled;
            self.was_open = true;
            self.shared.set_state(State::Open);
            self.shared.set_readable(true);
            self.shared.report(StoreInput::Opened(Box::new(opened)));
            return Ok(());
        }
        // It may be a new one.
        unclean::mark(database).map_err(|error| self.failure(&error))?;
        self.shared.set_readable(true);
        Ok(())
    }

    fn session<'c>(&self, database: &'c Connection) -> Result<Session<'c>, Failure> {
        let session = || {
            let known = removal::last_start(database)?;
            let now = Instant::now();
            Ok(Session {
                database,
                tables: Tables::new(database)?,
                clock: Clock::new(known.map(rows::time), SystemTime::now(), now),
                removal_due: now,
                is_removing: false,
                must_empty_log: false,
                is_full_sync: false,
                is_first: true,
            })
        };
        session().map_err(|error| self.failure(&error))
    }

    /// Does what there is to do until the store is closed.
    fn serve(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        // What could not be written before goes first.
        let mut work = self.shared.take();
        loop {
            self.shared.begin_writing();
            if work.is_damaged {
                return Err(Failure::Damaged("a page cannot be read".to_owned()));
            }
            self.is_closing = work.is_closing;
            self.write(session, &mut work)?;
            let maintained = session.maintain(self, &work);
            // Those who wait for the index go on, whether it was made or not.
            work.index.clear();
            maintained?;
            self.shared.set_bytes(self.files.bytes());
            let hung = self.shared.end_writing();
            if self.is_closing {
                return Ok(());
            }
            work = if hung {
                self.shared.take()
            } else {
                let due = self.unsettled.map(|_| Instant::now());
                self.shared.wait(due.or_else(|| session.deadline()))
            };
        }
    }

    /// Writes what is held, and what there is now.
    fn write(&mut self, session: &mut Session<'_>, work: &mut Work) -> Result<(), Failure> {
        self.held.append(&mut work.batches);
        self.pushed = work.pushed;
        self.must_resend |= work.has_dropped;
        if !self.held.is_empty() {
            self.check_identity()?;
            let changes = self.held.iter().flatten();
            session
                .commit(changes)
                .map_err(|error| self.failure(&error))?;
            self.remove_aside();
        }
        self.written();
        Ok(())
    }

    /// Removes the files that were set aside if everything was to be removed.
    fn remove_aside(&self) {
        let mut changes = self.held.iter().flatten();
        if changes.any(|change| matches!(change, Change::Remove(Selection::All)))
            && let Err(error) = self.files.remove_aside()
        {
            warn!(
                "the messages that were set aside beside {} cannot be removed ({error}); remove those files",
                self.files.database().display()
            );
        }
    }

    /// Tells the hub that everything that was taken is on disk.
    fn written(&mut self) {
        let has_written = !self.held.is_empty();
        self.held.clear();
        self.retry = RETRY.0;
        self.shared.written(self.pushed);
        let before = self.shared.set_state(State::Open);
        if self.must_resend || matches!(before, State::Failing(_)) {
            info!(
                "the messages in {} are written again",
                self.files.database().display()
            );
            let must_resend = std::mem::take(&mut self.must_resend);
            self.shared.report(StoreInput::Recovered { must_resend });
        }
        if has_written {
            self.shared.report(StoreInput::Stored(self.pushed));
        }
    }

    /// Does what can be done about a failure, tells the hub, and waits before it is tried again.
    fn recover(&mut self, failure: Failure) {
        // What can't be written now can still be read.
        let is_readable = matches!(failure, Failure::Locked(_) | Failure::Transient(_));
        if !is_readable {
            self.shared.set_readable(false);
        }
        let path = self.files.database();
        let path = path.display();
        let sentence = match failure {
            Failure::Locked(process) => {
                let process =
                    process.map_or_else(String::new, |process| format!(" (process {process})"));
                format!(
                    "the messages in {path} are used by another claude-socket{process}, so what is said here is kept in memory only until that one has ended"
                )
            }
            Failure::Refused(why) => return self.refuse(&why),
            Failure::Transient(why) => format!(
                "the messages cannot be written to {path} ({why}); what is said is kept in memory until they can; make room there, and make it writable"
            ),
            Failure::Damaged(why) => match self.set_aside("damaged") {
                Ok(aside) => {
                    warn!(
                        "the messages in {path} are damaged ({why}), so that file is {aside} now, and a new one begins"
                    );
                    return;
                }
                Err(error) => format!(
                    "the messages in {path} are damaged ({why}), and that file cannot be renamed ({error}); move it away"
                ),
            },
            Failure::Replaced => match self.set_aside("replaced") {
                Ok(aside) => {
                    warn!(
                        "the messages in {path} were replaced while they were in use, so what was put there is {aside} now, and a new file begins; to use that one, end claude-socket, and then put it there"
                    );
                    return;
                }
                Err(error) => format!(
                    "the messages in {path} were replaced while they were in use, and what is there cannot be renamed ({error}); move it away"
                ),
            },
            Failure::Removed => {
                self.identity = None;
                self.must_resend = true;
                warn!(
                    "the messages in {path} were removed while they were in use, so a new file begins"
                );
                return;
            }
        };
        self.fail(&sentence);
        let deadline = Instant::now() + self.retry;
        self.retry = (self.retry * 2).min(RETRY.1);
        self.is_closing = !self.shared.pause(deadline);
    }

    /// Gives the file another name, so that a new one begins.
    fn set_aside(&mut self, why: &str) -> std::io::Result<String> {
        let aside = self.files.set_aside(why)?;
        self.identity = None;
        self.must_resend |= self.was_open;
        Ok(aside.display().to_string())
    }

    /// Tells the hub, and people, that nothing can be written.
    fn fail(&mut self, sentence: &str) {
        let state = if self.was_open {
            State::Failing(sentence.into())
        } else {
            State::Unavailable(sentence.into())
        };
        let is_known = self.shared.set_state(state.clone());
        if is_known == state {
            return;
        }
        error!("{sentence}");
        match is_known {
            State::Opening => self.shared.report(StoreInput::Unavailable),
            State::Open => self.shared.report(StoreInput::Failing),
            State::Failing(_) | State::Unavailable(_) => {}
        }
    }

    /// Waits for the end: it is not tried again.
    fn refuse(&mut self, sentence: &str) {
        if self.was_open {
            self.held.clear();
        }
        self.was_open = false;
        self.fail(sentence);
        while self.shared.pause(Instant::now() + Duration::from_hours(24)) {}
        self.is_closing = true;
    }

    /// Says what an error means.
    fn failure(&self, error: &rusqlite::Error) -> Failure {
        match error.sqlite_error_code() {
            _ if schema::is_damage(error) => Failure::Damaged(error.to_string()),
            Some(ErrorCode::SystemIoFailure) if self.files.is_disk_full() => {
                Failure::Transient("the disk is full".to_owned())
            }
            Some(ErrorCode::DiskFull) => Failure::Transient("the disk is full".to_owned()),
            _ => Failure::Transient(error.to_string()),
        }
    }

    fn schema_failure(&self, error: SchemaError) -> Failure {
        let path = self.files.database();
        let path = path.display();
        match error {
            SchemaError::Newer(version) => Failure::Refused(format!(
                "the messages in {path} are of version {version}, which a newer claude-socket has written, so they are left alone and what is said is kept in memory only; update claude-socket, or move the file away, and start Claude Code again"
            )),
            SchemaError::Foreign => Failure::Refused(format!(
                "{path} is a database of another program, so what is said is kept in memory only; move it away, and start Claude Code again"
            )),
            SchemaError::NoLog => Failure::Transient(
                "no log can be kept beside them, as on a network's file system".to_owned(),
            ),
            SchemaError::Sqlite(error) => self.failure(&error),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Exposed(..) => Self::Refused(format!(
                "{error}; until claude-socket is started again after that, what is said is kept in memory only"
            )),
            FileError::Failed(_, error) => Self::Transient(error.to_string()),
        }
    }
}

impl Session<'_> {
    /// Makes changes in one commit.
    fn commit<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change> + Clone,
    ) -> rusqlite::Result<()> {
        let said = self.clock.stamp(SystemTime::now(), Instant::now());
        let is_full_sync = self.is_first || must_last(changes.clone());
        if is_full_sync != self.is_full_sync {
            let level = if is_full_sync { "FULL" } else { "NORMAL" };
            self.database.pragma_update(None, "synchronous", level)?;
            self.is_full_sync = is_full_sync;
        }
        let transaction = self.database.unchecked_transaction()?;
        let has_removed = self.tables.apply(changes, rows::millis(said))?;
        transaction.commit()?;
        self.is_first = false;
        self.must_empty_log |= has_removed;
        Ok(())
    }

    /// Indexes messages, removes old ones and empties the log, as far as it is time.
    fn maintain(&mut self, writer: &mut Writer, work: &Work) -> Result<(), Failure> {
        let removed = self.try_maintain(writer, work);
        let removed = removed.map_err(|error| writer.failure(&error))?;
        if !removed.is_empty() {
            writer.shared.report(StoreInput::Removed(removed));
        }
        Ok(())
    }

    fn try_maintain(
        &mut self,
        writer: &mut Writer,
        work: &Work,
    ) -> rusqlite::Result<Vec<(SessionNumber, u64)>> {
        if !work.index.is_empty() || self.tables.should_index(writer.shared.is_busy()) {
            let transaction = self.database.unchecked_transaction()?;
            self.tables.index_all()?;
            transaction.commit()?;
        }
        if let Some(unsettled) = writer.unsettled {
            let transaction = self.database.unchecked_transaction()?;
            let unsettled = queries::settle(self.database, &writer.options.agent, unsettled)?;
            transaction.commit()?;
            writer.unsettled = unsettled;
        }
        let removed = self.remove_old(&writer.options)?;
        if self.must_empty_log {
            removal::shrink(self.database)?;
            self.must_empty_log = !schema::empty_log(self.database)?;
        }
        Ok(removed)
    }

    /// Removes the messages that are too old, and the oldest if there are too many: some of them, if there are many.
    fn remove_old(&mut self, options: &Options) -> rusqlite::Result<Vec<(SessionNumber, u64)>> {
        let now = Instant::now();
        let is_due = now >= self.removal_due;
        let limit = removal::limit(options.max_bytes);
        if !is_due && !self.is_removing && removal::used_bytes(self.database)? <= limit {
            return Ok(Vec::new());
        }
        let time = self.clock.removal(SystemTime::now(), now);
        let oldest = time.checked_sub(options.ttl).map_or(0, rows::millis);
        let transaction = self.database.unchecked_transaction()?;
        let mut removed = Vec::new();
        self.is_removing = true;
        let has_time = || now.elapsed() < REMOVAL_TIME;
        while self.is_removing && removed.len() < SPANS_AT_ONCE && has_time() {
            let span = match removal::remove_oldest(self.database, Some(oldest), &mut self.tables)?
            {
                None if removal::used_bytes(self.database)? > limit => {
                    removal::remove_oldest(self.database, None, &mut self.tables)?
                }
                span => span,
            };
            match span {
                Some(span) => removed.push(span),
                None => self.is_removing = false,
            }
        }
        if is_due && !self.is_removing {
            removal::remove_old_verdicts(self.database, oldest)?;
            self.removal_due = now + REMOVAL_INTERVAL;
        }
        transaction.commit()?;
        Ok(removed)
    }

    /// When there is something to do though nothing has come.
    fn deadline(&self) -> Option<Instant> {
        if self.is_removing {
            return Some(Instant::now());
        }
        self.must_empty_log.then(|| Instant::now() + LOG_RETRY)
    }
}

/// Returns what people are told when the disk doesn't answer.
pub fn disk_hangs(database: &Path) -> String {
    format!(
        "the disk of {} does not answer, so what is said is kept in memory until it does; check the disk",
        database.display()
    )
}
