//! One chat session: who is in it, what was said, and until when it is kept.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::history::{Entry, History};
use super::receipts::Receipts;
use super::{Effects, Limits, Now, timestamp};
use crate::protocol::{
    Activity, ConnId, HistoryItem, MessageId, ServerMessage, SessionId, Speaker, Via,
};

/// A session's state.
#[derive(Debug)]
pub struct Session {
    created: SystemTime,
    /// The clients in it.
    pub members: Vec<ConnId>,
    /// What became of messages with an id.
    pub receipts: Receipts,
    history: History,
    /// The last message's number; 0 before the first.
    seq: u64,
    /// When the last client left; `None` while someone is here.
    empty_since: Option<Instant>,
    /// The newest answer that nobody has received, and when it came.
    unseen: Option<(u64, Instant)>,
    /// The expiry the hub has noted for it.
    pub scheduled: Option<Instant>,
    /// The status that was shown here last.
    pub shown: Shown,
}

/// A status, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What Claude is doing.
    pub status: Activity,
    /// A few words more.
    pub detail: Option<Arc<str>>,
}

impl Default for Shown {
    /// Claude waits, or so everyone thinks.
    fn default() -> Self {
        Self {
            status: Activity::Idle,
            detail: None,
        }
    }
}

impl Session {
    /// An empty session, created at `now`.
    pub fn new(now: Now) -> Self {
        Self {
            created: now.wall,
            members: Vec::new(),
            receipts: Receipts::default(),
            history: History::default(),
            seq: 0,
            empty_since: Some(now.at),
            unseen: None,
            scheduled: None,
            shown: Shown::default(),
        }
    }

    /// When it was created.
    pub fn created(&self) -> String {
        timestamp(self.created)
    }

    /// The last message's number; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// A client that isn't in yet comes in.
    pub fn join(&mut self, client: ConnId) {
        self.members.push(client);
        self.empty_since = None;
    }

    /// A client leaves.
    pub fn leave(&mut self, client: ConnId, now: Now) {
        self.members.retain(|member| *member != client);
        if self.members.is_empty() {
            self.empty_since = Some(now.at);
        }
    }

    /// Something was said; it is [`Session::last`] now. `total` counts the bytes of all
    /// sessions' histories.
    pub fn say(
        &mut self,
        role: Speaker,
        message_id: MessageId,
        words: Words,
        limits: &Limits,
        total: &mut usize,
    ) {
        self.seq += 1;
        let entry = Entry {
            seq: self.seq,
            message_id,
            role,
            user: words.user,
            content: words.content,
            ts: words.ts,
            via: words.via,
        };
        *total -= self.history.bytes();
        self.history
            .push(entry, limits.history_messages, limits.history_bytes);
        *total += self.history.bytes();
    }

    /// How many bytes of history it has.
    pub fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    /// Forgets the oldest messages beyond this many bytes, but `spared` of the newest.
    pub fn cut_history(&mut self, max_bytes: usize, spared: usize, total: &mut usize) {
        *total -= self.history.bytes();
        self.history.cut(max_bytes, spared);
        *total += self.history.bytes();
    }

    /// What was said last.
    pub fn last(&self) -> Option<&Entry> {
        self.history.last()
    }

    /// Shows a status, unless it is the one that is shown. `id` is the session's own.
    pub fn show(&mut self, id: &SessionId, shown: &Shown, fx: &mut impl Effects) {
        if self.shown != *shown {
            let message = ServerMessage::Status {
                session_id: id.as_str(),
                status: shown.status,
                detail: shown.detail.as_deref(),
            };
            fx.send(self.members.iter().copied(), &message);
            self.shown = shown.clone();
        }
    }

    /// The last answer found nobody here, or nobody who could receive it.
    pub fn keep_unseen(&mut self, now: Now) {
        self.unseen = Some((self.seq, now.at));
    }

    /// The history up to `seq` has gone to a client.
    pub fn seen_up_to(&mut self, seq: u64) {
        self.unseen = self.unseen.filter(|(unseen, _)| *unseen > seq);
    }

    /// The last `limit` messages; with `since`, the first `limit` after that seq. A seq
    /// that is still to come is one of an earlier session of this name, of which the
    /// client has seen nothing here yet.
    pub fn history(&self, limit: usize, since: Option<u64>) -> Vec<HistoryItem<&str>> {
        let since = since.map(|seq| if seq > self.seq { 0 } else { seq });
        self.history.items(limit, since)
    }

    /// When the session is to be forgotten; never while someone is in it.
    pub fn expires(&self, limits: &Limits) -> Option<Instant> {
        let left = self.empty_since? + limits.session_ttl;
        let unseen = self.unseen.map(|(_, since)| since + limits.unseen_ttl);
        Some(unseen.map_or(left, |unseen| unseen.max(left)))
    }
}

/// What was said, by whom and when.
#[derive(Debug)]
pub struct Words {
    /// The user's name; none for Claude.
    pub user: Option<Arc<str>>,
    /// The text.
    pub content: String,
    /// When.
    pub ts: String,
    /// How it came, if not by the reply tool.
    pub via: Option<Via>,
}
