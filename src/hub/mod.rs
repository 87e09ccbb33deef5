//! The hub: who is in which session, what was said there, and what happens next.
//!
//! A plain state machine. It knows clients as [`ConnId`]s and each Claude Code as an
//! [`AgentId`]. [`Hub::handle`] takes an [`Input`], effects go out through [`Effects`], time is
//! an argument. The hub opens no socket, starts no thread and reads no clock, so every rule
//! here is tested in microseconds.
//!
//! | call | does |
//! |---|---|
//! | [`Hub::handle`] | reacts to one input |
//! | [`Hub::poll_agent`] | returns the next message for an agent that has room for it |
//! | [`Hub::has_more`] | returns `true` if a client hasn't got all of an answer |
//! | [`Hub::poll_timeout`] | returns when [`Hub::handle_timeout`] is due |
//! | [`Hub::handle_timeout`] | does what is due |
//! | [`Hub::poll_store`] | returns the changes that the store must keep |
//! | [`Hub::poll_query`] | returns the next question for the store; [`stored::StoreInput`] has its answer |
//! | [`Hub::is_waiting`], [`Hub::poll_resumed`] | return which clients wait for an answer of the store, and which don't any more |
//! | [`Hub::stats`] | returns figures for `/healthz` and `/metrics` |

mod agents;
mod answers;
mod authorization;
mod budget;
mod clients;
mod delivery_monitor;
mod effects;
mod frame_limit;
mod history;
mod history_quota;
mod hook_event;
mod hooks;
mod inbox;
mod input;
mod input_match;
mod journal;
mod message;
mod messages;
mod opening;
mod permissions;
mod receipts;
mod receipts_quota;
mod registration;
mod removal;
mod session;
mod session_list;
mod session_quota;
mod stats;
mod store_reports;
pub mod stored;
mod tools;
mod turn;
mod unread;
mod verdicts;

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, info};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use agents::{Agent, Agents};
use budget::Budgets;
use clients::Client;
pub use delivery_monitor::HINT_CHANNEL_OFF;
pub use effects::{AuditEvent, CloseReason, Effects};
pub use frame_limit::{max_text, min_frame};
pub use hook_event::{ChannelTag, DeltaIndex, HookEvent, PromptId, TextId, Tool, ToolUseId};
pub use inbox::Notification;
pub use input::{
    AgentId, AgentInput, CallId, ClientInput, Input, MessageInput, PublishResult, Revocation,
    ToolCall, ToolOutcome,
};
use journal::Journal;
pub use message::{Author, AuthorId, Message};
use opening::{Questions, Waiter};
pub use permissions::{PermissionRequest, RequestId};
pub use receipts::Fingerprint;
use session::Session;
use session_quota::{SessionQuota, Standing};
pub use stats::{ChannelHealth, Counters, Stats};
pub use unread::GivenUp;

use crate::protocol::{ConnId, EXPIRED, MessageId, ServerMessage, SessionId};
use crate::sanitize::escape_channel_tags;

/// The moment at which something happens.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines; never jumps.
    pub instant: Instant,
    /// For timestamps that people read.
    pub wall: SystemTime,
}

impl Now {
    fn timestamp(self) -> Arc<str> {
        timestamp(self.wall)
    }
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn timestamp(time: SystemTime) -> Arc<str> {
    // A year has four digits until 9999, which humantime doesn't exceed.
    let mut text = [0; "2026-01-01T00:00:00.000Z".len()];
    let mut rest = &mut text[..];
    write!(rest, "{}", humantime::format_rfc3339_millis(time)).expect("the text has this length");
    str::from_utf8(&text).expect("digits are UTF-8").into()
}

/// The usual [`Limits::inbox_messages`].
pub const INBOX_MESSAGES: usize = 1_024;
/// The usual [`Limits::inbox_bytes`].
pub const INBOX_BYTES: usize = 1024 * 1024;

/// How much the hub keeps, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a session stays after its last client has left.
    pub session_ttl: Duration,
    /// How long a reply that nobody has received is kept, and its session with it.
    pub unread_ttl: Duration,
    /// How long a permission request waits for a verdict.
    pub permission_ttl: Duration,
    /// How long messages wait for an agent that has just started.
    pub channel_delay: Duration,
    /// How long an idle agent may take to see a message, where hooks report it.
    pub seen_timeout: Duration,
    /// The most pending permission requests of one agent.
    pub max_permissions: usize,
    /// The most sessions.
    pub max_sessions: usize,
    /// The most sessions that the clients with one token, or one client without a token, have begun.
    pub max_sessions_per_token: usize,
    /// The most messages in the history of one session.
    pub history_messages: usize,
    /// The most bytes in the history of one session.
    pub history_bytes: usize,
    /// The most bytes in the histories of all sessions together.
    pub history_total: usize,
    /// The most bytes of the receipts of all sessions together.
    pub receipts_total: usize,
    /// With this many messages in an agent's inbox, senders wait.
    pub inbox_messages: usize,
    /// With this many bytes in an agent's inbox, senders wait.
    pub inbox_bytes: usize,
    /// The longest frame of a client, in bytes. `welcome` reports it; the socket checks it. At most
    /// [`Limits::max_text`], so that everyone else in the session can be shown what is in it.
    pub max_message: usize,
    /// The longest frame for a client, in bytes of JSON. At least [`min_frame`].
    pub max_frame: usize,
    /// There will be a store, or the news that there is none. Clients wait for that.
    pub stores: bool,
}

/// The state of all sessions and agents.
pub struct Hub {
    limits: Limits,
    agents: Agents,
    /// The agent of sessions that are created from now on.
    default_agent: AgentId,
    sessions: HashMap<SessionId, Session>,
    session_quota: SessionQuota,
    /// The bytes of all histories.
    history_total: usize,
    /// The bytes of all receipts, and of those that were removed since they were counted the last time.
    receipts_total: usize,
    clients: FxHashMap<ConnId, Client>,
    /// The sessions without clients, by the moment they expire.
    expiries: BTreeSet<(Instant, SessionId)>,
    /// The random part of every message id; see [`Hub::next_id`].
    id_prefix: u64,
    ids: u32,
    counters: Counters,
    /// What the holders of tokens with a rate may still say.
    budgets: Budgets,
    /// What goes to the store.
    journal: Journal,
    /// What is asked of it, and who waits for that.
    questions: Questions,
    /// The server ends: whatever is sent now is rejected.
    is_closing: bool,
}

impl Hub {
    /// Returns an empty hub with one agent, [`AgentId::FIRST`], which has this name. `id_prefix` must be random: it
    /// makes message ids unique across restarts.
    pub fn new(limits: Limits, id_prefix: u64, agent: Arc<str>) -> Self {
        Self {
            agents: Agents::new(Agent::new(AgentId::FIRST, agent, &limits)),
            default_agent: AgentId::FIRST,
            journal: Journal::new(limits.stores),
            questions: Questions::default(),
            limits,
            sessions: HashMap::new(),
            session_quota: SessionQuota::default(),
            history_total: 0,
            receipts_total: 0,
            clients: FxHashMap::default(),
            expiries: BTreeSet::new(),
            id_prefix,
            ids: 0,
            counters: Counters::default(),
            budgets: Budgets::default(),
            is_closing: false,
        }
    }

    /// Reacts to one input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut impl Effects) {
        match input {
            Input::Client(client, input) => self.handle_client(now, client, input, out),
            Input::Agent(agent, input) => self.handle_agent(now, agent, input, out),
            Input::TokensChanged(revocation) => self.revoke(now, &revocation, out),
            Input::Store(input) => self.handle_store(now, input, out),
            Input::Remove(selection) => self.forget(now, selection, out),
            Input::Closing => self.close_agents(now, out),
            Input::Shutdown => self.close_clients(out),
        }
    }

    /// Reacts to what happens with a client, now or when the store has said what that needs.
    #[inline]
    fn handle_client(
        &mut self,
        now: Now,
        client: ConnId,
        input: ClientInput,
        out: &mut impl Effects,
    ) {
        if let Some(need) = self.needs(client, &input) {
            return self.wait(need, Waiter::Client(client, input));
        }
        match input {
            ClientInput::Connected { session, grant } => {
                self.connect(now, client, session, grant, out);
            }
            ClientInput::Message(message) => self.message(now, client, message, out),
            ClientInput::Request(request) => self.request(now, client, request, out),
            ClientInput::GoOn => self.go_on(client, out),
            ClientInput::Rejected(rejection) => self.reject(client, &rejection, out),
            ClientInput::Disconnected => self.disconnect(now, client),
            ClientInput::Lost => self.connection_lost(now, client),
        }
    }

    /// Returns the next message for an agent, or `None` if it has none or isn't ready. The
    /// message is in flight until [`AgentInput::Written`] confirms its number.
    pub fn poll_agent(&mut self, agent: AgentId) -> Option<Notification<'_>> {
        if !self.release(agent) {
            return None;
        }
        self.agents[agent].poll()
    }

    /// Returns when [`Hub::handle_timeout`] is due, or `None` if nothing has a deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let session = self.expiries.first().map(|(at, _)| *at);
        let agents = self.agents.iter().filter_map(Agent::poll_timeout);
        session.into_iter().chain(agents).min()
    }

    /// Removes what has expired, and reports messages that are overdue.
    pub fn handle_timeout(&mut self, now: Now, out: &mut impl Effects) {
        for agent in self.agents.ids() {
            self.check_trial(now, agent, out);
            self.check_overdue(now, agent, out);
            while let Some(request) = self.agents[agent].permissions.expire(now.instant) {
                info!("nobody answered {request}");
                let why = "nobody has decided it in time";
                self.expire_request(now, agent, &request, why, out);
            }
        }
        while let Some((at, id)) = self.expiries.first()
            && *at <= now.instant
        {
            let id = id.clone();
            if self.has_waiting_message(&id) || !self.is_stored(&id) {
                self.keep_longer(now, &id);
                continue;
            }
            debug!("session \"{id}\" has expired");
            self.give_up_unread(now, &id);
            self.close_session(&id);
        }
    }

    /// Returns figures for `/healthz` and `/metrics`.
    pub fn stats(&self) -> Stats {
        let agent = &self.agents[self.default_agent];
        Stats {
            sessions: self.sessions.len(),
            clients: self
                .clients
                .values()
                .filter(|client| !client.is_lost)
                .count(),
            permissions: self
                .agents
                .iter()
                .map(|agent| agent.permissions.len())
                .sum(),
            counters: self.counters.clone(),
            agent_ready: agent.is_ready,
            agent: agent.info.clone(),
            channel: agent.monitor.channel(),
        }
    }

    // ---- Shared by the rooms of the hub ----

    /// Lets a session without clients expire as if the last had left now.
    fn keep_longer(&mut self, now: Now, id: &SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.restart_expiry(now);
        }
        self.reschedule(id);
    }

    /// Updates when a session expires, and whether it can make room for another.
    fn reschedule(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let expires = session.expires(&self.limits);
        let timer = expires.map(|at| (at, session.standing()));
        let before = std::mem::replace(&mut session.expiry_timer, timer);
        if before == timer {
            return;
        }
        self.unschedule(before, id);
        if let Some(timer) = timer {
            self.expiries.insert((timer.0, id.clone()));
            self.session_quota.offer(timer, id);
        }
        if let Some(surplus) = self.session_quota.surplus().cloned() {
            self.remove_session(&surplus);
        }
    }

    fn unschedule(&mut self, timer: Option<(Instant, Standing)>, id: &SessionId) {
        if let Some(timer) = timer {
            self.expiries.remove(&(timer.0, id.clone()));
            self.session_quota.withdraw(timer, id);
        }
    }

    /// Returns `true` if everything of a session is on disk, or stays in memory only.
    fn is_stored(&self, id: &SessionId) -> bool {
        let session = self.sessions.get(id);
        session.is_none_or(|session| session.is_stored(&self.journal))
    }

    /// Removes a session from memory. If the store has it, it can be opened again.
    fn close_session(&mut self, id: &SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.settle_seq(&mut self.journal);
        }
        self.remove_session(id);
    }

    /// Removes a session and all that is in memory of it.
    fn remove_session(&mut self, id: &SessionId) {
        if let Some(session) = self.sessions.remove(id) {
            self.unschedule(session.expiry_timer, id);
            self.session_quota.remove(session.creator);
            self.history_total -= session.history_bytes();
            self.receipts_total -= session.receipts.bytes();
        }
    }

    /// Tells every operator that a permission request was decided.
    fn broadcast_resolved(
        &mut self,
        now: Now,
        agent: AgentId,
        request: &PermissionRequest,
        allowed: bool,
        by: &str,
        out: &mut impl Effects,
    ) {
        self.send_to_operators(out, |session| ServerMessage::PermissionResolved {
            session_id: session.as_str(),
            request_id: request.request_id.as_str(),
            allowed,
            by,
            reason: None,
        });
        self.note_verdict(now, agent, request, allowed, by);
    }

    /// Tells every operator that nobody can decide a permission request any more, and why.
    fn expire_request(
        &mut self,
        now: Now,
        agent: AgentId,
        request: &PermissionRequest,
        why: &str,
        out: &mut impl Effects,
    ) {
        self.send_to_operators(out, |session| ServerMessage::PermissionResolved {
            session_id: session.as_str(),
            request_id: request.request_id.as_str(),
            allowed: false,
            by: EXPIRED,
            reason: Some(why),
        });
        self.note_verdict(now, agent, request, false, EXPIRED);
    }

    /// Sends every operator one message, made for the session of its URL.
    fn send_to_operators<'a>(
        &'a self,
        out: &mut impl Effects,
        message: impl Fn(&'a SessionId) -> ServerMessage<&'a str>,
    ) {
        for (id, session) in &self.sessions {
            let is_operator_here = |member: &ConnId| {
                let client = &self.clients[member];
                client.default_session == *id && client.grant.role.can_approve()
            };
            let members = session.members.iter().copied();
            let mut operators = members.filter(is_operator_here).peekable();
            if operators.peek().is_some() {
                out.send(operators, &message(id));
            }
        }
    }

    /// Returns a version 7 UUID (RFC 9562, section 5.7): the time in milliseconds, then 42
    /// random bits that are the same for all ids of this process, then a counter. That is
    /// as unique as a random one, without a system call for each message.
    fn next_id(&mut self, now: Now) -> MessageId {
        self.ids = self.ids.wrapping_add(1);
        let since_epoch = now.wall.duration_since(SystemTime::UNIX_EPOCH);
        let millis = since_epoch.map_or(0, |since| {
            since.as_secs() * 1_000 + u64::from(since.subsec_millis())
        });
        let high = (millis << 16) | 0x7000 | (self.id_prefix >> 52);
        let low = (0b10 << 62) | (self.id_prefix << 34 >> 2) | u64::from(self.ids);
        MessageId(Uuid::from_u64_pair(high, low))
    }
}

/// Returns the id of the session that an agent means. A name with a channel tag in it is known to the agent in escaped
/// form only; one that could be any of several is none.
fn find_session<'s>(
    sessions: &'s HashMap<SessionId, Session>,
    chat_id: &str,
) -> Option<&'s SessionId> {
    if !chat_id.contains("&lt;") {
        return sessions.get_key_value(chat_id).map(|(id, _)| id);
    }
    let mut meant = sessions
        .keys()
        .filter(|id| escape_channel_tags(id.as_str()) == chat_id);
    let first = meant.next();
    first.filter(|_| meant.next().is_none())
}

/// Returns the session of that name and its id.
fn session_mut<'s>(
    sessions: &'s mut HashMap<SessionId, Session>,
    chat_id: &str,
) -> Option<(SessionId, &'s mut Session)> {
    let id = find_session(sessions, chat_id)?.clone();
    let session = sessions.get_mut(&id)?;
    Some((id, session))
}

/// A client's own id of a message.
type MessageKey = Arc<str>;
