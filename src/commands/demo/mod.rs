//! `claude-socket demo`: the main job without a Claude account.
//!
//! The real server runs as a child, on real pipes, and a fake agent talks to it as Claude Code
//! does: the handshake, the channel, the tools, a permission prompt.

mod answers;
mod fake_agent;
mod hooks;
mod rpc;

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::{Receiver, at, bounded, never, select};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::commands::PROGRAM;
use crate::commands::{Error, exec_cli};
use crate::config::{self, ServerFlags};
use crate::ready::Ready;
use fake_agent::FakeAgent;

/// Lines of the server that may wait for the fake agent.
const LINE_CAPACITY: usize = 64;

/// The settings of the demo, and those that are passed on to the server.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
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
pub fn run(args: &DemoArgs) -> Result<ExitCode, Error> {
    let (mut server, ready) = start_server(&args.server)?;
    let (Some(stdin), Some(stdout)) = (server.stdin.take(), server.stdout.take()) else {
        return Err(Error::refused("the server has no pipes"));
    };
    let lines = lines_of("server-stdout", stdout)?;
    let ready = lines_of("server-ready", ready)?;
    let mut agent = FakeAgent::new(stdin, args.pace);
    let ended = agent
        .initialize()
        .and_then(|()| relay(&mut agent, &lines, &ready));
    let status = server.wait()?;
    ended?;
    Err(Error::refused(format_args!(
        "the server has ended ({status})"
    )))
}

/// Starts the server. It reports on the returned pipe whether it listens.
fn start_server(flags: &ServerFlags) -> Result<(Child, PipeReader), Error> {
    let Some(program) = exec_cli::find(PROGRAM).next() else {
        return Err(Error::usage(format_args!(
            "{PROGRAM} is neither in the folder of this program nor on the PATH; take it from where this one is from: cargo install installs both, and the archive of a release has both"
        )));
    };
    let (reader, writer) = io::pipe()?;
    // The server is started with it; whatever starts later is not, as it is closed by then.
    fcntl_setfd(&writer, FdFlags::empty()).map_err(io::Error::from)?;
    let mut command = Command::new(&program);
    exec_cli::forget_parent(&mut command);
    let server = command
        .args(&flags.given)
        // The fake agent takes messages from the start.
        .env("CLAUDE_SOCKET_CHANNEL_DELAY", "0s")
        // What is said to a fake agent must not be found in the sessions of a real one.
        .env("CLAUDE_SOCKET_HISTORY_TTL", "0")
        .arg(format!("--ready-file=/dev/fd/{}", writer.as_raw_fd()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let cannot = |error| {
        let program = program.display();
        Error::refused(format_args!("{program} cannot be started: {error}"))
    };
    Ok((server.map_err(cannot)?, reader))
}

/// Passes lines on to the fake agent until the server's output ends.
fn relay(
    agent: &mut FakeAgent<impl Write>,
    lines: &Receiver<String>,
    ready: &Receiver<String>,
) -> io::Result<()> {
    let ended = never();
    let mut ready = ready;
    let mut hinted = false;
    loop {
        let timeout = agent.poll_timeout().map_or_else(never, at);
        select! {
            recv(lines) -> line => match line {
                Ok(line) => agent.handle_line(&line, Instant::now())?,
                Err(_) => return Ok(()),
            },
            recv(ready) -> line => match line.as_deref().map(Ready::parse) {
                Ok(Some(Ready::Listening(address))) => print(banner(address)),
                Ok(Some(Ready::Failed(address))) if !hinted && is_taken(address) => {
                    hinted = true;
                    print("\n  To use another port: claude-socket demo --port 0\n\n");
                }
                Ok(_) => {}
                Err(_) => ready = &ended,
            },
            recv(timeout) -> _ => agent.handle_timeout(Instant::now())?,
        }
    }
}

fn banner(address: SocketAddr) -> String {
    format!(
        "\n  The server is up, with a stand-in for Claude Code behind it.\n\n\
         \x20   open     http://{address}/\n\
         \x20   connect  ws://{address}/?session=default\n\
         \x20   health   http://{address}/healthz\n\n  \
         Say hello, or ask it to run something (\"run date\"). Ctrl-C ends it.\n\n"
    )
}

fn print(text: impl Display) {
    // The demo goes on if nobody reads what it prints.
    let _ = write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush());
}

fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn lines_of(name: &str, pipe: impl Read + Send + 'static) -> io::Result<Receiver<String>> {
    let (to_demo, lines) = bounded(LINE_CAPACITY);
    thread::Builder::new().name(name.into()).spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if to_demo.send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}
