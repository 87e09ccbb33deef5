//! Which sessions there are, for a screen that shows them all. Whoever looks joins none of
//! them, and answers that wait there go on waiting for somebody to receive them.

use std::cmp::Ordering;

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
        let mut sessions: Vec<Named<'_>> = readable.collect();
        let total = sessions.len();
        // There may be thousands, and only those that are listed need an order.
        if total > MAX_SESSIONS_LISTED {
            sessions.select_nth_unstable_by(MAX_SESSIONS_LISTED, by_place);
            sessions.truncate(MAX_SESSIONS_LISTED);
        }
        sessions.sort_unstable_by(by_place);
        ServerMessage::Sessions {
            sessions: sessions.into_iter().map(item).collect(),
            total,
            permissions: self.permissions.iter().len(),
        }
    }
}

/// Those that somebody is in first, then by name.
fn by_place(a: &Named<'_>, b: &Named<'_>) -> Ordering {
    let is_empty = |named: &Named<'_>| named.1.members.is_empty();
    is_empty(a).cmp(&is_empty(b)).then_with(|| a.0.cmp(b.0))
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
