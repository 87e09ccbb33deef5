//! `claude-socket watch`: everything that happens in a session, one line each.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;

use super::style::{Colors, Style, clock};
use super::{ConnectArgs, TOKEN_HELP, format};
use crate::client::{Event, Refusal};
use crate::commands::Error;
use crate::sanitize;

#[derive(Args, Clone, Debug)]
#[command(after_help = TOKEN_HELP)]
pub struct WatchArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// As JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// Prints events until it is interrupted, or its output is closed.
///
/// # Errors
/// If there is no connection, or nothing can be printed.
pub fn run(args: &WatchArgs) -> Result<ExitCode, Error> {
    let client = args.connect.connect(false)?;
    let colors = Colors::of_stdout();
    let mut was_connected = false;
    // Why there is no connection.
    let mut lost = None;
    for event in client.events() {
        let line = match &event {
            Event::Disconnected {
                code,
                reason,
                retry_in,
            } if !was_connected || retry_in.is_none() => {
                return Err(args.connect.unreachable(*code, reason));
            }
            // One line is enough for all attempts that fail alike.
            Event::Refused(refusal) if lost.as_ref() == Some(&refusal.message) => continue,
            Event::Disconnected { reason, .. } if lost.as_ref() == Some(reason) => continue,
            event if args.json => Some(as_json(event)),
            event => as_line(event, colors),
        };
        match event {
            Event::Message(_) => (lost, was_connected) = (None, true),
            Event::Disconnected { reason, .. } => lost = Some(reason),
            Event::Refused(_) | Event::Gap { .. } => {}
        }
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
        // Strings and numbers always serialize.
        Event::Message(message) => serde_json::to_string(message).unwrap_or_default(),
        Event::Refused(Refusal {
            status,
            code,
            message,
        }) => json!({
            "type": "refused",
            "status": status,
            "code": code,
            "message": message,
        })
        .to_string(),
        Event::Gap { after, until } => {
            json!({ "type": "gap", "after": after, "until": until }).to_string()
        }
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

/// Returns the event as a line for people; `None` if it only keeps the connection.
fn as_line(event: &Event, colors: Colors) -> Option<String> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let line = |ts: &str, style, who: &str, what: &str| {
        let time = colors.apply(Style::Dim, clock(ts));
        let who = colors.apply(style, &sanitize::line(who));
        format!("{time} {who}: {}", sanitize::line(what.trim_end()))
    };
    Some(match event {
        // The line about the lost connection says why.
        Event::Refused(_) => return None,
        Event::Gap { .. } => line(&now, Style::Alert, "gap", format::GAP),
        Event::Disconnected { reason, .. } => line(&now, Style::Alert, "disconnected", reason),
        Event::Message(message) => match format::chat_line(message) {
            Some(chat) => line(chat.ts, chat.style, chat.who, chat.content),
            None => {
                let notice = format::notice(message)?;
                line(&now, notice.style, notice.kind, &notice.what)
            }
        },
    })
}
