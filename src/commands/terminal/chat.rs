//! `claude-socket chat`: a conversation in the terminal.
//!
//! One thread reads what is typed, another prints what happens above the line that is being
//! typed. A permission request is answered by a line that is `y`, `yes`, `n` or `no`, and
//! only while one is open and has been on the screen for a moment.

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

use super::paint::Style;
use super::{ConnectArgs, TOKEN};
use crate::client::{Client, Event};
use crate::commands::{Error, Failure, text};
use crate::protocol::{MAX_LIMIT, ServerMessage};
use screen::Screen;

/// How much of the history is shown at the beginning, in messages.
const HISTORY: usize = 20;
/// How long a request must have been on the screen before a word can be meant for it.
const READING_TIME: Duration = Duration::from_millis(700);
/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to talk.
#[derive(Args, Clone, Debug)]
#[command(after_help = TOKEN)]
pub struct Options {
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

/// A permission request without a verdict.
#[derive(Debug)]
struct Open {
    request_id: String,
    /// When it came onto the screen.
    shown: Instant,
}

/// What a line that was typed means.
#[derive(Debug, PartialEq)]
enum Typed {
    /// Nothing.
    Nothing,
    /// Words for Claude.
    Words,
    /// A verdict on this request.
    Verdict(String, bool),
    /// A word that may not have been meant for the request that has just come.
    TooSoon,
}

/// Talks until the user ends it.
///
/// # Errors
/// If the terminal cannot be used.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Error::usage(
            "chat needs a terminal; in scripts use claude-socket send, or watch",
        ));
    }
    let client = options.connect.connect(true)?;
    let first = match client.events().recv_timeout(CONNECT_TIMEOUT) {
        Ok(Event::Message(message)) => message,
        Ok(Event::Disconnected { code, reason, .. }) => {
            return Err(options.connect.unreachable(code, &reason));
        }
        Err(_) => {
            let why = format!("{} does not answer", options.connect.server.address());
            return Err(Error::Failed(Failure::NoServer, why));
        }
    };
    let config = Config::builder().auto_add_history(true).build();
    let mut editor = DefaultEditor::with_config(config).map_err(io::Error::other)?;
    // A terminal that cannot move the cursor has none, and needs none.
    let mut printer = editor.create_external_printer().ok();
    let open = Arc::new(Mutex::new(Vec::new()));
    let mut screen = Screen::new(options.connect.session.clone());
    client.fetch_history(options.history, None);
    let (events, prompts) = (client.events().clone(), open.clone());
    // It is not waited for at the end: a line that comes just then would never get out.
    thread::Builder::new()
        .name("chat-screen".to_owned())
        .spawn(move || {
            let mut print = |text: String| {
                // Nobody sees it any more when it fails.
                let _ = match &mut printer {
                    Some(printer) => printer.print(format!("{text}\n")).map_err(io::Error::other),
                    None => writeln!(io::stdout(), "{text}"),
                };
            };
            follow(&events, first, &mut screen, &prompts, &mut print);
        })?;
    read(&mut editor, &client, &open)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads lines until there are no more.
fn read(editor: &mut DefaultEditor, client: &Client, open: &Mutex<Vec<Open>>) -> io::Result<()> {
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        };
        match meaning(&line, &open.lock(), Instant::now()) {
            Typed::Nothing => {}
            Typed::Words => drop(client.send(line)),
            Typed::Verdict(request_id, allowed) => client.decide(request_id, allowed),
            Typed::TooSoon => {
                println!("A request has just come. Read it, then say yes or no again.")
            }
        }
    }
}

/// What a line means while these requests are open: a whole word is for the oldest.
fn meaning(line: &str, open: &[Open], now: Instant) -> Typed {
    let word = line.trim().to_lowercase();
    let allowed = match word.as_str() {
        "" => return Typed::Nothing,
        "y" | "yes" => true,
        "n" | "no" => false,
        _ => return Typed::Words,
    };
    match open.first() {
        None => Typed::Words,
        // A yes to what isn't read yet would be for something else.
        Some(request) if now.saturating_duration_since(request.shown) < READING_TIME => {
            Typed::TooSoon
        }
        Some(request) => Typed::Verdict(request.request_id.clone(), allowed),
    }
}

/// Prints what happens, until the user ends it.
fn follow(
    events: &Receiver<Event>,
    first: ServerMessage,
    screen: &mut Screen,
    open: &Mutex<Vec<Open>>,
    print: &mut dyn FnMut(String),
) {
    hear(first, screen, open, print);
    for event in events {
        match event {
            Event::Message(message) => hear(message, screen, open, print),
            Event::Disconnected {
                reason, retry_in, ..
            } => {
                open.lock().clear();
                let lines = screen.lost(&reason, retry_in);
                lines.into_iter().for_each(&mut *print);
            }
        }
    }
}

fn hear(
    message: ServerMessage,
    screen: &mut Screen,
    open: &Mutex<Vec<Open>>,
    print: &mut dyn FnMut(String),
) {
    let lines = screen.show(&message);
    lines.into_iter().for_each(&mut *print);
    let oldest = |open: &[Open]| open.first().map(|request| request.request_id.clone());
    let mut open = open.lock();
    let before = oldest(&open);
    match message {
        ServerMessage::PermissionRequest { request_id, .. } => {
            open.retain(|known| known.request_id != request_id);
            let shown = Instant::now();
            open.push(Open { request_id, shown });
        }
        ServerMessage::PermissionResolved { request_id, .. } => {
            open.retain(|known| known.request_id != request_id);
        }
        _ => return,
    }
    if oldest(&open) != before
        && let Some(next) = open.first_mut()
    {
        // Only now is it the one that a word is for.
        next.shown = Instant::now();
        let id = text::line(&next.request_id);
        print(screen.paint(Style::Alert, &format!("yes or no to {id}?")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither a stray Enter nor a word that was meant for something else decides.
    #[test]
    fn only_a_whole_word_decides_and_only_on_what_was_seen() {
        let shown = Instant::now();
        let open = |ids: &[&str]| -> Vec<Open> {
            let open = ids.iter().map(|id| Open {
                request_id: (*id).to_owned(),
                shown,
            });
            open.collect()
        };
        let verdict = |allowed| Typed::Verdict("a".to_owned(), allowed);
        let cases = [
            ("", &["a"][..], Typed::Nothing),
            ("  ", &["a"], Typed::Nothing),
            ("y", &["a"], verdict(true)),
            (" YES ", &["a", "b"], verdict(true)),
            ("n", &["a"], verdict(false)),
            ("no", &["a"], verdict(false)),
            ("yes please", &["a"], Typed::Words),
            ("yy", &["a"], Typed::Words),
            ("yes", &[], Typed::Words),
            ("", &[], Typed::Nothing),
        ];
        for (line, ids, expected) in cases {
            let typed = meaning(line, &open(ids), shown + READING_TIME);
            assert_eq!(typed, expected, "{line:?} with {ids:?}");
        }
        assert_eq!(meaning("y", &open(&["a"]), shown), Typed::TooSoon);
    }
}
