//! What a client says and when: the whole of a conversation with the server over any number
//! of connections, without a socket, a thread or a clock.
//!
//! What happens goes in by the public functions, what is to be done comes out of
//! [`Conversation::next`]. It is the same as in the npm package.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::sent::{Receipt, Sent};
use super::{Error, Event, Options};
use crate::protocol::{
    DeliveryState, ErrorCode, HistoryItem, MAX_LIMIT, MessageId, ServerMessage, Speaker,
};

/// How many unanswered attempts in a row double the wait; beyond, it is the longest anyway.
const MAX_DOUBLINGS: u32 = 30;
/// The most messages of which the answer is waited for.
const MAX_UNANSWERED: usize = 1_000;

/// Something to be done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this text frame.
    Frame(String),
    /// Tell the user of this.
    Event(Event),
    /// The server gives no sign of life: leave the connection.
    Drop,
}

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

/// A message that Claude Code has got: its receipt, and the session's beginning.
#[derive(Debug)]
struct Accepted {
    sent: Sent,
    receipt: Receipt,
    created: Option<String>,
}

/// A history that was asked for, by the user or to fill a gap.
#[derive(Clone, Copy, Debug)]
struct Ask {
    limit: usize,
    since: Option<u64>,
    fills: bool,
}

/// What comes while it isn't known yet what was missed before it.
#[derive(Debug, Default)]
struct Held {
    messages: Vec<(u64, ServerMessage)>,
    own_seq: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The next attempt is made then.
    Waiting(Instant),
    /// The WebSocket is open; `welcomed` once the server has said who it is.
    Open {
        welcomed: bool,
        beat: Instant,
        missed: u32,
    },
    /// There will be no more attempts.
    Ended,
}

/// What a client says to the server.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Frame<'a> {
    Hello {
        stream: bool,
    },
    Ping,
    Message {
        session_id: &'a str,
        id: &'a str,
        content: &'a str,
        user: &'a str,
        ts: &'a str,
    },
    FetchHistory {
        session_id: &'a str,
        limit: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
    },
    PermissionResponse {
        request_id: &'a str,
        allowed: bool,
    },
}

/// A conversation with the server.
#[derive(Debug)]
pub struct Conversation {
    options: Options,
    phase: Phase,
    attempts: u32,
    max_message: usize,
    /// Messages without a receipt, in order.
    unacknowledged: VecDeque<Outgoing>,
    /// Messages that wait for an answer, in order.
    accepted: VecDeque<Accepted>,
    /// Verdicts that wait for a connection.
    verdicts: Vec<(String, bool)>,
    /// Histories that were asked for and have not come, in order.
    asks: VecDeque<Ask>,
    /// When the session began; tells one that began anew.
    created: Option<String>,
    /// The number of the last that was told of the session; what was missed comes after it.
    seq: u64,
    /// The number of this client's own last message.
    own_seq: u64,
    /// The number of the last reply.
    replied: u64,
    held: Option<Held>,
    outputs: VecDeque<Output>,
}

impl Conversation {
    /// One that begins with an attempt to connect, at once.
    pub fn new(options: Options, now: Instant) -> Self {
        Self {
            options,
            phase: Phase::Waiting(now),
            attempts: 0,
            max_message: usize::MAX,
            unacknowledged: VecDeque::new(),
            accepted: VecDeque::new(),
            verdicts: Vec::new(),
            asks: VecDeque::new(),
            created: None,
            seq: 0,
            own_seq: 0,
            replied: 0,
            held: None,
            outputs: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub fn next(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to connect; `None` if that is done, or over.
    pub fn connect_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(at) => Some(at),
            _ => None,
        }
    }

    /// When [`Conversation::beat`] is due.
    pub fn beat_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { beat, .. } => Some(beat),
            _ => None,
        }
    }

    // The connection.

    /// The WebSocket is open.
    pub fn opened(&mut self, now: Instant) {
        let beat = now + self.options.heartbeat;
        self.phase = Phase::Open {
            welcomed: false,
            beat,
            missed: 0,
        };
        self.held = self.created.is_some().then(Held::default);
        self.write(&Frame::Hello {
            stream: self.options.stream,
        });
    }

    /// Asks for a sign of life when it is time, unless the last question is still open.
    pub fn beat(&mut self, now: Instant) {
        let heartbeat = self.options.heartbeat;
        let Phase::Open { beat, missed, .. } = &mut self.phase else {
            return;
        };
        if now < *beat {
            return;
        }
        *missed += 1;
        *beat = now + heartbeat;
        if *missed > 1 {
            self.outputs.push_back(Output::Drop);
        } else {
            self.write(&Frame::Ping);
        }
    }

    /// The server is still there.
    pub fn sign_of_life(&mut self) {
        if let Phase::Open { missed, .. } = &mut self.phase {
            *missed = 0;
        }
    }

    /// There is no connection. `chance` is a random number from 0 to 1; with `for_good` no
    /// other attempt would help.
    pub fn lost(
        &mut self,
        code: Option<u16>,
        reason: String,
        for_good: bool,
        now: Instant,
        chance: f64,
    ) {
        // If there is a gap it is still there, and what came after it will come again.
        self.held = None;
        self.outputs
            .retain(|output| matches!(output, Output::Event(_)));
        let retry_in = (self.options.reconnect && !for_good).then(|| self.delay(chance));
        self.phase = match retry_in {
            Some(delay) => Phase::Waiting(now + delay),
            None => Phase::Ended,
        };
        if retry_in.is_none() {
            self.fail_all(&Error::Ended(reason.clone()));
        }
        self.tell(Event::Disconnected {
            code,
            reason,
            retry_in,
        });
    }

    /// Nothing is sent any more, and nobody waits any longer.
    pub fn end(&mut self) {
        self.phase = Phase::Ended;
        self.fail_all(&Error::Ended("this client has ended".to_owned()));
    }

    fn fail_all(&mut self, error: &Error) {
        let accepted = self.accepted.drain(..).map(|accepted| accepted.sent);
        let waiting = self.unacknowledged.drain(..).map(|outgoing| outgoing.sent);
        accepted
            .chain(waiting)
            .for_each(|sent| sent.fail(error.clone()));
    }

    /// Full jitter, so that a thousand clients of a restarted server don't all come at once.
    fn delay(&mut self, chance: f64) -> Duration {
        let Options {
            reconnect_delay,
            max_reconnect_delay,
            ..
        } = self.options;
        let longest = reconnect_delay
            .saturating_mul(1 << self.attempts)
            .min(max_reconnect_delay);
        self.attempts = (self.attempts + 1).min(MAX_DOUBLINGS);
        longest.mul_f64(chance.clamp(0.0, 1.0))
    }

    fn is_welcomed(&self) -> bool {
        matches!(self.phase, Phase::Open { welcomed: true, .. })
    }

    fn write(&mut self, frame: &Frame<'_>) {
        let text = text_of(frame);
        self.outputs.push_back(Output::Frame(text));
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    // What waits to be sent.

    /// Sends words to Claude, now or when there is a connection.
    pub fn send(&mut self, message: Outgoing) {
        let limit = self.options.queue_limit;
        if self.phase == Phase::Ended {
            let why = "there was no connection any more when it was sent".to_owned();
            message.sent.fail(Error::Ended(why));
        } else if self.unacknowledged.len() >= limit {
            let why = format!(
                "{limit} messages already wait for the server; send less, or give a larger queue_limit"
            );
            self.refuse(&message.sent, None, why);
        } else {
            self.unacknowledged.push_back(message.clone());
            if self.is_welcomed() {
                self.transmit(&message);
            }
        }
    }

    fn transmit(&mut self, message: &Outgoing) {
        let id = message.sent.id();
        let frame = text_of(&Frame::Message {
            session_id: &self.options.session,
            id,
            content: &message.content,
            user: &self.options.user,
            ts: &message.ts,
        });
        if frame.len() <= self.max_message {
            return self.outputs.push_back(Output::Frame(frame));
        }
        let (length, limit) = (frame.len(), self.max_message);
        let why = format!(
            "the message has {length} bytes, and the server takes {limit}; send less at once"
        );
        let code = Some(ErrorCode::TooLarge);
        self.refuse(&message.sent, code, why);
        self.unacknowledged
            .retain(|waiting| waiting.sent.id() != id);
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

    /// Asks for what was said in the session: with `since` the first messages after that
    /// `seq`, else the last ones.
    pub fn fetch_history(&mut self, limit: usize, since: Option<u64>) {
        self.ask(Ask {
            limit,
            since,
            fills: false,
        });
    }

    /// Answers a permission request.
    pub fn decide(&mut self, request_id: String, allowed: bool) {
        if self.is_welcomed() {
            self.write(&Frame::PermissionResponse {
                request_id: &request_id,
                allowed,
            });
        } else {
            self.verdicts.push((request_id, allowed));
        }
    }

    fn ask(&mut self, ask: Ask) {
        self.asks.push_back(ask);
        if !self.is_welcomed() {
            return;
        }
        let frame = text_of(&Frame::FetchHistory {
            session_id: &self.options.session,
            limit: ask.limit,
            since: ask.since,
        });
        self.outputs.push_back(Output::Frame(frame));
    }

    // What comes.

    /// Takes a text frame. One that only a newer server sends is left alone.
    pub fn heard(&mut self, text: &str) {
        self.sign_of_life();
        let Ok(message) = serde_json::from_str::<ServerMessage>(text) else {
            return log::warn!("the server has sent what this client does not understand");
        };
        match message {
            ServerMessage::Unknown => {}
            ServerMessage::Welcome {
                seq,
                ref created,
                max_message,
                ..
            } => {
                let created = created.clone();
                self.tell(Event::Message(message));
                self.welcome(seq, created, max_message);
            }
            ServerMessage::Reply {
                ref session_id,
                seq,
                ..
            }
            | ServerMessage::UserMessage {
                ref session_id,
                seq,
                ..
            } if *session_id == self.options.session => match &mut self.held {
                Some(held) => held.messages.push((seq, message)),
                None => self.said(seq, message),
            },
            ServerMessage::History { ref messages, .. } => match self.asks.pop_front() {
                Some(Ask { fills: true, .. }) => {
                    let messages = messages.clone();
                    self.filled(messages);
                }
                _ => self.tell(Event::Message(message)),
            },
            ServerMessage::Delivery {
                id,
                message_id,
                seq,
                state,
                code,
                hint,
                ..
            } => {
                let receipt = Receipt {
                    state,
                    message_id,
                    seq,
                    hint,
                };
                self.receipt(&id, receipt, code);
            }
            other => self.tell(Event::Message(other)),
        }
    }

    fn welcome(&mut self, seq: u64, created: String, max_message: usize) {
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

        let asks: Vec<Ask> = self.asks.drain(..).filter(|ask| !ask.fills).collect();
        if seq > self.seq {
            self.fill();
        } else {
            self.release();
        }
        for message in self.unacknowledged.clone() {
            self.transmit(&message);
        }
        asks.into_iter().for_each(|ask| self.ask(ask));
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
            fills: true,
        });
    }

    fn filled(&mut self, messages: Vec<HistoryItem>) {
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
        if item.role == Speaker::User && self.is_own(item.message_id, &item.ts, &item.content) {
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
            Speaker::Assistant => ServerMessage::Reply {
                session_id,
                message_id,
                seq,
                content,
                ts,
                via,
            },
            Speaker::User => {
                let user = user.unwrap_or_else(|| crate::protocol::DEFAULT_USER.to_owned());
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
            || self
                .unacknowledged
                .iter()
                .any(|own| own.ts == ts && own.content == content)
    }

    /// Tells what was said in the session, once.
    fn said(&mut self, seq: u64, message: ServerMessage) {
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

    fn receipt(&mut self, id: &str, receipt: Receipt, code: Option<ErrorCode>) {
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
    fn settle_answered(&mut self, earlier: bool) {
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

#[cfg(test)]
mod tests;

fn text_of(frame: &Frame<'_>) -> String {
    // Strings and numbers can always be written.
    serde_json::to_string(frame).unwrap_or_default()
}
