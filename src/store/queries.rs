//! The answers to what the hub asks.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{self, COLUMNS, columns, row_id, row_ids};
use super::search;
use crate::hub::stored::{
    Opened, Query, QueryAnswer, SessionNumber, Span, StoredInboxItem, StoredReceipt, StoredSession,
    StoredSessionItem, StoredUnread, Verdict,
};
use crate::hub::{Fingerprint, Message};
use crate::protocol::{DeliveryState, Grant, MAX_EXCERPT, MessageId, SessionId};

/// How many messages of an earlier run are settled in one transaction.
const SETTLED_AT_ONCE: i64 = 1_000;

/// The most bytes of text that a search returns, but for its first message.
const MAX_FOUND: usize = 4 * 1024 * 1024;

/// Answers a question.
///
/// # Errors
/// Those of SQLite.
pub fn answer(database: &Connection, query: &Query) -> rusqlite::Result<QueryAnswer> {
    Ok(match query {
        Query::Session { agent, id } => QueryAnswer::Session(session(database, agent, id)?),
        Query::Receipt { session, key } => QueryAnswer::Receipt(receipt(database, *session, key)?),
        Query::Messages {
            session,
            span,
            room,
        } => messages(database, *session, *span, *room)?,
        Query::Search {
            agent,
            session,
            grant,
            text,
            limit,
        } => {
            let found = match search::expression(text) {
                Some(words) => found(database, agent, session.as_ref(), grant, &words, *limit)?,
                None => Vec::new(),
            };
            QueryAnswer::Found(found)
        }
        Query::Sessions {
            agent,
            grant,
            limit,
        } => sessions(database, agent, grant, *limit)?,
        Query::Verdicts { agent, limit } => {
            QueryAnswer::Verdicts(verdicts(database, agent, *limit)?)
        }
    })
}

/// Returns a number of rows or of bytes as SQLite takes it.
fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn session(
    database: &Connection,
    agent: &str,
    id: &SessionId,
) -> rusqlite::Result<Option<StoredSession>> {
    // A later one of the same name replaces one that the hub did not know.
    let sql = "SELECT number FROM sessions WHERE agent = (SELECT id FROM agents WHERE name = ?) AND name = ?
        ORDER BY number DESC LIMIT 1";
    let number: Option<u32> = database
        .query_row(sql, [agent, id.as_str()], |row| row.get(0))
        .optional()?;
    number
        .map(|number| stored_session(database, SessionNumber(number)))
        .transpose()
}

fn stored_session(database: &Connection, number: SessionNumber) -> rusqlite::Result<StoredSession> {
    let keys: i64 = database.query_row(
        "SELECT count(*) FROM messages WHERE id >> 32 = ? AND key IS NOT NULL",
        [number.0],
        |row| row.get(0),
    )?;
    let unread = unread(database, number)?;
    let (first, newest) = row_ids(number);
    let newest = database
        .query_row(
            concat!(
                "SELECT ",
                columns!(),
                " FROM messages m WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1"
            ),
            [first, newest],
            rows::message,
        )
        .optional()?;
    database.query_row(
        "SELECT created, seq, removed_before, keys_removed FROM sessions WHERE number = ?",
        [number.0],
        |row| {
            let keys_removed: i64 = row.get(3)?;
            Ok(StoredSession {
                number,
                created: rows::time(row.get(0)?),
                seq: row.get::<_, i64>(1)?.cast_unsigned(),
                removed_before: row.get::<_, i64>(2)?.cast_unsigned(),
                last: newest.map(Arc::new),
                keys: usize::try_from(keys + keys_removed).unwrap_or(0),
                unread,
            })
        },
    )
}

fn unread(database: &Connection, number: SessionNumber) -> rusqlite::Result<Vec<StoredUnread>> {
    let mut statement = database.prepare(
        "SELECT id, said, octet_length(content) FROM unread JOIN messages ON id = message
        WHERE message BETWEEN ? AND ? ORDER BY message",
    )?;
    let (first, last) = row_ids(number);
    let unread = statement.query_map([first, last], |row| {
        Ok(StoredUnread {
            seq: rows::place(row.get(0)?).1,
            said: rows::time(row.get(1)?),
            content_len: usize::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        })
    })?;
    unread.collect()
}

fn receipt(
    database: &Connection,
    session: SessionNumber,
    key: &str,
) -> rusqlite::Result<Option<StoredReceipt>> {
    let sql =
        "SELECT id, message_id, fingerprint, state FROM messages WHERE id >> 32 = ? AND key = ?";
    database
        .query_row(sql, params![session.0, key], |row| {
            let state = row.get::<_, Option<i64>>(3)?.and_then(rows::state);
            Ok(StoredReceipt {
                message_id: MessageId(uuid::Uuid::from_bytes(row.get(1)?)),
                seq: rows::place(row.get(0)?).1,
                fingerprint: fingerprint(row.get(2)?),
                // Until it is known to be written, it waits.
                state: state.unwrap_or(DeliveryState::Queued),
            })
        })
        .optional()
}

fn fingerprint(number: i64) -> Fingerprint {
    Fingerprint::from_bytes(number.to_be_bytes())
}

fn messages(
    database: &Connection,
    session: SessionNumber,
    Span {
        after,
        before,
        limit,
        is_last,
    }: Span,
    room: usize,
) -> rusqlite::Result<QueryAnswer> {
    let mut first = row_id(session, after) + 1;
    let last = row_id(session, before) - i64::from(before <= rows::MAX_SEQ);
    let limit = count(limit);
    if is_last && limit > 0 {
        let sql =
            "SELECT id FROM messages WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1 OFFSET ?";
        let place = database.query_row(sql, [first, last, limit - 1], |row| row.get(0));
        first = place.optional()?.unwrap_or(first);
    }
    let mut statement = database.prepare(concat!(
        "SELECT ",
        columns!(),
        " FROM messages m WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
    ))?;
    let mut rows = statement.query([first, last, limit])?;
    let (mut messages, mut used, mut more) = (Vec::new(), 0, false);
    while let Some(row) = rows.next()? {
        let message = rows::message(row)?;
        used += message.item_len() + 1;
        if used > room && !messages.is_empty() {
            more = true;
            break;
        }
        messages.push(message);
    }
    Ok(QueryAnswer::Messages { messages, more })
}

fn found(
    database: &Connection,
    agent: &str,
    session: Option<&SessionId>,
    grant: &Grant,
    words: &str,
    limit: usize,
) -> rusqlite::Result<Vec<(SessionId, Arc<Message>)>> {
    let readable = readable(database, agent, session, grant)?;
    // The text is read only of those that are returned.
    let mut statement = database.prepare(
        "SELECT words.rowid, m.said FROM words CROSS JOIN messages m ON m.id = words.rowid
        WHERE words MATCH ? AND words.rowid BETWEEN ? AND ?",
    )?;
    // In one session, no others are looked at.
    let first = readable.keys().min().map_or(0, |first| row_ids(*first).0);
    let last = readable.keys().max().map_or(0, |last| row_ids(*last).1);
    let mut newest = std::collections::BinaryHeap::new();
    let mut hits = statement.query(params![words, first, last])?;
    while let Some(row) = hits.next()? {
        let id: i64 = row.get(0)?;
        if !readable.contains_key(&rows::place(id).0) {
            continue;
        }
        newest.push(std::cmp::Reverse((row.get::<_, i64>(1)?, id)));
        if newest.len() > limit {
            newest.pop();
        }
    }
    let mut message = database.prepare(concat!(
        "SELECT ",
        columns!(),
        " FROM messages m WHERE id = ?"
    ))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for std::cmp::Reverse((_, id)) in newest.into_sorted_vec() {
        let message = message.query_row([id], rows::message)?;
        bytes += message.content.len();
        if bytes > MAX_FOUND && !found.is_empty() {
            break;
        }
        found.push((readable[&rows::place(id).0].clone(), message.into()));
    }
    Ok(found)
}

/// Returns the sessions of an agent that a grant covers; only one if it is named.
fn readable(
    database: &Connection,
    agent: &str,
    session: Option<&SessionId>,
    grant: &Grant,
) -> rusqlite::Result<rustc_hash::FxHashMap<SessionNumber, SessionId>> {
    let mut statement = database.prepare(
        "SELECT number, name FROM sessions WHERE agent = (SELECT id FROM agents WHERE name = ?1)
        AND (?2 IS NULL OR name = ?2)",
    )?;
    let mut rows = statement.query(params![agent, session.map(SessionId::as_str)])?;
    let mut readable = rustc_hash::FxHashMap::default();
    while let Some(row) = rows.next()? {
        if let Some(id) = rows::session_id(row, 1)?
            && grant.covers(&id)
        {
            readable.insert(SessionNumber(row.get(0)?), id);
        }
    }
    Ok(readable)
}

fn sessions(
    database: &Connection,
    agent: &str,
    grant: &Grant,
    limit: usize,
) -> rusqlite::Result<QueryAnswer> {
    let mut statement = database.prepare(
        "SELECT number, name, created, seq FROM sessions
        WHERE agent = (SELECT id FROM agents WHERE name = ?) ORDER BY updated DESC, number DESC",
    )?;
    let mut rows = statement.query([agent])?;
    let (mut sessions, mut total) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let Some(id) = rows::session_id(row, 1)?.filter(|id| grant.covers(id)) else {
            continue;
        };
        total += 1;
        if sessions.len() < limit {
            sessions.push(StoredSessionItem {
                id,
                created: rows::time(row.get(2)?),
                seq: row.get::<_, i64>(3)?.cast_unsigned(),
                last: last(database, SessionNumber(row.get(0)?))?,
            });
        }
    }
    Ok(QueryAnswer::Sessions { sessions, total })
}

/// Returns the newest message of a session, with as much of its text as a list shows.
fn last(database: &Connection, session: SessionNumber) -> rusqlite::Result<Option<Message>> {
    let mut statement = database.prepare(concat!(
        "SELECT id, message_id, said, ts, state, via, grant_id, user, substr(content, 1, ?3)",
        " FROM messages WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1"
    ))?;
    let (first, last) = row_ids(session);
    // One more, so that it can be seen that it goes on.
    let characters = count(MAX_EXCERPT + 1);
    statement
        .query_row([first, last, characters], rows::message)
        .optional()
}

fn verdicts(database: &Connection, agent: &str, limit: usize) -> rusqlite::Result<Vec<Verdict>> {
    let mut statement = database.prepare(
        "SELECT request_id, tool_name, description, allowed, \"by\", ts FROM verdicts
        WHERE agent = (SELECT id FROM agents WHERE name = ?) ORDER BY id DESC LIMIT ?",
    )?;
    let verdict = |row: &Row<'_>| {
        Ok(Verdict {
            request_id: rows::text(row, 0)?,
            tool_name: rows::text(row, 1)?,
            description: rows::text(row, 2)?,
            allowed: row.get(3)?,
            by: rows::text(row, 4)?,
            ts: rows::text(row, 5)?,
        })
    };
    let verdicts = statement.query_map(params![agent, count(limit)], verdict)?;
    let mut verdicts: Vec<_> = verdicts.collect::<rusqlite::Result<_>>()?;
    verdicts.reverse();
    Ok(verdicts)
}

/// Returns what an agent's hub has to know when the store opens, after [`settle`].
///
/// # Errors
/// Those of SQLite.
pub fn open(database: &Connection, agent: &str) -> rusqlite::Result<Opened> {
    let sql = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'sessions'), 0),
        coalesce((SELECT max(number) FROM sessions), 0))";
    let last: u32 = database.query_row(sql, [], |row| row.get(0))?;
    let mut statement = database.prepare(concat!(
        "SELECT ",
        columns!(),
        ", s.name, m.key, m.fingerprint FROM waiting
        JOIN messages m ON m.id = message
        JOIN sessions s ON s.number = message >> 32
        JOIN agents a ON a.id = s.agent
        WHERE a.name = ? AND is_queued = 1 ORDER BY position"
    ))?;
    let mut rows = statement.query([agent])?;
    let mut opened = Opened {
        next_session: last.saturating_add(1),
        ..Opened::default()
    };
    let mut known = std::collections::HashSet::new();
    while let Some(row) = rows.next()? {
        let Some(session) = rows::session_id(row, COLUMNS)? else {
            continue;
        };
        let (number, _) = rows::place(row.get(0)?);
        if known.insert(number) {
            let stored = stored_session(database, number)?;
            opened.sessions.push((session.clone(), stored));
        }
        let fingerprint_number: Option<i64> = row.get(COLUMNS + 2)?;
        let key = fingerprint_number.map(|number| {
            Ok::<_, rusqlite::Error>((rows::text(row, COLUMNS + 1)?, fingerprint(number)))
        });
        opened.inbox.push(StoredInboxItem {
            session,
            message: rows::message(row)?,
            key: key.transpose()?,
        });
    }
    Ok(opened)
}

/// What an agent was given in an earlier run, and is not settled yet.
#[derive(Clone, Copy, Debug)]
pub struct Unsettled {
    /// Those after this row…
    after: i64,
    /// …that came before this position.
    before: i64,
}

impl Unsettled {
    /// All that came before a position.
    pub fn before(position: i64) -> Self {
        Self {
            after: i64::MIN,
            before: position,
        }
    }
}

/// Has what an agent was given in an earlier run, and may not have seen, wait again if its hooks would have shown that it
/// was seen. Else it may have been seen, and is lost: some of those, of which there may be very many, and what is left is
/// returned. The caller begins and commits the transaction.
///
/// # Errors
/// Those of SQLite.
pub fn settle(
    database: &Connection,
    agent: &str,
    unsettled: Unsettled,
) -> rusqlite::Result<Option<Unsettled>> {
    let Unsettled { after, before } = unsettled;
    let confirms = "SELECT confirms FROM agents WHERE name = ?";
    let confirms: Option<bool> = database
        .query_row(confirms, [agent], |row| row.get(0))
        .optional()?;
    let confirms = confirms == Some(true);
    let limit = if confirms { i64::MAX } else { SETTLED_AT_ONCE };
    let mut given = database.prepare(
        "SELECT message FROM waiting CROSS JOIN sessions s ON s.number = message >> 32
        WHERE message > ? AND position < ? AND is_queued = 0
        AND s.agent = (SELECT id FROM agents WHERE name = ?) ORDER BY message LIMIT ?",
    )?;
    let given = given.query_map(params![after, before, agent, limit], |row| row.get(0))?;
    let given: Vec<i64> = given.collect::<rusqlite::Result<_>>()?;
    let (state, wait) = if confirms {
        let wait = "UPDATE waiting SET is_queued = 1 WHERE message = ?";
        (DeliveryState::Queued, wait)
    } else {
        (DeliveryState::Lost, "DELETE FROM waiting WHERE message = ?")
    };
    let mut set = database.prepare("UPDATE messages SET state = ? WHERE id = ?")?;
    let mut wait = database.prepare(wait)?;
    for message in &given {
        set.execute(params![rows::state_number(state), message])?;
        wait.execute([message])?;
    }
    let is_all = count(given.len()) < limit;
    let last = given.last().filter(|_| !is_all);
    Ok(last.map(|after| Unsettled {
        after: *after,
        before,
    }))
}
