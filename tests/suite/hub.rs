//! The stories, played to the hub alone: no process, no socket, and a clock that the story
//! moves.

use std::collections::{HashMap, VecDeque};
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use claude_socket::agent::{channel, tools};
use claude_socket::hub::stored::{QueryAnswer, Selection, StoreInput};
use claude_socket::hub::{
    AgentId, AgentInput, CallId, ClientInput, CloseReason, Effects, Hub, Input, Limits, Now,
    PermissionRequest, RequestId, Revocation, ToolOutcome,
};
use claude_socket::protocol::{
    self, ClientMessage, ConnId, Grant, RateLimit, Role, ServerMessage, SessionId, SessionPattern,
};
use claude_socket::store::{self, Options, Store};
use crossbeam_channel::Receiver;
use serde_json::{Value, json};

use crate::hooks;
use crate::server::{TEST_TIMEOUT, text_of};
use crate::state::State;
use crate::story::{self, Stage, Token};

/// What the hub has sent.
#[derive(Default)]
struct Sent {
    clients: HashMap<ConnId, VecDeque<Value>>,
    /// Params of notifications.
    agent: VecDeque<Value>,
    /// The result of the last tool call.
    result: Value,
    /// The number of the last message that the agent was given.
    given: u64,
    /// Senders are held back.
    pub hold: bool,
    /// Many clients read slowly.
    congested: bool,
    /// The most bytes that a frame may have.
    max_frame: usize,
}

impl Effects for Sent {
    fn send(&mut self, to: impl Iterator<Item = ConnId>, message: &ServerMessage<&str>) -> usize {
        let length = serde_json::to_vec(message).map_or(0, |frame| frame.len());
        let message = serde_json::to_value(message).expect("a message serializes");
        let kind = &message["type"];
        assert!(
            length <= self.max_frame,
            "a frame {kind} has {length} bytes"
        );
        let mut reached = 0;
        // Nobody of this run has sent what was sent in an earlier one.
        for client in to.filter(|client| *client != ConnId(0)) {
            reached += 1;
            let queue = self.clients.entry(client).or_default();
            queue.push_back(message.clone());
        }
        reached
    }

    fn is_congested(&self) -> bool {
        self.congested
    }

    fn close(&mut self, client: ConnId, reason: CloseReason) {
        let closed = json!({ "closed": format!("{reason:?}") });
        self.clients.entry(client).or_default().push_back(closed);
    }

    fn answer(&mut self, _: AgentId, _: &CallId, outcome: &ToolOutcome<'_>) {
        self.result = serde_json::to_value(tools::render(outcome)).expect("a result serializes");
    }

    fn verdict(&mut self, _: AgentId, request_id: &RequestId, allowed: bool) {
        let mut line = Vec::new();
        channel::write_verdict(&mut line, request_id.as_str(), allowed);
        self.agent.push_back(params(&line));
    }

    fn hold_senders(&mut self, _: AgentId, hold: bool) {
        self.hold = hold;
    }
}

fn params(line: &[u8]) -> Value {
    let mut line: Value = serde_json::from_slice(line).expect("a line to the agent is JSON");
    line["params"].take()
}

/// A store, and what it has been given.
struct Kept {
    folder: State,
    store: Store,
    reports: Receiver<StoreInput>,
    written: u64,
    stored: u64,
    unanswered: usize,
    /// Nothing of what it reports gets to the hub.
    waits: bool,
    /// It answers nothing.
    is_unreadable: bool,
}

impl Kept {
    fn open(folder: State) -> Self {
        let options = Options {
            folder: Path::new(folder.path()).join("store"),
            port: 1,
            agent: "project".into(),
            ttl: Duration::from_secs(30 * 24 * 60 * 60),
            max_bytes: 256 * 1024 * 1024,
        };
        let (store, reports) = store::start(options).expect("the store starts");
        Self {
            folder,
            store,
            reports,
            written: 0,
            stored: 0,
            // That it is open.
            unanswered: 1,
            waits: false,
            is_unreadable: false,
        }
    }

    fn give(&mut self, hub: &mut Hub) {
        let changes = hub.poll_store();
        self.written += changes.len() as u64;
        self.store.write(changes);
        while let Some((id, query)) = hub.poll_query() {
            self.unanswered += 1;
            self.store.ask(id, query);
        }
    }

    /// Returns what the store reports next; `None` if there is nothing to report.
    fn report(&mut self) -> Option<StoreInput> {
        if self.waits || (self.unanswered == 0 && self.stored >= self.written) {
            return None;
        }
        let report = self.reports.recv_timeout(TEST_TIMEOUT);
        let report = report.expect("the store reports");
        match &report {
            StoreInput::Stored(up_to) => self.stored = *up_to,
            StoreInput::Answer(..) | StoreInput::Opened(_) => self.unanswered -= 1,
            other => panic!("{other:?}"),
        }
        match report {
            StoreInput::Answer(id, _) if self.is_unreadable => {
                Some(StoreInput::Answer(id, QueryAnswer::Failed))
            }
            report => Some(report),
        }
    }
}

/// The hub with clients, an agent and a clock that are all made up.
pub struct HubStage {
    hub: Hub,
    sent: Sent,
    now: Now,
    conns: HashMap<String, ConnId>,
    /// How many have joined.
    joined: u64,
    /// By the names of the tokens.
    grants: HashMap<String, Arc<Grant>>,
    /// No client asks for more of an answer by itself.
    reads_slowly: bool,
    limits: Limits,
    kept: Option<Kept>,
    /// How many servers there were before.
    restarts: u64,
}

impl HubStage {
    pub fn new() -> Self {
        Self::with(Self::limits())
    }

    /// The limits that stories rely on.
    pub fn limits() -> Limits {
        Limits {
            session_ttl: Duration::from_secs(5 * 60),
            unread_ttl: Duration::from_secs(24 * 60 * 60),
            permission_ttl: Duration::from_secs(30 * 60),
            channel_delay: Duration::ZERO,
            seen_timeout: Duration::from_secs(10),
            max_permissions: 3,
            max_sessions: 4,
            max_sessions_per_token: 3,
            history_messages: 5,
            history_bytes: 10_000,
            history_total: 40_000,
            receipts_total: 40_000,
            inbox_messages: 4,
            inbox_bytes: 10_000,
            max_message: 1_000_000,
            max_frame: 1_200_000,
            stores: false,
        }
    }

    pub fn with(limits: Limits) -> Self {
        let mut stage = Self::not_ready(limits);
        stage.make_ready();
        stage
    }

    /// A hub whose agent has not accepted messages yet.
    pub fn not_ready(limits: Limits) -> Self {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let max_frame = limits.max_frame;
        let kept = limits.stores.then(|| Kept::open(State::new()));
        let mut stage = Self {
            hub: hub(&limits, 0),
            limits,
            kept,
            restarts: 0,
            sent: Sent {
                max_frame,
                ..Sent::default()
            },
            now: Now {
                instant: Instant::now(),
                wall: start,
            },
            conns: HashMap::new(),
            joined: 0,
            grants: HashMap::new(),
            reads_slowly: false,
        };
        stage.introduce_agent();
        stage
    }

    fn introduce_agent(&mut self) {
        self.agent(AgentInput::Initialized {
            name: "claude-code".into(),
            version: "2.1.330".into(),
        });
    }

    fn handle(&mut self, input: Input) {
        self.hub.handle(self.now, input, &mut self.sent);
        self.poll_agent();
        self.keep();
    }

    /// Has the store do all that it is asked for.
    fn keep(&mut self) {
        while let Some(kept) = &mut self.kept {
            kept.give(&mut self.hub);
            let Some(report) = kept.report() else { return };
            self.hub
                .handle(self.now, Input::Store(report), &mut self.sent);
            self.poll_agent();
            while self.hub.poll_resumed().is_some() {}
        }
    }

    /// Gives the agent its messages. It takes them one by one with [`Stage::notified`].
    fn poll_agent(&mut self) {
        while let Some(notification) = self.hub.poll_agent(AgentId::FIRST) {
            let mut line = Vec::new();
            channel::write_message(&mut line, &notification);
            self.sent.agent.push_back(params(&line));
            self.sent.given = notification.number;
        }
    }

    fn client(&mut self, client: &str, input: ClientInput) {
        self.handle(Input::Client(self.conns[client], input));
        while !self.reads_slowly && self.go_on(client) {}
    }

    /// Many clients read slowly, and none asks for more of an answer by itself.
    pub fn slow_down(&mut self) {
        self.reads_slowly = true;
        self.sent.congested = true;
    }

    /// A client has room for more of its answer. Returns `false` if it has all of it.
    pub fn go_on(&mut self, client: &str) -> bool {
        let conn = self.conns[client];
        let has_more = self.hub.has_more(conn);
        if has_more {
            self.handle(Input::Client(conn, ClientInput::GoOn));
        }
        has_more
    }

    fn agent(&mut self, input: AgentInput) {
        self.handle(Input::Agent(AgentId::FIRST, input));
    }

    /// Calls a tool and returns its result.
    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let call = match tools::parse(tool, &arguments.to_string(), &channel::ServerKey::Plugin) {
            Ok(call) => call,
            Err(tools::ParseError::InvalidArgument(wrong)) => {
                return json!({ "content": [{ "text": wrong.to_string() }] });
            }
            Err(tools::ParseError::UnknownTool) => panic!("no tool is called {tool}"),
        };
        self.agent(AgentInput::Call(CallId("1".into()), call));
        self.sent.result.take()
    }
}

impl Stage for HubStage {
    fn connect(&mut self, client: &str, session: &str, token: Option<&Token>) {
        self.joined += 1;
        let conn = ConnId(self.joined);
        self.conns.insert(client.to_owned(), conn);
        let session = SessionId::parse("session", session, 128).expect("the session id is valid");
        let grant = match token {
            None => Arc::new(Grant::WITHOUT_TOKEN),
            Some(token) => {
                let id = self.grants.len() as u64 + 1;
                let known = self.grants.entry(token.name.clone());
                known.or_insert_with(|| grant(id, token).into()).clone()
            }
        };
        self.client(client, ClientInput::Connected { session, grant });
    }

    fn remove_token(&mut self, name: &str) {
        let removed = self.grants[name].id;
        self.handle(Input::TokensChanged(Revocation {
            is_valid: Box::new(move |grant_id| grant_id != removed),
            reason: CloseReason::Unauthorized,
        }));
    }

    fn disconnect(&mut self, client: &str) {
        self.client(client, ClientInput::Disconnected);
    }

    fn lose_connection(&mut self, client: &str) {
        self.client(client, ClientInput::Lost);
        self.client(client, ClientInput::Disconnected);
    }

    fn send_frame(&mut self, client: &str, frame: &str) {
        let input = match protocol::parse(frame, 128) {
            Ok(ClientMessage::Message(message)) => ClientInput::Message(message.into()),
            Ok(ClientMessage::Request(request)) => ClientInput::Request(request),
            Err(rejection) => ClientInput::Rejected(rejection),
        };
        self.client(client, input);
    }

    fn next_frame(&mut self, client: &str) -> Option<Value> {
        self.sent.clients.get_mut(&self.conns[client])?.pop_front()
    }

    fn call_tool(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, &arguments);
        text_of(&result)
    }

    fn expect_hooks(&mut self) {
        self.agent(AgentInput::HooksExpected);
    }

    fn call_hook(&mut self, event: Value) -> Value {
        let mut result = hooks::no_output();
        for arguments in hooks::arguments(&event) {
            result = self.call("activity", &arguments);
        }
        result
    }

    fn request_permission(&mut self, request: Value) {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let request = PermissionRequest {
            request_id: text("request_id").into(),
            tool_name: text("tool_name"),
            description: text("description"),
            input_preview: text("input_preview"),
        };
        self.agent(AgentInput::PermissionRequest(request));
    }

    /// The agent takes a notification. When it has taken all, they count as written.
    fn next_notification(&mut self) -> Option<Value> {
        let next = self.sent.agent.pop_front()?;
        if self.sent.agent.is_empty() {
            self.agent(AgentInput::Written(self.sent.given));
        }
        Some(next)
    }

    fn make_ready(&mut self) {
        self.agent(AgentInput::Ready);
    }

    fn list_tools(&mut self) {
        self.agent(AgentInput::ToolsListed);
    }

    fn are_senders_held(&mut self) -> bool {
        self.sent.hold
    }

    fn end_agent(&mut self) {
        self.handle(Input::Closing);
        self.handle(Input::Shutdown);
    }

    fn restart(&mut self, in_good_order: bool) {
        if in_good_order {
            self.handle(Input::Closing);
            self.handle(Input::Shutdown);
        }
        let kept = self.kept.take().expect("the story has a store");
        let (folder, deadline) = (kept.folder, Instant::now() + TEST_TIMEOUT);
        assert!(kept.store.close(deadline), "the store closes");
        self.restarts += 1;
        self.hub = hub(&self.limits, self.restarts);
        self.kept = Some(Kept::open(folder));
        self.sent.given = 0;
        self.introduce_agent();
    }

    fn forget(&mut self, selection: Value) {
        let text = |name: &str| selection[name].as_str().map(str::to_owned);
        let agent = text("agent");
        let selection = match text("session") {
            Some(session) => Selection::Session {
                agent,
                session: SessionId::parse("session", &session, 128).expect("it is valid"),
            },
            None => agent.map_or(Selection::All, Selection::Agent),
        };
        self.handle(Input::Remove(selection));
    }

    fn has_store(&self) -> bool {
        self.kept.is_some()
    }

    fn control_store(&mut self, what: &str) {
        let kept = self.kept.as_mut().expect("the story has a store");
        match what {
            "store waits" => kept.waits = true,
            "store goes on" => kept.waits = false,
            "store cannot be read" => kept.is_unreadable = true,
            "store can be read" => kept.is_unreadable = false,
            "store fails" => return self.handle(Input::Store(StoreInput::Failing)),
            "store recovers" => {
                let must_resend = true;
                return self.handle(Input::Store(StoreInput::Recovered { must_resend }));
            }
            _ => panic!("no story has the line {what:?}"),
        }
        self.keep();
    }

    /// Time passes as in the server: the hub is woken whenever it has a deadline.
    fn advance_clock(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while let Some(at) = self.hub.poll_timeout().filter(|at| *at <= end) {
            self.now.wall += at - self.now.instant;
            self.now.instant = at;
            self.hub.handle_timeout(self.now, &mut self.sent);
            self.poll_agent();
            self.keep();
        }
        self.now.wall += end - self.now.instant;
        self.now.instant = end;
    }

    fn unexpected(&mut self) -> Vec<String> {
        let name = |conn: &ConnId| {
            let found = self.conns.iter().find(|(_, known)| *known == conn);
            found.map_or("?", |(name, _)| name)
        };
        let clients = self.sent.clients.iter().flat_map(|(conn, mail)| {
            mail.iter()
                .map(move |message| format!("{} < {message}", name(conn)))
        });
        let agent = self
            .sent
            .agent
            .iter()
            .map(|params| format!("agent < {params}"));
        clients.chain(agent).collect()
    }
}

/// Returns a hub that no other has been before.
fn hub(limits: &Limits, number: u64) -> Hub {
    let id_prefix = 0x0123_4567_89ab_cdef ^ number;
    Hub::new(limits.clone(), id_prefix, "project".into())
}

fn grant(id: u64, token: &Token) -> Grant {
    let pattern = |text| SessionPattern::parse(text).expect("the pattern is valid");
    let limit = |text| RateLimit::parse(text).expect("the rate is valid");
    Grant {
        id,
        user: Some(token.name.as_str().into()),
        role: Role::parse(&token.role).expect("the role exists"),
        sessions: token.sessions.as_deref().map(pattern),
        rate: token.rate.as_deref().map(limit).and_then(RateLimit::rate),
    }
}

#[test]
fn stories_pass_in_the_hub() {
    play_stories(false);
}

#[test]
fn stories_pass_in_the_hub_with_a_store() {
    play_stories(true);
}

fn play_stories(stores: bool) {
    let stories = story::all().filter(|story| story.is_for(stores));
    let failed = stories.filter(|story| {
        let limits = Limits {
            channel_delay: story.channel_delay(),
            stores,
            ..HubStage::limits()
        };
        // One run tells of every story that fails.
        panic::catch_unwind(|| story::play(story, &mut HubStage::not_ready(limits))).is_err()
    });
    assert_eq!(failed.count(), 0, "stories have failed");
}
