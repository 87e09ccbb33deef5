//! The tools Claude can use: how they are described, what they are called with, and
//! what they do.

use log::warn;
use serde::Serialize;
use serde_json::{Value, json};

use super::{activity, channel};
use crate::hub::{Effects, HookEvent, Hub, Now, Reach, UnknownSession};
use crate::json::{self, NotAnObject};
use crate::protocol::{self, Activity};

/// How many sessions an error names before it says how many more there are.
const NAMED: usize = 20;

/// One call of a tool, its arguments checked.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolCall {
    /// Answer the people in a session.
    Reply {
        /// The session.
        chat_id: String,
        /// The answer.
        text: String,
    },
    /// Show them what Claude is doing.
    Status {
        /// The session.
        chat_id: String,
        /// What it is doing.
        status: Activity,
        /// A few words more.
        detail: Option<String>,
    },
    /// Read what was said in a session.
    FetchMessages {
        /// The session.
        session_id: String,
        /// 1 to [`protocol::MAX_LIMIT`].
        limit: usize,
    },
    /// A hook tells what goes on. Claude doesn't know of it, and must not be disturbed:
    /// what can't be understood is nothing.
    Activity(Option<HookEvent>),
}

/// The answer to a tool call (MCP 2025-11-25, `CallToolResult`).
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
    /// It worked.
    pub fn ok(text: impl Into<String>) -> Self {
        Self::new(text.into(), false)
    }

    /// It didn't. The text tells Claude why, and what to do.
    pub fn error(text: impl Into<String>) -> Self {
        Self::new(text.into(), true)
    }

    /// There is nothing to say, and nothing to add to the conversation.
    pub fn nothing() -> Self {
        Self {
            content: Vec::new(),
            is_error: false,
        }
    }

    fn new(text: String, is_error: bool) -> Self {
        let content = vec![Text {
            r#type: "text",
            text,
        }];
        Self { content, is_error }
    }
}

/// Reads the arguments of a call; `None` if there is no tool of that name.
///
/// `server_key` is the server's name in a raw MCP config. The inner error is a sentence
/// that names the argument.
pub fn parse(name: &str, arguments: &str, server_key: &str) -> Option<Result<ToolCall, String>> {
    let call = match name {
        "reply" => reply(arguments),
        "status" => status(arguments),
        "fetch_messages" => fetch_messages(arguments),
        "activity" => Ok(ToolCall::Activity(heard(arguments, server_key))),
        _ => return None,
    };
    Some(call.map_err(|wrong| format!("{name}: {wrong}")))
}

fn reply(arguments: &str) -> Result<ToolCall, String> {
    let [chat_id, text] = json::object(arguments, ["chat_id", "text"]).map_err(no_object)?;
    Ok(ToolCall::Reply {
        chat_id: chat_id.required_text()?.to_owned(),
        text: text.required_text()?.to_owned(),
    })
}

fn status(arguments: &str) -> Result<ToolCall, String> {
    let [chat_id, status, detail] =
        json::object(arguments, ["chat_id", "status", "detail"]).map_err(no_object)?;
    let name = status.required_text()?;
    let detail: Option<&str> = detail.optional()?;
    Ok(ToolCall::Status {
        chat_id: chat_id.required_text()?.to_owned(),
        status: Activity::parse(name).ok_or_else(|| {
            let names = Activity::NAMES.join(", ");
            format!("\"status\" must be one of {names}, not \"{name}\"")
        })?,
        detail: detail.map(str::to_owned),
    })
}

fn fetch_messages(arguments: &str) -> Result<ToolCall, String> {
    let [session_id, limit] =
        json::object(arguments, ["session_id", "limit"]).map_err(no_object)?;
    Ok(ToolCall::FetchMessages {
        session_id: session_id.required_text()?.to_owned(),
        limit: protocol::clamp_limit(limit.optional()?),
    })
}

fn heard(arguments: &str, server_key: &str) -> Option<HookEvent> {
    let event = activity::parse(arguments, server_key);
    event
        .inspect_err(|wrong| warn!("a hook tells something odd: {wrong}"))
        .ok()
}

fn no_object(_: NotAnObject) -> String {
    "\"arguments\" must be an object".to_owned()
}

/// Does what Claude asks for.
pub fn run(call: ToolCall, now: Now, hub: &mut Hub, fx: &mut impl Effects) -> ToolResult {
    match call {
        ToolCall::Reply { chat_id, text } => match hub.reply(now, &chat_id, text, fx) {
            Ok(Reach::Sent) => ToolResult::ok("sent"),
            Ok(Reach::NobodyThere) => ToolResult::ok(format!(
                "stored: nobody is in session \"{chat_id}\" right now; the reply is kept in its history for whoever comes back"
            )),
            Err(unknown) => no_session(&chat_id, &unknown),
        },
        ToolCall::Status {
            chat_id,
            status,
            detail,
        } => match hub.status(&chat_id, status, detail.as_deref(), fx) {
            Ok(Reach::Sent) => ToolResult::ok("sent"),
            Ok(Reach::NobodyThere) => {
                ToolResult::ok(format!("nobody is in session \"{chat_id}\" right now"))
            }
            Err(unknown) => no_session(&chat_id, &unknown),
        },
        ToolCall::FetchMessages { session_id, limit } => {
            let lines: Vec<String> = hub
                .messages(&session_id, limit)
                .iter()
                .map(|said| {
                    format!(
                        "[{}] {}: {}",
                        said.ts,
                        said.role.as_str(),
                        fold(said.content)
                    )
                })
                .collect();
            if lines.is_empty() {
                return ToolResult::ok("(no messages)");
            }
            ToolResult::ok(lines.join("\n"))
        }
        ToolCall::Activity(event) => {
            if let Some(event) = event {
                hub.hook(now, event, fx);
            }
            ToolResult::nothing()
        }
    }
}

/// A text in one line, in which nothing can pass for another line or for a message of
/// somebody else: each run of line ends becomes a space, channel tags are neutralised.
fn fold(text: &str) -> String {
    const LINE_ENDS: [char; 7] = [
        '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
    ];
    let lines = text.split(LINE_ENDS).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    channel::neutralise(&line).into_owned()
}

fn no_session(chat_id: &str, UnknownSession(names): &UnknownSession) -> ToolResult {
    let hint = if names.is_empty() {
        "no app is connected".to_owned()
    } else {
        let mut list = names.iter().take(NAMED).map(|name| format!("\"{name}\""));
        let list = list.by_ref().collect::<Vec<_>>().join(", ");
        match names.len().saturating_sub(NAMED) {
            0 => format!("there are {list}"),
            more => format!("there are {list} and {more} more"),
        }
    };
    ToolResult::error(format!(
        "there is no session \"{chat_id}\"; {hint}; use the chat_id of the <channel> message"
    ))
}

/// The answer to `tools/list`. `activity` is not among them: it is there for hooks, and
/// what Claude doesn't know costs it nothing.
///
/// Each description stands on its own: in a session's first turn the server's
/// instructions are missing. `alwaysLoad` spares Claude a search before it can
/// answer.
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
                    "status": { "type": "string", "enum": Activity::NAMES },
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
                first, one a line: [time] role: text.",
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
    fn a_wrong_argument_is_named() {
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
        ];
        for (tool, arguments, expected) in cases {
            assert_eq!(parse(tool, arguments, ""), Some(Err(expected.to_owned())), "{arguments}");
        }
        assert_eq!(parse("dance", "{}", ""), None);
    }
}
