//! What follows from what Claude Code's hooks tell.
//!
//! They may tell late, twice or not at all, so nothing here is needed for a message to
//! arrive or a reply to go out.

use std::sync::Arc;

use log::info;

use super::event::{HookEvent, Tag, Tool};
use super::host::known;
use super::session::Shown;
use super::turn::{Audience, HookId, Origin, Turn};
use super::{Effects, Hub, Now, delivery, only};
use crate::protocol::{
    Activity, DeliveryState, MessageId, ServerMessage, SessionId, TERMINAL, Via,
};

impl Hub {
    /// There must be hooks, because the server was started by the plugin that has them.
    pub fn expect_hooks(&mut self) {
        self.watch.expect_hooks();
    }

    /// A hook has called.
    pub fn hook(&mut self, now: Now, event: HookEvent, fx: &mut impl Effects) {
        self.watch.hear();
        match event {
            HookEvent::Prompt { prompt, tag } => self.prompted(now, prompt, tag, fx),
            HookEvent::ToolStarted {
                prompt,
                by_subagent,
                tool_use,
                tool,
            } => {
                if self.goes_on(&prompt, by_subagent, fx) {
                    self.tool_started(tool_use, tool, fx);
                }
            }
            HookEvent::ToolEnded {
                prompt,
                tool_use,
                name,
                input,
            } => {
                self.tool_ran(&name, &input, fx);
                if self.turn.owns(&prompt) && self.turn.tool_ended(&tool_use) {
                    self.show_turn(fx);
                }
            }
            HookEvent::Displayed {
                prompt,
                message,
                index,
                delta,
            } => {
                if self.turn.owns(&prompt) && self.turn.is_running() {
                    self.displayed(message, index, &delta, fx);
                }
            }
            HookEvent::Stopped {
                prompt,
                text,
                in_background,
            } => {
                if !self.turn.is_past(&prompt) {
                    self.in_background = in_background;
                    self.answer_silence(now, &prompt, text, fx);
                    self.end_turn(now, None, fx);
                }
            }
            HookEvent::Failed { prompt, detail } => {
                if !self.turn.is_past(&prompt) {
                    self.end_turn(now, Some(detail), fx);
                }
            }
            HookEvent::Waiting if self.turn.is_running() => self.end_turn(now, None, fx),
            HookEvent::Waiting => {}
            HookEvent::Other => {}
        }
    }

    /// A tool that a verdict has kept from running.
    pub(super) fn tool_denied(&mut self, name: &str, fx: &mut impl Effects) {
        if self.turn.tool_denied(name) {
            self.show_turn(fx);
        }
    }

    fn prompted(&mut self, now: Now, prompt: HookId, tag: Option<Tag>, fx: &mut impl Effects) {
        let origin = match &tag {
            None => Origin::Terminal,
            Some(tag) => {
                self.seen(now, tag, fx);
                let session = self.sessions.get_key_value(tag.chat_id.as_str());
                session.map_or(Origin::Unknown, |(id, _)| {
                    Origin::Session(id.clone(), tag.message_id)
                })
            }
        };
        // Without an id it can't be told whether a turn begins, so it is none that
        // anything would be concluded from.
        let goes_on = if prompt.is_empty() {
            self.turn.is_running()
        } else {
            self.turn.owns(&prompt)
        };
        if goes_on {
            self.turn.run();
            self.turn.add(origin);
        } else {
            self.begin(Turn::new(prompt, origin), fx);
        }
        self.show_turn(fx);
    }

    /// A message is in the conversation.
    fn seen(&mut self, now: Now, tag: &Tag, fx: &mut impl Effects) {
        self.counts.seen += 1;
        self.watch.see(tag.message_id);
        let Some(message_id) = tag.message_id else {
            return;
        };
        if let Some(number) = self.on_its_way(message_id) {
            // Then Claude Code has got it, and those before it, whatever the writer has
            // come to say of that.
            self.handed_over(now, number, fx);
        }
        let Some((id, session)) = known(&mut self.sessions, &tag.chat_id) else {
            return;
        };
        if let Some((key, receipt)) = session.receipts.see(message_id) {
            let seen = delivery(&id, &key, receipt, DeliveryState::Seen, None);
            fx.send(only(receipt.client), &seen);
        }
    }

    /// The number of a message that is on its way, as far as is known.
    fn on_its_way(&self, message_id: MessageId) -> Option<u64> {
        let is_it = |id: &SessionId, key: &str| {
            let session = self.sessions.get(id)?;
            Some(session.receipts.get(key)?.message_id == message_id)
        };
        let mut all = self.on_their_way.iter();
        all.find(|(_, id, key)| is_it(id, key) == Some(true))
            .map(|(number, _, _)| *number)
    }

    /// Whether a tool use belongs to the turn that is known. One that has not been told
    /// of may have begun.
    fn goes_on(&mut self, prompt: &HookId, by_subagent: bool, fx: &mut impl Effects) -> bool {
        if self.turn.owns(prompt) {
            if !by_subagent {
                self.turn.run();
            }
            return self.turn.is_running();
        }
        if !by_subagent && !self.turn.is_running() && !self.turn.is_past(prompt) {
            self.begin(Turn::new(prompt.clone(), Origin::Unknown), fx);
        }
        false
    }

    fn tool_started(&mut self, tool_use: HookId, tool: Tool, fx: &mut impl Effects) {
        match tool {
            Tool::Reply => self.turn.announce_reply(),
            Tool::Own => {}
            Tool::Other { name, detail } => {
                self.turn.tool_started(tool_use, name, detail);
                self.show_turn(fx);
            }
        }
    }

    /// A tool that somebody was asked about has run, so it was allowed.
    fn tool_ran(&mut self, name: &str, input: &str, fx: &mut impl Effects) {
        if let Some(request) = self.permissions.ran(name, input) {
            info!("{request} was allowed in the terminal");
            self.resolved(&request, true, TERMINAL, fx);
        }
    }

    /// What Claude has said last is the reply to whoever has had none.
    fn answer_silence(&mut self, now: Now, prompt: &HookId, text: String, fx: &mut impl Effects) {
        if self.turn.owns(prompt)
            && let Some(id) = self.turn.unanswered(&text)
        {
            // Its session may have expired.
            let _ = self.say(now, id.as_str(), text, Some(Via::Transcript), fx);
        }
    }

    fn displayed(&mut self, message: HookId, index: HookId, delta: &str, fx: &mut impl Effects) {
        if delta.is_empty() {
            return;
        }
        let Some(gap) = self.turn.streamed(message, index) else {
            return;
        };
        let Some((id, session)) = self
            .turn
            .only_session()
            .and_then(|id| self.sessions.get_key_value(id))
        else {
            return;
        };
        let asked = |member: &_| self.clients.get(member).is_some_and(|client| client.stream);
        let piece = ServerMessage::Stream {
            session_id: id.as_str(),
            delta: &[gap, delta].concat(),
        };
        fx.send(session.members.iter().copied().filter(asked), &piece);
    }

    /// A turn begins, and so the one before is over, however it ended.
    fn begin(&mut self, turn: Turn, fx: &mut impl Effects) {
        self.settle_permissions(fx);
        let mut old = std::mem::replace(&mut self.turn, turn);
        self.turn.follow(&mut old);
        let stays = |id| match self.turn.audience() {
            Audience::Everyone => true,
            Audience::Sessions(sessions) => sessions.contains(id),
        };
        let left: Vec<_> = match old.audience() {
            Audience::Everyone => self
                .sessions
                .keys()
                .filter(|id| !stays(*id))
                .cloned()
                .collect(),
            Audience::Sessions(sessions) => {
                sessions.iter().filter(|id| !stays(*id)).cloned().collect()
            }
        };
        for id in left {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.show(&id, &Shown::default(), fx);
            }
        }
    }

    fn end_turn(&mut self, now: Now, detail: Option<Arc<str>>, fx: &mut impl Effects) {
        self.settle_permissions(fx);
        self.turn.stop();
        self.watch.idle(now.at);
        let status = Activity::Idle;
        self.show(&Shown { status, detail }, fx);
    }

    /// Nobody here has answered what is still open, and Claude has gone on without. But
    /// what runs in the background may still wait.
    fn settle_permissions(&mut self, fx: &mut impl Effects) {
        if self.in_background {
            return;
        }
        for request in self.permissions.settle() {
            info!("{request} was denied in the terminal");
            self.resolved(&request, false, TERMINAL, fx);
        }
    }

    /// Shows what the turn is at.
    fn show_turn(&mut self, fx: &mut impl Effects) {
        if self.turn.is_running() {
            let (status, detail) = self.turn.status();
            self.show(&Shown { status, detail }, fx);
        }
    }

    fn show(&mut self, status: &Shown, fx: &mut impl Effects) {
        match self.turn.audience() {
            Audience::Everyone => {
                for (id, session) in &mut self.sessions {
                    session.show(id, status, fx);
                }
            }
            Audience::Sessions(sessions) => {
                for id in sessions {
                    if let Some(session) = self.sessions.get_mut(id) {
                        session.show(id, status, fx);
                    }
                }
            }
        }
    }

    // ---- Time ----

    /// Looks after messages that Claude Code should have seen by now.
    pub(super) fn look_for_missing(&mut self, now: Now, fx: &mut impl Effects) {
        if self.turn.is_running() {
            return;
        }
        while let Some(waiting) = self.watch.overdue(now.at) {
            let session = self.sessions.get_mut(&waiting.session);
            let (state, receipt) = session.map_or((DeliveryState::Unseen, None), |session| {
                let key = waiting.key.as_deref();
                session.receipts.miss(waiting.number, key)
            });
            if let (Some(receipt), Some(key)) = (receipt, &waiting.key) {
                let hint = Some(self.watch.hint()).filter(|_| state == DeliveryState::Unseen);
                let message = delivery(&waiting.session, key, receipt, state, hint);
                fx.send(only(receipt.client), &message);
            }
            if state == DeliveryState::Unseen {
                self.watch.miss(waiting);
            }
        }
    }
}
