//! What the server says.
//!
//! The comments here are also those of `asyncapi.yaml`, `docs/protocol.md` and the npm package's types: `cargo xtask
//! codegen` reads them. The first paragraph of a message says what it is; its JSON is an example.

use serde::{Deserialize, Serialize};

use super::{MessageId, Role};

/// What the server says. Serialized, it is one text frame.
///
/// `T` is how it holds text: the server borrows it (`&str`), and clients own it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<T = String> {
    /// Claude's answer.
    ///
    /// To everyone in the session.
    ///
    /// ```json
    /// {"type": "reply", "session_id": "greenhouse", "message_id": "018f0a52-7c1e-8a3b-9d52-0c6a2f8e4b71", "seq": 42,
    ///  "content": "I have opened the window.", "ts": "2026-01-01T12:00:05.123Z"}
    /// ```
    Reply {
        /// The session.
        session_id: T,
        /// The server's id of the reply.
        message_id: MessageId,
        /// Its place in the session, from 1.
        seq: u64,
        /// The text. Often Markdown.
        content: T,
        /// The server's time, RFC 3339 in UTC.
        ts: T,
        /// How the reply came, if not by the reply tool. Only such a one can be cut off, and then says so at its end.
        #[serde(skip_serializing_if = "Option::is_none")]
        via: Option<ReplySource>,
    },
    /// A piece of Claude's text, as it appears.
    ///
    /// To those who asked for it with `hello`. The `reply` counts. Needs the plugin's hooks.
    ///
    /// ```json
    /// {"type": "stream", "session_id": "greenhouse", "delta": "I have "}
    /// ```
    Stream {
        /// The session that Claude answers.
        session_id: T,
        /// The next piece.
        delta: T,
    },
    /// What Claude is doing.
    ///
    /// To everyone in the session, and to a client that joins while it isn't `idle`.
    ///
    /// ```json
    /// {"type": "status", "session_id": "greenhouse", "status": "tool_use", "detail": "Bash: open the window"}
    /// ```
    Status {
        /// The session.
        session_id: T,
        /// What Claude is doing.
        status: Status,
        /// More, for people, such as the tool and what it does, in 500 characters at most. Untrusted text.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<T>,
    },
    /// Messages of a session, oldest first.
    ///
    /// The answer to `fetch_history`, and to `search`. Empty for a session that doesn't exist. A long one comes in several
    /// such messages, and others may come between them.
    ///
    /// ```json
    /// {"type": "history", "session_id": "greenhouse", "messages": [
    ///   {"role": "user", "content": "It is 31 degrees.", "ts": "2026-01-01T12:00:00Z",
    ///    "message_id": "018f0a52-6b0d-8f2a-8c41-1b5a3f7e2d60", "seq": 41, "user": "sensor 3"},
    ///   {"role": "assistant", "content": "I have opened the window.", "ts": "2026-01-01T12:00:05.123Z",
    ///    "message_id": "018f0a52-7c1e-8a3b-9d52-0c6a2f8e4b71", "seq": 42}]}
    /// ```
    History {
        /// The session.
        session_id: T,
        /// 100 messages at most.
        messages: Vec<HistoryItem<T>>,
        /// Messages that were asked for are not kept any more: some before this `seq` are missing here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        truncated_before: Option<u64>,
        /// The words that were searched for. These are messages in which they are, and not the history between them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        search: Option<T>,
        /// `true` if the next `history` goes on with this answer.
        #[serde(default, skip_serializing_if = "is_false")]
        more: bool,
    },
    /// The sessions.
    ///
    /// The answer to `list_sessions`. Only those that the client may read. A long one comes in several such messages, and
    /// others may come between them.
    ///
    /// ```json
    /// {"type": "sessions", "total": 1, "permissions": 0, "sessions": [
    ///   {"session_id": "greenhouse", "clients": 2, "created": "2026-01-01T11:00:00.000Z", "seq": 0, "status": "idle"}]}
    /// ```
    Sessions {
        /// 100 sessions at most: those with a client in them first, then by name.
        sessions: Vec<SessionItem<T>>,
        /// The number of sessions, listed or not.
        total: usize,
        /// The number of permission requests that wait for an operator. They belong to no session.
        permissions: usize,
        /// `true` if the next `sessions` goes on with this answer.
        #[serde(default, skip_serializing_if = "is_false")]
        more: bool,
    },
    /// Permission requests that were decided, oldest first.
    ///
    /// The answer to `fetch_verdicts`. A long one comes in several such messages, and others may come between them.
    ///
    /// ```json
    /// {"type": "verdicts", "verdicts": [
    ///   {"request_id": "abcde", "tool_name": "Bash", "description": "Open the window", "allowed": true, "by": "ann",
    ///    "ts": "2026-01-01T12:00:03.456Z"}]}
    /// ```
    Verdicts {
        /// 100 verdicts at most.
        verdicts: Vec<VerdictItem<T>>,
        /// `true` if the next `verdicts` goes on with this answer.
        #[serde(default, skip_serializing_if = "is_false")]
        more: bool,
    },
    /// Claude Code asks whether a tool may run.
    ///
    /// Claude Code doesn't say for which session it asks, so every operator is asked once, with the session of its own
    /// address, also who connects later. The texts come from Claude Code and from what Claude has read: show them as text.
    ///
    /// ```json
    /// {"type": "permission_request", "session_id": "greenhouse", "request_id": "abcde", "tool_name": "Bash",
    ///  "description": "Open the window", "input_preview": "{\"command\":\"window open\"}"}
    /// ```
    PermissionRequest {
        /// The client's own session.
        session_id: T,
        /// What to answer with.
        request_id: T,
        /// The tool, such as `Bash`.
        tool_name: T,
        /// What the tool is about to do. Untrusted text.
        description: T,
        /// The tool's input, as display text, mostly JSON. A long one is cut off, and says so at its end. Untrusted text.
        input_preview: T,
    },
    /// A permission request is closed.
    ///
    /// To everyone who was asked.
    ///
    /// ```json
    /// {"type": "permission_resolved", "session_id": "greenhouse", "request_id": "abcde", "allowed": true, "by": "ann"}
    /// ```
    PermissionResolved {
        /// The client's own session.
        session_id: T,
        /// The request.
        request_id: T,
        /// `true` if the tool may run.
        allowed: bool,
        /// Who has answered: the name of a token, or the `user` of that client's last message (`user` without one).
        /// `terminal` if the prompt was answered there, `expired` if nobody has answered it.
        by: T,
        /// Why nobody can answer it any more, one sentence for people. Only if it is `expired`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<T>,
    },
    /// A message of somebody else.
    ///
    /// To the other clients of its session.
    ///
    /// ```json
    /// {"type": "user_message", "session_id": "greenhouse", "message_id": "018f0a52-6b0d-8f2a-8c41-1b5a3f7e2d60",
    ///  "seq": 41, "content": "It is 31 degrees.", "user": "sensor 3", "ts": "2026-01-01T12:00:00Z"}
    /// ```
    UserMessage {
        /// The session.
        session_id: T,
        /// The server's id of the message.
        message_id: MessageId,
        /// Its place in the session, from 1.
        seq: u64,
        /// The text.
        content: T,
        /// The author's name.
        user: T,
        /// When it was written, as the client says; else the server's time, RFC 3339 in UTC.
        ts: T,
    },
    /// The receipt of a message that had an `id`.
    ///
    /// To who has sent it.
    ///
    /// ```json
    /// {"type": "delivery", "session_id": "greenhouse", "id": "0b0c0a64-6a5c-4ad0-8b6d-5f1f4b7f5a10",
    ///  "message_id": "018f0a52-6b0d-8f2a-8c41-1b5a3f7e2d60", "seq": 41, "state": "accepted"}
    /// ```
    Delivery {
        /// The session.
        session_id: T,
        /// The client's own id of the message.
        id: T,
        /// The server's id of the message. Left out if the frame itself was rejected.
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<MessageId>,
        /// Its place in the session, from 1. Left out as `message_id` is.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// How far the message has come.
        state: DeliveryState,
        /// Why it was rejected.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<ErrorCode>,
        /// In how many seconds, rounded up, the same message fits into the rate of the client's token again. Only with
        /// `busy`, if that rate is the reason.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
        /// What can be done about it, for people. Only with `unseen` and `lost`.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<T>,
    },
    /// Who the server is, and what this client may do there.
    ///
    /// The answer to `hello`.
    ///
    /// ```json
    /// {"type": "welcome", "server": "claude-socket", "version": "0.1.0", "session_id": "greenhouse", "role": "operator",
    ///  "seq": 42, "created": "2026-01-01T11:00:00.000Z", "max_message": 458752,
    ///  "host": {"name": "claude-code", "version": "2.1.330", "ready": true}}
    /// ```
    Welcome {
        /// Always `claude-socket`.
        server: T,
        /// The server's version.
        version: T,
        /// The connection's own session.
        session_id: T,
        /// What this client may do.
        role: Role,
        /// The name of this client's token, which its messages are signed with.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<T>,
        /// The last `seq` of the session; 0 before the first message.
        seq: u64,
        /// When the session began, RFC 3339 in UTC. One that began anew counts from 1 again.
        created: T,
        /// The longest frame that the server takes, in bytes.
        max_message: usize,
        /// Claude Code.
        host: HostInfo<T>,
    },
    /// A sign of life.
    ///
    /// The answer to `ping`.
    ///
    /// ```json
    /// {"type": "pong"}
    /// ```
    Pong,
    /// A frame was not taken.
    ///
    /// The connection goes on.
    ///
    /// ```json
    /// {"type": "error", "session_id": "greenhouse", "message": "\"content\" is missing; it must be a string",
    ///  "code": "invalid_message"}
    /// ```
    Error {
        /// The session that the frame named, or `""`.
        session_id: T,
        /// One sentence for people. It is `invalid JSON` for what isn't JSON, and `unknown message type: X` for an
        /// unknown type.
        message: T,
        /// The same for programs.
        code: ErrorCode,
        /// The `type` of the request that was not taken, such as `fetch_history`; left out for a `message`. Requests of
        /// one type are answered in their order, so this is the answer to the oldest that has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<T>,
        /// In how many seconds, rounded up, the same message fits into the rate of the client's token again. Only with
        /// `busy`, if that rate is the reason.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    /// What only a newer server says. Clients ignore it.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// Returns `true` for a flag that is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A message of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct HistoryItem<T = String> {
    /// Who has written it.
    pub role: Author,
    /// The text.
    pub content: T,
    /// When it was written, as the client says; else the server's time, RFC 3339 in UTC.
    pub ts: T,
    /// The server's id of it.
    pub message_id: MessageId,
    /// Its place in the session, from 1.
    pub seq: u64,
    /// The author's name. Not for Claude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<T>,
    /// How a reply came, if not by the reply tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<ReplySource>,
    /// What became of a user's message, as far as the server has got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
}

/// A permission request that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct VerdictItem<T = String> {
    /// The request.
    pub request_id: T,
    /// The tool, such as `Bash`.
    pub tool_name: T,
    /// What the tool was about to do. Untrusted text.
    pub description: T,
    /// `true` if the tool could run.
    pub allowed: bool,
    /// Who has decided, as in `permission_resolved`.
    pub by: T,
    /// When, RFC 3339 in UTC.
    pub ts: T,
}

/// The state of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct SessionItem<T = String> {
    /// Its name.
    pub session_id: T,
    /// The number of clients in it.
    pub clients: usize,
    /// When it began, RFC 3339 in UTC.
    pub created: String,
    /// The last `seq`; 0 before the first message.
    pub seq: u64,
    /// What Claude is doing there.
    pub status: Status,
    /// More, for people, such as the tool and what it does. Untrusted text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<T>,
    /// The last message, with 200 characters of its `content` at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<HistoryItem<T>>,
}

/// How a reply came, if Claude didn't use the reply tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum ReplySource {
    /// Claude has only said it in the terminal.
    Transcript,
    /// A way that only a newer server knows.
    #[serde(other)]
    Other,
}

/// What Claude Code has said about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct HostInfo<T = String> {
    /// Its name, `claude-code`; `""` before it has introduced itself.
    pub name: T,
    /// Its version, or `""`.
    pub version: T,
    /// `true` if it takes messages.
    pub ready: bool,
}

/// Who has written a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// Somebody at a client.
    User,
    /// Claude.
    Assistant,
}

impl Author {
    /// Returns the `role`, as in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What Claude is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It thinks.
    Thinking,
    /// It uses a tool.
    ToolUse,
    /// It waits for somebody.
    Idle,
    /// Something that only a newer server knows.
    #[serde(other)]
    Other,
}

impl Status {
    /// The names, for error messages and schemas.
    pub const NAMES: [&'static str; 3] = ["thinking", "tool_use", "idle"];

    /// Returns the status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "thinking" => Some(Self::Thinking),
            "tool_use" => Some(Self::ToolUse),
            "idle" => Some(Self::Idle),
            _ => None,
        }
    }
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits for Claude Code, which can't be given it yet. It is on disk, and stays through a restart and a power cut.
    Queued,
    /// It has been written to Claude Code.
    Accepted,
    /// Claude Code has put it into the conversation. Needs the plugin's hooks.
    Seen,
    /// Claude Code should have put it into the conversation, and has not. It can still be `seen` later. Needs the
    /// plugin's hooks.
    Unseen,
    /// Claude has answered it. With the plugin's hooks, a reply answers what Claude has seen before it. Without them, it
    /// answers the message that it names, or else the oldest one that waits.
    Answered,
    /// Claude Code has ended, or the server has restarted, and whether Claude has seen the message is unknown. It can be
    /// sent again.
    Lost,
    /// It does not reach Claude, and `code` says why. An `error` precedes it if the frame itself was rejected. A message
    /// that waited when Claude Code ended, or when the client's token was revoked, gets only this.
    Rejected,
    /// A state that only a newer server knows.
    #[serde(other)]
    Other,
}

/// The kind of an error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is not JSON.
    InvalidJson,
    /// There is no such `type`.
    UnknownType,
    /// A field is missing or wrong, and `message` names it.
    InvalidMessage,
    /// The message is over the limit, or over what the token's rate ever allows. Over four times the limit it closes
    /// the connection (1009).
    TooLarge,
    /// The client's role or token doesn't allow it.
    Forbidden,
    /// That permission request is not open.
    UnknownRequest,
    /// A limit is reached: of the server, or the rate of the client's token.
    Busy,
    /// Claude Code has ended.
    HostClosed,
    /// Too many messages wait for the server. Only client libraries say so.
    QueueFull,
    /// A kind that only a newer server knows.
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// Returns the code, as on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::UnknownType => "unknown_type",
            Self::InvalidMessage => "invalid_message",
            Self::TooLarge => "too_large",
            Self::Forbidden => "forbidden",
            Self::UnknownRequest => "unknown_request",
            Self::Busy => "busy",
            Self::HostClosed => "host_closed",
            Self::QueueFull => "queue_full",
            Self::Other => "other",
        }
    }
}
