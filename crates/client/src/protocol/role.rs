//! What a client may do.

use serde::{Deserialize, Serialize};

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Operator,
    /// Talk and read; sees and answers no permission requests.
    Sender,
    /// Read.
    Viewer,
}

impl Role {
    /// The names of all of them, for error messages.
    pub const NAMES: [&'static str; 3] = ["operator", "sender", "viewer"];

    /// Finds the role of that name.
    ///
    /// # Errors
    /// Which names there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "operator" => Ok(Self::Operator),
            "sender" => Ok(Self::Sender),
            "viewer" => Ok(Self::Viewer),
            _ => Err(format!("give {}", Self::NAMES.join(", "))),
        }
    }

    /// The role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Sender => "sender",
            Self::Viewer => "viewer",
        }
    }

    /// Whether it may say something to Claude.
    pub fn may_send(self) -> bool {
        matches!(self, Self::Operator | Self::Sender)
    }

    /// Whether it sees permission requests and answers them.
    pub fn decides(self) -> bool {
        self == Self::Operator
    }
}
