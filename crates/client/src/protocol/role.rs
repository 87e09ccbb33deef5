//! What a client may do.

use serde::{Deserialize, Serialize};

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Operator,
    /// Send and read. Neither sees nor answers permission requests.
    Sender,
    /// Read.
    Viewer,
}

impl Role {
    /// The names, for error messages.
    pub const NAMES: [&'static str; 3] = ["operator", "sender", "viewer"];

    /// Returns the role of that name.
    ///
    /// # Errors
    /// Says which names there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "operator" => Ok(Self::Operator),
            "sender" => Ok(Self::Sender),
            "viewer" => Ok(Self::Viewer),
            _ => Err(format!("give {}", Self::NAMES.join(", "))),
        }
    }

    /// Returns the role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Sender => "sender",
            Self::Viewer => "viewer",
        }
    }

    /// Returns `true` if it may send messages to Claude.
    pub fn can_send(self) -> bool {
        matches!(self, Self::Operator | Self::Sender)
    }

    /// Returns `true` if it sees permission requests and may answer them.
    pub fn can_approve(self) -> bool {
        self == Self::Operator
    }
}
