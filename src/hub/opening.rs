//! What the hub does with the store's answers: it opens sessions that are not in memory, and goes on with what waited for
//! that. A client that waits isn't heard further until then, so what it says keeps its order; nobody else waits.

use std::collections::{HashMap, VecDeque};
use std::iter::once;
use std::mem;
use std::sync::Arc;

use log::{info, warn};
use rustc_hash::{FxHashMap, FxHashSet};

use super::answers::{FoundRest, HistoryRest};
use super::history::Span;
use super::inbox::{InboxItem, Release};
use super::journal::StoreState;
use super::receipts::{self, Receipt};
use super::session::Session;
use super::stored::{
    Change, Opened, Query, QueryAnswer, QueryId, Selection, SessionNumber, StoreInput,
    StoredInboxItem, StoredReceipt, StoredSession,
};
use super::tools::AgentRead;
use super::{
    Agent, AgentId, AuthorId, CallId, ClientInput, CloseReason, Effects, Hub, MessageInput,
    MessageKey, Now, ToolCall, ToolOutcome,
};
use crate::protocol::{ClientRequest, ConnId, DeliveryState, Rejection, SessionId};
use crate::sanitize::escape_channel_tags;

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
}

/// What an answer of the store is for.
#[derive(Debug)]
pub enum Purpose {
    /// A session is opened.
    Open(SessionId),
    /// A message with this key may be known.
    Receipt(SessionId, MessageKey, Box<Waiter>),
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

    /// Reacts to what the store reports.
    pub(super) fn handle_store(&mut self, now: Now, input: StoreInput, out: &mut impl Effects) {
        match input {
            StoreInput::Opened(opened) => self.store_opened(now, *opened, out),
            StoreInput::Unavailable => {
                self.journal.set_state(StoreState::Off);
                self.resume_all(now, out);
            }
            StoreInput::Stored(up_to) => self.journal.mark_stored(up_to),
            StoreInput::Failing => self.journal.set_state(StoreState::Failing),
            StoreInput::Recovered { must_resend } => {
                self.journal.set_state(StoreState::Open);
                if must_resend {
                    self.record_again();
                }
            }
            StoreInput::Removed(removed) => self.mark_removed(&removed),
            StoreInput::Answer(id, answer) => self.answered(now, id, answer, out),
        }
        self.tell_stored(out);
    }

    /// Sends the receipts of messages that are on disk now.
    fn tell_stored(&mut self, out: &mut impl Effects) {
        while let Some(untold) = self.journal.pop_told() {
            let session = self.sessions.get(&untold.session);
            let receipt = session.and_then(|session| session.receipts.get(&untold.key));
            // Who has gone asks when it is back.
            if let Some(receipt) = receipt
                && self.clients.contains_key(&receipt.client)
            {
                let (id, key) = (&untold.session, &untold.key);
                let delivery = receipt.delivery(id, key, untold.state, untold.hint);
                out.send(once(receipt.client), &delivery);
            }
        }
        if !self.journal.is_open() {
            return;
        }
        let stored = self.journal.stored();
        for agent in self.agents.iter_mut() {
            while let Some(item) = agent.inbox.next_untold(stored) {
                let session = self.sessions.get_mut(&item.session);
                let receipts = session.map(|session| &mut session.receipts);
                let Some(key) = &item.key else { continue };
                let receipt = receipts.and_then(|receipts| receipts.get_mut(key));
                let Some(receipt) = receipt.filter(|receipt| receipt.state.is_none()) else {
                    continue;
                };
                let state = DeliveryState::Queued;
                receipt.state = Some(state);
                let queued = receipt.delivery(&item.session, key, state, None);
                out.send(once(receipt.client), &queued);
            }
        }
    }

    fn store_opened(&mut self, now: Now, opened: Opened, out: &mut impl Effects) {
        let Opened {
            next_session,
            sessions,
            inbox,
        } = opened;
        self.journal.begin_at(next_session);
        self.journal.set_state(StoreState::Open);
        let mut restored = FxHashSet::default();
        for (id, stored) in sessions {
            // One that has begun without the store stays without it.
            if !self.sessions.contains_key(&id) {
                self.add_stored(now, AuthorId::Connection(NOBODY), &id, &stored);
                restored.insert(id);
            }
        }
        if !inbox.is_empty() {
            info!("{} messages from before wait for Claude Code", inbox.len());
        }
        for item in inbox {
            if restored.contains(&item.session) {
                self.queue_restored(item);
            }
        }
        for id in &restored {
            self.reschedule(id);
        }
        let agent = self.default_agent;
        if let Some(hold) = self.agents[agent].inbox.poll_hold() {
            out.hold_senders(agent, hold);
        }
        self.resume_all(now, out);
    }

    /// Puts a message from an earlier run into the inbox.
    fn queue_restored(&mut self, item: StoredInboxItem) {
        let Some(session) = self.sessions.get_mut(&item.session) else {
            return;
        };
        let message = Arc::new(item.message);
        let inbox = &mut self.agents[session.agent].inbox;
        let number = inbox.last() + 1;
        let key = item.key.map(|(key, fingerprint)| {
            let receipt = Receipt {
                message_id: message.id,
                seq: message.seq,
                fingerprint,
                number,
                position: 0,
                state: Some(DeliveryState::Queued),
                client: NOBODY,
            };
            session.receipts.insert(key.clone(), receipt);
            key
        });
        self.receipts_total += receipts::bytes_of(key.as_ref());
        session
            .receipts
            .await_answer(number, message.id, message.seq, key.clone());
        let escaped = match escape_channel_tags(&message.content) {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(escaped) => Some(escaped.into()),
        };
        inbox.push(InboxItem {
            session: item.session,
            message,
            escaped,
            key,
            sender: NOBODY,
            release: Release::Queued,
        });
    }

    /// Adds a session that the store has to those in memory.
    fn add_stored(&mut self, now: Now, creator: AuthorId, id: &SessionId, stored: &StoredSession) {
        let mut session = Session::restored(now, creator, self.default_agent, id, stored);
        if let Some(status) = self.agents[session.agent].turn.status_for_everyone() {
            session.status = status;
        }
        self.history_total += session.history_bytes();
        self.receipts_total += session.receipts.bytes();
        self.sessions.insert(id.clone(), session);
        self.session_quota.add(creator);
    }

    /// Gives the store all that is known once more: it has missed some of it.
    fn record_again(&mut self) {
        let mut count = 0;
        for (id, session) in &mut self.sessions {
            if session.number.is_some() {
                let label = &self.agents[session.agent].label;
                session.record_again(&mut self.journal, label, id);
                count += 1;
            }
        }
        for agent in self.agents.iter_mut() {
            agent.stored_proof = None;
        }
        warn!("{count} sessions are written to the store once more, as far as they are in memory");
    }

    fn mark_removed(&mut self, removed: &[(SessionNumber, u64)]) {
        let before: FxHashMap<u32, u64> = removed
            .iter()
            .map(|(session, before)| (session.0, *before))
            .collect();
        for session in self.sessions.values_mut() {
            let number = session.number;
            if let Some(before) = number.and_then(|number| before.get(&number.0)) {
                session.mark_removed(*before);
            }
        }
    }

    // ---- Waiting ----

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
            || self.journal.state() == StoreState::Off;
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
                let purpose = Purpose::Receipt(id, key, Box::new(waiter));
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
    fn answered(&mut self, now: Now, id: QueryId, answer: QueryAnswer, out: &mut impl Effects) {
        let Some(purpose) = self.questions.pending.remove(&id) else {
            return;
        };
        match purpose {
            Purpose::Open(id) => self.open_session(now, id, answer, out),
            Purpose::Receipt(id, key, waiter) => {
                let receipt = match answer {
                    QueryAnswer::Receipt(receipt) => receipt,
                    _ => None,
                };
                if let Some(session) = self.sessions.get_mut(&id) {
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
    fn open_session(
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
            _ => self.questions.absent = Some(id.clone()),
        }
        for waiter in waiters {
            self.resume(now, waiter, out);
        }
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
    fn resume_all(&mut self, now: Now, out: &mut impl Effects) {
        let waiters = mem::take(&mut self.questions.until_open);
        let opening = mem::take(&mut self.questions.opening);
        for waiter in opening.into_values().flatten().chain(waiters) {
            self.resume(now, waiter, out);
        }
    }

    /// There is no room for the session that these inputs wait for.
    fn refuse(&mut self, waiters: Vec<Waiter>, rejection: &Rejection, out: &mut impl Effects) {
        for waiter in waiters {
            let (client, input) = match waiter {
                Waiter::Client(client, input) => (client, input),
                Waiter::Call(agent, call, _) => {
                    let outcome = ToolOutcome::NoRoom {
                        chat_id: &rejection.session_id,
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

    // ---- Removing ----

    /// Removes sessions and all that was said there. The clients in them are disconnected: what they show is gone.
    pub(super) fn forget(&mut self, selection: Selection, out: &mut impl Effects) {
        let is_meant = |id: &SessionId, session: &Session, agents: &super::agents::Agents| {
            let label = &agents[session.agent].label;
            match &selection {
                Selection::Session { agent, session } => {
                    session == id && agent.as_deref().is_none_or(|agent| agent == &**label)
                }
                Selection::Agent(agent) => **label == **agent,
                Selection::All => true,
            }
        };
        let meant: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(id, session)| is_meant(id, session, &self.agents))
            .map(|(id, _)| id.clone())
            .collect();
        for id in meant {
            if let Some(session) = self.sessions.get(&id) {
                for member in session.members.clone() {
                    out.close(member, CloseReason::SessionRemoved);
                    self.leave(member, &id);
                }
            }
            for agent in self.agents.iter_mut() {
                let Agent { inbox, .. } = agent;
                inbox.remove_session(&id);
                if let Some(hold) = inbox.poll_hold() {
                    out.hold_senders(agent.id, hold);
                }
            }
            self.remove_session(&id);
        }
        match &selection {
            Selection::All => self.agents.iter_mut().for_each(|agent| {
                agent.verdicts.clear();
            }),
            Selection::Agent(name) => {
                let agents = self.agents.iter_mut();
                agents
                    .filter(|agent| *agent.label == **name)
                    .for_each(|agent| agent.verdicts.clear());
            }
            Selection::Session { .. } => {}
        }
        if self.journal.is_kept() {
            self.journal.push(Change::Remove(selection));
        }
    }
}

impl Questions {
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

/// The connection of what no client of this run has sent.
const NOBODY: ConnId = ConnId(0);

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
