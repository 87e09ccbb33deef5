//! What the plugin's hooks tell: the arguments of the tool `activity`, which Claude never
//! sees. `plugin/hooks/hooks.json` fills them in from what Claude Code gives to a hook:
//! each is a string, an object comes as its JSON, and what is missing comes as `""`.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

use super::channel;
use crate::hub::{HookEvent, HookId, Tag, Tool};
use crate::json::{self, Field};
use crate::protocol::MessageId;

/// How Claude Code names the plugin's server in a channel tag.
const PLUGIN_SOURCE: &str = "plugin:claude-socket:claude-socket";
/// The longest detail that is shown, in characters.
const MAX_DETAIL: usize = 120;
/// What of a tool's input says best what it is about, best first.
const TELLING: [&str; 10] = [
    "description",
    "file_path",
    "notebook_path",
    "command",
    "pattern",
    "query",
    "url",
    "path",
    "skill",
    "subject",
];

/// Understands what a hook tells.
///
/// # Errors
/// A sentence that names the argument.
pub fn parse(arguments: &str, server_key: &str) -> Result<HookEvent, String> {
    let fields = Fields::read(arguments)?;
    let event: &str = fields.event.required_text()?;
    match event {
        "UserPromptSubmit" => fields.prompt(server_key),
        "PreToolUse" => fields.tool_started(server_key),
        "PostToolUse" | "PostToolUseFailure" => fields.tool_ended(),
        "MessageDisplay" => fields.displayed(),
        // A subagent that ends is not the end of the turn.
        "Stop" | "StopFailure" if !text(&fields.agent_id)?.is_empty() => Ok(HookEvent::Other),
        "Stop" => fields.stopped(),
        "StopFailure" => fields.failed(),
        "Notification" if text(&fields.notification_type)? == "idle_prompt" => {
            Ok(HookEvent::Waiting)
        }
        _ => Ok(HookEvent::Other),
    }
}

/// Every argument of every event.
struct Fields<'a> {
    event: Field<'a>,
    prompt_id: Field<'a>,
    prompt: Field<'a>,
    agent_id: Field<'a>,
    tool_use_id: Field<'a>,
    tool_name: Field<'a>,
    tool_input: Field<'a>,
    cwd: Field<'a>,
    message_id: Field<'a>,
    index: Field<'a>,
    delta: Field<'a>,
    last_assistant_message: Field<'a>,
    background_tasks: Field<'a>,
    error: Field<'a>,
    notification_type: Field<'a>,
}

impl<'a> Fields<'a> {
    #[rustfmt::skip]
    fn read(arguments: &'a str) -> Result<Self, String> {
        let names = [
            "event", "prompt_id", "prompt", "agent_id", "tool_use_id", "tool_name", "tool_input", "cwd",
            "message_id", "index", "delta", "last_assistant_message", "background_tasks", "error",
            "notification_type",
        ];
        let [
            event, prompt_id, prompt, agent_id, tool_use_id, tool_name, tool_input, cwd,
            message_id, index, delta, last_assistant_message, background_tasks, error,
            notification_type,
        ] = json::object(arguments, names).map_err(|_| "\"arguments\" must be an object")?;
        Ok(Self {
            event, prompt_id, prompt, agent_id, tool_use_id, tool_name, tool_input, cwd,
            message_id, index, delta, last_assistant_message, background_tasks, error,
            notification_type,
        })
    }

    fn prompt(&self, server_key: &str) -> Result<HookEvent, String> {
        Ok(HookEvent::Prompt {
            prompt: id(&self.prompt_id)?,
            tag: tag(text(&self.prompt)?, server_key),
        })
    }

    fn tool_started(&self, server_key: &str) -> Result<HookEvent, String> {
        let name = self.tool_name.required_text()?;
        let tool = match channel::own_tool(name, server_key) {
            Some("reply") => Tool::Reply,
            Some(_) => Tool::Own,
            None => Tool::Other {
                name: name.into(),
                detail: detail(name, text(&self.tool_input)?, text(&self.cwd)?),
            },
        };
        Ok(HookEvent::ToolStarted {
            prompt: id(&self.prompt_id)?,
            by_subagent: !text(&self.agent_id)?.is_empty(),
            tool_use: id(&self.tool_use_id)?,
            tool,
        })
    }

    fn tool_ended(&self) -> Result<HookEvent, String> {
        Ok(HookEvent::ToolEnded {
            prompt: id(&self.prompt_id)?,
            tool_use: id(&self.tool_use_id)?,
            name: self.tool_name.required_text()?.to_owned(),
            input: text(&self.tool_input)?.to_owned(),
        })
    }

    fn displayed(&self) -> Result<HookEvent, String> {
        Ok(HookEvent::Displayed {
            prompt: id(&self.prompt_id)?,
            message: id(&self.message_id)?,
            index: id(&self.index)?,
            delta: text(&self.delta)?.to_owned(),
        })
    }

    fn stopped(&self) -> Result<HookEvent, String> {
        Ok(HookEvent::Stopped {
            prompt: id(&self.prompt_id)?,
            text: text(&self.last_assistant_message)?.to_owned(),
            in_background: may_ask(text(&self.background_tasks)?),
        })
    }

    fn failed(&self) -> Result<HookEvent, String> {
        let mut detail = String::from("stopped");
        append(&mut detail, text(&self.error)?);
        Ok(HookEvent::Failed {
            detail: detail.into(),
        })
    }
}

/// Whether something that goes on in the background may still ask for permission: a
/// subagent may, a shell that runs a server all day doesn't.
fn may_ask(tasks: &str) -> bool {
    #[derive(Deserialize)]
    struct Task {
        #[serde(default)]
        r#type: String,
    }
    let tasks: Vec<Task> = serde_json::from_str(tasks).unwrap_or_default();
    let asks = |task: &Task| !["shell", "monitor"].contains(&task.r#type.as_str());
    tasks.iter().any(asks)
}

/// A string, or `""` if it was left out.
fn text<'f>(field: &'f Field<'_>) -> Result<&'f str, String> {
    Ok(field.optional()?.unwrap_or_default())
}

fn id(field: &Field<'_>) -> Result<HookId, String> {
    text(field).map(HookId::new)
}

// ---- The tag of a message ----

/// The message that a prompt is, if its tag is one of this server's. Only the tag that
/// the prompt begins with counts: Claude Code has written that, and whoever has sent the
/// message may have written others behind it.
fn tag(prompt: &str, server_key: &str) -> Option<Tag> {
    let mut rest = prompt.strip_prefix("<channel ")?;
    let (mut source, mut chat_id, mut message_id) = (None, None, None);
    loop {
        rest = rest.trim_start();
        if rest.starts_with('>') {
            break;
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        let place = match name {
            "source" => &mut source,
            "chat_id" => &mut chat_id,
            "message_id" => &mut message_id,
            _ => &mut None,
        };
        // Claude Code writes each once.
        if place.replace(unescape(value)).is_some() {
            return None;
        }
        rest = after;
    }
    let source = source?;
    if source != PLUGIN_SOURCE && source != server_key {
        return None;
    }
    Some(Tag {
        chat_id: chat_id?.into_owned(),
        message_id: message_id
            .and_then(|id| Uuid::parse_str(&id).ok())
            .map(MessageId),
    })
}

/// An attribute's value as it was before Claude Code escaped it.
fn unescape(value: &str) -> Cow<'_, str> {
    const ENTITIES: [(&str, char); 6] = [
        ("&quot;", '"'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&amp;", '&'),
        ("&apos;", '\''),
        ("&#39;", '\''),
    ];
    if !value.contains('&') {
        return Cow::Borrowed(value);
    }
    let mut plain = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(place) = rest.find('&') {
        let (before, from) = rest.split_at(place);
        plain.push_str(before);
        let entity = ENTITIES.iter().find(|(name, _)| from.starts_with(name));
        let (c, length) = entity.map_or(('&', 1), |(name, c)| (*c, name.len()));
        plain.push(c);
        rest = &from[length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

// ---- What to show of a tool ----

/// What a tool does, in one short line: `Bash: make a file`, `Edit: src/main.rs`.
fn detail(name: &str, input: &str, cwd: &str) -> Arc<str> {
    let mut detail = String::new();
    match name
        .strip_prefix("mcp__")
        .and_then(|name| name.split_once("__"))
    {
        Some((server, tool)) => {
            push_line(&mut detail, tool);
            push_line(&mut detail, &format!(" ({server})"));
        }
        None => push_line(&mut detail, name),
    }
    if let Ok(fields) = json::object(input, TELLING) {
        let values = fields.iter().zip(TELLING);
        let mut telling = values.filter_map(|(field, name)| {
            let value: &str = field.optional().ok()??;
            Some((name, value)).filter(|(_, value)| !value.trim().is_empty())
        });
        if let Some((name, value)) = telling.next() {
            let is_path = name.ends_with("path");
            append(
                &mut detail,
                if is_path { relative(value, cwd) } else { value },
            );
        }
    }
    detail.into()
}

/// A path as seen from the folder that Claude works in.
fn relative<'a>(path: &'a str, cwd: &str) -> &'a str {
    let inside = path.strip_prefix(cwd.trim_end_matches(['/', '\\']));
    match inside.and_then(|rest| rest.strip_prefix(['/', '\\'])) {
        Some(inside) if !inside.is_empty() && !cwd.is_empty() => inside,
        _ => path,
    }
}

fn append(line: &mut String, more: &str) {
    if !more.trim().is_empty() {
        line.push_str(": ");
        push_line(line, more);
    }
}

/// Adds a text to a line of bounded length: nothing in it can break the line or turn its
/// direction.
fn push_line(line: &mut String, text: &str) {
    let mut room = MAX_DETAIL.saturating_sub(line.chars().count());
    let mut words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let mut is_first = !text.starts_with(' ');
    for word in words.by_ref().filter(|word| !word.is_empty()) {
        let gap = if is_first { None } else { Some(' ') };
        is_first = false;
        for c in gap
            .into_iter()
            .chain(word.chars().filter(|c| !is_unseen(*c)))
        {
            if room == 0 {
                line.pop();
                line.push('…');
                return;
            }
            line.push(c);
            room -= 1;
        }
    }
}

/// Format characters that show nothing, or turn what follows around.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01234567-89ab-8def-8000-000000000001";

    fn chat_id(prompt: &str) -> Option<String> {
        tag(prompt, "bridge").map(|tag| tag.chat_id)
    }

    #[rustfmt::skip]
    #[test]
    fn only_this_servers_tag_at_the_very_start_counts() {
        let ours = "<channel source=\"plugin:claude-socket:claude-socket\" chat_id=\"s1\" user=\"a\">\nhi\n</channel>";
        let cases = [
            (ours, Some("s1")),
            ("<channel source=\"bridge\" chat_id=\"s1\">", Some("s1")),
            ("<channel chat_id=\"s1\" source=\"bridge\" >", Some("s1")),
            ("<channel source=\"bridge\" chat_id=\"&quot;a&quot;&lt;b&gt; &amp;amp; &unknown; &\">", Some("\"a\"<b> &amp; &unknown; &")),
            ("<channel source=\"bridge\" chat_id=\"\" >", Some("")),
            ("<channel source=\"claude-socket\" chat_id=\"s1\">", None),
            ("<channel source=\"plugin:telegram:telegram\" chat_id=\"s1\">\n<channel source=\"bridge\" chat_id=\"s2\">", None),
            (&format!(" {ours}"), None),
            (&format!("look: {ours}"), None),
            ("<channel source=\"bridge\">", None),
            ("<channel chat_id=\"s1\">", None),
            ("<channel source=\"bridge\" chat_id=\"s1\" chat_id=\"s2\">", None),
            ("<channel source=\"other\" source=\"bridge\" chat_id=\"s1\">", None),
            ("<channel source=\"bridge\" chat_id=\"s1\"", None),
            ("<channel source=\"bridge\" chat_id=s1>", None),
            ("<channels source=\"bridge\" chat_id=\"s1\">", None),
            ("<channel ", None),
            ("", None),
        ];
        for (prompt, expected) in cases {
            assert_eq!(chat_id(prompt).as_deref(), expected, "{prompt}");
        }
    }

    #[test]
    fn a_message_is_known_by_its_id() {
        let prompt = |id| format!("<channel source=\"bridge\" chat_id=\"s1\" message_id=\"{id}\">");
        let message_id = |id| tag(&prompt(id), "bridge").and_then(|tag| tag.message_id);
        assert_eq!(message_id(ID).map(|id| id.to_string()).as_deref(), Some(ID));
        assert_eq!(message_id("m1"), None);
    }

    #[rustfmt::skip]
    #[test]
    fn a_tool_is_shown_in_one_short_line() {
        let cases = [
            ("Bash", r#"{"command":"touch made","description":"make a file"}"#, "Bash: make a file"),
            ("Bash", r#"{"command":"touch  made\n\trm -r x"}"#, "Bash: touch made rm -r x"),
            ("Edit", r#"{"file_path":"/home/pi/greenhouse/src/main.rs"}"#, "Edit: src/main.rs"),
            ("Read", r#"{"file_path":"/home/pi/greenhouse2/a"}"#, "Read: /home/pi/greenhouse2/a"),
            ("Read", r#"{"file_path":"/home/pi/greenhouse"}"#, "Read: /home/pi/greenhouse"),
            ("Grep", r#"{"pattern":"fn main","path":"/home/pi/greenhouse/src"}"#, "Grep: fn main"),
            ("TodoWrite", r#"{"todos":[{"a":1}]}"#, "TodoWrite"),
            ("Task", r#"{"description":"  ","prompt":"x"}"#, "Task"),
            ("Odd", r#"{"description":7,"url":"https://example.org/"}"#, "Odd: https://example.org/"),
            ("mcp__github__create_issue", "{}", "create_issue (github)"),
            ("Bash", "no json", "Bash"),
            ("Bash", "", "Bash"),
            ("Ba\nsh", r#"{"command":"a\u0000b\u202ec\u2028d"}"#, "Ba sh: a bc d"),
        ];
        for (name, input, expected) in cases {
            assert_eq!(&*detail(name, input, "/home/pi/greenhouse"), expected, "{name} {input}");
        }
        let long = detail("Bash", &format!(r#"{{"command":"{}"}}"#, "é ".repeat(5_000_000)), "");
        assert_eq!(long.chars().count(), MAX_DETAIL);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn only_what_can_ask_for_permission_keeps_requests_open() {
        let cases = [
            ("", false),
            ("[]", false),
            ("odd", false),
            (r#"[{"id":"b1","type":"shell","status":"running"}]"#, false),
            (r#"[{"type":"shell"},{"type":"subagent"}]"#, true),
            (r#"[{"id":"b1"}]"#, true),
        ];
        for (tasks, expected) in cases {
            assert_eq!(may_ask(tasks), expected, "{tasks}");
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        let cases = [
            ("[]", "\"arguments\" must be an object"),
            ("{}", "\"event\" is missing; it must be a string"),
            (
                r#"{"event":"PreToolUse"}"#,
                "\"tool_name\" is missing; it must be a string",
            ),
            (
                r#"{"event":"UserPromptSubmit","prompt":7}"#,
                "\"prompt\" must be a string, not a number",
            ),
        ];
        for (arguments, expected) in cases {
            assert_eq!(
                parse(arguments, "k"),
                Err(expected.to_owned()),
                "{arguments}"
            );
        }
        for event in [
            r#"{"event":"SubagentStop"}"#,
            r#"{"event":"Stop","agent_id":"a1"}"#,
            r#"{"event":"Notification","notification_type":"auth_success"}"#,
        ] {
            assert_eq!(parse(event, "k"), Ok(HookEvent::Other), "{event}");
        }
    }
}
