//! The stories, played to a whole server: the real threads, pipes and sockets.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use crate::app::App;
use crate::hooks;
use crate::server::Server;
use crate::state::State;
use crate::story::{self, Stage, Story, Token};

struct RealStage {
    /// By the name of the client that has them.
    tokens: HashMap<String, String>,
    /// They are dropped before the server, which waits for them to disconnect.
    apps: HashMap<String, (App, VecDeque<Value>)>,
    server: Server,
    has_store: bool,
}

impl RealStage {
    fn app(&mut self, client: &str) -> &mut (App, VecDeque<Value>) {
        self.apps.get_mut(client).expect("the client has joined")
    }
}

impl Stage for RealStage {
    fn connect(&mut self, client: &str, session: &str, token: Option<&Token>) {
        let session: String = form_urlencoded::byte_serialize(session.as_bytes()).collect();
        let token = token.map(|token| format!("&token={}", self.tokens[&token.name]));
        let token = token.unwrap_or_default();
        let path = format!("/?session={session}{token}");
        let mut app = App::open(self.server.address, &path);
        let before = app.until_pong().into();
        self.apps.insert(client.to_owned(), (app, before));
    }

    fn remove_token(&mut self, _: &str) {
        unreachable!("tokens.rs tests the removal of tokens");
    }

    fn disconnect(&mut self, client: &str) {
        self.apps.remove(client);
        let left = self.apps.len();
        self.server
            .wait_for_health(|health| health["clients"] == left);
    }

    fn lose_connection(&mut self, _: &str) {
        unreachable!("load.rs tests clients that are too slow");
    }

    fn send_frame(&mut self, client: &str, frame: &str) {
        self.app(client).0.send_text(frame);
    }

    fn next_frame(&mut self, client: &str) -> Option<Value> {
        let (app, mail) = self.app(client);
        Some(mail.pop_front().unwrap_or_else(|| app.next()))
    }

    fn call_tool(&mut self, tool: &str, arguments: Value) -> String {
        self.server.call(tool, &arguments)
    }

    fn expect_hooks(&mut self) {
        unreachable!("its consequences take time");
    }

    fn call_hook(&mut self, event: Value) -> Value {
        let mut result = hooks::no_output();
        for arguments in hooks::arguments(&event) {
            let params = json!({ "name": "activity", "arguments": arguments });
            result = self.server.request("tools/call", &params);
        }
        result
    }

    fn request_permission(&mut self, request: Value) {
        let method = "notifications/claude/channel/permission_request";
        self.server.notify(method, &request);
        // The request must have arrived before the next line of the story.
        assert_eq!(self.server.request("ping", &json!({})), json!({}));
    }

    fn next_notification(&mut self) -> Option<Value> {
        Some(self.server.next_line()["params"].take())
    }

    fn make_ready(&mut self) {
        self.server.initialize();
    }

    fn list_tools(&mut self) {
        self.server.request("tools/list", &json!({}));
    }

    fn are_senders_held(&mut self) -> bool {
        unreachable!("the inbox of a server is larger than a story");
    }

    fn end_agent(&mut self) {
        unreachable!("life.rs tests the end");
    }

    fn restart(&mut self, _: bool) {
        unreachable!("store_server.rs tests what a server keeps");
    }

    fn forget(&mut self, _: Value) {
        unreachable!("data.rs tests what is removed");
    }

    fn has_store(&self) -> bool {
        self.has_store
    }

    fn control_store(&mut self, _: &str) {
        unreachable!("the disk of a server doesn't wait");
    }

    fn advance_clock(&mut self, _: Duration) {
        unreachable!("stories in which time passes are for the hub alone");
    }

    fn unexpected(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for (client, (app, mail)) in &mut self.apps {
            mail.extend(app.until_pong());
            left.extend(mail.iter().map(|message| format!("{client} < {message}")));
        }
        let ping = self.server.send_request("ping", &json!({}));
        loop {
            let line = self.server.next_line();
            if line["id"] == ping {
                return left;
            }
            left.push(format!("agent < {line}"));
        }
    }
}

#[test]
fn stories_pass_in_the_server() {
    // Each has a server of its own, so some are played at the same time.
    let (to_play, stories) = crossbeam_channel::unbounded();
    for story in story::all().filter(|story| !story.needs_the_hub()) {
        for history_ttl in ["0", "30d"] {
            let to_play = to_play.send((story.clone(), history_ttl));
            to_play.expect("the channel has a receiver");
        }
    }
    drop(to_play);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| stories.iter().for_each(|(story, ttl)| play(&story, ttl)));
        }
    });
}

fn play(story: &Story, history_ttl: &str) {
    let state = State::new();
    let add = |token: Token| {
        let options = [("--session", &token.sessions), ("--rate", &token.rate)];
        let options = options.into_iter().filter_map(|(option, value)| {
            let value = value.as_deref()?;
            Some([option, value])
        });
        let options: Vec<&str> = options.flatten().collect();
        let secret = state.add_with(&token.name, &token.role, &options);
        (token.name, secret)
    };
    let tokens: HashMap<_, _> = story.tokens().into_iter().map(add).collect();
    let flags = ["--state-dir", state.path(), "--history-ttl", history_ttl];
    let mut server = Server::in_process_listening(&flags);
    server.token = tokens.values().next().cloned();
    let mut stage = RealStage {
        tokens,
        server,
        apps: HashMap::new(),
        has_store: history_ttl != "0",
    };
    story::play(story, &mut stage);
}
