//! The tools that Claude can use: their descriptions, their arguments, and how their outcome
//! is rendered. The hub decides what they do.

use std::fmt;

use log::warn;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::activity;
use super::argument_error::ArgumentError;
use super::channel::ServerKey;
use crate::hub::{GivenUp, PublishResult, ToolCall, ToolOutcome};
use crate::json;
use crate::protocol::{self, HistoryItem, MessageId, SessionId, Status};
use crate::sanitize::escape_channel_tags;

/// Keeps a prompt from the conversation (hooks reference, `UserPromptSubmit`). The terminal shows the reason; Claude
/// doesn't get it.
const BLOCK_COPY: &str = r#"{"decision":"block","reason":"claude-socket gave this message again because it was not seen in time; it is in the conversation already"}"#;

/// The most characters in the result of `fetch_messages`. Claude Code saves results of more than 25,000 tokens to a file,
/// and shows Claude only their beginning.
const MAX_RESULT: usize = 24_000;
/// The most sessions that an error names before it counts the others.
const MAX_LISTED: usize = 20;

/// The result of a tool call (MCP 2025-11-25, `CallToolResult`).
#[derive(Debug, PartialEq, Serialize)]
pub struct ToolResult {
    content: Vec<Text>,
    #[serde(rename = "isError", skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Text {
    r#type: &'static str,
    text: String,
}

impl ToolResult {
    /// A success.
    pub fn ok(text: impl Into<String>) -> Self {
        Self::new(text.into(), false)
    }

    /// A failure for a reason that may repeat what somebody has said. The text tells Claude why, and what to do.
    pub fn quoting_error(reason: &impl fmt::Display) -> Self {
        Self::error(escape_channel_tags(&reason.to_string()))
    }

    /// A failure. The text tells Claude why, and what to do.
    pub fn error(text: impl Into<String>) -> Self {
        Self::new(text.into(), true)
    }

    /// A success that adds nothing to the conversation: an empty hook output. A result without
    /// any text does: Claude Code notes there that the `UserPromptSubmit` hook has succeeded.
    pub fn nothing() -> Self {
        Self::ok("{}")
    }

    fn new(text: String, is_error: bool) -> Self {
        let content = vec![Text::new(text)];
        Self { content, is_error }
    }
}

impl Text {
    fn new(text: String) -> Self {
        let r#type = "text";
        Self { r#type, text }
    }
}

/// Why a call can't be parsed.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseError {
    /// There is no tool of that name.
    UnknownTool,
    /// An argument is missing or wrong.
    InvalidArgument(InvalidArgument),
}

/// A call with a missing or wrong argument. Its `Display` is the sentence for Claude.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidArgument {
    /// The name of the tool.
    pub tool: &'static str,
    /// What is wrong with which argument.
    pub error: ArgumentError,
}

impl fmt::Display for InvalidArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tool, self.error)
    }
}

/// Parses a call. `server_key` tells this server's tools and messages from others'.
///
/// # Errors
/// [`ParseError`].
pub fn parse(name: &str, arguments: &str, server_key: &ServerKey) -> Result<ToolCall, ParseError> {
    let (tool, call) = match name {
        "reply" => ("reply", parse_reply(arguments)),
        "status" => ("status", parse_status(arguments)),
        "fetch_messages" => ("fetch_messages", parse_fetch_messages(arguments)),
        "activity" => {
            let event = activity::parse(arguments, server_key).inspect_err(|error| {
                warn!("a hook reports something that cannot be understood: {error}");
            });
            return Ok(ToolCall::Activity(event.ok()));
        }
        _ => return Err(ParseError::UnknownTool),
    };
    call.map_err(|error| ParseError::InvalidArgument(InvalidArgument { tool, error }))
}

fn parse_reply(arguments: &str) -> Result<ToolCall, ArgumentError> {
    let [chat_id, text, reply_to] = json::object(arguments, ["chat_id", "text", "reply_to"])?;
    let reply_to: Option<&str> = reply_to.optional()?.filter(|id: &&str| !id.is_empty());
    let message_id = |id| {
        let id = Uuid::try_parse(id).map_err(|_| ArgumentError::NotAMessageId);
        id.map(MessageId)
    };
    Ok(ToolCall::Reply {
        chat_id: chat_id.required_text()?.to_owned(),
        text: text.required_text()?.into(),
        reply_to: reply_to.map(message_id).transpose()?,
    })
}

fn parse_status(arguments: &str) -> Result<ToolCall, ArgumentError> {
    let [chat_id, status, detail] = json::object(arguments, ["chat_id", "status", "detail"])?;
    let name = status.required_text()?;
    let detail: Option<&str> = detail.optional()?;
    Ok(ToolCall::Status {
        chat_id: chat_id.required_text()?.to_owned(),
        status: Status::parse(name).ok_or_else(|| ArgumentError::UnknownStatus(name.to_owned()))?,
        detail: detail.map(str::to_owned),
    })
}

fn parse_fetch_messages(arguments: &str) -> Result<ToolCall, ArgumentError> {
    let [session_id, limit, before] = json::object(arguments, ["session_id", "limit", "before"])?;
    let before: Option<f64> = before.optional()?;
    Ok(ToolCall::FetchMessages {
        session_id: session_id.required_text()?.to_owned(),
        limit: protocol::clamp_limit(limit.optional()?),
        // `as` saturates, and drops the fraction.
        before: before.map(|seq| seq as u64),
    })
}

/// Renders the outcome of a call for Claude.
pub fn render(outcome: &ToolOutcome<'_>) -> ToolResult {
    match outcome {
        ToolOutcome::Replied { chat_id, result } => match result {
            PublishResult::Delivered => ToolResult::ok("sent"),
            PublishResult::NoSubscribers => ToolResult::ok(format!(
                "stored: nobody is in session {} right now; the reply is kept in its history for whoever comes back",
                quoted(chat_id)
            )),
        },
        ToolOutcome::ReplyTooLong { length, limit } => ToolResult::error(format!(
            "reply: \"text\" has {length} bytes as JSON, and the limit is {limit}; nothing was sent; split it into \
             several replies, or write it to a file and reply with its path"
        )),
        ToolOutcome::StatusShown { chat_id, result } => match result {
            PublishResult::Delivered => ToolResult::ok("sent"),
            PublishResult::NoSubscribers => ToolResult::ok(format!(
                "nobody is in session {} right now",
                quoted(chat_id)
            )),
        },
        ToolOutcome::Messages { messages, .. } if messages.is_empty() => {
            ToolResult::ok("(no messages)")
        }
        ToolOutcome::Messages { messages, earlier } => {
            ToolResult::ok(render_messages(messages, *earlier))
        }
        ToolOutcome::UnknownSession { chat_id, sessions } => unknown_session(chat_id, sessions),
        ToolOutcome::NotOpened { chat_id, why } => ToolResult::error(format!(
            "session {} could not be opened: {why}",
            quoted(chat_id)
        )),
        ToolOutcome::TooManyUnread { chat_id, count } => ToolResult::error(format!(
            "reply: nobody has received the last {count} replies to session {}, and there is no room for more; nothing was \
             sent; reply when somebody writes there again",
            quoted(chat_id)
        )),
        ToolOutcome::Noted { outcome, given_up } => {
            let mut result = render(outcome);
            let notes = given_up.iter().map(|given_up| Text::new(note(given_up)));
            result.content.extend(notes);
            result
        }
        ToolOutcome::PromptBlocked => ToolResult::ok(BLOCK_COPY),
        ToolOutcome::Nothing => ToolResult::nothing(),
    }
}

/// Says that replies were given up.
fn note(given_up: &GivenUp) -> String {
    format!(
        "note: {} of your replies to session {} expired unreceived, as nobody came in time; say again what still matters \
         when somebody writes there",
        given_up.count,
        quoted(given_up.session.as_str())
    )
}

/// Renders the newest of these messages, as many as fit, a line each, and a line for each gap; before them a line that
/// says how to get earlier ones, if there are any. `earlier` is the `seq` of the last one before these.
fn render_messages(messages: &[HistoryItem<&str>], earlier: Option<u64>) -> String {
    let mut room = MAX_RESULT - earlier_hint(u64::MAX).len();
    let mut lines = Vec::new();
    let mut left_out = messages.len();
    for (place, message) in messages.iter().enumerate().rev() {
        let previous = place.checked_sub(1).map(|place| messages[place].seq);
        let gap = gap_between(previous.or(earlier).unwrap_or(0), message.seq);
        // Each has a line end.
        let room_beside_gap = room.saturating_sub(gap.as_ref().map_or(0, |gap| gap.len() + 1));
        let line = render_message(message, room_beside_gap);
        let fits = line.is_some();
        if !fits && !lines.is_empty() {
            break;
        }
        let line = line.unwrap_or_else(|| cut_message(message, room_beside_gap));
        room = room_beside_gap.saturating_sub(line.chars().count() + 1);
        lines.push(line);
        lines.extend(gap);
        left_out = place;
        if !fits {
            break;
        }
    }
    if earlier.is_some() || left_out > 0 {
        lines.push(earlier_hint(messages[left_out].seq));
    }
    lines.reverse();
    lines.join("\n")
}

/// Says how to get the messages before this one.
fn earlier_hint(seq: u64) -> String {
    format!("(there are earlier messages: call fetch_messages with \"before\": {seq})")
}

/// Says which messages between these two are not kept any more, if any.
fn gap_between(previous: u64, next: u64) -> Option<String> {
    match (previous + 1, next.saturating_sub(1)) {
        (first, last) if first > last => None,
        (first, last) if first == last => Some(format!("(message {first} is not kept any more)")),
        (first, last) => Some(format!(
            "(messages {first} to {last} are not kept any more)"
        )),
    }
}

/// Returns a message as a line, unless that has no room for its line end.
fn render_message(message: &HistoryItem<&str>, room: usize) -> Option<String> {
    // What is far too long takes no time.
    if message.content.len() > 4 * MAX_RESULT {
        return None;
    }
    let line = line(message, message.content);
    (line.chars().count() < room).then_some(line)
}

/// Returns a line with the beginning of a message, in less than `room` characters, and says that it is cut off.
fn cut_message(message: &HistoryItem<&str>, room: usize) -> String {
    let content = message.content;
    let length = content.chars().count();
    let note = format!(" [cut off: this message has {length} characters]");
    let end = content.floor_char_boundary(4 * MAX_RESULT);
    let line = line(message, &content[..end]);
    let beginning = line.chars().take(room.saturating_sub(note.len() + 1));
    beginning.chain(note.chars()).collect()
}

fn line(message: &HistoryItem<&str>, content: &str) -> String {
    let role = message.role.as_str();
    format!("[{}] {role}: {}", message.ts, single_line(content))
}

/// Returns a text as one line that can't pass for another line or for a message of somebody
/// else: each run of line ends becomes a space, and channel tags are escaped.
fn single_line(text: &str) -> String {
    const LINE_ENDS: [char; 7] = [
        '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
    ];
    let lines = text.split(LINE_ENDS).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    escape_channel_tags(&line).into_owned()
}

/// Returns a name in quotes, as it stands in the tag of a message.
fn quoted(name: &str) -> String {
    format!("\"{}\"", escape_channel_tags(name))
}

fn unknown_session(chat_id: &str, names: &[SessionId]) -> ToolResult {
    let hint = if names.is_empty() {
        "no app is connected".to_owned()
    } else {
        let listed = names.iter().take(MAX_LISTED);
        let listed: Vec<_> = listed.map(|name| quoted(name.as_str())).collect();
        let listed = listed.join(", ");
        match names.len().saturating_sub(MAX_LISTED) {
            0 => format!("there are {listed}"),
            more => format!("there are {listed} and {more} more"),
        }
    };
    ToolResult::error(format!(
        "there is no session {}; {hint}; use the chat_id of the <channel> message",
        quoted(chat_id)
    ))
}

/// The result of `tools/list`. `activity` is not among them: only hooks use it, and a tool that
/// Claude doesn't know costs no tokens.
///
/// Each description stands on its own: in a session's first turn the server's instructions
/// are missing. `alwaysLoad` saves Claude a search before it can answer.
pub fn list() -> Value {
    let chat_id = json!({
        "type": "string",
        "description": "The chat_id of the <channel> message this is about.",
    });
    json!({ "tools": [
        {
            "name": "reply",
            "title": "Reply",
            "description": "Answer a <channel> message that came through claude-socket. \
                The people there see only what is passed to this tool, never the terminal: \
                call it for every answer, and again when there is news. Markdown is fine.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "chat_id": chat_id,
                    "text": { "type": "string", "description": "The answer." },
                    "reply_to": {
                        "type": "string",
                        "description": "The message_id of the <channel> message that it answers; \
                            give it when several wait for an answer.",
                    },
                },
                "required": ["chat_id", "text"],
            },
            "annotations": {
                "title": "Reply",
                "readOnlyHint": false,
                "destructiveHint": false,
                "idempotentHint": false,
                "openWorldHint": false,
            },
            "_meta": { "anthropic/alwaysLoad": true },
        },
        {
            "name": "status",
            "title": "Show status",
            "description": "Show the people of a claude-socket <channel> what you are doing \
                while they wait for your reply.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "chat_id": chat_id,
                    "status": { "type": "string", "enum": Status::NAMES },
                    "detail": { "type": "string", "description": "A few words more, such as the name of a tool." },
                },
                "required": ["chat_id", "status"],
            },
            "annotations": {
                "title": "Show status",
                "readOnlyHint": false,
                "destructiveHint": false,
                "idempotentHint": true,
                "openWorldHint": false,
            },
            "_meta": { "anthropic/alwaysLoad": true },
        },
        {
            "name": "fetch_messages",
            "title": "Fetch messages",
            "description": "Read the latest messages of a claude-socket chat session, oldest \
                first, one a line: [time] role: text. At most 24,000 characters; if there are \
                earlier messages, the first line says how to get them.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "session_id": {
                        "type": "string",
                        "description": "The session: the chat_id of its <channel> messages.",
                    },
                    "limit": {
                        "type": "integer",
                        "description": "How many messages at most.",
                        "minimum": 1,
                        "maximum": protocol::MAX_LIMIT,
                        "default": protocol::DEFAULT_LIMIT,
                    },
                    "before": {
                        "type": "integer",
                        "description": "Only messages before the one with this number.",
                        "minimum": 1,
                    },
                },
                "required": ["session_id"],
            },
            "annotations": {
                "title": "Fetch messages",
                "readOnlyHint": true,
                "destructiveHint": false,
                "idempotentHint": true,
                "openWorldHint": false,
            },
            "_meta": { "anthropic/alwaysLoad": true },
        },
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    #[test]
    fn wrong_argument_is_named() {
        let cases = [
            ("reply", "[]", "reply: \"arguments\" must be an object"),
            ("reply", "{}", "reply: \"chat_id\" is missing; it must be a string"),
            ("reply", r#"{"chat_id":"a"}"#, "reply: \"text\" is missing; it must be a string"),
            ("reply", r#"{"chat_id":"a","text":""}"#, "reply: \"text\" must not be empty"),
            ("reply", r#"{"chat_id":7,"text":"x"}"#, "reply: \"chat_id\" must be a string, not a number"),
            ("status", r#"{"chat_id":"a","status":"busy"}"#, "status: \"status\" must be one of thinking, tool_use, idle, not \"busy\""),
            ("status", r#"{"chat_id":"a","status":"idle","detail":1}"#, "status: \"detail\" must be a string, not a number"),
            ("fetch_messages", r#"{"limit":1}"#, "fetch_messages: \"session_id\" is missing; it must be a string"),
            ("fetch_messages", r#"{"session_id":"a","limit":"ten"}"#, "fetch_messages: \"limit\" must be a number, not a string"),
            ("fetch_messages", r#"{"session_id":"a","before":"now"}"#, "fetch_messages: \"before\" must be a number, not a string"),
        ];
        for (tool, arguments, expected) in cases {
            let Err(ParseError::InvalidArgument(error)) = parse(tool, arguments, &"".into()) else {
                panic!("{tool} takes {arguments}");
            };
            assert_eq!(error.to_string(), expected, "{arguments}");
        }
        assert_eq!(parse("dance", "{}", &"".into()), Err(ParseError::UnknownTool));
    }
}
