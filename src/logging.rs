//! The log: on stderr, and in a file if one is named.
//!
//! Lines go through a bounded channel to a thread that writes them. A Claude Code that
//! has stopped reading stderr, or a full disk, then costs log lines and nothing else:
//! no other thread ever waits for the log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::LevelFilter;
use simplelog::{Config, ConfigBuilder, WriteLogger};

/// How many lines wait to be written; further ones are lost.
const LINES_WAITING: usize = 1024;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(100);

/// Lets the last lines be written.
#[derive(Debug)]
pub struct Log {
    lines: Sender<Line>,
}

#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Everything before is written when this is dropped.
    Flush(#[expect(dead_code, reason = "it is there to be dropped")] Sender<()>),
}

/// Starts the log, at this level and in this file.
///
/// # Errors
/// If the file cannot be opened, or the system has no thread left.
pub fn start(level: LevelFilter, file: Option<&PathBuf>) -> io::Result<Log> {
    let file = file.map(|path| open(path)).transpose()?;
    let (lines, receiver) = bounded(LINES_WAITING);
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write(&receiver, file))?;
    let sink = Sink {
        lines: lines.clone(),
        line: Vec::new(),
    };
    // It fails only if there is a logger already, and then that one is used.
    let _ = WriteLogger::init(level, config(), sink);
    Ok(Log { lines })
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|error| {
        let why = format!(
            "--log-file (CLAUDE_SOCKET_LOG_FILE) cannot be {path:?}: it cannot be opened ({error}); name another file"
        );
        io::Error::new(error.kind(), why)
    })
}

fn config() -> Config {
    ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_location_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .add_filter_allow_str(env!("CARGO_CRATE_NAME"))
        .build()
}

fn write(lines: &Receiver<Line>, mut file: Option<File>) {
    for line in lines {
        let Line::Text(line) = line else {
            continue;
        };
        // There is nowhere to report that the log can't be written.
        let _ = io::stderr().write_all(&line);
        if let Some(file) = &mut file {
            let _ = file.write_all(&line);
        }
    }
}

impl Log {
    /// Waits for the last lines, but not for long.
    pub fn finish(self) {
        let deadline = Instant::now() + LAST_LINES;
        let (flushed, flush) = bounded(0);
        if self
            .lines
            .send_deadline(Line::Flush(flushed), deadline)
            .is_ok()
        {
            let _ = flush.recv_deadline(deadline);
        }
    }
}

/// Gathers what the logger writes into lines.
struct Sink {
    lines: Sender<Line>,
    line: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.line);
            if let Err(TrySendError::Disconnected(_)) = self.lines.try_send(Line::Text(line)) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
