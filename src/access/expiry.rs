//! When a token expires.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DAY: u64 = 24 * 60 * 60;

/// The moment from which a token is not valid any more, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry(SystemTime);

impl Expiry {
    /// Parses a duration from now on such as `90d`, or a time in UTC such as `2027-01-01` or
    /// `2027-01-01T12:00:00Z`.
    ///
    /// # Errors
    /// Says what to give.
    pub fn parse(text: &str, now: SystemTime) -> Result<Self, String> {
        let time = match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => None,
            Ok(duration) => now.checked_add(duration),
            Err(_) => parse_time(text),
        };
        let expiry = time.and_then(Self::at).ok_or_else(|| {
            "give how long from now, such as 12h or 90d, or when in UTC, such as 2027-01-01 or 2027-01-01T12:00:00Z".to_owned()
        })?;
        if expiry.is_over(now) {
            return Err(format!("{expiry} is not in the future; give a later time"));
        }
        Ok(expiry)
    }

    /// Returns the expiry at this time, or at the next full second. `None` if it is too far off to
    /// be written.
    pub fn at(time: SystemTime) -> Option<Self> {
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
        let expiry = Self(UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?);
        write!(String::new(), "{expiry}").ok()?;
        Some(expiry)
    }

    pub fn is_over(self, now: SystemTime) -> bool {
        self.0 <= now
    }

    /// Returns how long it is until then; zero if it is over.
    pub fn left(self, now: SystemTime) -> Duration {
        self.0.duration_since(now).unwrap_or_default()
    }

    /// Returns the same for people, in the largest unit of which there is one: `89d`.
    pub fn left_in_words(self, now: SystemTime) -> String {
        let seconds = self.left(now).as_secs();
        let units = [(DAY, "d"), (60 * 60, "h"), (60, "m")];
        let unit = units.into_iter().find(|(unit, _)| seconds >= *unit);
        let (unit, letter) = unit.unwrap_or((1, "s"));
        format!("{}{letter}", seconds / unit)
    }
}

/// Parses a time (RFC 3339), or the date alone, which is its beginning. All in UTC.
fn parse_time(text: &str) -> Option<SystemTime> {
    // humantime slices it.
    if !text.is_ascii() {
        return None;
    }
    let time = humantime::parse_rfc3339(text);
    time.or_else(|_| humantime::parse_rfc3339(&format!("{text}T00:00:00Z")))
        .ok()
}

/// RFC 3339, in UTC.
impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(self.0).fmt(f)
    }
}

impl Serialize for Expiry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            de::Error::custom(format!(
                "\"expires\" must be a time such as 2027-01-01T12:00:00Z, not {text:?}"
            ))
        };
        parse_time(&text).and_then(Self::at).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_a_duration_or_a_time_in_the_future() {
        let now = humantime::parse_rfc3339("2026-01-01T12:00:00.5Z").expect("the time is valid");
        let cases = [
            ("90d", "2026-04-01T12:00:01Z", "90d"),
            ("1s", "2026-01-01T12:00:02Z", "1s"),
            ("1h 30m", "2026-01-01T13:30:01Z", "1h"),
            ("2026-01-02", "2026-01-02T00:00:00Z", "11h"),
            ("2026-01-01T12:02:00Z", "2026-01-01T12:02:00Z", "1m"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "2912442d"),
        ];
        for (text, expected, left) in cases {
            let expiry = Expiry::parse(text, now).expect(text);
            assert_eq!(expiry.to_string(), expected, "{text}");
            assert_eq!(expiry.left_in_words(now), left, "{text}");
            assert!(!expiry.is_over(now) && expiry.is_over(expiry.0), "{text}");
        }
        for wrong in [
            "",
            "90",
            "soon",
            "0s",
            "2026-01-01",
            "2026-01-01T12:00:00Z",
            "2026-13-01",
            "2027-01-01T12:00:00+01:00",
            "2027-01-01é12:00:00Z",
            "10000years",
            "9999999999999years",
        ] {
            assert!(Expiry::parse(wrong, now).is_err(), "{wrong}");
        }
    }
}
