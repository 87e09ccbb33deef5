//! The tables, and how a database of an earlier version becomes one of this version.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// What [`Connection`] reports of any database of this program: "clsk" (SQLite, `PRAGMA application_id`).
const APPLICATION_ID: i32 = 0x636c_736b;

/// The bytes of a page. A message alone in a commit changes four or five, and each goes to the disk as a whole: 4.6 KB, and
/// 15 KB with pages of 4 KiB.
pub const PAGE_SIZE: u32 = 1_024;
/// The pages of the log after which they are copied into the database, and the log begins anew.
pub const LOG_PAGES: u32 = 2_048;
/// The memory for pages, in KiB, of each connection.
const CACHE: u32 = 256;
/// The pages that a commit may change before some are written to the log ahead of its end. Otherwise one that changes a
/// page for each of 8,000 messages, in as many sessions, would take 10 MiB of memory, which then stays with the process.
const COMMIT_PAGES: u32 = 2_048;
/// How long another process, such as a person's `sqlite3`, may have the database locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// What makes a database of each version from one of the version before. What was released stays as it is.
const MIGRATIONS: [&str; 1] = [include_str!("v1.sql")];

/// Why a database can't be used.
#[derive(Debug)]
pub enum SchemaError {
    /// A newer program has written it.
    Newer(i64),
    /// It is a database of another program.
    Foreign,
    /// No log can be kept beside it, as on a network's file system.
    NoLog,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Opens the database to write, and brings it to this version. The file must exist.
///
/// # Errors
/// [`SchemaError`].
pub fn open(path: &Path) -> Result<Connection, SchemaError> {
    let mut database = connect(path)?;
    let (application, version) = versions(&database)?;
    let objects: i64 =
        database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if objects == 0 && (application, version) == (0, 0) {
        database.pragma_update(None, "page_size", PAGE_SIZE)?;
    } else {
        check(application, version)?;
    }
    let mode: String =
        database.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(SchemaError::NoLog);
    }
    migrate(&mut database, version)?;
    // The pages of the log are synced before they are copied, and the database before the log is overwritten.
    database.pragma_update(None, "synchronous", "NORMAL")?;
    // A commit of 5,000 messages would write each page seven times to the log if that began when the cache is full.
    database.pragma_update(None, "cache_spill", COMMIT_PAGES)?;
    database.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    database.pragma_update(None, "journal_size_limit", LOG_PAGES * PAGE_SIZE)?;
    Ok(database)
}

/// Opens the database to read. It must be of this version.
///
/// # Errors
/// [`SchemaError`].
pub fn open_to_read(path: &Path) -> Result<Connection, SchemaError> {
    let database = connect(path)?;
    let (application, version) = versions(&database)?;
    check(application, version)?;
    database.pragma_update(None, "query_only", true)?;
    Ok(database)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(BUSY_TIMEOUT)?;
    database.pragma_update(None, "cache_size", -i64::from(CACHE))?;
    database.pragma_update(None, "temp_store", "MEMORY")?;
    // What is removed is overwritten, so that nobody can find it in the file.
    database.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    Ok(database)
}

fn versions(database: &Connection) -> rusqlite::Result<(i32, i64)> {
    let application = database.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application, version))
}

fn check(application: i32, version: i64) -> Result<(), SchemaError> {
    match usize::try_from(version) {
        _ if application != APPLICATION_ID => Err(SchemaError::Foreign),
        Ok(known) if known <= MIGRATIONS.len() => Ok(()),
        _ => Err(SchemaError::Newer(version)),
    }
}

fn migrate(database: &mut Connection, version: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(version).unwrap_or(0);
    if done == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = database.transaction()?;
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    let version = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// Copies the log into the database, and empties it. Returns `false` if somebody reads from it.
///
/// # Errors
/// Those of SQLite.
pub fn empty_log(database: &Connection) -> rusqlite::Result<bool> {
    let busy: i64 = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}

/// Returns `true` if an error means that the content is not what was written.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match error {
        // A value of another type than that of its column.
        Error::FromSqlConversionFailure(..)
        | Error::InvalidColumnType(..)
        | Error::IntegralValueOutOfRange(..) => true,
        // `Unknown` is SQLite's general error: a table is not there, because the file was emptied.
        _ => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        ),
    }
}
