//! What Claude Code's hooks tell. Each event has been checked where it came in.

use std::sync::Arc;

use super::turn::HookId;
use crate::protocol::MessageId;

/// What a hook has told. `prompt` is the id of the turn's prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum HookEvent {
    /// A prompt goes into the conversation.
    Prompt {
        /// Its id; that of the turn's first one if Claude is already at work.
        prompt: HookId,
        /// The message that it is, if it is one of ours.
        tag: Option<Tag>,
    },
    /// A tool is about to run, or to ask for permission.
    ToolStarted {
        /// The turn.
        prompt: HookId,
        /// A subagent uses it, which may outlive the turn.
        by_subagent: bool,
        /// This use of it.
        tool_use: HookId,
        /// Which tool.
        tool: Tool,
    },
    /// A tool has run, whether that went well or not.
    ToolEnded {
        /// The turn.
        prompt: HookId,
        /// That use of it.
        tool_use: HookId,
        /// Claude Code's name of the tool.
        name: String,
        /// What it was given, as JSON.
        input: String,
    },
    /// A piece of Claude's text has appeared.
    Displayed {
        /// The turn.
        prompt: HookId,
        /// The text it belongs to.
        message: HookId,
        /// Its place in that.
        index: HookId,
        /// The piece.
        delta: String,
    },
    /// Claude has finished.
    Stopped {
        /// The turn.
        prompt: HookId,
        /// What it said last.
        text: String,
        /// Some of its subagents or commands go on.
        in_background: bool,
    },
    /// Claude couldn't go on.
    Failed {
        /// The turn.
        prompt: HookId,
        /// Why, in a few words.
        detail: Arc<str>,
    },
    /// Claude Code has been waiting for a prompt for a while.
    Waiting,
    /// Something of no further use.
    Other,
}

/// The tag at the start of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The session.
    pub chat_id: String,
    /// The message; `None` if that is no id of this server's.
    pub message_id: Option<MessageId>,
}

/// A tool, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Our own `reply`.
    Reply,
    /// Another one of our own.
    Own,
    /// Any other.
    Other {
        /// Claude Code's name of it.
        name: Arc<str>,
        /// What to show: one line.
        detail: Arc<str>,
    },
}
