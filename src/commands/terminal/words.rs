//! What the server's messages say to people, in words that `chat` and `watch` share.

use std::time::Duration;

use super::paint::Style;
use crate::protocol::{Activity, DeliveryState, HistoryItem, ServerMessage, Speaker};

/// How Claude is called.
pub const CLAUDE: &str = "claude";

/// Words that somebody has said.
#[derive(Debug)]
pub struct Said<'a> {
    /// Its place in the session.
    pub seq: u64,
    /// How its speaker's name looks.
    pub style: Style,
    /// Who.
    pub who: &'a str,
    /// When, RFC 3339.
    pub ts: &'a str,
    /// What.
    pub content: &'a str,
}

/// What is said by a message, if it is one that says something.
pub fn said(message: &ServerMessage) -> Option<Said<'_>> {
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
    Some(Said {
        seq: *seq,
        style,
        who,
        ts,
        content,
    })
}

/// The same for a line of the history.
pub fn said_before(item: &HistoryItem) -> Said<'_> {
    let (style, who) = match (item.role, &item.user) {
        (Speaker::Assistant, _) => (Style::Claude, CLAUDE),
        (Speaker::User, user) => (Style::Person, user.as_deref().unwrap_or("user")),
    };
    Said {
        seq: item.seq,
        style,
        who,
        ts: &item.ts,
        content: &item.content,
    }
}

/// Something that has happened beside the conversation.
#[derive(Debug)]
pub struct News {
    /// How it looks.
    pub style: Style,
    /// Which kind, in a word.
    pub kind: &'static str,
    /// What, in a line, or more if there is a text of several lines in it.
    pub what: String,
}

/// What a message tells beside the conversation; `None` if it only keeps the connection, or
/// belongs to the conversation.
pub fn news(message: &ServerMessage) -> Option<News> {
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
        _ => return None,
    };
    Some(News { style, kind, what })
}

/// What Claude is doing.
fn activity(status: Activity, detail: Option<&str>) -> String {
    let status = match status {
        Activity::Thinking => "Claude thinks",
        Activity::ToolUse => "Claude uses a tool",
        Activity::Idle => "Claude waits",
    };
    match detail {
        Some(detail) => format!("{status}: {detail}"),
        None => status.to_owned(),
    }
}

/// A time to wait.
pub fn rounded(delay: Duration) -> String {
    format!("{} s", delay.as_secs_f64().ceil())
}
