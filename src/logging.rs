//! The log: on stderr, and in a file if one is named.
//!
//! A [`LineWriter`] writes it. A Claude Code that has stopped reading stderr, or a full disk,
//! then costs log lines and nothing else: no other thread ever waits for the log.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use log::LevelFilter;
use simplelog::{Config, ConfigBuilder, WriteLogger};

use crate::append_file::AppendFile;
use crate::line_writer::{LineWriter, Sink};

/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// Lets the last lines be written, and the file be rotated.
#[derive(Clone, Debug)]
pub struct Log {
    writer: LineWriter,
}

/// Starts the log, at this level and in this file.
///
/// # Errors
/// If the file cannot be opened, or the system has no thread left.
pub fn start(level: LevelFilter, file: Option<&Path>) -> io::Result<Log> {
    let open = |path| AppendFile::open("--log-file (CLAUDE_SOCKET_LOG_FILE)", path);
    let file = file.map(open).transpose()?;
    let writer = LineWriter::start("log", Output { file })?;
    let lines = Lines {
        writer: writer.clone(),
        line: Vec::new(),
    };
    // It fails only if there is a logger already, and then that one is used.
    let _ = WriteLogger::init(level, config(), lines);
    Ok(Log { writer })
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

impl Log {
    /// Goes on in a file that is opened again by its name. Never blocks.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Blocks until the last lines are written, 100 ms at most.
    pub fn finish(&self) {
        self.writer.flush(Instant::now() + FLUSH_TIMEOUT);
    }
}

/// Stderr, and the file if one is named.
struct Output {
    file: Option<AppendFile>,
}

impl Sink for Output {
    /// There is nowhere to report that the log can't be written, or has lost lines.
    fn write(&mut self, line: Vec<u8>, _lost: u64) -> u64 {
        let _ = io::stderr().write_all(&line);
        if let Some(file) = &mut self.file {
            let _ = file.write_all(&line);
        }
        0
    }

    fn reopen(&mut self) {
        if let Some(file) = &mut self.file {
            file.reopen();
        }
    }
}

/// Gathers what the logger writes into lines.
struct Lines {
    writer: LineWriter,
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            self.writer.send(std::mem::take(&mut self.line));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
