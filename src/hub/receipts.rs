//! What became of the messages to which clients gave an `id`: the key to receipts, and to
//! accepting a resent message only once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::MessageKey;
use crate::protocol::{ConnId, DeliveryState, MessageId, ServerMessage, SessionId};

/// The most ids of accepted messages that a session remembers, beside those of all messages
/// that are still in the inbox. A client that resends a message does so right after it has
/// reconnected, so only the newest can come again.
const MAX_REMEMBERED: usize = 4_096;

/// Tells two messages under one id apart. It is the same for all builds and after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// Returns the first 8 bytes of a SHA-256 of both texts. The user's length goes first, so
    /// that the two can't run into each other.
    pub fn of(user: &str, content: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((user.len() as u64).to_be_bytes());
        hash.update(user);
        hash.update(content);
        let hash = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Self(first)
    }
}

/// What is known of one message.
#[derive(Debug)]
pub struct Receipt {
    /// The server's id of the message.
    pub message_id: MessageId,
    /// Its place in the session.
    pub seq: u64,
    /// Tells it from another message under the same id.
    pub fingerprint: Fingerprint,
    /// Its number among the agent's messages.
    pub number: u64,
    /// `None` until it was written to the agent.
    pub state: Option<DeliveryState>,
    /// The connection that sent it last, and gets its receipts.
    pub client: ConnId,
}

impl Receipt {
    /// The frame that tells its client of a state.
    pub fn delivery<'a>(
        &self,
        session: &'a SessionId,
        key: &'a str,
        state: DeliveryState,
        hint: Option<&'a str>,
    ) -> ServerMessage<&'a str> {
        ServerMessage::Delivery {
            session_id: session.as_str(),
            id: key,
            message_id: Some(self.message_id),
            seq: Some(self.seq),
            state,
            code: None,
            retry_after: None,
            hint,
        }
    }
}

/// The receipts of one session.
#[derive(Debug, Default)]
pub struct Receipts {
    by_key: HashMap<MessageKey, Receipt>,
    by_message: HashMap<MessageId, MessageKey>,
    /// Those that the agent has got, oldest first.
    accepted: VecDeque<MessageKey>,
    /// Those of them that wait for an answer, in the same order.
    unanswered: VecDeque<MessageKey>,
    /// The highest number answered by a reply, including writes not yet confirmed.
    answered_up_to: u64,
    /// The highest number being written when the last reply came.
    replied_up_to: u64,
    /// The number of the newest message that was seen.
    seen_up_to: u64,
}

impl Receipts {
    /// The receipt of a message that is already known under this key.
    pub fn get(&self, key: &str) -> Option<&Receipt> {
        self.by_key.get(key)
    }

    /// The same receipt, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Receipt> {
        self.by_key.get_mut(key)
    }

    /// Adds the receipt of a message that has no key yet.
    pub fn insert(&mut self, key: MessageKey, receipt: Receipt) {
        self.by_message.insert(receipt.message_id, key.clone());
        self.by_key.insert(key, receipt);
    }

    /// Removes and returns the receipt of a message, which is then a new one if it is sent again.
    pub fn remove(&mut self, key: &str) -> Option<Receipt> {
        let receipt = self.by_key.remove(key)?;
        self.by_message.remove(&receipt.message_id);
        Some(receipt)
    }

    /// Records that the agent has the message. Returns its receipt and the states it has
    /// reached by that; `None` if the key is another message's by now.
    pub fn mark_accepted(
        &mut self,
        key: &MessageKey,
        message_id: MessageId,
    ) -> Option<(&Receipt, &'static [DeliveryState])> {
        if self.accepted.len() == MAX_REMEMBERED
            && let Some(oldest) = self.accepted.pop_front()
        {
            self.remove(&oldest);
            self.unanswered.pop_front_if(|key| *key == oldest);
        }
        let receipt = self.by_key.get_mut(key)?;
        if receipt.message_id != message_id {
            return None;
        }
        self.accepted.push_back(key.clone());
        let reached: &[_] = if receipt.number <= self.answered_up_to {
            &[DeliveryState::Accepted, DeliveryState::Answered]
        } else {
            self.unanswered.push_back(key.clone());
            &[DeliveryState::Accepted]
        };
        receipt.state = reached.last().copied();
        Some((receipt, reached))
    }

    /// Records that the message is in the conversation. Returns its key and receipt if that
    /// is news.
    pub fn mark_seen(&mut self, message_id: MessageId) -> Option<(MessageKey, &Receipt)> {
        let key = self.by_message.get(&message_id)?.clone();
        let receipt = self.by_key.get_mut(&key)?;
        let is_news = matches!(
            receipt.state,
            Some(DeliveryState::Accepted | DeliveryState::Unseen)
        );
        if !is_news {
            return None;
        }
        receipt.state = Some(DeliveryState::Seen);
        self.seen_up_to = self.seen_up_to.max(receipt.number);
        Some((key, receipt))
    }

    /// Records that a message should have been seen by now. Returns what became of it, and its
    /// receipt if that is to be sent. If Claude has replied since, the hook is missing and
    /// not the message.
    pub fn mark_unseen(
        &mut self,
        number: u64,
        key: Option<&str>,
    ) -> (DeliveryState, Option<&Receipt>) {
        let state = if number <= self.replied_up_to {
            DeliveryState::Answered
        } else {
            DeliveryState::Unseen
        };
        let Some(receipt) = key.and_then(|key| self.by_key.get_mut(key)) else {
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
        (state, key.and_then(|key| self.by_key.get(key)))
    }

    /// Returns how many of those that wait for an answer have at most this number.
    fn unanswered_up_to(&self, number: u64) -> usize {
        let number_of = |key: &Arc<str>| self.by_key.get(key).map_or(0, |receipt| receipt.number);
        self.unanswered
            .partition_point(|key| number_of(key) <= number)
    }

    /// Records a reply, and returns the receipts of what it answers: everything that was
    /// accepted, and once that is confirmed, everything up to the number `up_to` that is being
    /// written. With `only_seen`, where hooks report what Claude has seen, everything up to
    /// the newest message it has seen.
    pub fn mark_answered(&mut self, up_to: u64, only_seen: bool) -> Vec<(MessageKey, &Receipt)> {
        self.replied_up_to = up_to;
        let answered: Vec<_> = if only_seen {
            let seen = self.unanswered_up_to(self.seen_up_to);
            self.unanswered.drain(..seen).collect()
        } else {
            self.answered_up_to = up_to;
            self.unanswered.drain(..).collect()
        };
        for key in &answered {
            if let Some(receipt) = self.by_key.get_mut(key) {
                receipt.state = Some(DeliveryState::Answered);
            }
        }
        let receipt = |key| self.by_key.get(&key).map(|receipt| (key, receipt));
        answered.into_iter().filter_map(receipt).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_the_same_in_every_build() {
        assert_eq!(
            Fingerprint::of("ann", "hi").0,
            [0xeb, 0xd4, 0xc2, 0x7b, 0x26, 0xd6, 0x6e, 0x20]
        );
        assert_ne!(Fingerprint::of("a", "bc"), Fingerprint::of("ab", "c"));
    }
}
