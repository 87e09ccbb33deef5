//! What follows from what hooks report.
//!
//! Hooks may report late, twice or not at all, so no reply depends on them, and no message for long: only those behind
//! the first one wait for a hook ([`super::registration`]).

use std::sync::Arc;

use log::{info, warn};

use super::delivery_monitor::Unconfirmed;
use super::frame_limit::cut;
use super::hook_event::{ChannelTag, DeltaIndex, HookEvent, PromptId, TextId, Tool, ToolUseId};
use super::receipts::Reached;
use super::session::StatusUpdate;
use super::tools::ReplyError;
use super::turn::{Audience, Origin, Turn};
use super::{Agent, AgentId, Effects, Hub, Now, ToolOutcome, find_session, session_mut};
use crate::protocol::{DeliveryState, ReplySource, ServerMessage, Status, TERMINAL};

impl Hub {
    /// Reacts to what a hook of an agent reports, and returns the answer to it.
    pub(super) fn hook(
        &mut self,
        now: Now,
        agent: AgentId,
        event: HookEvent,
        out: &mut impl Effects,
    ) -> ToolOutcome<'static> {
        let Agent {
            monitor,
            registration,
            ..
        } = &mut self.agents[agent];
        monitor.hook_received();
        match event {
            HookEvent::Prompt { tag: Some(tag), .. }
                if tag.message_id.is_some_and(|id| registration.is_copy(id)) =>
            {
                return ToolOutcome::PromptBlocked;
            }
            HookEvent::Prompt { prompt, tag } => self.prompted(now, agent, prompt, tag, out),
            HookEvent::ToolStarted {
                prompt,
                by_subagent,
                tool_use,
                tool,
            } => {
                if self.continues_turn(now, agent, &prompt, by_subagent, out) {
                    self.tool_started(agent, tool_use, tool, out);
                }
            }
            HookEvent::ToolEnded {
                prompt,
                tool_use,
                name,
                input,
            } => {
                self.tool_ran(now, agent, &name, &input, out);
                let turn = &mut self.agents[agent].turn;
                if turn.has_prompt(&prompt) && turn.tool_ended(&tool_use) {
                    self.show_turn(agent, out);
                }
            }
            HookEvent::TextDelta {
                prompt,
                text,
                index,
                delta,
            } => {
                let turn = &self.agents[agent].turn;
                if turn.has_prompt(&prompt) && turn.is_running() {
                    self.stream_delta(agent, text, index, &delta, out);
                }
            }
            HookEvent::Stopped {
                prompt,
                text,
                has_background_tasks,
            } => {
                if !self.agents[agent].turn.is_past(&prompt) {
                    self.agents[agent].has_background_tasks = has_background_tasks;
                    self.reply_from_transcript(now, agent, &prompt, text, out);
                    self.end_turn(now, agent, None, out);
                }
            }
            HookEvent::Failed { prompt, detail } => {
                if !self.agents[agent].turn.is_past(&prompt) {
                    self.end_turn(now, agent, Some(detail), out);
                }
            }
            HookEvent::Waiting if self.agents[agent].turn.is_running() => {
                self.end_turn(now, agent, None, out);
            }
            HookEvent::Waiting | HookEvent::Other => {}
        }
        ToolOutcome::Nothing
    }

    /// A verdict has kept a tool from running.
    pub(super) fn tool_denied(&mut self, agent: AgentId, name: &str, out: &mut impl Effects) {
        if self.agents[agent].turn.tool_denied(name) {
            self.show_turn(agent, out);
        }
    }

    fn prompted(
        &mut self,
        now: Now,
        agent: AgentId,
        prompt: PromptId,
        tag: Option<ChannelTag>,
        out: &mut impl Effects,
    ) {
        self.agents[agent].monitor.prompt_reported();
        let origin = match &tag {
            None => Origin::Terminal,
            Some(tag) => {
                self.seen(now, agent, tag, out);
                let session = find_session(&self.sessions, &tag.chat_id);
                session.map_or(Origin::Unknown, |id| {
                    Origin::Session(id.clone(), tag.message_id)
                })
            }
        };
        let turn = &mut self.agents[agent].turn;
        // Without an id there is no telling whether a turn begins, so it begins none.
        let continues = if prompt.is_empty() {
            turn.is_running()
        } else {
            turn.has_prompt(&prompt) || turn.absorb(&prompt)
        };
        if continues {
            turn.run();
            turn.add(origin);
        } else {
            self.begin_turn(now, agent, Turn::new(prompt, origin), out);
        }
        self.show_turn(agent, out);
    }

    /// A message is in the conversation.
    fn seen(&mut self, now: Now, agent: AgentId, tag: &ChannelTag, out: &mut impl Effects) {
        self.counters.seen += 1;
        if let Some(message_id) = tag.message_id {
            self.written_before_seen(now, agent, message_id, out);
        }
        self.agents[agent].monitor.confirm(tag.message_id);
        let Some(message_id) = tag.message_id else {
            return;
        };
        let Some((id, session)) = session_mut(&mut self.sessions, &tag.chat_id) else {
            return;
        };
        if let Some(Reached { seq, key }) = session.receipts.mark_seen(message_id) {
            let state = DeliveryState::Seen;
            session.set_state(seq, state, &mut self.journal);
            if let Some(key) = key
                && let Some(receipt) = session.receipts.get_mut(&key)
            {
                receipt.wait_for(&self.journal);
                self.journal.tell(receipt, &id, &key, state, None, out);
            }
        }
        self.note_proof(agent);
    }

    /// Returns `true` if a tool use belongs to the known turn. One that was not reported may have
    /// begun.
    fn continues_turn(
        &mut self,
        now: Now,
        agent: AgentId,
        prompt: &PromptId,
        by_subagent: bool,
        out: &mut impl Effects,
    ) -> bool {
        let turn = &mut self.agents[agent].turn;
        if turn.has_prompt(prompt) {
            if !by_subagent {
                turn.run();
            }
            return turn.is_running();
        }
        if !by_subagent && !turn.is_running() && !turn.is_past(prompt) {
            self.begin_turn(now, agent, Turn::new(prompt.clone(), Origin::Unknown), out);
        }
        false
    }

    fn tool_started(
        &mut self,
        agent: AgentId,
        tool_use: ToolUseId,
        tool: Tool,
        out: &mut impl Effects,
    ) {
        let turn = &mut self.agents[agent].turn;
        turn.note_activity();
        match tool {
            Tool::Reply => turn.reply_reported(),
            Tool::Own => {}
            Tool::Other { name, detail } => {
                turn.tool_started(tool_use, name, detail);
                self.show_turn(agent, out);
            }
        }
    }

    /// A tool has run, so a permission request for it was allowed.
    fn tool_ran(
        &mut self,
        now: Now,
        agent: AgentId,
        name: &str,
        input: &str,
        out: &mut impl Effects,
    ) {
        let permissions = &mut self.agents[agent].permissions;
        if let Some(request) = permissions.resolve_by_tool_use(name, input) {
            info!("{request} was allowed in the terminal");
            self.broadcast_resolved(now, agent, &request, true, TERMINAL, out);
        }
    }

    /// Delivers Claude's last text as the reply if Claude has not used the reply tool.
    fn reply_from_transcript(
        &mut self,
        now: Now,
        agent: AgentId,
        prompt: &PromptId,
        text: Arc<str>,
        out: &mut impl Effects,
    ) {
        let turn = &mut self.agents[agent].turn;
        if turn.has_prompt(prompt)
            && let Some(id) = turn.unanswered(&text)
        {
            let via = Some(ReplySource::Transcript);
            let result = self.append_assistant(now, &id, text, via, None, out);
            // The session may have expired, and that is known.
            if let Err(ReplyError::TooManyUnread(count)) = result {
                warn!(
                    "nobody has received the last {count} replies to session \"{id}\"; Claude's text in the terminal is not kept, too"
                );
            }
        }
    }

    fn stream_delta(
        &mut self,
        agent: AgentId,
        text: TextId,
        index: DeltaIndex,
        delta: &str,
        out: &mut impl Effects,
    ) {
        if delta.is_empty() {
            return;
        }
        let turn = &mut self.agents[agent].turn;
        turn.note_activity();
        let Some(separator) = turn.accept_delta(text, index) else {
            return;
        };
        let Some((id, session)) = turn
            .only_session()
            .and_then(|id| self.sessions.get_key_value(id))
        else {
            return;
        };
        let wants_stream = |member: &_| {
            let client = self.clients.get(member);
            client.is_some_and(|client| client.wants_stream)
        };
        let delta = [separator, delta].concat();
        let frame = ServerMessage::Stream {
            session_id: id.as_str(),
            delta: &cut(&delta, self.limits.max_text()),
        };
        let members = session.members.iter().copied();
        out.send(members.filter(wants_stream), &frame);
    }

    /// Begins a turn. The one before is over, however it ended.
    fn begin_turn(&mut self, now: Now, agent: AgentId, turn: Turn, out: &mut impl Effects) {
        self.close_unanswered(now, agent, out);
        let current = &mut self.agents[agent].turn;
        let mut old = std::mem::replace(current, turn);
        current.link_previous(&mut old);
        let stays = |id| match current.audience() {
            Audience::Everyone => true,
            Audience::Sessions(sessions) => sessions.contains(id),
        };
        let left: Vec<_> = match old.audience() {
            Audience::Everyone => {
                let all = self.sessions.iter();
                let ours = all.filter(|(_, session)| session.agent == agent);
                ours.map(|(id, _)| id)
                    .filter(|id| !stays(*id))
                    .cloned()
                    .collect()
            }
            Audience::Sessions(sessions) => {
                sessions.iter().filter(|id| !stays(*id)).cloned().collect()
            }
        };
        for id in left {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.set_status(&id, &StatusUpdate::default(), out);
            }
        }
    }

    fn end_turn(
        &mut self,
        now: Now,
        agent: AgentId,
        detail: Option<Arc<str>>,
        out: &mut impl Effects,
    ) {
        self.close_unanswered(now, agent, out);
        self.agents[agent].turn.stop();
        self.agents[agent].monitor.mark_idle(now.instant);
        let status = Status::Idle;
        self.set_status(agent, &StatusUpdate { status, detail }, out);
    }

    /// Closes the requests that are still open: Claude has gone on, so they were denied in
    /// the terminal. Background tasks may still wait for theirs.
    fn close_unanswered(&mut self, now: Now, id: AgentId, out: &mut impl Effects) {
        let agent = &mut self.agents[id];
        if agent.has_background_tasks {
            return;
        }
        for request in agent.permissions.drain() {
            info!("{request} was denied in the terminal");
            self.broadcast_resolved(now, id, &request, false, TERMINAL, out);
        }
    }

    /// Shows the status of a running turn.
    fn show_turn(&mut self, agent: AgentId, out: &mut impl Effects) {
        let turn = &self.agents[agent].turn;
        if turn.is_running() {
            let status = turn.status();
            self.set_status(agent, &status, out);
        }
    }

    /// Shows a status to the audience of the agent's turn.
    fn set_status(&mut self, agent: AgentId, status: &StatusUpdate, out: &mut impl Effects) {
        match self.agents[agent].turn.audience() {
            Audience::Everyone => {
                for (id, session) in &mut self.sessions {
                    if session.agent == agent {
                        session.set_status(id, status, out);
                    }
                }
            }
            Audience::Sessions(sessions) => {
                for id in sessions {
                    if let Some(session) = self.sessions.get_mut(id) {
                        session.set_status(id, status, out);
                    }
                }
            }
        }
    }

    // ---- Time ----

    /// Lets messages go when the agent has had the time to register the channel. Gives up a trial that is
    /// never seen: the others are then given without one.
    pub(super) fn check_trial(&mut self, now: Now, id: AgentId, out: &mut impl Effects) {
        let agent = &mut self.agents[id];
        let (is_idle, idle_since) = (!agent.turn.is_running(), agent.monitor.idle_since());
        let registration = &mut agent.registration;
        if registration.handle_timeout(now.instant, is_idle, idle_since)
            && let Some(number) = registration.end_trial()
            && let Some(item) = agent.inbox.pop_written(number)
        {
            if let Some(hold) = agent.inbox.poll_hold() {
                out.hold_senders(id, hold);
            }
            if let Some(key) = &item.key
                && let Some(session) = self.sessions.get_mut(&item.session)
            {
                let stored = session.number.map(|_| self.journal.stored());
                // Not worth a receipt: it is unseen by now.
                let _ = session.receipts.mark_accepted(key, item.message.id, stored);
            }
            self.report_unseen(id, Unconfirmed::new(item, now.instant), out);
        }
    }

    /// Reports messages that the idle agent should have seen by now.
    pub(super) fn check_overdue(&mut self, now: Now, id: AgentId, out: &mut impl Effects) {
        if self.agents[id].turn.is_running() {
            return;
        }
        while let Some(overdue) = self.agents[id].monitor.pop_overdue(now.instant) {
            self.report_unseen(id, overdue, out);
        }
    }

    fn report_unseen(&mut self, id: AgentId, message: Unconfirmed, out: &mut impl Effects) {
        let monitor = &mut self.agents[id].monitor;
        if let Some(key) = &message.key
            && let Some(session) = self.sessions.get_mut(&message.session)
            && let Some(receipt) = session.receipts.mark_unseen(key)
        {
            let (state, hint) = (DeliveryState::Unseen, Some(monitor.hint()));
            let (id, seq) = (&message.session, receipt.seq);
            self.journal.tell(receipt, id, key, state, hint, out);
            session.set_state(seq, state, &mut self.journal);
        }
        monitor.mark_missing(message);
    }
}
