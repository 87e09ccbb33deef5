//! The spans of sessions: how many messages are removed together.

use rustc_hash::FxHashMap;

use crate::hub::stored::SessionNumber;

/// The most messages of a span: the oldest messages go first, as exactly as that.
const MESSAGES: usize = 64;
/// The most bytes of a span, but that the last message may exceed it.
const BYTES: usize = 256 * 1024;
/// The longest time of a span, in milliseconds.
const TIME: i64 = 60 * 60 * 1_000;
/// The most sessions that are remembered. One that is forgotten begins a new span.
const MAX_SESSIONS: usize = 4_096;

/// The newest span of each session in which something was said lately.
#[derive(Debug, Default)]
pub struct Spans(FxHashMap<SessionNumber, Span>);

#[derive(Clone, Copy, Debug)]
struct Span {
    start: i64,
    messages: usize,
    bytes: usize,
}

impl Spans {
    /// Adds a message, and returns `true` if a span begins with it.
    pub fn begins(&mut self, session: SessionNumber, said: i64, len: usize) -> bool {
        if let Some(span) = self.0.get_mut(&session)
            && span.messages < MESSAGES
            && span.bytes < BYTES
            && (said - span.start).abs() < TIME
        {
            span.messages += 1;
            span.bytes += len;
            return false;
        }
        if self.0.len() >= MAX_SESSIONS {
            self.0.clear();
        }
        let span = Span {
            start: said,
            messages: 1,
            bytes: len,
        };
        self.0.insert(session, span);
        true
    }

    /// Forgets the span of a session: it was removed.
    pub fn forget(&mut self, session: SessionNumber) {
        self.0.remove(&session);
    }
}
