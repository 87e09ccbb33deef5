//! What a client writes: each is one text frame.

use serde::Serialize;

/// What a client says to the server.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Frame<'a> {
    Hello {
        stream: bool,
    },
    Ping,
    Message {
        session_id: &'a str,
        id: &'a str,
        content: &'a str,
        user: &'a str,
        ts: &'a str,
    },
    FetchHistory {
        session_id: &'a str,
        limit: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
    },
    ListSessions,
    PermissionResponse {
        request_id: &'a str,
        allowed: bool,
    },
}

impl Frame<'_> {
    /// The text of it.
    pub fn text(&self) -> String {
        // Strings and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}
