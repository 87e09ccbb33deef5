//! Claude Code's side: JSON-RPC lines on stdin and stdout, MCP, the tools, the channel.
//!
//! Two blocking threads do the I/O. `host-reader` turns lines into [`mcp::Incoming`],
//! `host-writer` writes what the hub's thread has gathered in [`output::Output`], as far as
//! that thread could not write it at once.

pub(crate) mod activity;
pub mod channel;
pub mod lines;
pub mod mcp;
pub(crate) mod output;
pub mod rpc;
pub mod tools;
pub(crate) mod way;

use std::fs::File;
use std::io::{self, BufRead};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use lines::{Line, Lines};
use mcp::Incoming;
use output::Output;

/// The longest line that is taken from Claude Code, in bytes.
const MAX_LINE: usize = 16 * 1024 * 1024;
/// How many lines wait for the hub; beyond that they wait in the pipe.
const LINES_WAITING: usize = 64;

/// What the hub learns about the way to Claude Code.
#[derive(Debug)]
pub enum Event {
    /// Every app message up to this number was written.
    Written(u64),
    /// Nothing can be written any more.
    Unwritable(io::Error),
}

/// The hub's ends of the two threads.
#[derive(Debug)]
pub struct Host {
    /// What Claude Code says; after [`Incoming::End`] nothing.
    pub incoming: Receiver<Incoming>,
    /// What it is told.
    pub output: Output,
    /// Disconnected when the writer has ended.
    pub written: Receiver<()>,
}

/// Starts the threads. `server_key` is the server's name in a raw MCP config.
///
/// # Errors
/// If the system has no thread left.
pub fn start<E: From<Event> + Send + 'static>(
    input: impl BufRead + Send + 'static,
    out: File,
    events: Sender<E>,
    server_key: String,
) -> io::Result<Host> {
    let (to_hub, incoming) = bounded(LINES_WAITING);
    let (output, writer) = output::open(out);
    let (ended, written) = bounded(0);
    thread::Builder::new()
        .name("host-reader".into())
        .spawn(move || read(input, &to_hub, &server_key))?;
    thread::Builder::new()
        .name("host-writer".into())
        .spawn(move || {
            let _ended: Sender<()> = ended;
            let report = |event: Event| drop(events.send(event.into()));
            if let Err(error) = writer.run(report) {
                report(Event::Unwritable(error));
            }
        })?;
    Ok(Host {
        incoming,
        output,
        written,
    })
}

/// Reads until the input ends or the hub is gone.
fn read(input: impl BufRead, hub: &Sender<Incoming>, server_key: &str) {
    let mut lines = Lines::new(input, MAX_LINE);
    loop {
        let incoming = match lines.next_line() {
            Ok(Some(Line::Complete(line))) => mcp::read(line, server_key),
            Ok(Some(Line::TooLong)) => {
                let limit = MAX_LINE >> 20;
                let why = format!("Invalid Request: the line has {limit} MiB or more");
                let error = rpc::Error::new(rpc::INVALID_REQUEST, why);
                Some(Incoming::Malformed(None, error))
            }
            Ok(None) => Some(Incoming::End),
            Err(error) => {
                log::error!("stdin cannot be read ({error}); ending as if it had ended");
                Some(Incoming::End)
            }
        };
        let is_end = incoming == Some(Incoming::End);
        if incoming.is_some_and(|incoming| hub.send(incoming).is_err()) || is_end {
            return;
        }
    }
}
