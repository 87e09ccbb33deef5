//! Which sessions there are, for a screen that shows them all. Whoever looks joins none of
//! them, and answers that wait there go on waiting for somebody to receive them.

use super::Hub;
use super::session::Session;
use crate::protocol::{
    Grant, HistoryItem, MAX_EXCERPT, MAX_SESSIONS_LISTED, ServerMessage, SessionId, SessionItem,
};

type Named<'a> = (&'a SessionId, &'a Session);

impl Hub {
    /// The sessions that a client may read.
    pub(super) fn sessions_for(&self, grant: &Grant) -> ServerMessage<&str> {
        let readable = self.sessions.iter().filter(|(id, _)| grant.covers(id));
        // There may be thousands, so those that are not listed are not sorted either.
        let mut sessions: Vec<Named<'_>> = Vec::new();
        let mut total = 0;
        for named in readable {
            total += 1;
            let place = sessions.partition_point(|other| is_before(other, &named));
            if place < MAX_SESSIONS_LISTED {
                sessions.truncate(MAX_SESSIONS_LISTED - 1);
                sessions.insert(place, named);
            }
        }
        ServerMessage::Sessions {
            sessions: sessions.into_iter().map(item).collect(),
            total,
            permissions: self.permissions.iter().len(),
        }
    }
}

/// Those that somebody is in come first, then it goes by name.
fn is_before(a: &Named<'_>, b: &Named<'_>) -> bool {
    let is_empty = |named: &Named<'_>| named.1.members.is_empty();
    (is_empty(a), a.0) < (is_empty(b), b.0)
}

fn item<'a>((id, session): Named<'a>) -> SessionItem<&'a str> {
    SessionItem {
        session_id: id.as_str(),
        clients: session.members.len(),
        created: session.created(),
        seq: session.seq(),
        status: session.shown.status,
        detail: session.shown.detail.as_deref(),
        last: session.history(1, None).pop().map(|last| HistoryItem {
            content: excerpt(last.content),
            ..last
        }),
    }
}

/// The beginning of a text.
fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_EXCERPT);
    end.map_or(text, |(end, _)| &text[..end])
}
