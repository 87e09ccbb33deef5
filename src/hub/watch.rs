//! Whether messages really get into the conversation. Claude Code acknowledges nothing,
//! and drops everything if its session was started without the channel flag; but its
//! hooks show each message that it puts in. So where there are hooks, a message that
//! isn't seen while Claude Code has nothing else to do is missing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Channel;
use crate::protocol::{MessageId, SessionId};

/// How many messages that nobody has seen are remembered.
const KEPT: usize = 4_096;

/// What to try if no message was ever seen.
const NO_CHANNEL: &str = "Claude Code has not put this message into its conversation; its session may have been \
     started without the channel flag, --channels or --dangerously-load-development-channels";
/// The same, where no message in particular is meant.
pub const CHANNEL_OFF: &str = "Claude Code does not put apps' messages into its conversation; its session may have been \
     started without the channel flag, --channels or --dangerously-load-development-channels";
/// What to try if others were.
const NOT_THIS_ONE: &str = "Claude Code has put other messages into its conversation, but not this one; if it \
     still matters, send it again under a new id";

/// A message that nobody has seen yet.
#[derive(Debug)]
pub struct Waiting {
    /// The server's id of it.
    pub message_id: MessageId,
    /// Its number among the notifications.
    pub number: u64,
    /// When it was handed over, as far as is known.
    pub since: Instant,
    /// Its session.
    pub session: SessionId,
    /// The client's id of it, if it has one.
    pub key: Option<Arc<str>>,
}

/// What is known of the way into the conversation.
#[derive(Debug, Default)]
pub struct Watch {
    /// How long an idle Claude Code may take to see a message.
    patience: Duration,
    /// There must be hooks: the server was started by the plugin that has them.
    expected: bool,
    /// A hook has called.
    heard: bool,
    /// A message was seen.
    proven: bool,
    /// Those that wait to be seen, oldest first.
    waiting: VecDeque<Waiting>,
    /// Those that have waited too long.
    missing: VecDeque<(MessageId, SessionId)>,
    /// Claude Code has got the messages up to this number.
    handed_over: u64,
    /// When Claude Code's last turn ended.
    idle_since: Option<Instant>,
}

impl Watch {
    /// Nothing is known yet. `patience` is how long an idle Claude Code may take to see
    /// a message.
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// There must be hooks.
    pub fn expect_hooks(&mut self) {
        self.expected = true;
    }

    /// A hook has called.
    pub fn hear(&mut self) {
        self.heard = true;
    }

    /// Claude has done something that a hook should have told. Without any hook so far,
    /// there are none after all: they can be turned off.
    pub fn give_up(&mut self) {
        if !self.heard {
            self.expected = false;
            self.waiting.clear();
            self.missing.clear();
        }
    }

    /// Whether there are hooks.
    pub fn has_hooks(&self) -> bool {
        self.heard || self.expected
    }

    /// Whether a hook has called.
    pub fn is_heard(&self) -> bool {
        self.heard
    }

    /// A message goes to Claude Code.
    pub fn add(&mut self, waiting: Waiting) {
        if self.waiting.len() == KEPT {
            self.waiting.pop_front();
        }
        self.waiting.push_back(waiting);
    }

    /// Claude Code has got every message up to this number.
    pub fn handed_over(&mut self, now: Instant, number: u64) {
        let known = self.handed_over;
        if number <= known {
            return;
        }
        self.handed_over = number;
        let first = self.waiting.partition_point(|next| next.number <= known);
        for waiting in self.waiting.range_mut(first..) {
            if waiting.number > number {
                break;
            }
            if waiting.key.is_some() {
                waiting.since = now;
            }
        }
    }

    /// A message was seen.
    pub fn see(&mut self, message_id: Option<MessageId>) {
        self.proven = true;
        let Some(message_id) = message_id else {
            return;
        };
        let place = |next: &Waiting| next.message_id.cmp(&message_id);
        if let Ok(place) = self.waiting.binary_search_by(place) {
            self.waiting.remove(place);
        }
        self.missing.retain(|(missing, _)| *missing != message_id);
    }

    /// Claude has answered everything in a session.
    pub fn answered(&mut self, session: &SessionId) {
        if !self.missing.is_empty() {
            self.missing.retain(|(_, other)| other != session);
        }
    }

    /// Claude Code has nothing to do from now on.
    pub fn idle(&mut self, now: Instant) {
        self.idle_since = Some(now);
    }

    /// When the next message will have waited too long, if Claude Code stays idle.
    pub fn deadline(&self) -> Option<Instant> {
        let since = self.waiting.front()?.since;
        Some(self.idle_since.map_or(since, |idle| idle.max(since)) + self.patience)
    }

    /// Takes a message that has waited too long.
    pub fn overdue(&mut self, now: Instant) -> Option<Waiting> {
        if self.deadline()? > now {
            return None;
        }
        let next = self.waiting.front_mut()?;
        if next.number > self.handed_over {
            // Claude Code doesn't even read, so nobody can tell.
            next.since = now;
            return None;
        }
        self.waiting.pop_front()
    }

    /// It is missing.
    pub fn miss(&mut self, waiting: Waiting) {
        if self.missing.len() == KEPT {
            self.missing.pop_front();
        }
        self.missing
            .push_back((waiting.message_id, waiting.session));
    }

    /// What the sender of a missing message can do.
    pub fn hint(&self) -> &'static str {
        if self.proven {
            NOT_THIS_ONE
        } else {
            NO_CHANNEL
        }
    }

    /// What is known of the way into the conversation.
    pub fn channel(&self) -> Channel {
        let proven = match (self.proven, self.missing.is_empty()) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        };
        Channel {
            plugin: self.expected,
            hooks: self.heard,
            proven,
            unseen: self.missing.len(),
            hint: (proven == Some(false)).then_some(CHANNEL_OFF.into()),
        }
    }
}
