//! The turn: what an agent is doing and for whom, as far as hooks have reported.
//!
//! A turn begins with a prompt under a new id and ends with `Stop`. Not every end is
//! reported (pressing Esc fires no hook), and a reported end may not be final (another hook
//! may keep Claude at work), so a turn is kept until the next one begins.

use std::collections::VecDeque;
use std::sync::Arc;

use super::hook_event::{DeltaIndex, PromptId, TextId, ToolUseId};
use super::session::StatusUpdate;
use crate::protocol::{MessageId, SessionId, Status};

/// The most tools running at the same time that are remembered.
const MAX_TOOLS: usize = 64;
/// The most previous turns that a turn remembers.
const MAX_PREVIOUS: usize = 16;
/// The most messages of its own that a turn remembers.
const MAX_MESSAGES: usize = 64;

/// Where a prompt came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A session of this server, and which of its messages it is, if that is known.
    Session(SessionId, Option<MessageId>),
    /// The terminal, or whatever else is no message of this server.
    Terminal,
    /// Nobody known, such as a session that has expired.
    Unknown,
}

/// Whose clients are shown a turn's statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience<'a> {
    /// Those of every session: the turn was begun in the terminal.
    Everyone,
    /// Those of the sessions whose messages it answers.
    Sessions(&'a [SessionId]),
}

/// The latest turn.
#[derive(Debug, Default)]
pub struct Turn {
    id: PromptId,
    /// The turns before it, newest last.
    previous: VecDeque<PromptId>,
    /// It has not ended, as far as is known.
    running: bool,
    /// Nothing but prompts was reported of it.
    is_fresh: bool,
    /// It was begun in the terminal.
    from_terminal: bool,
    /// Some of its prompts are not from a session of this server.
    is_mixed: bool,
    /// The sessions whose messages it answers.
    sessions: Vec<SessionId>,
    /// These messages, newest last.
    messages: VecDeque<MessageId>,
    /// Claude has replied to one of the sessions since the newest message.
    has_replied: bool,
    /// Uses of the reply tool that a hook has reported and that have not arrived yet.
    pending_replies: u32,
    /// The running tools, newest last.
    tools: Vec<RunningTool>,
    /// The delta that was streamed last: its text, and its place in that.
    last_delta: Option<(TextId, DeltaIndex)>,
    /// The text that was delivered as its reply.
    last_transcript: Option<Arc<str>>,
}

#[derive(Debug)]
struct RunningTool {
    tool_use: ToolUseId,
    name: Arc<str>,
    detail: Arc<str>,
}

impl Turn {
    /// Returns a turn that begins with this prompt.
    pub fn new(id: PromptId, origin: Origin) -> Self {
        let mut turn = Self {
            id,
            running: true,
            is_fresh: true,
            from_terminal: origin == Origin::Terminal,
            ..Self::default()
        };
        turn.add(origin);
        turn
    }

    /// Links this turn to its predecessor. A prompt id that was seen before makes attribution
    /// unreliable, so the turn counts as mixed.
    pub fn link_previous(&mut self, old: &mut Self) {
        self.previous = std::mem::take(&mut old.previous);
        self.remember(old.id.clone());
        self.is_mixed |= self.previous.contains(&self.id);
    }

    fn remember(&mut self, previous: PromptId) {
        if !previous.is_empty() {
            self.previous.push_back(previous);
        }
        if self.previous.len() > MAX_PREVIOUS {
            self.previous.pop_front();
        }
    }

    /// Returns `true` if this is the prompt id of a previous turn.
    pub fn is_past(&self, id: &PromptId) -> bool {
        !self.has_prompt(id) && self.previous.contains(id)
    }

    /// Adds another prompt to the turn.
    pub fn add(&mut self, origin: Origin) {
        match origin {
            Origin::Session(id, message) => {
                if !self.sessions.contains(&id) {
                    self.sessions.push(id);
                }
                // A message wants a reply of its own, unless it was only reported again.
                if let Some(message) = message
                    && !self.messages.contains(&message)
                {
                    if self.messages.len() == MAX_MESSAGES {
                        self.messages.pop_front();
                    }
                    self.messages.push_back(message);
                    self.has_replied = false;
                }
            }
            Origin::Terminal | Origin::Unknown => self.is_mixed = true,
        }
    }

    /// Returns `true` if this is the prompt id of the turn. An event without one belongs to
    /// the current turn.
    pub fn has_prompt(&self, id: &PromptId) -> bool {
        id.is_empty() || *id == self.id
    }

    /// Takes another prompt id for this turn, and returns `true`, if nothing else was reported of the turn:
    /// messages that an idle Claude Code gets at once are one turn, whose further events bear the last one's id.
    pub fn absorb(&mut self, id: &PromptId) -> bool {
        if !self.running || !self.is_fresh || self.previous.contains(id) {
            return false;
        }
        let absorbed = std::mem::replace(&mut self.id, id.clone());
        self.remember(absorbed);
        true
    }

    /// Records that something else than a prompt was reported of the turn.
    pub fn note_activity(&mut self) {
        self.is_fresh = false;
    }

    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Records that the turn goes on, or goes on again.
    pub fn run(&mut self) {
        self.running = true;
    }

    /// Records that the turn has ended.
    pub fn stop(&mut self) {
        self.running = false;
        self.pending_replies = 0;
        self.tools.clear();
    }

    /// Returns whose clients are shown the turn's statuses.
    pub fn audience(&self) -> Audience<'_> {
        if self.from_terminal {
            Audience::Everyone
        } else {
            Audience::Sessions(&self.sessions)
        }
    }

    /// Returns the session that all prompts of the turn are from, if it is one.
    pub fn only_session(&self) -> Option<&SessionId> {
        match &self.sessions[..] {
            [session] if !self.is_mixed => Some(session),
            _ => None,
        }
    }

    /// Returns the status of the running turn.
    pub fn status(&self) -> StatusUpdate {
        match self.tools.last() {
            Some(tool) => StatusUpdate {
                status: Status::ToolUse,
                detail: Some(tool.detail.clone()),
            },
            None => StatusUpdate {
                status: Status::Thinking,
                detail: None,
            },
        }
    }

    /// Returns the status of a running turn that every session is shown.
    pub fn status_for_everyone(&self) -> Option<StatusUpdate> {
        let is_shown = self.running && self.audience() == Audience::Everyone;
        is_shown.then(|| self.status())
    }

    // ---- Tools ----

    /// Adds a running tool.
    pub fn tool_started(&mut self, tool_use: ToolUseId, name: Arc<str>, detail: Arc<str>) {
        self.tools.retain(|tool| tool.tool_use != tool_use);
        if self.tools.len() == MAX_TOOLS {
            self.tools.remove(0);
        }
        self.tools.push(RunningTool {
            tool_use,
            name,
            detail,
        });
    }

    /// Removes a tool that has run. Returns `true` if it was known.
    pub fn tool_ended(&mut self, tool_use: &ToolUseId) -> bool {
        let running = self.tools.len();
        self.tools.retain(|tool| tool.tool_use != *tool_use);
        self.tools.len() < running
    }

    /// Removes a tool of this name, which will not run. Returns `true` if one was known.
    pub fn tool_denied(&mut self, name: &str) -> bool {
        let place = self.tools.iter().position(|tool| *tool.name == *name);
        place.map(|place| self.tools.remove(place)).is_some()
    }

    // ---- Replies ----

    /// Records that a hook has reported a use of the reply tool.
    pub fn reply_reported(&mut self) {
        self.pending_replies += 1;
    }

    /// Records a reply to a session. Returns `true` if a hook has reported it: if not, hooks
    /// don't report in time what is going on.
    pub fn reply_delivered(&mut self, session: &SessionId) -> bool {
        self.has_replied |= self.sessions.contains(session);
        let was_reported = self.pending_replies > 0;
        self.pending_replies = self.pending_replies.saturating_sub(1);
        was_reported
    }

    /// Returns the session that gets Claude's last text of this turn as its reply, if Claude
    /// hasn't replied there. The same text is not delivered twice.
    pub fn unanswered(&mut self, text: &Arc<str>) -> Option<SessionId> {
        let session = self.only_session()?.clone();
        let is_delivered = self.last_transcript.as_ref() == Some(text);
        if self.has_replied || text.trim().is_empty() || is_delivered {
            return None;
        }
        self.last_transcript = Some(text.clone());
        Some(session)
    }

    // ---- Text ----

    /// Accepts a text delta. Returns the separator to send first (a blank line when a new text
    /// starts), or `None` for a duplicate. Deltas without ids are never duplicates.
    pub fn accept_delta(&mut self, text: TextId, index: DeltaIndex) -> Option<&'static str> {
        let next = (text, index);
        let last = self.last_delta.replace(next.clone());
        if last.as_ref() == Some(&next) && next != Default::default() {
            return None;
        }
        let begins_anew = last.is_some_and(|(text, _)| text != next.0);
        Some(if begins_anew { "\n\n" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_tools_are_bounded() {
        let mut turn = Turn::new(PromptId::new("p1"), Origin::Terminal);
        for number in 0..10_000 {
            let tool_use = ToolUseId::new(&number.to_string());
            turn.tool_started(tool_use, "Bash".into(), "x".into());
        }
        assert_eq!(turn.tools.len(), MAX_TOOLS);
    }

    #[test]
    fn duplicate_deltas_are_dropped_and_texts_separated() {
        let mut turn = Turn::new(PromptId::new("p1"), Origin::Terminal);
        let mut accept = |text, index| turn.accept_delta(TextId::new(text), DeltaIndex::new(index));
        assert_eq!(accept("m1", "0"), Some(""));
        assert_eq!(accept("m1", "0"), None);
        assert_eq!(accept("m1", "1"), Some(""));
        assert_eq!(accept("m2", "0"), Some("\n\n"));
        assert_eq!(accept("", ""), Some("\n\n"));
        assert_eq!(accept("", ""), Some(""));
    }
}
