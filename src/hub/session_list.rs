//! The list of sessions, for a dashboard. Asking for it joins no session and marks no reply as
//! read.

use super::Hub;
use super::answers::Answer;
use super::session::Session;
use crate::protocol::{
    Grant, HistoryItem, MAX_EXCERPT, MAX_SESSIONS_LISTED, SessionId, SessionItem,
};

impl Hub {
    /// Returns the answer with the sessions that a client may read, those with clients first, then by name.
    pub(super) fn sessions_answer(&self, grant: &Grant) -> Answer {
        let readable = self.sessions.iter().filter(|(id, _)| grant.covers(id));
        // There may be thousands, so only those that are listed are sorted.
        let mut sessions: Vec<(&SessionId, &Session)> = Vec::new();
        let mut total = 0;
        for (id, session) in readable {
            total += 1;
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
        let agents = self.agents.iter();
        let permissions = agents.map(|agent| agent.permissions.len()).sum();
        Answer::sessions(sessions.collect(), total, permissions)
    }

    /// Returns the states of these sessions.
    pub(super) fn session_items<'a>(&'a self, ids: &'a [SessionId]) -> Vec<SessionItem<&'a str>> {
        let known = |id| Some((id, self.sessions.get(id)?));
        ids.iter().filter_map(known).map(item).collect()
    }
}

fn item<'a>((id, session): (&'a SessionId, &'a Session)) -> SessionItem<&'a str> {
    SessionItem {
        session_id: id.as_str(),
        clients: session.members.len(),
        created: session.created().as_ref().into(),
        seq: session.seq(),
        status: session.status.status,
        detail: session.status.detail.as_deref(),
        last: session.last().map(|last| HistoryItem {
            content: excerpt(&last.content),
            ..last.item()
        }),
    }
}

/// Returns the first [`MAX_EXCERPT`] characters.
fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_EXCERPT);
    end.map_or(text, |(end, _)| &text[..end])
}
