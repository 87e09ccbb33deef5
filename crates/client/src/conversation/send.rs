//! What waits to be sent, and what becomes of it.

use super::{Conversation, Output, Phase, frame};
use crate::protocol::{
    ClientMessage, ClientRequest, DeliveryState, ErrorCode, MAX_MESSAGE_ID, NewMessage,
    ServerMessage, check_name,
};
use crate::sent::{Receipt, Sent};
use crate::{Error, Event};

/// The most messages of which the answer is waited for.
const MAX_UNANSWERED: usize = 1_000;

/// Words for Claude that wait for their receipt.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What its sender knows of it, with its id.
    pub sent: Sent,
    /// The words.
    pub content: String,
    /// When they were said, RFC 3339.
    pub ts: String,
}

/// A message without a receipt.
#[derive(Debug)]
pub struct Unacknowledged {
    /// What its sender knows of it.
    pub sent: Sent,
    /// The frame's content.
    pub message: ClientMessage,
}

impl Unacknowledged {
    /// Returns `true` if a message of the history is this one, as far as its time and text tell.
    pub fn is(&self, ts: &str, content: &str) -> bool {
        match &self.message {
            ClientMessage::Message(message) => {
                message.ts.as_deref() == Some(ts) && *message.content == *content
            }
            ClientMessage::Request(_) => false,
        }
    }
}

/// A message that Claude Code has got: its receipt, and the session's beginning.
#[derive(Debug)]
pub struct Accepted {
    /// What its sender knows of it.
    pub sent: Sent,
    /// What the server has said of it last.
    pub receipt: Receipt,
    created: Option<String>,
}

impl Conversation {
    /// Sends words to Claude, now or when there is a connection.
    pub fn send(&mut self, message: Outgoing) {
        let limit = self.options.queue_limit;
        let id = message.sent.id();
        if self.phase == Phase::Ended {
            let why = "there was no connection any more when it was sent".to_owned();
            message.sent.fail(Error::Ended(why));
        } else if id.is_empty() {
            let why = "\"id\" must not be empty".to_owned();
            self.refuse(&message.sent, Some(ErrorCode::InvalidMessage), why);
        } else if let Err(why) = check_name("id", id, MAX_MESSAGE_ID) {
            self.refuse(
                &message.sent,
                Some(ErrorCode::InvalidMessage),
                why.to_string(),
            );
        } else if self.unacknowledged.len() >= limit {
            let why = format!(
                "{limit} messages already wait for the server; send less, or give a larger queue_limit"
            );
            self.refuse(&message.sent, None, why);
        } else {
            let message = self.unacknowledged(message);
            if !self.is_welcomed() || self.transmit(&message) {
                self.unacknowledged.push_back(message);
            }
        }
    }

    fn unacknowledged(&self, outgoing: Outgoing) -> Unacknowledged {
        let Outgoing { sent, content, ts } = outgoing;
        let message = NewMessage {
            session: Some(self.session.clone()),
            content: content.into(),
            user: Some(self.user.clone()),
            ts: Some(ts.into()),
            id: Some(sent.id().into()),
        };
        Unacknowledged {
            sent,
            message: ClientMessage::Message(message),
        }
    }

    /// Sends every message again that has no receipt.
    pub(super) fn transmit_all(&mut self) {
        for message in std::mem::take(&mut self.unacknowledged) {
            if self.transmit(&message) {
                self.unacknowledged.push_back(message);
            }
        }
    }

    /// Sends a message. Returns `false` if the server would not take it.
    fn transmit(&mut self, waiting: &Unacknowledged) -> bool {
        let frame = frame(&waiting.message);
        let (length, limit) = (frame.len(), self.max_message);
        if length <= limit {
            self.outputs.push_back(Output::Frame(frame));
            return true;
        }
        let why = format!(
            "the message has {length} bytes, and the server takes {limit}; send less at once"
        );
        self.refuse(&waiting.sent, Some(ErrorCode::TooLarge), why);
        false
    }

    /// Tells of a message that isn't sent, as the server tells of one it doesn't take.
    fn refuse(&mut self, sent: &Sent, code: Option<ErrorCode>, why: String) {
        let session_id = self.options.session.clone();
        let kind = code.unwrap_or(ErrorCode::Busy);
        self.tell(Event::Message(ServerMessage::Error {
            session_id: session_id.clone(),
            message: why.clone(),
            code: kind,
        }));
        self.tell(Event::Message(ServerMessage::Delivery {
            session_id,
            id: sent.id().to_owned(),
            message_id: None,
            seq: None,
            state: DeliveryState::Rejected,
            code: Some(kind),
            hint: None,
        }));
        sent.fail(Error::Rejected { code, why });
    }

    /// Answers a permission request.
    pub fn decide(&mut self, request_id: String, allowed: bool) {
        if self.is_welcomed() {
            self.write(ClientRequest::PermissionResponse {
                request_id,
                allowed,
            });
        } else {
            self.verdicts.push((request_id, allowed));
        }
    }

    pub(super) fn receipt(&mut self, id: &str, receipt: Receipt, code: Option<ErrorCode>) {
        let waiting = self
            .unacknowledged
            .iter()
            .position(|own| own.sent.id() == id);
        let known = self.accepted.iter().position(|own| own.sent.id() == id);
        let sent = match (waiting, known) {
            (Some(place), _) => self.unacknowledged.remove(place).map(|own| own.sent),
            (None, Some(place)) => self.accepted.remove(place).map(|own| own.sent),
            (None, None) => None,
        };
        let seq = receipt.seq.unwrap_or(0);
        let own_seq = match &mut self.held {
            Some(held) => &mut held.own_seq,
            None => &mut self.own_seq,
        };
        *own_seq = seq.max(*own_seq);
        if let Some(sent) = sent {
            sent.settle(receipt.clone(), code);
            if !matches!(
                receipt.state,
                DeliveryState::Answered | DeliveryState::Rejected
            ) {
                let created = self.created.clone();
                let receipt = receipt.clone();
                self.accepted.push_back(Accepted {
                    sent,
                    receipt,
                    created,
                });
                self.forget_oldest();
            }
        }
        let Receipt {
            state,
            message_id,
            seq,
            hint,
        } = receipt;
        self.tell(Event::Message(ServerMessage::Delivery {
            session_id: self.options.session.clone(),
            id: id.to_owned(),
            message_id,
            seq,
            state,
            code,
            hint,
        }));
    }

    fn forget_oldest(&mut self) {
        if self.accepted.len() > MAX_UNANSWERED
            && let Some(oldest) = self.accepted.pop_front()
        {
            let why = format!(
                "{MAX_UNANSWERED} later messages wait for an answer, too; this one is not waited for any more"
            );
            oldest.sent.fail(Error::Rejected { code: None, why });
        }
    }

    /// Claude may have replied when nobody could tell this client what became of its
    /// messages. With `earlier`, only what another session's beginning has taken counts: the
    /// server doesn't know of it.
    pub(super) fn settle_answered(&mut self, earlier: bool) {
        let (created, replied) = (&self.created, self.replied);
        let answered: Vec<(String, Receipt)> = self
            .accepted
            .iter()
            .filter(|accepted| {
                let same = accepted.created == *created;
                // In a session that began anew it has no number, and any reply came later.
                let seq = accepted.receipt.seq.filter(|_| same).unwrap_or(0);
                !(earlier && same) && seq < replied
            })
            .map(|accepted| (accepted.sent.id().to_owned(), accepted.receipt.clone()))
            .collect();
        for (id, receipt) in answered {
            let state = DeliveryState::Answered;
            self.receipt(&id, Receipt { state, ..receipt }, None);
        }
    }
}
