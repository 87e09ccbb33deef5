//! Stories: who says what, and what everyone then has.
//!
//! A story is a title, `# …`, and a line for each thing that happens:
//!
//! ```text
//! ann joins s1                     a client connects to a session
//! dev joins s1 as sender           with a token of that role and of its own name
//! dev joins s1 as sender for s*    with one that is bound to these sessions
//! token dev is removed             a token is removed
//! ann leaves                       a client disconnects
//! ann breaks                       a client is cut off before it has received everything
//! ann > {"type":"ping"}            a client sends a frame
//! ann < {"type":"pong"}            a client gets a frame
//! agent calls reply {"chat_id":…}  Claude uses a tool
//! agent hears sent                 the text of the tool's result
//! agent asks {"request_id":…}      Claude Code asks for permission
//! agent has hooks                  the server was started by the plugin
//! agent hooks Stop {"prompt_id":…} a hook is called with this event
//! agent takes p1 {"chat_id":…}     the hook that reports a message of ours, in turn p1
//! agent < {"content":"hi"}         Claude Code gets a notification with these params
//! agent is ready                   Claude Code accepts messages; without such a line, from the start
//! agent ends                       Claude Code is gone
//! senders wait                     the inbox is full
//! senders go on                    the inbox has room
//! after 5m                         time passes
//! ```
//!
//! What is got must have the fields that the story names. `null` means that a field must be
//! missing. `"$name"` stands for a text, the same wherever it appears; inside a longer text it
//! is `{$name}`. At the end nobody may have got anything that the story doesn't name.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hooks;

/// Where stories are played.
pub trait Stage {
    fn joins(&mut self, who: &str, session: &str, pass: Option<&Pass>);
    fn removed(&mut self, name: &str);
    fn leaves(&mut self, who: &str);
    fn breaks(&mut self, who: &str);
    fn says(&mut self, who: &str, frame: &str);
    fn gets(&mut self, who: &str) -> Option<Value>;
    /// Returns the text of the result.
    fn calls(&mut self, tool: &str, arguments: Value) -> String;
    fn asks(&mut self, request: Value);
    fn has_hooks(&mut self);
    /// The event is as Claude Code gives it to a hook.
    fn hooks(&mut self, event: Value);
    fn next_notification(&mut self) -> Option<Value>;
    fn ready(&mut self);
    /// Returns `true` if senders are held back.
    fn holds_senders(&mut self) -> bool;
    fn ends(&mut self);
    fn after(&mut self, time: Duration);
    /// What somebody has got beside what the story told.
    fn leftovers(&mut self) -> Vec<String>;
}

/// A token, as a story tells of it.
pub struct Pass {
    pub name: String,
    pub role: String,
    pub sessions: Option<String>,
}

impl Pass {
    /// What follows `joins`: the session, and maybe what the token is.
    fn read<'l>(who: &str, rest: &'l str) -> (&'l str, Option<Self>) {
        let Some((session, role)) = rest.split_once(" as ") else {
            return (rest, None);
        };
        let (role, sessions) = match role.split_once(" for ") {
            Some((role, sessions)) => (role, Some(sessions.to_owned())),
            None => (role, None),
        };
        let pass = Self {
            name: who.to_owned(),
            role: role.to_owned(),
            sessions,
        };
        (session, Some(pass))
    }
}

#[derive(Clone)]
pub struct Story {
    pub title: String,
    lines: Vec<(usize, String)>,
}

impl Story {
    /// The tokens in it, each once.
    pub fn passes(&self) -> Vec<Pass> {
        let mut passes: Vec<Pass> = Vec::new();
        for (_, line) in &self.lines {
            if let Some((who, rest)) = line.split_once(" joins ")
                && let (_, Some(pass)) = Pass::read(who, rest)
                && passes.iter().all(|known| known.name != pass.name)
            {
                passes.push(pass);
            }
        }
        passes
    }

    /// Returns `true` if it needs the hub alone: time passes, or its limits count.
    pub fn needs_the_hub(&self) -> bool {
        let needs = |line: &str| line.starts_with("after ") || line.starts_with("senders ");
        self.lines.iter().any(|(_, line)| needs(line))
    }

    /// Returns `true` if Claude Code is ready from the start.
    pub fn starts_ready(&self) -> bool {
        self.lines.iter().all(|(_, line)| line != "agent is ready")
    }
}

/// All stories.
pub fn all() -> impl Iterator<Item = Story> {
    let files = [
        include_str!("../stories/access.txt"),
        include_str!("../stories/hooks.txt"),
        include_str!("../stories/inbox.txt"),
        include_str!("../stories/permission.txt"),
        include_str!("../stories/talking.txt"),
        include_str!("../stories/time-and-limits.txt"),
    ];
    files.into_iter().flat_map(read)
}

/// The stories of a file.
fn read(text: &str) -> Vec<Story> {
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
    let mut heard = String::new();
    if story.starts_ready() {
        stage.ready();
    }
    for (number, line) in &story.lines {
        let place = format!("«{}», line {number}: {line}", story.title);
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let rest = words.get(2).copied().unwrap_or_default();
        let json = || -> Value {
            let filled = fill(rest, &names);
            serde_json::from_str(&filled).unwrap_or_else(|error| panic!("{place}: {error}"))
        };
        match words[..] {
            ["after", ..] => {
                let time = line.trim_start_matches("after ");
                stage.after(humantime::parse_duration(time).expect(&place));
            }
            ["token", name, "is removed"] => stage.removed(name),
            [who, "joins", rest] => {
                let (session, pass) = Pass::read(who, rest);
                stage.joins(who, session, pass.as_ref());
            }
            [who, "leaves"] => stage.leaves(who),
            [who, "breaks"] => stage.breaks(who),
            ["agent", "has", "hooks"] => stage.has_hooks(),
            ["agent", "ends"] => stage.ends(),
            ["agent", "is", "ready"] => stage.ready(),
            ["senders", "wait"] => assert!(stage.holds_senders(), "{place}"),
            ["senders", "go", "on"] => assert!(!stage.holds_senders(), "{place}"),
            ["agent", "calls", _] => {
                let (tool, arguments) = rest.split_once(' ').expect(&place);
                let arguments = serde_json::from_str(arguments).expect(&place);
                heard = stage.calls(tool, arguments);
            }
            ["agent", "hears", text] => assert_eq!(heard, text, "{place}"),
            ["agent", "asks", _] => stage.asks(json()),
            ["agent", "hooks", _] => {
                let (event, fields) = rest.split_once(' ').expect(&place);
                let fields = fill(fields, &names);
                let mut fields: Value = serde_json::from_str(&fields).expect(&place);
                fields["hook_event_name"] = event.into();
                stage.hooks(fields);
            }
            ["agent", "takes", _] => {
                let (turn, meta) = rest.split_once(' ').expect(&place);
                let meta = serde_json::from_str(&fill(meta, &names)).expect(&place);
                let prompt = hooks::channel_tag(&meta, "hi");
                stage.hooks(json!({
                    "hook_event_name": "UserPromptSubmit", "prompt_id": turn, "prompt": prompt,
                }));
            }
            ["agent", "<", _] => {
                let got = stage
                    .next_notification()
                    .unwrap_or_else(|| panic!("{place}: nothing came"));
                compare(&got, &json(), &mut names, &place);
            }
            [who, "<", _] => {
                let got = stage
                    .gets(who)
                    .unwrap_or_else(|| panic!("{place}: nothing came"));
                compare(&got, &json(), &mut names, &place);
            }
            [who, ">", frame] => stage.says(who, &fill(frame, &names)),
            _ => panic!("{place}: what does that mean?"),
        }
    }
    let leftovers = stage.leftovers();
    assert!(
        leftovers.is_empty(),
        "«{}»: not told: {leftovers:#?}",
        story.title
    );
}

/// Puts in the texts that are known by name.
fn fill(text: &str, names: &HashMap<String, Value>) -> String {
    let mut text = text.to_owned();
    for (name, value) in names {
        text = text.replace(&format!("\"{name}\""), &value.to_string());
        text = text.replace(&format!("{{{name}}}"), value.as_str().unwrap_or_default());
    }
    text
}

/// Checks that what came has the fields that were expected.
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
