//! Watches whether messages get into the conversation.
//!
//! Claude Code acknowledges nothing, and drops every message if its session was started
//! without the channel flag. Its hooks report each message that it puts into the
//! conversation. So where there are hooks, a message that isn't seen while the agent is
//! idle is missing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::inbox::InboxItem;
use super::{ChannelHealth, MessageKey};
use crate::protocol::{MessageId, SessionId};

/// The most unconfirmed, and the most missing, messages that are remembered.
const MAX_REMEMBERED: usize = 4_096;

/// For the sender of a missing message, when no message was ever seen.
const HINT_NEVER_SEEN: &str = "Claude Code has not put this message into its conversation; its session may have been \
     started without the channel flag, --channels or --dangerously-load-development-channels";
/// For `/healthz`, when messages are missing and none was ever seen.
pub const HINT_CHANNEL_OFF: &str = "Claude Code does not put apps' messages into its conversation; its session may have been \
     started without the channel flag, --channels or --dangerously-load-development-channels";
/// For the sender of a missing message, when others were seen.
const HINT_MESSAGE_SKIPPED: &str = "Claude Code has put other messages into its conversation, but not this one; if it \
     still matters, send it again under a new id";

/// A message that was written to the agent and not seen yet.
#[derive(Debug)]
pub struct Unconfirmed {
    /// The server's id of the message.
    pub message_id: MessageId,
    /// When it was written.
    pub since: Instant,
    /// Its session.
    pub session: SessionId,
    /// The client's own id, if it gave one.
    pub key: Option<MessageKey>,
}

impl Unconfirmed {
    /// Returns what is remembered of a message that was written at `since`.
    pub fn new(item: InboxItem, since: Instant) -> Self {
        Self {
            message_id: item.message.id,
            since,
            session: item.session,
            key: item.key,
        }
    }
}

/// What is known of the way into one agent's conversation.
#[derive(Debug)]
pub struct DeliveryMonitor {
    /// How long an idle agent may take to see a message.
    timeout: Duration,
    /// The plugin that started the server has hooks, so they must call.
    hooks_expected: bool,
    /// A hook has called.
    hooks_active: bool,
    /// Hooks report the prompts, and so what is seen.
    reports_prompts: bool,
    /// A message was seen.
    is_proven: bool,
    /// Messages that were not seen yet, oldest first.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Messages that were not seen in time.
    missing: VecDeque<(MessageId, SessionId)>,
    /// When the agent's last turn ended.
    idle_since: Option<Instant>,
}

impl DeliveryMonitor {
    /// `timeout` is how long an idle agent may take to see a message.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            hooks_expected: false,
            hooks_active: false,
            reports_prompts: false,
            is_proven: false,
            unconfirmed: VecDeque::new(),
            missing: VecDeque::new(),
            idle_since: None,
        }
    }

    /// Records that hooks must call.
    pub fn expect_hooks(&mut self) {
        self.hooks_expected = true;
    }

    /// Records that a hook has called.
    pub fn hook_received(&mut self) {
        self.hooks_active = true;
    }

    /// Records that a hook has reported a prompt.
    pub fn prompt_reported(&mut self) {
        self.reports_prompts = true;
    }

    /// Claude replied without the hook that precedes a reply. If no hook was ever received,
    /// hooks are assumed to be disabled, and `true` is returned.
    pub fn assume_no_hooks(&mut self) -> bool {
        if self.hooks_active {
            return false;
        }
        self.unconfirmed.clear();
        self.missing.clear();
        std::mem::take(&mut self.hooks_expected)
    }

    /// Returns `true` if hooks report, or must report, what is seen.
    pub fn has_hooks(&self) -> bool {
        self.reports_prompts || self.hooks_expected
    }

    /// Returns `true` if a message was seen.
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// When the agent's last turn ended.
    pub fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    /// Returns `true` if a hook has called.
    pub fn hooks_active(&self) -> bool {
        self.hooks_active
    }

    /// Adds a message that was written.
    pub fn add(&mut self, message: Unconfirmed) {
        if self.unconfirmed.len() == MAX_REMEMBERED {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back(message);
    }

    /// Records that a message was seen; `None` if it is no known one.
    pub fn confirm(&mut self, message_id: Option<MessageId>) {
        self.is_proven = true;
        let Some(message_id) = message_id else {
            return;
        };
        // Messages are mostly seen in order, so it is one of the first.
        let mut ids = self.unconfirmed.iter().map(|next| next.message_id);
        if let Some(place) = ids.position(|id| id == message_id) {
            self.unconfirmed.remove(place);
        }
        self.missing.retain(|(missing, _)| *missing != message_id);
    }

    /// Records that the agent has nothing to do from now on.
    pub fn mark_idle(&mut self, now: Instant) {
        self.idle_since = Some(now);
    }

    /// Returns when the next message is overdue, if the agent stays idle.
    pub fn deadline(&self) -> Option<Instant> {
        let since = self.unconfirmed.front()?.since;
        Some(self.idle_since.map_or(since, |idle| idle.max(since)) + self.timeout)
    }

    /// Removes and returns a message that is overdue.
    pub fn pop_overdue(&mut self, now: Instant) -> Option<Unconfirmed> {
        if self.deadline()? > now {
            return None;
        }
        self.unconfirmed.pop_front()
    }

    /// Records that a message is missing.
    pub fn mark_missing(&mut self, message: Unconfirmed) {
        if self.missing.len() == MAX_REMEMBERED {
            self.missing.pop_front();
        }
        self.missing
            .push_back((message.message_id, message.session));
    }

    /// What the sender of a missing message can do.
    pub fn hint(&self) -> &'static str {
        if self.is_proven {
            HINT_MESSAGE_SKIPPED
        } else {
            HINT_NEVER_SEEN
        }
    }

    /// What is known of the channel.
    pub fn channel(&self) -> ChannelHealth {
        let proven = match (self.is_proven, self.missing.is_empty()) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        };
        ChannelHealth {
            plugin: self.hooks_expected,
            hooks: self.hooks_active,
            proven,
            unseen: self.missing.len(),
            hint: (proven == Some(false)).then_some(HINT_CHANNEL_OFF.into()),
        }
    }
}
