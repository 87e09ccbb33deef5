//! Makes changes in the database: all of a commit in their order, each message with what became of it by then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement, params};
use rustc_hash::FxHashMap;

use super::removal;
use super::rows::{self, row_id, row_ids, state_number, waits};
use super::spans::Spans;
use crate::hub::stored::{Change, SessionNumber, Verdict};
use crate::hub::{Author, AuthorId, Fingerprint, Message};
use crate::protocol::{DeliveryState, SessionId};

/// How many positions there are in a millisecond: 2 to the power of this.
const POSITION_BITS: u32 = 16;
/// The most verdicts of an agent.
const MAX_VERDICTS: i64 = 1_000;
/// So many messages, or bytes of them, are indexed at once. One by one would write ten times as much.
const INDEX_MESSAGES: usize = 2_048;
const INDEX_BYTES: usize = 1024 * 1024;
/// While more is to be written, it may be so many times as many.
const INDEX_BUSY: usize = 8;

/// The statements that messages need, and what is known of the tables, so that nothing is asked twice.
pub struct Tables<'c> {
    database: &'c Connection,
    insert: Statement<'c>,
    set_state: Statement<'c>,
    wait: Statement<'c>,
    wait_no_more: Statement<'c>,
    unread: Statement<'c>,
    read: Statement<'c>,
    set_seq: Statement<'c>,
    begin_span: Statement<'c>,
    leave_unindexed: Statement<'c>,
    /// The sessions with messages that are not indexed, and the seq after which they are.
    unindexed: FxHashMap<SessionNumber, u64>,
    unindexed_messages: usize,
    unindexed_bytes: usize,
    spans: Spans,
    /// The place of the next span of this commit.
    place: i64,
    /// The next of `waiting`.
    position: i64,
    /// What a commit makes of messages.
    states: FxHashMap<i64, DeliveryState>,
}

impl<'c> Tables<'c> {
    /// Prepares the statements.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn new(database: &'c Connection) -> rusqlite::Result<Self> {
        let prepare = |sql| database.prepare(sql);
        let mut unindexed = prepare("SELECT session, after FROM unindexed")?;
        let unindexed = unindexed.query_map([], |row| {
            Ok((
                SessionNumber(row.get(0)?),
                row.get::<_, i64>(1)?.cast_unsigned(),
            ))
        })?;
        let unindexed: FxHashMap<_, _> = unindexed.collect::<rusqlite::Result<_>>()?;
        let last = "SELECT coalesce(max(position), 0) FROM waiting WHERE is_queued = 1";
        let last: i64 = database.query_row(last, [], |row| row.get(0))?;
        // After those of earlier runs that were given to the agent, too, without a look at each.
        let now = rows::millis(SystemTime::now()) << POSITION_BITS;
        Ok(Self {
            database,
            insert: prepare(
                "INSERT INTO messages(id, message_id, said, ts, state, via, grant_id, user, key, fingerprint, content)
                VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING",
            )?,
            set_state: prepare("UPDATE messages SET state = ?2 WHERE id = ?1")?,
            wait: prepare(
                "INSERT INTO waiting(message, position, is_queued) VALUES(?1, ?2, ?3)
                ON CONFLICT(message) DO UPDATE SET is_queued = ?3",
            )?,
            wait_no_more: prepare("DELETE FROM waiting WHERE message = ?")?,
            unread: prepare("INSERT OR IGNORE INTO unread(message) VALUES(?)")?,
            read: prepare("DELETE FROM unread WHERE message BETWEEN ? AND ?")?,
            set_seq: prepare("UPDATE sessions SET seq = ?2, updated = ?3 WHERE number = ?1")?,
            begin_span: prepare(
                "INSERT INTO spans(session, first, start, place) VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )?,
            leave_unindexed: prepare(
                "INSERT INTO unindexed(session, after) VALUES(?, ?) ON CONFLICT DO NOTHING",
            )?,
            // What an earlier run has left is indexed soon.
            unindexed_messages: if unindexed.is_empty() { 0 } else { INDEX_MESSAGES },
            unindexed,
            unindexed_bytes: 0,
            spans: Spans::default(),
            place: 0,
            position: now.max(last + 1),
            states: FxHashMap::default(),
        })
    }

    /// The position of the next message that waits.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Makes changes that are `said` then, in milliseconds since 1970. The caller begins and commits the transaction.
    /// Returns `true` if sessions were removed.
    ///
    /// # Errors
    /// Those of SQLite; then the tables must be made anew after the transaction was rolled back.
    pub fn apply<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change> + Clone,
        said: i64,
    ) -> rusqlite::Result<bool> {
        self.states.clear();
        self.place = 0;
        for change in changes.clone() {
            if let Change::State {
                session,
                seq,
                state,
            } = change
            {
                self.states.insert(row_id(*session, *seq), *state);
            }
        }
        let mut has_removed = false;
        for change in changes {
            match change {
                Change::Session {
                    number,
                    agent,
                    id,
                    created,
                } => self.session(*number, agent, id, rows::millis(*created))?,
                Change::Message {
                    session,
                    message,
                    key,
                    state,
                } => self.message(*session, message, key.as_ref(), *state, said)?,
                Change::State { session, seq, .. } => {
                    let id = row_id(*session, *seq);
                    if let Some(state) = self.states.remove(&id) {
                        self.state(id, state)?;
                    }
                }
                Change::Unread { session, seq } => {
                    self.unread.execute([row_id(*session, *seq)])?;
                }
                Change::Read {
                    session,
                    first,
                    last,
                } => {
                    let (first, last) = (row_id(*session, *first), row_id(*session, *last));
                    self.read.execute([first, last])?;
                }
                Change::Seq {
                    session,
                    seq,
                    updated,
                } => {
                    let updated = rows::millis(*updated);
                    self.set_seq
                        .execute(params![session.0, seq.cast_signed(), updated])?;
                }
                Change::Confirms { agent, confirms } => self.confirms(agent, *confirms)?,
                Change::Verdict { agent, verdict } => self.verdict(agent, verdict, said)?,
                Change::Remove(selection) => {
                    self.index_all()?;
                    removal::remove(self.database, selection)?;
                    self.spans = Spans::default();
                    has_removed = true;
                }
            }
        }
        Ok(has_removed)
    }

    fn session(
        &mut self,
        number: SessionNumber,
        agent: &str,
        id: &SessionId,
        created: i64,
    ) -> rusqlite::Result<()> {
        let agent = self.agent(agent)?;
        self.database
            .prepare(
                "INSERT INTO sessions(number, agent, name, created, updated) VALUES(?1, ?2, ?3, ?4, ?4)
                ON CONFLICT(number) DO UPDATE SET agent = ?2, name = ?3, created = ?4",
            )?
            .execute(params![number.0, agent, id.as_str(), created])?;
        Ok(())
    }

    /// Returns the number of an agent, which is there from now on.
    fn agent(&self, name: &str) -> rusqlite::Result<i64> {
        let known = "SELECT id FROM agents WHERE name = ?";
        let known = self
            .database
            .query_row(known, [name], |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            return Ok(known);
        }
        let mut insert = self
            .database
            .prepare("INSERT INTO agents(name) VALUES(?)")?;
        insert.insert([name])
    }

    fn confirms(&mut self, agent: &str, confirms: bool) -> rusqlite::Result<()> {
        let agent = self.agent(agent)?;
        let sql = "UPDATE agents SET confirms = ?2 WHERE id = ?1";
        self.database.execute(sql, params![agent, confirms])?;
        Ok(())
    }

    fn message(
        &mut self,
        session: SessionNumber,
        message: &Message,
        key: Option<&(Arc<str>, Fingerprint)>,
        state: Option<DeliveryState>,
        said: i64,
    ) -> rusqlite::Result<()> {
        let id = row_id(session, message.seq);
        let state = self.states.remove(&id).or(state);
        let key = key.filter(|_| state != Some(DeliveryState::Rejected));
        let is_new = match self.insert(id, message, key, state, said) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                // The key belongs to an older message, which keeps it.
                self.insert(id, message, None, state, said)?
            }
            result => result?,
        };
        if !is_new {
            // It was sent once more.
            return state.map_or(Ok(()), |state| self.state(id, state));
        }
        if let Some(state) = state.filter(|state| waits(*state)) {
            self.wait(id, state)?;
        }
        let len = message.content.len();
        if self.spans.begins(session, said, len) {
            self.begin_span.execute(params![
                session.0,
                message.seq.cast_signed(),
                said,
                self.place
            ])?;
            self.place += 1;
        }
        self.leave_unindexed(session, message)
    }

    fn insert(
        &mut self,
        id: i64,
        message: &Message,
        key: Option<&(Arc<str>, Fingerprint)>,
        state: Option<DeliveryState>,
        said: i64,
    ) -> rusqlite::Result<bool> {
        let (via, grant, user) = match &message.author {
            Author::Assistant { via } => (rows::via_number(*via), None, None),
            Author::User { id, name } => {
                let grant = match id {
                    AuthorId::Grant(id) => Some(id.cast_signed()),
                    AuthorId::Connection(_) => None,
                };
                (None, grant, Some(&**name))
            }
        };
        let inserted = self.insert.execute(params![
            id,
            message.id.0.as_bytes(),
            said,
            rows::timestamp(&message.ts, said),
            state.and_then(state_number),
            via,
            grant,
            user,
            key.map(|(key, _)| &**key),
            key.map(|(_, fingerprint)| i64::from_be_bytes(fingerprint.to_bytes())),
            &*message.content,
        ])?;
        Ok(inserted > 0)
    }

    /// Has a message indexed with others, later.
    fn leave_unindexed(
        &mut self,
        session: SessionNumber,
        message: &Message,
    ) -> rusqlite::Result<()> {
        let id = row_id(session, message.seq);
        let after = self.unindexed.get(&session).copied();
        let is_left = match after {
            Some(after) => message.seq > after,
            // One that was missing until now may be older than those that are indexed.
            None => id == self.newest(session)?,
        };
        if !is_left {
            let mut index = self
                .database
                .prepare("INSERT INTO words(rowid, content) VALUES(?, ?)")?;
            index.execute(params![id, &*message.content])?;
            return Ok(());
        }
        if after.is_none() {
            let after = message.seq.saturating_sub(1);
            self.leave_unindexed
                .execute(params![session.0, after.cast_signed()])?;
            self.unindexed.insert(session, after);
        }
        self.unindexed_messages += 1;
        self.unindexed_bytes += message.content.len();
        Ok(())
    }

    /// Returns the id of the newest message in a session that has one.
    fn newest(&self, session: SessionNumber) -> rusqlite::Result<i64> {
        let (first, last) = row_ids(session);
        let sql = "SELECT max(id) FROM messages WHERE id BETWEEN ? AND ?";
        self.database
            .query_row(sql, [first, last], |row| row.get(0))
    }

    fn state(&mut self, id: i64, state: DeliveryState) -> rusqlite::Result<()> {
        self.set_state.execute(params![id, state_number(state)])?;
        if waits(state) {
            self.wait(id, state)?;
        } else {
            self.wait_no_more.execute([id])?;
        }
        if state == DeliveryState::Rejected {
            let sql = "UPDATE messages SET key = NULL, fingerprint = NULL WHERE id = ?";
            self.database.execute(sql, [id])?;
        }
        Ok(())
    }

    /// Records that a message waits. One that is known to wait keeps its position.
    fn wait(&mut self, id: i64, state: DeliveryState) -> rusqlite::Result<()> {
        let is_queued = i64::from(state == DeliveryState::Queued);
        self.wait.execute([id, self.position, is_queued])?;
        self.position += 1;
        Ok(())
    }

    fn verdict(&mut self, agent: &str, verdict: &Verdict, said: i64) -> rusqlite::Result<()> {
        let agent = self.agent(agent)?;
        self.database.execute(
            "INSERT INTO verdicts(agent, request_id, tool_name, description, allowed, \"by\", ts, decided)
            VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                agent,
                &*verdict.request_id,
                &*verdict.tool_name,
                &*verdict.description,
                verdict.allowed,
                &*verdict.by,
                &*verdict.ts,
                said
            ],
        )?;
        self.database.execute(
            "DELETE FROM verdicts WHERE agent = ?1 AND id <=
            (SELECT id FROM verdicts WHERE agent = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            params![agent, MAX_VERDICTS],
        )?;
        Ok(())
    }

    /// Returns `true` if so many messages are not indexed that they should be. `is_busy`: more is to be written.
    pub fn should_index(&self, is_busy: bool) -> bool {
        let factor = if is_busy { INDEX_BUSY } else { 1 };
        self.unindexed_messages >= factor * INDEX_MESSAGES
            || self.unindexed_bytes >= factor * INDEX_BYTES
    }

    /// Indexes the words of all messages. The caller begins and commits the transaction.
    ///
    /// # Errors
    /// Those of SQLite, as for [`Tables::apply`].
    pub fn index_all(&mut self) -> rusqlite::Result<()> {
        if self.unindexed.is_empty() {
            return Ok(());
        }
        let mut index = self.database.prepare(
            "INSERT INTO words(rowid, content) SELECT id, content FROM messages WHERE id > ? AND id <= ?",
        )?;
        for (session, after) in self.unindexed.drain() {
            index.execute([row_id(session, after), row_ids(session).1])?;
        }
        self.database.execute("DELETE FROM unindexed", [])?;
        self.unindexed_messages = 0;
        self.unindexed_bytes = 0;
        Ok(())
    }

    /// Forgets where the newest span of a session began, because it may be removed.
    pub fn forget_span(&mut self, session: SessionNumber) {
        self.spans.forget(session);
    }
}

/// Returns `true` if a commit of these changes must last through a power cut: senders will be told that messages are
/// queued.
pub fn must_last<'a>(changes: impl Iterator<Item = &'a Change>) -> bool {
    let mut queued = BTreeSet::new();
    for change in changes {
        match change {
            Change::Message {
                session,
                message,
                key: Some(_),
                state: Some(DeliveryState::Queued),
            } => {
                queued.insert(row_id(*session, message.seq));
            }
            Change::State {
                session,
                seq,
                state,
            } => {
                let id = row_id(*session, *seq);
                if *state == DeliveryState::Queued {
                    queued.insert(id);
                } else {
                    queued.remove(&id);
                }
            }
            _ => {}
        }
    }
    !queued.is_empty()
}
