//! Agents: what the hub knows of each Claude Code, and what it does when one introduces
//! itself, gets messages, asks for permission or ends.

use std::collections::{HashMap, VecDeque};
use std::iter::once;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Instant;

use log::info;

use super::delivery_monitor::{DeliveryMonitor, Unconfirmed};
use super::inbox::{Inbox, InboxItem, Notification, Release};
use super::journal::Journal;
use super::permissions::Permissions;
use super::receipts::{Reached, Receipt};
use super::registration::{Admits, Registration};
use super::session::Session;
use super::stored::{Change, Verdict};
use super::turn::Turn;
use super::unread::GivenUp;
use super::{
    AgentId, AgentInput, CloseReason, Effects, Hub, Limits, MessageKey, Now, PermissionRequest,
};
use crate::protocol::{DeliveryState, ErrorCode, MessageId, Rejection, ServerMessage, SessionId};

/// One Claude Code.
#[derive(Debug)]
pub struct Agent {
    pub id: AgentId,
    /// Its name, under which the store knows it.
    pub label: Arc<str>,
    /// Its name and version, once it has introduced itself.
    pub info: Option<(String, String)>,
    /// It has said that it is initialized.
    pub is_ready: bool,
    /// When it can be given messages.
    pub registration: Registration,
    /// The messages for it.
    pub inbox: Inbox,
    /// The number up to which its messages may have been read, though the last of them are
    /// not confirmed as written.
    pub writing_up_to: u64,
    /// What it is doing.
    pub turn: Turn,
    /// Tasks of an earlier turn that may ask for permission go on.
    pub has_background_tasks: bool,
    /// Watches whether messages get into its conversation.
    pub monitor: DeliveryMonitor,
    /// Its permission requests.
    pub permissions: Permissions,
    /// Replies that were given up since its last tool call.
    pub given_up: Vec<GivenUp>,
    /// What the store knows of whether hooks report what the agent sees.
    pub stored_proof: Option<bool>,
    /// Its requests that were decided, oldest first. The store has more, if there is one.
    pub verdicts: VecDeque<Verdict>,
}

impl Agent {
    pub fn new(id: AgentId, label: Arc<str>, limits: &Limits) -> Self {
        Self {
            id,
            label,
            info: None,
            is_ready: false,
            registration: Registration::new(limits.channel_delay, limits.seen_timeout),
            inbox: Inbox::new(limits.inbox_messages, limits.inbox_bytes),
            writing_up_to: 0,
            turn: Turn::default(),
            has_background_tasks: false,
            monitor: DeliveryMonitor::new(limits.seen_timeout),
            permissions: Permissions::default(),
            given_up: Vec::new(),
            stored_proof: None,
            verdicts: VecDeque::new(),
        }
    }

    /// Returns what the agent can be given.
    pub fn admits(&self) -> Admits {
        self.registration.admits(self.monitor.has_hooks())
    }

    /// Returns the next message if the agent can be given any.
    pub fn poll(&mut self) -> Option<Notification<'_>> {
        let has_hooks = self.monitor.has_hooks();
        let admitted = self.admits();
        let mut notification = match admitted {
            Admits::Nothing => return None,
            Admits::Repeat => self.inbox.repeat()?,
            Admits::Trial | Admits::Everything => self.inbox.next()?,
        };
        let (number, message_id) = (notification.number, notification.message.id);
        self.registration.given(admitted, number, message_id);
        // From then on it must be seen in time.
        notification.is_awaited |= has_hooks;
        Some(notification)
    }

    /// Returns the next deadline of the agent.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let permission = self.permissions.poll_timeout();
        let overdue = self.monitor.deadline().filter(|_| !self.turn.is_running());
        let is_idle = !self.turn.is_running();
        let registration = self
            .registration
            .poll_timeout(is_idle, self.monitor.idle_since());
        let deadlines = [permission, overdue, registration];
        deadlines.into_iter().flatten().min()
    }

    /// Returns the number of a message that is in flight.
    fn number_in_flight(&self, message_id: MessageId) -> Option<u64> {
        let mut in_flight = self.inbox.in_flight();
        in_flight
            .find(|(_, item)| item.message.id == message_id)
            .map(|(number, _)| number)
    }
}

/// All agents, each at the index of its id. An agent is never removed, and ids come from
/// sessions and from the loop, so an id always has its agent.
#[derive(Debug)]
pub struct Agents(Vec<Agent>);

impl Agents {
    /// Begins with one agent.
    pub fn new(first: Agent) -> Self {
        Self(vec![first])
    }

    pub fn ids(&self) -> Vec<AgentId> {
        self.iter().map(|agent| agent.id).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Agent> {
        self.0.iter_mut()
    }
}

impl Index<AgentId> for Agents {
    type Output = Agent;

    fn index(&self, id: AgentId) -> &Agent {
        &self.0[id.index()]
    }
}

impl IndexMut<AgentId> for Agents {
    fn index_mut(&mut self, id: AgentId) -> &mut Agent {
        &mut self.0[id.index()]
    }
}

impl Hub {
    /// Reacts to what happens with an agent.
    pub(super) fn handle_agent(
        &mut self,
        now: Now,
        id: AgentId,
        input: AgentInput,
        out: &mut impl Effects,
    ) {
        let agent = &mut self.agents[id];
        match input {
            AgentInput::HooksExpected => agent.monitor.expect_hooks(),
            AgentInput::Initialized { name, version } => agent.info = Some((name, version)),
            AgentInput::Ready => {
                agent.is_ready = true;
                let has_hooks = agent.monitor.has_hooks();
                agent.registration.initialized(now.instant, has_hooks);
            }
            AgentInput::ToolsListed => {
                let has_hooks = agent.monitor.has_hooks();
                agent.registration.tools_listed(now.instant, has_hooks);
            }
            AgentInput::Call(call, tool) => self.call_tool(now, id, &call, tool, out),
            AgentInput::PermissionRequest(request) => self.open_permission(now, id, request, out),
            AgentInput::Writing(number) => {
                agent.writing_up_to = agent.writing_up_to.max(number);
            }
            AgentInput::Written(number) => self.written_up_to(now, id, number, out),
        }
    }

    /// Writes as given what is on disk as waiting and can be given now. Returns `true` if that is on disk for the next one.
    pub(super) fn release(&mut self, id: AgentId) -> bool {
        let agent = &mut self.agents[id];
        let count = match agent.admits() {
            Admits::Nothing => return false,
            Admits::Repeat => return true,
            Admits::Trial => 1,
            Admits::Everything => usize::MAX,
        };
        match agent.inbox.next_release() {
            Release::Free => true,
            Release::At(position) => position <= self.journal.stored(),
            Release::Queued => {
                for item in agent.inbox.queued_mut().take(count) {
                    if let Some(session) = self.sessions.get_mut(&item.session) {
                        let seq = item.message.seq;
                        session.set_state(seq, DeliveryState::Accepted, &mut self.journal);
                    }
                    item.release = Release::At(self.journal.newest());
                }
                self.note_proof(id);
                self.journal.newest() <= self.journal.stored()
            }
        }
    }

    /// Tells the store whether hooks report what an agent sees, as far as that is news and messages are given.
    pub(super) fn note_proof(&mut self, id: AgentId) {
        let agent = &mut self.agents[id];
        let confirms = agent.monitor.is_proven();
        if agent.stored_proof != Some(confirms) && self.journal.is_kept() {
            agent.stored_proof = Some(confirms);
            let agent = agent.label.clone();
            self.journal.push(Change::Confirms { agent, confirms });
        }
    }

    /// The agent has every message up to this number, unless the last is a trial.
    pub(super) fn written_up_to(
        &mut self,
        now: Now,
        id: AgentId,
        number: u64,
        out: &mut impl Effects,
    ) {
        let agent = &mut self.agents[id];
        agent.writing_up_to = agent.writing_up_to.max(number);
        // Nothing else was given to it, and nothing else is before it in the inbox.
        if agent.registration.is_trial_written(now.instant, number) {
            if agent.registration.is_settled(now.instant)
                && let Some((_, item)) = agent.inbox.in_flight().next()
            {
                accept(&mut self.sessions, &mut self.journal, item, out);
            }
            return;
        }
        while let Some(item) = agent.inbox.pop_written(number) {
            accept(&mut self.sessions, &mut self.journal, &item, out);
            if agent.monitor.has_hooks() {
                agent.monitor.add(Unconfirmed::new(item, now.instant));
            }
        }
        if let Some(hold) = agent.inbox.poll_hold() {
            out.hold_senders(id, hold);
        }
    }

    /// A message that is seen was written, and so were those before it, whatever the writer
    /// has reported so far.
    pub(super) fn written_before_seen(
        &mut self,
        now: Now,
        id: AgentId,
        message_id: MessageId,
        out: &mut impl Effects,
    ) {
        let agent = &mut self.agents[id];
        if let Some(number) = agent.number_in_flight(message_id) {
            if agent.registration.trial() == Some(number) {
                agent.registration.end_trial();
            }
            self.written_up_to(now, id, number, out);
        }
    }

    /// Ends a running trial: nothing will report whether it was seen.
    pub(super) fn end_trial(&mut self, now: Now, id: AgentId, out: &mut impl Effects) {
        let agent = &mut self.agents[id];
        if let Some(number) = agent.registration.end_trial() {
            let written = agent.writing_up_to.min(number);
            self.written_up_to(now, id, written, out);
        }
    }

    /// Shows a permission request to every operator, also to those who connect later.
    fn open_permission(
        &mut self,
        now: Now,
        id: AgentId,
        request: PermissionRequest,
        out: &mut impl Effects,
    ) {
        let request = request.cut(&self.limits);
        let expires = now.instant + self.limits.permission_ttl;
        let max = self.limits.max_permissions;
        let agent = &mut self.agents[id];
        agent.turn.note_activity();
        if let Some(evicted) = agent.permissions.open(request.clone(), expires, max) {
            self.expire_request(now, id, &evicted, "too many later requests wait, too", out);
        }
        self.send_to_operators(out, |session| request.frame(session));
    }

    /// Ends what is open with every agent, and rejects every further message.
    pub(super) fn close_agents(&mut self, now: Now, out: &mut impl Effects) {
        self.is_closing = true;
        for agent in self.agents.ids() {
            self.agent_ended(now, agent, out);
        }
        for session in self.sessions.values_mut() {
            session.settle_seq(&mut self.journal);
        }
    }

    /// An agent has ended. Its open requests expire. The messages that it did not get wait in the store, or are rejected
    /// if there is none; those that it has seen stay so. What it got and has not seen waits, or is rejected, too,
    /// where hooks tell what is seen, and else it is lost.
    fn agent_ended(&mut self, now: Now, id: AgentId, out: &mut impl Effects) {
        let agent = &mut self.agents[id];
        let requests = agent.permissions.drain();
        let trial = agent.registration.end_trial();
        let (confirmed, may_have_read) = (agent.monitor.is_proven(), agent.writing_up_to);
        let pending: Vec<_> = agent.inbox.drain().collect();
        if agent.inbox.poll_hold() == Some(false) {
            out.hold_senders(id, false);
        }
        for request in requests {
            self.expire_request(
                now,
                id,
                &request,
                "Claude Code ended before it was decided",
                out,
            );
        }
        if !pending.is_empty() {
            info!(
                "{} messages were not given to Claude Code before its end",
                pending.len()
            );
        }
        for (number, item) in pending {
            // A trial that has no receipt yet was not seen, and its sender has it still.
            let is_unclaimed = trial == Some(number) && !self.is_accepted(&item);
            if number > may_have_read || confirmed || is_unclaimed {
                if !self.queue_again(&item, out) {
                    self.reject_item(&item, ErrorCode::HostClosed, AGENT_ENDED, out);
                }
            } else {
                self.lose_item(&item, out);
            }
        }
        self.settle_unseen(id, confirmed, out);
    }

    /// Returns `true` if the sender of a message was told that the agent has it.
    fn is_accepted(&self, item: &InboxItem) -> bool {
        let session = self.sessions.get(&item.session);
        let receipts = session.map(|session| &session.receipts);
        let receipt = receipts.zip(item.key.as_ref());
        let receipt = receipt.and_then(|(receipts, key)| receipts.get(key));
        receipt.is_some_and(Receipt::is_given)
    }

    /// Leaves a message in the store for when the agent is back. Returns `false` if it isn't there.
    fn queue_again(&mut self, item: &InboxItem, out: &mut impl Effects) -> bool {
        let session = self.sessions.get_mut(&item.session);
        let kept = session.filter(|session| session.number.is_some() && self.journal.is_open());
        let Some(session) = kept else { return false };
        let state = DeliveryState::Queued;
        if item.release != Release::Queued {
            session.set_state(item.message.seq, state, &mut self.journal);
        }
        if let Some(key) = &item.key
            && let Some(receipt) = session.receipts.get_mut(key)
            && receipt.state.replace(state) != Some(state)
        {
            tell_queued(receipt, &item.session, key, &mut self.journal, out);
        }
        session.receipts.stop_waiting(item.message.id);
        true
    }

    /// Tells the sender of a message that nobody knows whether the agent has seen it.
    fn lose_item(&mut self, item: &InboxItem, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(&item.session) else {
            return;
        };
        session.set_state(item.message.seq, DeliveryState::Lost, &mut self.journal);
        session.receipts.stop_waiting(item.message.id);
        let Some(key) = &item.key else { return };
        let receipt = session.receipts.get_mut(key);
        if let Some(receipt) = receipt {
            let (state, hint) = (DeliveryState::Lost, Some(HINT_LOST));
            receipt.state = Some(state);
            self.journal
                .tell(receipt, &item.session, key, state, hint, out);
        }
    }

    /// Tells the senders of messages that an agent got and, as far as is known, has not seen before
    /// its end.
    fn settle_unseen(&mut self, id: AgentId, is_unseen: bool, out: &mut impl Effects) {
        let journal = &mut self.journal;
        for (session_id, session) in &mut self.sessions {
            if session.agent != id {
                continue;
            }
            let state = match is_unseen {
                true if session.number.is_some() && journal.is_open() => DeliveryState::Queued,
                true => DeliveryState::Rejected,
                false => DeliveryState::Lost,
            };
            for Reached { seq, key } in session.receipts.mark_agent_ended(state) {
                session.set_state(seq, state, journal);
                let Some(key) = key else { continue };
                let Some(receipt) = session.receipts.get_mut(&key) else {
                    continue;
                };
                match state {
                    DeliveryState::Queued => tell_queued(receipt, session_id, &key, journal, out),
                    DeliveryState::Lost => {
                        journal.tell(receipt, session_id, &key, state, Some(HINT_LOST), out);
                    }
                    _ => {
                        let rejected = ServerMessage::Delivery {
                            session_id: session_id.as_str(),
                            id: &key,
                            message_id: Some(receipt.message_id),
                            seq: Some(receipt.seq),
                            state,
                            code: Some(ErrorCode::HostClosed),
                            retry_after: None,
                            hint: None,
                        };
                        out.send(once(receipt.client), &rejected);
                    }
                }
            }
        }
    }

    /// Tells the sender of a message that an agent will not get it: by a receipt if the message has
    /// a client's id, and else by an error. Sent again, the message is a new one.
    pub(super) fn reject_item(
        &mut self,
        item: &InboxItem,
        code: ErrorCode,
        why: &str,
        out: &mut impl Effects,
    ) {
        self.counters.rejected += 1;
        let session = self.sessions.get_mut(&item.session);
        let receipt = session.and_then(|session| {
            let seq = item.message.seq;
            session.set_state(seq, DeliveryState::Rejected, &mut self.journal);
            let receipts = &mut session.receipts;
            receipts.remove(item.message.id, item.key.as_ref())
        });
        let Some(key) = &item.key else {
            let session_id = item.session.to_string();
            let rejection = Rejection {
                session_id,
                ..Rejection::new(code, why)
            };
            out.send(once(item.sender), &rejection.error());
            return;
        };
        let rejected = ServerMessage::Delivery {
            session_id: item.session.as_str(),
            id: key,
            message_id: Some(item.message.id),
            seq: Some(item.message.seq),
            state: DeliveryState::Rejected,
            code: Some(code),
            retry_after: None,
            hint: None,
        };
        let sender = receipt.map_or(item.sender, |receipt| receipt.client);
        out.send(once(sender), &rejected);
    }

    /// Closes every connection.
    pub(super) fn close_clients(&mut self, out: &mut impl Effects) {
        for client in self.clients.keys() {
            out.close(*client, CloseReason::GoingAway);
        }
    }
}

/// Tells the sender of a message that the agent has it.
fn accept(
    sessions: &mut HashMap<SessionId, Session>,
    journal: &mut Journal,
    item: &InboxItem,
    out: &mut impl Effects,
) {
    if item.message.state().is_none() {
        item.message.set_state(DeliveryState::Accepted);
    }
    let Some(key) = &item.key else { return };
    let Some(session) = sessions.get_mut(&item.session) else {
        return;
    };
    let stored = session.number.map(|_| journal.stored());
    let receipts = &mut session.receipts;
    if let Some((receipt, reached)) = receipts.mark_accepted(key, item.message.id, stored) {
        for state in reached {
            if *state == DeliveryState::Answered {
                receipt.wait_for(journal);
            }
            journal.tell(receipt, &item.session, key, *state, None, out);
        }
    }
}

/// Tells the sender of a message that it waits, as soon as what the journal has of it is on disk.
fn tell_queued(
    receipt: &mut Receipt,
    id: &SessionId,
    key: &MessageKey,
    journal: &mut Journal,
    out: &mut impl Effects,
) {
    receipt.wait_for(journal);
    journal.tell(receipt, id, key, DeliveryState::Queued, None, out);
}

/// For the sender of a message that the agent got before its end.
const HINT_LOST: &str = "Claude Code has ended, and whether it has seen this message is unknown; \
     if no answer came, send the message again";
/// For the sender of a message that the agent didn't get before its end.
pub(super) const AGENT_ENDED: &str =
    "Claude Code has ended; send the message again when it is back";
