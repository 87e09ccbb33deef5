//! What became of messages: the receipts of those to which clients gave an `id`, the key to
//! accepting a resent message only once; and which messages wait for an answer.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};

use super::MessageKey;
use crate::protocol::{ConnId, DeliveryState, MessageId, ServerMessage, SessionId};

/// The most ids of accepted messages that a session remembers, as long as all receipts together have room, beside those of
/// all messages that are still in the inbox; and the most messages that wait for an answer. A client that
/// resends a message does so right after it has reconnected, so only the newest can come again.
const MAX_REMEMBERED: usize = 4_096;

/// What a map and two queues take for each entry, as half of their room may be free.
const SPARE: usize = 2;
/// The memory of a receipt but for its key, in bytes: a slot and its control byte in the map, and a place in the queue.
const RECEIPT_BYTES: usize =
    SPARE * (size_of::<(MessageKey, Receipt)>() + 1 + size_of::<MessageKey>());
/// The memory of a message that waits for an answer, in bytes.
const UNANSWERED_BYTES: usize = SPARE * size_of::<Unanswered>();
/// What a key takes beside its text, in bytes: two counters, and what the allocator keeps.
const KEY_BYTES: usize = 32;

/// Returns the memory that a message takes here until it is answered, in bytes.
pub fn bytes_of(key: Option<&MessageKey>) -> usize {
    UNANSWERED_BYTES + key.map_or(0, receipt_bytes)
}

fn receipt_bytes(key: &MessageKey) -> usize {
    RECEIPT_BYTES + KEY_BYTES + key.len()
}

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

    /// Returns the fingerprint that [`Fingerprint::to_bytes`] has returned.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
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

/// A message that waits for an answer.
#[derive(Debug)]
struct Unanswered {
    /// Its number among the agent's messages.
    number: u64,
    message_id: MessageId,
    /// The client's own id, if it gave one.
    key: Option<MessageKey>,
    /// It is in the conversation.
    is_seen: bool,
}

/// Which messages a reply answers.
#[derive(Clone, Copy, Debug)]
pub enum Answered {
    /// Those that Claude has seen, where hooks report it.
    Seen,
    /// Without hooks nobody knows what Claude has seen. This is known: the reply answers the message
    /// it names, and those before it; or if it names none, the oldest one, for Claude gets them
    /// in order. `written_up_to` is the highest number that is being written, though the
    /// last of them are not confirmed as written.
    Accepted {
        reply_to: Option<MessageId>,
        written_up_to: u64,
    },
}

/// The receipts of one session.
#[derive(Debug, Default)]
pub struct Receipts {
    by_key: HashMap<MessageKey, Receipt>,
    /// Those that the agent has got, oldest first.
    accepted: VecDeque<MessageKey>,
    /// The messages that wait for an answer, with an id or without, by number.
    unanswered: VecDeque<Unanswered>,
    /// The highest number that a reply has answered though it was not confirmed as written.
    answered_up_to: u64,
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
        self.by_key.insert(key, receipt);
    }

    /// Records that a message is in the agent's inbox, and waits for an answer from now on.
    pub fn await_answer(&mut self, number: u64, message_id: MessageId, key: Option<MessageKey>) {
        if self.unanswered.len() == MAX_REMEMBERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(Unanswered {
            number,
            message_id,
            key,
            is_seen: false,
        });
    }

    /// Returns their memory, in bytes.
    pub fn bytes(&self) -> usize {
        let receipts: usize = self.by_key.keys().map(receipt_bytes).sum();
        receipts + self.unanswered.len() * UNANSWERED_BYTES
    }

    /// Forgets the oldest messages that the agent has until `max` bytes are left.
    pub fn truncate(&mut self, max: usize) {
        let mut bytes = self.bytes();
        if bytes <= max {
            return;
        }
        while bytes > max
            && let Some(key) = self.accepted.pop_front()
        {
            if self.by_key.remove(&key).is_some() {
                bytes -= receipt_bytes(&key);
            }
        }
        let by_key = &self.by_key;
        let is_known = |key: &MessageKey| by_key.contains_key(key);
        self.unanswered
            .retain(|waiting| waiting.key.as_ref().is_none_or(is_known));
        // What has no id goes last.
        let excess = self.bytes().saturating_sub(max);
        for _ in 0..excess.div_ceil(UNANSWERED_BYTES) {
            self.unanswered
                .pop_front_if(|waiting| waiting.key.is_none());
        }
        self.by_key.shrink_to_fit();
        self.accepted.shrink_to_fit();
        self.unanswered.shrink_to_fit();
    }

    /// Returns `true` if a message waits for an answer.
    pub fn awaits_answer(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Removes a message that the agent will not get, and returns its receipt. Sent again, the
    /// message is a new one.
    pub fn remove(&mut self, message_id: MessageId, key: Option<&MessageKey>) -> Option<Receipt> {
        self.unanswered
            .retain(|waiting| waiting.message_id != message_id);
        self.by_key.remove(key?)
    }

    /// Records that the agent has the message. Returns its receipt and the states it has
    /// reached by that; `None` if that is known, or if the key is another message's by now.
    pub fn mark_accepted(
        &mut self,
        key: &MessageKey,
        message_id: MessageId,
    ) -> Option<(&Receipt, &'static [DeliveryState])> {
        if self.accepted.len() == MAX_REMEMBERED
            && let Some(oldest) = self.accepted.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        let receipt = self.by_key.get_mut(key)?;
        if receipt.message_id != message_id || receipt.state.is_some() {
            return None;
        }
        self.accepted.push_back(key.clone());
        let reached: &[_] = if receipt.number <= self.answered_up_to {
            &[DeliveryState::Accepted, DeliveryState::Answered]
        } else {
            &[DeliveryState::Accepted]
        };
        receipt.state = reached.last().copied();
        Some((receipt, reached))
    }

    /// Records that a message is in the conversation. Returns its key and receipt if that is news
    /// for its sender.
    pub fn mark_seen(&mut self, message_id: MessageId) -> Option<(MessageKey, &Receipt)> {
        // Where nothing is ever answered, the latest are the last.
        let mut waiting = self.unanswered.iter_mut().rev();
        let waiting = waiting.find(|waiting| waiting.message_id == message_id)?;
        waiting.is_seen = true;
        let key = waiting.key.clone()?;
        let receipt = self.by_key.get_mut(&key)?;
        let is_news = receipt.state != Some(DeliveryState::Seen);
        receipt.state = Some(DeliveryState::Seen);
        is_news.then_some((key, receipt))
    }

    /// Records that a message should have been seen by now. Returns its receipt if that is news.
    pub fn mark_unseen(&mut self, key: &str) -> Option<&Receipt> {
        let receipt = self.by_key.get_mut(key)?;
        if !matches!(receipt.state, None | Some(DeliveryState::Accepted)) {
            return None;
        }
        receipt.state = Some(DeliveryState::Unseen);
        Some(receipt)
    }

    /// Records a reply, and returns the receipts of what it answers.
    pub fn mark_answered(&mut self, answered: Answered) -> Vec<(MessageKey, &Receipt)> {
        let removed: VecDeque<Unanswered> = match answered {
            Answered::Seen => {
                let all = std::mem::take(&mut self.unanswered).into_iter();
                let (seen, rest) = all.partition(|waiting| waiting.is_seen);
                self.unanswered = rest;
                seen
            }
            Answered::Accepted {
                reply_to,
                written_up_to,
            } => {
                let named = reply_to.and_then(|id| {
                    let mut waiting = self.unanswered.iter();
                    waiting.position(|waiting| waiting.message_id == id)
                });
                let count = match (reply_to, named) {
                    (_, Some(place)) => place + 1,
                    // It names a message that was answered already.
                    (Some(_), None) => 0,
                    (None, None) => 1,
                };
                let written = self
                    .unanswered
                    .partition_point(|waiting| waiting.number <= written_up_to);
                let answered = self.unanswered.drain(..count.min(written)).collect();
                let waiting = self.unanswered.len();
                if self.unanswered.capacity() / 4 > waiting {
                    self.unanswered.shrink_to(SPARE * waiting);
                }
                answered
            }
        };
        let mut receipts = Vec::new();
        for Unanswered { number, key, .. } in removed {
            let Some(key) = key else { continue };
            let Some(receipt) = self.by_key.get_mut(&key) else {
                continue;
            };
            if receipt.state.is_some() {
                receipt.state = Some(DeliveryState::Answered);
                receipts.push(key);
            } else {
                self.answered_up_to = self.answered_up_to.max(number);
            }
        }
        let receipt = |key| self.by_key.get(&key).map(|receipt| (key, receipt));
        receipts.into_iter().filter_map(receipt).collect()
    }

    /// Records that the agent has ended. Returns the receipts of the messages that were written to it and
    /// not seen; they wait for no answer any more.
    pub fn mark_agent_ended(&mut self, state: DeliveryState) -> Vec<(MessageKey, &Receipt)> {
        let mut unseen = Vec::new();
        for Unanswered { key, is_seen, .. } in std::mem::take(&mut self.unanswered) {
            let Some(key) = key.filter(|_| !is_seen) else {
                continue;
            };
            if let Some(receipt) = self.by_key.get_mut(&key)
                && receipt.state == Some(DeliveryState::Accepted)
            {
                receipt.state = Some(state);
                unseen.push(key);
            }
        }
        let receipt = |key| self.by_key.get(&key).map(|receipt| (key, receipt));
        unseen.into_iter().filter_map(receipt).collect()
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
