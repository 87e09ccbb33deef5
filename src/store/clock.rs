//! The time that messages are said to have come at. A computer's clock may jump: one without a battery begins in 1970, or
//! at any time, until the network has told it. What is removed for its age must not be removed because of that.

use std::time::{Duration, Instant, SystemTime};

/// A clock that is further from where it should be than this is not believed…
const TOLERANCE: Duration = Duration::from_hours(24);
/// …until it was so for this long.
const PATIENCE: Duration = Duration::from_hours(1);

/// The time, as far as it can be believed.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What is believed…
    time: SystemTime,
    /// …at this moment.
    at: Instant,
    /// Since when the system's clock has been elsewhere.
    doubted_since: Option<Instant>,
}

impl Clock {
    /// Returns a clock that begins with the last time that is known; `None` believes the system's.
    pub fn new(known: Option<SystemTime>, wall: SystemTime, at: Instant) -> Self {
        Self {
            time: known.unwrap_or(wall),
            at,
            doubted_since: None,
        }
    }

    /// Returns when something is said now: the system's time, unless that is far behind. `wall` is the system's.
    pub fn stamp(&mut self, wall: SystemTime, at: Instant) -> SystemTime {
        // A server may have been off for long, so ahead it may be right.
        self.believed(wall, at).max(wall)
    }

    /// Returns the time by which old messages are removed: the system's, unless that is far ahead.
    pub fn removal(&mut self, wall: SystemTime, at: Instant) -> SystemTime {
        // What was said last may have a time that was far ahead then.
        self.believed(wall, at).min(wall)
    }

    /// Returns the system's time, unless that is far behind or ahead.
    fn believed(&mut self, wall: SystemTime, at: Instant) -> SystemTime {
        let expected = self.time + at.saturating_duration_since(self.at);
        let ahead = wall.duration_since(expected).unwrap_or_default();
        let behind = expected.duration_since(wall).unwrap_or_default();
        self.at = at;
        if ahead.max(behind) <= TOLERANCE {
            self.doubted_since = None;
            self.time = wall;
            return wall;
        }
        let since = *self.doubted_since.get_or_insert(at);
        self.time = if at.saturating_duration_since(since) < PATIENCE {
            expected
        } else {
            self.doubted_since = None;
            wall
        };
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn minutes(count: u64) -> Duration {
        Duration::from_mins(count)
    }

    #[test]
    fn clock_that_goes_is_believed() {
        let (wall, at) = (SystemTime::UNIX_EPOCH + 20_000 * DAY, Instant::now());
        let mut clock = Clock::new(None, wall, at);
        // It goes, it is set back, and the computer has slept.
        for wall in [wall + minutes(1), wall - minutes(1), wall + DAY / 2] {
            assert_eq!(clock.believed(wall, at + minutes(1)), wall);
        }
        let back = wall + DAY / 2 - minutes(5);
        assert_eq!(clock.stamp(back, at + minutes(1)), back);
    }

    #[test]
    fn clock_that_jumps_is_believed_after_an_hour() {
        let (wall, at) = (SystemTime::UNIX_EPOCH + 20_000 * DAY, Instant::now());
        for elsewhere in [SystemTime::UNIX_EPOCH, wall + 10_000 * DAY] {
            let mut clock = Clock::new(Some(wall), elsewhere, at);
            assert_eq!(clock.believed(elsewhere, at), wall);
            let expected = wall + minutes(59);
            let moved = elsewhere + minutes(59);
            assert_eq!(clock.believed(moved, at + minutes(59)), expected);
            assert_eq!(clock.stamp(moved, at + minutes(59)), expected.max(moved));
            // It comes back.
            let mut back = clock;
            let right = wall + minutes(60);
            assert_eq!(back.believed(right, at + minutes(60)), right);
            let moved = elsewhere + minutes(60);
            assert_eq!(clock.believed(moved, at + minutes(60)), moved);
            assert_eq!(clock.believed(moved, at + minutes(60)), moved);
        }
    }

    #[test]
    fn nothing_is_removed_by_a_clock_that_is_or_was_ahead() {
        let (wall, at) = (SystemTime::UNIX_EPOCH + 20_000 * DAY, Instant::now());
        let ahead = wall + 4_000 * DAY;
        let mut clock = Clock::new(Some(wall), ahead, at);
        assert_eq!(clock.removal(ahead, at), wall);
        // Something was said meanwhile, and then the clock was right again.
        let mut clock = Clock::new(Some(ahead), wall, at);
        assert_eq!(clock.removal(wall, at), wall);
        assert_eq!(clock.stamp(wall, at), ahead);
    }
}
