//! `claude-socket demo`: the main job without a Claude account.
//!
//! The real server runs as a child, on real pipes, and a stand-in for Claude Code
//! talks to it: the handshake, the channel, the tools, a permission prompt.

mod answers;
mod standin;

use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::{Receiver, at, bounded, never, select};

use crate::config;
use standin::Standin;

/// What precedes the address in the server's log.
const LISTENING: &str = "listening on ws://";

/// The demo's own settings. The server's can be given as environment variables.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The port to listen on; 0 for any
    #[arg(long, env = "CLAUDE_SOCKET_PORT", default_value = "3100", value_parser = config::port)]
    pub port: u16,

    /// How long the stand-in takes for each step, so that it can be watched
    #[arg(long, value_name = "DURATION", default_value = "400ms", value_parser = config::duration)]
    pub pace: Duration,
}

/// Runs until it is interrupted, or the server ends.
///
/// # Errors
/// If the server cannot be started.
pub fn run(options: &Options) -> io::Result<()> {
    let mut server = start_server(options.port)?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (
        server.stdin.take(),
        server.stdout.take(),
        server.stderr.take(),
    ) else {
        return Err(io::Error::other("the server has no pipes"));
    };
    let lines = lines_of("server-stdout", stdout)?;
    let log = lines_of("server-stderr", stderr)?;
    let mut standin = Standin::new(stdin, options.pace);
    standin.shake_hands()?;
    play(&mut standin, &lines, &log)?;
    let status = server.wait()?;
    Err(io::Error::other(format!("the server has ended ({status})")))
}

fn start_server(port: u16) -> io::Result<Child> {
    Command::new(env::current_exe()?)
        .args(["--port", &port.to_string()])
        // Its log says where it listens.
        .args(["--log-level", "info"])
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

/// Shows a line of the server's log, and when it listens, what to do now.
fn show(line: &str) {
    eprintln!("{line}");
    let Some((_, address)) = line.split_once(LISTENING) else {
        return;
    };
    let address = address.split('/').next().unwrap_or_default();
    println!(
        "\n  The bridge is up, with a stand-in for Claude Code behind it.\n\n\
         \x20   connect  ws://{address}/?session=default\n\
         \x20   health   http://{address}/\n\n  \
         Say hello, or ask it to run something (\"run date\"). Ctrl-C ends it.\n"
    );
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
