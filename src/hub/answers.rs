//! Long answers: the history of a session, the list of sessions. Each is sent in as many frames as it needs, with `more`
//! in all but the last.

use std::iter::once;
use std::sync::Arc;

use serde::Serialize;

use super::{Effects, Hub};
use crate::json;
use crate::protocol::{ConnId, ServerMessage, SessionId};

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
    after: u64,
    up_to: u64,
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
        let messages = session.map_or_else(Vec::new, |session| session.history(limit, since));
        Answer::History(HistoryRest {
            session: id.clone(),
            created: session.map_or_else(|| "".into(), |session| session.created()),
            after: messages.first().map_or(0, |first| first.seq - 1),
            up_to: messages.last().map_or(0, |last| last.seq),
        })
    }

    /// Sends a client the next frame of an answer. Returns what is still to be sent.
    pub(super) fn send_next(
        &mut self,
        client: ConnId,
        answer: Answer,
        out: &mut impl Effects,
    ) -> Option<Answer> {
        match answer {
            Answer::History(rest) => self.send_history(client, rest, out).map(Answer::History),
            Answer::Sessions(rest) => self.send_sessions(client, rest, out).map(Answer::Sessions),
        }
    }

    fn send_history(
        &mut self,
        client: ConnId,
        rest: HistoryRest,
        out: &mut impl Effects,
    ) -> Option<HistoryRest> {
        let id = &rest.session;
        let frame = |messages, more| ServerMessage::History {
            session_id: id.as_str(),
            messages,
            more,
        };
        let session = self.sessions.get_mut(id);
        let session = session.filter(|session| session.created() == rest.created);
        let Some(session) = session else {
            out.send(once(client), &frame(Vec::new(), false));
            return None;
        };
        let mut messages = session.history_between(rest.after, rest.up_to);
        let room = self.limits.max_frame - json::len(&frame(Vec::new(), true));
        let fitting = fitting(&messages, room);
        let more = fitting < messages.len();
        messages.truncate(fitting);
        let newest = messages.last().map_or(rest.after, |item| item.seq);
        out.send(once(client), &frame(messages, more));
        session.mark_read(newest);
        self.reschedule(id);
        more.then_some(HistoryRest {
            after: newest,
            ..rest
        })
    }

    fn send_sessions(
        &self,
        client: ConnId,
        mut rest: SessionsRest,
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
        let room = self.limits.max_frame - json::len(&frame(Vec::new(), true));
        let fitting = fitting(&items, room);
        let more = fitting < items.len();
        items.truncate(fitting);
        out.send(once(client), &frame(items, more));
        rest.sessions.drain(..fitting.min(rest.sessions.len()));
        more.then_some(rest)
    }
}

/// Returns how many of these items fit into so many bytes, each with a comma; one always does.
fn fitting(items: &[impl Serialize], room: usize) -> usize {
    let mut length = 0;
    let fits = items.iter().take_while(|item| {
        length += json::len(item) + ",".len();
        length <= room
    });
    fits.count().max(1)
}
