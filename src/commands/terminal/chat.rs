//! `claude-socket chat`: a conversation in the terminal.
//!
//! The main thread reads lines, `chat-screen` prints events above the line that is being typed. A
//! permission request is answered by a line that is `y`, `yes`, `n` or `no`, and only if it has
//! been on the screen for 700 ms.

mod screen;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor, ExternalPrinter};

use super::format;
use super::style::Style;
use super::{ConnectArgs, TOKEN_HELP};
use crate::client::{Client, Event};
use crate::commands::{Error, Failure};
use crate::protocol::{MAX_LIMIT, ServerMessage};
use crate::sanitize;
use screen::Screen;

/// Messages of the history that are shown at the beginning, unless `--history` says otherwise.
const HISTORY: usize = 20;
/// How long a request must have been on the screen before a line can answer it.
const READING_TIME: Duration = Duration::from_millis(700);
/// Time limit for the first connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args, Clone, Debug)]
#[command(after_help = TOKEN_HELP)]
pub struct ChatArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// How many earlier messages are shown at the beginning, at most 100
    #[arg(long, value_name = "COUNT", default_value_t = HISTORY, value_parser = count)]
    pub history: usize,
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MAX_LIMIT).contains(&count) => Ok(count),
        _ => Err(format!("give a whole number from 1 to {MAX_LIMIT}")),
    }
}

/// A permission request without a response.
#[derive(Debug)]
struct PendingPrompt {
    request_id: String,
    /// When it became the oldest one on the screen.
    shown: Instant,
}

/// The meaning of a line.
#[derive(Debug, PartialEq)]
enum ChatInput {
    Nothing,
    Message,
    /// Allows or denies this request.
    Verdict(String, bool),
    /// A `yes` or `no` that may not have been meant for the request that just came.
    TooSoon,
}

/// Runs until the user ends it.
///
/// # Errors
/// If there is no terminal or no server.
pub fn run(args: &ChatArgs) -> Result<ExitCode, Error> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Error::usage(
            "chat needs a terminal; in scripts use claude-socket send, or watch",
        ));
    }
    let client = args.connect.connect(true)?;
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let first = loop {
        match client.events().recv_deadline(deadline) {
            Ok(Event::Message(message)) => break message,
            // What follows says the same, and there is no gap before the first connection.
            Ok(Event::Refused(_) | Event::Gap { .. }) => {}
            Ok(Event::Disconnected { code, reason, .. }) => {
                return Err(args.connect.unreachable(code, &reason));
            }
            Err(_) => {
                let why = format!("{} does not answer", args.connect.server.address());
                return Err(Error::Failed(Failure::NoServer, why));
            }
        }
    };
    let config = Config::builder().auto_add_history(true).build();
    let mut editor = DefaultEditor::with_config(config).map_err(io::Error::other)?;
    // There is none for a terminal that cannot move the cursor: lines are printed as they come.
    let mut printer = editor.create_external_printer().ok();
    let pending = Arc::new(Mutex::new(Vec::new()));
    let mut screen = Screen::new(args.connect.session.clone());
    client.fetch_history(args.history, None, None);
    let (events, prompts) = (client.events().clone(), pending.clone());
    // It is not joined at the end: a line that is printed then would never get out.
    thread::Builder::new()
        .name("chat-screen".to_owned())
        .spawn(move || {
            let mut print = |text: String| {
                // It fails only if the terminal was closed.
                let _ = match &mut printer {
                    Some(printer) => printer.print(format!("{text}\n")).map_err(io::Error::other),
                    None => writeln!(io::stdout(), "{text}"),
                };
            };
            print_events(&events, first, &mut screen, &prompts, &mut print);
        })?;
    read_input(&mut editor, &client, &pending)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads lines until the end of the input, or Ctrl-C.
fn read_input(
    editor: &mut DefaultEditor,
    client: &Client,
    pending: &Mutex<Vec<PendingPrompt>>,
) -> io::Result<()> {
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        };
        match parse_input(&line, &pending.lock(), Instant::now()) {
            ChatInput::Nothing => {}
            ChatInput::Message => drop(client.send(line)),
            ChatInput::Verdict(request_id, allowed) => {
                client.respond_to_permission(request_id, allowed)
            }
            ChatInput::TooSoon => {
                println!("A request has just come. Read it, then say yes or no again.")
            }
        }
    }
}

/// Returns the meaning of a line. Only a whole word answers a request, and always the oldest.
fn parse_input(line: &str, pending: &[PendingPrompt], now: Instant) -> ChatInput {
    let word = line.trim().to_lowercase();
    let allowed = match word.as_str() {
        "" => return ChatInput::Nothing,
        "y" | "yes" => true,
        "n" | "no" => false,
        _ => return ChatInput::Message,
    };
    match pending.first() {
        None => ChatInput::Message,
        // It cannot have been read yet, so the line was meant for something else.
        Some(request) if now.saturating_duration_since(request.shown) < READING_TIME => {
            ChatInput::TooSoon
        }
        Some(request) => ChatInput::Verdict(request.request_id.clone(), allowed),
    }
}

/// Prints events until the client is dropped.
fn print_events(
    events: &Receiver<Event>,
    first: ServerMessage,
    screen: &mut Screen,
    pending: &Mutex<Vec<PendingPrompt>>,
    print: &mut dyn FnMut(String),
) {
    handle_message(first, screen, pending, print);
    for event in events {
        match event {
            Event::Message(message) => handle_message(message, screen, pending, print),
            Event::Refused(_) => {}
            Event::Gap { .. } => print(screen.styled(Style::Alert, format::GAP)),
            Event::Disconnected {
                reason, retry_in, ..
            } => {
                pending.lock().clear();
                let lines = screen.lost(&reason, retry_in);
                lines.into_iter().for_each(&mut *print);
            }
        }
    }
}

fn handle_message(
    message: ServerMessage,
    screen: &mut Screen,
    pending: &Mutex<Vec<PendingPrompt>>,
    print: &mut dyn FnMut(String),
) {
    let lines = screen.show(&message);
    lines.into_iter().for_each(&mut *print);
    let oldest =
        |pending: &[PendingPrompt]| pending.first().map(|request| request.request_id.clone());
    let mut pending = pending.lock();
    let before = oldest(&pending);
    match message {
        ServerMessage::PermissionRequest { request_id, .. } => {
            pending.retain(|known| known.request_id != request_id);
            let shown = Instant::now();
            pending.push(PendingPrompt { request_id, shown });
        }
        ServerMessage::PermissionResolved { request_id, .. } => {
            pending.retain(|known| known.request_id != request_id);
        }
        _ => return,
    }
    if oldest(&pending) != before
        && let Some(next) = pending.first_mut()
    {
        // Only now can a line answer it.
        next.shown = Instant::now();
        let id = sanitize::line(&next.request_id);
        print(screen.styled(Style::Alert, &format!("yes or no to {id}?")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_word_answers_request_that_was_read() {
        let shown = Instant::now();
        let pending = |ids: &[&str]| -> Vec<PendingPrompt> {
            let pending = ids.iter().map(|id| PendingPrompt {
                request_id: (*id).to_owned(),
                shown,
            });
            pending.collect()
        };
        let verdict = |allowed| ChatInput::Verdict("a".to_owned(), allowed);
        let cases = [
            ("", &["a"][..], ChatInput::Nothing),
            ("  ", &["a"], ChatInput::Nothing),
            ("y", &["a"], verdict(true)),
            (" YES ", &["a", "b"], verdict(true)),
            ("n", &["a"], verdict(false)),
            ("no", &["a"], verdict(false)),
            ("yes please", &["a"], ChatInput::Message),
            ("yy", &["a"], ChatInput::Message),
            ("yes", &[], ChatInput::Message),
            ("", &[], ChatInput::Nothing),
        ];
        for (line, ids, expected) in cases {
            let typed = parse_input(line, &pending(ids), shown + READING_TIME);
            assert_eq!(typed, expected, "{line:?} with {ids:?}");
        }
        assert_eq!(
            parse_input("y", &pending(&["a"]), shown),
            ChatInput::TooSoon
        );
    }
}
