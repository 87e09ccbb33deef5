//! Messages of the server as text for people, for `chat` and `watch`.

use std::time::Duration;

use super::style::Style;
use crate::protocol::{Author, DeliveryState, HistoryItem, ServerMessage, Status};

/// The name of Claude in a conversation.
pub const CLAUDE: &str = "claude";

/// A message of the conversation.
#[derive(Debug)]
pub struct ChatLine<'a> {
    pub seq: u64,
    /// Of the author's name.
    pub style: Style,
    /// The author.
    pub who: &'a str,
    /// RFC 3339.
    pub ts: &'a str,
    pub content: &'a str,
}

/// Returns the line for a reply or a user message, `None` for other messages.
pub fn chat_line(message: &ServerMessage) -> Option<ChatLine<'_>> {
    let (seq, style, who, ts, content) = match message {
        ServerMessage::Reply {
            seq, ts, content, ..
        } => (seq, Style::Claude, CLAUDE, ts, content),
        ServerMessage::UserMessage {
            seq,
            ts,
            content,
            user,
            ..
        } => (seq, Style::Person, user.as_str(), ts, content),
        _ => return None,
    };
    Some(ChatLine {
        seq: *seq,
        style,
        who,
        ts,
        content,
    })
}

/// Returns the line for an item of the history.
pub fn history_line(item: &HistoryItem) -> ChatLine<'_> {
    let (style, who) = match (item.role, &item.user) {
        (Author::Assistant, _) => (Style::Claude, CLAUDE),
        (Author::User, user) => (Style::Person, user.as_deref().unwrap_or("user")),
    };
    ChatLine {
        seq: item.seq,
        style,
        who,
        ts: &item.ts,
        content: &item.content,
    }
}

/// An event beside the conversation.
#[derive(Debug)]
pub struct Notice {
    /// Of the kind.
    pub style: Style,
    /// One word.
    pub kind: &'static str,
    /// One line, or several if a text of the server has several.
    pub what: String,
}

/// Returns the notice for a message; `None` if it belongs to the conversation, or only keeps the
/// connection.
pub fn notice(message: &ServerMessage) -> Option<Notice> {
    let (style, kind, what) = match message {
        ServerMessage::Status { status, detail, .. } => {
            (Style::Dim, "status", activity(*status, detail.as_deref()))
        }
        ServerMessage::Welcome {
            session_id,
            role,
            host,
            ..
        } => {
            let host = match host.name.as_str() {
                "" => "Claude Code is not there yet".to_owned(),
                name => format!("{name} {} is there", host.version),
            };
            let what = format!("session {session_id}, as {}; {host}", role.as_str());
            (Style::Dim, "connected", what)
        }
        ServerMessage::PermissionRequest {
            request_id,
            tool_name,
            description,
            input_preview,
            ..
        } => {
            let what = format!(
                "Claude wants to use {tool_name} ({request_id}): {description}\n{input_preview}"
            );
            (Style::Alert, "permission", what.trim_end().to_owned())
        }
        ServerMessage::PermissionResolved {
            request_id,
            reason: Some(reason),
            ..
        } => {
            let what = format!("{request_id} is closed: {reason}");
            (Style::Alert, "permission", what)
        }
        ServerMessage::PermissionResolved {
            request_id,
            allowed,
            by,
            ..
        } => {
            let verdict = if *allowed { "allowed" } else { "denied" };
            let what = format!("{request_id} is {verdict} by {by}");
            (Style::Alert, "permission", what)
        }
        ServerMessage::Error { message, .. } => (Style::Alert, "error", message.clone()),
        ServerMessage::Delivery {
            state: DeliveryState::Queued,
            ..
        } => (Style::Dim, "queued", QUEUED.to_owned()),
        ServerMessage::Delivery {
            state: DeliveryState::Unseen,
            hint,
            ..
        } => {
            let hint = hint.as_deref().unwrap_or_default();
            (
                Style::Alert,
                "unseen",
                format!("Claude has not seen this: {hint}"),
            )
        }
        ServerMessage::Delivery {
            state: DeliveryState::Lost,
            hint,
            ..
        } => {
            let hint = hint.as_deref().unwrap_or_default();
            (Style::Alert, "lost", format!("maybe lost: {hint}"))
        }
        _ => return None,
    };
    Some(Notice { style, kind, what })
}

/// What people are told of an [`Event::Gap`](claude_socket_client::Event::Gap), and of one in the history.
pub const GAP: &str = "some messages are missing here: the server does not keep them any more";

/// What people are told of a message that waits for Claude Code.
pub const QUEUED: &str = "Claude Code can't have this message yet; it is kept on disk, and is given to Claude Code as soon as that can have it";

/// Returns the state of a message as a word.
pub fn state_word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Queued => "queued",
        DeliveryState::Accepted => "accepted",
        DeliveryState::Seen => "seen",
        DeliveryState::Unseen => "not seen",
        DeliveryState::Answered => "answered",
        DeliveryState::Lost => "maybe lost",
        DeliveryState::Rejected => "rejected",
        DeliveryState::Other => "in a state that only a newer claude-socket knows",
    }
}

/// Returns the status as a sentence.
fn activity(status: Status, detail: Option<&str>) -> String {
    let status = match status {
        Status::Thinking => "Claude thinks",
        Status::ToolUse => "Claude uses a tool",
        Status::Idle => "Claude waits",
        Status::Other => "Claude does something that only a newer claude-socket knows",
    };
    match detail {
        Some(detail) => format!("{status}: {detail}"),
        None => status.to_owned(),
    }
}

/// Returns a time to wait, rounded up to seconds.
pub fn rounded(delay: Duration) -> String {
    format!("{} s", delay.as_secs_f64().ceil())
}
