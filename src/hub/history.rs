//! What was said in one session: the last messages, bounded by count and by bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::{HistoryItem, MessageId, Speaker, Via};

/// One message that was said.
#[derive(Debug)]
pub struct Entry {
    /// Its place in the session, from 1.
    pub seq: u64,
    /// The server's id.
    pub message_id: MessageId,
    /// Who said it.
    pub role: Speaker,
    /// The user's name; none for Claude.
    pub user: Option<Arc<str>>,
    /// The text.
    pub content: String,
    /// When, RFC 3339 or as the client wrote it.
    pub ts: String,
    /// How it came, if not by the reply tool.
    pub via: Option<Via>,
}

impl Entry {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.content.len() + self.ts.len()
    }

    fn item(&self) -> HistoryItem<&str> {
        HistoryItem {
            role: self.role,
            content: &self.content,
            ts: &self.ts,
            message_id: self.message_id,
            seq: self.seq,
            user: self.user.as_deref(),
            via: self.via,
        }
    }
}

/// The last messages of a session, oldest first.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl History {
    /// Adds the newest message and forgets the oldest ones beyond `max_entries`
    /// and `max_bytes`; the newest always stays.
    pub fn push(&mut self, entry: Entry, max_entries: usize, max_bytes: usize) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > 1 && (self.entries.len() > max_entries || self.bytes > max_bytes)
        {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest messages beyond `max_bytes`, but `spared` of the newest.
    pub fn cut(&mut self, max_bytes: usize, spared: usize) {
        while self.entries.len() > spared && self.bytes > max_bytes {
            self.forget_oldest();
        }
        self.entries.shrink_to_fit();
    }

    fn forget_oldest(&mut self) {
        let oldest = self.entries.pop_front();
        self.bytes -= oldest.as_ref().map_or(0, Entry::bytes);
    }

    /// What it takes in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest message.
    pub fn last(&self) -> Option<&Entry> {
        self.entries.back()
    }

    /// The last `limit` messages; with `since`, the first `limit` after that seq.
    pub fn items(&self, limit: usize, since: Option<u64>) -> Vec<HistoryItem<&str>> {
        let start = match since {
            Some(seq) => self.entries.partition_point(|entry| entry.seq <= seq),
            None => self.entries.len().saturating_sub(limit),
        };
        let wanted = self.entries.range(start..).take(limit);
        wanted.map(Entry::item).collect()
    }
}
