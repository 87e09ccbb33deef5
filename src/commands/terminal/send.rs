//! `claude-socket send`: one message, for cron, shell scripts and CI.

use std::io::{self, IsTerminal, Read, Write, stdin};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::RecvTimeoutError;
use serde_json::{Value, json};

use super::{ConnectArgs, TOKEN_HELP, format};
use crate::client::{Client, Event};
use crate::commands::{Error, Failure};
use crate::config;
use crate::protocol::{DeliveryState, ErrorCode, ServerMessage};
use crate::sanitize;

/// Time limit for the message to be accepted or queued, without `--wait`.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);

const EXIT_CODES: &str = "\
Exit codes: 0 answered, or without --wait accepted or queued; 1 refused; 2 wrong usage;
3 nobody has answered in time; 4 no server; 5 lost when Claude Code ended.";

#[derive(Args, Clone, Debug)]
#[command(after_help = format!("{EXIT_CODES}\n\n{TOKEN_HELP}"))]
pub struct SendArgs {
    /// What to say; from stdin if it is left out or -
    pub text: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Wait for the answer and print it; 5m if no duration is given
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "5m", value_parser = config::duration)]
    pub wait: Option<Duration>,
    /// Print what has become of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// The receipt of a message, and with `--wait` the answer.
struct Outcome {
    state: DeliveryState,
    delivery: Value,
    answer: Option<ServerMessage>,
}

/// Why sending failed.
struct SendError {
    failure: Failure,
    /// The server's, if it has one.
    code: Option<String>,
    /// In how many seconds the server can take it.
    retry_after: Option<u64>,
    why: String,
}

impl SendError {
    fn new(failure: Failure, why: impl Into<String>) -> Self {
        Self {
            failure,
            code: None,
            retry_after: None,
            why: why.into(),
        }
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed(failure, why) => Self::new(failure, why),
            other => Self::new(Failure::Refused, other.to_string()),
        }
    }
}

/// Sends a message, and with `--wait` prints the answer.
///
/// # Errors
/// Why sending failed; with `--json` it is printed instead.
pub fn run(args: &SendArgs) -> Result<ExitCode, Error> {
    let result = text_to_send(args).and_then(|text| deliver(args, &text));
    let line = match &result {
        Ok(outcome) if args.json => report(outcome).to_string(),
        Ok(Outcome {
            answer: Some(ServerMessage::Reply { content, .. }),
            ..
        }) => {
            // Files and programs get the text as it is.
            if io::stdout().is_terminal() {
                sanitize::lines(content)
            } else {
                content.clone()
            }
        }
        Ok(outcome) => {
            if outcome.state == DeliveryState::Queued {
                eprintln!("queued: {}", format::QUEUED);
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) if args.json => {
            let state = error.failure.as_str();
            let mut report = json!({ "state": state, "code": error.code, "error": error.why });
            if let Some(seconds) = error.retry_after {
                report["retry_after"] = seconds.into();
            }
            report.to_string()
        }
        Err(error) => return Err(Error::Failed(error.failure, error.why.clone())),
    };
    writeln!(io::stdout(), "{line}")?;
    Ok(match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(error.failure.code()),
    })
}

/// Returns the text from the argument, or from stdin if there is none or it is `-`.
fn text_to_send(args: &SendArgs) -> Result<String, SendError> {
    let usage = |why: &str| SendError::new(Failure::Usage, why);
    let text = match args.text.as_deref() {
        // `--wait 10s` would send "10s", and nobody would notice.
        Some(text) if args.wait.is_some() && config::duration(text).is_ok() => {
            return Err(usage(&format!(
                "{text:?} would be the text; to wait that long say --wait={text}, and to send it pipe it in"
            )));
        }
        Some(text) if text != "-" => text.to_owned(),
        None if stdin().is_terminal() => {
            return Err(usage(
                "there is nothing to send; give a text, or pipe one in",
            ));
        }
        _ => {
            let mut text = String::new();
            let read = stdin().read_to_string(&mut text);
            read.map_err(|error| usage(&format!("stdin cannot be read as text ({error})")))?;
            // A byte order mark is no part of what a file says.
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            text.trim_end_matches(['\n', '\r']).to_owned()
        }
    };
    if text.trim().is_empty() {
        return Err(usage("the text is empty; there is nothing to send"));
    }
    Ok(text)
}

fn deliver(args: &SendArgs, text: &str) -> Result<Outcome, SendError> {
    let client = args.connect.connect(false)?;
    let sent = client.send(text);
    let mut wait = DeliveryWait {
        connect: &args.connect,
        id: sent.id(),
        wants_answer: args.wait.is_some(),
        is_connected: false,
        was_connected: false,
        refused: None,
        rejection: None,
        replies: Vec::new(),
    };
    let timeout = args.wait.unwrap_or(ACCEPT_TIMEOUT);
    let outcome = wait.follow(&client, Instant::now() + timeout)?;
    outcome.ok_or_else(|| {
        let time = humantime::format_duration(timeout);
        let receipt = sent.receipt();
        if let Some(receipt) = &receipt
            && receipt.state == DeliveryState::Queued
        {
            let why = format!("Claude Code has not taken the message within {time}; it is kept on disk, and is given to Claude Code as soon as that can have it");
            return SendError::new(Failure::TimedOut, why);
        }
        if !wait.is_connected {
            let why = if wait.was_connected {
                format!("the connection was lost, and has not come back within {time}")
            } else {
                format!("{} has not answered within {time}", args.connect.server.address())
            };
            return SendError::new(Failure::NoServer, why);
        }
        let why = match receipt {
            None => format!("Claude Code has not taken the message within {time}; it may be stopped, or not ready"),
            Some(receipt) => match receipt.hint {
                Some(hint) => format!("nobody has answered within {time}: {hint}"),
                None => format!("nobody has answered within {time}"),
            },
        };
        SendError::new(Failure::TimedOut, why)
    })
}

/// Follows one message.
struct DeliveryWait<'a> {
    connect: &'a ConnectArgs,
    id: &'a str,
    wants_answer: bool,
    is_connected: bool,
    was_connected: bool,
    /// The code of the last refusal.
    refused: Option<String>,
    /// The last error of the server.
    rejection: Option<String>,
    replies: Vec<(u64, ServerMessage)>,
}

impl DeliveryWait<'_> {
    /// Returns the outcome, or `None` if there is none before the deadline.
    fn follow(&mut self, client: &Client, deadline: Instant) -> Result<Option<Outcome>, SendError> {
        loop {
            match client.events().recv_deadline(deadline) {
                Ok(Event::Message(message)) => {
                    self.was_connected = true;
                    self.is_connected = true;
                    self.refused = None;
                    if let Some(outcome) = self.handle_message(message)? {
                        return Ok(Some(outcome));
                    }
                }
                Ok(Event::Refused(refusal)) => self.refused = Some(refusal.code),
                Ok(Event::Gap { .. }) => {}
                Ok(Event::Disconnected {
                    code,
                    reason,
                    retry_in,
                }) => {
                    self.is_connected = false;
                    if !self.was_connected || retry_in.is_none() {
                        return Err(SendError {
                            code: self.refused.take(),
                            ..self.connect.unreachable(code, &reason).into()
                        });
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(SendError::new(
                        Failure::NoServer,
                        "the connection has ended",
                    ));
                }
            }
        }
    }

    fn handle_message(&mut self, message: ServerMessage) -> Result<Option<Outcome>, SendError> {
        match message {
            ServerMessage::Reply { seq, .. } => self.replies.push((seq, message)),
            ServerMessage::Error { message, .. } => self.rejection = Some(message),
            ServerMessage::Delivery {
                ref id,
                seq,
                state,
                code,
                retry_after,
                ref hint,
                ..
            } if id == self.id => {
                let is_done = match state {
                    DeliveryState::Rejected => return Err(self.rejected(code, retry_after)),
                    DeliveryState::Lost => return Err(lost(hint.as_deref())),
                    DeliveryState::Answered => true,
                    DeliveryState::Other => false,
                    _ => !self.wants_answer,
                };
                if is_done {
                    let later = |(place, _): &&(u64, ServerMessage)| Some(*place) > seq;
                    let answer = self.replies.iter().rev().find(later);
                    return Ok(Some(Outcome {
                        state,
                        answer: answer.map(|(_, reply)| reply.clone()),
                        delivery: json!(message),
                    }));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// Returns why the message was rejected.
    fn rejected(&self, code: Option<ErrorCode>, retry_after: Option<u64>) -> SendError {
        let why = match &self.rejection {
            Some(why) => why,
            // Claude Code had it, and no error precedes the receipt.
            None if code == Some(ErrorCode::HostClosed) => {
                "Claude Code has ended and has not seen the message; send it again"
            }
            None => "the server has not taken the message",
        };
        SendError {
            code: code.map(|code| code.as_str().to_owned()),
            retry_after,
            ..SendError::new(Failure::Refused, why)
        }
    }
}

fn lost(hint: Option<&str>) -> SendError {
    let unknown = "whether Claude Code has seen the message is unknown";
    SendError::new(Failure::Lost, hint.unwrap_or(unknown))
}

fn report(outcome: &Outcome) -> Value {
    let mut report = outcome.delivery.clone();
    report["state"] = json!(outcome.state);
    if let Some(fields) = report.as_object_mut() {
        fields.remove("type");
    }
    if let Some(answer) = &outcome.answer {
        report["answer"] = json!(answer);
        if let Some(fields) = report["answer"].as_object_mut() {
            fields.remove("type");
            fields.remove("session_id");
        }
    }
    report
}
