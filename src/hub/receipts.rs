//! What became of messages: the receipts of those to which clients gave an `id`, the key to
//! accepting a resent message only once; and which messages wait for an answer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use sha2::{Digest, Sha256};

use super::MessageKey;
use super::journal::Journal;
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

    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
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
    /// Its place among the journal's changes, as [`super::Message`] has it, or that of its newest state.
    pub position: u64,
    /// `None` until its sender can be told anything.
    pub state: Option<DeliveryState>,
    /// The connection that sent it last, and gets its receipts.
    pub client: ConnId,
}

impl Receipt {
    /// The agent has the message, or had it.
    pub fn is_given(&self) -> bool {
        !matches!(self.state, None | Some(DeliveryState::Queued))
    }

    /// Has its client told nothing more before the newest change is on disk: what it is told must hold after a crash.
    pub fn wait_for(&mut self, journal: &Journal) {
        self.position = journal.newest();
    }

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
    /// Its place in the session.
    seq: u64,
    /// The client's own id, if it gave one.
    key: Option<MessageKey>,
    /// It is in the conversation.
    is_seen: bool,
}

/// A message of which something is known now.
#[derive(Debug)]
pub struct Reached {
    /// Its place in the session.
    pub seq: u64,
    /// Its key, if its sender is to be told.
    pub key: Option<MessageKey>,
}

/// The keys that are not in memory any more.
#[derive(Debug, Default)]
enum Forgotten {
    /// None are, or they are forgotten for good.
    #[default]
    None,
    /// Those with these hashes are in the store.
    Hashes(Box<(RandomState, HashSet<u64>)>),
    /// Any can be in the store.
    Any,
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
    forgotten: Forgotten,
    /// The key of which the store has just said that it doesn't know it.
    unknown: Option<MessageKey>,
}

impl Receipts {
    /// Returns the receipts of a session in the store, which has so many: none is in memory.
    pub fn restored(keys: usize) -> Self {
        Self {
            forgotten: if keys > 0 {
                Forgotten::Any
            } else {
                Forgotten::None
            },
            ..Self::default()
        }
    }

    /// Returns `true` if the receipt of this key isn't in memory and may be in the store.
    pub fn must_look_up(&self, key: &MessageKey) -> bool {
        if self.by_key.contains_key(key) || self.unknown.as_ref() == Some(key) {
            return false;
        }
        match &self.forgotten {
            Forgotten::None => false,
            Forgotten::Hashes(forgotten) => forgotten.1.contains(&forgotten.0.hash_one(key)),
            Forgotten::Any => true,
        }
    }

    /// Adds what the store knows of a key.
    pub fn looked_up(&mut self, key: MessageKey, receipt: Option<Receipt>) {
        match receipt {
            Some(receipt) => {
                self.accepted.push_back(key.clone());
                self.by_key.insert(key, receipt);
            }
            None => self.unknown = Some(key),
        }
    }

    /// Returns the oldest key of those that the agent has, if it may be forgotten. One whose message is not on disk is
    /// known nowhere else: its sender would be told nothing, and the message would be a new one if it is sent again.
    fn pop_forgettable(&mut self, stored: Option<u64>) -> Option<MessageKey> {
        let by_key = &self.by_key;
        self.accepted.pop_front_if(|key| {
            let position = by_key.get(key).map(|receipt| receipt.position);
            stored.is_none() || position <= stored
        })
    }

    /// Removes a key from memory, that is in the store if `is_kept`.
    fn forget(&mut self, key: &MessageKey, is_kept: bool) {
        if self.by_key.remove(key).is_none() || !is_kept {
            return;
        }
        if matches!(self.forgotten, Forgotten::None) {
            self.forgotten = Forgotten::Hashes(Box::default());
        }
        if let Forgotten::Hashes(forgotten) = &mut self.forgotten {
            let hash = forgotten.0.hash_one(key);
            forgotten.1.insert(hash);
        }
    }

    /// Returns the keys and fingerprints by the seqs of their messages.
    pub fn keys_by_seq(&self) -> HashMap<u64, (MessageKey, Fingerprint)> {
        let keys = self.by_key.iter();
        keys.map(|(key, receipt)| (receipt.seq, (key.clone(), receipt.fingerprint)))
            .collect()
    }

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
    pub fn await_answer(
        &mut self,
        number: u64,
        message_id: MessageId,
        seq: u64,
        key: Option<MessageKey>,
    ) {
        if self.unanswered.len() == MAX_REMEMBERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(Unanswered {
            number,
            message_id,
            seq,
            key,
            is_seen: false,
        });
    }

    /// Returns their memory, in bytes.
    pub fn bytes(&self) -> usize {
        let receipts: usize = self.by_key.keys().map(receipt_bytes).sum();
        let forgotten = match &self.forgotten {
            Forgotten::Hashes(forgotten) => SPARE * forgotten.1.len() * (size_of::<u64>() + 1),
            Forgotten::None | Forgotten::Any => 0,
        };
        receipts + self.unanswered.len() * UNANSWERED_BYTES + forgotten
    }

    /// Forgets the oldest messages that the agent has until `max` bytes are left. Those must be on disk up to
    /// the position `stored`; `None` if the session is in memory only.
    pub fn truncate(&mut self, max: usize, stored: Option<u64>) {
        if self.bytes() <= max {
            return;
        }
        if stored.is_some() {
            self.forgotten = Forgotten::Any;
        }
        let mut bytes = self.bytes();
        while bytes > max
            && let Some(key) = self.pop_forgettable(stored)
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

    /// Records that a message waits for no answer.
    pub fn stop_waiting(&mut self, message_id: MessageId) {
        self.unanswered
            .retain(|waiting| waiting.message_id != message_id);
    }

    /// Removes a message that the agent will not get, and returns its receipt. Sent again, the
    /// message is a new one.
    pub fn remove(&mut self, message_id: MessageId, key: Option<&MessageKey>) -> Option<Receipt> {
        self.stop_waiting(message_id);
        self.by_key.remove(key?)
    }

    /// Records that the agent has the message. Returns its receipt and the states it has
    /// reached by that; `None` if that is known, or if the key is another message's by now. What makes room for it
    /// must be on disk up to the position `stored`; `None` if the session is in memory only.
    pub fn mark_accepted(
        &mut self,
        key: &MessageKey,
        message_id: MessageId,
        stored: Option<u64>,
    ) -> Option<(&mut Receipt, &'static [DeliveryState])> {
        while self.accepted.len() >= MAX_REMEMBERED
            && let Some(oldest) = self.pop_forgettable(stored)
        {
            self.forget(&oldest, stored.is_some());
        }
        let receipt = self.by_key.get_mut(key)?;
        if receipt.message_id != message_id || receipt.is_given() {
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

    /// Records that a message is in the conversation. Returns it if that is news, with its key if it is for its sender.
    pub fn mark_seen(&mut self, message_id: MessageId) -> Option<Reached> {
        // Where nothing is ever answered, the latest are the last.
        let mut waiting = self.unanswered.iter_mut().rev();
        let waiting = waiting.find(|waiting| waiting.message_id == message_id)?;
        if std::mem::replace(&mut waiting.is_seen, true) {
            return None;
        }
        let (seq, key) = (waiting.seq, waiting.key.clone());
        let known = key.and_then(|key| {
            self.by_key.get_mut(&key)?.state = Some(DeliveryState::Seen);
            Some(key)
        });
        Some(Reached { seq, key: known })
    }

    /// Records that a message should have been seen by now. Returns its receipt if that is news.
    pub fn mark_unseen(&mut self, key: &str) -> Option<&Receipt> {
        let receipt = self.by_key.get_mut(key)?;
        if receipt.is_given() && receipt.state != Some(DeliveryState::Accepted) {
            return None;
        }
        receipt.state = Some(DeliveryState::Unseen);
        Some(receipt)
    }

    /// Records a reply, and returns what it answers, with the keys of those whose senders are to be told.
    pub fn mark_answered(&mut self, answered: Answered) -> Vec<Reached> {
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
        let mut reached = Vec::with_capacity(removed.len());
        for Unanswered {
            number, seq, key, ..
        } in removed
        {
            let receipt = key.as_ref().and_then(|key| self.by_key.get_mut(key));
            let is_given = match receipt {
                Some(receipt) if receipt.is_given() => {
                    receipt.state = Some(DeliveryState::Answered);
                    true
                }
                Some(_) => {
                    self.answered_up_to = self.answered_up_to.max(number);
                    false
                }
                None => false,
            };
            let key = key.filter(|_| is_given);
            reached.push(Reached { seq, key });
        }
        reached
    }

    /// Records that the agent has ended. Returns the messages that were written to it and not seen, with the keys of those
    /// whose senders are to be told; they wait for no answer any more.
    pub fn mark_agent_ended(&mut self, state: DeliveryState) -> Vec<Reached> {
        let mut unseen = Vec::new();
        for waiting in std::mem::take(&mut self.unanswered) {
            if waiting.is_seen {
                continue;
            }
            let Unanswered { seq, key, .. } = waiting;
            let told = key.filter(|key| {
                let receipt = self.by_key.get_mut(key);
                let receipt =
                    receipt.filter(|receipt| receipt.state == Some(DeliveryState::Accepted));
                receipt.map(|receipt| receipt.state = Some(state)).is_some()
            });
            unseen.push(Reached { seq, key: told });
        }
        unseen
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

    /// Nobody else knows it.
    #[test]
    fn what_is_not_on_disk_is_not_forgotten() {
        let mut receipts = Receipts::default();
        let all = MAX_REMEMBERED as u64 + 10;
        let accept = |receipts: &mut Receipts, number: u64, stored| {
            let key: MessageKey = number.to_string().into();
            let message_id = MessageId(uuid::Uuid::from_u128(number.into()));
            let receipt = Receipt {
                message_id,
                seq: number,
                fingerprint: Fingerprint::of("ann", "hi"),
                number,
                position: number,
                state: None,
                client: ConnId(1),
            };
            receipts.insert(key.clone(), receipt);
            assert!(receipts.mark_accepted(&key, message_id, stored).is_some());
        };
        for number in 1..=all {
            accept(&mut receipts, number, Some(0));
        }
        receipts.truncate(0, Some(0));
        assert!((1..=all).all(|number| receipts.get(&number.to_string()).is_some()));
        accept(&mut receipts, all + 1, Some(20));
        let oldest = (1..).find(|number: &u64| receipts.get(&number.to_string()).is_some());
        assert_eq!(oldest, Some(12), "no more than are remembered");
        receipts.truncate(0, Some(20));
        let oldest = (1..).find(|number: &u64| receipts.get(&number.to_string()).is_some());
        assert_eq!(oldest, Some(21));
    }
}
