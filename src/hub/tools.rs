//! The tools that Claude uses, and what they do in the hub.

use std::sync::Arc;

use super::frame_limit::{cut_detail, cut_shared};
use super::history::Span;
use super::opening::{Need, Purpose, Waiter};
use super::receipts::{Answered, Reached};
use super::session::{Said, StatusUpdate};
use super::stored::{Query, SessionNumber};
use super::{
    AgentId, Author, CallId, Effects, Hub, Message, Now, PublishResult, ToolCall, ToolOutcome,
    find_session, session_mut,
};
use crate::json;
use crate::protocol::{DeliveryState, MessageId, ReplySource, ServerMessage, SessionId, Status};

/// The most bytes of messages that are read for Claude at once, as JSON. What it is given is far less.
const MAX_READ: usize = 4 * 1024 * 1024;

/// What is read for Claude.
#[derive(Debug)]
pub struct AgentRead {
    agent: AgentId,
    call: CallId,
    session: SessionId,
    number: SessionNumber,
    span: Span,
}

/// Why nothing was said in a session.
#[derive(Debug)]
pub enum ReplyError {
    /// It doesn't exist.
    UnknownSession,
    /// Nobody has received its last replies, so many, and there is no room for more.
    TooManyUnread(usize),
}

impl Hub {
    /// Runs a tool, and answers the call.
    pub(super) fn call_tool(
        &mut self,
        now: Now,
        agent: AgentId,
        call: &CallId,
        tool: ToolCall,
        out: &mut impl Effects,
    ) {
        if let Some(need) = self.tool_needs(&tool) {
            return self.wait(need, Waiter::Call(agent, call.clone(), tool));
        }
        match tool {
            ToolCall::Reply { text, .. } if !json::fits(&text, self.limits.max_text()) => {
                let (length, limit) = (json::text_len(&text), self.limits.max_text());
                let outcome = ToolOutcome::ReplyTooLong { length, limit };
                out.answer(agent, call, &outcome);
            }
            ToolCall::Reply {
                chat_id,
                text,
                reply_to,
            } => {
                let outcome = match self.reply(now, agent, &chat_id, text, reply_to, out) {
                    Ok(result) => ToolOutcome::Replied {
                        chat_id: &chat_id,
                        result,
                    },
                    Err(error) => self.failed_reply(&chat_id, &error),
                };
                let given_up = std::mem::take(&mut self.agents[agent].given_up);
                out.answer(agent, call, &outcome.noting(given_up));
            }
            ToolCall::Status {
                chat_id,
                status,
                detail,
            } => {
                let outcome = match self.show_status(&chat_id, status, detail.as_deref(), out) {
                    Ok(result) => ToolOutcome::StatusShown {
                        chat_id: &chat_id,
                        result,
                    },
                    Err(error) => self.failed_reply(&chat_id, &error),
                };
                let given_up = std::mem::take(&mut self.agents[agent].given_up);
                out.answer(agent, call, &outcome.noting(given_up));
            }
            ToolCall::FetchMessages {
                session_id,
                limit,
                before,
            } => {
                self.fetch_messages(agent, call, &session_id, limit, before, out);
            }
            ToolCall::Activity(event) => {
                let outcome = match event {
                    Some(event) => self.hook(now, agent, event, out),
                    None => ToolOutcome::Nothing,
                };
                out.answer(agent, call, &outcome);
            }
        }
    }

    /// Returns what must be read from the store before a tool can be used.
    fn tool_needs(&self, tool: &ToolCall) -> Option<Need> {
        let name = match tool {
            ToolCall::Reply { chat_id, .. } | ToolCall::Status { chat_id, .. } => chat_id,
            ToolCall::FetchMessages { session_id, .. } => session_id,
            ToolCall::Activity(_) => return None,
        };
        if find_session(&self.sessions, name).is_some() {
            return None;
        }
        let id = SessionId::parse("session_id", name, usize::MAX).ok()?;
        self.needs_session(&id)
    }

    /// Gives Claude the last `limit` messages of a session before a seq.
    fn fetch_messages(
        &mut self,
        agent: AgentId,
        call: &CallId,
        session_id: &str,
        limit: usize,
        before: Option<u64>,
        out: &mut impl Effects,
    ) {
        // One more, which tells whether there are more.
        let span = Span {
            before: before.unwrap_or(u64::MAX),
            limit: limit + 1,
            is_last: true,
            ..Span::ALL
        };
        let id = find_session(&self.sessions, session_id).cloned();
        let session = id.as_ref().and_then(|id| self.sessions.get(id));
        let stored = session.and_then(|session| session.stored_part(span).zip(session.number));
        match (id, stored) {
            (Some(session), Some((stored, number))) => {
                let read = AgentRead {
                    agent,
                    call: call.clone(),
                    session,
                    number,
                    span,
                };
                self.read_for_agent(read, stored);
            }
            (id, _) => {
                let read = Vec::new();
                self.give_messages(agent, call, id.as_ref(), span, read, out);
            }
        }
    }

    /// Asks the store for messages that Claude wants.
    pub(super) fn read_for_agent(&mut self, read: AgentRead, stored: Span) {
        let query = Query::Messages {
            session: read.number,
            span: stored,
            room: MAX_READ,
        };
        self.ask(Purpose::Messages(Box::new(read), stored), query);
    }

    /// Gives Claude the messages that the store has read, and those in memory.
    pub(super) fn messages_read(
        &mut self,
        mut read: AgentRead,
        mut stored: Span,
        messages: Vec<Message>,
        more: bool,
        out: &mut impl Effects,
    ) {
        // The newest were left out, and they are those that are wanted.
        if more && stored.limit > 1 {
            read.span.limit -= stored.limit - stored.limit / 2;
            stored.limit /= 2;
            return self.read_for_agent(read, stored);
        }
        let span = Span {
            after: stored.before - 1,
            ..read.span
        };
        let AgentRead {
            agent,
            call,
            session,
            ..
        } = read;
        self.give_messages(agent, &call, Some(&session), span, messages, out);
    }

    fn give_messages(
        &mut self,
        agent: AgentId,
        call: &CallId,
        id: Option<&SessionId>,
        span: Span,
        read: Vec<Message>,
        out: &mut impl Effects,
    ) {
        let given_up = std::mem::take(&mut self.agents[agent].given_up);
        let session = id.and_then(|id| self.sessions.get(id));
        let mut messages: Vec<_> = read.iter().map(Message::item).collect();
        if let Some(session) = session {
            messages.extend(session.messages(span).map(|message| message.item()));
        }
        let surplus = messages.len().saturating_sub(span.limit - 1);
        let earlier = messages.drain(..surplus).next_back();
        let earlier = earlier.map(|message| message.seq);
        let outcome = ToolOutcome::Messages { messages, earlier };
        out.answer(agent, call, &outcome.noting(given_up));
    }

    /// Adds a reply to a session, and sends it to everyone there.
    ///
    /// # Errors
    /// [`ReplyError`].
    fn reply(
        &mut self,
        now: Now,
        agent_id: AgentId,
        chat_id: &str,
        text: Arc<str>,
        reply_to: Option<MessageId>,
        out: &mut impl Effects,
    ) -> Result<PublishResult, ReplyError> {
        let id = find_session(&self.sessions, chat_id).ok_or(ReplyError::UnknownSession)?;
        let id = id.clone();
        let agent = &mut self.agents[agent_id];
        if !agent.turn.reply_delivered(&id) && agent.monitor.assume_no_hooks() {
            self.end_trial(now, agent_id, out);
        }
        self.append_assistant(now, &id, text, None, reply_to, out)
    }

    /// Adds something that Claude says to a session, and sends it to everyone there. A text from
    /// the terminal that doesn't fit into a frame is cut.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub(super) fn append_assistant(
        &mut self,
        now: Now,
        id: &SessionId,
        text: Arc<str>,
        via: Option<ReplySource>,
        reply_to: Option<MessageId>,
        out: &mut impl Effects,
    ) -> Result<PublishResult, ReplyError> {
        let message_id = self.next_id(now);
        let text = match via {
            Some(_) => cut_shared(text, self.limits.max_text()),
            None => text,
        };
        let session = self.sessions.get_mut(id);
        let mut session = session.ok_or(ReplyError::UnknownSession)?;
        if session.unread_count() > 0 || session.members.is_empty() {
            self.give_up_unread(now, id);
            self.check_room_for_unread(id, &text)?;
            let known = self.sessions.get_mut(id);
            session = known.ok_or(ReplyError::UnknownSession)?;
        }
        let label = &self.agents[session.agent].label;
        session.begin_in(&mut self.journal, label, id);
        let said = Said {
            id: message_id,
            author: Author::Assistant { via },
            content: text,
            ts: now.timestamp(),
            key: None,
            state: None,
        };
        let total = &mut self.history_total;
        session.append(now, said, &mut self.journal, &self.limits, total);
        let stored = session.last().expect("the newest message always stays");
        let reply = ServerMessage::Reply {
            session_id: id.as_str(),
            message_id,
            seq: stored.seq,
            content: &stored.content,
            ts: &stored.ts,
            via,
        };
        let reached = out.send(session.members.iter().copied(), &reply);
        let agent = &self.agents[session.agent];
        let answered = if agent.monitor.has_hooks() {
            Answered::Seen
        } else {
            Answered::Accepted {
                reply_to,
                written_up_to: agent.writing_up_to,
            }
        };
        for Reached { seq, key } in session.receipts.mark_answered(answered) {
            let state = DeliveryState::Answered;
            session.set_state(seq, state, &mut self.journal);
            let receipt = key.as_ref().and_then(|key| session.receipts.get_mut(key));
            let Some((key, receipt)) = key.as_ref().zip(receipt) else {
                continue;
            };
            receipt.wait_for(&self.journal);
            // An answer often comes when who has asked is gone. One who asks before it is on disk is told then.
            if self.clients.contains_key(&receipt.client)
                || receipt.position > self.journal.stored()
            {
                self.journal.tell(receipt, id, key, state, None, out);
            }
        }
        let result = PublishResult::of(reached);
        if result == PublishResult::NoSubscribers {
            session.mark_unread(now, &mut self.journal);
        }
        self.counters.replies += 1;
        self.reschedule(id);
        if self.history_total > self.limits.history_total {
            self.enforce_history_quota(id);
        }
        Ok(result)
    }

    /// Shows everyone in a session what Claude says it is doing, also if that is nothing new.
    fn show_status(
        &mut self,
        chat_id: &str,
        status: Status,
        detail: Option<&str>,
        out: &mut impl Effects,
    ) -> Result<PublishResult, ReplyError> {
        let (id, session) =
            session_mut(&mut self.sessions, chat_id).ok_or(ReplyError::UnknownSession)?;
        session.status = StatusUpdate {
            status,
            detail: detail.map(|detail| cut_detail(detail).into()),
        };
        let members = session.members.iter().copied();
        let reached = out.send(members, &session.status.frame(&id));
        Ok(PublishResult::of(reached))
    }

    /// A reply that nobody is there to receive must be kept until somebody has it, or not be taken.
    ///
    /// # Errors
    /// [`ReplyError::TooManyUnread`].
    fn check_room_for_unread(&self, id: &SessionId, text: &str) -> Result<(), ReplyError> {
        let session = &self.sessions[id];
        let bytes = Message::bytes_with(text.len());
        if !session.members.is_empty() || self.has_room_for_unread(session, bytes) {
            return Ok(());
        }
        Err(ReplyError::TooManyUnread(session.unread_count()))
    }

    fn failed_reply<'a>(&self, chat_id: &'a str, error: &ReplyError) -> ToolOutcome<'a> {
        match *error {
            ReplyError::TooManyUnread(count) => ToolOutcome::TooManyUnread { chat_id, count },
            ReplyError::UnknownSession => {
                let mut sessions: Vec<SessionId> = self.sessions.keys().cloned().collect();
                sessions.sort_unstable();
                ToolOutcome::UnknownSession { chat_id, sessions }
            }
        }
    }
}
