//! What a server that has not closed the store leaves open: which seqs clients have seen that never got to the disk.

use rusqlite::Connection;

/// So many seqs of each session may have been seen that are not on disk: [`super::shared`] keeps no more changes, and a
/// power cut takes no more than the log. A session can do without them 65,000 times.
const SKIPPED: u32 = 64 * 1024;

/// Marks the database as open. If it still is, since a server that has not closed it, no session goes on with a seq that
/// may have been seen. The caller begins and commits the transaction.
///
/// # Errors
/// Those of SQLite.
pub fn begin(database: &Connection) -> rusqlite::Result<()> {
    let is_open = "SELECT EXISTS(SELECT 1 FROM open)";
    let is_open: bool = database.query_row(is_open, [], |row| row.get(0))?;
    if is_open {
        let skip = "UPDATE sessions SET seq = seq + ?";
        database.execute(skip, [SKIPPED])?;
    }
    mark(database)
}

/// Marks the database as open, if it isn't. What is in it is this server's.
///
/// # Errors
/// Those of SQLite.
pub fn mark(database: &Connection) -> rusqlite::Result<()> {
    let sql = "INSERT INTO open(is_open) SELECT 1 WHERE NOT EXISTS(SELECT 1 FROM open)";
    database.execute(sql, [])?;
    Ok(())
}

/// Marks the database as closed: everything is in it.
///
/// # Errors
/// Those of SQLite.
pub fn end(database: &Connection) -> rusqlite::Result<()> {
    database.execute("DELETE FROM open", [])?;
    Ok(())
}
