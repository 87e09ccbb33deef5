//! What Claude Code's hooks report. Each event was checked where it came in.

use std::sync::Arc;

use crate::protocol::MessageId;

/// The most characters of an id that are kept; Claude Code's own have 36.
const MAX_ID: usize = 64;

/// Defines the types of ids that Claude Code gives. Each may be empty: then the hook gave none.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            /// Keeps as much of a text as is needed to tell it from others.
            pub fn new(text: &str) -> Self {
                let end = text.char_indices().nth(MAX_ID);
                Self(text[..end.map_or(text.len(), |(end, _)| end)].into())
            }

            /// Returns `true` if the hook gave none.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }
    )*};
}

ids! {
    /// The prompt that began a turn.
    PromptId,
    /// One use of a tool.
    ToolUseId,
    /// A text that Claude writes.
    TextId,
    /// The place of a delta in its text.
    DeltaIndex,
}

/// What a hook reports. `prompt` is the prompt that began the turn.
#[derive(Clone, Debug, PartialEq)]
pub enum HookEvent {
    /// A prompt goes into the conversation.
    Prompt {
        /// The prompt; that of the turn's first one if Claude is already at work.
        prompt: PromptId,
        /// The tag of the message that it is, if it is one of this server.
        tag: Option<ChannelTag>,
    },
    /// A tool is about to run, or to ask for permission.
    ToolStarted {
        prompt: PromptId,
        /// A subagent uses it, which may outlive the turn.
        by_subagent: bool,
        /// This use of it.
        tool_use: ToolUseId,
        tool: Tool,
    },
    /// A tool has run or failed.
    ToolEnded {
        prompt: PromptId,
        /// This use of it.
        tool_use: ToolUseId,
        /// Claude Code's name of the tool.
        name: String,
        /// Its input, a JSON text.
        input: String,
    },
    /// Some of Claude's text has appeared.
    TextDelta {
        prompt: PromptId,
        /// The text it belongs to.
        text: TextId,
        /// Its place in that.
        index: DeltaIndex,
        /// What was added.
        delta: String,
    },
    /// Claude has finished.
    Stopped {
        prompt: PromptId,
        /// Its last text.
        text: Arc<str>,
        /// Background tasks that may ask for permission go on.
        has_background_tasks: bool,
    },
    /// The turn has failed.
    Failed {
        prompt: PromptId,
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
pub struct ChannelTag {
    pub chat_id: String,
    /// The message; `None` if that is no id of this server.
    pub message_id: Option<MessageId>,
}

/// Which tool a hook reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The `reply` of this server.
    Reply,
    /// Another tool of this server.
    Own,
    /// Any other tool.
    Other {
        /// Claude Code's name of it.
        name: Arc<str>,
        /// What to show: one line.
        detail: Arc<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_cut_and_equal() {
        let long = "é".repeat(100);
        assert_eq!(PromptId::new(&long), PromptId::new(&"é".repeat(MAX_ID)));
        assert!(PromptId::new("").is_empty());
    }
}
