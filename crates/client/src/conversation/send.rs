//! Messages that wait to be sent, and their receipts.

use std::collections::{HashSet, VecDeque};

use super::{Conversation, Output, frame};
use crate::protocol::{
    ClientMessage, ClientRequest, DeliveryState, ErrorCode, MAX_MESSAGE_ID, MessageId, NewMessage,
    ServerMessage, check_name,
};
use crate::sent_message::{Receipt, Refusal, SentMessage};
use crate::{Error, Event};

/// The most messages of this client that are remembered, and whose answer is waited for.
const MAX_REMEMBERED: usize = 1_000;

/// A message as the app gives it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What the app knows of it, with its id.
    pub sent: SentMessage,
    /// The text.
    pub content: String,
    /// When it was sent, RFC 3339.
    pub ts: String,
}

/// A message without a receipt.
#[derive(Debug)]
pub struct Unacknowledged {
    /// What the app knows of it.
    pub sent: SentMessage,
    message: ClientMessage,
}

/// A message that the server has.
#[derive(Debug)]
pub struct Acknowledged {
    /// What the app knows of it.
    pub sent: SentMessage,
    /// The last state that the server has told.
    state: DeliveryState,
}

/// The server's ids of this client's last [`MAX_REMEMBERED`] messages.
#[derive(Debug, Default)]
pub struct OwnIds {
    known: HashSet<MessageId>,
    order: VecDeque<MessageId>,
}

impl OwnIds {
    fn insert(&mut self, id: MessageId) {
        if self.known.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Conversation {
    /// Sends a message for Claude, now or when there is a connection.
    pub fn send(&mut self, message: Outgoing) {
        let limit = self.options.queue_limit;
        let id = message.sent.id();
        if let Some(error) = &self.ended {
            message.sent.fail(error.clone());
        } else if id.is_empty() {
            let why = "\"id\" must not be empty".to_owned();
            self.reject(&message.sent, ErrorCode::InvalidMessage, why);
        } else if let Err(wrong) = check_name("id", id, MAX_MESSAGE_ID) {
            self.reject(&message.sent, ErrorCode::InvalidMessage, wrong.to_string());
        } else if self.unacknowledged.len() >= limit {
            let why = format!(
                "{limit} messages already wait for the server; send less, or give a larger queue_limit"
            );
            self.reject(&message.sent, ErrorCode::QueueFull, why);
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
            user: Some(self.user.clone()),
            ts: Some(ts.into()),
            id: Some(sent.id().into()),
            ..NewMessage::new(content)
        };
        Unacknowledged {
            sent,
            message: ClientMessage::Message(message),
        }
    }

    /// Asks what has become of the messages that the server has and that wait for an answer: receipts are not sent again, and
    /// Claude Code may have ended since.
    pub(super) fn request_receipts(&mut self) {
        let ids: Vec<String> = self
            .acknowledged
            .iter()
            .map(|own| own.sent.id().to_owned())
            .collect();
        for id in ids {
            self.write(ClientRequest::FetchReceipt {
                session: Some(self.session.clone()),
                id: id.into(),
            });
        }
    }

    /// Sends every message that has no receipt, again or for the first time.
    pub(super) fn transmit_all(&mut self) {
        for message in std::mem::take(&mut self.unacknowledged) {
            if self.transmit(&message) {
                self.unacknowledged.push_back(message);
            }
        }
    }

    /// Sends a message. Rejects it and returns `false` if the server would not take it.
    fn transmit(&mut self, message: &Unacknowledged) -> bool {
        let frame = frame(&message.message);
        let (length, limit) = (frame.len(), self.max_message);
        if length <= limit {
            self.outputs.push_back(Output::Frame(frame));
            return true;
        }
        let why = format!(
            "the message has {length} bytes, and the server takes {limit}; send less at once"
        );
        self.reject(&message.sent, ErrorCode::TooLarge, why);
        false
    }

    /// Rejects a message that is not sent, as the server rejects one that it doesn't take.
    fn reject(&mut self, sent: &SentMessage, code: ErrorCode, why: String) {
        let session_id = self.options.session.clone();
        self.emit(Event::Message(ServerMessage::Error {
            session_id: session_id.clone(),
            message: why.clone(),
            code,
            retry_after: None,
            request: None,
        }));
        self.emit(Event::Message(ServerMessage::Delivery {
            session_id,
            id: sent.id().to_owned(),
            message_id: None,
            seq: None,
            state: DeliveryState::Rejected,
            code: Some(code),
            retry_after: None,
            hint: None,
        }));
        sent.fail(Error::Rejected {
            code: Some(code),
            why,
            retry_after: None,
        });
    }

    /// Every message that was sent over this connection and has no receipt fails: the server could not read a frame, and
    /// knows not even what it was about. It may have been any of them, which would then never get a receipt.
    pub(super) fn fail_sent(&mut self, why: &str) {
        if !self.is_welcomed() {
            return;
        }
        for message in self.unacknowledged.drain(..) {
            message.sent.fail(Error::Rejected {
                code: Some(ErrorCode::InvalidJson),
                why: why.to_owned(),
                retry_after: None,
            });
        }
    }

    /// Answers a permission request, now or when there is a connection.
    pub fn respond_to_permission(&mut self, request_id: String, allowed: bool) {
        if self.is_welcomed() {
            self.write(ClientRequest::PermissionResponse {
                request_id,
                allowed,
            });
        } else {
            self.responses.push((request_id, allowed));
        }
    }

    pub(super) fn handle_receipt(&mut self, id: &str, receipt: Receipt, refusal: Refusal) {
        // A state that only a newer server knows says nothing about those that are known here.
        if receipt.state == DeliveryState::Other {
            return self.emit_receipt(id, receipt, refusal);
        }
        let waiting = self
            .unacknowledged
            .iter()
            .position(|own| own.sent.id() == id);
        let known = self.acknowledged.iter().position(|own| own.sent.id() == id);
        let is_unclaimed =
            receipt.state == DeliveryState::Rejected && refusal.code == Some(ErrorCode::HostClosed);
        if waiting.is_some() && is_unclaimed {
            // Claude Code has ended before it had the message, which is for the next one.
            return;
        }
        let was_seen =
            known.is_some_and(|place| self.acknowledged[place].state == DeliveryState::Seen);
        let sent = match (waiting, known) {
            (Some(place), _) => self.unacknowledged.remove(place).map(|own| own.sent),
            (None, Some(place)) => self.acknowledged.remove(place).map(|own| own.sent),
            (None, None) => None,
        };
        if let Some(message_id) = receipt.message_id {
            self.own_ids.insert(message_id);
        }
        let seq = receipt.seq.unwrap_or(0);
        let own_seq = match &mut self.reorder_buffer {
            Some(buffer) => &mut buffer.own_seq,
            None => &mut self.own_seq,
        };
        *own_seq = seq.max(*own_seq);
        if let Some(sent) = sent {
            sent.settle(receipt.clone(), refusal);
            let state = receipt.state;
            if !matches!(
                state,
                DeliveryState::Answered | DeliveryState::Rejected | DeliveryState::Lost
            ) {
                self.acknowledged.push_back(Acknowledged { sent, state });
                self.forget_oldest();
            }
        }
        // A message that was seen stays so, although nobody knows any more whether it will be answered.
        if !(was_seen && receipt.state == DeliveryState::Lost) {
            self.emit_receipt(id, receipt, refusal);
        }
    }

    fn emit_receipt(&mut self, id: &str, receipt: Receipt, refusal: Refusal) {
        let Receipt {
            state,
            message_id,
            seq,
            hint,
        } = receipt;
        self.emit(Event::Message(ServerMessage::Delivery {
            session_id: self.options.session.clone(),
            id: id.to_owned(),
            message_id,
            seq,
            state,
            code: refusal.code,
            retry_after: refusal.retry_after,
            hint,
        }));
    }

    fn forget_oldest(&mut self) {
        if self.acknowledged.len() > MAX_REMEMBERED
            && let Some(oldest) = self.acknowledged.pop_front()
        {
            let why = format!(
                "{MAX_REMEMBERED} later messages wait for an answer, too; this one is not waited for any more"
            );
            oldest.sent.fail(Error::Rejected {
                code: Some(ErrorCode::QueueFull),
                why,
                retry_after: None,
            });
        }
    }

    /// Returns `true` if this client has sent the message. Without a receipt it is recognized by its time and text.
    pub(super) fn is_own(&self, id: MessageId, ts: &str, content: &str) -> bool {
        self.own_ids.known.contains(&id)
            || self.unacknowledged.iter().any(|own| match &own.message {
                ClientMessage::Message(message) => {
                    message.ts.as_deref() == Some(ts) && *message.content == *content
                }
                ClientMessage::Request(_) => false,
            })
    }
}
