//! What became of the messages that had an `id`: the key to receipts, and to
//! taking a resent message only once.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::protocol::{ConnId, DeliveryState, MessageId};

/// How many ids of messages that Claude Code has got a session remembers, beside all
/// that are on their way. A client that resends a message does so right after it has
/// reconnected, so only the latest can come again.
const KEPT: usize = 4_096;

/// What tells two messages under one id apart.
pub fn fingerprint(user: &str, content: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (user, content).hash(&mut hasher);
    hasher.finish()
}

/// What is known of one message.
#[derive(Debug)]
pub struct Receipt {
    /// The server's id of the message.
    pub message_id: MessageId,
    /// Its place in the session.
    pub seq: u64,
    /// Its [`fingerprint`].
    pub fingerprint: u64,
    /// Its number among the notifications.
    pub number: u64,
    /// How far it has come; `None` while it is still on its way to Claude Code.
    pub state: Option<DeliveryState>,
    /// The connection that sent it last, and wants to know.
    pub client: ConnId,
}

/// The receipts of one session.
#[derive(Debug, Default)]
pub struct Receipts {
    by_id: HashMap<Arc<str>, Receipt>,
    /// Those that Claude Code has got, oldest first.
    got: VecDeque<Arc<str>>,
    /// Those of them that wait for an answer, in the same order.
    unanswered: VecDeque<Arc<str>>,
    /// The last reply may answer everything up to this number, even what was not yet
    /// reported as written when it came.
    answered_up_to: u64,
    /// Claude has replied since Claude Code was getting this number.
    replied_up_to: u64,
    /// The number of the latest message that was seen.
    seen_up_to: u64,
}

impl Receipts {
    /// The receipt of a message that is already known under this id.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Receipt> {
        self.by_id.get_mut(id)
    }

    /// The same, to look at.
    pub fn get(&self, id: &str) -> Option<&Receipt> {
        self.by_id.get(id)
    }

    /// A message under a new id is on its way.
    pub fn start(&mut self, id: Arc<str>, receipt: Receipt) {
        self.by_id.insert(id, receipt);
    }

    /// Claude Code has it. Returns its receipt, and the states it has reached by that.
    pub fn accept(&mut self, id: &Arc<str>) -> Option<(&Receipt, &'static [DeliveryState])> {
        if self.got.len() == KEPT
            && let Some(oldest) = self.got.pop_front()
        {
            self.by_id.remove(&oldest);
            self.unanswered.pop_front_if(|id| *id == oldest);
        }
        let receipt = self.by_id.get_mut(id)?;
        self.got.push_back(id.clone());
        let reached: &[_] = if receipt.number <= self.answered_up_to {
            &[DeliveryState::Accepted, DeliveryState::Answered]
        } else {
            self.unanswered.push_back(id.clone());
            &[DeliveryState::Accepted]
        };
        receipt.state = reached.last().copied();
        Some((receipt, reached))
    }

    /// A message has been seen. Returns the client's id of it and its receipt, if that
    /// is news.
    pub fn see(&mut self, message_id: MessageId) -> Option<(Arc<str>, &Receipt)> {
        // The server's ids grow, and so they do in here.
        let id_of = |id: &Arc<str>| self.by_id.get(id).map(|receipt| receipt.message_id);
        let place = self.got.partition_point(|id| id_of(id) < Some(message_id));
        let id = self.got.get(place)?.clone();
        let receipt = self.by_id.get_mut(&id)?;
        let is_news = matches!(
            receipt.state,
            Some(DeliveryState::Accepted | DeliveryState::Unseen)
        );
        if receipt.message_id != message_id || !is_news {
            return None;
        }
        receipt.state = Some(DeliveryState::Seen);
        self.seen_up_to = self.seen_up_to.max(receipt.number);
        Some((id, receipt))
    }

    /// A message should have been seen by now. Returns what has become of it, and its
    /// receipt if that is to be told. If Claude has replied since, it is the hook that is missing.
    pub fn miss(&mut self, number: u64, id: Option<&str>) -> (DeliveryState, Option<&Receipt>) {
        let state = if number <= self.replied_up_to {
            DeliveryState::Answered
        } else {
            DeliveryState::Unseen
        };
        let Some(receipt) = id.and_then(|id| self.by_id.get_mut(id)) else {
            return (state, None);
        };
        if receipt.state != Some(DeliveryState::Accepted) {
            return (DeliveryState::Answered, None);
        }
        receipt.state = Some(state);
        if state == DeliveryState::Answered {
            let place = self.unanswered_up_to(number);
            // It is the last of those.
            self.unanswered.remove(place.saturating_sub(1));
        }
        (state, id.and_then(|id| self.by_id.get(id)))
    }

    /// How many of those that wait for an answer have at most this number.
    fn unanswered_up_to(&self, number: u64) -> usize {
        let number_of = |id: &Arc<str>| self.by_id.get(id).map_or(0, |receipt| receipt.number);
        self.unanswered
            .partition_point(|id| number_of(id) <= number)
    }

    /// Claude has replied: everything that Claude Code has got is answered, and when
    /// that is reported, everything up to this number. Where hooks tell what Claude has
    /// seen, `only_seen`, that is everything up to the last message it has seen.
    pub fn answer(&mut self, up_to: u64, only_seen: bool) -> Vec<(Arc<str>, &Receipt)> {
        self.replied_up_to = up_to;
        let answered: Vec<_> = if only_seen {
            let seen = self.unanswered_up_to(self.seen_up_to);
            self.unanswered.drain(..seen).collect()
        } else {
            self.answered_up_to = up_to;
            self.unanswered.drain(..).collect()
        };
        for id in &answered {
            if let Some(receipt) = self.by_id.get_mut(id) {
                receipt.state = Some(DeliveryState::Answered);
            }
        }
        let receipt = |id| self.by_id.get(&id).map(|receipt| (id, receipt));
        answered.into_iter().filter_map(receipt).collect()
    }
}
