//! What a client says.
//!
//! The comments here are also those of `asyncapi.yaml` and `docs/protocol.md`: `cargo xtask codegen` reads them.

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

/// A message for Claude.
///
/// With an `id`, the client is told by `delivery` what became of it. The same message sent again under its `id` is
/// acknowledged again and not delivered twice; another text under a known `id` is rejected with `invalid_message`. The
/// server knows an `id` as long as the store has the message, over restarts. Without a store it knows the last 4,096 of
/// a session, as long as the session lasts. Those of all sessions have 16 MiB (`--receipts-total`), and beyond that the
/// sessions with the most forget their oldest.
///
/// ```json
/// {"type": "message", "session_id": "greenhouse", "content": "It is 31 degrees.", "user": "sensor 3",
///  "ts": "2026-01-01T12:00:00Z", "id": "0b0c0a64-6a5c-4ad0-8b6d-5f1f4b7f5a10"}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(tag = "type", rename = "message")]
pub struct NewMessage {
    /// The session. That of the connection if left out.
    #[serde(rename = "session_id", skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The text. The whole frame may have 448 KiB (`--max-message`).
    pub content: Arc<str>,
    /// The author's name. `user` if left out or empty; a token's name overrides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// When it was written, passed on as it is. The server's time if left out or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<Arc<str>>,
    /// The client's own id of the message, of 64 characters at most. It is shared by everyone in the session, so use a
    /// UUID. None if left out or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
}

impl NewMessage {
    /// Returns a message with this text and nothing else. The other fields may be set.
    pub fn new(content: impl Into<Arc<str>>) -> Self {
        Self {
            session: None,
            content: content.into(),
            user: None,
            ts: None,
            id: None,
        }
    }
}

/// A request that the server answers by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientRequest {
    /// Asks for messages of a session.
    ///
    /// Answered with `history`: the last messages, those after `since`, from the first of them on, or the last ones before
    /// `before`. Doesn't join the session.
    ///
    /// ```json
    /// {"type": "fetch_history", "session_id": "greenhouse", "limit": 100, "since": 41}
    /// ```
    FetchHistory {
        /// The session. That of the connection if left out.
        #[serde(rename = "session_id", skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// The number of messages. Brought into 1 to 100, without its fraction; 50 if left out.
        limit: usize,
        /// Only messages with a higher `seq`.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
        /// Only messages with a lower `seq`.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
    },
    /// Finds words in what was said.
    ///
    /// Answered with `history` for each session in which something was found, with `search`; with an empty one if nothing
    /// was. A message is found if all the words are in it, in any order, whatever their case; the last word may be the
    /// beginning of one. A word is what stands between spaces and punctuation, so of a language that is written without
    /// them only the beginnings of its runs are found. Accents don't matter. Without a store only what is in memory is
    /// found, and they do.
    ///
    /// ```json
    /// {"type": "search", "text": "window open", "limit": 20}
    /// ```
    Search {
        /// The session. All that the client may read if left out.
        #[serde(rename = "session_id", skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// The words, 200 characters at most.
        text: Arc<str>,
        /// The number of messages: the newest. Brought into 1 to 100, without its fraction; 50 if left out.
        limit: usize,
    },
    /// Asks which permission requests were decided.
    ///
    /// Answered with `verdicts`: the last ones. Only an operator can.
    ///
    /// ```json
    /// {"type": "fetch_verdicts", "limit": 20}
    /// ```
    FetchVerdicts {
        /// The number of verdicts. Brought into 1 to 100, without its fraction; 50 if left out.
        limit: usize,
    },
    /// Asks what has become of a message.
    ///
    /// For clients that have been away. Answered with `delivery`: the state that the message has reached, as soon as it has
    /// reached one, and `lost` if the server doesn't know the message. Further receipts of it come on this connection.
    ///
    /// ```json
    /// {"type": "fetch_receipt", "session_id": "greenhouse", "id": "0b0c0a64-6a5c-4ad0-8b6d-5f1f4b7f5a10"}
    /// ```
    FetchReceipt {
        /// The session. That of the connection if left out.
        #[serde(rename = "session_id", skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// The client's own id of the message.
        id: Arc<str>,
    },
    /// Answers a permission request.
    ///
    /// Only an operator can. The first response counts, here or in the terminal, and everyone who was asked gets
    /// `permission_resolved`. One for a request that isn't open gets the error `unknown_request`.
    ///
    /// ```json
    /// {"type": "permission_response", "request_id": "abcde", "allowed": true}
    /// ```
    PermissionResponse {
        /// That of the `permission_request`.
        request_id: String,
        /// `true` if the tool may run.
        allowed: bool,
    },
    /// Asks which sessions there are.
    ///
    /// Answered with `sessions`. Joins none.
    ///
    /// ```json
    /// {"type": "list_sessions"}
    /// ```
    ListSessions,
    /// Asks who the server is.
    ///
    /// Answered with `welcome`.
    ///
    /// ```json
    /// {"type": "hello", "stream": true}
    /// ```
    Hello {
        /// `true` if `stream` messages are wanted. As before if left out, and at first not.
        #[serde(skip_serializing_if = "Option::is_none")]
        stream: Option<bool>,
    },
    /// Asks for a sign of life.
    ///
    /// Answered with `pong`. For browsers, which cannot send WebSocket pings.
    ///
    /// ```json
    /// {"type": "ping"}
    /// ```
    Ping,
}
