//! What a chat shows of each message: who says what, and what goes on.

use std::time::Duration;

use crate::commands::terminal::paint::{Paint, Style, clock};
use crate::commands::terminal::words::{self, CLAUDE, Said, rounded};
use crate::commands::text;
use crate::protocol::{Activity, ServerMessage};

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
                    lines.push(self.line(&words::said_before(item)));
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
                session_id, status, ..
            } if *session_id == self.session => self.status(*status, message),
            other => self.news(other),
        }
    }

    /// A line of the conversation, the lines after the first indented.
    fn line(&self, said: &Said<'_>) -> String {
        let time = self.paint(Style::Dim, clock(said.ts));
        let who = self.paint(said.style, &text::line(said.who));
        format!("{time} {who}: {}", indented(said.content))
    }

    fn said(&mut self, message: &ServerMessage) -> Vec<String> {
        let Some(said) = words::said(message).filter(|said| said.seq > self.seq) else {
            return Vec::new();
        };
        self.seq = said.seq;
        if !matches!(message, ServerMessage::Reply { .. }) {
            return vec![self.line(&said)];
        }
        let streamed = std::mem::take(&mut self.streamed);
        let shown = streamed
            .get(..std::mem::take(&mut self.on_screen))
            .unwrap_or_default();
        match said.content.strip_prefix(shown) {
            // It is the same text, and its beginning is there.
            Some(rest) if !shown.is_empty() => {
                let rest = Some(indented(rest)).filter(|rest| !rest.is_empty());
                rest.into_iter().map(|rest| format!("    {rest}")).collect()
            }
            _ => vec![self.line(&said)],
        }
    }

    /// Shows Claude's text line by line: half a line could not be continued above the one
    /// that is being typed.
    fn stream(&mut self, delta: &str) -> Vec<String> {
        self.streamed.push_str(delta);
        let is_first = self.on_screen == 0;
        if is_first {
            // Between texts there are empty lines, which belong to no reply.
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
        let who = self.paint(Style::Claude, CLAUDE);
        vec![if is_first {
            format!("         {who}: {fresh}")
        } else {
            format!("    {fresh}")
        }]
    }

    fn status(&mut self, status: Activity, message: &ServerMessage) -> Vec<String> {
        if status == Activity::Idle {
            (self.streamed, self.on_screen) = (String::new(), 0);
            self.activity.clear();
            // The reply has told it already.
            return Vec::new();
        }
        let line = words::news(message).map(|news| text::line(&news.what));
        let Some(line) = line.filter(|line| *line != self.activity) else {
            return Vec::new();
        };
        self.activity.clone_from(&line);
        vec![self.paint(Style::Dim, &format!("· {line}"))]
    }

    /// What isn't part of the conversation.
    fn news(&mut self, message: &ServerMessage) -> Vec<String> {
        // Claude may be busy with other sessions.
        let elsewhere = matches!(message, ServerMessage::Status { .. });
        let Some(mut news) = words::news(message).filter(|_| !elsewhere) else {
            return Vec::new();
        };
        if let ServerMessage::Welcome { .. } = message {
            let again = std::mem::take(&mut self.is_lost);
            let again = if again { "connected again; " } else { "" };
            news.what = format!("{again}{}. Ctrl-D ends this.", news.what);
        }
        let what = match message {
            ServerMessage::PermissionRequest { .. } => indented(&news.what),
            _ => text::line(&news.what),
        };
        vec![self.paint(news.style, &what)]
    }
}

/// A text of several lines, those after the first indented.
fn indented(text: &str) -> String {
    text::lines(text.trim_end()).replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(screen: &mut Screen, message: Value) -> Vec<String> {
        screen.show(&serde_json::from_value(message).expect("it is a message"))
    }

    /// What Claude says is shown as it appears, and not again when it comes as the reply.
    #[test]
    fn a_reply_goes_on_where_the_stream_was() {
        let mut screen = Screen::new("s".to_owned());
        screen.paint = Paint::none();
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
}
