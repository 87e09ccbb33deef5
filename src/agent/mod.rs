//! Claude Code's side: JSON-RPC lines on stdin and stdout, MCP, tools, the channel.
//!
//! This room parses the lines of Claude Code and renders those for it; the hub decides what follows
//! from them. Two blocking threads do the I/O: `agent-reader` turns lines into
//! [`mcp::Incoming`], and `agent-writer` writes what the hub's thread could not write at once.

pub(crate) mod activity;
pub mod argument_error;
pub mod channel;
pub mod line_reader;
pub mod mcp;
pub mod rpc;
pub mod stdin;
pub(crate) mod stdout;
pub mod tools;
pub(crate) mod writer;

use std::fs::File;
use std::io::{self, BufRead};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use line_reader::{Line, LineReader};
use mcp::{Incoming, Parser};
use writer::AgentWriter;

/// The longest line that is accepted from Claude Code, in bytes.
const MAX_LINE: usize = 16 * 1024 * 1024;
/// The lines that wait for the hub; further ones wait in the pipe.
const LINE_CAPACITY: usize = 64;

/// The hub's ends of the two threads.
#[derive(Debug)]
pub struct AgentConnection {
    /// Lines from it, parsed. Nothing follows [`Incoming::End`].
    pub incoming: Receiver<Incoming>,
    /// Lines for it.
    pub writer: AgentWriter,
    /// Reports which of these lines are written.
    pub written: Receiver<writer::Event>,
}

/// Starts the threads.
///
/// # Errors
/// If the system has no thread left.
pub fn start(
    input: impl BufRead + Send + 'static,
    out: File,
    parser: Parser,
) -> io::Result<AgentConnection> {
    let (to_hub, incoming) = bounded(LINE_CAPACITY);
    let (writer, written) = AgentWriter::start(out)?;
    thread::Builder::new()
        .name("agent-reader".into())
        .spawn(move || read(input, &to_hub, &parser))?;
    Ok(AgentConnection {
        incoming,
        writer,
        written,
    })
}

/// Reads until the input ends or the hub has ended.
fn read(input: impl BufRead, hub: &Sender<Incoming>, parser: &Parser) {
    let mut lines = LineReader::new(input, MAX_LINE);
    loop {
        let incoming = match lines.next_line() {
            Ok(Some(Line::Complete(line))) => parser.parse(line),
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
