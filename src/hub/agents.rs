//! Agents: what the hub knows of each Claude Code, and what it does when one introduces
//! itself, gets messages, asks for permission or ends.

use std::iter::once;
use std::ops::{Index, IndexMut};
use std::time::Instant;

use log::info;

use super::delivery_monitor::{DeliveryMonitor, Unconfirmed};
use super::inbox::{Inbox, InboxItem, Notification};
use super::permissions::Permissions;
use super::turn::Turn;
use super::{AgentId, AgentInput, CloseReason, Effects, Hub, Limits, Now, PermissionRequest};
use crate::protocol::{DeliveryState, EXPIRED, ErrorCode, MessageId, Rejection, ServerMessage};

/// One Claude Code.
#[derive(Debug)]
pub struct Agent {
    pub id: AgentId,
    /// Its name and version, once it has introduced itself.
    pub info: Option<(String, String)>,
    /// It accepts messages.
    pub is_ready: bool,
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
}

impl Agent {
    pub fn new(id: AgentId, limits: &Limits) -> Self {
        Self {
            id,
            info: None,
            is_ready: false,
            inbox: Inbox::new(limits.inbox_messages, limits.inbox_bytes),
            writing_up_to: 0,
            turn: Turn::default(),
            has_background_tasks: false,
            monitor: DeliveryMonitor::new(limits.seen_timeout),
            permissions: Permissions::default(),
        }
    }

    /// Returns the next message if the agent accepts any.
    pub fn poll(&mut self) -> Option<Notification<'_>> {
        if !self.is_ready {
            return None;
        }
        let mut notification = self.inbox.next()?;
        // From then on it must be seen in time.
        notification.is_awaited |= self.monitor.has_hooks();
        Some(notification)
    }

    /// Returns the next deadline of the agent.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let permission = self.permissions.poll_timeout();
        let overdue = self.monitor.deadline().filter(|_| !self.turn.is_running());
        permission.into_iter().chain(overdue).min()
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
            AgentInput::Ready => agent.is_ready = true,
            AgentInput::Call(call, tool) => self.call_tool(now, id, &call, tool, out),
            AgentInput::PermissionRequest(request) => self.open_permission(now, id, request, out),
            AgentInput::Writing(number) => {
                agent.writing_up_to = agent.writing_up_to.max(number);
            }
            AgentInput::Written(number) => self.written_up_to(now, id, number, out),
        }
    }

    /// The agent has every message up to this number.
    pub(super) fn written_up_to(
        &mut self,
        now: Now,
        id: AgentId,
        number: u64,
        out: &mut impl Effects,
    ) {
        let agent = &mut self.agents[id];
        agent.writing_up_to = agent.writing_up_to.max(number);
        let mut answered_soon = Vec::new();
        while let Some((number, item)) = agent.inbox.pop_written(number) {
            let InboxItem {
                session,
                message,
                key,
                sender: _,
            } = item;
            if let Some(key) = &key
                && let Some(state) = self.sessions.get_mut(&session)
                && let Some((receipt, reached)) = state.receipts.mark_accepted(key, message.id)
            {
                for state in reached {
                    let delivery = receipt.delivery(&session, key, *state, None);
                    out.send(once(receipt.client), &delivery);
                }
            }
            if !self.awaits_agent.is_empty() && self.awaits_agent.remove(&session) {
                answered_soon.push(session.clone());
            }
            if agent.monitor.has_hooks() {
                agent.monitor.add(Unconfirmed {
                    message_id: message.id,
                    number,
                    since: now.instant,
                    session,
                    key,
                });
            }
        }
        if let Some(hold) = agent.inbox.poll_hold() {
            out.hold_senders(id, hold);
        }
        for session in answered_soon {
            self.keep_longer(now, &session);
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
        if let Some(number) = self.agents[id].number_in_flight(message_id) {
            self.written_up_to(now, id, number, out);
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
        if let Some(evicted) = agent.permissions.open(request.clone(), expires, max) {
            self.broadcast_resolved(&evicted, false, EXPIRED, out);
        }
        self.send_to_operators(out, |session| request.frame(session));
    }

    /// Rejects the messages that no agent got, and every further one.
    pub(super) fn reject_pending(&mut self, out: &mut impl Effects) {
        self.is_closing = true;
        let mut pending = Vec::new();
        for agent in self.agents.iter_mut() {
            // Messages that are being written may have been read, so they are not rejected.
            pending.extend(agent.inbox.drain(agent.writing_up_to));
            if agent.inbox.poll_hold() == Some(false) {
                out.hold_senders(agent.id, false);
            }
        }
        if !pending.is_empty() {
            info!(
                "{} messages could not be given to Claude Code",
                pending.len()
            );
        }
        for item in pending {
            self.reject_item(&item, ErrorCode::HostClosed, AGENT_ENDED, out);
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
        let Some(key) = &item.key else {
            let session_id = item.session.to_string();
            let rejection = Rejection {
                session_id,
                ..Rejection::new(code, why)
            };
            out.send(once(item.sender), &rejection.error());
            return;
        };
        let session = self.sessions.get_mut(&item.session);
        let receipt = session.and_then(|session| session.receipts.remove(key));
        let rejected = ServerMessage::Delivery {
            session_id: item.session.as_str(),
            id: key,
            message_id: Some(item.message.id),
            seq: Some(item.message.seq),
            state: DeliveryState::Rejected,
            code: Some(code),
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

/// For the sender of a message that the agent didn't get before its end.
pub(super) const AGENT_ENDED: &str =
    "Claude Code has ended; send the message again when it is back";
