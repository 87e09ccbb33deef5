//! The stories, played to a whole server: the real threads, pipes and sockets.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use crate::app::App;
use crate::hooks;
use crate::server::Server;
use crate::state::State;
use crate::story::{self, Pass, Stage, Story};

struct RealStage {
    /// By the name of who has them.
    tokens: HashMap<String, String>,
    /// They are dropped before the server, which waits for them to disconnect.
    apps: HashMap<String, (App, VecDeque<Value>)>,
    server: Server,
}

impl RealStage {
    fn app(&mut self, who: &str) -> &mut (App, VecDeque<Value>) {
        self.apps.get_mut(who).expect("it has joined")
    }
}

impl Stage for RealStage {
    fn joins(&mut self, who: &str, session: &str, pass: Option<&Pass>) {
        let session: String = form_urlencoded::byte_serialize(session.as_bytes()).collect();
        let token = pass.map(|pass| format!("&token={}", self.tokens[&pass.name]));
        let token = token.unwrap_or_default();
        let path = format!("/?session={session}{token}");
        let mut app = App::open(self.server.address, &path);
        let before = app.until_pong().into();
        self.apps.insert(who.to_owned(), (app, before));
    }

    fn removed(&mut self, _: &str) {
        unreachable!("the tests of tokens that are removed are elsewhere");
    }

    fn leaves(&mut self, who: &str) {
        self.apps.remove(who);
        let left = self.apps.len();
        self.server
            .wait_for_health(|health| health["clients"] == left);
    }

    fn breaks(&mut self, _: &str) {
        unreachable!("the tests of slow clients are elsewhere");
    }

    fn says(&mut self, who: &str, frame: &str) {
        self.app(who).0.send_text(frame);
    }

    fn gets(&mut self, who: &str) -> Option<Value> {
        let (app, mail) = self.app(who);
        Some(mail.pop_front().unwrap_or_else(|| app.next()))
    }

    fn calls(&mut self, tool: &str, arguments: Value) -> String {
        self.server.call(tool, &arguments)
    }

    fn has_hooks(&mut self) {
        unreachable!("what follows from it takes time");
    }

    fn hooks(&mut self, event: Value) {
        for arguments in hooks::arguments(&event) {
            hooks::tell(&mut self.server, &arguments);
        }
    }

    fn asks(&mut self, request: Value) {
        let method = "notifications/claude/channel/permission_request";
        self.server.notify(method, &request);
        // So that whatever follows finds it asked.
        assert_eq!(self.server.request("ping", &json!({})), json!({}));
    }

    fn next_notification(&mut self) -> Option<Value> {
        Some(self.server.next_line()["params"].take())
    }

    fn ready(&mut self) {
        self.server.initialize();
    }

    fn holds_senders(&mut self) -> bool {
        unreachable!("such stories need the hub alone");
    }

    fn ends(&mut self) {
        unreachable!("the tests of life and death are elsewhere");
    }

    fn after(&mut self, _: Duration) {
        unreachable!("these stories take no time");
    }

    fn leftovers(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for (who, (app, mail)) in &mut self.apps {
            mail.extend(app.until_pong());
            left.extend(mail.iter().map(|message| format!("{who} < {message}")));
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
fn stories_of_the_binary() {
    // Each has a server of its own, so some are played at the same time.
    let (to_play, stories) = crossbeam_channel::unbounded();
    for story in story::all().filter(|story| !story.needs_the_hub()) {
        to_play.send(story).expect("the receiver is alive");
    }
    drop(to_play);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| stories.iter().for_each(|story| play(&story)));
        }
    });
}

fn play(story: &Story) {
    let state = State::new();
    let token = |pass: Pass| {
        let token = state.add(&pass.name, &pass.role, pass.sessions.as_deref());
        (pass.name, token)
    };
    let tokens: HashMap<_, _> = story.passes().into_iter().map(token).collect();
    let mut server = Server::in_process_listening(&["--state-dir", state.path()]);
    server.token = tokens.values().next().cloned();
    let mut stage = RealStage {
        tokens,
        server,
        apps: HashMap::new(),
    };
    story::play(story, &mut stage);
}
