//! What a client says.

use std::sync::Arc;

use serde::Serialize;

use super::SessionId;

/// What a client says. Serialized, it is one text frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(untagged)]
pub enum ClientMessage {
    /// A message for Claude.
    Message(NewMessage),
    /// A request that the server answers by itself.
    Request(ClientRequest),
}

/// `message`: a message for Claude. A field that the client leaves out is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(tag = "type", rename = "message")]
pub struct NewMessage {
    /// The session it is for; the connection's own if `None`.
    #[serde(rename = "session_id", skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The text. It must not be empty.
    pub content: Arc<str>,
    /// The author's name; `user` if `None`. A token's name overrides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// When it was written, as the client says; the server's time if `None`. 64 characters at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<Arc<str>>,
    /// The client's own id, under which receipts come and resends are recognized. 64 characters at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
}

/// A request that the server answers by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientRequest {
    /// Asks for messages of a session. Answered by `history`.
    FetchHistory {
        /// The session; the connection's own if `None`.
        #[serde(rename = "session_id", skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// How many messages, 1 to [`MAX_LIMIT`](super::MAX_LIMIT).
        limit: usize,
        /// Only messages with a higher `seq`, from the first of them on. The last ones if `None`.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
    },
    /// Answers a permission request. The first response counts.
    PermissionResponse {
        /// The `request_id` of the request.
        request_id: String,
        /// Whether the tool may run.
        allowed: bool,
    },
    /// Asks which sessions there are. Answered by `sessions`.
    ListSessions,
    /// Asks who the server is. Answered by `welcome`.
    Hello {
        /// Whether `stream` messages are wanted; unchanged if `None`.
        #[serde(skip_serializing_if = "Option::is_none")]
        stream: Option<bool>,
    },
    /// Asks for a sign of life. Answered by `pong`.
    Ping,
}
