//! The hub: who is in which session, what was said, and what happens next.
//!
//! A plain state machine. It knows apps as [`ConnId`]s and Claude Code as
//! something that takes [`Notification`]s. Time comes in as an argument, effects
//! go out through [`Effects`]; it opens no socket, starts no thread and reads no
//! clock, so that every rule here can be tested in microseconds.

mod apps;
mod effects;
mod event;
mod history;
mod hooks;
mod host;
mod likeness;
mod listing;
mod messages;
mod permissions;
mod receipts;
mod rights;
mod session;
mod shares;
mod summary;
mod turn;
mod watch;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, info};
use rustc_hash::FxHashMap;
use uuid::Uuid;

pub use effects::{Closing, Effects, Notification, Remarkable};
pub use event::{HookEvent, Tag, Tool};
pub use permissions::PermissionRequest;
use permissions::Permissions;
use receipts::Receipt;
use session::Session;
pub use summary::{Channel, Counts, Summary};
pub use turn::HookId;
use turn::Turn;
pub use watch::CHANNEL_OFF;
use watch::Watch;

use crate::protocol::{
    ConnId, DeliveryState, EXPIRED, Grant, HistoryItem, MessageId, ServerMessage, SessionId,
};

/// The moment at which something happens.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For lifetimes: never jumps.
    pub at: Instant,
    /// For timestamps: what people's clocks show.
    pub wall: SystemTime,
}

impl Now {
    fn timestamp(self) -> String {
        timestamp(self.wall)
    }
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// How much the hub keeps, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a session stays after its last client has left.
    pub session_ttl: Duration,
    /// How long it stays while an answer nobody has received waits in it.
    pub unseen_ttl: Duration,
    /// How long a permission request waits for a verdict.
    pub permission_ttl: Duration,
    /// How long an idle Claude Code may take to see a message, where hooks tell.
    pub seen_timeout: Duration,
    /// The most permission requests that wait at once.
    pub max_permissions: usize,
    /// The most sessions at once.
    pub max_sessions: usize,
    /// The most messages of history a session keeps.
    pub history_messages: usize,
    /// The most bytes of history a session keeps.
    pub history_bytes: usize,
    /// The most bytes of history all sessions keep together.
    pub history_total: usize,
    /// The longest frame of a client's, in bytes. Clients are told; the socket's side checks it.
    pub max_message: usize,
}

/// What became of a reply or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It went to someone.
    Sent,
    /// Nobody is in the session at the moment.
    NobodyThere,
}

impl Reach {
    fn of(clients: usize) -> Self {
        if clients == 0 {
            Self::NobodyThere
        } else {
            Self::Sent
        }
    }
}

/// There is no such session. Holds the names of those there are, sorted.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownSession(pub Vec<SessionId>);

/// All session state.
pub struct Hub {
    limits: Limits,
    sessions: HashMap<SessionId, Session>,
    /// The bytes of all their histories.
    history_total: usize,
    clients: FxHashMap<ConnId, Client>,
    permissions: Permissions,
    /// The empty sessions by the moment they expire.
    expiries: BTreeSet<(Instant, SessionId)>,
    /// Messages with an id that Claude Code doesn't have yet, by their number.
    on_their_way: VecDeque<(u64, SessionId, Arc<str>)>,
    /// How many messages were given to Claude Code's side.
    notified: u64,
    /// Claude Code is getting the messages up to this number.
    handing_over: u64,
    /// What Claude is at.
    turn: Turn,
    /// Something of an earlier turn goes on in the background.
    in_background: bool,
    /// Whether messages get into the conversation.
    watch: Watch,
    /// Half of every message id; see [`Hub::next_id`].
    id_prefix: u64,
    ids: u64,
    host: Option<(String, String)>,
    host_ready: bool,
    counts: Counts,
}

/// One connection.
struct Client {
    /// The session of its URL.
    home: SessionId,
    /// Every session it takes part in, its home first.
    sessions: Vec<SessionId>,
    /// What it may do.
    grant: Arc<Grant>,
    /// What it called itself last.
    user: Option<Arc<str>>,
    /// It wants Claude's text as it appears.
    stream: bool,
    /// It wanted what it may not do, and that was remarked.
    overstepped: bool,
    /// It has gone, and is only heard to its end.
    gone: bool,
}

impl Hub {
    /// An empty hub. `id_prefix` should be random: it makes message ids unique
    /// across restarts.
    pub fn new(limits: Limits, id_prefix: u64) -> Self {
        Self {
            watch: Watch::new(limits.seen_timeout),
            limits,
            sessions: HashMap::new(),
            history_total: 0,
            clients: FxHashMap::default(),
            permissions: Permissions::default(),
            expiries: BTreeSet::new(),
            on_their_way: VecDeque::new(),
            notified: 0,
            handing_over: 0,
            turn: Turn::default(),
            in_background: false,
            id_prefix,
            ids: 0,
            host: None,
            host_ready: false,
            counts: Counts::default(),
        }
    }

    // ---- Time ----

    /// When [`Hub::tick`] wants to be called next.
    pub fn next_expiry(&self) -> Option<Instant> {
        let session = self.expiries.first().map(|(at, _)| *at);
        let permission = self.permissions.next_expiry();
        let unseen = self.watch.deadline().filter(|_| !self.turn.is_running());
        session.into_iter().chain(permission).chain(unseen).min()
    }

    /// Forgets what has expired, and looks after what is missing.
    pub fn tick(&mut self, now: Now, fx: &mut impl Effects) {
        self.look_for_missing(now, fx);
        while let Some(request) = self.permissions.expire(now.at) {
            info!("nobody answered {request}");
            self.resolved(&request, false, EXPIRED, fx);
        }
        while self.expiries.first().is_some_and(|(at, _)| *at <= now.at)
            && let Some((_, id)) = self.expiries.pop_first()
        {
            debug!("session \"{id}\" has expired");
            let expired = self.sessions.remove(&id);
            self.history_total -= expired.map_or(0, |session| session.history_bytes());
        }
    }

    /// Brings the note of a session's expiry up to date.
    fn reschedule(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let expires = session.expires(&self.limits);
        if session.scheduled == expires {
            return;
        }
        if let Some(at) = session.scheduled {
            self.expiries.remove(&(at, id.clone()));
        }
        if let Some(at) = expires {
            self.expiries.insert((at, id.clone()));
        }
        session.scheduled = expires;
    }

    // ---- Looking in ----

    /// Figures for `/healthz` and `/metrics`.
    pub fn summary(&self) -> Summary {
        Summary {
            sessions: self.sessions.len(),
            clients: self.clients.len(),
            permissions: self.permissions.iter().len(),
            counts: self.counts.clone(),
            host_ready: self.host_ready,
            host: self.host.clone(),
            channel: self.watch.channel(),
        }
    }

    /// The last `limit` messages of a session, oldest first; none if there is no
    /// such session.
    pub fn messages(&self, chat_id: &str, limit: usize) -> Vec<HistoryItem<&str>> {
        let session = self.sessions.get(chat_id);
        session.map_or_else(Vec::new, |session| session.history(limit, None))
    }

    // ---- What both sides share ----

    /// Closes a permission request everywhere it was shown.
    fn resolved(
        &self,
        request: &PermissionRequest,
        allowed: bool,
        by: &str,
        fx: &mut impl Effects,
    ) {
        self.to_operators(fx, |home| ServerMessage::PermissionResolved {
            session_id: home.as_str(),
            request_id: &request.request_id,
            allowed,
            by,
        });
    }

    /// Sends every operator one message, made for the session of its URL.
    fn to_operators<'a>(
        &'a self,
        fx: &mut impl Effects,
        message: impl Fn(&'a SessionId) -> ServerMessage<&'a str>,
    ) {
        for (id, session) in &self.sessions {
            let at_home = |member: &ConnId| {
                let client = &self.clients[member];
                client.home == *id && client.grant.role.decides()
            };
            let mut members = session.members.iter().copied().filter(at_home).peekable();
            if members.peek().is_some() {
                fx.send(members, &message(id));
            }
        }
    }

    /// A version 8 UUID (RFC 9562) of the random prefix and a counter: unique like
    /// a random one, without asking the system for randomness for each message.
    fn next_id(&mut self) -> MessageId {
        self.ids += 1;
        let bytes = (u128::from(self.id_prefix) << 64) | u128::from(self.ids);
        MessageId(Uuid::new_v8(bytes.to_be_bytes()))
    }
}

fn only(client: ConnId) -> std::iter::Once<ConnId> {
    std::iter::once(client)
}

fn permission_request<'a>(
    home: &'a SessionId,
    request: &'a PermissionRequest,
) -> ServerMessage<&'a str> {
    ServerMessage::PermissionRequest {
        session_id: home.as_str(),
        request_id: &request.request_id,
        tool_name: &request.tool_name,
        description: &request.description,
        input_preview: &request.input_preview,
    }
}

fn delivery<'a>(
    session_id: &'a SessionId,
    id: &'a str,
    receipt: &Receipt,
    state: DeliveryState,
    hint: Option<&'a str>,
) -> ServerMessage<&'a str> {
    ServerMessage::Delivery {
        session_id: session_id.as_str(),
        id,
        message_id: Some(receipt.message_id),
        seq: Some(receipt.seq),
        state,
        code: None,
        hint,
    }
}
