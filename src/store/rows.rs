//! How a message is kept as a row.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use uuid::Uuid;

use crate::hub::stored::SessionNumber;
use crate::hub::{self, Author, AuthorId, Message};
use crate::protocol::{ConnId, DeliveryState, MessageId, ReplySource, SessionId};

/// The columns that [`message`] reads, in this order, of the table as `m`.
macro_rules! columns {
    () => {
        "m.id, m.message_id, m.said, m.ts, m.state, m.via, m.grant_id, m.user, m.content"
    };
}
/// The number of [`columns!`].
pub const COLUMNS: usize = 9;
pub(super) use columns;

/// The bits of a row's id that are the seq.
const SEQ_BITS: u32 = 32;
/// The highest seq that a row can have.
pub const MAX_SEQ: u64 = u32::MAX as u64;

/// Returns the id of a message's row.
pub fn row_id(session: SessionNumber, seq: u64) -> i64 {
    let seq = seq.min(MAX_SEQ).cast_signed();
    (i64::from(session.0) << SEQ_BITS) | seq
}

/// Returns the ids of the first and the last row that a session's messages can have.
pub fn row_ids(session: SessionNumber) -> (i64, i64) {
    (row_id(session, 0), row_id(session, MAX_SEQ))
}

/// Returns the session and the seq of a message.
pub fn place(row_id: i64) -> (SessionNumber, u64) {
    let session = u32::try_from(row_id >> SEQ_BITS).unwrap_or(0);
    let seq = row_id.cast_unsigned() & MAX_SEQ;
    (SessionNumber(session), seq)
}

/// Returns milliseconds since 1970.
pub fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Returns the time so many milliseconds after 1970.
pub fn time(millis: i64) -> SystemTime {
    /// The end of the year 9999: later times have no text.
    const MAX: u64 = 253_402_300_799_000;
    let millis = u64::try_from(millis).unwrap_or(0).min(MAX);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// Returns how a timestamp is kept: as milliseconds from `said` on if it is written as the server writes them.
pub fn timestamp(ts: &str, said: i64) -> ToSqlOutput<'_> {
    let as_text = ToSqlOutput::Borrowed(ValueRef::Text(ts.as_bytes()));
    let is_usual = ts.len() == "2026-01-01T00:00:00.000Z".len() && !ts.contains(":60.");
    if !is_usual {
        return as_text;
    }
    humantime::parse_rfc3339(ts).map_or(as_text, |time| {
        ToSqlOutput::Owned(Value::Integer(millis(time) - said))
    })
}

/// Returns the number that stands for a state. None is 0 or 1: those take no byte, and a row must not change its size.
pub fn state_number(state: DeliveryState) -> Option<i64> {
    Some(match state {
        DeliveryState::Queued => 2,
        DeliveryState::Accepted => 3,
        DeliveryState::Seen => 4,
        DeliveryState::Unseen => 5,
        DeliveryState::Answered => 6,
        DeliveryState::Lost => 7,
        DeliveryState::Rejected => 8,
        DeliveryState::Other => return None,
    })
}

pub fn state(number: i64) -> Option<DeliveryState> {
    Some(match number {
        2 => DeliveryState::Queued,
        3 => DeliveryState::Accepted,
        4 => DeliveryState::Seen,
        5 => DeliveryState::Unseen,
        6 => DeliveryState::Answered,
        7 => DeliveryState::Lost,
        8 => DeliveryState::Rejected,
        _ => return None,
    })
}

/// Returns `true` if the agent may not have seen a message in this state.
pub fn waits(state: DeliveryState) -> bool {
    use DeliveryState::{Accepted, Queued, Unseen};
    matches!(state, Queued | Accepted | Unseen)
}

/// Returns the number that stands for how a reply came.
pub fn via_number(via: Option<ReplySource>) -> Option<i64> {
    match via? {
        ReplySource::Transcript => Some(1),
        ReplySource::Other => None,
    }
}

/// Returns the message in a row with [`columns!`].
pub fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let (_, seq) = place(row.get(0)?);
    let id = MessageId(Uuid::from_bytes(row.get(1)?));
    let said: i64 = row.get(2)?;
    let ts = match row.get_ref(3)? {
        ValueRef::Integer(after) => hub::timestamp(time(said.saturating_add(after))),
        _ => text(row, 3)?,
    };
    let state = row.get::<_, Option<i64>>(4)?.and_then(state);
    let author = match row.get_ref(7)? {
        ValueRef::Null => {
            let via: Option<i64> = row.get(5)?;
            let via = via.map(|_| ReplySource::Transcript);
            Author::Assistant { via }
        }
        _ => {
            let grant: Option<i64> = row.get(6)?;
            let grant = grant.map(|id| AuthorId::Grant(id.cast_unsigned()));
            let id = grant.unwrap_or(AuthorId::Connection(ConnId(0)));
            let name = text(row, 7)?;
            Author::User { id, name }
        }
    };
    Ok(Message::restored(id, seq, author, text(row, 8)?, ts, state))
}

/// Returns a text. What is no UTF-8, because the disk has changed it, is replaced.
pub fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<str>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => "".into(),
    })
}

/// Returns the name of a session; `None` if it can't be one.
pub fn session_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<SessionId>> {
    let name = text(row, column)?;
    Ok(SessionId::parse("session", &name, usize::MAX).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_kept_as_they_are() {
        let said = 1_800_000_000_000;
        let number = |ts: &str| match timestamp(ts, said) {
            ToSqlOutput::Owned(Value::Integer(after)) => Some(after),
            _ => None,
        };
        for at in [0, said - 1, said, said + 86_400_000, 253_402_300_799_000] {
            let ts = hub::timestamp(time(at));
            assert_eq!(number(&ts), Some(at - said), "{ts}");
        }
        // They would come back otherwise.
        for ts in [
            "",
            "yesterday",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000000Z",
            "2026-01-01 00:00:00.000Z",
            "2016-12-31T23:59:60.000Z",
            "1969-12-31T23:59:59.999Z",
        ] {
            assert_eq!(number(ts), None, "{ts}");
        }
    }

    #[test]
    fn states_come_back() {
        let all = [
            DeliveryState::Queued,
            DeliveryState::Accepted,
            DeliveryState::Seen,
            DeliveryState::Unseen,
            DeliveryState::Answered,
            DeliveryState::Lost,
            DeliveryState::Rejected,
        ];
        for one in all {
            assert_eq!(state_number(one).and_then(state), Some(one));
        }
        assert_eq!(state_number(DeliveryState::Other), None);
    }

    #[test]
    fn row_ids_hold_session_and_seq() {
        for (session, seq) in [(1, 1), (u32::MAX >> 1, MAX_SEQ), (0, 0)] {
            let session = SessionNumber(session);
            assert_eq!(place(row_id(session, seq)), (session, seq));
        }
        assert!(row_ids(SessionNumber(1)).1 < row_ids(SessionNumber(2)).0);
        assert_eq!(
            row_id(SessionNumber(1), u64::MAX),
            row_ids(SessionNumber(1)).1
        );
    }
}
