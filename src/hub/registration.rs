//! When an agent can be given messages.
//!
//! Claude Code drops, without a word, what comes before it has registered the channel: that was 6 to 13 ms
//! after `notifications/initialized` on an idle machine, and over 100 ms on a busy one. Nothing tells when it
//! has happened. So messages wait a while after the start. Where hooks report what is seen, the
//! first message then goes alone, as a trial, and the others follow when it was seen.
//!
//! A Claude Code that only looks whether the server answers (`claude mcp list`, some 120 ms)
//! has ended by then, and gets no message.

use std::time::{Duration, Instant};

use crate::protocol::MessageId;

/// With hooks the wait is shorter by this factor: a trial that comes too early is repeated.
const HOOKS_SPEEDUP: u32 = 8;
/// How long an idle agent may take to see the trial before it is given again, at most.
const REPEAT_AFTER: Duration = Duration::from_secs(2);
/// How often the trial is given.
const MAX_ATTEMPTS: u32 = 3;

/// What is known of an agent's registration of the channel.
#[derive(Debug)]
pub struct Registration {
    /// How long messages wait.
    delay: Duration,
    /// How long an idle agent may take to see the trial before it is given again.
    repeat_after: Duration,
    /// When messages can be given; `None` before the agent has said that it is initialized.
    opens_at: Option<Instant>,
    /// When the agent can have them without doubt: a trial may be too early.
    settled_at: Option<Instant>,
    /// The agent has asked for the tools.
    has_listed_tools: bool,
    /// `opens_at` has passed.
    is_open: bool,
    trial: Trial,
    /// The trial's message, if it was given more than once.
    repeated: Option<Repeated>,
}

/// A message that was given more than once. All copies can get into the conversation: a menu that is open in the
/// terminal holds them, and no hook tells of that.
#[derive(Debug)]
struct Repeated {
    message_id: MessageId,
    /// How many copies must still be kept from the conversation, once one is in it.
    copies: u32,
    is_seen: bool,
}

/// The first message, where hooks report what is seen.
#[derive(Debug)]
enum Trial {
    /// No message was given yet.
    Ahead,
    /// One was given, and not seen yet.
    Running {
        /// Its number among the agent's messages.
        number: u64,
        /// How often it was given.
        attempts: u32,
        /// When it was written the last time.
        written: Option<Instant>,
        /// It is to be given again.
        is_due: bool,
    },
    /// A message was seen, or none was, or there are no hooks that could tell.
    Over,
}

/// What an agent can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    Nothing,
    /// The first message, as a trial.
    Trial,
    /// The trial once more.
    Repeat,
    Everything,
}

impl Registration {
    /// Messages wait for `delay` after the start. An idle agent may take `seen_timeout` to see one.
    pub fn new(delay: Duration, seen_timeout: Duration) -> Self {
        Self {
            delay,
            repeat_after: REPEAT_AFTER.min(seen_timeout),
            opens_at: None,
            settled_at: None,
            has_listed_tools: false,
            is_open: false,
            trial: Trial::Ahead,
            repeated: None,
        }
    }

    /// Records that the agent is initialized.
    pub fn initialized(&mut self, now: Instant, has_hooks: bool) {
        if self.opens_at.is_none() {
            self.wait(now, has_hooks);
        }
    }

    /// Records that the agent has asked for the tools. It registers the channel after that, when it
    /// does so for the first time.
    pub fn tools_listed(&mut self, now: Instant, has_hooks: bool) {
        let is_first = !std::mem::replace(&mut self.has_listed_tools, true);
        if is_first && self.opens_at.is_some() {
            self.wait(now, has_hooks);
        }
    }

    fn wait(&mut self, now: Instant, has_hooks: bool) {
        let factor = if has_hooks { HOOKS_SPEEDUP } else { 1 };
        self.opens_at = Some(now + self.delay / factor);
        self.settled_at = Some(now + self.delay);
        self.open(now);
    }

    fn open(&mut self, now: Instant) {
        self.is_open |= self.opens_at.is_some_and(|at| at <= now);
    }

    /// Returns what the agent can be given.
    pub fn admits(&self, has_hooks: bool) -> Admits {
        match self.trial {
            _ if !self.is_open => Admits::Nothing,
            Trial::Ahead if has_hooks => Admits::Trial,
            Trial::Running { is_due: true, .. } => Admits::Repeat,
            Trial::Running { .. } => Admits::Nothing,
            Trial::Ahead | Trial::Over => Admits::Everything,
        }
    }

    /// Records that a message is given.
    pub fn given(&mut self, admitted: Admits, number: u64, message_id: MessageId) {
        match (admitted, &mut self.trial) {
            (
                Admits::Repeat,
                Trial::Running {
                    attempts,
                    written,
                    is_due,
                    ..
                },
            ) => {
                *attempts += 1;
                *written = None;
                *is_due = false;
                let repeated = self.repeated.get_or_insert(Repeated {
                    message_id,
                    copies: 0,
                    is_seen: false,
                });
                repeated.copies += 1;
            }
            (Admits::Trial, trial) => {
                *trial = Trial::Running {
                    number,
                    attempts: 1,
                    written: None,
                    is_due: false,
                };
            }
            (_, trial) => *trial = Trial::Over,
        }
    }

    /// Records that a prompt is this message. Returns `true` if it is a copy of one that is already in the
    /// conversation.
    pub fn is_copy(&mut self, message_id: MessageId) -> bool {
        let Some(repeated) = &mut self.repeated else {
            return false;
        };
        if repeated.message_id != message_id || !std::mem::replace(&mut repeated.is_seen, true) {
            return false;
        }
        let is_copy = repeated.copies > 0;
        repeated.copies = repeated.copies.saturating_sub(1);
        is_copy
    }

    /// Records that the messages up to this number were written. Returns `true` if the trial is among them, which
    /// then waits to be seen.
    pub fn is_trial_written(&mut self, now: Instant, up_to: u64) -> bool {
        match &mut self.trial {
            Trial::Running {
                number, written, ..
            } if *number <= up_to => {
                written.get_or_insert(now);
                true
            }
            _ => false,
        }
    }

    /// Returns `true` if the agent can have a message that is written now.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.settled_at.is_some_and(|at| at <= now)
    }

    /// The number of the trial, if it is running.
    pub fn trial(&self) -> Option<u64> {
        match self.trial {
            Trial::Running { number, .. } => Some(number),
            Trial::Ahead | Trial::Over => None,
        }
    }

    /// Ends the trial, if it is running, and returns its number. All further messages can be given.
    pub fn end_trial(&mut self) -> Option<u64> {
        let number = self.trial()?;
        self.trial = Trial::Over;
        Some(number)
    }

    /// Returns when [`Registration::handle_timeout`] is due. An agent that is at work sees messages when it
    /// has the time; `idle_since` is when its last turn ended.
    pub fn poll_timeout(&self, is_idle: bool, idle_since: Option<Instant>) -> Option<Instant> {
        if !self.is_open {
            return self.opens_at;
        }
        match self.trial {
            Trial::Running {
                written: Some(written),
                is_due: false,
                ..
            } if is_idle => {
                Some(idle_since.map_or(written, |idle| idle.max(written)) + self.repeat_after)
            }
            _ => None,
        }
    }

    /// Does what is due. Returns `true` if the trial was not seen in time for the last time.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        is_idle: bool,
        idle_since: Option<Instant>,
    ) -> bool {
        self.open(now);
        let due = self.poll_timeout(is_idle, idle_since);
        let is_overdue = due.is_some_and(|at| at <= now);
        match &mut self.trial {
            Trial::Running {
                attempts, is_due, ..
            } if is_overdue => {
                *is_due = *attempts < MAX_ATTEMPTS;
                !*is_due
            }
            _ => false,
        }
    }
}
