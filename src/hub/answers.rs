//! Long answers: the history of a session, what was found in several, the list of sessions. Each is sent in as many frames
//! as it needs, with `more` in all but the last. The first is sent at once, or when the store has read it; for each other
//! one the client's reader asks when there is room, so that what waits for a client, and what others wait for, is one
//! frame and not the answer.

use std::collections::VecDeque;
use std::iter::once;
use std::sync::Arc;

use super::history::Span;
use super::opening::Purpose;
use super::session_list::Listed;
use super::stored::Query;
use super::{Effects, Hub, Message};
use crate::json;
use crate::protocol::{ConnId, HistoryItem, ServerMessage, SessionId};

/// The longest frame of an answer while many clients read slowly, in bytes. A single item may be longer.
const SHORT_FRAME: usize = 32 * 1024;

/// What is still to be sent of an answer.
#[derive(Debug)]
pub enum Answer {
    History(HistoryRest),
    Found(FoundRest),
    Sessions(SessionsRest),
}

/// Some messages of a session.
#[derive(Debug)]
pub struct HistoryRest {
    session: SessionId,
    /// When the session began; one that began anew has other messages.
    created: Arc<str>,
    /// Those that are still to be sent.
    span: Span,
    /// The last messages were asked for, and not the first after a seq.
    wants_last: bool,
    /// The client has every message before this seq, or it is one of the answer.
    read_from: u64,
    /// The store was asked for the messages before this seq.
    asked_before: u64,
}

/// What was found, newest first, by sessions.
#[derive(Debug)]
pub struct FoundRest {
    text: Arc<str>,
    default_session: SessionId,
    /// Oldest first in each.
    found: VecDeque<(SessionId, VecDeque<Arc<Message>>)>,
}

/// These sessions, in this order, as far as they still exist.
#[derive(Debug)]
pub struct SessionsRest {
    sessions: Vec<Listed>,
    total: usize,
    permissions: usize,
}

impl Answer {
    /// Returns the answer with these sessions.
    pub fn sessions(sessions: Vec<Listed>, total: usize, permissions: usize) -> Self {
        Self::Sessions(SessionsRest {
            sessions,
            total,
            permissions,
        })
    }
}

impl Hub {
    /// Returns the answer with the newest `limit` messages of a session before a seq; with `since`, with the first `limit`
    /// after it. A `since` beyond the newest seq comes from an earlier session of this name, so history starts at the
    /// beginning.
    pub(super) fn history_answer(
        &self,
        id: &SessionId,
        limit: usize,
        since: Option<u64>,
        before: Option<u64>,
    ) -> Answer {
        let session = self.sessions.get(id);
        let newest = session.map_or(0, |session| session.seq());
        let since = since.map(|seq| if seq > newest { 0 } else { seq });
        Answer::History(HistoryRest {
            session: id.clone(),
            created: session.map_or_else(|| "".into(), |session| session.created()),
            span: Span {
                after: since.unwrap_or(0),
                before: before.unwrap_or(u64::MAX).min(newest + 1),
                limit,
                is_last: since.is_none(),
            },
            wants_last: since.is_none(),
            // Who names a seq has the messages before it.
            read_from: 0,
            asked_before: 0,
        })
    }

    /// Returns `true` if the answer to a client's last request goes on with [`super::ClientInput::GoOn`], or has not
    /// begun yet.
    pub fn has_more(&self, client: ConnId) -> bool {
        let client = self.clients.get(&client);
        client.is_some_and(|client| client.answer.is_some())
    }

    /// Sends a client the first frame of an answer. If it hasn't got all of the one before, it does now, as far as that
    /// is in memory.
    pub(super) fn begin_answer(&mut self, client: ConnId, answer: Answer, out: &mut impl Effects) {
        while self.has_more(client) {
            self.go_on(client, out);
        }
        self.send_next(client, answer, out);
    }

    /// Sends a client the next frame of its answer.
    pub(super) fn go_on(&mut self, client: ConnId, out: &mut impl Effects) {
        let answering = self.clients.get_mut(&client);
        if let Some(answer) = answering.and_then(|client| client.answer.take()) {
            self.send_next(client, *answer, out);
        }
    }

    fn send_next(&mut self, client: ConnId, answer: Answer, out: &mut impl Effects) {
        let room = self.room(out);
        let rest = match answer {
            Answer::History(rest) => return self.send_history(client, rest, room, out),
            Answer::Found(rest) => self.send_found(client, rest, room, out).map(Answer::Found),
            Answer::Sessions(rest) => self
                .send_sessions(client, rest, room, out)
                .map(Answer::Sessions),
        };
        self.keep_rest(client, rest);
    }

    /// Returns the most bytes of the next frame for a client.
    fn room(&self, out: &impl Effects) -> usize {
        if out.is_congested() {
            self.limits.max_frame.min(SHORT_FRAME)
        } else {
            self.limits.max_frame
        }
    }

    fn keep_rest(&mut self, client: ConnId, rest: Option<Answer>) {
        if let Some(answering) = self.clients.get_mut(&client) {
            answering.answer = rest.map(Box::new);
        }
    }

    /// Sends a client the next frame of a history, or asks the store for what comes first in it.
    fn send_history(
        &mut self,
        client: ConnId,
        mut rest: HistoryRest,
        room: usize,
        out: &mut impl Effects,
    ) {
        let room = room - history_overhead(&rest.session);
        let session = self.sessions.get(&rest.session);
        let session = session.filter(|session| session.created() == rest.created);
        let Some((session, span)) = session.and_then(|session| {
            let span = session.stored_part(rest.span)?;
            Some((session.number?, span))
        }) else {
            return self.send_history_page(client, rest, Vec::new(), false, room, out);
        };
        rest.asked_before = span.before;
        let query = Query::Messages {
            session,
            span,
            room,
        };
        // Until then there is more to come.
        let purpose = Purpose::History(client, Box::new(rest));
        self.ask_for(client, purpose, query);
    }

    /// Goes on with a history when the store has read the messages that come first.
    pub(super) fn history_read(
        &mut self,
        client: ConnId,
        mut rest: HistoryRest,
        messages: Vec<Message>,
        more: bool,
        out: &mut impl Effects,
    ) {
        // What is sent counts as read.
        if !self.is_listening(client) {
            return;
        }
        let room = self.room(out) - history_overhead(&rest.session);
        rest.span.is_last = false;
        rest.span.limit -= messages.len().min(rest.span.limit);
        rest.span.after = match messages.last() {
            Some(last) if more => last.seq,
            // All before that was read.
            _ => rest.asked_before.saturating_sub(1).max(rest.span.after),
        };
        self.send_history_page(client, rest, messages, more, room, out);
    }

    /// Sends a client a frame with the messages that the store has read, and after them those in memory that fit.
    fn send_history_page(
        &mut self,
        client: ConnId,
        mut rest: HistoryRest,
        read: Vec<Message>,
        mut more: bool,
        room: usize,
        out: &mut impl Effects,
    ) {
        let id = &rest.session;
        let session = self.sessions.get_mut(id);
        let session = session.filter(|session| session.created() == rest.created);
        let Some(session) = session else {
            out.send(once(client), &history_frame(id, Vec::new(), None, false));
            return self.keep_rest(client, None);
        };
        let is_first = rest.read_from == 0;
        let begins_at = rest.span.after + 1;
        let used: usize = read.iter().map(|message| message.item_len() + 1).sum();
        let mut messages: Vec<&Message> = read.iter().collect();
        if !more && session.stored_part(rest.span).is_none() {
            let in_memory = session.messages(rest.span);
            let lengths = in_memory.clone().map(|message| message.item_len());
            let fits = match fitting(lengths, room.saturating_sub(used)) {
                // One always fits, but not beside others.
                1 if !read.is_empty() && used >= room => 0,
                fits => fits,
            };
            messages.extend(in_memory.clone().take(fits).map(|message| &**message));
            more = in_memory.clone().nth(fits).is_some();
            let sent = messages.len() - read.len();
            rest.span = Span {
                after: messages.last().map_or(rest.span.after, |last| last.seq),
                limit: rest.span.limit - sent.min(rest.span.limit),
                is_last: false,
                ..rest.span
            };
        } else {
            more = true;
        }
        // Of the last messages, some are missing if there are fewer than were asked for.
        let truncated_before = if rest.wants_last {
            (!more && rest.span.limit > 0).then(|| session.truncated_before(1))
        } else {
            is_first.then(|| session.truncated_before(begins_at))
        };
        let (first, last) = match (messages.first(), messages.last()) {
            (Some(first), Some(last)) => (first.seq, last.seq),
            _ => (0, 0),
        };
        let items = messages.iter().map(|message| message.item()).collect();
        out.send(
            once(client),
            &history_frame(id, items, truncated_before.flatten(), more),
        );
        if last > 0 {
            let from = if rest.wants_last {
                first
            } else {
                rest.read_from
            };
            session.mark_read(from, last, &mut self.journal);
            rest.read_from = last + 1;
        }
        self.reschedule(&rest.session.clone());
        self.keep_rest(client, more.then_some(Answer::History(rest)));
    }

    // ---- Searching ----

    /// Finds words in what was said.
    pub(super) fn search(
        &mut self,
        client: ConnId,
        session: Option<SessionId>,
        text: Arc<str>,
        limit: usize,
        out: &mut impl Effects,
    ) {
        let Some(searching) = self.clients.get(&client) else {
            return;
        };
        let grant = searching.grant.clone();
        let rest = FoundRest {
            text: text.clone(),
            default_session: session
                .clone()
                .unwrap_or_else(|| searching.default_session.clone()),
            found: VecDeque::new(),
        };
        if self.journal.is_kept() {
            let query = Query::Search {
                agent: self.agents[self.default_agent].label.clone(),
                session,
                grant,
                text,
                limit,
            };
            return self.ask_for(client, Purpose::Search(client, rest), query);
        }
        let readable = self.sessions.iter().filter(|(id, _)| {
            grant.covers(id) && session.as_ref().is_none_or(|session| session == *id)
        });
        let found = readable.flat_map(|(id, session)| {
            let messages = session.messages(Span::ALL);
            let found = messages.filter(|message| has_words(&message.content, &text));
            found.map(|message| (id.clone(), message.clone()))
        });
        let mut found: Vec<_> = found.collect();
        // Ids begin with the time.
        found.sort_by_key(|(_, message)| std::cmp::Reverse(message.id));
        found.truncate(limit);
        self.search_done(client, rest, found, out);
    }

    /// Sends a client what was found, newest first.
    pub(super) fn search_done(
        &mut self,
        client: ConnId,
        mut rest: FoundRest,
        found: Vec<(SessionId, Arc<Message>)>,
        out: &mut impl Effects,
    ) {
        for (session, message) in found {
            let mut known = rest.found.iter_mut();
            match known.find(|(known, _)| *known == session) {
                Some((_, messages)) => messages.push_front(message),
                None => rest.found.push_back((session, [message].into())),
            }
        }
        self.begin_answer(client, Answer::Found(rest), out);
    }

    fn send_found(
        &mut self,
        client: ConnId,
        mut rest: FoundRest,
        room: usize,
        out: &mut impl Effects,
    ) -> Option<FoundRest> {
        let text = rest.text.clone();
        let frame = |session_id, messages, more| ServerMessage::History {
            session_id,
            messages,
            truncated_before: None,
            search: Some(&*text),
            more,
        };
        let Some((id, mut messages)) = rest.found.pop_front() else {
            let id = rest.default_session.as_str();
            out.send(once(client), &frame(id, Vec::new(), false));
            return None;
        };
        let room = room - json::len(&frame(id.as_str(), Vec::new(), true));
        let fits = fitting(messages.iter().map(|message| message.item_len()), room);
        let left = messages.split_off(fits.min(messages.len()));
        let more = !left.is_empty() || !rest.found.is_empty();
        let items = messages.iter().map(|message| message.item()).collect();
        out.send(once(client), &frame(id.as_str(), items, more));
        if !left.is_empty() {
            rest.found.push_front((id, left));
        }
        more.then_some(rest)
    }

    fn send_sessions(
        &self,
        client: ConnId,
        mut rest: SessionsRest,
        room: usize,
        out: &mut impl Effects,
    ) -> Option<SessionsRest> {
        let frame = |sessions, more| ServerMessage::Sessions {
            sessions,
            total: rest.total,
            permissions: rest.permissions,
            more,
        };
        rest.sessions.retain(|listed| self.is_listed(listed));
        let mut items = self.session_items(&rest.sessions);
        let room = room - json::len(&frame(Vec::new(), true));
        let fitting = fitting(items.iter().map(json::len), room);
        let more = fitting < items.len();
        items.truncate(fitting);
        out.send(once(client), &frame(items, more));
        rest.sessions.drain(..fitting.min(rest.sessions.len()));
        more.then_some(rest)
    }
}

/// The bytes of a history but for its messages.
fn history_overhead(id: &SessionId) -> usize {
    json::len(&history_frame(id, Vec::new(), Some(u64::MAX), true))
}

fn history_frame<'a>(
    id: &'a SessionId,
    messages: Vec<HistoryItem<&'a str>>,
    truncated_before: Option<u64>,
    more: bool,
) -> ServerMessage<&'a str> {
    ServerMessage::History {
        session_id: id.as_str(),
        messages,
        truncated_before,
        search: None,
        more,
    }
}

/// Returns `true` if a text has these words, in any order and case; of the last, it may have more than that.
fn has_words(text: &str, words: &str) -> bool {
    let split = |text: &str| {
        let words = text.split(|c: char| !c.is_alphanumeric());
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect::<Vec<_>>()
    };
    let (text, mut words) = (split(text), split(words));
    let Some(last) = words.pop() else {
        return false;
    };
    text.iter().any(|word| word.starts_with(&last)) && words.iter().all(|word| text.contains(word))
}

/// Returns how many items with these lengths fit into so many bytes, each with a comma; one always does.
pub fn fitting(lengths: impl Iterator<Item = usize>, room: usize) -> usize {
    let mut total = 0;
    let fits = lengths.take_while(|length| {
        total += length + ",".len();
        total <= room
    });
    fits.count().max(1)
}
