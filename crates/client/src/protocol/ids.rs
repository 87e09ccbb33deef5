//! The names of sessions and messages.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::field::{FieldError, FieldErrorKind, check_name};

/// The name of a session. Claude Code calls it `chat_id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Checks a name and returns it as a session's id. `field` is what an error calls it.
    ///
    /// # Errors
    /// Fails if the name is empty, has more than `max` characters, or holds control characters.
    pub fn parse(field: &'static str, name: &str, max: usize) -> Result<Self, FieldError> {
        if name.is_empty() {
            return Err(FieldErrorKind::Empty.of(field));
        }
        check_name(field, name, max)?;
        Ok(Self(name.into()))
    }

    /// Returns a name as it is. The server checks what a client sends.
    pub(crate) fn unchecked(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The server's id of a message or a reply, unique over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// Returns its text: 36 characters, lower-case hexadecimal digits and hyphens.
    pub fn text(&self) -> [u8; Hyphenated::LENGTH] {
        let mut text = [0; Hyphenated::LENGTH];
        self.0.hyphenated().encode_lower(&mut text);
        text
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Uuid::try_parse(&text).map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; Hyphenated::LENGTH];
        serializer.serialize_str(self.0.hyphenated().encode_lower(&mut text))
    }
}
