//! The quota of all histories together.
//!
//! When they exceed the limit, each is truncated to the same share of it, oldest messages
//! first (max-min fairness). A history shorter than the share loses nothing, so nobody can
//! push out others' messages, however many sessions they use. Replies that nobody has received are spared; Claude can't
//! add to them when they take half of the limit, or those of one session a quarter. Finding the share means looking at
//! all sessions, so an eighth of the limit is freed at once, which must be filled again before
//! the next time.

use super::Hub;
use super::session::Session;
use crate::protocol::SessionId;

impl Hub {
    /// Enforces the limit when a message in this session has exceeded it. That message stays.
    pub(super) fn enforce_history_quota(&mut self, speaker: &SessionId) {
        let limit = self.limits.history_total;
        let room = (limit - limit / 8).saturating_sub(self.unread_bytes());
        let lengths = self.sessions.values().map(received_bytes);
        let share = fair_share(lengths.collect(), room);
        for (id, session) in &mut self.sessions {
            if received_bytes(session) > share {
                let keep_at_least = usize::from(id == speaker);
                let (journal, total) = (&self.journal, &mut self.history_total);
                session.truncate_history(share, keep_at_least, journal, total);
            }
        }
    }

    /// Returns `true` if a reply of so many bytes can be kept in a session until somebody has received it.
    pub(super) fn has_room_for_unread(&self, session: &Session, bytes: usize) -> bool {
        let limit = self.limits.history_total;
        let fits = |others, limit| others == 0 || others + bytes <= limit;
        fits(session.unread_bytes(), limit / 4) && fits(self.unread_bytes(), limit / 2)
    }

    /// Memory of all replies that nobody has received, in bytes.
    fn unread_bytes(&self) -> usize {
        self.sessions.values().map(Session::unread_bytes).sum()
    }
}

fn received_bytes(session: &Session) -> usize {
    session.history_bytes() - session.unread_bytes()
}

/// Returns the most that each may have so that all of them have `room` at most; what shorter
/// ones leave is shared by the others.
pub fn fair_share(mut lengths: Vec<usize>, mut room: usize) -> usize {
    lengths.sort_unstable();
    let shortest_first = lengths.iter().enumerate();
    for (place, length) in shortest_first {
        let share = room / (lengths.len() - place);
        if *length > share {
            return share;
        }
        room -= length;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_histories_leave_their_rest_to_long_ones() {
        for (lengths, room, expected) in [
            (vec![], 10, usize::MAX),
            (vec![4, 6], 10, usize::MAX),
            (vec![6, 5], 10, 5),
            (vec![100, 1, 100, 3], 24, 10),
            (vec![7; 10], 5, 0),
        ] {
            assert_eq!(fair_share(lengths.clone(), room), expected, "{lengths:?}");
        }
    }
}
