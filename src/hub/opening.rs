//! What the hub does with the store's answers: it opens sessions that are not in memory, and goes on with what waited for
//! that. A client that waits isn't heard further until then, so what it says keeps its order; nobody else waits.

use std::collections::{HashMap, VecDeque};
use std::iter::once;
use std::mem;

use rustc_hash::{FxHashMap, FxHashSet};

use super::answers::{FoundRest, HistoryRest};
use super::history::Span;
use super::journal::StoreState;
use super::receipts::Receipt;
use super::stored::{Change, Query, QueryAnswer, QueryId, SessionNumber, StoredReceipt};
use super::tools::AgentRead;
use super::{
    AgentId, AuthorId, CallId, ClientInput, CloseReason, Effects, Hub, MessageInput, MessageKey,
    Now, ToolCall, ToolOutcome,
};
use crate::protocol::{ClientRequest, ConnId, ErrorCode, Rejection, SessionId};

/// What waits for the store.
#[derive(Debug, Default)]
pub struct Questions {
    /// Those that the store hasn't been given yet.
    unasked: VecDeque<(QueryId, Query)>,
    last: u64,
    /// What each answer is for.
    pending: FxHashMap<QueryId, Purpose>,
    /// Who waits for sessions, in the order of their inputs.
    opening: HashMap<SessionId, Vec<Waiter>>,
    /// Who waits for the store itself.
    until_open: Vec<Waiter>,
    /// The clients that wait.
    waiting: FxHashSet<ConnId>,
    /// Those that wait no longer.
    resumed: VecDeque<ConnId>,
    /// The session of which the store has just said that it doesn't have it.
    absent: Option<SessionId>,
    /// Or it could not be read, and may have it.
    pub is_unknown: bool,
}

/// What an answer of the store is for.
#[derive(Debug)]
pub enum Purpose {
    /// A session is opened.
    Open(SessionId),
    /// A message with this key may be known.
    Receipt(SessionId, SessionNumber, MessageKey, Box<Waiter>),
    /// A client gets the next frame of its history.
    History(ConnId, Box<HistoryRest>),
    /// A client gets what was found.
    Search(ConnId, FoundRest),
    /// A client gets the list of sessions.
    Sessions(ConnId),
    /// A client gets the verdicts.
    Verdicts(ConnId, usize),
    /// Claude gets messages, these of them from the store.
    Messages(Box<AgentRead>, Span),
}

/// What an input needs from the store.
#[derive(Debug)]
pub enum Need {
    Session(SessionId),
    Receipt(SessionId, SessionNumber, MessageKey),
}

/// An input that goes on when the store has answered.
#[derive(Debug)]
pub enum Waiter {
    Client(ConnId, ClientInput),
    Call(AgentId, CallId, ToolCall),
}

impl Hub {
    /// Returns the next question for the store.
    pub fn poll_query(&mut self) -> Option<(QueryId, Query)> {
        self.questions.unasked.pop_front()
    }

    /// Returns all changes for the store since the last call.
    pub fn poll_store(&mut self) -> Vec<Change> {
        self.journal.take()
    }

    /// Returns `true` if the last input of a client waits for the store. No further one may be handled until
    /// [`Hub::poll_resumed`] returns the client; that it was cut off may.
    pub fn is_waiting(&self, client: ConnId) -> bool {
        self.questions.waiting.contains(&client)
    }

    /// Returns the next client that waits no longer.
    pub fn poll_resumed(&mut self) -> Option<ConnId> {
        let Questions {
            resumed, waiting, ..
        } = &mut self.questions;
        // It may wait for the next thing already.
        std::iter::from_fn(|| resumed.pop_front()).find(|client| !waiting.contains(client))
    }

    /// Returns what must be read from the store before an input of a client can be handled.
    pub(super) fn needs(&self, client: ConnId, input: &ClientInput) -> Option<Need> {
        if self.journal.state() == StoreState::Off {
            return None;
        }
        let (named, key) = match input {
            ClientInput::Connected { session, .. } => (Some(session), None),
            ClientInput::Message(MessageInput { message, .. }) => {
                (message.session.as_ref(), message.id.as_ref())
            }
            ClientInput::Request(ClientRequest::FetchHistory { session, .. }) => {
                (session.as_ref(), None)
            }
            ClientInput::Request(ClientRequest::FetchReceipt { session, id }) => {
                (session.as_ref(), Some(id))
            }
            _ => return None,
        };
        let id = match (named, self.clients.get(&client)) {
            (Some(id), None) => id,
            (None, None) => return None,
            (named, Some(known)) => {
                let id = named.unwrap_or(&known.default_session);
                // What it may not read isn't read.
                if !known.grant.covers(id) {
                    return None;
                }
                id
            }
        };
        let Some(session) = self.sessions.get(id) else {
            return self.needs_session(id);
        };
        let key = key.filter(|key| session.receipts.must_look_up(key))?;
        let number = session.number?;
        Some(Need::Receipt(id.clone(), number, key.clone()))
    }

    /// Returns a session that is not in memory and may be in the store.
    pub(super) fn needs_session(&self, id: &SessionId) -> Option<Need> {
        let is_known = self.sessions.contains_key(id)
            || self.questions.absent.as_ref() == Some(id)
            || self.journal.state() == StoreState::Off
            || self
                .journal
                .is_removing(&self.agents[self.default_agent].label, id);
        (!is_known).then(|| Need::Session(id.clone()))
    }

    /// Keeps an input until the store has answered.
    pub(super) fn wait(&mut self, need: Need, waiter: Waiter) {
        self.questions.hold(&waiter);
        match need {
            Need::Session(_) if self.journal.state() == StoreState::Opening => {
                self.questions.until_open.push(waiter);
            }
            Need::Session(id) => {
                if let Some(waiters) = self.questions.opening.get_mut(&id) {
                    return waiters.push(waiter);
                }
                self.questions.opening.insert(id.clone(), vec![waiter]);
                let agent = self.agents[self.default_agent].label.clone();
                let purpose = Purpose::Open(id.clone());
                self.ask(purpose, Query::Session { agent, id });
            }
            Need::Receipt(id, session, key) => {
                let query = Query::Receipt {
                    session,
                    key: key.clone(),
                };
                let purpose = Purpose::Receipt(id, session, key, Box::new(waiter));
                self.ask(purpose, query);
            }
        }
    }

    /// Asks the store, and lets a client wait for that.
    pub(super) fn ask_for(&mut self, client: ConnId, purpose: Purpose, query: Query) {
        self.questions.waiting.insert(client);
        self.ask(purpose, query);
    }

    pub(super) fn ask(&mut self, purpose: Purpose, query: Query) {
        self.questions.last += 1;
        let id = QueryId(self.questions.last);
        self.questions.pending.insert(id, purpose);
        self.questions.unasked.push_back((id, query));
    }

    /// Reacts to an answer of the store.
    pub(super) fn answered(
        &mut self,
        now: Now,
        id: QueryId,
        answer: QueryAnswer,
        out: &mut impl Effects,
    ) {
        let Some(purpose) = self.questions.pending.remove(&id) else {
            return;
        };
        match purpose {
            Purpose::Open(id) => self.open_session(now, id, answer, out),
            Purpose::Receipt(id, number, key, waiter) => {
                let receipt = match answer {
                    QueryAnswer::Receipt(receipt) => receipt,
                    QueryAnswer::Failed if self.journal.is_open() => {
                        return self.refuse(vec![*waiter], &unreadable(&id), out);
                    }
                    _ => None,
                };
                // One that was removed meanwhile may have begun anew.
                let session = self.sessions.get_mut(&id);
                if let Some(session) = session.filter(|known| known.number == Some(number)) {
                    let client = waiter.client().unwrap_or(NOBODY);
                    let receipt = receipt.map(|stored| restored_receipt(&stored, client));
                    session.receipts.looked_up(key, receipt);
                }
                self.resume(now, *waiter, out);
            }
            Purpose::History(client, rest) => {
                self.questions.resume(client);
                let (messages, more) = match answer {
                    QueryAnswer::Messages { messages, more } => (messages, more),
                    _ => (Vec::new(), false),
                };
                self.history_read(client, *rest, messages, more, out);
            }
            Purpose::Search(client, rest) => {
                self.questions.resume(client);
                let found = match answer {
                    QueryAnswer::Found(found) => found,
                    _ => Vec::new(),
                };
                self.search_done(client, rest, found, out);
            }
            Purpose::Sessions(client) => {
                self.questions.resume(client);
                let (stored, total) = match answer {
                    QueryAnswer::Sessions { sessions, total } => (sessions, total),
                    _ => (Vec::new(), 0),
                };
                self.sessions_read(client, stored, total, out);
            }
            Purpose::Verdicts(client, limit) => {
                self.questions.resume(client);
                let verdicts = match answer {
                    QueryAnswer::Verdicts(verdicts) => verdicts,
                    _ => Vec::new(),
                };
                self.send_verdicts(client, limit, verdicts, out);
            }
            Purpose::Messages(read, stored) => {
                let (messages, more) = match answer {
                    QueryAnswer::Messages { messages, more } => (messages, more),
                    _ => (Vec::new(), false),
                };
                self.messages_read(*read, stored, messages, more, out);
            }
        }
    }

    /// Goes on with what waits for a session.
    pub(super) fn open_session(
        &mut self,
        now: Now,
        id: SessionId,
        answer: QueryAnswer,
        out: &mut impl Effects,
    ) {
        let waiters = self.questions.opening.remove(&id).unwrap_or_default();
        match answer {
            QueryAnswer::Session(Some(stored)) if !self.sessions.contains_key(&id) => {
                let creator = waiters
                    .first()
                    .map_or(AuthorId::Connection(NOBODY), |waiter| self.creator(waiter));
                if let Err(rejection) = self.make_room(creator, &id) {
                    return self.refuse(waiters, &rejection, out);
                }
                self.add_stored(now, creator, &id, &stored);
            }
            // Another session of this name would hide the one on disk.
            QueryAnswer::Failed if self.journal.is_open() => {
                return self.refuse(waiters, &unreadable(&id), out);
            }
            answer => {
                self.questions.is_unknown = matches!(answer, QueryAnswer::Failed);
                self.questions.absent = Some(id.clone());
            }
        }
        for waiter in waiters {
            self.resume(now, waiter, out);
        }
        self.questions.is_unknown = false;
        self.questions.absent = None;
        self.reschedule(&id);
    }

    /// Who opens a session.
    fn creator(&self, waiter: &Waiter) -> AuthorId {
        match waiter {
            Waiter::Client(client, ClientInput::Connected { grant, .. }) => {
                AuthorId::of(*client, grant)
            }
            Waiter::Client(client, _) => match self.clients.get(client) {
                Some(known) => AuthorId::of(*client, &known.grant),
                None => AuthorId::Connection(*client),
            },
            Waiter::Call(..) => AuthorId::Connection(NOBODY),
        }
    }

    /// Handles an input that has waited.
    fn resume(&mut self, now: Now, waiter: Waiter, out: &mut impl Effects) {
        match waiter {
            Waiter::Client(client, input) => {
                self.questions.resume(client);
                self.handle_client(now, client, input, out);
            }
            Waiter::Call(agent, call, tool) => self.call_tool(now, agent, &call, tool, out),
        }
    }

    /// Handles what has waited for the store.
    pub(super) fn resume_all(&mut self, now: Now, out: &mut impl Effects) {
        let waiters = mem::take(&mut self.questions.until_open);
        let opening = mem::take(&mut self.questions.opening);
        for waiter in opening.into_values().flatten().chain(waiters) {
            self.resume(now, waiter, out);
        }
    }

    /// The session that these inputs wait for can't be opened.
    fn refuse(&mut self, waiters: Vec<Waiter>, rejection: &Rejection, out: &mut impl Effects) {
        for waiter in waiters {
            let (client, input) = match waiter {
                Waiter::Client(client, input) => (client, input),
                Waiter::Call(agent, call, _) => {
                    let outcome = ToolOutcome::NotOpened {
                        chat_id: &rejection.session_id,
                        why: &rejection.message,
                    };
                    out.answer(agent, &call, &outcome);
                    continue;
                }
            };
            self.questions.resume(client);
            let is_new = matches!(input, ClientInput::Connected { .. });
            let id = match input {
                ClientInput::Message(message) => message.message.id.map(|id| id.to_string()),
                _ => None,
            };
            let rejection = Rejection {
                id,
                ..rejection.clone()
            };
            self.reject(client, &rejection, out);
            if is_new {
                out.close(client, CloseReason::TryAgainLater);
            }
        }
    }

    /// Drops the clients that wait to connect and whose grant isn't valid any more.
    pub(super) fn drop_waiting(
        &mut self,
        is_valid: impl Fn(u64) -> bool,
        reason: CloseReason,
        out: &mut impl Effects,
    ) {
        let Questions {
            until_open,
            opening,
            waiting,
            resumed,
            ..
        } = &mut self.questions;
        for waiters in opening.values_mut().chain(once(until_open)) {
            waiters.retain(|waiter| match waiter {
                Waiter::Client(client, ClientInput::Connected { grant, .. })
                    if !is_valid(grant.id) =>
                {
                    out.close(*client, reason);
                    waiting.remove(client);
                    resumed.push_back(*client);
                    false
                }
                _ => true,
            });
        }
    }
}

impl Questions {
    /// Returns the sessions that the store was asked for.
    pub fn opening(&self) -> Vec<SessionId> {
        self.opening.keys().cloned().collect()
    }

    /// Ignores what the store will answer of a session.
    pub fn forget_opening(&mut self, id: &SessionId) {
        let opens = |purpose: &Purpose| matches!(purpose, Purpose::Open(opened) if opened == id);
        self.pending.retain(|_, purpose| !opens(purpose));
    }

    /// Records that an input waits.
    fn hold(&mut self, waiter: &Waiter) {
        if let Some(client) = waiter.client() {
            self.waiting.insert(client);
        }
    }

    /// Records that a client waits no longer.
    fn resume(&mut self, client: ConnId) {
        if self.waiting.remove(&client) {
            self.resumed.push_back(client);
        }
    }
}

impl Waiter {
    fn client(&self) -> Option<ConnId> {
        match self {
            Self::Client(client, _) => Some(*client),
            Self::Call(..) => None,
        }
    }
}

/// Why a client gets nothing of a session, or can say nothing there.
fn unreadable(id: &SessionId) -> Rejection {
    Rejection {
        session_id: id.to_string(),
        ..Rejection::new(
            ErrorCode::Busy,
            "what is kept of this session cannot be read from the disk; try again, and if that does not help, see \"claude-socket doctor\"",
        )
    }
}

/// The connection of what no client of this run has sent.
pub const NOBODY: ConnId = ConnId(0);

fn restored_receipt(stored: &StoredReceipt, client: ConnId) -> Receipt {
    Receipt {
        message_id: stored.message_id,
        seq: stored.seq,
        fingerprint: stored.fingerprint,
        number: 0,
        position: 0,
        state: Some(stored.state),
        client,
    }
}
