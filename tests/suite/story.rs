//! Stories: who sends what, and what everybody then receives.
//!
//! A story is a title, `# …`, and a line for each thing that happens:
//!
//! ```text
//! ann joins s1                     a client connects to a session
//! dev joins s1 as sender           with a token of that role in its own name
//! dev joins s1 as sender for s*    with one that is bound to these sessions
//! dev joins s1 as sender at 3/m    with one that has a rate
//! eve joins s1 by dev's token      with a token that somebody else has, too
//! token dev is removed             a token is removed
//! ann leaves                       a client disconnects
//! ann breaks                       a client is cut off before it has received everything
//! ann > {"type":"ping"}            a client sends a frame
//! ann < {"type":"pong"}            a client gets a frame
//! agent calls reply {"chat_id":…}  Claude uses a tool
//! agent receives sent              the text of the tool's result, with \n for each line end
//! agent asks {"request_id":…}      Claude Code asks for permission
//! agent has hooks                  the server was started by the plugin
//! agent hooks Stop {"prompt_id":…} a hook is called with this event
//! agent takes p1 {"chat_id":…}     the hook that reports a message of ours, in turn p1
//! agent refuses {"chat_id":…}      the same hook is told to keep the message out of the conversation
//! agent < {"content":"hi"}         Claude Code gets a notification with these params
//! channel delay 2s                 how long messages wait for Claude Code; without such a line, not at all
//! agent is ready                   Claude Code accepts messages; without such a line, from the start
//! agent lists tools                Claude Code asks for the tools
//! agent ends                       Claude Code is gone
//! server restarts                  it ends in good order, with all clients, and another one begins with the same store
//! server crashes                   it is killed, and another one begins with the same store
//! server forgets {"session":"s1"}  somebody removes what is kept
//! store waits                      nothing gets to the disk
//! store goes on                    everything does
//! store cannot be read             it answers nothing
//! store can be read                it answers again
//! store fails                      nothing can be written
//! store recovers                   everything can
//! with a store                     what is said is kept on disk; a story with neither line is played with and without
//! without a store                  it is not
//! senders wait                     the inbox is full
//! senders go on                    the inbox has room
//! after 5m                         time passes
//! ```
//!
//! What is received must have the fields that the story names. `null` means that a field must be
//! missing. `"$name"` stands for a text, the same wherever it appears; inside a longer text it
//! is `{$name}`. At the end nobody may have received anything that the story doesn't name.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use crate::hooks;

/// What a story is played to.
pub trait Stage {
    fn connect(&mut self, client: &str, session: &str, token: Option<&Token>);
    fn remove_token(&mut self, name: &str);
    fn disconnect(&mut self, client: &str);
    fn lose_connection(&mut self, client: &str);
    fn send_frame(&mut self, client: &str, frame: &str);
    fn next_frame(&mut self, client: &str) -> Option<Value>;
    /// Returns the text of the result.
    fn call_tool(&mut self, tool: &str, arguments: Value) -> String;
    fn request_permission(&mut self, request: Value);
    fn expect_hooks(&mut self);
    /// Returns the result. The event is as Claude Code gives it to a hook.
    fn call_hook(&mut self, event: Value) -> Value;
    fn next_notification(&mut self) -> Option<Value>;
    fn make_ready(&mut self);
    fn list_tools(&mut self);
    /// Returns `true` if senders are held back because the inbox is full.
    fn are_senders_held(&mut self) -> bool;
    fn end_agent(&mut self);
    /// Ends the server, in good order or not, and begins another one with the same store.
    fn restart(&mut self, in_good_order: bool);
    fn forget(&mut self, selection: Value);
    fn control_store(&mut self, what: &str);
    /// What is said is kept on disk.
    fn has_store(&self) -> bool;
    fn advance_clock(&mut self, time: Duration);
    /// Returns what was received and is not in the story.
    fn unexpected(&mut self) -> Vec<String>;
}

/// A token that a client of the story has.
pub struct Token {
    pub name: String,
    pub role: String,
    pub sessions: Option<String>,
    pub rate: Option<String>,
}

impl Token {
    /// Parses what follows `joins`: the session, and the token if there is one.
    fn parse<'l>(client: &str, rest: &'l str) -> (&'l str, Option<Self>) {
        if let Some((session, token)) = rest.split_once(" by ") {
            let owner = token
                .strip_suffix("'s token")
                .expect("a token is somebody's");
            return (session, Some(Self::of(owner)));
        }
        let Some((session, role)) = rest.split_once(" as ") else {
            return (rest, None);
        };
        let (role, rate) = match role.split_once(" at ") {
            Some((role, rate)) => (role, Some(rate.to_owned())),
            None => (role, None),
        };
        let (role, sessions) = match role.split_once(" for ") {
            Some((role, sessions)) => (role, Some(sessions.to_owned())),
            None => (role, None),
        };
        let token = Self {
            role: role.to_owned(),
            sessions,
            rate,
            ..Self::of(client)
        };
        (session, Some(token))
    }

    /// A token that is known by its name.
    fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            role: String::new(),
            sessions: None,
            rate: None,
        }
    }
}

#[derive(Clone)]
pub struct Story {
    pub title: String,
    lines: Vec<(usize, String)>,
}

impl Story {
    /// Returns the tokens in it, each once.
    pub fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        for (_, line) in &self.lines {
            if let Some((client, rest)) = line.split_once(" joins ")
                && let (_, Some(token)) = Token::parse(client, rest)
                && tokens.iter().all(|known| known.name != token.name)
            {
                tokens.push(token);
            }
        }
        tokens
    }

    /// Returns `true` if it needs the hub alone: time passes, or its limits count.
    pub fn needs_the_hub(&self) -> bool {
        let needs = |line: &str| {
            let begins = [
                "after ",
                "senders ",
                "channel ",
                "agent ends",
                "server ",
                "store ",
                "with",
            ];
            begins.iter().any(|word| line.starts_with(word))
        };
        self.lines.iter().any(|(_, line)| needs(line))
    }

    /// Returns `true` if it can be played with a store, or without.
    pub fn is_for(&self, has_store: bool) -> bool {
        let only = |line: &str| match line {
            "with a store" => Some(true),
            "without a store" => Some(false),
            _ => None,
        };
        let only = self.lines.iter().find_map(|(_, line)| only(line));
        only.is_none_or(|only| only == has_store)
    }

    /// Returns how long messages wait for Claude Code.
    pub fn channel_delay(&self) -> Duration {
        let mut lines = self.lines.iter();
        let delay = lines.find_map(|(_, line)| line.strip_prefix("channel delay "));
        delay.map_or(Duration::ZERO, |delay| {
            humantime::parse_duration(delay).expect("the delay is a duration")
        })
    }

    /// Returns `true` if Claude Code is ready from the start.
    pub fn starts_ready(&self) -> bool {
        self.lines.iter().all(|(_, line)| line != "agent is ready")
    }
}

/// Returns all stories.
pub fn all() -> impl Iterator<Item = Story> {
    let files = [
        include_str!("../stories/access.txt"),
        include_str!("../stories/hooks.txt"),
        include_str!("../stories/inbox.txt"),
        include_str!("../stories/permission.txt"),
        include_str!("../stories/start.txt"),
        include_str!("../stories/store.txt"),
        include_str!("../stories/talking.txt"),
        include_str!("../stories/time-and-limits.txt"),
    ];
    files.into_iter().flat_map(parse)
}

/// Parses the stories of a file.
fn parse(text: &str) -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(title) = line.strip_prefix("# ") {
            let title = title.to_owned();
            let lines = Vec::new();
            stories.push(Story { title, lines });
        } else if !line.is_empty() {
            let story = stories.last_mut().expect("a story begins with a title");
            story.lines.push((number + 1, line.to_owned()));
        }
    }
    stories
}

/// Plays a story.
pub fn play(story: &Story, stage: &mut impl Stage) {
    let mut names = HashMap::new();
    let mut aside = HashMap::new();
    let mut result = String::new();
    if story.starts_ready() {
        stage.make_ready();
    }
    for (number, line) in &story.lines {
        let place = format!("«{}», line {number}: {line}", story.title);
        let parts: Vec<&str> = line.splitn(3, ' ').collect();
        let rest = parts.get(2).copied().unwrap_or_default();
        let json = || -> Value {
            let filled = fill(rest, &names);
            serde_json::from_str(&filled).unwrap_or_else(|error| panic!("{place}: {error}"))
        };
        match parts[..] {
            ["after", ..] => {
                let time = line.trim_start_matches("after ");
                stage.advance_clock(humantime::parse_duration(time).expect(&place));
            }
            ["token", name, "is removed"] => stage.remove_token(name),
            [client, "joins", rest] => {
                let (session, token) = Token::parse(client, rest);
                stage.connect(client, session, token.as_ref());
            }
            [client, "leaves"] => stage.disconnect(client),
            [client, "breaks"] => stage.lose_connection(client),
            ["agent", "has", "hooks"] => stage.expect_hooks(),
            ["agent", "ends"] => stage.end_agent(),
            ["channel", "delay", _] | ["with" | "without", "a", "store"] => {}
            ["server", how @ ("restarts" | "crashes")] => {
                stage.restart(how == "restarts");
                if story.starts_ready() {
                    stage.make_ready();
                }
            }
            ["server", "forgets", _] => stage.forget(json()),
            ["store", ..] => stage.control_store(line),
            ["agent", "is", "ready"] => stage.make_ready(),
            ["agent", "lists", "tools"] => stage.list_tools(),
            ["senders", "wait"] => assert!(stage.are_senders_held(), "{place}"),
            ["senders", "go", "on"] => assert!(!stage.are_senders_held(), "{place}"),
            ["agent", "calls", _] => {
                let (tool, arguments) = rest.split_once(' ').expect(&place);
                let arguments = fill(arguments, &names);
                let arguments = serde_json::from_str(&arguments).expect(&place);
                result = stage.call_tool(tool, arguments);
            }
            ["agent", "receives", text] => {
                assert_eq!(result.replace('\n', "\\n"), text, "{place}");
            }
            ["agent", "asks", _] => stage.request_permission(json()),
            ["agent", "hooks", _] => {
                let (event, fields) = rest.split_once(' ').expect(&place);
                let fields = fill(fields, &names);
                let mut fields: Value = serde_json::from_str(&fields).expect(&place);
                fields["hook_event_name"] = event.into();
                let answer = stage.call_hook(fields);
                assert_eq!(answer, hooks::no_output(), "{place}");
            }
            ["agent", "takes", _] => {
                let (turn, meta) = rest.split_once(' ').expect(&place);
                let meta = serde_json::from_str(&fill(meta, &names)).expect(&place);
                let prompt = hooks::channel_tag(&meta, "hi");
                let answer = stage.call_hook(json!({
                    "hook_event_name": "UserPromptSubmit", "prompt_id": turn, "prompt": prompt,
                }));
                assert_eq!(answer, hooks::no_output(), "{place}");
            }
            ["agent", "refuses", _] => {
                let meta = serde_json::from_str(&fill(rest, &names)).expect(&place);
                let prompt = hooks::channel_tag(&meta, "hi");
                let answer = stage.call_hook(json!({
                    "hook_event_name": "UserPromptSubmit", "prompt_id": "again", "prompt": prompt,
                }));
                let answer = answer["content"][0]["text"].as_str().expect(&place);
                let answer: Value = serde_json::from_str(answer).expect(&place);
                assert_eq!(answer["decision"], "block", "{place}");
            }
            ["agent", "<", _] => {
                let got = stage
                    .next_notification()
                    .unwrap_or_else(|| panic!("{place}: nothing was received"));
                compare(&got, &json(), &mut names, &place);
            }
            [client, "<", _] => {
                let wanted = json();
                let got = next_frame(stage, client, is_receipt(&wanted), &mut aside)
                    .unwrap_or_else(|| panic!("{place}: nothing was received"));
                compare(&got, &wanted, &mut names, &place);
            }
            [client, ">", frame] => stage.send_frame(client, &fill(frame, &names)),
            _ => panic!("{place}: a story has no such line"),
        }
    }
    let mut unexpected = stage.unexpected();
    let aside = aside.into_iter().filter(|(_, frames)| !frames.is_empty());
    unexpected.extend(aside.map(|(client, frames)| format!("{client} < {frames:?}")));
    assert!(
        unexpected.is_empty(),
        "«{}»: not in the story: {unexpected:#?}",
        story.title
    );
}

/// Returns what a client gets next. With a store, receipts wait for the disk and other frames don't: those of one kind that
/// come before one of the other kind that is wanted are put aside.
fn next_frame(
    stage: &mut impl Stage,
    client: &str,
    wants_receipt: bool,
    aside: &mut HashMap<String, VecDeque<Value>>,
) -> Option<Value> {
    let waiting = aside.entry(client.to_owned()).or_default();
    let is_wanted = |frame: &Value| is_receipt(frame) == wants_receipt;
    if let Some(place) = waiting.iter().position(is_wanted) {
        return waiting.remove(place);
    }
    loop {
        let frame = stage.next_frame(client)?;
        if is_wanted(&frame) || !stage.has_store() {
            return Some(frame);
        }
        waiting.push_back(frame);
    }
}

fn is_receipt(frame: &Value) -> bool {
    let states = [
        "queued", "accepted", "seen", "unseen", "answered", "lost", "rejected",
    ];
    let state = frame["state"].as_str();
    frame["type"] == "delivery" || state.is_some_and(|state| states.contains(&state))
}

/// Replaces the names of texts by the texts.
fn fill(text: &str, names: &HashMap<String, Value>) -> String {
    let mut text = text.to_owned();
    for (name, value) in names {
        text = text.replace(&format!("\"{name}\""), &value.to_string());
        text = text.replace(&format!("{{{name}}}"), value.as_str().unwrap_or_default());
    }
    text
}

/// Asserts that `got` has the fields of `expected`.
pub fn compare(got: &Value, expected: &Value, names: &mut HashMap<String, Value>, place: &str) {
    match (got, expected) {
        (Value::Object(fields), Value::Object(wanted)) => {
            for (name, wanted) in wanted {
                let field = fields.get(name).unwrap_or(&Value::Null);
                compare(field, wanted, names, place);
            }
        }
        (Value::Array(items), Value::Array(wanted)) => {
            assert_eq!(items.len(), wanted.len(), "{place}: got {got}");
            for (item, wanted) in items.iter().zip(wanted) {
                compare(item, wanted, names, place);
            }
        }
        (got, Value::String(name)) if name.starts_with('$') => {
            names.insert(name.clone(), got.clone());
        }
        (got, wanted) => assert_eq!(got, wanted, "{place}: got {got}"),
    }
}
