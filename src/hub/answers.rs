//! Long answers: the history of a session, the list of sessions. Each is sent in as many frames as it needs, with `more`
//! in all but the last. The first is sent at once; for each other one the client's reader asks when there is room, so
//! that what waits for a client, and what others wait for, is one frame and not the answer.

use std::iter::once;
use std::sync::Arc;

use super::session::HistoryRange;
use super::{Effects, Hub};
use crate::json;
use crate::protocol::{ConnId, ServerMessage, SessionId};

/// The longest frame of an answer while many clients read slowly, in bytes. A single item may be longer.
const SHORT_FRAME: usize = 32 * 1024;

/// What is still to be sent of an answer.
#[derive(Debug)]
pub enum Answer {
    History(HistoryRest),
    Sessions(SessionsRest),
}

/// The messages of a session after one `seq` up to another.
#[derive(Debug)]
pub struct HistoryRest {
    session: SessionId,
    /// When the session began; one that began anew has other messages.
    created: Arc<str>,
    range: HistoryRange,
    /// The client has every message before this seq, or it is one of the answer.
    read_from: u64,
}

/// These sessions, in this order, as far as they still exist.
#[derive(Debug)]
pub struct SessionsRest {
    sessions: Vec<SessionId>,
    total: usize,
    permissions: usize,
}

impl Answer {
    /// Returns the answer with these sessions.
    pub fn sessions(sessions: Vec<SessionId>, total: usize, permissions: usize) -> Self {
        Self::Sessions(SessionsRest {
            sessions,
            total,
            permissions,
        })
    }
}

impl Hub {
    /// Returns the answer with the newest `limit` messages of a session; with `since`, with the first `limit` after it.
    pub(super) fn history_answer(
        &self,
        id: &SessionId,
        limit: usize,
        since: Option<u64>,
    ) -> Answer {
        let session = self.sessions.get(id);
        let nothing = HistoryRange {
            begins_at: 1,
            after: 0,
            up_to: 0,
        };
        let range = session.map_or(nothing, |session| session.history_range(limit, since));
        Answer::History(HistoryRest {
            session: id.clone(),
            created: session.map_or_else(|| "".into(), |session| session.created()),
            range,
            // Who names a seq has the messages before it.
            read_from: if since.is_some() { 0 } else { range.after + 1 },
        })
    }

    /// Returns `true` if the answer to a client's last request goes on with [`super::ClientInput::GoOn`].
    pub fn has_more(&self, client: ConnId) -> bool {
        let client = self.clients.get(&client);
        client.is_some_and(|client| client.answer.is_some())
    }

    /// Sends a client the first frame of an answer. If it hasn't got all of the one before, it does now.
    pub(super) fn begin_answer(&mut self, client: ConnId, answer: Answer, out: &mut impl Effects) {
        while self.has_more(client) {
            self.go_on(client, out);
        }
        self.send_next(client, answer, out);
    }

    /// Sends a client the next frame of its answer.
    pub(super) fn go_on(&mut self, client: ConnId, out: &mut impl Effects) {
        let answering = self.clients.get_mut(&client);
        if let Some(answer) = answering.and_then(|client| client.answer.take()) {
            self.send_next(client, *answer, out);
        }
    }

    fn send_next(&mut self, client: ConnId, answer: Answer, out: &mut impl Effects) {
        let room = if out.is_congested() {
            self.limits.max_frame.min(SHORT_FRAME)
        } else {
            self.limits.max_frame
        };
        let rest = match answer {
            Answer::History(rest) => self
                .send_history(client, rest, room, out)
                .map(Answer::History),
            Answer::Sessions(rest) => self
                .send_sessions(client, rest, room, out)
                .map(Answer::Sessions),
        };
        if let Some(answering) = self.clients.get_mut(&client) {
            answering.answer = rest.map(Box::new);
        }
    }

    fn send_history(
        &mut self,
        client: ConnId,
        rest: HistoryRest,
        room: usize,
        out: &mut impl Effects,
    ) -> Option<HistoryRest> {
        let id = &rest.session;
        let frame = |messages, truncated_before, more| ServerMessage::History {
            session_id: id.as_str(),
            messages,
            truncated_before,
            search: None,
            more,
        };
        let session = self.sessions.get_mut(id);
        let session = session.filter(|session| session.created() == rest.created);
        let Some(session) = session else {
            out.send(once(client), &frame(Vec::new(), None, false));
            return None;
        };
        let HistoryRange {
            begins_at,
            after,
            up_to,
        } = rest.range;
        let room = room - json::len(&frame(Vec::new(), Some(u64::MAX), true));
        let (messages, more) = session.history_page(after, up_to, room);
        let newest = messages.last().map_or(after, |item| item.seq);
        let truncated_before = session.truncated_before(begins_at);
        out.send(once(client), &frame(messages, truncated_before, more));
        session.mark_read(rest.read_from, newest);
        self.reschedule(id);
        more.then_some(HistoryRest {
            range: HistoryRange {
                begins_at: newest + 1,
                after: newest,
                up_to,
            },
            read_from: newest + 1,
            ..rest
        })
    }

    fn send_sessions(
        &self,
        client: ConnId,
        mut rest: SessionsRest,
        room: usize,
        out: &mut impl Effects,
    ) -> Option<SessionsRest> {
        let frame = |sessions, more| ServerMessage::Sessions {
            sessions,
            total: rest.total,
            permissions: rest.permissions,
            more,
        };
        rest.sessions.retain(|id| self.sessions.contains_key(id));
        let mut items = self.session_items(&rest.sessions);
        let room = room - json::len(&frame(Vec::new(), true));
        let fitting = fitting(items.iter().map(json::len), room);
        let more = fitting < items.len();
        items.truncate(fitting);
        out.send(once(client), &frame(items, more));
        rest.sessions.drain(..fitting.min(rest.sessions.len()));
        more.then_some(rest)
    }
}

/// Returns how many items with these lengths fit into so many bytes, each with a comma; one always does.
pub fn fitting(lengths: impl Iterator<Item = usize>, room: usize) -> usize {
    let mut total = 0;
    let fits = lengths.take_while(|length| {
        total += length + ",".len();
        total <= room
    });
    fits.count().max(1)
}
