//! What Claude Code does: introduce itself, take messages, reply, ask for
//! permission, and end.

use std::collections::HashMap;
use std::sync::Arc;

use super::session::{Session, Shown, Words};
use super::{
    Closing, EXPIRED, Effects, Hub, Now, PermissionRequest, Reach, UnknownSession, delivery, only,
    permission_request,
};
use crate::protocol::{Activity, DeliveryState, ErrorCode, ServerMessage, SessionId, Speaker, Via};

impl Hub {
    /// Claude Code has introduced itself.
    pub fn introduce_host(&mut self, name: String, version: String) {
        self.host = Some((name, version));
    }

    /// Claude Code takes messages from now on.
    pub fn host_is_ready(&mut self) {
        self.host_ready = true;
    }

    /// Whether Claude Code takes messages.
    pub fn is_host_ready(&self) -> bool {
        self.host_ready
    }

    /// Claude Code is getting the messages up to this number, and may answer them
    /// before [`Hub::handed_over`] says that it has got them.
    pub fn handing_over(&mut self, number: u64) {
        self.handing_over = number;
    }

    /// Claude Code has got every message up to this number.
    pub fn handed_over(&mut self, now: Now, number: u64, fx: &mut impl Effects) {
        self.handing_over = self.handing_over.max(number);
        self.watch.handed_over(now.at, number);
        while let Some((_, id, key)) = self.on_their_way.pop_front_if(|next| next.0 <= number) {
            let session = self.sessions.get_mut(&id);
            let accepted = session.and_then(|session| session.receipts.accept(&key));
            if let Some((receipt, reached)) = accepted {
                for state in reached {
                    let delivery = delivery(&id, &key, receipt, *state, None);
                    fx.send(only(receipt.client), &delivery);
                }
            }
        }
    }

    /// Claude replies to a session.
    ///
    /// # Errors
    /// If there is no such session.
    pub fn reply(
        &mut self,
        now: Now,
        chat_id: &str,
        text: String,
        fx: &mut impl Effects,
    ) -> Result<Reach, UnknownSession> {
        self.say(now, chat_id, text, None, fx)
    }

    /// Says something of Claude's to a session.
    pub(super) fn say(
        &mut self,
        now: Now,
        chat_id: &str,
        text: String,
        via: Option<Via>,
        fx: &mut impl Effects,
    ) -> Result<Reach, UnknownSession> {
        let message_id = self.next_id();
        let Some((id, session)) = known(&mut self.sessions, chat_id) else {
            return Err(self.unknown());
        };
        let words = Words {
            user: None,
            content: text,
            ts: now.timestamp(),
            via,
        };
        let total = &mut self.history_total;
        session.say(Speaker::Assistant, message_id, words, &self.limits, total);
        let entry = session.last().expect("it was just said");
        let reply = ServerMessage::Reply {
            session_id: id.as_str(),
            message_id,
            seq: entry.seq,
            content: &entry.content,
            ts: &entry.ts,
            via,
        };
        let reached = fx.send(session.members.iter().copied(), &reply);
        // Hooks that haven't told of this reply have not told what Claude has seen either.
        let hooks_tell = via.is_some() || self.turn.replied(&id);
        if !hooks_tell {
            self.watch.give_up();
            self.watch.answered(&id);
        }
        for (key, receipt) in session.receipts.answer(self.handing_over, hooks_tell) {
            let answered = delivery(&id, &key, receipt, DeliveryState::Answered, None);
            fx.send(only(receipt.client), &answered);
        }
        let reach = Reach::of(reached);
        if reach == Reach::NobodyThere {
            session.keep_unseen(now);
        }
        self.counts.replies += 1;
        self.reschedule(&id);
        self.share_history(&id);
        Ok(reach)
    }

    /// Claude says what it is doing.
    ///
    /// # Errors
    /// If there is no such session.
    pub fn status(
        &mut self,
        chat_id: &str,
        status: Activity,
        detail: Option<&str>,
        fx: &mut impl Effects,
    ) -> Result<Reach, UnknownSession> {
        let Some((id, session)) = known(&mut self.sessions, chat_id) else {
            return Err(self.unknown());
        };
        session.shown = Shown {
            status,
            detail: detail.map(Arc::from),
        };
        let message = ServerMessage::Status {
            session_id: id.as_str(),
            status,
            detail,
        };
        Ok(Reach::of(
            fx.send(session.members.iter().copied(), &message),
        ))
    }

    /// Claude Code asks whether a tool may run. Every operator is asked, also those who
    /// connect later.
    pub fn ask_permission(&mut self, now: Now, request: PermissionRequest, fx: &mut impl Effects) {
        let expires = now.at + self.limits.permission_ttl;
        let max = self.limits.max_permissions;
        if let Some(crowded_out) = self.permissions.open(request.clone(), expires, max) {
            self.resolved(&crowded_out, false, EXPIRED, fx);
        }
        self.to_operators(fx, |home| permission_request(home, &request));
    }

    /// The server ends: messages that Claude Code didn't get are given back, and every
    /// connection is closed.
    pub fn shut_down(&mut self, fx: &mut impl Effects) {
        for (_, id, key) in self.on_their_way.drain(..) {
            let session = self.sessions.get_mut(&id);
            if let Some(receipt) = session.and_then(|session| session.receipts.get_mut(&key)) {
                let rejected = ServerMessage::Delivery {
                    session_id: id.as_str(),
                    id: &key,
                    message_id: Some(receipt.message_id),
                    seq: Some(receipt.seq),
                    state: DeliveryState::Rejected,
                    code: Some(ErrorCode::HostClosed),
                    hint: None,
                };
                fx.send(only(receipt.client), &rejected);
            }
        }
        for client in self.clients.keys() {
            fx.close(*client, Closing::GoingAway);
        }
    }

    fn unknown(&self) -> UnknownSession {
        let mut names: Vec<SessionId> = self.sessions.keys().cloned().collect();
        names.sort_unstable();
        UnknownSession(names)
    }
}

/// The session of that name, if there is one.
pub(super) fn known<'s>(
    sessions: &'s mut HashMap<SessionId, Session>,
    chat_id: &str,
) -> Option<(SessionId, &'s mut Session)> {
    let (id, _) = sessions.get_key_value(chat_id)?;
    let id = id.clone();
    let session = sessions.get_mut(&id)?;
    Some((id, session))
}
