//! What a chat shows of each message: who says what, and what goes on.

use std::time::Duration;

use crate::commands::terminal::text::{self, Paint, Style};
use crate::commands::terminal::watch::{activity, rounded};
use crate::protocol::{Activity, DeliveryState, ServerMessage, Speaker};

/// What is on the screen, as far as it matters for what comes.
#[derive(Debug)]
pub struct Screen {
    paint: Paint,
    session: String,
    /// The last that was shown of the session.
    seq: u64,
    /// What comes before the history has.
    early: Option<Vec<ServerMessage>>,
    /// Claude's text as it appears, and how many bytes of it are on the screen.
    streamed: String,
    on_screen: usize,
    /// The last activity that was shown.
    activity: String,
    is_lost: bool,
}

impl Screen {
    /// An empty one.
    pub fn new(session: String) -> Self {
        Self {
            paint: Paint::of_stdout(),
            session,
            seq: 0,
            early: Some(Vec::new()),
            streamed: String::new(),
            on_screen: 0,
            activity: String::new(),
            is_lost: false,
        }
    }

    /// A text in a style, if there are any.
    pub fn paint(&self, style: Style, text: &str) -> String {
        self.paint.apply(style, text)
    }

    /// What is shown when there is no connection.
    pub fn lost(&mut self, reason: &str, retry_in: Option<Duration>) -> Vec<String> {
        let was_lost = std::mem::replace(&mut self.is_lost, true);
        let reason = text::line(reason);
        let line = match retry_in {
            // Each attempt that fails would be a line.
            Some(_) if was_lost => return Vec::new(),
            Some(delay) => format!(
                "no connection: {reason}; the next attempt is within {}. What you say waits.",
                rounded(delay)
            ),
            None => format!("the connection has ended: {reason}. Ctrl-D ends this."),
        };
        vec![self.paint(Style::Alert, &line)]
    }

    /// What is shown of a message, a line or more each.
    pub fn show(&mut self, message: &ServerMessage) -> Vec<String> {
        match message {
            ServerMessage::Reply { session_id, .. }
            | ServerMessage::UserMessage { session_id, .. }
                if *session_id == self.session =>
            {
                match &mut self.early {
                    Some(early) => {
                        early.push(message.clone());
                        Vec::new()
                    }
                    None => self.said(message),
                }
            }
            ServerMessage::History { messages, .. } => {
                let mut lines = Vec::new();
                for item in messages.iter().filter(|item| item.seq > self.seq) {
                    let (style, who) = match (item.role, &item.user) {
                        (Speaker::Assistant, _) => (Style::Claude, "claude"),
                        (Speaker::User, user) => (Style::Person, user.as_deref().unwrap_or("user")),
                    };
                    lines.push(self.line(style, who, &item.ts, &item.content));
                }
                self.seq = messages
                    .last()
                    .map_or(self.seq, |item| item.seq.max(self.seq));
                for message in self.early.take().unwrap_or_default() {
                    lines.extend(self.said(&message));
                }
                lines
            }
            ServerMessage::Stream { session_id, delta } if *session_id == self.session => {
                self.stream(delta)
            }
            ServerMessage::Status {
                session_id,
                status,
                detail,
            } if *session_id == self.session => self.status(*status, detail.as_deref()),
            other => self.news(other),
        }
    }

    /// A line of the conversation, the lines after the first indented.
    fn line(&self, style: Style, who: &str, ts: &str, content: &str) -> String {
        let time = self.paint(Style::Dim, text::clock(ts));
        let who = self.paint(style, &text::line(who));
        let content = text::lines(content.trim_end()).replace('\n', "\n    ");
        format!("{time} {who}: {content}")
    }

    fn said(&mut self, message: &ServerMessage) -> Vec<String> {
        match message {
            ServerMessage::Reply {
                seq, content, ts, ..
            } if *seq > self.seq => {
                self.seq = *seq;
                let streamed = std::mem::take(&mut self.streamed);
                let shown = streamed
                    .get(..std::mem::take(&mut self.on_screen))
                    .unwrap_or_default();
                match content.strip_prefix(shown) {
                    // It is the same text, and its beginning is there.
                    Some(rest) if !shown.is_empty() => {
                        let rest = text::lines(rest.trim_end()).replace('\n', "\n    ");
                        let rest = Some(rest).filter(|rest| !rest.is_empty());
                        rest.into_iter().map(|rest| format!("    {rest}")).collect()
                    }
                    _ => vec![self.line(Style::Claude, "claude", ts, content)],
                }
            }
            ServerMessage::UserMessage {
                seq,
                content,
                user,
                ts,
                ..
            } if *seq > self.seq => {
                self.seq = *seq;
                vec![self.line(Style::Person, user, ts, content)]
            }
            _ => Vec::new(),
        }
    }

    /// Shows Claude's text line by line: half a line could not be continued above the one
    /// that is being typed.
    fn stream(&mut self, delta: &str) -> Vec<String> {
        self.streamed.push_str(delta);
        let is_first = self.on_screen == 0;
        let Some(end) = self.streamed.rfind('\n').map(|end| end + 1) else {
            return Vec::new();
        };
        let Some(fresh) = self
            .streamed
            .get(self.on_screen..end)
            .filter(|fresh| !fresh.trim().is_empty())
        else {
            return Vec::new();
        };
        let fresh = text::lines(fresh.trim_end()).replace('\n', "\n    ");
        self.on_screen = end;
        let who = self.paint(Style::Claude, "claude");
        vec![if is_first {
            format!("         {who}: {fresh}")
        } else {
            format!("    {fresh}")
        }]
    }

    fn status(&mut self, status: Activity, detail: Option<&str>) -> Vec<String> {
        let line = text::line(&activity(status, detail));
        if status == Activity::Idle {
            (self.streamed, self.on_screen) = (String::new(), 0);
            self.activity.clear();
            // The reply has told it already.
            return Vec::new();
        }
        if line == self.activity {
            return Vec::new();
        }
        self.activity.clone_from(&line);
        vec![self.paint(Style::Dim, &format!("· {line}"))]
    }

    /// What isn't part of the conversation.
    fn news(&mut self, message: &ServerMessage) -> Vec<String> {
        let (style, line) = match message {
            ServerMessage::Welcome {
                session_id,
                host,
                role,
                ..
            } => {
                let again = std::mem::take(&mut self.is_lost);
                let host = match host.name.as_str() {
                    "" => "Claude Code is not there yet".to_owned(),
                    name => format!("{name} {} is there", host.version),
                };
                let again = if again { "connected again; " } else { "" };
                let way = "Ctrl-D ends this.";
                (
                    Style::Dim,
                    format!(
                        "{again}session {session_id}, as {}; {host}. {way}",
                        role.as_str()
                    ),
                )
            }
            ServerMessage::PermissionRequest {
                request_id,
                tool_name,
                description,
                input_preview,
                ..
            } => {
                let text = format!(
                    "Claude wants to use {tool_name} ({request_id}): {description}\n{input_preview}"
                );
                let text = text::lines(text.trim_end()).replace('\n', "\n    ");
                return vec![self.paint(Style::Alert, &text)];
            }
            ServerMessage::PermissionResolved {
                request_id,
                allowed,
                by,
                ..
            } => {
                let verdict = if *allowed { "allowed" } else { "denied" };
                (Style::Alert, format!("{request_id} is {verdict} by {by}"))
            }
            ServerMessage::Error { message, .. } => (Style::Alert, message.clone()),
            ServerMessage::Delivery {
                state: DeliveryState::Unseen,
                hint,
                ..
            } => {
                let hint = hint.as_deref().unwrap_or_default();
                (Style::Alert, format!("Claude has not seen this: {hint}"))
            }
            _ => return Vec::new(),
        };
        vec![self.paint(style, &text::line(&line))]
    }
}
