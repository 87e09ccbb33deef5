//! The stories, told to the hub alone: no process, no socket, and a clock that the
//! story moves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use claude_socket::host::{channel, tools};
use claude_socket::hub::{Closing, Effects, Hub, Limits, Notification, Now, PermissionRequest};
use claude_socket::protocol::{
    self, ClientMessage, ConnId, Grant, Role, ServerMessage, SessionId, SessionPattern,
};
use serde_json::{Value, json};

use crate::hooks;
use crate::story::{self, Pass, Stage, Story};

/// What the hub has sent, by client; Claude Code is nobody's client.
#[derive(Default)]
struct Mail {
    clients: HashMap<ConnId, VecDeque<Value>>,
    host: VecDeque<Value>,
    /// The last message that Claude Code was given.
    given: u64,
}

impl Effects for Mail {
    fn send(&mut self, to: impl Iterator<Item = ConnId>, message: &ServerMessage<&str>) -> usize {
        let message = serde_json::to_value(message).expect("it is JSON");
        let mut reached = 0;
        for client in to {
            reached += 1;
            self.clients
                .entry(client)
                .or_default()
                .push_back(message.clone());
        }
        reached
    }

    fn close(&mut self, client: ConnId, reason: Closing) {
        let closed = json!({ "closed": format!("{reason:?}") });
        self.clients.entry(client).or_default().push_back(closed);
    }

    fn notify(&mut self, notification: &Notification<'_>) {
        let mut line = Vec::new();
        channel::write(&mut line, notification);
        let line: Value = serde_json::from_slice(&line).expect("it is JSON");
        self.host.push_back(line["params"].clone());
        if let Notification::Message { number, .. } = notification {
            self.given = *number;
        }
    }
}

/// The hub, with everyone around it made up.
pub struct HubStage {
    hub: Hub,
    mail: Mail,
    now: Now,
    conns: HashMap<String, ConnId>,
}

impl HubStage {
    pub fn new() -> Self {
        Self::with(Self::limits())
    }

    /// What stories reckon with.
    pub fn limits() -> Limits {
        Limits {
            session_ttl: Duration::from_secs(5 * 60),
            unseen_ttl: Duration::from_secs(24 * 60 * 60),
            permission_ttl: Duration::from_secs(30 * 60),
            seen_timeout: Duration::from_secs(10),
            max_permissions: 3,
            max_sessions: 4,
            history_messages: 5,
            history_bytes: 10_000,
            history_total: 40_000,
            max_message: 1_000_000,
        }
    }

    pub fn with(limits: Limits) -> Self {
        let mut hub = Hub::new(limits, 0x0123_4567_89ab_cdef);
        hub.introduce_host("claude-code".into(), "2.1.330".into());
        hub.host_is_ready();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        Self {
            hub,
            mail: Mail::default(),
            now: Now {
                at: Instant::now(),
                wall: start,
            },
            conns: HashMap::new(),
        }
    }
}

impl Stage for HubStage {
    fn joins(&mut self, who: &str, session: &str, pass: Option<&Pass>) {
        let conn = ConnId(self.conns.len() as u64 + 1);
        self.conns.insert(who.to_owned(), conn);
        let session = SessionId::parse("session", session, 128).expect("a session id");
        let grant = Arc::new(pass.map_or(Grant::WITHOUT_TOKEN, |pass| Grant {
            id: conn.0,
            user: Some(pass.name.as_str().into()),
            role: Role::parse(&pass.role).expect("a role"),
            sessions: pass.sessions.as_deref().map(pattern),
        }));
        self.hub
            .connect(self.now, conn, session, grant, &mut self.mail);
    }

    fn removed(&mut self, name: &str) {
        let holds = |grant: &Grant| grant.user.as_deref() != Some(name);
        let why = Closing::Unauthorized;
        self.hub.revoke(self.now, holds, why, &mut self.mail);
    }

    fn leaves(&mut self, who: &str) {
        self.hub.disconnect(self.now, self.conns[who]);
    }

    fn breaks(&mut self, who: &str) {
        self.hub.lose(self.now, self.conns[who]);
    }

    fn says(&mut self, who: &str, frame: &str) {
        let conn = self.conns[who];
        match protocol::parse(frame, 128) {
            Ok(ClientMessage::Message(message)) => {
                self.hub.message(self.now, conn, message, &mut self.mail);
            }
            Ok(ClientMessage::Request(request)) => {
                self.hub.request(conn, request, &mut self.mail);
            }
            Err(refusal) => self.hub.refuse(conn, &refusal, &mut self.mail),
        }
    }

    fn gets(&mut self, who: &str) -> Option<Value> {
        self.mail.clients.get_mut(&self.conns[who])?.pop_front()
    }

    fn calls(&mut self, tool: &str, arguments: Value) -> String {
        let call = tools::parse(tool, &arguments.to_string(), "claude-socket").expect("a tool");
        let result = match call {
            Ok(call) => tools::run(call, self.now, &mut self.hub, &mut self.mail),
            Err(wrong) => tools::ToolResult::error(wrong),
        };
        let result = serde_json::to_value(result).expect("it is JSON");
        result["content"][0]["text"]
            .as_str()
            .expect("a text")
            .to_owned()
    }

    fn has_hooks(&mut self) {
        self.hub.expect_hooks();
    }

    fn hooks(&mut self, event: Value) {
        for arguments in hooks::arguments(&event) {
            let call = tools::parse("activity", &arguments.to_string(), "claude-socket");
            let call = call.expect("a tool").expect("a call");
            let result = tools::run(call, self.now, &mut self.hub, &mut self.mail);
            assert_eq!(result, tools::ToolResult::nothing());
        }
    }

    fn asks(&mut self, request: Value) {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let request = PermissionRequest {
            request_id: text("request_id"),
            tool_name: text("tool_name"),
            description: text("description"),
            input_preview: text("input_preview"),
        };
        self.hub.ask_permission(self.now, request, &mut self.mail);
    }

    /// Claude Code takes a notification, and the hub hears that it has.
    fn notified(&mut self) -> Option<Value> {
        let next = self.mail.host.pop_front()?;
        if self.mail.host.is_empty() {
            self.hub
                .handed_over(self.now, self.mail.given, &mut self.mail);
        }
        Some(next)
    }

    fn ends(&mut self) {
        self.hub.shut_down(&mut self.mail);
    }

    /// Time passes as it does for the bridge: the hub is woken whenever it wants.
    fn after(&mut self, time: Duration) {
        let end = self.now.at + time;
        while let Some(at) = self.hub.next_expiry().filter(|at| *at <= end) {
            self.now.wall += at - self.now.at;
            self.now.at = at;
            self.hub.tick(self.now, &mut self.mail);
        }
        self.now.wall += end - self.now.at;
        self.now.at = end;
    }

    fn leftovers(&mut self) -> Vec<String> {
        let name = |conn: &ConnId| {
            let found = self.conns.iter().find(|(_, known)| *known == conn);
            found.map_or("?", |(name, _)| name)
        };
        let clients = self.mail.clients.iter().flat_map(|(conn, mail)| {
            mail.iter()
                .map(move |message| format!("{} < {message}", name(conn)))
        });
        let host = self
            .mail
            .host
            .iter()
            .map(|params| format!("host < {params}"));
        clients.chain(host).collect()
    }
}

fn pattern(text: &str) -> SessionPattern {
    SessionPattern::parse(text).expect("a pattern")
}

fn play_all(stories: &[Story]) {
    assert!(!stories.is_empty());
    for story in stories {
        story::play(story, &mut HubStage::new());
    }
}

#[test]
fn stories_of_talking() {
    play_all(&story::read(include_str!("../stories/talking.txt")));
}

#[test]
fn stories_of_hooks() {
    play_all(&story::read(include_str!("../stories/hooks.txt")));
}

#[test]
fn stories_of_permission() {
    play_all(&story::read(include_str!("../stories/permission.txt")));
}

#[test]
fn stories_of_access() {
    play_all(&story::read(include_str!("../stories/access.txt")));
}

#[test]
fn stories_of_time_and_limits() {
    play_all(&story::read(include_str!("../stories/time-and-limits.txt")));
}
