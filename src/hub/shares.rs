//! What all sessions' histories may take together, and what each may of that.
//!
//! When they come to more than the limit, each is cut to the same share of it, oldest
//! messages first. What is shorter than that loses nothing, so that nobody can push out
//! others' messages with many of their own, in however many sessions. To find the share,
//! all sessions are looked at; therefore an eighth of the limit is freed at once, and it is
//! filled again before they are looked at again.

use super::Hub;
use super::session::Session;
use crate::protocol::SessionId;

impl Hub {
    /// Sees to the limit, after something was said in this session. That stays.
    pub(super) fn share_history(&mut self, speaker: &SessionId) {
        let limit = self.limits.history_total;
        if self.history_total <= limit {
            return;
        }
        let lengths = self.sessions.values().map(Session::history_bytes);
        let share = share(lengths.collect(), limit - limit / 8);
        for (id, session) in &mut self.sessions {
            if session.history_bytes() > share {
                let spared = usize::from(id == speaker);
                session.cut_history(share, spared, &mut self.history_total);
            }
        }
    }
}

/// The most that each may have so that all of them come to `room` at most; those that are
/// shorter leave the rest to the others.
fn share(mut lengths: Vec<usize>, mut room: usize) -> usize {
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
    fn the_short_leave_their_rest_to_the_long() {
        for (lengths, room, expected) in [
            (vec![], 10, usize::MAX),
            (vec![4, 6], 10, usize::MAX),
            (vec![6, 5], 10, 5),
            (vec![100, 1, 100, 3], 24, 10),
            (vec![7; 10], 5, 0),
        ] {
            assert_eq!(share(lengths.clone(), room), expected, "{lengths:?}");
        }
    }
}
