//! What the hub has the store keep, and what it asks the store for. The hub doesn't wait for either: changes go out
//! with [`super::Hub::poll_store`] and come back as "on disk up to here", questions go out with
//! [`super::Hub::poll_query`] and come back with their answers.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

pub use super::history::Span;
use super::receipts::Fingerprint;
use super::{Message, MessageKey};
use crate::protocol::{DeliveryState, Grant, SessionId};

/// The number of a session in the store. It is never given to another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u32);

/// A change of what the store keeps. The store makes changes in their order.
#[derive(Clone, Debug)]
pub enum Change {
    /// A session begins.
    Session {
        number: SessionNumber,
        /// The name of its agent.
        agent: Arc<str>,
        id: SessionId,
        created: SystemTime,
    },
    /// Something was said.
    Message {
        session: SessionNumber,
        message: Arc<Message>,
        /// The client's own id, and what tells the message from another with the same.
        key: Option<(MessageKey, Fingerprint)>,
        /// What became of a user's message. One that is [`DeliveryState::Queued`] waits in the inbox of the session's
        /// agent. If it is so at the end of a commit and has a key, its sender will be told, and the commit must last
        /// through a power cut.
        state: Option<DeliveryState>,
    },
    /// What became of a user's message. With [`DeliveryState::Rejected`], its key is free for another.
    State {
        session: SessionNumber,
        seq: u64,
        state: DeliveryState,
    },
    /// Nobody has received a reply: no limit but its age removes it.
    Unread { session: SessionNumber, seq: u64 },
    /// Somebody has received, or nobody waits any longer for, the replies from `first` to `last`.
    Read {
        session: SessionNumber,
        first: u64,
        last: u64,
    },
    /// The last `seq` of a session. While the session is open, it is one that no message may have reached yet: after a
    /// crash nothing may get a `seq` that a client has seen with something else.
    Seq {
        session: SessionNumber,
        seq: u64,
        /// When something was said there last.
        updated: SystemTime,
    },
    /// Hooks have shown that they report which messages an agent sees, or an agent begins of which that isn't known.
    Confirms { agent: Arc<str>, confirms: bool },
    /// A permission request was decided.
    Verdict { agent: Arc<str>, verdict: Verdict },
    /// Sessions, and all that was said there, are removed.
    Remove(Selection),
}

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One of an agent, or of each agent that has one with this name.
    Session {
        agent: Option<String>,
        session: SessionId,
    },
    /// All of one agent, and the agent.
    Agent(String),
    All,
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session {
                agent: None,
                session,
            } => write!(f, "session \"{session}\""),
            Self::Session {
                agent: Some(agent),
                session,
            } => write!(f, "session \"{session}\" of agent \"{agent}\""),
            Self::Agent(agent) => write!(f, "all sessions of agent \"{agent}\""),
            Self::All => f.write_str("all sessions"),
        }
    }
}

/// A permission request that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub request_id: Arc<str>,
    pub tool_name: Arc<str>,
    pub description: Arc<str>,
    /// The tool could run.
    pub allowed: bool,
    /// Who has decided.
    pub by: Arc<str>,
    /// RFC 3339 in UTC.
    pub ts: Arc<str>,
}

/// Tells an answer which question it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueryId(pub u64);

/// What the hub asks the store. Whatever it asks for is on disk already, or never was.
#[derive(Clone, Debug)]
pub enum Query {
    /// One session. Answered with [`QueryAnswer::Session`].
    Session { agent: Arc<str>, id: SessionId },
    /// The receipt of a message. Answered with [`QueryAnswer::Receipt`].
    Receipt {
        session: SessionNumber,
        key: MessageKey,
    },
    /// Some messages of a session, oldest first. Answered with [`QueryAnswer::Messages`].
    Messages {
        session: SessionNumber,
        span: Span,
        /// The most bytes as JSON, each with a comma; one always fits. Those that are left out are the newest.
        room: usize,
    },
    /// The newest messages with these words. Answered with [`QueryAnswer::Found`].
    Search {
        agent: Arc<str>,
        /// All that `grant` covers if `None`.
        session: Option<SessionId>,
        grant: Arc<Grant>,
        text: Arc<str>,
        limit: usize,
    },
    /// The sessions that a grant covers, those first in which something was said last. Answered with
    /// [`QueryAnswer::Sessions`].
    Sessions {
        agent: Arc<str>,
        grant: Arc<Grant>,
        limit: usize,
    },
    /// The last permission requests of an agent that were decided. Answered with [`QueryAnswer::Verdicts`].
    Verdicts { agent: Arc<str>, limit: usize },
}

/// What the store answers.
#[derive(Debug)]
pub enum QueryAnswer {
    /// `None` if there is no such session.
    Session(Option<StoredSession>),
    /// `None` if the store doesn't know the message.
    Receipt(Option<StoredReceipt>),
    Messages {
        /// Oldest first.
        messages: Vec<Message>,
        /// There are more of those that were asked for.
        more: bool,
    },
    /// Newest first, with the sessions they are in.
    Found(Vec<(SessionId, Arc<Message>)>),
    Sessions {
        sessions: Vec<StoredSessionItem>,
        /// How many there are, listed or not.
        total: usize,
    },
    /// Oldest first.
    Verdicts(Vec<Verdict>),
    /// It could not be read.
    Failed,
}

/// What the store knows of a session, beside what was said.
#[derive(Clone, Debug)]
pub struct StoredSession {
    pub number: SessionNumber,
    pub created: SystemTime,
    /// As in [`Change::Seq`].
    pub seq: u64,
    /// One more than the highest seq that was removed; 0 if none was.
    pub removed_before: u64,
    /// The newest message.
    pub last: Option<Arc<Message>>,
    /// The messages that have, or had, a client's id.
    pub keys: usize,
    /// The replies that nobody has received, oldest first: the seq and when it was said.
    pub unread: Vec<StoredUnread>,
}

/// A reply that nobody has received.
#[derive(Clone, Copy, Debug)]
pub struct StoredUnread {
    pub seq: u64,
    pub said: SystemTime,
    /// The length of its text, in bytes.
    pub content_len: usize,
}

/// What the store knows of a message with a client's id.
#[derive(Clone, Debug)]
pub struct StoredReceipt {
    pub message_id: crate::protocol::MessageId,
    pub seq: u64,
    pub fingerprint: Fingerprint,
    pub state: DeliveryState,
}

/// A session in a list.
#[derive(Debug)]
pub struct StoredSessionItem {
    pub id: SessionId,
    pub created: SystemTime,
    pub seq: u64,
    pub last: Option<Message>,
}

/// A message that waits for an agent, since an earlier run of the server.
#[derive(Debug)]
pub struct StoredInboxItem {
    pub session: SessionId,
    pub message: Message,
    pub key: Option<(MessageKey, Fingerprint)>,
}

/// What the store holds when it opens.
#[derive(Debug, Default)]
pub struct Opened {
    /// The lowest number that no session ever had.
    pub next_session: u32,
    /// The sessions that have messages in `inbox`.
    pub sessions: Vec<(SessionId, StoredSession)>,
    /// The messages that wait for the agent, in the order in which they came. Those that it was given in an earlier
    /// run and has not seen are among them if hooks confirmed what it saw, and else they are [`DeliveryState::Lost`] now.
    pub inbox: Vec<StoredInboxItem>,
}

/// What the store reports.
#[derive(Debug)]
pub enum StoreInput {
    /// It is open.
    Opened(Box<Opened>),
    /// It can't be opened, or there is none. Everything is kept in memory only.
    Unavailable,
    /// The first so many changes are on disk.
    Stored(u64),
    /// Nothing can be written. Changes are taken all the same, as many as there is room for.
    Failing,
    /// Everything can be written again. If `must_resend`, changes are missing, or the file is a new one: the hub sends
    /// all that it knows once more.
    Recovered { must_resend: bool },
    /// The oldest messages of sessions were removed: those before these seqs.
    Removed(Vec<(SessionNumber, u64)>),
    /// The answer to a question.
    Answer(QueryId, QueryAnswer),
}
