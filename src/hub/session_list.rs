//! The list of sessions, for a dashboard. Asking for it joins no session and marks no reply as
//! read.

use std::sync::Arc;

use super::answers::Answer;
use super::opening::Purpose;
use super::session::Session;
use super::stored::{Query, StoredSessionItem};
use super::{Effects, Hub, Message, timestamp};
use crate::protocol::{
    ConnId, Grant, HistoryItem, MAX_EXCERPT, MAX_SESSIONS_LISTED, SessionId, SessionItem, Status,
};

/// A session of a list.
#[derive(Debug)]
pub enum Listed {
    /// It is in memory.
    Open(SessionId),
    /// It is only in the store.
    Stored(Box<StoredSessionItem>, Arc<str>),
}

impl Hub {
    /// Sends a client the sessions that it may read: those with clients first, then by name, then those that are only in
    /// the store, the latest first.
    pub(super) fn list_sessions(
        &mut self,
        client: ConnId,
        grant: Arc<Grant>,
        out: &mut impl Effects,
    ) {
        if self.journal.is_kept() {
            let agent = self.agents[self.default_agent].label.clone();
            let query = Query::Sessions {
                agent,
                grant,
                limit: MAX_SESSIONS_LISTED,
            };
            return self.ask_for(client, Purpose::Sessions(client), query);
        }
        self.sessions_read(client, Vec::new(), 0, out);
    }

    /// Sends a client the list of sessions, when the store has told its own, and how many they are.
    pub(super) fn sessions_read(
        &mut self,
        client: ConnId,
        stored: Vec<StoredSessionItem>,
        total: usize,
        out: &mut impl Effects,
    ) {
        let Some(asking) = self.clients.get(&client) else {
            return;
        };
        let (sessions, others) = self.open_sessions(&asking.grant.clone());
        let mut listed: Vec<Listed> = sessions.into_iter().map(Listed::Open).collect();
        let stored = stored
            .into_iter()
            .filter(|item| !self.sessions.contains_key(&item.id));
        let room = MAX_SESSIONS_LISTED - listed.len();
        listed.extend(stored.take(room).map(|item| {
            let created = timestamp(item.created);
            Listed::Stored(Box::new(item), created)
        }));
        let agents = self.agents.iter();
        let permissions = agents.map(|agent| agent.permissions.len()).sum();
        let answer = Answer::sessions(listed, total + others, permissions);
        self.begin_answer(client, answer, out);
    }

    /// Returns the sessions in memory that are listed, and the number of those in memory that are not in the store.
    fn open_sessions(&self, grant: &Grant) -> (Vec<SessionId>, usize) {
        let readable = self.sessions.iter().filter(|(id, _)| grant.covers(id));
        // There may be thousands, so only those that are listed are sorted.
        let mut sessions: Vec<(&SessionId, &Session)> = Vec::new();
        let mut total = 0;
        for (id, session) in readable {
            total += usize::from(session.number.is_none());
            let rank = |id, session: &Session| (session.members.is_empty(), id);
            if sessions.len() == MAX_SESSIONS_LISTED
                && let Some((last, lasts)) = sessions.last()
                && rank(*last, lasts) < rank(id, session)
            {
                continue;
            }
            let place = sessions
                .partition_point(|(other, others)| rank(*other, others) < rank(id, session));
            if place < MAX_SESSIONS_LISTED {
                sessions.truncate(MAX_SESSIONS_LISTED - 1);
                sessions.insert(place, (id, session));
            }
        }
        let sessions = sessions.into_iter().map(|(id, _)| id.clone());
        (sessions.collect(), total)
    }

    /// Returns `true` if a session that was to be listed still exists.
    pub(super) fn is_listed(&self, listed: &Listed) -> bool {
        match listed {
            Listed::Open(id) => self.sessions.contains_key(id),
            Listed::Stored(..) => true,
        }
    }

    /// Returns the states of these sessions.
    pub(super) fn session_items<'a>(&'a self, listed: &'a [Listed]) -> Vec<SessionItem<&'a str>> {
        let item = |listed: &'a Listed| match listed {
            Listed::Open(id) => Some(open_item(id, self.sessions.get(id)?)),
            Listed::Stored(item, created) => Some(stored_item(item, created)),
        };
        listed.iter().filter_map(item).collect()
    }
}

fn open_item<'a>(id: &'a SessionId, session: &'a Session) -> SessionItem<&'a str> {
    SessionItem {
        session_id: id.as_str(),
        clients: session.members.len(),
        created: session.created().as_ref().into(),
        seq: session.seq(),
        status: session.status.status,
        detail: session.status.detail.as_deref(),
        last: session.last().map(|last| excerpt(last)),
    }
}

fn stored_item<'a>(item: &'a StoredSessionItem, created: &str) -> SessionItem<&'a str> {
    SessionItem {
        session_id: item.id.as_str(),
        clients: 0,
        created: created.into(),
        seq: item.seq,
        status: Status::Idle,
        detail: None,
        last: item.last.as_ref().map(excerpt),
    }
}

/// Returns a message with the first [`MAX_EXCERPT`] characters of its text.
fn excerpt(message: &Message) -> HistoryItem<&str> {
    let text = &message.content;
    let end = text.char_indices().nth(MAX_EXCERPT);
    HistoryItem {
        content: end.map_or(text, |(end, _)| &text[..end]),
        ..message.item()
    }
}
