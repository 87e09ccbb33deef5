//! `claude-socket history`: what was said, and where words were.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::RecvTimeoutError;
use serde_json::json;

use super::style::{Colors, Style, date_and_clock};
use super::{ConnectArgs, TOKEN_HELP, TrustArgs, format, name};
use crate::client::{Client, Event};
use crate::commands::{Error, Failure};
use crate::config::{self, AddressArgs};
use crate::protocol::{DEFAULT_SESSION, HistoryItem, MAX_LIMIT, ServerMessage};
use crate::sanitize;

/// Messages that are printed unless `--limit` says otherwise.
const LIMIT: usize = 50;
/// Time limit for the connection, and for each answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

const EXIT_CODES: &str = "\
Exit codes: 0 printed, also if there is nothing; 1 refused; 2 wrong usage;
3 no answer in time; 4 no server.";

#[derive(Args, Clone, Debug)]
#[command(after_help = format!("{EXIT_CODES}\n\n{TOKEN_HELP}"))]
pub struct HistoryArgs {
    #[command(flatten)]
    server: AddressArgs,
    /// The chat; "default" if left out, and with --search all that may be read
    #[arg(long, value_name = "SESSION", value_parser = name)]
    session: Option<String>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Only messages with all of these words, in any order; the last one may be the beginning of a word
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["since", "before"])]
    search: Option<String>,
    /// How many messages: the last ones, or with --since the first ones; at most 100 with --search
    #[arg(long, value_name = "COUNT", default_value_t = LIMIT, value_parser = config::count)]
    limit: usize,
    /// Only messages after this one, by its place in the session
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// Only messages before this one, by its place in the session
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    /// As JSON, one message a line
    #[arg(long)]
    json: bool,
}

/// An answer of the server, or a part of it.
struct Page {
    session: String,
    messages: Vec<HistoryItem>,
    truncated_before: Option<u64>,
    more: bool,
}

/// Prints messages, oldest first; of each session those that were found.
///
/// # Errors
/// If there is no connection, the server doesn't answer, or nothing can be printed.
pub fn run(args: &HistoryArgs) -> Result<ExitCode, Error> {
    if args.search.is_some() && args.limit > MAX_LIMIT {
        return Err(Error::usage(format_args!(
            "--limit cannot be \"{}\" with --search: give {MAX_LIMIT} at most",
            args.limit
        )));
    }
    let server = Server::connect(args)?;
    let pages = match &args.search {
        Some(text) => server.search(text)?,
        None if args.since.is_some() => server.forward()?,
        None => server.backward()?,
    };
    match print(args, &pages) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The server, and what it is asked for.
struct Server<'a> {
    args: &'a HistoryArgs,
    connect: ConnectArgs,
    client: Client,
}

impl<'a> Server<'a> {
    /// Returns a connection that the server has welcomed.
    fn connect(args: &'a HistoryArgs) -> Result<Self, Error> {
        let session = args.session.clone();
        let connect = ConnectArgs {
            server: args.server,
            session: session.unwrap_or_else(|| DEFAULT_SESSION.to_owned()),
            user: None,
            trust: args.trust,
        };
        let client = connect.connect(false)?;
        let server = Self {
            args,
            connect,
            client,
        };
        server.next(true, |message| {
            matches!(message, ServerMessage::Welcome { .. }).then_some(())
        })?;
        Ok(server)
    }

    /// Returns the next message that is wanted.
    fn next<T>(
        &self,
        is_first: bool,
        wanted: impl Fn(ServerMessage) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.client.events().recv_deadline(deadline) {
                Ok(Event::Message(ServerMessage::Error {
                    request: Some(_),
                    message,
                    ..
                })) => return Err(Error::refused(message)),
                Ok(Event::Message(message)) => {
                    if let Some(found) = wanted(message) {
                        return Ok(found);
                    }
                }
                Ok(Event::Disconnected {
                    code,
                    reason,
                    retry_in,
                }) if is_first || retry_in.is_none() => {
                    return Err(self.connect.unreachable(code, &reason));
                }
                // After a lost connection the request is made again.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let time = humantime::format_duration(ANSWER_TIMEOUT);
                    let address = self.connect.server.address();
                    let why = format!("{address} has not answered within {time}");
                    return Err(Error::Failed(Failure::TimedOut, why));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "the connection has ended".to_owned();
                    return Err(Error::Failed(Failure::NoServer, why));
                }
            }
        }
    }

    fn next_page(&self) -> Result<Page, Error> {
        self.next(false, |message| match message {
            ServerMessage::History {
                session_id,
                messages,
                truncated_before,
                more,
                ..
            } => Some(Page {
                session: session_id,
                messages,
                truncated_before,
                more,
            }),
            _ => None,
        })
    }

    fn search(&self, text: &str) -> Result<Vec<Page>, Error> {
        let session = self.args.session.as_deref();
        drop(self.client.search(text, self.args.limit, session));
        let mut pages = Vec::new();
        loop {
            let page = self.next_page()?;
            let more = page.more;
            pages.push(page);
            if !more {
                return Ok(pages);
            }
        }
    }

    /// Returns the first messages after `--since`.
    fn forward(&self) -> Result<Vec<Page>, Error> {
        let (mut left, mut since) = (self.args.limit, self.args.since);
        let mut pages = Vec::new();
        while left > 0 {
            let asked = left.min(MAX_LIMIT);
            drop(self.client.fetch_history(asked, since, self.args.before));
            let page = self.next_page()?;
            let last = page.messages.last().map(|item| item.seq);
            let is_end = page.messages.len() < asked || last <= since;
            (left, since) = (left - page.messages.len().min(left), last);
            pages.push(page);
            if is_end {
                break;
            }
        }
        Ok(pages)
    }

    /// Returns the last messages, or those before `--before`.
    fn backward(&self) -> Result<Vec<Page>, Error> {
        let (mut left, mut before) = (self.args.limit, self.args.before);
        let mut pages = Vec::new();
        while left > 0 {
            let asked = left.min(MAX_LIMIT);
            drop(self.client.fetch_history(asked, None, before));
            let page = self.next_page()?;
            let first = page.messages.first().map(|item| item.seq);
            // A server that doesn't know `before` gives the same messages again.
            let is_repeated = before.is_some_and(|before| first >= Some(before));
            let is_end = page.messages.len() < asked || is_repeated;
            (left, before) = (left - page.messages.len().min(left), first);
            if !is_repeated {
                pages.push(page);
            }
            if is_end {
                break;
            }
        }
        pages.reverse();
        Ok(pages)
    }
}

fn print(args: &HistoryArgs, pages: &[Page]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let colors = Colors::of_stdout();
    for page in pages {
        let mut gap = page.truncated_before;
        for item in &page.messages {
            if gap.take_if(|seq| item.seq >= *seq).is_some() {
                print_gap(args, colors, &mut out)?;
            }
            if args.json {
                let mut item = json!(item);
                item["session_id"] = page.session.as_str().into();
                writeln!(out, "{item}")?;
            } else {
                writeln!(out, "{}", line(args, page, item, colors))?;
            }
        }
        if gap.is_some() {
            print_gap(args, colors, &mut out)?;
        }
    }
    out.flush()
}

/// Says that messages are missing here: to programs beside the messages.
fn print_gap(args: &HistoryArgs, colors: Colors, out: &mut impl Write) -> io::Result<()> {
    if args.json {
        eprintln!("{}", format::GAP);
        return Ok(());
    }
    writeln!(out, "{}", colors.apply(Style::Alert, format::GAP))
}

/// Returns the message as a line for people.
fn line(args: &HistoryArgs, page: &Page, item: &HistoryItem, colors: Colors) -> String {
    let chat = format::history_line(item);
    let mut line = colors.apply(Style::Dim, &date_and_clock(chat.ts));
    if args.search.is_some() {
        line += &format!(
            " {}",
            colors.apply(Style::Dim, &sanitize::line(&page.session))
        );
    }
    line += &format!(" {}", colors.apply(chat.style, &sanitize::line(chat.who)));
    if let Some(state) = item.state {
        let state = format!(" ({})", format::state_word(state));
        line += &colors.apply(Style::Dim, &state);
    }
    line + ": " + &sanitize::line(chat.content.trim_end())
}
