//! The stories, played to the hub alone: no process, no socket, and a clock that the story
//! moves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use claude_socket::agent::{channel, tools};
use claude_socket::hub::{
    AgentId, AgentInput, CallId, ClientInput, CloseReason, Effects, Hub, Input, Limits, Now,
    PermissionRequest, RequestId, Revocation, ToolOutcome,
};
use claude_socket::protocol::{
    self, ClientMessage, ConnId, Grant, Role, ServerMessage, SessionId, SessionPattern,
};
use serde_json::{Value, json};

use crate::hooks;
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
}

impl Effects for Sent {
    fn send(&mut self, to: impl Iterator<Item = ConnId>, message: &ServerMessage<&str>) -> usize {
        let message = serde_json::to_value(message).expect("a message serializes");
        let mut reached = 0;
        for client in to {
            reached += 1;
            let queue = self.clients.entry(client).or_default();
            queue.push_back(message.clone());
        }
        reached
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

/// The hub with clients, an agent and a clock that are all made up.
pub struct HubStage {
    hub: Hub,
    sent: Sent,
    now: Now,
    conns: HashMap<String, ConnId>,
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
            seen_timeout: Duration::from_secs(10),
            max_permissions: 3,
            max_sessions: 4,
            history_messages: 5,
            history_bytes: 10_000,
            history_total: 40_000,
            inbox_messages: 4,
            inbox_bytes: 10_000,
            max_message: 1_000_000,
        }
    }

    pub fn with(limits: Limits) -> Self {
        let mut stage = Self::not_ready(limits);
        stage.make_ready();
        stage
    }

    /// A hub whose agent has not accepted messages yet.
    fn not_ready(limits: Limits) -> Self {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let mut stage = Self {
            hub: Hub::new(limits, 0x0123_4567_89ab_cdef),
            sent: Sent::default(),
            now: Now {
                instant: Instant::now(),
                wall: start,
            },
            conns: HashMap::new(),
        };
        stage.agent(AgentInput::Initialized {
            name: "claude-code".into(),
            version: "2.1.330".into(),
        });
        stage
    }

    fn handle(&mut self, input: Input) {
        self.hub.handle(self.now, input, &mut self.sent);
        self.poll_agent();
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
        let conn = ConnId(self.conns.len() as u64 + 1);
        self.conns.insert(client.to_owned(), conn);
        let session = SessionId::parse("session", session, 128).expect("the session id is valid");
        let grant = Arc::new(token.map_or(Grant::WITHOUT_TOKEN, |token| Grant {
            id: conn.0,
            user: Some(token.name.as_str().into()),
            role: Role::parse(&token.role).expect("the role exists"),
            sessions: token.sessions.as_deref().map(pattern),
        }));
        self.client(client, ClientInput::Connected { session, grant });
    }

    fn remove_token(&mut self, name: &str) {
        // The grant has the number of the connection.
        let removed = self.conns[name].0;
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
            Ok(ClientMessage::Message(message)) => ClientInput::Message(message),
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
        let text = result["content"][0]["text"].as_str();
        text.expect("a tool result has a text").to_owned()
    }

    fn expect_hooks(&mut self) {
        self.agent(AgentInput::HooksExpected);
    }

    fn call_hook(&mut self, event: Value) {
        for arguments in hooks::arguments(&event) {
            let result = self.call("activity", &arguments);
            assert_eq!(result, json!({ "content": [] }));
        }
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

    fn are_senders_held(&mut self) -> bool {
        self.sent.hold
    }

    fn end_agent(&mut self) {
        self.handle(Input::Closing);
        self.handle(Input::Shutdown);
    }

    /// Time passes as in the server: the hub is woken whenever it has a deadline.
    fn advance_clock(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while let Some(at) = self.hub.poll_timeout().filter(|at| *at <= end) {
            self.now.wall += at - self.now.instant;
            self.now.instant = at;
            self.hub.handle_timeout(self.now, &mut self.sent);
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

fn pattern(text: &str) -> SessionPattern {
    SessionPattern::parse(text).expect("the pattern is valid")
}

#[test]
fn stories_pass_in_the_hub() {
    for story in story::all() {
        story::play(&story, &mut HubStage::not_ready(HubStage::limits()));
    }
}
