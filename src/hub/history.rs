//! What was said in one session: the latest messages, bounded by count and by bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::{ConnId, DEFAULT_USER, Grant, HistoryItem, MessageId, Speaker, Via};

/// One message, as the history, the inbox and everybody in the session have it. A clone shares the texts.
#[derive(Clone, Debug)]
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
}

/// Who said a message.
#[derive(Clone, Debug)]
pub enum Author {
    /// Claude.
    Assistant {
        /// How the reply came, if not by the reply tool.
        via: Option<Via>,
    },
    /// Somebody at an app.
    User {
        /// Whoever that is, independent of the name.
        id: AuthorId,
        /// The name that others see.
        name: Arc<str>,
    },
}

/// The identity of somebody at an app. A name is no identity: without a token everybody may
/// use any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.content.len() + self.ts.len()
    }

    fn item(&self) -> HistoryItem<&str> {
        let (role, via) = match self.author {
            Author::Assistant { via } => (Speaker::Assistant, via),
            Author::User { .. } => (Speaker::User, None),
        };
        HistoryItem {
            role,
            content: &self.content,
            ts: &self.ts,
            message_id: self.id,
            seq: self.seq,
            user: self.user(),
            via,
        }
    }
}

/// The latest messages of a session, oldest first.
#[derive(Debug, Default)]
pub struct History {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl History {
    /// Adds the newest message and removes the oldest ones beyond `max_messages` and
    /// `max_bytes`. The newest always stays.
    pub fn push(&mut self, message: Message, max_messages: usize, max_bytes: usize) {
        self.bytes += message.bytes();
        self.messages.push_back(message);
        while self.messages.len() > 1
            && (self.messages.len() > max_messages || self.bytes > max_bytes)
        {
            self.remove_oldest();
        }
    }

    /// Removes the oldest messages beyond `max_bytes`, but keeps at least `keep_at_least` of
    /// the newest.
    pub fn truncate(&mut self, max_bytes: usize, keep_at_least: usize) {
        while self.messages.len() > keep_at_least && self.bytes > max_bytes {
            self.remove_oldest();
        }
        self.messages.shrink_to_fit();
    }

    fn remove_oldest(&mut self) {
        let oldest = self.messages.pop_front();
        self.bytes -= oldest.as_ref().map_or(0, Message::bytes);
    }

    /// Memory of the history, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest message.
    pub fn last(&self) -> Option<&Message> {
        self.messages.back()
    }

    /// Returns the newest `limit` messages; with `since`, the first `limit` after that seq.
    pub fn items(&self, limit: usize, since: Option<u64>) -> Vec<HistoryItem<&str>> {
        let start = match since {
            Some(seq) => self.messages.partition_point(|message| message.seq <= seq),
            None => self.messages.len().saturating_sub(limit),
        };
        let wanted = self.messages.range(start..).take(limit);
        wanted.map(Message::item).collect()
    }
}
