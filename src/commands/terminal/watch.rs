//! `claude-socket watch`: everything that happens in a session, one line each.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;

use super::paint::{Paint, Style, clock};
use super::{ConnectArgs, TOKEN, words};
use crate::client::Event;
use crate::commands::{Error, text};

/// What to watch, and how it is wanted.
#[derive(Args, Clone, Debug)]
#[command(after_help = TOKEN)]
pub struct Options {
    #[command(flatten)]
    connect: ConnectArgs,
    /// As JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// Watches until it is interrupted, or nobody reads any more.
///
/// # Errors
/// If nothing can be printed.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let client = options.connect.connect(false)?;
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
                return Err(options.connect.unreachable(*code, reason));
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
    let line = |ts: &str, style, who: &str, what: &str| {
        let time = paint.apply(Style::Dim, clock(ts));
        let who = paint.apply(style, &text::line(who));
        format!("{time} {who}: {}", text::line(what.trim_end()))
    };
    Some(match event {
        Event::Disconnected { reason, .. } => line(&now, Style::Alert, "disconnected", reason),
        Event::Message(message) => match words::said(message) {
            Some(said) => line(said.ts, said.style, said.who, said.content),
            None => {
                let news = words::news(message)?;
                line(&now, news.style, news.kind, &news.what)
            }
        },
    })
}
