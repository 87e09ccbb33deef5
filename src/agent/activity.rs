//! What the plugin's hooks report: the arguments of the tool `activity`, which Claude never
//! sees. `plugin/hooks/hooks.json` fills them in from what Claude Code gives to a hook: each
//! is a string, an object comes as its JSON, and a missing one as `""`.

mod detail;
mod tag;

use serde_json::Value;

use super::argument_error::ArgumentError;
use super::channel::ServerKey;
use crate::hub::{DeltaIndex, HookEvent, PromptId, TextId, Tool, ToolUseId};
use crate::json::{self, Field};
use crate::protocol::FieldError;

/// Parses what a hook reports.
///
/// # Errors
/// [`ArgumentError`].
pub fn parse(arguments: &str, server_key: &ServerKey) -> Result<HookEvent, ArgumentError> {
    let mut fields = Fields::new();
    json::read_into(arguments, &mut fields)?;
    Ok(Report { fields, server_key }.event()?)
}

json::fields! {
    /// Every argument of every event.
    struct Fields {
        event, prompt_id, prompt, agent_id, tool_use_id, tool_name, tool_input, cwd, message_id, index, delta,
        last_assistant_message, background_tasks, error, notification_type,
    }
}

/// What a hook reports.
struct Report<'a> {
    fields: Fields<'a>,
    server_key: &'a ServerKey,
}

impl Report<'_> {
    fn event(&self) -> Result<HookEvent, FieldError> {
        match self.fields.event.required_text()? {
            "UserPromptSubmit" => self.prompt(),
            "PreToolUse" => self.tool_started(),
            "PostToolUse" | "PostToolUseFailure" => self.tool_ended(),
            "MessageDisplay" => self.text_delta(),
            // The end of a subagent is not the end of the turn.
            "Stop" | "StopFailure" if !text(&self.fields.agent_id)?.is_empty() => {
                Ok(HookEvent::Other)
            }
            "Stop" => self.stopped(),
            "StopFailure" => self.failed(),
            "Notification" if text(&self.fields.notification_type)? == "idle_prompt" => {
                Ok(HookEvent::Waiting)
            }
            _ => Ok(HookEvent::Other),
        }
    }

    fn prompt(&self) -> Result<HookEvent, FieldError> {
        Ok(HookEvent::Prompt {
            prompt: PromptId::new(text(&self.fields.prompt_id)?),
            tag: tag::read(text(&self.fields.prompt)?, self.server_key),
        })
    }

    fn tool_started(&self) -> Result<HookEvent, FieldError> {
        let name = self.fields.tool_name.required_text()?;
        let tool = match self.server_key.own_tool(name) {
            Some("reply") => Tool::Reply,
            Some(_) => Tool::Own,
            None => Tool::Other {
                name: name.into(),
                detail: detail::of_tool(
                    name,
                    text(&self.fields.tool_input)?,
                    text(&self.fields.cwd)?,
                ),
            },
        };
        Ok(HookEvent::ToolStarted {
            prompt: PromptId::new(text(&self.fields.prompt_id)?),
            by_subagent: !text(&self.fields.agent_id)?.is_empty(),
            tool_use: ToolUseId::new(text(&self.fields.tool_use_id)?),
            tool,
        })
    }

    fn tool_ended(&self) -> Result<HookEvent, FieldError> {
        Ok(HookEvent::ToolEnded {
            prompt: PromptId::new(text(&self.fields.prompt_id)?),
            tool_use: ToolUseId::new(text(&self.fields.tool_use_id)?),
            name: self.fields.tool_name.required_text()?.to_owned(),
            input: text(&self.fields.tool_input)?.to_owned(),
        })
    }

    fn text_delta(&self) -> Result<HookEvent, FieldError> {
        Ok(HookEvent::TextDelta {
            prompt: PromptId::new(text(&self.fields.prompt_id)?),
            text: TextId::new(text(&self.fields.message_id)?),
            index: DeltaIndex::new(text(&self.fields.index)?),
            delta: text(&self.fields.delta)?.to_owned(),
        })
    }

    fn stopped(&self) -> Result<HookEvent, FieldError> {
        Ok(HookEvent::Stopped {
            prompt: PromptId::new(text(&self.fields.prompt_id)?),
            text: text(&self.fields.last_assistant_message)?.into(),
            has_background_tasks: can_request_permission(text(&self.fields.background_tasks)?),
        })
    }

    fn failed(&self) -> Result<HookEvent, FieldError> {
        let mut line = String::from("stopped");
        detail::append(&mut line, text(&self.fields.error)?);
        Ok(HookEvent::Failed {
            prompt: PromptId::new(text(&self.fields.prompt_id)?),
            detail: line.into(),
        })
    }
}

/// Returns `true` if one of the background tasks can request permission: a subagent can, a
/// shell that runs a server all day doesn't.
fn can_request_permission(tasks: &str) -> bool {
    let tasks = json::value(tasks).unwrap_or_default();
    let asks = |task: &Value| task["type"] != "shell" && task["type"] != "monitor";
    tasks.as_array().is_some_and(|tasks| tasks.iter().any(asks))
}

/// Returns a string, or `""` if it was left out.
fn text<'f>(field: &'f Field<'_>) -> Result<&'f str, FieldError> {
    Ok(field.optional()?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tasks_that_can_ask_count_as_background_tasks() {
        let cases = [
            ("", false),
            ("[]", false),
            ("odd", false),
            (r#"[{"id":"b1","type":"shell","status":"running"}]"#, false),
            (r#"[{"type":"shell"},{"type":"subagent"}]"#, true),
            (r#"[{"id":"b1"}]"#, true),
        ];
        for (tasks, expected) in cases {
            assert_eq!(can_request_permission(tasks), expected, "{tasks}");
        }
    }

    #[test]
    fn wrong_argument_is_named() {
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
            let error = parse(arguments, &"k".into()).expect_err(arguments);
            assert_eq!(error.to_string(), expected, "{arguments}");
        }
        for event in [
            r#"{"event":"SubagentStop"}"#,
            r#"{"event":"Stop","agent_id":"a1"}"#,
            r#"{"event":"Notification","notification_type":"auth_success"}"#,
        ] {
            assert_eq!(parse(event, &"k".into()), Ok(HookEvent::Other), "{event}");
        }
    }
}
