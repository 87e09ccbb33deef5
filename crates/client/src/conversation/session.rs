//! The session's messages: each is given to the app once and in order, also those that were missed while there was no
//! connection.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Conversation, Phase};
use crate::pending::{Found, Pending, Sessions};
use crate::protocol::{
    Author, ClientRequest, DEFAULT_USER, HistoryItem, MAX_LIMIT, ServerMessage, SessionId,
    VerdictItem,
};
use crate::{Error, Event};

/// A request for history.
#[derive(Clone, Debug)]
pub struct HistoryRequest {
    limit: usize,
    since: Option<u64>,
    before: Option<u64>,
    /// What the answer is for.
    pub purpose: HistoryPurpose,
}

/// What a history is for.
#[derive(Clone, Debug)]
pub enum HistoryPurpose {
    /// The app has asked for it.
    App(Pending<Vec<HistoryItem>>),
    /// It fills the gap of a lost connection.
    Gap,
}

impl HistoryRequest {
    /// Stores that there will be no answer.
    pub fn fail(self, error: &Error) {
        if let HistoryPurpose::App(pending) = self.purpose {
            pending.settle(Err(error.clone()));
        }
    }
}

/// Requests of one type without an answer, in order.
#[derive(Debug)]
pub struct Requests<T>(VecDeque<(ClientRequest, Pending<T>)>);

impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Clone> Requests<T> {
    /// Stores the answer to the oldest.
    pub fn settle(&mut self, answer: Result<T, Error>) {
        if let Some((_, pending)) = self.0.pop_front() {
            pending.settle(answer);
        }
    }

    /// Stores that there will be no answers.
    pub fn fail_all(&mut self, error: &Error) {
        for (_, pending) in self.0.drain(..) {
            pending.settle(Err(error.clone()));
        }
    }

    fn requests(&self) -> impl Iterator<Item = ClientRequest> {
        self.0.iter().map(|(request, _)| request.clone())
    }
}

/// Holds what comes while messages before it are still missing.
#[derive(Debug, Default)]
pub struct ReorderBuffer {
    /// Messages with their `seq`.
    pub messages: Vec<(u64, ServerMessage)>,
    /// The `seq` of this client's own last message.
    pub own_seq: u64,
}

impl Conversation {
    /// Asks for messages of the session: with `since` the first ones after that `seq`, else the last ones; with `before`
    /// only those before that `seq`.
    pub fn fetch_history(
        &mut self,
        limit: usize,
        since: Option<u64>,
        before: Option<u64>,
        pending: Pending<Vec<HistoryItem>>,
    ) {
        self.request_history(HistoryRequest {
            limit,
            since,
            before,
            purpose: HistoryPurpose::App(pending),
        });
    }

    fn request_history(&mut self, request: HistoryRequest) {
        if let Some(error) = &self.ended {
            return request.fail(error);
        }
        let HistoryRequest {
            limit,
            since,
            before,
            ..
        } = request;
        self.history_requests.push_back(request);
        if self.is_welcomed() {
            let session = Some(self.session.clone());
            self.write(ClientRequest::FetchHistory {
                session,
                limit,
                since,
                before,
            });
        }
    }

    /// Asks which sessions there are.
    pub fn fetch_sessions(&mut self, pending: Pending<Sessions>) {
        if let Some(error) = &self.ended {
            return pending.settle(Err(error.clone()));
        }
        self.session_requests.push_back(pending);
        if self.is_welcomed() {
            self.write(ClientRequest::ListSessions);
        }
    }

    /// Asks for messages with these words: of one session, or of all that this client may read.
    pub fn search(
        &mut self,
        text: Arc<str>,
        limit: usize,
        session: Option<SessionId>,
        pending: Pending<Vec<Found>>,
    ) {
        if let Some(error) = &self.ended {
            return pending.settle(Err(error.clone()));
        }
        let request = ClientRequest::Search {
            session,
            text,
            limit,
        };
        self.searches.0.push_back((request.clone(), pending));
        if self.is_welcomed() {
            self.write(request);
        }
    }

    /// Asks for the last permission requests that were decided.
    pub fn fetch_verdicts(&mut self, limit: usize, pending: Pending<Vec<VerdictItem>>) {
        if let Some(error) = &self.ended {
            return pending.settle(Err(error.clone()));
        }
        let request = ClientRequest::FetchVerdicts { limit };
        self.verdict_requests
            .0
            .push_back((request.clone(), pending));
        if self.is_welcomed() {
            self.write(request);
        }
    }

    /// Handles what was found in one session, or a part of that.
    pub(super) fn handle_found(
        &mut self,
        session_id: String,
        mut messages: Vec<HistoryItem>,
        text: &str,
        more: bool,
    ) {
        match self.found_part.last_mut() {
            Some(last) if last.session_id == session_id => last.messages.append(&mut messages),
            _ => self.found_part.push(Found {
                session_id,
                messages,
            }),
        }
        if more {
            return;
        }
        let mut found = std::mem::take(&mut self.found_part);
        let last = found.len() - 1;
        for (place, session) in found.iter().enumerate() {
            self.emit(Event::Message(ServerMessage::History {
                session_id: session.session_id.clone(),
                messages: session.messages.clone(),
                truncated_before: None,
                search: Some(text.to_owned()),
                more: place < last,
            }));
        }
        found.retain(|session| !session.messages.is_empty());
        self.searches.settle(Ok(found));
    }

    /// The server has not taken the oldest request of this type.
    pub(super) fn fail_request(&mut self, request: &str, error: &Error) {
        match request {
            "fetch_history" => match self.history_requests.pop_front() {
                Some(request) if matches!(request.purpose, HistoryPurpose::Gap) => self.release(),
                Some(request) => request.fail(error),
                None => {}
            },
            "list_sessions" => {
                if let Some(pending) = self.session_requests.pop_front() {
                    pending.settle(Err(error.clone()));
                }
            }
            "search" => self.searches.settle(Err(error.clone())),
            "fetch_verdicts" => self.verdict_requests.settle(Err(error.clone())),
            _ => {}
        }
    }

    /// The server has said who it is, and the session's last `seq`.
    pub(super) fn welcome(&mut self, seq: u64, created: String, max_message: usize) {
        if let Phase::Open { welcomed, .. } = &mut self.phase {
            *welcomed = true;
        }
        self.attempts = 0;
        self.max_message = max_message;
        match &self.created {
            None => self.seq = seq,
            Some(known) if *known != created => {
                (self.seq, self.own_seq) = (0, 0);
            }
            Some(_) => {}
        }
        self.created = Some(created);
        self.seq = self.seq.max(self.own_seq);

        let is_wanted =
            |request: &HistoryRequest| matches!(request.purpose, HistoryPurpose::App(_));
        let requests: Vec<_> = self.history_requests.drain(..).filter(is_wanted).collect();
        if seq > self.seq {
            self.request_missed();
        } else {
            self.release();
        }
        self.request_receipts();
        self.transmit_all();
        for request in requests {
            self.request_history(request);
        }
        for _ in 0..self.session_requests.len() {
            self.write(ClientRequest::ListSessions);
        }
        let searches = self.searches.requests();
        let others: Vec<_> = searches.chain(self.verdict_requests.requests()).collect();
        for request in others {
            self.write(request);
        }
        for (request_id, allowed) in std::mem::take(&mut self.responses) {
            self.respond_to_permission(request_id, allowed);
        }
    }

    /// Asks for what was missed. What comes meanwhile is held back, so that the app gets all of it in order.
    fn request_missed(&mut self) {
        let since = Some(self.seq);
        self.reorder_buffer.get_or_insert_default();
        self.request_history(HistoryRequest {
            limit: MAX_LIMIT,
            since,
            before: None,
            purpose: HistoryPurpose::Gap,
        });
    }

    /// Handles a page of what was missed. Some messages before `truncated_before` are not kept any more.
    pub(super) fn handle_missed(
        &mut self,
        messages: Vec<HistoryItem>,
        truncated_before: Option<u64>,
    ) {
        let (before, count) = (self.seq, messages.len());
        if let Some(until) = truncated_before.filter(|until| *until > before + 1) {
            let after = before;
            self.emit(Event::Gap { after, until });
        }
        for item in messages {
            self.emit_missed(item);
        }
        // A server that repeats itself must not be asked for ever.
        if count >= MAX_LIMIT && self.seq > before {
            self.request_missed();
        } else {
            self.release();
        }
    }

    /// Nothing is missing any more.
    fn release(&mut self) {
        let buffer = self.reorder_buffer.take().unwrap_or_default();
        for (seq, message) in buffer.messages {
            self.emit_in_order(seq, message);
        }
        self.own_seq = self.own_seq.max(buffer.own_seq);
    }

    fn emit_missed(&mut self, item: HistoryItem) {
        let session_id = self.options.session.clone();
        let HistoryItem {
            role,
            content,
            ts,
            message_id,
            seq,
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
        self.emit_in_order(seq, message);
    }

    /// Gives a message to the app, unless it had it or has sent it. After a reconnect, one that this client has sent over
    /// the lost connection can come as that of somebody else.
    pub(super) fn emit_in_order(&mut self, seq: u64, message: ServerMessage) {
        if seq <= self.seq {
            return;
        }
        self.seq = seq;
        if let ServerMessage::UserMessage {
            message_id,
            ts,
            content,
            ..
        } = &message
            && self.is_own(*message_id, ts, content)
        {
            return;
        }
        self.emit(Event::Message(message));
    }
}
