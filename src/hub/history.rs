//! The newest messages of a session, as far as they are in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Now;
use super::message::Message;
use super::stored::StoredUnread;

/// A reply that nobody has received.
#[derive(Clone, Copy, Debug)]
struct Unread {
    seq: u64,
    since: Instant,
    /// Its memory.
    bytes: usize,
}

/// The latest messages of a session, oldest first, bounded by count and by bytes.
#[derive(Debug)]
pub struct History {
    /// Messages that were only spared because nobody had received them, older than all others.
    spared: VecDeque<Arc<Message>>,
    messages: VecDeque<Arc<Message>>,
    /// The replies that nobody has received, oldest first. Each is in `spared` or in `messages`.
    unread: VecDeque<Unread>,
    unread_bytes: usize,
    /// One more than the highest seq that is not in memory; 0 if all are.
    removed_before: u64,
    /// The bytes of the messages.
    bytes: usize,
    /// What the session costs beside them, in bytes.
    session: usize,
}

impl History {
    /// Returns the history of a session that costs this many bytes without it. Of the messages before `begins_at`, none is
    /// in memory.
    pub fn new(session: usize, begins_at: u64) -> Self {
        Self {
            spared: VecDeque::new(),
            messages: VecDeque::new(),
            unread: VecDeque::new(),
            unread_bytes: 0,
            removed_before: begins_at,
            bytes: 0,
            session,
        }
    }

    /// Adds the newest message.
    pub fn push(&mut self, message: Arc<Message>) {
        self.bytes += message.bytes();
        self.messages.push_back(message);
    }

    /// Adds the replies before [`History::begins_at`] that nobody has received. They take no memory.
    pub fn restore_unread(&mut self, now: Now, replies: &[StoredUnread]) {
        let since = |said| {
            let age = now.wall.duration_since(said).unwrap_or_default();
            now.instant.checked_sub(age).unwrap_or(now.instant)
        };
        self.unread.extend(replies.iter().map(|reply| Unread {
            seq: reply.seq,
            since: since(reply.said),
            bytes: 0,
        }));
    }

    /// Removes the oldest messages beyond `max_messages` and `max_bytes`, but keeps at least
    /// `keep_at_least` of the newest, all replies that nobody has received, and what isn't on disk yet: that
    /// is beyond the position `stored` in the journal.
    pub fn truncate(
        &mut self,
        max_messages: usize,
        max_bytes: usize,
        keep_at_least: usize,
        stored: u64,
    ) {
        while (self.len() > max_messages || self.bytes() > max_bytes)
            && let Some(oldest) = self.pop_received(keep_at_least, stored)
        {
            self.bytes -= oldest.bytes();
            self.removed_before = self.removed_before.max(oldest.seq + 1);
        }
    }

    /// Removes and returns the oldest message that somebody has received, unless it is one of the `keep_at_least` newest.
    fn pop_received(&mut self, keep_at_least: usize, stored: u64) -> Option<Arc<Message>> {
        if let Some(place) = self.received_among_spared() {
            return self.spared.remove(place);
        }
        while self.messages.len() > keep_at_least {
            let oldest = self
                .messages
                .pop_front_if(|oldest| oldest.position <= stored)?;
            if !self.is_unread(oldest.seq) {
                return Some(oldest);
            }
            self.spared.push_back(oldest);
        }
        None
    }

    /// Returns the place of the oldest spared message that somebody has received meanwhile.
    fn received_among_spared(&self) -> Option<usize> {
        let newest = self.spared.back()?.seq;
        let unread = self.unread.partition_point(|unread| unread.seq <= newest);
        if unread == self.spared.len() {
            return None;
        }
        let mut spared = self.spared.iter();
        spared.position(|message| !self.is_unread(message.seq))
    }

    pub fn is_unread(&self, seq: u64) -> bool {
        let found = self.unread.binary_search_by_key(&seq, |unread| unread.seq);
        found.is_ok()
    }

    /// Records that nobody has received the newest message, if that is a reply. Returns its seq if that is news.
    pub fn mark_unread(&mut self, now: Instant) -> Option<u64> {
        let newest = self.last()?;
        let (seq, bytes) = (newest.seq, newest.bytes());
        if newest.is_reply() && self.unread.back().is_none_or(|unread| unread.seq < seq) {
            self.unread_bytes += bytes;
            self.unread.push_back(Unread {
                seq,
                since: now,
                bytes,
            });
            return Some(seq);
        }
        None
    }

    /// Records that somebody has received the messages from `first` to `last`. Returns `true` if nobody had received one
    /// of them before.
    pub fn mark_read(&mut self, first: u64, last: u64) -> bool {
        let start = self.unread.partition_point(|unread| unread.seq < first);
        let end = self.unread.partition_point(|unread| unread.seq <= last);
        let read = self.unread.drain(start..end.max(start));
        let is_news = read.len() > 0;
        self.unread_bytes -= read.map(|unread| unread.bytes).sum::<usize>();
        is_news
    }

    /// Takes the replies that nobody has received for `ttl` for received, and returns how many they are.
    pub fn give_up_unread(&mut self, now: Instant, ttl: Duration) -> usize {
        let is_young = |unread: &Unread| unread.since + ttl > now;
        let given_up = self.unread.iter().position(is_young);
        let given_up = given_up.unwrap_or(self.unread.len());
        let bytes = self.unread.drain(..given_up).map(|unread| unread.bytes);
        self.unread_bytes -= bytes.sum::<usize>();
        given_up
    }

    /// Gives back memory that isn't used.
    pub fn shrink(&mut self) {
        self.spared.shrink_to_fit();
        self.messages.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.spared.len() + self.messages.len()
    }

    /// Memory of the history, in bytes, and of the session if there is any message.
    pub fn bytes(&self) -> usize {
        if self.len() == 0 {
            return 0;
        }
        self.session + self.bytes
    }

    /// The newest message that is kept.
    pub fn last(&self) -> Option<&Arc<Message>> {
        self.messages.back().or(self.spared.back())
    }

    /// Returns some of the messages that are in memory.
    pub fn select(&self, span: Span) -> impl Iterator<Item = &Arc<Message>> + Clone {
        let wanted = |messages: &VecDeque<Arc<Message>>| {
            let start = count_up_to(messages, span.after);
            start..count_up_to(messages, span.before.saturating_sub(1)).max(start)
        };
        let (spared, messages) = (wanted(&self.spared), wanted(&self.messages));
        let count = spared.len() + messages.len();
        let surplus = if span.is_last {
            count.saturating_sub(span.limit)
        } else {
            0
        };
        let spared = self.spared.range(spared);
        let selected = spared.chain(self.messages.range(messages));
        selected.skip(surplus).take(span.limit)
    }

    /// Returns the message with this seq, if it is in memory.
    pub fn get(&self, seq: u64) -> Option<&Arc<Message>> {
        let find = |messages: &VecDeque<Arc<Message>>| {
            messages.binary_search_by_key(&seq, |message| message.seq)
        };
        match find(&self.messages) {
            Ok(place) => self.messages.get(place),
            Err(_) => self.spared.get(find(&self.spared).ok()?),
        }
    }

    /// All that are in memory, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.spared.iter().chain(&self.messages)
    }

    /// The seqs of the replies that nobody has received, oldest first.
    pub fn unread(&self) -> impl Iterator<Item = u64> {
        self.unread.iter().map(|unread| unread.seq)
    }

    /// When the newest reply came that nobody has received.
    pub fn unread_since(&self) -> Option<Instant> {
        self.unread.back().map(|unread| unread.since)
    }

    /// The number of replies that nobody has received.
    pub fn unread_count(&self) -> usize {
        self.unread.len()
    }

    /// Their memory, in bytes.
    pub fn unread_bytes(&self) -> usize {
        self.unread_bytes
    }

    /// From this seq on, all messages are in memory.
    pub fn begins_at(&self) -> u64 {
        self.removed_before
    }
}

/// Some messages of a session: of those after one seq and before another, the first ones or the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub after: u64,
    pub before: u64,
    pub limit: usize,
    /// The last are meant, and not the first.
    pub is_last: bool,
}

impl Span {
    /// All messages.
    pub const ALL: Self = Self {
        after: 0,
        before: u64::MAX,
        limit: usize::MAX,
        is_last: false,
    };
}

/// Returns how many of these messages have at most this seq.
fn count_up_to(messages: &VecDeque<Arc<Message>>, seq: u64) -> usize {
    messages.partition_point(|message| message.seq <= seq)
}
