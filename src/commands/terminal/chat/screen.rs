//! Renders messages of the server as the lines of a chat.

use std::time::Duration;

use crate::commands::terminal::format::{self, CLAUDE, ChatLine, rounded};
use crate::commands::terminal::style::{Colors, Style, clock};
use crate::protocol::{ServerMessage, Status};
use crate::sanitize;

/// What later lines depend on of what was shown before.
#[derive(Debug)]
pub struct Screen {
    colors: Colors,
    session: String,
    /// The newest message that was shown.
    seq: u64,
    /// Messages that came before the history, which is shown first; `None` after it.
    before_history: Option<Vec<ServerMessage>>,
    /// The text that is being streamed, and how many bytes of it are on the screen.
    streamed: String,
    on_screen: usize,
    /// The last status line.
    activity: String,
    /// Why there is no connection.
    lost: Option<String>,
}

impl Screen {
    pub fn new(session: String) -> Self {
        Self {
            colors: Colors::of_stdout(),
            session,
            seq: 0,
            before_history: Some(Vec::new()),
            streamed: String::new(),
            on_screen: 0,
            activity: String::new(),
            lost: None,
        }
    }

    /// Returns the text with the escapes of a style, if the terminal has colors.
    pub fn styled(&self, style: Style, text: &str) -> String {
        self.colors.apply(style, text)
    }

    /// Returns the lines for a lost connection. Of several attempts that fail alike only the first has one.
    pub fn lost(&mut self, reason: &str, retry_in: Option<Duration>) -> Vec<String> {
        let known = self.lost.replace(reason.to_owned());
        let is_known = known.as_deref() == Some(reason);
        let reason = sanitize::line(reason);
        let line = match retry_in {
            Some(_) if is_known => return Vec::new(),
            Some(delay) => format!(
                "no connection: {reason}; the next attempt is within {}. What you say waits.",
                rounded(delay)
            ),
            None => format!("the connection has ended: {reason}. Ctrl-D ends this."),
        };
        vec![self.styled(Style::Alert, &line)]
    }

    /// Returns the lines for a message.
    pub fn show(&mut self, message: &ServerMessage) -> Vec<String> {
        match message {
            ServerMessage::Reply { session_id, .. }
            | ServerMessage::UserMessage { session_id, .. }
                if *session_id == self.session =>
            {
                match &mut self.before_history {
                    Some(before_history) => {
                        before_history.push(message.clone());
                        Vec::new()
                    }
                    None => self.chat_line(message),
                }
            }
            ServerMessage::History {
                messages,
                truncated_before,
                ..
            } => {
                let mut lines = Vec::new();
                let mut gap = truncated_before.filter(|seq| *seq > self.seq);
                for item in messages.iter().filter(|item| item.seq > self.seq) {
                    if gap.take_if(|seq| item.seq >= *seq).is_some() {
                        lines.push(self.styled(Style::Alert, format::GAP));
                    }
                    lines.push(self.line(&format::history_line(item)));
                }
                self.seq = messages
                    .last()
                    .map_or(self.seq, |item| item.seq.max(self.seq));
                for message in self.before_history.take().unwrap_or_default() {
                    lines.extend(self.chat_line(&message));
                }
                lines
            }
            ServerMessage::Stream { session_id, delta } if *session_id == self.session => {
                self.stream(delta)
            }
            ServerMessage::Status {
                session_id, status, ..
            } if *session_id == self.session => self.status(*status, message),
            other => self.notice(other),
        }
    }

    /// Returns a line of the conversation; its further lines are indented.
    fn line(&self, chat: &ChatLine<'_>) -> String {
        let time = self.styled(Style::Dim, clock(chat.ts));
        let who = self.styled(chat.style, &sanitize::line(chat.who));
        format!("{time} {who}: {}", indented(chat.content))
    }

    fn chat_line(&mut self, message: &ServerMessage) -> Vec<String> {
        let Some(chat) = format::chat_line(message).filter(|chat| chat.seq > self.seq) else {
            return Vec::new();
        };
        self.seq = chat.seq;
        if !matches!(message, ServerMessage::Reply { .. }) {
            return vec![self.line(&chat)];
        }
        let streamed = std::mem::take(&mut self.streamed);
        let shown = streamed
            .get(..std::mem::take(&mut self.on_screen))
            .unwrap_or_default();
        match chat.content.strip_prefix(shown) {
            // Its beginning was streamed, so only the rest is new.
            Some(rest) if !shown.is_empty() => {
                let rest = Some(indented(rest)).filter(|rest| !rest.is_empty());
                rest.into_iter().map(|rest| format!("    {rest}")).collect()
            }
            _ => vec![self.line(&chat)],
        }
    }

    /// Returns the lines of a streamed text that are complete: half a line could not be continued
    /// above the one that is being typed.
    fn stream(&mut self, delta: &str) -> Vec<String> {
        self.streamed.push_str(delta);
        let is_first = self.on_screen == 0;
        if is_first {
            // The empty lines between two texts belong to no reply.
            self.streamed = self.streamed.trim_start().to_owned();
        }
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
        let fresh = indented(fresh);
        self.on_screen = end;
        let who = self.styled(Style::Claude, CLAUDE);
        vec![if is_first {
            format!("         {who}: {fresh}")
        } else {
            format!("    {fresh}")
        }]
    }

    fn status(&mut self, status: Status, message: &ServerMessage) -> Vec<String> {
        if status == Status::Idle {
            (self.streamed, self.on_screen) = (String::new(), 0);
            self.activity.clear();
            // The reply says so already.
            return Vec::new();
        }
        let line = format::notice(message).map(|notice| sanitize::line(&notice.what));
        let Some(line) = line.filter(|line| *line != self.activity) else {
            return Vec::new();
        };
        self.activity.clone_from(&line);
        vec![self.styled(Style::Dim, &format!("· {line}"))]
    }

    /// Returns the line for a message that is not part of the conversation.
    fn notice(&mut self, message: &ServerMessage) -> Vec<String> {
        // A status that reaches this place is of another session.
        let elsewhere = matches!(message, ServerMessage::Status { .. });
        let Some(mut notice) = format::notice(message).filter(|_| !elsewhere) else {
            return Vec::new();
        };
        if let ServerMessage::Welcome { .. } = message {
            let again = self.lost.take().is_some();
            let again = if again { "connected again; " } else { "" };
            notice.what = format!("{again}{}. Ctrl-D ends this.", notice.what);
        }
        let what = match message {
            ServerMessage::PermissionRequest { .. } => indented(&notice.what),
            _ => sanitize::line(&notice.what),
        };
        vec![self.styled(notice.style, &what)]
    }
}

/// Returns the text with its lines after the first indented.
fn indented(text: &str) -> String {
    sanitize::lines(text.trim_end()).replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(screen: &mut Screen, message: Value) -> Vec<String> {
        screen.show(&serde_json::from_value(message).expect("the message is valid"))
    }

    #[test]
    fn reply_shows_only_what_was_not_streamed() {
        let mut screen = Screen::new("s".to_owned());
        screen.colors = Colors::none();
        let history = json!({ "type": "history", "session_id": "s", "messages": [] });
        shown(&mut screen, history);
        let mut stream = |delta: &str| {
            let delta = json!({ "type": "stream", "session_id": "s", "delta": delta });
            shown(&mut screen, delta)
        };
        assert_eq!(stream("\n\nTwo li"), Vec::<String>::new());
        assert_eq!(stream("nes:\na\nb"), ["         claude: Two lines:\n    a"]);
        let reply = json!({
            "type": "reply", "session_id": "s", "message_id": "00000000-0000-0000-0000-000000000001",
            "seq": 1, "content": "Two lines:\na\nb", "ts": "2026-01-02T03:04:05Z",
        });
        assert_eq!(shown(&mut screen, reply), ["    b"]);
        let other = json!({
            "type": "reply", "session_id": "s", "message_id": "00000000-0000-0000-0000-000000000002",
            "seq": 2, "content": "More\nof it", "ts": "2026-01-02T03:04:05Z",
        });
        assert_eq!(
            shown(&mut screen, other),
            ["03:04:05 claude: More\n    of it"]
        );
    }

    #[test]
    fn gap_in_history_is_marked_where_it_is() {
        let mut screen = Screen::new("s".to_owned());
        screen.colors = Colors::none();
        let item = |seq: u64| {
            json!({
                "role": "user", "content": seq.to_string(), "ts": "2026-01-02T03:04:05Z", "user": "ann",
                "message_id": "00000000-0000-0000-0000-000000000001", "seq": seq,
            })
        };
        let history = json!({
            "type": "history", "session_id": "s", "messages": [item(2), item(24), item(25)], "truncated_before": 24,
        });
        let lines = shown(&mut screen, history);
        let line = |seq: u64| format!("03:04:05 ann: {seq}");
        assert_eq!(lines, [line(2), format::GAP.to_owned(), line(24), line(25)]);
    }
}
