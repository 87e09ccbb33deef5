//! The turn: what Claude is at and for whom, as far as Claude Code's hooks have told.
//!
//! A turn begins with a prompt under a new id and ends with `Stop`. Not every end is
//! told (pressing Esc fires nothing), and an end isn't always one (somebody else's hook
//! may keep Claude at work), so a turn is kept until the next one begins.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::protocol::{Activity, MessageId, SessionId};

/// How many tools that run at the same time are remembered.
const MAX_TOOLS: usize = 64;
/// How many turns before it a turn remembers.
const MAX_FORMER: usize = 16;
/// How much of an id of Claude Code's is kept, in characters; its own have 36.
const MAX_ID: usize = 64;

/// An id of Claude Code's, of a prompt, a tool use or a message. It may be empty: then
/// it wasn't told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookId(Box<str>);

impl HookId {
    /// Takes a text as an id, as much of it as is needed.
    pub fn new(text: &str) -> Self {
        let end = text.char_indices().nth(MAX_ID);
        Self(text[..end.map_or(text.len(), |(end, _)| end)].into())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a prompt came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a session of ours, and which of its messages it is, if that is known.
    Session(SessionId, Option<MessageId>),
    /// From the terminal, or whatever else is no message of ours.
    Terminal,
    /// From nobody who is known, such as a session that has expired.
    Unknown,
}

/// Whom a turn's statuses are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience<'a> {
    /// Somebody at the terminal has begun it, so everyone may wonder.
    Everyone,
    /// Those whose messages it answers.
    Sessions(&'a [SessionId]),
}

/// The latest turn.
#[derive(Debug, Default)]
pub struct Turn {
    id: HookId,
    /// The turns before it, latest last.
    former: VecDeque<HookId>,
    /// It goes on, as far as is known.
    running: bool,
    /// It was begun at the terminal.
    from_terminal: bool,
    /// Something of it isn't from a session of ours.
    is_mixed: bool,
    /// The sessions whose messages it answers.
    sessions: Vec<SessionId>,
    /// The latest of these messages; ids ascend.
    latest: Option<MessageId>,
    /// Claude has replied to one of the sessions since that message.
    has_replied: bool,
    /// Uses of the reply tool that a hook has told, and that have not come yet.
    announced: u32,
    /// The tools that run, latest last.
    tools: Vec<Running>,
    /// The piece of text that was streamed last: its message, and its place in that.
    streamed: Option<(HookId, HookId)>,
    /// What was delivered as its reply, as a hash.
    delivered: Option<u64>,
}

/// A tool that runs.
#[derive(Debug)]
struct Running {
    tool_use: HookId,
    name: Arc<str>,
    detail: Arc<str>,
}

impl Turn {
    /// A turn that begins.
    pub fn new(id: HookId, origin: Origin) -> Self {
        let mut turn = Self {
            id,
            running: true,
            from_terminal: origin == Origin::Terminal,
            ..Self::default()
        };
        turn.add(origin);
        turn
    }

    /// It comes after this one. If it has been there before, nothing is certain of it.
    pub fn follow(&mut self, old: &mut Self) {
        self.former = std::mem::take(&mut old.former);
        if !old.id.is_empty() {
            self.former.push_back(old.id.clone());
        }
        if self.former.len() > MAX_FORMER {
            self.former.pop_front();
        }
        self.is_mixed |= self.former.contains(&self.id);
    }

    /// Whether something under this prompt id belongs to a turn before it.
    pub fn is_past(&self, id: &HookId) -> bool {
        !self.owns(id) && self.former.contains(id)
    }

    /// Another prompt has come into it.
    pub fn add(&mut self, origin: Origin) {
        match origin {
            Origin::Session(id, message) => {
                if !self.sessions.contains(&id) {
                    self.sessions.push(id);
                }
                // It wants a reply of its own, unless it is only told of again.
                if message > self.latest {
                    self.latest = message;
                    self.has_replied = false;
                }
            }
            Origin::Terminal | Origin::Unknown => self.is_mixed = true,
        }
    }

    /// Whether something under this prompt id belongs to it. What has no id belongs to
    /// whatever is there.
    pub fn owns(&self, id: &HookId) -> bool {
        id.is_empty() || *id == self.id
    }

    /// Whether it goes on.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// It goes on, or goes on again.
    pub fn run(&mut self) {
        self.running = true;
    }

    /// It is over.
    pub fn stop(&mut self) {
        self.running = false;
        self.announced = 0;
        self.tools.clear();
    }

    /// Whom its statuses are for.
    pub fn audience(&self) -> Audience<'_> {
        if self.from_terminal {
            Audience::Everyone
        } else {
            Audience::Sessions(&self.sessions)
        }
    }

    /// The session that it is all about, if there is exactly one, and nobody else.
    pub fn only_session(&self) -> Option<&SessionId> {
        match &self.sessions[..] {
            [session] if !self.is_mixed => Some(session),
            _ => None,
        }
    }

    /// What to show of it while it runs.
    pub fn status(&self) -> (Activity, Option<Arc<str>>) {
        match self.tools.last() {
            Some(tool) => (Activity::ToolUse, Some(tool.detail.clone())),
            None => (Activity::Thinking, None),
        }
    }

    // ---- Tools ----

    /// A tool begins to run.
    pub fn tool_started(&mut self, tool_use: HookId, name: Arc<str>, detail: Arc<str>) {
        self.tools.retain(|tool| tool.tool_use != tool_use);
        if self.tools.len() == MAX_TOOLS {
            self.tools.remove(0);
        }
        self.tools.push(Running {
            tool_use,
            name,
            detail,
        });
    }

    /// It has run. Whether it was known to.
    pub fn tool_ended(&mut self, tool_use: &HookId) -> bool {
        let running = self.tools.len();
        self.tools.retain(|tool| tool.tool_use != *tool_use);
        self.tools.len() < running
    }

    /// A tool of this name won't run. Whether one was known to.
    pub fn tool_denied(&mut self, name: &str) -> bool {
        let place = self.tools.iter().position(|tool| *tool.name == *name);
        place.map(|place| self.tools.remove(place)).is_some()
    }

    // ---- Replies ----

    /// Claude is about to use the reply tool.
    pub fn announce_reply(&mut self) {
        self.announced += 1;
    }

    /// Claude has replied to a session. Whether a hook has told so before: if not, hooks
    /// don't tell what goes on.
    pub fn replied(&mut self, session: &SessionId) -> bool {
        self.has_replied |= self.sessions.contains(session);
        let was_told = self.announced > 0;
        self.announced = self.announced.saturating_sub(1);
        was_told
    }

    /// Whom to give what Claude has said last in this turn, as nobody has had a reply.
    pub fn unanswered(&mut self, text: &str) -> Option<SessionId> {
        let session = self.only_session()?.clone();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let said = Some(hasher.finish());
        if self.has_replied || text.trim().is_empty() || self.delivered == said {
            return None;
        }
        self.delivered = said;
        Some(session)
    }

    // ---- Text ----

    /// A piece of what Claude says has appeared. What goes before it in a stream, or
    /// `None` if it came before.
    pub fn streamed(&mut self, message: HookId, index: HookId) -> Option<&'static str> {
        let next = Some((message, index));
        if next == self.streamed && next != Some(Default::default()) {
            return None;
        }
        let message = |piece: &Option<(HookId, HookId)>| piece.as_ref().map(|(id, _)| id.clone());
        let begins_anew = self.streamed.is_some() && message(&self.streamed) != message(&next);
        self.streamed = next;
        Some(if begins_anew { "\n\n" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_and_compared() {
        let long = "é".repeat(100);
        assert_eq!(HookId::new(&long), HookId::new(&"é".repeat(MAX_ID)));
        assert!(HookId::new("").is_empty());
    }

    #[test]
    fn what_never_ends_is_forgotten() {
        let mut turn = Turn::new(HookId::new("p1"), Origin::Terminal);
        for number in 0..10_000 {
            turn.tool_started(HookId::new(&number.to_string()), "Bash".into(), "x".into());
        }
        assert_eq!(turn.tools.len(), MAX_TOOLS);
    }

    #[test]
    fn pieces_are_told_apart() {
        let mut turn = Turn::new(HookId::new("p1"), Origin::Terminal);
        let mut piece = |message, index| turn.streamed(HookId::new(message), HookId::new(index));
        assert_eq!(piece("m1", "0"), Some(""));
        assert_eq!(piece("m1", "0"), None);
        assert_eq!(piece("m1", "1"), Some(""));
        assert_eq!(piece("m2", "0"), Some("\n\n"));
        // Without ids nothing can be told apart, so everything counts.
        assert_eq!(piece("", ""), Some("\n\n"));
        assert_eq!(piece("", ""), Some(""));
    }
}
