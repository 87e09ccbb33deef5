//! A conversation with the server over any number of connections: what is sent, and when, without a socket, a thread
//! or a clock.
//!
//! What happens goes in by the public functions; what is to be done comes out of [`Conversation::next`]. The npm
//! package has the same state machine, and `tests/stories/client` is played to both. This file keeps the connection.

mod receive;
mod send;
mod session;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pending::{Found, Pending, Sessions};
use crate::protocol::{
    ClientMessage, ClientRequest, HistoryItem, SessionId, SessionItem, VerdictItem,
};
use crate::refusal::Disconnect;
use crate::{Error, Event, Options, Refusal};
pub use send::Outgoing;
use send::{Acknowledged, OwnIds, Unacknowledged};
use session::{HistoryRequest, ReorderBuffer, Requests};

/// The number of failed attempts in a row that double the wait.
const MAX_DOUBLINGS: u32 = 30;

/// What the driver must do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this text frame.
    Frame(String),
    /// Give this to the app.
    Event(Event),
    /// Leave the connection: the server gives no sign of life.
    Drop,
}

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The next attempt is made at this time.
    Waiting(Instant),
    /// The WebSocket is open.
    Open {
        /// The server has said who it is.
        welcomed: bool,
        /// When the next heartbeat is due.
        heartbeat: Instant,
        /// Heartbeats since the last sign of life.
        missed: u32,
    },
    /// There will be no more attempts.
    Ended,
}

/// The client's side of a conversation.
#[derive(Debug)]
pub struct Conversation {
    options: Options,
    session: SessionId,
    user: Arc<str>,
    phase: Phase,
    /// Why there will be no more attempts.
    ended: Option<Error>,
    attempts: u32,
    /// The longest frame that the server takes, in bytes.
    max_message: usize,
    /// Messages without a receipt, in order.
    unacknowledged: VecDeque<Unacknowledged>,
    /// Messages that the server has, and that wait for an answer, in order.
    acknowledged: VecDeque<Acknowledged>,
    own_ids: OwnIds,
    /// Permission responses that wait for a connection.
    responses: Vec<(String, bool)>,
    /// Requests for history without an answer, in order.
    history_requests: VecDeque<HistoryRequest>,
    /// Requests for the sessions without an answer, in order.
    session_requests: VecDeque<Pending<Sessions>>,
    searches: Requests<Vec<Found>>,
    verdict_requests: Requests<Vec<VerdictItem>>,
    /// What has come of an answer with history, and is not all of it.
    history_part: Vec<HistoryItem>,
    /// What its frames have said of messages that are not kept any more.
    truncated_before: Option<u64>,
    /// What has come of an answer with sessions, and is not all of it.
    sessions_part: Vec<SessionItem>,
    /// What has come of an answer to a search, and is not all of it.
    found_part: Vec<Found>,
    /// What has come of an answer with verdicts, and is not all of it.
    verdicts_part: Vec<VerdictItem>,
    /// When the session began; tells one that began anew.
    created: Option<String>,
    /// The last `seq` that the app was told. What was missed comes after it.
    seq: u64,
    /// The `seq` of this client's own last message.
    own_seq: u64,
    reorder_buffer: Option<ReorderBuffer>,
    outputs: VecDeque<Output>,
}

impl Conversation {
    /// Returns a conversation that begins with an attempt to connect, at once.
    pub fn new(options: Options, now: Instant) -> Self {
        Self {
            session: SessionId::unchecked(&options.session),
            user: options.user.as_str().into(),
            options,
            phase: Phase::Waiting(now),
            ended: None,
            attempts: 0,
            max_message: usize::MAX,
            unacknowledged: VecDeque::new(),
            acknowledged: VecDeque::new(),
            own_ids: OwnIds::default(),
            responses: Vec::new(),
            history_requests: VecDeque::new(),
            session_requests: VecDeque::new(),
            searches: Requests::default(),
            verdict_requests: Requests::default(),
            history_part: Vec::new(),
            truncated_before: None,
            sessions_part: Vec::new(),
            found_part: Vec::new(),
            verdicts_part: Vec::new(),
            created: None,
            seq: 0,
            own_seq: 0,
            reorder_buffer: None,
            outputs: VecDeque::new(),
        }
    }

    /// Returns what must be done next.
    pub fn next(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to connect; `None` if there is a connection, or none is wanted.
    pub fn connect_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(at) => Some(at),
            _ => None,
        }
    }

    /// Returns when [`Conversation::heartbeat`] is due.
    pub fn heartbeat_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { heartbeat, .. } => Some(heartbeat),
            _ => None,
        }
    }

    /// The WebSocket is open.
    pub fn connected(&mut self, now: Instant) {
        self.phase = Phase::Open {
            welcomed: false,
            heartbeat: now + self.options.heartbeat,
            missed: 0,
        };
        self.history_part.clear();
        self.truncated_before = None;
        self.sessions_part.clear();
        self.found_part.clear();
        self.verdicts_part.clear();
        self.reorder_buffer = self.created.is_some().then(ReorderBuffer::default);
        let stream = Some(self.options.stream);
        self.write(ClientRequest::Hello { stream });
    }

    /// Asks for a sign of life if it is time, or leaves the connection if the last request had no answer.
    pub fn heartbeat(&mut self, now: Instant) {
        let interval = self.options.heartbeat;
        let Phase::Open {
            heartbeat, missed, ..
        } = &mut self.phase
        else {
            return;
        };
        if now < *heartbeat {
            return;
        }
        *missed += 1;
        *heartbeat = now + interval;
        if *missed > 1 {
            self.outputs.push_back(Output::Drop);
        } else {
            self.write(ClientRequest::Ping);
        }
    }

    /// Notes a sign of life of the server.
    pub fn peer_alive(&mut self) {
        if let Phase::Open { missed, .. } = &mut self.phase {
            *missed = 0;
        }
    }

    /// There is no connection. `random` is from 0 to 1, and shortens the wait. After a refusal that is final, there are no
    /// more attempts.
    pub fn disconnected(&mut self, disconnect: Disconnect, now: Instant, random: f64) {
        let Disconnect {
            code,
            reason,
            refusal,
            retry_after,
        } = disconnect;
        // A gap is still there after the next connect, and what came after it comes again.
        self.reorder_buffer = None;
        self.outputs
            .retain(|output| matches!(output, Output::Event(_)));
        let is_final = refusal.as_ref().is_some_and(Refusal::is_final);
        let retries = self.options.reconnect && !is_final;
        let retry_in = retries.then(|| retry_after + self.delay(random));
        match retry_in {
            Some(delay) => self.phase = Phase::Waiting(now + delay),
            None => {
                let ended = Error::Ended(reason.clone());
                self.end(refusal.clone().map_or(ended, Error::Refused));
            }
        }
        if let Some(refusal) = refusal {
            self.emit(Event::Refused(refusal));
        }
        self.emit(Event::Disconnected {
            code,
            reason,
            retry_in,
        });
    }

    /// Ends the conversation, unless it has. Whatever waits for the server fails. Returns why it has ended.
    pub fn end(&mut self, error: Error) -> Error {
        self.phase = Phase::Ended;
        let error = self.ended.get_or_insert(error).clone();
        self.fail_all(&error);
        error
    }

    fn fail_all(&mut self, error: &Error) {
        let acknowledged = self.acknowledged.drain(..).map(|own| own.sent);
        let waiting = self.unacknowledged.drain(..).map(|waiting| waiting.sent);
        acknowledged
            .chain(waiting)
            .for_each(|sent| sent.fail(error.clone()));
        for request in self.history_requests.drain(..) {
            request.fail(error);
        }
        for request in self.session_requests.drain(..) {
            request.settle(Err(error.clone()));
        }
        self.searches.fail_all(error);
        self.verdict_requests.fail_all(error);
    }

    /// Full jitter, so that a thousand clients of a restarted server don't all come at once.
    fn delay(&mut self, random: f64) -> Duration {
        let Options {
            reconnect_delay,
            max_reconnect_delay,
            ..
        } = self.options;
        let longest = reconnect_delay
            .saturating_mul(1 << self.attempts)
            .min(max_reconnect_delay);
        self.attempts = (self.attempts + 1).min(MAX_DOUBLINGS);
        longest.mul_f64(random.clamp(0.0, 1.0))
    }

    fn is_welcomed(&self) -> bool {
        matches!(self.phase, Phase::Open { welcomed: true, .. })
    }

    fn write(&mut self, request: ClientRequest) {
        let frame = frame(&ClientMessage::Request(request));
        self.outputs.push_back(Output::Frame(frame));
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// Returns a message as the text of a frame.
fn frame(message: &ClientMessage) -> String {
    serde_json::to_string(message).expect("messages have string keys only")
}

#[cfg(test)]
mod tests;
