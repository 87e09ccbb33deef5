//! The hooks of the fake agent: the calls of the tool `activity` that Claude Code makes by the
//! plugin's `hooks.json`.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::fake_agent::{FakeAgent, Message};

impl<W: Write> FakeAgent<W> {
    /// Puts a message into the conversation, which begins a turn unless one is going on.
    pub(super) fn take(&mut self, message: &Message) -> io::Result<()> {
        if self.turn.unanswered == 0 {
            self.turn.count += 1;
            self.turn.last_text.clear();
        }
        self.turn.unanswered += 1;
        self.hook("UserPromptSubmit", json!({ "prompt": tag(message) }))
    }

    /// Counts a message as answered. Returns `true` if that ended the turn.
    pub(super) fn finish(&mut self) -> io::Result<bool> {
        self.turn.unanswered = self.turn.unanswered.saturating_sub(1);
        let is_last = self.turn.unanswered == 0;
        if is_last {
            let last_text = std::mem::take(&mut self.turn.last_text);
            self.hook("Stop", json!({ "last_assistant_message": last_text }))?;
        }
        Ok(is_last)
    }

    pub(super) fn before(&mut self, tool: &str, input: &Value) -> io::Result<()> {
        let input =
            json!({ "tool_name": tool, "tool_use_id": tool, "tool_input": input.to_string() });
        self.hook("PreToolUse", input)
    }

    pub(super) fn after(&mut self, tool: &str, input: &Value) -> io::Result<()> {
        let input =
            json!({ "tool_name": tool, "tool_use_id": tool, "tool_input": input.to_string() });
        self.hook("PostToolUse", input)
    }

    /// Streams a piece of a text; `index` counts the pieces.
    pub(super) fn display(&mut self, text: u64, index: usize, delta: &str) -> io::Result<()> {
        if index == 0 {
            self.turn.last_text.clear();
        }
        self.turn.last_text.push_str(delta);
        let (text, index) = (text.to_string(), index.to_string());
        let piece = json!({ "message_id": text, "index": index, "delta": delta });
        self.hook("MessageDisplay", piece)
    }

    fn hook(&mut self, event: &str, mut arguments: Value) -> io::Result<()> {
        arguments["event"] = event.into();
        arguments["prompt_id"] = self.turn.count.to_string().into();
        self.call("activity", &arguments)?;
        Ok(())
    }
}

/// Returns the message as Claude Code shows it to Claude.
fn tag(message: &Message) -> String {
    let mut tag = String::from("<channel source=\"claude-socket\"");
    for (name, value) in [
        ("chat_id", &message.chat_id),
        ("user", &message.user),
        ("ts", &message.ts),
        ("message_id", &message.message_id),
    ] {
        let value = value.replace('&', "&amp;").replace('"', "&quot;");
        let value = value.replace('<', "&lt;").replace('>', "&gt;");
        tag += &format!(" {name}=\"{value}\"");
    }
    let content = message.content.replace("</channel>", "<\\/channel>");
    format!("{tag}>\n{content}\n</channel>")
}
