//! `claude-socket watch`: everything that happens in a session, one line each.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use super::text::{self, Paint, Style};
use super::{Failure, Place, TOKEN, failed};
use crate::client::Event;
use crate::config::Settings;
use crate::protocol::{Activity, ServerMessage};

/// What to watch, and how it is wanted.
#[derive(Args, Clone, Debug)]
#[command(after_help = TOKEN)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// As JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// Watches until it is interrupted, or nobody reads any more.
///
/// # Errors
/// If nothing can be printed.
pub fn run(options: &Options, settings: &Settings) -> io::Result<ExitCode> {
    let client = match options.place.connect(settings, false) {
        Ok(client) => client,
        Err(error) => return Ok(failed(Failure::Refused, &error.to_string())),
    };
    let paint = Paint::of_stdout();
    let mut was_connected = false;
    let mut is_lost = false;
    for event in client.events() {
        let line = match &event {
            Event::Disconnected {
                code,
                reason,
                retry_in,
            } if !was_connected || retry_in.is_none() => {
                let (failure, why) = options.place.trust.unreachable(settings, *code, reason);
                return Ok(failed(failure, &why));
            }
            // Each attempt that fails would be a line.
            Event::Disconnected { .. } if is_lost => continue,
            event if options.json => Some(as_json(event)),
            event => as_line(event, paint),
        };
        is_lost = matches!(event, Event::Disconnected { .. });
        was_connected |= !is_lost;
        let Some(line) = line else { continue };
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(event: &Event) -> String {
    match event {
        // Strings and numbers can always be written.
        Event::Message(message) => serde_json::to_string(message).unwrap_or_default(),
        Event::Disconnected {
            code,
            reason,
            retry_in,
        } => json!({
            "type": "disconnected",
            "code": code,
            "reason": reason,
            "retry_in": retry_in.map(|delay| delay.as_millis() as u64),
        })
        .to_string(),
    }
}

/// What has happened, for people; `None` for what only keeps the connection.
fn as_line(event: &Event, paint: Paint) -> Option<String> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let (ts, style, who, what) = match event {
        Event::Disconnected { reason, .. } => (
            &now,
            Style::Alert,
            "disconnected".to_owned(),
            reason.clone(),
        ),
        Event::Message(message) => match message {
            ServerMessage::Reply { ts, content, .. } => {
                (ts, Style::Claude, "claude".to_owned(), content.clone())
            }
            ServerMessage::UserMessage {
                ts, content, user, ..
            } => (ts, Style::Person, user.clone(), content.clone()),
            ServerMessage::Status { status, detail, .. } => (
                &now,
                Style::Dim,
                "status".to_owned(),
                activity(*status, detail.as_deref()),
            ),
            ServerMessage::PermissionRequest {
                request_id,
                tool_name,
                description,
                input_preview,
                ..
            } => {
                let what = format!("{request_id} {tool_name}: {description} {input_preview}");
                (&now, Style::Alert, "permission".to_owned(), what)
            }
            ServerMessage::PermissionResolved {
                request_id,
                allowed,
                by,
                ..
            } => {
                let verdict = if *allowed { "allowed" } else { "denied" };
                let what = format!("{request_id} {verdict} by {by}");
                (&now, Style::Alert, "permission".to_owned(), what)
            }
            ServerMessage::Welcome {
                version,
                session_id,
                role,
                host,
                ..
            } => {
                let host = match host.name.as_str() {
                    "" => "nobody yet".to_owned(),
                    name => format!("{name} {}", host.version),
                };
                let role = role.as_str();
                let what = format!(
                    "claude-socket {version}, session {session_id}, as {role}; behind it {host}"
                );
                (&now, Style::Dim, "connected".to_owned(), what)
            }
            ServerMessage::Error { message, .. } => {
                (&now, Style::Alert, "error".to_owned(), message.clone())
            }
            _ => return None,
        },
    };
    let time = paint.apply(Style::Dim, text::clock(ts));
    let who = paint.apply(style, &text::line(&who));
    Some(format!("{time} {who}: {}", text::line(what.trim_end())))
}

/// What Claude is doing, in words.
pub fn activity(status: Activity, detail: Option<&str>) -> String {
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

/// A time to wait, for people.
pub fn rounded(delay: Duration) -> String {
    format!("{} s", delay.as_secs_f64().ceil())
}
