//! The quota of all histories together.
//!
//! When they exceed the limit, each is truncated to the same share of it, oldest messages
//! first (max-min fairness). A history shorter than the share loses nothing, so nobody can
//! push out others' messages, however many sessions they use. Finding the share means looking at
//! all sessions, so an eighth of the limit is freed at once, which must be filled again before
//! the next time.

use super::Hub;
use super::session::Session;
use crate::protocol::SessionId;

impl Hub {
    /// Enforces the limit when a message in this session has exceeded it. That message stays.
    pub(super) fn enforce_history_quota(&mut self, speaker: &SessionId) {
        let limit = self.limits.history_total;
        let lengths = self.sessions.values().map(Session::history_bytes);
        let share = fair_share(lengths.collect(), limit - limit / 8);
        for (id, session) in &mut self.sessions {
            if session.history_bytes() > share {
                let keep_at_least = usize::from(id == speaker);
                session.truncate_history(share, keep_at_least, &mut self.history_total);
            }
        }
    }
}

/// Returns the most that each may have so that all of them have `room` at most; what shorter
/// ones leave is shared by the others.
fn fair_share(mut lengths: Vec<usize>, mut room: usize) -> usize {
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
