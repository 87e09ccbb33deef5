//! Rates: how many messages a token may send in a time.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a rate may be, for people.
const EXPECTED: &str = "give a number of messages and a time, such as 10/s, 30/m, 200/h or 1000/d, or none for no limit";

/// A number of messages in a time, such as `30/m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    messages: NonZeroU32,
    period: Period,
}

/// The time of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
    Day,
}

impl Rate {
    /// That of a sender whose token says nothing of it: 60/m.
    pub const OF_SENDERS: Self = Self {
        messages: NonZeroU32::new(60).unwrap(),
        period: Period::Minute,
    };

    fn parse(text: &str) -> Option<Self> {
        let (messages, period) = text.split_once('/')?;
        // `parse` would take a plus.
        let is_number = messages.bytes().all(|byte| byte.is_ascii_digit());
        Some(Self {
            messages: messages.parse().ok().filter(|_| is_number)?,
            period: Period::parse(period)?,
        })
    }

    /// Returns how many messages it allows at once.
    pub fn burst(self) -> u32 {
        self.messages.get()
    }

    /// Returns in what time it allows all of its burst anew.
    pub fn period(self) -> Duration {
        self.period.duration()
    }
}

/// Such as `30/m`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.messages, self.period.letter())
    }
}

impl Period {
    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Second, Self::Minute, Self::Hour, Self::Day];
        all.into_iter().find(|period| period.letter() == text)
    }

    fn letter(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
            Self::Day => "d",
        }
    }

    fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => 24 * 60 * 60,
        })
    }
}

/// What the owner of a token has decided about its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RateLimit {
    /// It may send as much as it likes.
    Unlimited,
    /// It may send this much.
    Limited(Rate),
}

impl RateLimit {
    /// Parses `30/m` or `none`.
    ///
    /// # Errors
    /// Says what a rate may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Unlimited);
        }
        Rate::parse(text)
            .map(Self::Limited)
            .ok_or_else(|| EXPECTED.to_owned())
    }

    /// Returns the rate, if there is a limit.
    pub fn rate(self) -> Option<Rate> {
        match self {
            Self::Unlimited => None,
            Self::Limited(rate) => Some(rate),
        }
    }
}

impl TryFrom<String> for RateLimit {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|expected| format!("\"rate\" cannot be {text:?}: {expected}"))
    }
}

impl From<RateLimit> for String {
    fn from(limit: RateLimit) -> Self {
        limit.to_string()
    }
}

/// As it is parsed.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("none"),
            Self::Limited(rate) => rate.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_a_number_and_a_time() {
        for text in ["1/s", "30/m", "200/h", "4294967295/d", "none"] {
            let limit = RateLimit::parse(text).expect(text);
            assert_eq!(limit.to_string(), text);
        }
        let limit = RateLimit::parse("30/m").expect("the rate is valid");
        let rate = limit.rate().expect("there is a limit");
        assert_eq!((rate.burst(), rate.period()), (30, Duration::from_secs(60)));
        assert_eq!(Rate::OF_SENDERS.to_string(), "60/m");
        for wrong in [
            "",
            "30",
            "/m",
            "0/m",
            "+1/m",
            "-1/m",
            "1.5/m",
            "30/",
            "30/min",
            "30/M",
            "30 / m",
            "None",
            "4294967296/d",
        ] {
            assert!(RateLimit::parse(wrong).is_err(), "{wrong}");
        }
    }
}
