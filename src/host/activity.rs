//! What the plugin's hooks tell: the arguments of the tool `activity`, which Claude never
//! sees. `plugin/hooks/hooks.json` fills them in from what Claude Code gives to a hook:
//! each is a string, an object comes as its JSON, and what is missing comes as `""`.

mod detail;
mod tag;

use serde_json::Value;

use super::channel;
use crate::hub::{HookEvent, HookId, Tool};
use crate::json::{self, Field};

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
            tag: tag::read(text(&self.prompt)?, server_key),
        })
    }

    fn tool_started(&self, server_key: &str) -> Result<HookEvent, String> {
        let name = self.tool_name.required_text()?;
        let tool = match channel::own_tool(name, server_key) {
            Some("reply") => Tool::Reply,
            Some(_) => Tool::Own,
            None => Tool::Other {
                name: name.into(),
                detail: detail::of_tool(name, text(&self.tool_input)?, text(&self.cwd)?),
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
        let mut line = String::from("stopped");
        detail::append(&mut line, text(&self.error)?);
        Ok(HookEvent::Failed {
            prompt: id(&self.prompt_id)?,
            detail: line.into(),
        })
    }
}

/// Whether something that goes on in the background may still ask for permission: a
/// subagent may, a shell that runs a server all day doesn't.
fn may_ask(tasks: &str) -> bool {
    let tasks: Value = serde_json::from_str(tasks).unwrap_or_default();
    let asks = |task: &Value| task["type"] != "shell" && task["type"] != "monitor";
    tasks.as_array().is_some_and(|tasks| tasks.iter().any(asks))
}

/// A string, or `""` if it was left out.
fn text<'f>(field: &'f Field<'_>) -> Result<&'f str, String> {
    Ok(field.optional()?.unwrap_or_default())
}

fn id(field: &Field<'_>) -> Result<HookId, String> {
    text(field).map(HookId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

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
