//! Messages for Claude: each is accepted once, stored, shown to the others in the session and
//! put into the agent's inbox.

use std::iter::once;
use std::sync::Arc;

use log::debug;

use super::agents::AGENT_ENDED;
use super::authorization::{Rejected, check_send};
use super::inbox::{InboxItem, Release};
use super::receipts::{self, Fingerprint, Receipt};
use super::registration::Admits;
use super::session::Said;
use super::{Author, AuthorId, Effects, Hub, MessageInput, MessageKey, Now};
use crate::protocol::{
    ConnId, DEFAULT_USER, DeliveryState, ErrorCode, MessageId, NewMessage, Rejection,
    ServerMessage, SessionId,
};

impl Hub {
    /// Accepts or rejects a message of a client.
    pub(super) fn message(
        &mut self,
        now: Now,
        client: ConnId,
        input: MessageInput,
        out: &mut impl Effects,
    ) {
        let MessageInput {
            mut message,
            escaped,
        } = input;
        let Some(sender) = self.clients.get(&client) else {
            return debug!("{client} is not connected any more; its message is dropped");
        };
        if self.is_closing {
            return self.message_too_late(client, &message, out);
        }
        let session = message.session.take();
        let session = session.unwrap_or_else(|| sender.default_session.clone());
        let has_joined = sender.sessions.contains(&session);
        // A client may read every session that it has joined.
        if (!has_joined || !sender.can_send)
            && let Err(forbidden) = check_send(&sender.grant, &session)
        {
            let key = message.id.map(|key| key.to_string());
            let rejected = Rejected {
                session: session.as_str(),
                id: key,
                request: None,
            };
            return self.reject_forbidden(client, rejected, forbidden, out);
        }
        if let Some(user) = &sender.grant.user {
            message.user = Some(user.clone());
        }
        let is_lost = sender.is_lost;
        if let Some(rate) = sender.grant.rate
            && let Err(rejection) = self.take_from_budget(now, client, rate, &session, &message)
        {
            return self.reject(client, &rejection, out);
        }
        if !has_joined && let Err(rejection) = self.join(now, client, &session, out) {
            let id = message.id.map(|key| key.to_string());
            return self.reject(client, &Rejection { id, ..rejection }, out);
        }
        let input = MessageInput { message, escaped };
        self.accept(now, client, session, input, out);
        if is_lost {
            self.leave_sessions(now, client);
        }
    }

    /// Rejects a message that comes while the server ends, unless the agent has it already or is
    /// getting it.
    fn message_too_late(&mut self, client: ConnId, message: &NewMessage, out: &mut impl Effects) {
        let session = message.session.as_ref();
        let session = session.unwrap_or(&self.clients[&client].default_session);
        let known = message.id.as_ref().and_then(|key| {
            let receipt = self.sessions.get(session)?.receipts.get(key)?;
            let is_known = receipt.state != Some(DeliveryState::Rejected);
            is_known.then_some((key, receipt))
        });
        if let Some((key, receipt)) = known {
            if let Some(state) = receipt.state {
                let delivery = receipt.delivery(session, key, state, None);
                out.send(once(client), &delivery);
            }
            return;
        }
        let rejection = Rejection {
            session_id: message
                .session
                .as_ref()
                .map_or_else(String::new, SessionId::to_string),
            id: message.id.as_ref().map(ToString::to_string),
            ..Rejection::new(ErrorCode::HostClosed, AGENT_ENDED)
        };
        self.reject(client, &rejection, out);
    }

    /// Accepts a message of a client that is in the session and may send.
    fn accept(
        &mut self,
        now: Now,
        client: ConnId,
        session: SessionId,
        input: MessageInput,
        out: &mut impl Effects,
    ) {
        let message_id = self.next_id(now);
        let message = &input.message;
        if let Some(key) = &message.id
            && !self.register_key(client, &session, key, message_id, message, out)
        {
            return;
        }
        if let Some(user) = &message.user
            && let Some(sender) = self.clients.get_mut(&client)
            // The reader shares it with the messages before, and counting references to what two
            // threads use takes some 50 ns.
            && !sender.user.as_ref().is_some_and(|known| Arc::ptr_eq(known, user))
        {
            sender.user = Some(user.clone());
        }
        self.deliver(now, client, session, message_id, input, out);
    }

    /// Begins a receipt and returns `true` if the key is new in the session. The same message sent
    /// again is acknowledged again, and another one under the same key is rejected.
    fn register_key(
        &mut self,
        client: ConnId,
        id: &SessionId,
        key: &MessageKey,
        message_id: MessageId,
        message: &NewMessage,
        out: &mut impl Effects,
    ) -> bool {
        let user = message.user.as_deref().unwrap_or(DEFAULT_USER);
        let fingerprint = Fingerprint::of(user, &message.content);
        let session = self.sessions.get_mut(id).expect("the client has joined it");
        let agent = &self.agents[session.agent];
        match session.receipts.get_mut(key) {
            Some(known) if known.fingerprint == fingerprint => {
                // The client may have sent it again from a newer connection, and what was read from
                // the older one can come later.
                let is_newer = client > known.client;
                if is_newer || !self.clients.contains_key(&known.client) {
                    known.client = client;
                }
                self.counters.resent += 1;
                // What isn't on disk yet is told when it is.
                if let Some(state) = known.state
                    && known.position <= self.journal.stored()
                {
                    let hint = Some(agent.monitor.hint());
                    let hint = hint.filter(|_| state == DeliveryState::Unseen);
                    out.send(once(client), &known.delivery(id, key, state, hint));
                }
                false
            }
            Some(_) => {
                self.reject(client, &key_in_use(id, key), out);
                false
            }
            None => {
                let receipt = Receipt {
                    message_id,
                    seq: session.seq() + 1,
                    fingerprint,
                    number: agent.inbox.last() + 1,
                    position: 0,
                    state: None,
                    client,
                };
                session.receipts.insert(key.clone(), receipt);
                true
            }
        }
    }

    /// Stores a message, shows it to the others in the session, and puts it into the inbox.
    fn deliver(
        &mut self,
        now: Now,
        client: ConnId,
        id: SessionId,
        message_id: MessageId,
        input: MessageInput,
        out: &mut impl Effects,
    ) {
        let MessageInput { message, escaped } = input;
        self.counters.messages += 1;
        let author = Author::User {
            id: AuthorId::of(client, &self.clients[&client].grant),
            name: message.user.unwrap_or_else(|| DEFAULT_USER.into()),
        };
        let ts = message.ts.unwrap_or_else(|| now.timestamp());
        let session = self
            .sessions
            .get_mut(&id)
            .expect("the client has joined it");
        let agent = session.agent;
        let has_others = session.members.len() > 1;
        let has_unread = session.unread_count() > 0;
        session.begin_in(&mut self.journal, &self.agents[agent].label, &id);
        let agent = &self.agents[agent];
        let is_given_at_once = agent.admits() == Admits::Everything;
        let number = agent.inbox.last() + 1;
        let agent = agent.id;
        let key = message.id.clone();
        let receipt = key.as_ref().and_then(|key| session.receipts.get(key));
        let fingerprint = receipt.map(|receipt| receipt.fingerprint);
        let is_kept = session.number.is_some();
        let said = Said {
            id: message_id,
            author,
            content: message.content,
            ts,
            key: key.clone().zip(fingerprint),
            state: match is_kept {
                true if is_given_at_once => Some(DeliveryState::Accepted),
                true => Some(DeliveryState::Queued),
                false => None,
            },
        };
        let total = &mut self.history_total;
        session.append(now, said, &mut self.journal, &self.limits, total);
        session.asked_at(now);
        let stored = session.last().expect("the newest message always stays");
        let message_for_agent = stored.clone();
        if let Some(key) = &key
            && let Some(receipt) = session.receipts.get_mut(key)
        {
            receipt.position = message_for_agent.position;
        }
        self.receipts_total += receipts::bytes_of(key.as_ref());
        session
            .receipts
            .await_answer(number, message_id, message_for_agent.seq, key);
        let stored = &message_for_agent;
        if has_others {
            let shown = ServerMessage::UserMessage {
                session_id: id.as_str(),
                message_id,
                seq: stored.seq,
                content: &stored.content,
                user: stored.user_or_default(),
                ts: &stored.ts,
            };
            let members = session.members.iter().copied();
            out.send(members.filter(|member| *member != client), &shown);
        }
        if has_unread {
            self.give_up_unread(now, &id);
        }
        if self.history_total > self.limits.history_total {
            self.enforce_history_quota(&id);
        }
        if self.receipts_total > self.limits.receipts_total {
            self.enforce_receipts_quota();
        }
        self.note_proof(agent);
        let inbox = &mut self.agents[agent].inbox;
        inbox.push(InboxItem {
            session: id,
            message: message_for_agent,
            escaped,
            key: message.id,
            sender: client,
            release: if is_kept && !is_given_at_once {
                Release::Queued
            } else {
                Release::Free
            },
        });
        if let Some(hold) = inbox.poll_hold() {
            out.hold_senders(agent, hold);
        }
    }
}

/// Two clients that both count 1, 2, 3 must not lose each other's messages silently.
fn key_in_use(session: &SessionId, key: &str) -> Rejection {
    Rejection {
        session_id: session.to_string(),
        id: Some(key.to_owned()),
        ..Rejection::new(
            ErrorCode::InvalidMessage,
            format!(
                "\"id\" \"{key}\" already belongs to another message of this session; give each message an id of its own, such as a UUID"
            ),
        )
    }
}
