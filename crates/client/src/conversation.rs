//! What a client says and when: the whole of a conversation with the server over any number
//! of connections, without a socket, a thread or a clock.
//!
//! What happens goes in by the public functions, what is to be done comes out of
//! [`Conversation::next`]. It is the same as in the npm package. Here is what keeps the
//! connection.

mod receive;
mod send;
mod session;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::{Asked, Sessions};
use super::{Error, Event, Options};
use crate::protocol::{ClientMessage, ClientRequest, SessionId};
pub use send::Outgoing;
use send::{Accepted, Unacknowledged};
use session::{Ask, Held};

/// How many unanswered attempts in a row double the wait; beyond, it is the longest anyway.
const MAX_DOUBLINGS: u32 = 30;

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

/// How it is with the connection.
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

/// A conversation with the server.
#[derive(Debug)]
pub struct Conversation {
    options: Options,
    session: SessionId,
    user: Arc<str>,
    phase: Phase,
    attempts: u32,
    max_message: usize,
    /// Messages without a receipt, in order.
    unacknowledged: VecDeque<Unacknowledged>,
    /// Messages that wait for an answer, in order.
    accepted: VecDeque<Accepted>,
    /// Verdicts that wait for a connection.
    verdicts: Vec<(String, bool)>,
    /// Histories that were asked for and have not come, in order.
    asks: VecDeque<Ask>,
    /// Lists of sessions that were asked for and have not come, in order.
    lists: VecDeque<Asked<Sessions>>,
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
            session: SessionId::unchecked(&options.session),
            user: options.user.as_str().into(),
            options,
            phase: Phase::Waiting(now),
            attempts: 0,
            max_message: usize::MAX,
            unacknowledged: VecDeque::new(),
            accepted: VecDeque::new(),
            verdicts: Vec::new(),
            asks: VecDeque::new(),
            lists: VecDeque::new(),
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
        let stream = Some(self.options.stream);
        self.write(ClientRequest::Hello { stream });
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
            self.write(ClientRequest::Ping);
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
        let waiting = self.unacknowledged.drain(..).map(|waiting| waiting.sent);
        accepted
            .chain(waiting)
            .for_each(|sent| sent.fail(error.clone()));
        for ask in self.asks.drain(..) {
            ask.fail(error);
        }
        for list in self.lists.drain(..) {
            list.settle(Err(error.clone()));
        }
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

    fn write(&mut self, request: ClientRequest) {
        let frame = frame(&ClientMessage::Request(request));
        self.outputs.push_back(Output::Frame(frame));
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// Returns a message as the text of a frame.
fn frame(message: &ClientMessage) -> String {
    serde_json::to_string(message).expect("messages have string keys only")
}

#[cfg(test)]
mod tests;
