//! Words for Claude: what comes of them, and that each is taken once.

use std::sync::Arc;

use log::debug;

use super::receipts::{Receipt, fingerprint};
use super::rights::cannot_send;
use super::session::Words;
use super::watch::Waiting;
use super::{Client, Effects, Hub, Notification, Now, delivery, only};
use crate::protocol::{
    ConnId, DEFAULT_USER, DeliveryState, ErrorCode, Grant, MessageId, NewMessage, Refusal,
    ServerMessage, SessionId, Speaker,
};

impl Hub {
    /// A client has said something to Claude.
    pub fn message(
        &mut self,
        now: Now,
        client: ConnId,
        mut message: NewMessage,
        fx: &mut impl Effects,
    ) {
        let Some(sender) = self.clients.get_mut(&client) else {
            return debug!("{client} was turned away; its message is dropped");
        };
        let session = message.session.take();
        let id = session.unwrap_or_else(|| sender.home.clone());
        if let Some(why) = cannot_send(&sender.grant, &id) {
            let key = message.id.map(|key| key.to_string());
            return self.forbid(client, id.as_str(), key, why, fx);
        }
        if let Some(user) = &sender.grant.user {
            message.user = Some(user.clone());
        }
        if !sender.sessions.contains(&id)
            && let Err(refusal) = self.join(now, client, &id)
        {
            let key = message.id.map(|key| key.to_string());
            return self.refuse(client, &Refusal { id: key, ..refusal }, fx);
        }
        let message_id = self.next_id();
        if let Some(key) = &message.id
            && !self.is_new(client, &id, key, message_id, &message, fx)
        {
            return;
        }
        if message.user.is_some()
            && let Some(sender) = self.clients.get_mut(&client)
        {
            sender.user.clone_from(&message.user);
        }
        self.pass_on(now, client, &id, message_id, message, fx);
        self.share_history(&id);
    }

    /// Whether this is the first message under its id, for which a receipt is begun then. One
    /// that was sent again is acknowledged again, and other words are refused.
    fn is_new(
        &mut self,
        client: ConnId,
        id: &SessionId,
        key: &Arc<str>,
        message_id: MessageId,
        message: &NewMessage,
        fx: &mut impl Effects,
    ) -> bool {
        let user = message.user.as_deref().unwrap_or(DEFAULT_USER);
        let fingerprint = fingerprint(user, &message.content);
        let session = self.sessions.get_mut(id).expect("it was joined");
        match session.receipts.get_mut(key) {
            Some(known) if known.fingerprint == fingerprint => {
                // One that has gone may have resent it since, from a new connection.
                if !self.clients[&client].gone {
                    known.client = client;
                }
                self.counts.resent += 1;
                if let Some(state) = known.state {
                    let hint = Some(self.watch.hint());
                    let hint = hint.filter(|_| state == DeliveryState::Unseen);
                    fx.send(only(client), &delivery(id, key, known, state, hint));
                }
                false
            }
            Some(_) => {
                self.refuse(client, &id_in_use(id, key), fx);
                false
            }
            None => {
                let number = self.notified + 1;
                let receipt = Receipt {
                    message_id,
                    seq: session.seq() + 1,
                    fingerprint,
                    number,
                    state: None,
                    client,
                };
                session.receipts.start(key.clone(), receipt);
                self.on_their_way
                    .push_back((number, id.clone(), key.clone()));
                true
            }
        }
    }

    /// Stores a message, and tells Claude Code and the others in the session.
    fn pass_on(
        &mut self,
        now: Now,
        client: ConnId,
        id: &SessionId,
        message_id: MessageId,
        message: NewMessage,
        fx: &mut impl Effects,
    ) {
        self.counts.messages += 1;
        self.notified += 1;
        let has_key = message.id.is_some();
        if self.watch.has_hooks() {
            self.watch.add(Waiting {
                message_id,
                number: self.notified,
                since: now.at,
                session: id.clone(),
                key: message.id,
            });
        }
        let words = Words {
            user: Some(message.user.unwrap_or_else(|| DEFAULT_USER.into())),
            content: message.content,
            ts: message.ts.unwrap_or_else(|| now.timestamp()),
            via: None,
        };
        let session = self.sessions.get_mut(id).expect("it was joined");
        let total = &mut self.history_total;
        session.say(Speaker::User, message_id, words, &self.limits, total);
        let entry = session.last().expect("it was just said");
        let user = entry.user.as_deref().unwrap_or(DEFAULT_USER);
        fx.notify(&Notification::Message {
            number: self.notified,
            receipt: has_key,
            content: &entry.content,
            chat_id: id,
            user,
            ts: &entry.ts,
            message_id,
        });
        if session.members.len() > 1 {
            let said = ServerMessage::UserMessage {
                session_id: id.as_str(),
                message_id,
                seq: entry.seq,
                content: &entry.content,
                user,
                ts: &entry.ts,
            };
            let everyone = session.members.iter().copied();
            fx.send(everyone.filter(|member| *member != client), &said);
        }
    }

    /// A client that has gone said this before it went, so it still counts.
    pub fn last_words(
        &mut self,
        now: Now,
        client: ConnId,
        home: SessionId,
        grant: Arc<Grant>,
        message: NewMessage,
        fx: &mut impl Effects,
    ) {
        let speaker = Client {
            home,
            sessions: Vec::new(),
            grant,
            user: None,
            stream: false,
            overstepped: true,
            gone: true,
        };
        self.clients.insert(client, speaker);
        self.message(now, client, message, fx);
        self.disconnect(now, client);
    }
}

/// Two clients that both count 1, 2, 3 must not lose each other's messages silently.
fn id_in_use(session: &SessionId, id: &str) -> Refusal {
    Refusal {
        session_id: session.to_string(),
        id: Some(id.to_owned()),
        ..Refusal::new(
            ErrorCode::InvalidMessage,
            format!(
                "\"id\" \"{id}\" already belongs to another message of this session; give each message an id of its own, such as a UUID"
            ),
        )
    }
}
