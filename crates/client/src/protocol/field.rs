//! What is wrong with a field of a message.

use std::fmt;

/// A field of a message that is not what it should be.
///
/// Its `Display` is one sentence for people, such as `"limit" must be a number, not a string`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: FieldErrorKind,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldErrorKind {
    /// It is not there.
    Missing {
        /// The kind of value that it must have, such as `a string`.
        expected: &'static str,
    },
    /// Its value is of another kind.
    WrongKind {
        /// The kind of value that it must have.
        expected: &'static str,
        /// The kind of value that it has.
        found: &'static str,
    },
    /// It must not be empty.
    Empty,
    /// It is too long.
    TooLong {
        /// Its length, in characters.
        length: usize,
        /// The limit, in characters.
        limit: usize,
    },
    /// It contains control characters or line separators.
    ControlCharacters,
    /// It is not a time.
    NotATime,
}

impl FieldErrorKind {
    /// Returns the error of this kind about a field.
    pub fn of(self, field: &'static str) -> FieldError {
        FieldError { field, kind: self }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field;
        match self.kind {
            FieldErrorKind::Missing { expected } => {
                write!(f, "\"{field}\" is missing; it must be {expected}")
            }
            FieldErrorKind::WrongKind { expected, found } => {
                write!(f, "\"{field}\" must be {expected}, not {found}")
            }
            FieldErrorKind::Empty => write!(f, "\"{field}\" must not be empty"),
            FieldErrorKind::TooLong { length, limit } => {
                write!(
                    f,
                    "\"{field}\" has {length} characters; the limit is {limit}"
                )
            }
            FieldErrorKind::ControlCharacters => {
                write!(f, "\"{field}\" must not contain control characters")
            }
            FieldErrorKind::NotATime => {
                write!(f, "\"{field}\" must be a time such as 2026-01-01T00:00:00Z")
            }
        }
    }
}

impl std::error::Error for FieldError {}

impl From<FieldError> for String {
    fn from(error: FieldError) -> Self {
        error.to_string()
    }
}

/// Checks a name that becomes an attribute of a `<channel>` tag or part of a log line.
///
/// # Errors
/// Fails if the name has more than `max` characters, or holds control characters.
pub fn check_name(field: &'static str, name: &str, max: usize) -> Result<(), FieldError> {
    // Nearly every name is one of these, and checked at a glance.
    if name.len() <= max && name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    let length = name.chars().count();
    if length > max {
        let limit = max;
        return Err(FieldErrorKind::TooLong { length, limit }.of(field));
    }
    // Unicode's own line separators are no control characters.
    let breaks_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if name.chars().any(breaks_line) {
        return Err(FieldErrorKind::ControlCharacters.of(field));
    }
    Ok(())
}
