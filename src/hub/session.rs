//! One chat session: who is in it, its messages, and how long it is kept.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::history::{History, Span};
use super::journal::Journal;
use super::message::{Author, AuthorId, BLOCK, Message};
use super::receipts::{Fingerprint, Receipts};
use super::session_quota::Standing;
use super::stored::{Change, SessionNumber, StoredSession};
use super::{AgentId, Effects, Limits, MessageKey, Now, timestamp};
use crate::protocol::{ConnId, DeliveryState, MessageId, ServerMessage, SessionId, Status};

/// So many seqs are reserved at once in the store, so that it isn't written for each message. After a crash a session
/// goes on so many further at most.
const RESERVED: u64 = 64;

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
    /// Its number in the store; `None` if it isn't there.
    pub number: Option<SessionNumber>,
    /// It is to be kept in the store, if there is one: that has no other of this name.
    pub is_kept: bool,
    /// The seq that the store has for it.
    stored_seq: u64,
    /// One more than the highest seq that the store has removed; 0 if it has removed none.
    removed_before: u64,
    /// The journal's newest change of the session.
    position: u64,
    /// When the newest message was said.
    updated: SystemTime,
    /// When the last client left; `None` while one is here.
    empty_since: Option<Instant>,
    /// When the newest message for Claude came.
    asked: Instant,
    /// The expiry that the hub has scheduled, and what the session was then.
    pub expiry_timer: Option<(Instant, Standing)>,
    /// The status that clients were shown last.
    pub status: StatusUpdate,
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
            history: History::new(Self::bytes(id), 0),
            seq: 0,
            number: None,
            is_kept: true,
            stored_seq: 0,
            removed_before: 0,
            position: 0,
            updated: now.wall,
            empty_since: Some(now.instant),
            asked: now.instant,
            expiry_timer: None,
            status: StatusUpdate::default(),
        }
    }

    /// Returns a session that the store has, without its messages.
    pub fn restored(
        now: Now,
        creator: AuthorId,
        agent: AgentId,
        id: &SessionId,
        stored: &StoredSession,
    ) -> Self {
        let last = stored.last.as_ref();
        let begins_at = last.map_or(stored.seq + 1, |last| last.seq);
        let mut history = History::new(Self::bytes(id), begins_at);
        history.restore_unread(now, &stored.unread);
        if let Some(last) = last {
            history.push(last.clone());
        }
        Self {
            created: stored.created,
            receipts: Receipts::restored(stored.keys),
            history,
            seq: stored.seq,
            number: Some(stored.number),
            stored_seq: stored.seq,
            removed_before: stored.removed_before,
            ..Self::new(now, creator, agent, id)
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

    /// Adds the session to the store with its first message, if there is one.
    pub fn begin_in(&mut self, journal: &mut Journal, agent: &Arc<str>, id: &SessionId) {
        if self.number.is_some() || self.seq > 0 || !self.is_kept || !journal.is_kept() {
            return;
        }
        let number = journal.number_session();
        self.number = Some(number);
        self.record(journal, agent, id);
    }

    /// Tells the store that the session exists.
    fn record(&mut self, journal: &mut Journal, agent: &Arc<str>, id: &SessionId) {
        if let Some(number) = self.number {
            self.note(
                journal,
                Change::Session {
                    number,
                    agent: agent.clone(),
                    id: id.clone(),
                    created: self.created,
                },
            );
        }
    }

    fn note(&mut self, journal: &mut Journal, change: Change) {
        journal.push(change);
        self.position = journal.newest();
    }

    /// Tells the store the session's exact seq: nothing is said in it for now.
    pub fn settle_seq(&mut self, journal: &mut Journal) {
        if self.stored_seq != self.seq {
            self.note_seq(journal, self.seq);
        }
    }

    fn note_seq(&mut self, journal: &mut Journal, seq: u64) {
        self.stored_seq = seq;
        let updated = self.updated;
        if let Some(session) = self.number {
            self.note(
                journal,
                Change::Seq {
                    session,
                    seq,
                    updated,
                },
            );
        }
    }

    /// Adds a message to the history; it is [`Session::last`] now. `total` counts the bytes of all
    /// sessions' histories. Replies that nobody has received stay, whatever the limits.
    pub fn append(
        &mut self,
        now: Now,
        said: Said,
        journal: &mut Journal,
        limits: &Limits,
        total: &mut usize,
    ) {
        self.seq += 1;
        self.updated = now.wall;
        if self.seq > self.stored_seq && self.number.is_some() {
            self.note_seq(journal, self.seq + RESERVED - 1);
        }
        let Said {
            id,
            author,
            content,
            ts,
            key,
            state,
        } = said;
        let mut message = Message::restored(id, self.seq, author, content, ts, state);
        if self.number.is_some() {
            message.position = journal.next();
        }
        let message = Arc::new(message);
        self.note_message(journal, &message, key);
        *total -= self.history.bytes();
        self.history.push(message);
        let (max_messages, max_bytes) = (limits.history_messages, limits.history_bytes);
        self.history
            .truncate(max_messages, max_bytes, 1, journal.stored());
        *total += self.history.bytes();
    }

    fn note_message(
        &mut self,
        journal: &mut Journal,
        message: &Arc<Message>,
        key: Option<(MessageKey, Fingerprint)>,
    ) {
        let Some(session) = self.number else { return };
        self.note(
            journal,
            Change::Message {
                session,
                message: message.clone(),
                key,
                state: message.state(),
            },
        );
    }

    /// Records what became of a user's message.
    pub fn set_state(&mut self, seq: u64, state: DeliveryState, journal: &mut Journal) {
        if let Some(message) = self.history.get(seq) {
            message.set_state(state);
        }
        if let Some(session) = self.number {
            self.note(
                journal,
                Change::State {
                    session,
                    seq,
                    state,
                },
            );
        }
    }

    /// Tells the store once more all that is known of the session.
    pub fn record_again(&mut self, journal: &mut Journal, agent: &Arc<str>, id: &SessionId) {
        let Some(session) = self.number else { return };
        self.record(journal, agent, id);
        self.note_seq(journal, self.seq + RESERVED - 1);
        let keys = self.receipts.keys_by_seq();
        let messages: Vec<_> = self.history.iter().cloned().collect();
        for message in messages {
            let key = keys.get(&message.seq).cloned();
            self.note_message(journal, &message, key);
        }
        let unread: Vec<u64> = self.history.unread().collect();
        for seq in unread {
            self.note(journal, Change::Unread { session, seq });
        }
    }

    /// Everything of the session is on disk, or stays in memory only.
    pub fn is_stored(&self, journal: &Journal) -> bool {
        self.position <= journal.stored()
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
        self.history.unread_bytes()
    }

    /// The number of replies that nobody has received.
    pub fn unread_count(&self) -> usize {
        self.history.unread_count()
    }

    /// Removes the oldest messages beyond `max_bytes`, but keeps at least `keep_at_least` of
    /// the newest. Replies that nobody has received stay, and don't count.
    pub fn truncate_history(
        &mut self,
        max_bytes: usize,
        keep_at_least: usize,
        journal: &Journal,
        total: &mut usize,
    ) {
        *total -= self.history.bytes();
        let max_bytes = max_bytes.saturating_add(self.history.unread_bytes());
        self.history
            .truncate(usize::MAX, max_bytes, keep_at_least, journal.stored());
        self.history.shrink();
        *total += self.history.bytes();
    }

    /// The newest message that is in memory.
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
    pub fn mark_unread(&mut self, now: Now, journal: &mut Journal) {
        if let Some(seq) = self.history.mark_unread(now.instant)
            && let Some(session) = self.number
        {
            self.note(journal, Change::Unread { session, seq });
        }
    }

    /// Records that a client has the messages from `first` to `last`.
    pub fn mark_read(&mut self, first: u64, last: u64, journal: &mut Journal) {
        if self.history.mark_read(first, last)
            && let Some(session) = self.number
        {
            self.note(
                journal,
                Change::Read {
                    session,
                    first,
                    last,
                },
            );
        }
    }

    /// Keeps no longer the replies that nobody has received for [`Limits::unread_ttl`], and returns how many they are. In
    /// the store they stay as long as everything else.
    pub fn give_up_unread(&mut self, now: Now, limits: &Limits) -> usize {
        if self.number.is_some() {
            return 0;
        }
        self.history.give_up_unread(now.instant, limits.unread_ttl)
    }

    /// Returns the messages of a span that come first and are in the store, not in memory.
    pub fn stored_part(&self, span: Span) -> Option<Span> {
        self.number?;
        let begins_at = self.history.begins_at();
        let before = span.before.min(begins_at);
        if span.limit == 0 || span.after + 1 >= before {
            return None;
        }
        let limit = if span.is_last {
            let after = span.after.max(begins_at - 1);
            let in_memory = self.history.select(Span { after, ..span }).count();
            span.limit - in_memory
        } else {
            span.limit
        };
        (limit > 0).then_some(Span {
            before,
            limit,
            ..span
        })
    }

    /// Returns the seq before which messages are missing in a history that was to begin at this one; `None` if it is
    /// complete.
    pub fn truncated_before(&self, begins_at: u64) -> Option<u64> {
        let removed_before = match self.number {
            Some(_) => self.removed_before,
            None => self.history.begins_at(),
        };
        (begins_at < removed_before).then_some(removed_before)
    }

    /// Records that the store has removed the messages before this seq.
    pub fn mark_removed(&mut self, before: u64) {
        self.removed_before = self.removed_before.max(before);
    }

    /// Returns the messages of a span that are in memory.
    pub fn messages(&self, span: Span) -> impl Iterator<Item = &Arc<Message>> + Clone {
        self.history.select(span)
    }

    /// Returns whether the session can make room for another.
    pub fn standing(&self) -> Standing {
        let has_unread = self.number.is_none() && self.unread_count() > 0;
        let is_needed = !self.members.is_empty() || has_unread || self.receipts.awaits_answer();
        match self.seq {
            _ if is_needed => Standing::Needed,
            0 => Standing::Unused,
            _ => Standing::Idle,
        }
    }

    /// Returns when the session expires; never while a client is in it. It stays longer while a message waits for an
    /// answer, which must find it, or a reply is in it that nobody has received, unless the store has that.
    pub fn expires(&self, limits: &Limits) -> Option<Instant> {
        let left = self.empty_since? + limits.session_ttl;
        let unread = self.history.unread_since();
        let unread = unread.filter(|_| self.number.is_none());
        let asked = self.receipts.awaits_answer().then_some(self.asked);
        let kept_for = unread.max(asked).map(|since| since + limits.unread_ttl);
        Some(kept_for.map_or(left, |until| until.max(left)))
    }
}

/// Something that is said in a session.
#[derive(Debug)]
pub struct Said {
    pub id: MessageId,
    pub author: Author,
    pub content: Arc<str>,
    pub ts: Arc<str>,
    /// The client's own id of the message, if it gave one, and what tells it from another.
    pub key: Option<(MessageKey, Fingerprint)>,
    /// What became of a user's message so far.
    pub state: Option<DeliveryState>,
}
