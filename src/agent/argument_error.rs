//! What can be wrong with the arguments of a tool, be it called by Claude or by a hook.

use std::fmt;

use crate::json::ObjectError;
use crate::protocol::{FieldError, Status};

/// What is wrong with the arguments of a call. Its `Display` names the argument.
#[derive(Debug, PartialEq, Eq)]
pub enum ArgumentError {
    /// The arguments are no object.
    NotAnObject,
    /// An argument is missing, empty or of another kind.
    Field(FieldError),
    /// What should be a message's id is none.
    NotAMessageId,
    /// There is no status of this name.
    UnknownStatus(String),
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("\"arguments\" must be an object"),
            Self::Field(error) => error.fmt(f),
            Self::NotAMessageId => {
                f.write_str("\"reply_to\" must be the message_id of a message, or left out")
            }
            Self::UnknownStatus(name) => {
                let names = Status::NAMES.join(", ");
                write!(f, "\"status\" must be one of {names}, not \"{name}\"")
            }
        }
    }
}

impl From<ObjectError> for ArgumentError {
    fn from(_: ObjectError) -> Self {
        Self::NotAnObject
    }
}

impl From<FieldError> for ArgumentError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}
