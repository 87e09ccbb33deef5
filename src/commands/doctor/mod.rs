//! `claude-socket doctor`: one screen that answers "why does nothing arrive?".
//!
//! It examines every component between a client and the conversation, in the order in which a
//! message passes them, and says what to type next.

mod claude;
mod findings;
mod store;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::access::Access;
use crate::commands::Error;
use crate::config::{self, AddressArgs, StateArgs};
use crate::health::probe::{ProbeResult, probe};
use crate::hub::HINT_CHANNEL_OFF;
use crate::sanitize::excerpt;
use crate::socket_owner;
use findings::{Finding, State, Token};
use store::StoreFolder;

/// Time limit for the answer of the server.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Which server to look at, and how the report is wanted.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    server: AddressArgs,
    #[command(flatten)]
    state: StateArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    version: &'static str,
    findings: Vec<Finding>,
    /// What to type; empty if nothing is wrong.
    next: Vec<String>,
}

/// Prints the report. The exit code is a failure if it has a problem.
///
/// # Errors
/// If it cannot be printed.
pub fn run(args: &DoctorArgs) -> Result<ExitCode, Error> {
    let report = examine(args.server, &args.state);
    let text = if args.json {
        format!(
            "{}\n",
            serde_json::to_string_pretty(&report).map_err(io::Error::from)?
        )
    } else {
        as_text(&report)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn examine(server: AddressArgs, state: &StateArgs) -> Report {
    let address = server.address();
    let token = config::env_token();
    let (answer, token) = probe_server(address, token.as_deref(), false);
    let answer = without_foreign_text(answer);
    let claude = claude::inspect();
    let folder = state.store_folder().map(StoreFolder::inspect);
    let access = findings::access(server.host, &Access::open(state.access()));
    let next = findings::next_steps(address, &answer, token, &access, &claude);
    let mut findings = vec![
        findings::server(address, &answer, token),
        access,
        findings::store(folder.as_ref(), &answer),
        findings::claude_code(&claude),
        findings::plugin(&claude),
    ];
    findings.extend(findings::channel(&answer));
    let is_problem = |finding: &Finding| finding.state == State::Problem;
    Report {
        ok: !findings.iter().any(is_problem),
        version: env!("CARGO_PKG_VERSION"),
        findings,
        next,
    }
}

/// Asks the server for its health. The token is sent only if the listener asks for one, and is
/// trusted or not known to belong to another user.
fn probe_server(address: SocketAddr, token: Option<&str>, trusts: bool) -> (ProbeResult, Token) {
    let answer = probe(address, None, SERVER_TIMEOUT);
    match (&answer, token) {
        (_, None) => (answer, Token::None),
        (ProbeResult::Refused(401), Some(_))
            if !trusts && !socket_owner::is_trusted_listener(address) =>
        {
            (answer, Token::NotSent)
        }
        (ProbeResult::Refused(401), Some(_)) => {
            (probe(address, token, SERVER_TIMEOUT), Token::Sent)
        }
        (_, Some(_)) => (answer, Token::NotSent),
    }
}

/// Returns why the server cannot be talked to, or `None` if it answers. Only the server is asked:
/// starting `claude` takes seconds, and a script whose `send` fails must hear of it at once. With
/// `trusts`, the token is shown to any listener that asks for one.
pub fn diagnose(address: SocketAddr, trusts: bool) -> Option<Diagnosis> {
    let (answer, token) = probe_server(address, config::env_token().as_deref(), trusts);
    let answer = without_foreign_text(answer);
    if matches!(answer, ProbeResult::Health(_)) {
        return None;
    }
    Some(Diagnosis {
        says: findings::server(address, &answer, token).says,
        is_refusal: matches!(answer, ProbeResult::Refused(_)),
        withheld_token: token == Token::NotSent && matches!(answer, ProbeResult::Refused(401)),
    })
}

/// Why the server cannot be talked to.
#[derive(Debug)]
pub struct Diagnosis {
    /// What is wrong.
    pub says: String,
    /// A server is there, and refuses.
    pub is_refusal: bool,
    /// It asks for a token, which it must not see.
    pub withheld_token: bool,
}

/// Returns the answer without sentences of the server's own, and with everything else that it
/// says made fit for the screen: any program can have the port, and say what moves a terminal's
/// cursor or looks like a line of the report.
fn without_foreign_text(answer: ProbeResult) -> ProbeResult {
    let ProbeResult::Health(mut health) = answer else {
        return answer;
    };
    health.version = excerpt(&health.version);
    health.host.name = health.host.name.as_deref().map(excerpt);
    health.host.version = health.host.version.as_deref().map(excerpt);
    // Only the doctor says what is wrong and what to do.
    health.store.problem = None;
    health.channel.hint = (health.channel.proven == Some(false)).then_some(HINT_CHANNEL_OFF.into());
    ProbeResult::Health(health)
}

fn as_text(report: &Report) -> String {
    let mut text = format!("claude-socket {}\n\n", report.version);
    for Finding {
        what, state, says, ..
    } in &report.findings
    {
        let (state, what) = (state.word(), what.title());
        text += &format!("  {state:<8} {what:<12} {says}\n");
    }
    if !report.next.is_empty() {
        text += "\nNext:\n";
    }
    for line in &report.next {
        text += &format!("  {line}\n");
    }
    text
}
