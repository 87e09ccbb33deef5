//! What the hub reacts to, and what it answers a tool call with.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::stored::{Selection, StoreInput};
use super::{CloseReason, GivenUp, HookEvent, PermissionRequest};
use crate::protocol::{
    ClientRequest, ConnId, Grant, HistoryItem, MessageId, NewMessage, Rejection, SessionId, Status,
};
use crate::sanitize::escape_channel_tags;

/// One Claude Code, as the hub knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AgentId(u32);

impl AgentId {
    /// The agent that the hub begins with.
    pub const FIRST: Self = Self(0);

    /// Its place among all agents.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Everything the hub reacts to.
#[derive(Debug)]
pub enum Input {
    /// From a client, or about its connection.
    Client(ConnId, ClientInput),
    /// From an agent, or about the way to it.
    Agent(AgentId, AgentInput),
    /// The tokens have changed.
    TokensChanged(Revocation),
    /// The store reports something.
    Store(StoreInput),
    /// Sessions are to be forgotten.
    Remove(Selection),
    /// The server ends. Messages that no agent got are rejected, and so is every further one.
    Closing,
    /// Every connection is closed.
    Shutdown,
}

/// Which grants are not valid any more.
pub struct Revocation {
    /// Returns `true` for [`Grant::id`]s that still are.
    pub is_valid: Box<dyn Fn(u64) -> bool + Send>,
    /// Why the clients with the others are disconnected.
    pub reason: CloseReason,
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut revocation = f.debug_struct("Revocation");
        revocation
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// What happens with a client.
#[derive(Debug)]
pub enum ClientInput {
    /// It has connected.
    Connected {
        /// The session of its URL.
        session: SessionId,
        /// What it may do.
        grant: Arc<Grant>,
    },
    /// It says something to Claude.
    Message(MessageInput),
    /// It asks for something that the server answers by itself.
    Request(ClientRequest),
    /// It has room for the next frame of the answer to its last request.
    GoOn,
    /// It sent a frame that can't be accepted.
    Rejected(Rejection),
    /// It has disconnected.
    Disconnected,
    /// It was cut off before it had received everything.
    Lost,
}

impl ClientInput {
    /// Memory of the input beyond its own size, in bytes. Names are left out: they are short, and shared.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Message(MessageInput { message, escaped }) => {
                let escaped = escaped.as_ref().map_or(0, |text| text.len());
                let ts = message.ts.as_ref().map_or(0, |ts| ts.len());
                message.content.len() + escaped + ts
            }
            Self::Rejected(rejection) => {
                let id = rejection.id.as_ref().map_or(0, String::len);
                rejection.message.len() + rejection.session_id.len() + id
            }
            Self::Request(ClientRequest::FetchReceipt { id, .. }) => id.len(),
            Self::Request(ClientRequest::PermissionResponse { request_id, .. }) => request_id.len(),
            _ => 0,
        }
    }
}

/// Something that a client says to Claude.
#[derive(Debug)]
pub struct MessageInput {
    pub message: NewMessage,
    /// The text for Claude, if channel tags in it had to be escaped. The others get it as it is.
    pub escaped: Option<Arc<str>>,
}

/// Escapes the text: on the thread that reads from the client, as that can take milliseconds.
impl From<NewMessage> for MessageInput {
    fn from(message: NewMessage) -> Self {
        let escaped = match escape_channel_tags(&message.content) {
            Cow::Borrowed(_) => None,
            Cow::Owned(escaped) => Some(escaped.into()),
        };
        Self { message, escaped }
    }
}

/// What happens with an agent.
#[derive(Debug)]
pub enum AgentInput {
    /// The plugin that started the server has hooks, so hooks must call.
    HooksExpected,
    /// Claude Code has introduced itself.
    Initialized {
        /// Its name, such as `claude-code`.
        name: String,
        version: String,
    },
    /// It has said that it is initialized.
    Ready,
    /// It has asked for the tools.
    ToolsListed,
    /// It uses a tool. [`super::Effects::answer`] gets the outcome.
    Call(CallId, ToolCall),
    /// It asks whether a tool may run.
    PermissionRequest(PermissionRequest),
    /// The messages up to this number may have been read, in part, though the last of them
    /// are not yet [`AgentInput::Written`].
    Writing(u64),
    /// Every message up to this number was written.
    Written(u64),
}

/// Which tool call an outcome belongs to: the JSON-RPC id, as the agent wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallId(pub Box<str>);

/// One call of a tool, its arguments checked.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolCall {
    /// Answers the people in a session.
    Reply {
        chat_id: String,
        text: Arc<str>,
        /// The message that it answers, if Claude says so.
        reply_to: Option<MessageId>,
    },
    /// Shows them what Claude is doing.
    Status {
        chat_id: String,
        status: Status,
        /// More about it, such as the running tool.
        detail: Option<String>,
    },
    /// Reads the latest messages of a session.
    FetchMessages {
        session_id: String,
        /// 1 to [`crate::protocol::MAX_LIMIT`].
        limit: usize,
        /// Only messages with a lower seq.
        before: Option<u64>,
    },
    /// A hook reports an event; `None` if it could not be understood. Claude doesn't know of
    /// this tool and must not be disturbed by it, so it never fails.
    Activity(Option<HookEvent>),
}

/// What became of a tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolOutcome<'a> {
    /// The reply is in the session's history, and went to the clients there.
    Replied {
        chat_id: &'a str,
        result: PublishResult,
    },
    /// The text doesn't fit into a frame. Nobody has got it.
    ReplyTooLong {
        /// Its length, in bytes as JSON.
        length: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// The status was shown to the clients there.
    StatusShown {
        chat_id: &'a str,
        result: PublishResult,
    },
    /// The messages that were asked for.
    Messages {
        /// Oldest first.
        messages: Vec<HistoryItem<&'a str>>,
        /// The `seq` of the last message that is kept before these, if there is one.
        earlier: Option<u64>,
    },
    /// There is no such session.
    UnknownSession {
        /// The name that was given.
        chat_id: &'a str,
        /// The sessions there are, sorted.
        sessions: Vec<SessionId>,
    },
    /// The session may be on disk, and can't be opened, for the reason in the sentence. Nobody has got anything.
    NotOpened { chat_id: &'a str, why: &'a str },
    /// Nobody has received the last replies to the session, and no more are kept. Nobody has got this one.
    TooManyUnread {
        chat_id: &'a str,
        /// The number of replies that wait there.
        count: usize,
    },
    /// What became of the call, and the replies that were given up since the call before.
    Noted {
        outcome: Box<Self>,
        given_up: Vec<GivenUp>,
    },
    /// The hook's prompt must not get into the conversation: a copy of it is there already.
    PromptBlocked,
    /// Nothing is to be said.
    Nothing,
}

impl ToolOutcome<'_> {
    /// Adds the replies that were given up, if any were.
    pub(super) fn noting(self, given_up: Vec<GivenUp>) -> Self {
        if given_up.is_empty() {
            return self;
        }
        Self::Noted {
            outcome: Box::new(self),
            given_up,
        }
    }
}

/// What became of a reply or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishResult {
    /// At least one client got it.
    Delivered,
    /// Nobody is in the session.
    NoSubscribers,
}

impl PublishResult {
    pub(super) fn of(clients: usize) -> Self {
        if clients == 0 {
            Self::NoSubscribers
        } else {
            Self::Delivered
        }
    }
}
