//! What the server says.

use serde::{Deserialize, Serialize};

use super::{MessageId, Role};

/// What the server says. Serialized, each is one text frame.
///
/// `T` is how it holds text: the server borrows it (`&str`), and clients own it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<T = String> {
    /// Claude's answer.
    Reply {
        /// The session it belongs to.
        session_id: T,
        /// The server's id of this reply.
        message_id: MessageId,
        /// Its place in the session.
        seq: u64,
        /// The text.
        content: T,
        /// When, RFC 3339 in UTC.
        ts: T,
        /// How it came, if not by the reply tool.
        #[serde(skip_serializing_if = "Option::is_none")]
        via: Option<ReplySource>,
    },
    /// A piece of Claude's text, as it appears in the terminal.
    Stream {
        /// The session that Claude answers.
        session_id: T,
        /// The piece.
        delta: T,
    },
    /// What Claude is doing.
    Status {
        /// The session it is for.
        session_id: T,
        /// Which of three things.
        status: Status,
        /// A few words more.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<T>,
    },
    /// What was said in a session, oldest first.
    History {
        /// The session.
        session_id: T,
        /// Its messages.
        messages: Vec<HistoryItem<T>>,
    },
    /// Which sessions there are, as far as the client may know of them.
    Sessions {
        /// Those that somebody is in first, then by name.
        sessions: Vec<SessionItem<T>>,
        /// How many there are; more than are listed if there are too many.
        total: usize,
        /// How many permission requests wait for an operator. They belong to no session.
        permissions: usize,
    },
    /// Claude Code asks whether a tool may run.
    PermissionRequest {
        /// The client's own session.
        session_id: T,
        /// What to answer with.
        request_id: T,
        /// The tool.
        tool_name: T,
        /// What it is about to do. Untrusted text.
        description: T,
        /// Its input, as display text. Untrusted text.
        input_preview: T,
    },
    /// A permission request is closed.
    PermissionResolved {
        /// The client's own session.
        session_id: T,
        /// Which request.
        request_id: T,
        /// Whether the tool may run.
        allowed: bool,
        /// A user, `terminal` or `expired`.
        by: T,
    },
    /// Someone else in the session said something.
    UserMessage {
        /// The session.
        session_id: T,
        /// The server's id of the message.
        message_id: MessageId,
        /// Its place in the session.
        seq: u64,
        /// The text.
        content: T,
        /// Who said it.
        user: T,
        /// When.
        ts: T,
    },
    /// What became of a message that had an `id`.
    Delivery {
        /// The session.
        session_id: T,
        /// The client's id of the message.
        id: T,
        /// The server's id; none if the message was not taken.
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<MessageId>,
        /// Its place in the session; none if the message was not taken.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// How far it has come.
        state: DeliveryState,
        /// Why it was rejected.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<ErrorCode>,
        /// What can be done about it, for people.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<T>,
    },
    /// The answer to `hello`.
    Welcome {
        /// Always `claude-socket`.
        server: T,
        /// The server's version.
        version: T,
        /// The connection's own session.
        session_id: T,
        /// What this client may do.
        role: Role,
        /// What its messages are signed with, if its token decides that.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<T>,
        /// The last `seq` of the session.
        seq: u64,
        /// When the session began, RFC 3339 in UTC. One that began anew counts from 1 again.
        created: T,
        /// The longest frame that is taken, in bytes.
        max_message: usize,
        /// Claude Code, as far as it has introduced itself.
        host: HostInfo<T>,
    },
    /// The answer to `ping`.
    Pong,
    /// Something was wrong with what the client sent.
    Error {
        /// The session, or `""` if unknown.
        session_id: T,
        /// One sentence for people.
        message: T,
        /// The same for programs.
        code: ErrorCode,
    },
    /// Something that only a newer server says. Clients leave it alone.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// One line of a session's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct HistoryItem<T = String> {
    /// Who: `user` or `assistant`.
    pub role: Author,
    /// The text.
    pub content: T,
    /// When.
    pub ts: T,
    /// The server's id.
    pub message_id: MessageId,
    /// Its place in the session.
    pub seq: u64,
    /// The user's name; none for Claude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<T>,
    /// How it came, if not by the reply tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<ReplySource>,
}

/// How a session is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct SessionItem<T = String> {
    /// Its name.
    pub session_id: T,
    /// How many clients are in it.
    pub clients: usize,
    /// When it began, RFC 3339 in UTC.
    pub created: String,
    /// The last `seq`; 0 before the first message.
    pub seq: u64,
    /// What Claude is doing there.
    pub status: Status,
    /// A few words more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<T>,
    /// What was said last; of a long text only the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<HistoryItem<T>>,
}

/// How a reply came, if Claude didn't use the reply tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum ReplySource {
    /// Claude has said it in the terminal, and nothing else to the session.
    Transcript,
    /// Another way, which only a newer server knows.
    #[serde(other)]
    Other,
}

/// What a client is told about Claude Code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct HostInfo<T = String> {
    /// Its name, `claude-code`; `""` before it has introduced itself.
    pub name: T,
    /// Its version.
    pub version: T,
    /// Whether it takes messages yet.
    pub ready: bool,
}

/// Who said a line of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// Someone at an app.
    User,
    /// Claude.
    Assistant,
}

impl Author {
    /// The role's name, as in the history.
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
    /// It waits for someone.
    Idle,
}

impl Status {
    /// The names of all of them, for error messages and schemas.
    pub const NAMES: [&'static str; 3] = ["thinking", "tool_use", "idle"];

    /// Finds the activity of that name.
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
    /// It was handed to Claude Code.
    Accepted,
    /// Claude Code has put it into the conversation.
    Seen,
    /// It should have, and has not.
    Unseen,
    /// Claude has replied to its session since.
    Answered,
    /// It was not taken.
    Rejected,
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
    /// A field is missing, or is not what it should be.
    InvalidMessage,
    /// The message is over the size limit.
    TooLarge,
    /// The client's role or token doesn't allow it.
    Forbidden,
    /// That permission request is not open.
    UnknownRequest,
    /// A limit of the server is reached.
    Busy,
    /// Claude Code has gone, and the server with it.
    HostClosed,
    /// The client's own: too many of its messages wait for the server. No server sends it.
    QueueFull,
    /// A kind that only a newer server knows.
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// The code, as on the wire.
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
