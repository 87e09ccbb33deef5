//! `claude-socket demo`: the main job without a Claude account.
//!
//! The real server runs as a child, on real pipes, and a stand-in for Claude Code
//! talks to it: the handshake, the channel, the tools, a permission prompt.

mod answers;
mod hooks;
mod standin;
mod wire;

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::{Receiver, at, bounded, never, select};

use crate::commands::Error;
use crate::config::{self, ServerFlags};
use crate::socket::port;
use standin::Standin;

/// What precedes the address in the server's log.
const LISTENING: &str = "listening on ws://";

/// The demo's own settings, and those that are passed on to the server.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    server: ServerFlags,
    /// How long the stand-in takes for each step, so that it can be watched
    #[arg(long, env = "CLAUDE_SOCKET_PACE", value_name = "DURATION", default_value = "400ms", value_parser = config::duration)]
    pub pace: Duration,
}

/// Runs until it is interrupted, or the server ends.
///
/// # Errors
/// If the server cannot be started, or has ended.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let mut server = start_server(&options.server.0)?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (
        server.stdin.take(),
        server.stdout.take(),
        server.stderr.take(),
    ) else {
        return Err(Error::refused("the server has no pipes"));
    };
    let lines = lines_of("server-stdout", stdout)?;
    let log = lines_of("server-stderr", stderr)?;
    let mut standin = Standin::new(stdin, options.pace);
    let ended = standin
        .shake_hands()
        .and_then(|()| play(&mut standin, &lines, &log));
    // Its last words say why it has ended.
    log.iter().for_each(|line| show(&line));
    let status = server.wait()?;
    ended?;
    Err(Error::refused(format_args!(
        "the server has ended ({status})"
    )))
}

fn start_server(flags: &[OsString]) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.args(flags);
    // Its log says where it listens.
    command.args(["--log-level", "info"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Passes things on to the stand-in until the server's output ends.
fn play(
    standin: &mut Standin<impl io::Write>,
    lines: &Receiver<String>,
    log: &Receiver<String>,
) -> io::Result<()> {
    let ended = never();
    let mut log = log;
    loop {
        let alarm = standin.next_step().map_or_else(never, at);
        select! {
            recv(lines) -> line => match line {
                Ok(line) => standin.hear(&line, Instant::now())?,
                Err(_) => return Ok(()),
            },
            recv(log) -> line => match line {
                Ok(line) => show(&line),
                Err(_) => log = &ended,
            },
            recv(alarm) -> _ => standin.act(Instant::now())?,
        }
    }
}

/// Shows a line of the server's log, and what it means for who has started the demo.
fn show(line: &str) {
    // Nobody may be looking, and then there is nothing to show.
    let _ = writeln!(io::stderr(), "{line}");
    if let Some((_, address)) = line.split_once(LISTENING) {
        let address = address.split('/').next().unwrap_or_default();
        let banner = format!(
            "\n  The bridge is up, with a stand-in for Claude Code behind it.\n\n\
             \x20   open     http://{address}/\n\
             \x20   connect  ws://{address}/?session=default\n\
             \x20   health   http://{address}/healthz\n\n  \
             Say hello, or ask it to run something (\"run date\"). Ctrl-C ends it.\n\n"
        );
        let _ = io::stdout().write_all(banner.as_bytes());
    } else if line.contains(port::TAKEN) {
        let hint = "\n  To use another port: claude-socket demo --port 0\n\n";
        let _ = io::stdout().write_all(hint.as_bytes());
    }
}

fn lines_of(name: &str, pipe: impl Read + Send + 'static) -> io::Result<Receiver<String>> {
    let (to_demo, lines) = bounded(64);
    thread::Builder::new().name(name.into()).spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if to_demo.send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}
