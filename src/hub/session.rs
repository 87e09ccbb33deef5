//! One chat session: who is in it, its messages, and how long it is kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::answers::fitting;
use super::receipts::Receipts;
use super::session_quota::Standing;
use super::{AgentId, Effects, Limits, Now, timestamp};
use crate::json;
use crate::protocol::{
    self, ConnId, DEFAULT_USER, DeliveryState, Grant, HistoryItem, MessageId, ReplySource,
    ServerMessage, SessionId, Status,
};

/// What a block of memory behind an `Arc` costs beside its content, in bytes: two counters, and what
/// the allocator adds: a header, and on average half of the 16 bytes to which it rounds up.
pub const BLOCK: usize = 40;

/// The state of a session.
#[derive(Debug)]
pub struct Session {
    created: SystemTime,
    /// Whose client has created it.
    pub creator: AuthorId,
    /// The agent that the session talks to.
    pub agent: AgentId,
    /// The clients in it.
    pub members: Vec<ConnId>,
    /// What became of messages with a client's id.
    pub receipts: Receipts,
    history: History,
    /// The seq of the newest message; 0 before the first.
    seq: u64,
    /// When the last client left; `None` while one is here.
    empty_since: Option<Instant>,
    /// When the newest message for Claude came.
    asked: Instant,
    /// The expiry that the hub has scheduled, and what the session was then.
    pub expiry_timer: Option<(Instant, Standing)>,
    /// The status that clients were shown last.
    pub status: StatusUpdate,
}

/// A reply that nobody has received.
#[derive(Clone, Copy, Debug)]
struct Unread {
    seq: u64,
    since: Instant,
    /// Its memory.
    bytes: usize,
}

/// What Claude is doing, as clients are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    pub status: Status,
    /// More about it, such as the running tool.
    pub detail: Option<Arc<str>>,
}

impl StatusUpdate {
    /// The frame for a session's clients. `session` is the session's own id.
    pub fn frame<'a>(&'a self, session: &'a SessionId) -> ServerMessage<&'a str> {
        ServerMessage::Status {
            session_id: session.as_str(),
            status: self.status,
            detail: self.detail.as_deref(),
        }
    }
}

impl Default for StatusUpdate {
    /// Idle, until a status is shown.
    fn default() -> Self {
        Self {
            status: Status::Idle,
            detail: None,
        }
    }
}

impl Session {
    /// Returns an empty session with this id, created at `now`.
    pub fn new(now: Now, creator: AuthorId, agent: AgentId, id: &SessionId) -> Self {
        Self {
            created: now.wall,
            creator,
            agent,
            members: Vec::new(),
            receipts: Receipts::default(),
            history: History::new(Self::bytes(id)),
            seq: 0,
            empty_since: Some(now.instant),
            asked: now.instant,
            expiry_timer: None,
            status: StatusUpdate::default(),
        }
    }

    /// Memory of a session without its messages, in bytes: its id, and its entries in the hub's maps,
    /// of which half may be empty.
    fn bytes(id: &SessionId) -> usize {
        let entries = size_of::<(SessionId, Self)>() + size_of::<(Instant, SessionId)>();
        BLOCK + id.as_str().len() + 2 * entries
    }

    /// When it was created, RFC 3339 in UTC.
    pub fn created(&self) -> Arc<str> {
        timestamp(self.created)
    }

    /// The seq of the newest message; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Adds a client that isn't in it yet.
    pub fn join(&mut self, client: ConnId) {
        self.members.push(client);
        self.empty_since = None;
    }

    /// Removes a client.
    pub fn leave(&mut self, client: ConnId, now: Now) {
        self.members.retain(|member| *member != client);
        if self.members.is_empty() {
            self.empty_since = Some(now.instant);
        }
    }

    /// Counts the time since the last client left from now on.
    pub fn restart_expiry(&mut self, now: Now) {
        self.empty_since = self.empty_since.map(|_| now.instant);
    }

    /// Adds a message to the history; it is [`Session::last`] now. `total` counts the bytes of all
    /// sessions' histories. Replies that nobody has received stay, whatever the limits.
    pub fn append(
        &mut self,
        id: MessageId,
        author: Author,
        content: Arc<str>,
        ts: Arc<str>,
        limits: &Limits,
        total: &mut usize,
    ) {
        self.seq += 1;
        let message = Message {
            id,
            seq: self.seq,
            author,
            content,
            ts,
            state: None,
            content_len: AtomicUsize::new(0),
        };
        *total -= self.history.bytes();
        self.history.push(message);
        let (max_messages, max_bytes) = (limits.history_messages, limits.history_bytes);
        self.history.truncate(max_messages, max_bytes, 1);
        *total += self.history.bytes();
    }

    /// Records that a message for Claude has come.
    pub fn asked_at(&mut self, now: Now) {
        self.asked = now.instant;
    }

    /// Memory of the history, in bytes, and of the session if it has one.
    pub fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    /// Memory of the replies that nobody has received, in bytes.
    pub fn unread_bytes(&self) -> usize {
        self.history.unread_bytes
    }

    /// The number of replies that nobody has received.
    pub fn unread_count(&self) -> usize {
        self.history.unread.len()
    }

    /// Removes the oldest messages beyond `max_bytes`, but keeps at least `keep_at_least` of
    /// the newest. Replies that nobody has received stay, and don't count.
    pub fn truncate_history(&mut self, max_bytes: usize, keep_at_least: usize, total: &mut usize) {
        *total -= self.history.bytes();
        let max_bytes = max_bytes.saturating_add(self.history.unread_bytes);
        self.history.truncate(usize::MAX, max_bytes, keep_at_least);
        self.history.shrink();
        *total += self.history.bytes();
    }

    /// The newest message that is kept.
    pub fn last(&self) -> Option<&Arc<Message>> {
        self.history.last()
    }

    /// Shows a status to the session's clients, unless they have been shown it already. `id`
    /// is the session's own.
    pub fn set_status(&mut self, id: &SessionId, status: &StatusUpdate, out: &mut impl Effects) {
        if self.status != *status {
            out.send(self.members.iter().copied(), &status.frame(id));
            self.status = status.clone();
        }
    }

    /// Keeps the session and the newest reply longer: that found nobody here who could receive it.
    pub fn mark_unread(&mut self, now: Now) {
        self.history.mark_unread(now.instant);
    }

    /// Records that a client has the messages from `first` to `last`.
    pub fn mark_read(&mut self, first: u64, last: u64) {
        self.history.mark_read(first, last);
    }

    /// Keeps no longer the replies that nobody has received for [`Limits::unread_ttl`], and returns how many they are.
    pub fn give_up_unread(&mut self, now: Now, limits: &Limits) -> usize {
        self.history.give_up_unread(now.instant, limits.unread_ttl)
    }

    /// Returns where the newest `limit` messages are; with `since`, the first `limit` after that seq. A
    /// `since` beyond the newest seq comes from an earlier session of this name, so history
    /// starts at the beginning.
    pub fn history_range(&self, limit: usize, since: Option<u64>) -> HistoryRange {
        let since = since.map(|seq| if seq > self.seq { 0 } else { seq });
        self.history.range(limit, since)
    }

    /// Returns the seq before which messages are missing in a history that was to begin at this one; `None` if it is
    /// complete.
    pub fn truncated_before(&self, begins_at: u64) -> Option<u64> {
        let removed_before = self.history.removed_before;
        (begins_at < removed_before).then_some(removed_before)
    }

    /// Returns the messages before a seq, as far as they are kept.
    pub fn history_before(&self, seq: u64) -> Vec<HistoryItem<&str>> {
        let messages = self.history.between(0, seq.saturating_sub(1));
        messages.map(|message| message.item()).collect()
    }

    /// Returns the first messages after one seq up to another that fit into so many bytes as JSON, at least one, and
    /// `true` if there are more.
    pub fn history_page(
        &self,
        after: u64,
        up_to: u64,
        room: usize,
    ) -> (Vec<HistoryItem<&str>>, bool) {
        let messages = self.history.between(after, up_to);
        let fitting = fitting(messages.clone().map(|message| message.item_len()), room);
        let more = messages.clone().nth(fitting).is_some();
        let page = messages.take(fitting);
        (page.map(|message| message.item()).collect(), more)
    }

    /// Returns whether the session can make room for another.
    pub fn standing(&self) -> Standing {
        let is_needed =
            !self.members.is_empty() || self.unread_count() > 0 || self.receipts.awaits_answer();
        match self.seq {
            _ if is_needed => Standing::Needed,
            0 => Standing::Unused,
            _ => Standing::Idle,
        }
    }

    /// Returns when the session expires; never while a client is in it. It stays longer while a reply that nobody
    /// has received is in it, or a message waits for an answer: that must find it.
    pub fn expires(&self, limits: &Limits) -> Option<Instant> {
        let left = self.empty_since? + limits.session_ttl;
        let unread = self.history.unread.back().map(|unread| unread.since);
        let asked = self.receipts.awaits_answer().then_some(self.asked);
        let kept_for = unread.max(asked).map(|since| since + limits.unread_ttl);
        Some(kept_for.map_or(left, |until| until.max(left)))
    }
}

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
    /// What became of a user's message, as the store knows it.
    state: Option<DeliveryState>,
    /// The length of the text as JSON, in bytes, once somebody has asked for it.
    content_len: AtomicUsize,
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
    /// Returns a message as the store has kept it.
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
            state,
            content_len: AtomicUsize::new(0),
        }
    }

    /// What became of a user's message, as the store knows it.
    pub fn state(&self) -> Option<DeliveryState> {
        self.state
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
            state: self.state,
        }
    }
}

/// Some messages of a session: those after one seq up to another.
#[derive(Clone, Copy, Debug)]
pub struct HistoryRange {
    /// The seq of the first message that was asked for, be it kept or not.
    pub begins_at: u64,
    pub after: u64,
    pub up_to: u64,
}

/// The latest messages of a session, oldest first, bounded by count and by bytes.
#[derive(Debug)]
struct History {
    /// Messages that were only spared because nobody had received them, older than all others.
    spared: VecDeque<Arc<Message>>,
    messages: VecDeque<Arc<Message>>,
    /// The replies that nobody has received, oldest first. Each is in `spared` or in `messages`.
    unread: VecDeque<Unread>,
    unread_bytes: usize,
    /// One more than the highest seq that was removed; 0 if none was.
    removed_before: u64,
    /// The bytes of the messages.
    bytes: usize,
    /// What the session costs beside them, in bytes.
    session: usize,
}

impl History {
    /// Returns the history of a session that costs this many bytes without it.
    fn new(session: usize) -> Self {
        Self {
            spared: VecDeque::new(),
            messages: VecDeque::new(),
            unread: VecDeque::new(),
            unread_bytes: 0,
            removed_before: 0,
            bytes: 0,
            session,
        }
    }

    /// Adds the newest message.
    fn push(&mut self, message: Message) {
        self.bytes += message.bytes();
        self.messages.push_back(message.into());
    }

    /// Removes the oldest messages beyond `max_messages` and `max_bytes`, but keeps at least
    /// `keep_at_least` of the newest, and all replies that nobody has received.
    fn truncate(&mut self, max_messages: usize, max_bytes: usize, keep_at_least: usize) {
        while (self.len() > max_messages || self.bytes() > max_bytes)
            && let Some(oldest) = self.pop_received(keep_at_least)
        {
            self.bytes -= oldest.bytes();
            self.removed_before = self.removed_before.max(oldest.seq + 1);
        }
    }

    /// Removes and returns the oldest message that somebody has received, unless it is one of the `keep_at_least` newest.
    fn pop_received(&mut self, keep_at_least: usize) -> Option<Arc<Message>> {
        if let Some(place) = self.received_among_spared() {
            return self.spared.remove(place);
        }
        while self.messages.len() > keep_at_least {
            let oldest = self.messages.pop_front()?;
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

    fn is_unread(&self, seq: u64) -> bool {
        let found = self.unread.binary_search_by_key(&seq, |unread| unread.seq);
        found.is_ok()
    }

    /// Records that nobody has received the newest reply.
    fn mark_unread(&mut self, now: Instant) {
        let Some(newest) = self.last() else { return };
        let (seq, bytes) = (newest.seq, newest.bytes());
        if newest.is_reply() && self.unread.back().is_none_or(|unread| unread.seq < seq) {
            self.unread_bytes += bytes;
            self.unread.push_back(Unread {
                seq,
                since: now,
                bytes,
            });
        }
    }

    /// Records that somebody has received the messages from `first` to `last`.
    fn mark_read(&mut self, first: u64, last: u64) {
        let start = self.unread.partition_point(|unread| unread.seq < first);
        let end = self.unread.partition_point(|unread| unread.seq <= last);
        let read = self.unread.drain(start..end.max(start));
        self.unread_bytes -= read.map(|unread| unread.bytes).sum::<usize>();
    }

    /// Takes the replies that nobody has received for `ttl` for received, and returns how many they are.
    fn give_up_unread(&mut self, now: Instant, ttl: Duration) -> usize {
        let is_young = |unread: &Unread| unread.since + ttl > now;
        let given_up = self.unread.iter().position(is_young);
        let given_up = given_up.unwrap_or(self.unread.len());
        let bytes = self.unread.drain(..given_up).map(|unread| unread.bytes);
        self.unread_bytes -= bytes.sum::<usize>();
        given_up
    }

    /// Gives back memory that isn't used.
    fn shrink(&mut self) {
        self.spared.shrink_to_fit();
        self.messages.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.spared.len() + self.messages.len()
    }

    /// Memory of the history, in bytes, and of the session if there is any message.
    fn bytes(&self) -> usize {
        if self.len() == 0 {
            return 0;
        }
        self.session + self.bytes
    }

    /// The newest message that is kept.
    fn last(&self) -> Option<&Arc<Message>> {
        self.messages.back().or(self.spared.back())
    }

    /// Returns the messages after one seq up to another.
    fn between(&self, after: u64, up_to: u64) -> impl Iterator<Item = &Arc<Message>> + Clone {
        let wanted = |messages: &VecDeque<Arc<Message>>| {
            let start = count_up_to(messages, after);
            start..count_up_to(messages, up_to).max(start)
        };
        let spared = self.spared.range(wanted(&self.spared));
        spared.chain(self.messages.range(wanted(&self.messages)))
    }

    /// Returns where the newest `limit` messages are; with `since`, the first `limit` after that seq.
    fn range(&self, limit: usize, since: Option<u64>) -> HistoryRange {
        let start = match since {
            Some(seq) => count_up_to(&self.spared, seq) + count_up_to(&self.messages, seq),
            None => self.len().saturating_sub(limit),
        };
        let seq_at = |place| {
            let mut messages = self.spared.iter().chain(&self.messages);
            messages.nth(place).map(|message| message.seq)
        };
        let first = seq_at(start);
        let last = seq_at(self.len().min(start + limit).saturating_sub(1));
        HistoryRange {
            begins_at: match since {
                Some(seq) => seq + 1,
                None if start == 0 && self.len() < limit => 1,
                None => first.unwrap_or(1),
            },
            after: first.map_or(0, |seq| seq - 1),
            up_to: first.and(last).unwrap_or(0),
        }
    }
}

/// Returns how many of these messages have at most this seq.
fn count_up_to(messages: &VecDeque<Arc<Message>>, seq: u64) -> usize {
    messages.partition_point(|message| message.seq <= seq)
}
