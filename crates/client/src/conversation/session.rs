//! What is said in the session: told once and in order, with what was missed while there was
//! no connection.

use super::{Conversation, Phase};
use crate::pending::{Asked, Sessions};
use crate::protocol::{
    Author, ClientRequest, DEFAULT_USER, HistoryItem, MAX_LIMIT, MessageId, ServerMessage,
};
use crate::{Error, Event};

/// Why there is no answer when there is no connection any more.
const TOO_LATE: &str = "there was no connection any more when it was asked for";

/// A history that was asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    limit: usize,
    since: Option<u64>,
    /// What is done with it.
    pub what_for: For,
}

/// Whom a history is for.
#[derive(Clone, Debug)]
pub enum For {
    /// Who has asked for it.
    User(Asked<Vec<HistoryItem>>),
    /// Nobody: it fills the gap of a lost connection.
    Gap,
}

impl Ask {
    /// It will not come.
    pub fn fail(self, error: &Error) {
        if let For::User(asked) = self.what_for {
            asked.settle(Err(error.clone()));
        }
    }
}

/// What comes while it isn't known yet what was missed before it.
#[derive(Debug, Default)]
pub struct Held {
    /// What was said, with its place in the session.
    pub messages: Vec<(u64, ServerMessage)>,
    /// The number of this client's own last message.
    pub own_seq: u64,
}

impl Conversation {
    /// Asks for what was said in the session: with `since` the first messages after that
    /// `seq`, else the last ones.
    pub fn fetch_history(
        &mut self,
        limit: usize,
        since: Option<u64>,
        asked: Asked<Vec<HistoryItem>>,
    ) {
        self.ask(Ask {
            limit,
            since,
            what_for: For::User(asked),
        });
    }

    fn ask(&mut self, ask: Ask) {
        if self.phase == Phase::Ended {
            return ask.fail(&Error::Ended(TOO_LATE.to_owned()));
        }
        let (limit, since) = (ask.limit, ask.since);
        self.asks.push_back(ask);
        if self.is_welcomed() {
            let session = Some(self.session.clone());
            self.write(ClientRequest::FetchHistory {
                session,
                limit,
                since,
            });
        }
    }

    /// Asks which sessions there are.
    pub fn fetch_sessions(&mut self, asked: Asked<Sessions>) {
        if self.phase == Phase::Ended {
            return asked.settle(Err(Error::Ended(TOO_LATE.to_owned())));
        }
        self.lists.push_back(asked);
        if self.is_welcomed() {
            self.write(ClientRequest::ListSessions);
        }
    }

    /// The server has said who it is, and how far the session has come.
    pub(super) fn welcome(&mut self, seq: u64, created: String, max_message: usize) {
        if let Phase::Open { welcomed, .. } = &mut self.phase {
            *welcomed = true;
        }
        self.attempts = 0;
        self.max_message = max_message;
        match &self.created {
            None => self.seq = seq,
            Some(known) if *known != created => {
                (self.seq, self.own_seq, self.replied) = (0, 0, 0);
            }
            Some(_) => {}
        }
        self.created = Some(created);
        self.seq = self.seq.max(self.own_seq);

        let is_wanted = |ask: &Ask| matches!(ask.what_for, For::User(_));
        let asks: Vec<Ask> = self.asks.drain(..).filter(is_wanted).collect();
        if seq > self.seq {
            self.fill();
        } else {
            self.release();
        }
        self.transmit_all();
        asks.into_iter().for_each(|ask| self.ask(ask));
        for _ in 0..self.lists.len() {
            self.write(ClientRequest::ListSessions);
        }
        for (request_id, allowed) in std::mem::take(&mut self.verdicts) {
            self.decide(request_id, allowed);
        }
    }

    /// Asks for what was missed. What comes meanwhile is held back, so that all is told in
    /// order.
    fn fill(&mut self) {
        let since = Some(self.seq);
        self.held.get_or_insert_default();
        self.ask(Ask {
            limit: MAX_LIMIT,
            since,
            what_for: For::Gap,
        });
    }

    /// Takes what was missed.
    pub(super) fn filled(&mut self, messages: Vec<HistoryItem>) {
        let (before, count) = (self.seq, messages.len());
        for item in messages {
            self.missed(item);
        }
        // A server that repeats itself would be asked for ever.
        if count >= MAX_LIMIT && self.seq > before {
            self.fill();
        } else {
            self.release();
        }
    }

    /// Nothing is missing any more.
    fn release(&mut self) {
        let held = self.held.take().unwrap_or_default();
        for (seq, message) in held.messages {
            self.said(seq, message);
        }
        self.own_seq = self.own_seq.max(held.own_seq);
        self.settle_answered(false);
    }

    fn missed(&mut self, item: HistoryItem) {
        let seq = item.seq;
        if item.role == Author::User && self.is_own(item.message_id, &item.ts, &item.content) {
            self.seq = self.seq.max(seq);
            return;
        }
        let session_id = self.options.session.clone();
        let HistoryItem {
            role,
            content,
            ts,
            message_id,
            user,
            via,
            ..
        } = item;
        let message = match role {
            Author::Assistant => ServerMessage::Reply {
                session_id,
                message_id,
                seq,
                content,
                ts,
                via,
            },
            Author::User => {
                let user = user.unwrap_or_else(|| DEFAULT_USER.to_owned());
                ServerMessage::UserMessage {
                    session_id,
                    message_id,
                    seq,
                    content,
                    user,
                    ts,
                }
            }
        };
        self.said(seq, message);
    }

    /// Whether this client has said it. Without its receipt it is known by its time and
    /// content.
    fn is_own(&self, id: MessageId, ts: &str, content: &str) -> bool {
        let receipts = &mut self
            .accepted
            .iter()
            .map(|accepted| accepted.receipt.message_id);
        receipts.any(|own| own == Some(id))
            || self.unacknowledged.iter().any(|own| own.is(ts, content))
    }

    /// Tells what was said in the session, once.
    pub(super) fn said(&mut self, seq: u64, message: ServerMessage) {
        if seq <= self.seq {
            return;
        }
        self.seq = seq;
        let is_reply = matches!(message, ServerMessage::Reply { .. });
        self.tell(Event::Message(message));
        if is_reply {
            self.replied = seq;
            self.settle_answered(true);
        }
    }
}
