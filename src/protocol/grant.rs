//! What a token allows: a role, a name, sessions, a rate.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{MAX_NAME, Rate, Role, SessionId, check_name};

/// What one token, or the lack of one, allows a client to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Identifies the grant. One that was changed has another id.
    pub id: u64,
    /// The name that all of the client's messages are signed with.
    pub user: Option<Arc<str>>,
    pub role: Role,
    /// The sessions that it is bound to; all if `None`.
    pub sessions: Option<SessionPattern>,
    /// How much all of its clients together may send; any amount if `None`.
    pub rate: Option<Rate>,
}

impl Grant {
    /// The grant of a client without a token, where none is needed.
    pub const WITHOUT_TOKEN: Self = Self {
        id: 0,
        user: None,
        role: Role::Operator,
        sessions: None,
        rate: None,
    };

    /// Returns `true` if it covers this session. What the client may do there depends on the role.
    pub fn covers(&self, session: &SessionId) -> bool {
        let matches = |pattern: &SessionPattern| pattern.matches(session.as_str());
        self.sessions.as_ref().is_none_or(matches)
    }
}

/// Such as `operator "ann"`, or `sender "shed" for sessions "shed-*"`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role.as_str())?;
        if let Some(user) = &self.user {
            write!(f, " \"{user}\"")?;
        }
        if let Some(sessions) = &self.sessions {
            write!(f, " for sessions \"{sessions}\"")?;
        }
        Ok(())
    }
}

/// A pattern for names of sessions. `*` stands for any text, also none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SessionPattern(Arc<str>);

impl TryFrom<String> for SessionPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl SessionPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Says why no session could have such a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a pattern must not be empty; give a session's name, or one with * for any text, such as greenhouse-*".into());
        }
        check_name("session", text, MAX_NAME)?;
        Ok(Self(text.into()))
    }

    /// Returns `true` if the name matches.
    pub fn matches(&self, name: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else {
            return *self.0 == *name;
        };
        let Some(mut name) = name.strip_prefix(start) else {
            return false;
        };
        let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
        // The first match of each part leaves the most for the parts behind it.
        for part in middle.split('*') {
            match name.find(part) {
                Some(place) => name = &name[place + part.len()..],
                None => return false,
            }
        }
        name.ends_with(end)
    }

    /// Returns the name, if only one matches.
    pub fn only(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }
}

impl fmt::Display for SessionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_text() {
        let cases = [
            ("a", &["a"][..], &["", "b", "aa", "A"][..]),
            ("shed-*", &["shed-", "shed-1"], &["shed", "my-shed-1", ""]),
            ("*", &["", "a", "a*b"], &[]),
            ("*-1", &["-1", "a-1"], &["1", "a-1b"]),
            ("a*b*c", &["abc", "a-b-b-c"], &["ab", "acb", "bc", "abcd"]),
            ("ab*ba", &["abba", "ab-ba"], &["aba", "ab"]),
            ("a**b", &["ab", "a-b"], &["a"]),
            ("*a*a*", &["aa", "banana"], &["a", "b"]),
            ("é*ü", &["éü", "éßü"], &["e-u"]),
        ];
        for (pattern, inside, outside) in cases {
            let parsed = SessionPattern::parse(pattern).expect(pattern);
            for name in inside {
                assert!(parsed.matches(name), "{pattern} and {name}");
            }
            for name in outside {
                assert!(!parsed.matches(name), "{pattern} and {name}");
            }
        }
        for wrong in ["", "a\nb", &"x".repeat(MAX_NAME + 1)] {
            assert!(SessionPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
