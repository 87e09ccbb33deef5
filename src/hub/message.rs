//! What was said, and by whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::json;
use crate::protocol::{
    self, ConnId, DEFAULT_USER, DeliveryState, Grant, HistoryItem, MessageId, ReplySource,
};

/// What a block of memory behind an `Arc` costs beside its content, in bytes: two counters, and what
/// the allocator adds: a header, and on average half of the 16 bytes to which it rounds up.
pub const BLOCK: usize = 40;

/// One message, as the history, the inbox and everybody in the session have it. The history and the inbox share it.
#[derive(Debug)]
pub struct Message {
    /// The server's id. Nothing may rely on the order of ids.
    pub id: MessageId,
    /// Its place in the session, from 1.
    pub seq: u64,
    /// Who said it.
    pub author: Author,
    /// The text.
    pub content: Arc<str>,
    /// When it was said: RFC 3339, or as the client wrote it.
    pub ts: Arc<str>,
    /// Its place among the journal's changes; 0 if it isn't in the journal, or is on disk since an earlier run.
    pub(super) position: u64,
    /// What became of a user's message: a place in [`STATES`], from 1.
    state: AtomicU8,
    /// The length of the text as JSON, in bytes, once somebody has asked for it.
    content_len: AtomicUsize,
}

/// What became of a message, as one byte: 0 for nothing yet, else one more than the place in this list.
const STATES: [DeliveryState; 7] = [
    DeliveryState::Queued,
    DeliveryState::Accepted,
    DeliveryState::Seen,
    DeliveryState::Unseen,
    DeliveryState::Answered,
    DeliveryState::Lost,
    DeliveryState::Rejected,
];

fn encode(state: Option<DeliveryState>) -> u8 {
    let place = STATES.iter().position(|known| Some(*known) == state);
    place.map_or(0, |place| place as u8 + 1)
}

/// Who said a message.
#[derive(Clone, Debug)]
pub enum Author {
    /// Claude.
    Assistant {
        /// How the reply came, if not by the reply tool.
        via: Option<ReplySource>,
    },
    /// The user of a client.
    User {
        /// The user's identity, whatever the name.
        id: AuthorId,
        /// The name that others see.
        name: Arc<str>,
    },
}

impl Author {
    /// [`Grant::id`] of the author; that of clients without a token for Claude, too.
    pub fn grant_id(&self) -> u64 {
        match self {
            Self::User {
                id: AuthorId::Grant(id),
                ..
            } => *id,
            Self::User { .. } | Self::Assistant { .. } => Grant::WITHOUT_TOKEN.id,
        }
    }
}

/// The identity of a user. A name is no identity: without a token everybody may
/// use any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorId {
    /// The holder of a token: [`Grant::id`].
    Grant(u64),
    /// A connection that needs no token.
    Connection(ConnId),
}

impl AuthorId {
    /// Returns the identity of a client with this grant.
    pub fn of(client: ConnId, grant: &Grant) -> Self {
        if grant.id == Grant::WITHOUT_TOKEN.id {
            Self::Connection(client)
        } else {
            Self::Grant(grant.id)
        }
    }
}

impl Message {
    /// Returns a message that is not in the journal.
    pub fn restored(
        id: MessageId,
        seq: u64,
        author: Author,
        content: Arc<str>,
        ts: Arc<str>,
        state: Option<DeliveryState>,
    ) -> Self {
        Self {
            id,
            seq,
            author,
            content,
            ts,
            position: 0,
            state: AtomicU8::new(encode(state)),
            content_len: AtomicUsize::new(0),
        }
    }

    /// What became of a user's message; `None` for a reply, and while nothing is known.
    pub fn state(&self) -> Option<DeliveryState> {
        let place = usize::from(self.state.load(Ordering::Relaxed));
        STATES.get(place.wrapping_sub(1)).copied()
    }

    /// Records what became of it. Only the hub's thread does.
    pub(super) fn set_state(&self, state: DeliveryState) {
        self.state.store(encode(Some(state)), Ordering::Relaxed);
    }

    /// The name of the user who said it.
    pub fn user(&self) -> Option<&str> {
        match &self.author {
            Author::Assistant { .. } => None,
            Author::User { name, .. } => Some(name),
        }
    }

    /// The name of the user who said it, or the default name.
    pub fn user_or_default(&self) -> &str {
        self.user().unwrap_or(DEFAULT_USER)
    }

    /// Claude said it.
    pub fn is_reply(&self) -> bool {
        matches!(self.author, Author::Assistant { .. })
    }

    /// Memory of the message and of its entry in a queue, of which half may be empty, in bytes. All
    /// of it counts, though the inbox has the message too, and messages of one user may share the
    /// name: it stays as long as one of them does.
    pub fn bytes(&self) -> usize {
        let name = self.user().map_or(0, |name| BLOCK + name.len());
        Self::bytes_with(self.content.len()) + name + self.ts.len()
    }

    /// Returns the memory of a message with a text of this length, but for its time and its user, in bytes.
    pub fn bytes_with(content_len: usize) -> usize {
        let texts = 2 * BLOCK + content_len;
        BLOCK + size_of::<Self>() + texts + 2 * size_of::<Arc<Self>>()
    }

    /// Returns the length of its item as JSON, in bytes. The text is measured once: it may be long, and be asked for often.
    pub fn item_len(&self) -> usize {
        let mut content_len = self.content_len.load(Ordering::Relaxed);
        if content_len == 0 {
            content_len = json::text_len(&self.content);
            self.content_len.store(content_len, Ordering::Relaxed);
        }
        let item = self.item();
        let rest = HistoryItem {
            content: "",
            ..item
        };
        json::len(&rest) + content_len
    }

    /// The message as it is in a `history`.
    pub fn item(&self) -> HistoryItem<&str> {
        let (role, via) = match self.author {
            Author::Assistant { via } => (protocol::Author::Assistant, via),
            Author::User { .. } => (protocol::Author::User, None),
        };
        HistoryItem {
            role,
            content: &self.content,
            ts: &self.ts,
            message_id: self.id,
            seq: self.seq,
            user: self.user(),
            via,
            state: self.state(),
        }
    }
}
