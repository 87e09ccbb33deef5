//! The inbox: the messages that an agent has not been given yet, and those in flight.
//!
//! It is one queue. Messages at its front are in flight: they were taken by the writer, and
//! stay until they are known to be written, so that they can be given back if the agent ends.
//! The queue is bounded by holding back senders: the hub asks for that when a message makes
//! it full, and takes it back when half of it is free. So it can exceed the limits by one
//! message.

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::BLOCK;
use super::{Message, MessageKey};
use crate::protocol::{ConnId, SessionId};

/// A message on its way to an agent.
#[derive(Debug)]
pub struct InboxItem {
    /// The session it was said in.
    pub session: SessionId,
    /// Shared with the history.
    pub message: Arc<Message>,
    /// Its text for the agent, if that is another one.
    pub escaped: Option<Arc<str>>,
    /// The client's own id, if it gave one: somebody waits for a receipt.
    pub key: Option<MessageKey>,
    /// The connection that sent it.
    pub sender: ConnId,
    pub release: Release,
}

/// Whether the agent can be given a message, as far as the store is concerned. On disk, one that may have been given isn't
/// given again after a crash, so one that is on disk as waiting is first written as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It never was on disk as waiting.
    Free,
    /// It is on disk as waiting, or will be.
    Queued,
    /// It is given when this position of the journal is on disk.
    At(u64),
}

impl InboxItem {
    /// Memory of the item and of its entry in the queue, of which half may be empty, in bytes. The
    /// message is shared with the history only as long as it is there.
    fn bytes(&self) -> usize {
        let block = |text: &Arc<str>| BLOCK + text.len();
        let escaped = self.escaped.as_ref().map_or(0, block);
        let key = self.key.as_ref().map_or(0, block);
        2 * size_of::<(u64, Self)>() + self.message.bytes() + escaped + key
    }

    fn notification(&self, number: u64) -> Notification<'_> {
        Notification {
            number,
            session: &self.session,
            message: &self.message,
            content: self.escaped.as_ref().unwrap_or(&self.message.content),
            is_awaited: self.key.is_some(),
        }
    }
}

/// A message that is to be written to an agent.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// Counts an agent's messages, from 1.
    pub number: u64,
    /// The session it was said in; `chat_id` for Claude.
    pub session: &'a SessionId,
    pub message: &'a Message,
    /// Its text, without channel tags.
    pub content: &'a str,
    /// Somebody waits to hear that it was written: a client for its receipt.
    pub is_awaited: bool,
}

/// The queue of one agent.
#[derive(Debug)]
pub struct Inbox {
    /// The messages with their numbers, which ascend.
    queue: VecDeque<(u64, InboxItem)>,
    /// How many of them, from the front, are in flight.
    in_flight: usize,
    /// The number of the newest message; 0 before the first.
    last: u64,
    /// The senders of the messages up to this number were told that they wait, as far as they do.
    told: u64,
    /// The bytes of all of them.
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    /// Senders are held back.
    is_full: bool,
}

impl Inbox {
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            in_flight: 0,
            last: 0,
            told: 0,
            bytes: 0,
            max_messages,
            max_bytes,
            is_full: false,
        }
    }

    /// Adds a message and returns its number.
    pub fn push(&mut self, item: InboxItem) -> u64 {
        self.last += 1;
        self.bytes += item.bytes();
        self.queue.push_back((self.last, item));
        self.last
    }

    /// The number of the newest message; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns the oldest message that isn't in flight, and counts it as in flight.
    pub fn next(&mut self) -> Option<Notification<'_>> {
        let (number, item) = self.queue.get(self.in_flight)?;
        self.in_flight += 1;
        Some(item.notification(*number))
    }

    /// Returns whether the oldest message that isn't in flight can be given.
    pub fn next_release(&self) -> Release {
        let next = self.queue.get(self.in_flight);
        next.map_or(Release::Free, |(_, item)| item.release)
    }

    /// The oldest messages that are not in flight, as far as they are on disk as waiting.
    pub fn queued_mut(&mut self) -> impl Iterator<Item = &mut InboxItem> {
        let waiting = self.queue.range_mut(self.in_flight..);
        let items = waiting.map(|(_, item)| item);
        items.take_while(|item| item.release == Release::Queued)
    }

    /// Returns the next message that waits on disk, which is so far up to the position `stored` of the journal, and whose
    /// sender hasn't been told that.
    pub fn next_untold(&mut self, stored: u64) -> Option<&InboxItem> {
        let told = self.told;
        let first = self.queue.partition_point(|(number, _)| *number <= told);
        for place in first.max(self.in_flight)..self.queue.len() {
            let (number, item) = &self.queue[place];
            if item.message.position > stored {
                return None;
            }
            self.told = *number;
            if item.release == Release::Queued && item.key.is_some() {
                return self.queue.get(place).map(|(_, item)| item);
            }
        }
        None
    }

    /// Removes and returns the messages of a session, in flight or not.
    pub fn remove_session(&mut self, session: &SessionId) -> Vec<InboxItem> {
        let (mut removed, mut in_flight) = (Vec::new(), 0);
        let queue = std::mem::take(&mut self.queue).into_iter();
        for (place, (number, item)) in queue.enumerate() {
            if item.session == *session {
                self.bytes -= item.bytes();
                removed.push(item);
                continue;
            }
            in_flight += usize::from(place < self.in_flight);
            self.queue.push_back((number, item));
        }
        self.in_flight = in_flight;
        removed
    }

    /// Returns the oldest message in flight, to be written once more.
    pub fn repeat(&self) -> Option<Notification<'_>> {
        let (number, item) = self.queue.front().filter(|_| self.in_flight > 0)?;
        Some(item.notification(*number))
    }

    /// Removes and returns the oldest message if its number is at most `number`: it was written.
    pub fn pop_written(&mut self, number: u64) -> Option<InboxItem> {
        if self.in_flight == 0 {
            return None;
        }
        let (_, written) = self.queue.pop_front_if(|(first, _)| *first <= number)?;
        self.bytes -= written.bytes();
        self.in_flight -= 1;
        Some(written)
    }

    /// Removes and returns the messages that are not in flight and whose sender's grant is not
    /// valid, oldest first.
    pub fn remove_invalid(&mut self, is_valid: impl Fn(u64) -> bool) -> Vec<InboxItem> {
        let mut removed = Vec::new();
        for (number, item) in self.queue.split_off(self.in_flight) {
            if is_valid(item.message.author.grant_id()) {
                self.queue.push_back((number, item));
            } else {
                self.bytes -= item.bytes();
                removed.push(item);
            }
        }
        removed
    }

    /// Removes all messages, in flight or not, and returns them with their numbers, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = (u64, InboxItem)> + use<> {
        self.in_flight = 0;
        self.bytes = 0;
        std::mem::take(&mut self.queue).into_iter()
    }

    /// Returns `true` if a message of this session is in it.
    pub fn has_session(&self, session: &SessionId) -> bool {
        self.queue.iter().any(|(_, item)| item.session == *session)
    }

    /// The messages in flight with their numbers, oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = (u64, &InboxItem)> {
        let in_flight = self.queue.iter().take(self.in_flight);
        in_flight.map(|(number, item)| (*number, item))
    }

    /// Returns `Some(true)` if senders must be held back from now on, `Some(false)` if they
    /// may go on. The limits are apart by half, so that senders are not stopped and woken for
    /// each message.
    pub fn poll_hold(&mut self) -> Option<bool> {
        let (messages, bytes) = (self.queue.len(), self.bytes);
        if !self.is_full && (messages >= self.max_messages || bytes >= self.max_bytes) {
            self.is_full = true;
        } else if self.is_full && messages <= self.max_messages / 2 && bytes <= self.max_bytes / 2 {
            self.is_full = false;
        } else {
            return None;
        }
        Some(self.is_full)
    }
}
