//! Removes messages: those of sessions that are to be forgotten, those that are too old, and the oldest of too many.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, params};

use super::apply::Tables;
use super::rows::{self, place, row_id, row_ids};
use super::schema;
use crate::hub::stored::{Selection, SessionNumber};

/// More messages than this are removed from the index by writing it anew: a word after the other takes 60 µs for each.
const REMOVED_ONE_BY_ONE: i64 = 256;
/// The most bytes of changes that come at once.
const AT_ONCE: u64 = 8 * 1024 * 1024;

/// Removes sessions with all that was said there. Messages must be indexed. The caller begins and commits the transaction.
/// Returns how many sessions were removed.
///
/// # Errors
/// Those of SQLite.
pub fn remove(database: &Connection, selection: &Selection) -> rusqlite::Result<usize> {
    let sessions = selected(database, selection)?;
    if *selection == Selection::All {
        remove_all(database)?;
        return Ok(sessions.len());
    }
    let are_many = are_many(database, &sessions)?;
    if are_many {
        overwrite_words(database, false)?;
    }
    for session in &sessions {
        let (first, last) = row_ids(*session);
        remove_rows(database, first, last, false)?;
        for table in ["unindexed", "spans"] {
            database.execute(
                &format!("DELETE FROM {table} WHERE session = ?"),
                [session.0],
            )?;
        }
        database.execute("DELETE FROM sessions WHERE number = ?", [session.0])?;
    }
    if are_many {
        // What was only noted goes when all parts of the index become one.
        database.execute("INSERT INTO words(words) VALUES('optimize')", [])?;
        overwrite_words(database, true)?;
    }
    if let Selection::Agent(name) = selection {
        let verdicts = "DELETE FROM verdicts WHERE agent IN (SELECT id FROM agents WHERE name = ?)";
        database.execute(verdicts, [name])?;
        database.execute("DELETE FROM agents WHERE name = ?", [name])?;
    }
    Ok(sessions.len())
}

/// Returns `true` if so many messages are in sessions that the index is better written anew.
fn are_many(database: &Connection, sessions: &[SessionNumber]) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM messages WHERE id BETWEEN ? AND ? LIMIT ?)";
    let mut statement = database.prepare(sql)?;
    let mut left = REMOVED_ONE_BY_ONE;
    for session in sessions {
        let (first, last) = row_ids(*session);
        left -= statement.query_row([first, last, left + 1], |row| row.get::<_, i64>(0))?;
        if left < 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has the index overwrite the words of each message that is removed from it, or only note that they are (SQLite, "The
/// 'secure-delete' Configuration Option").
fn overwrite_words(database: &Connection, overwrites: bool) -> rusqlite::Result<()> {
    let sql = "INSERT INTO words(words, rank) VALUES('secure-delete', ?)";
    database.execute(sql, [overwrites])?;
    Ok(())
}

/// Removes everything, without looking at each message.
fn remove_all(database: &Connection) -> rusqlite::Result<()> {
    database.execute_batch(
        "INSERT INTO words(words) VALUES('delete-all');
        DELETE FROM messages; DELETE FROM waiting; DELETE FROM unread; DELETE FROM spans; DELETE FROM unindexed;
        DELETE FROM verdicts; DELETE FROM sessions; DELETE FROM agents;",
    )
}

/// Returns the sessions that are meant.
fn selected(database: &Connection, selection: &Selection) -> rusqlite::Result<Vec<SessionNumber>> {
    let (agent, name) = match selection {
        Selection::Session { agent, session } => (agent.as_deref(), Some(session.as_str())),
        Selection::Agent(agent) => (Some(&**agent), None),
        Selection::All => (None, None),
    };
    let mut statement = database.prepare(
        "SELECT number FROM sessions LEFT JOIN agents ON agents.id = agent
        WHERE (?1 IS NULL OR agents.name = ?1) AND (?2 IS NULL OR sessions.name = ?2)",
    )?;
    let numbers =
        statement.query_map(params![agent, name], |row| Ok(SessionNumber(row.get(0)?)))?;
    numbers.collect()
}

/// Removes the messages with these ids. If `spares`, those stay that nobody has received, or that wait in an inbox.
/// Returns how many clients' ids they had.
fn remove_rows(
    database: &Connection,
    first: i64,
    last: i64,
    spares: bool,
) -> rusqlite::Result<i64> {
    let spared = if spares {
        "AND id NOT IN (SELECT message FROM unread WHERE message BETWEEN ?1 AND ?2)
            AND id NOT IN (SELECT message FROM waiting WHERE is_queued = 1)"
    } else {
        ""
    };
    let rows = format!("FROM messages WHERE id BETWEEN ?1 AND ?2 {spared}");
    let range = [first, last];
    let keys = database.query_row(&format!("SELECT count(key) {rows}"), range, |row| {
        row.get(0)
    })?;
    let unindex =
        format!("INSERT INTO words(words, rowid, content) SELECT 'delete', id, content {rows}");
    database.execute(&unindex, range)?;
    database.execute(&format!("DELETE {rows}"), range)?;
    for table in ["unread", "waiting"] {
        let sql = format!(
            "DELETE FROM {table} WHERE message BETWEEN ?1 AND ?2
            AND message NOT IN (SELECT id FROM messages WHERE id BETWEEN ?1 AND ?2)"
        );
        database.execute(&sql, range)?;
    }
    Ok(keys)
}

/// A span that is to be removed.
#[derive(Clone, Copy, Debug)]
struct Span {
    session: SessionNumber,
    first: u64,
    start: i64,
}

/// Removes the messages of the oldest span. With `before`, only those that were said before it, in milliseconds since
/// 1970, also those that nobody has received or that wait. Returns the session, and the seq before which its messages are
/// removed; `None` if there is nothing to remove. The caller begins and commits the transaction.
///
/// # Errors
/// Those of SQLite.
pub fn remove_oldest(
    database: &Connection,
    before: Option<i64>,
    tables: &mut Tables<'_>,
) -> rusqlite::Result<Option<(SessionNumber, u64)>> {
    let Some(span) = oldest(database, before)? else {
        return Ok(None);
    };
    // What is not in the index can't be removed from it.
    tables.index_all()?;
    tables.forget_span(span.session);
    let Span { session, first, .. } = span;
    let (_, end_of_session) = row_ids(session);
    let next: Option<i64> = database.query_row(
        "SELECT min(first) FROM spans WHERE session = ? AND first > ?",
        params![session.0, first.cast_signed()],
        |row| row.get(0),
    )?;
    // Those before the first span of the session belong to it: they came late.
    let is_first: bool = database.query_row(
        "SELECT NOT EXISTS(SELECT 1 FROM spans WHERE session = ? AND first < ?)",
        params![session.0, first.cast_signed()],
        |row| row.get(0),
    )?;
    let begin = row_id(session, if is_first { 0 } else { first });
    let mut end = next.map_or(end_of_session, |next| {
        row_id(session, next.cast_unsigned()) - 1
    });
    let mut rest = None;
    if let Some(before) = before {
        // The first that is younger, if one is.
        let sql = "SELECT min(id) FROM messages WHERE id BETWEEN ? AND ? AND said >= ?";
        let young: Option<i64> =
            database.query_row(sql, params![begin, end, before], |row| row.get(0))?;
        if let Some(young) = young {
            end = young - 1;
            rest = Some(young);
        }
    }
    let sql = "SELECT max(id) FROM messages WHERE id BETWEEN ? AND ?";
    let last: Option<i64> = database.query_row(sql, [begin, end], |row| row.get(0))?;
    let keys = remove_rows(database, begin, end, before.is_none())?;
    shorten(database, span, begin, end, rest)?;
    let removed_before = last.map_or(first, |last| place(last).1 + 1);
    database.execute(
        "UPDATE sessions SET removed_before = max(removed_before, ?2), keys_removed = keys_removed + ?3
        WHERE number = ?1",
        params![session.0, removed_before.cast_signed(), keys],
    )?;
    Ok(Some((session, removed_before)))
}

fn oldest(database: &Connection, before: Option<i64>) -> rusqlite::Result<Option<Span>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Span {
            session: SessionNumber(row.get(0)?),
            first: row.get::<_, i64>(1)?.cast_unsigned(),
            start: row.get(2)?,
        })
    };
    let mut oldest: Option<Span> = None;
    let spared = if before.is_some() { 0..=1 } else { 0..=0 };
    for is_spared in spared {
        let sql = "SELECT session, first, start FROM spans WHERE is_spared = ? AND start < ?
            ORDER BY start, place LIMIT 1";
        let before = before.unwrap_or(i64::MAX);
        let span = database
            .query_row(sql, params![is_spared, before], read)
            .optional()?;
        oldest = match (oldest, span) {
            (Some(one), Some(other)) if other.start < one.start => Some(other),
            (one, other) => one.or(other),
        };
    }
    Ok(oldest)
}

/// Records what is left of a span.
fn shorten(
    database: &Connection,
    span: Span,
    begin: i64,
    end: i64,
    rest: Option<i64>,
) -> rusqlite::Result<()> {
    let key = params![span.session.0, span.first.cast_signed()];
    if let Some(rest) = rest {
        let said = "SELECT said FROM messages WHERE id = ?";
        let said: i64 = database.query_row(said, [rest], |row| row.get(0))?;
        let (_, seq) = place(rest);
        database.execute("DELETE FROM spans WHERE session = ? AND first = ?", key)?;
        database.execute(
            "INSERT OR REPLACE INTO spans(session, first, start, place) VALUES(?, ?, ?, 0)",
            params![span.session.0, seq.cast_signed(), said],
        )?;
        return Ok(());
    }
    let is_left = "SELECT EXISTS(SELECT 1 FROM messages WHERE id BETWEEN ? AND ?)";
    let is_left: bool = database.query_row(is_left, [begin, end], |row| row.get(0))?;
    let sql = if is_left {
        "UPDATE spans SET is_spared = 1 WHERE session = ? AND first = ?"
    } else {
        "DELETE FROM spans WHERE session = ? AND first = ?"
    };
    database.execute(sql, key)?;
    Ok(())
}

/// Removes sessions without messages in which nothing was said for `ttl`. No hub may know them.
///
/// # Errors
/// Those of SQLite.
pub fn remove_empty(database: &Connection, ttl: Duration) -> rusqlite::Result<()> {
    let before = SystemTime::now().checked_sub(ttl).map_or(0, rows::millis);
    let sql = "DELETE FROM sessions WHERE updated < ? AND NOT EXISTS(
        SELECT 1 FROM messages WHERE id BETWEEN number << 32 AND (number << 32 | 0xffffffff))";
    database.execute(sql, [before])?;
    Ok(())
}

/// Removes verdicts from before a time.
///
/// # Errors
/// Those of SQLite.
pub fn remove_old_verdicts(database: &Connection, before: i64) -> rusqlite::Result<()> {
    database.execute("DELETE FROM verdicts WHERE decided < ?", [before])?;
    // Some have been received meanwhile, and may go for lack of room.
    database.execute("UPDATE spans SET is_spared = 0 WHERE is_spared = 1", [])?;
    Ok(())
}

/// Returns when the newest span began, in milliseconds since 1970.
///
/// # Errors
/// Those of SQLite.
pub fn last_start(database: &Connection) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(start) FROM spans WHERE is_spared = 0";
    database.query_row(sql, [], |row| row.get(0))
}

/// Returns how many bytes may be used if the files may have so many: the log needs some, and so does what comes at once.
pub fn limit(max_bytes: u64) -> u64 {
    let log = u64::from(schema::LOG_PAGES * schema::PAGE_SIZE);
    max_bytes - (log + AT_ONCE).min(max_bytes / 2)
}

/// Returns the bytes of the pages that are in use.
///
/// # Errors
/// Those of SQLite.
pub fn used_bytes(database: &Connection) -> rusqlite::Result<u64> {
    let value = |name| database.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = value("page_count")? - value("freelist_count")?;
    Ok(pages.cast_unsigned() * value("page_size")?.cast_unsigned())
}

/// Gives free pages back to the file system, if they are many.
///
/// # Errors
/// Those of SQLite.
pub fn shrink(database: &Connection) -> rusqlite::Result<()> {
    let value = |name| database.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if value("freelist_count")? > value("page_count")? / 4 {
        database.execute_batch("VACUUM")?;
    }
    Ok(())
}
