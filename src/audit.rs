//! The audit: who connected, who was refused, and who decided what. It goes into the log, and
//! as JSON lines into a file of its own if one is named. It never has what was said.
//!
//! A [`LineWriter`] writes the file, so that nobody waits for a disk.

mod record;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, info};

use crate::append_file::AppendFile;
use crate::line_writer::{LineWriter, Sink};
use record::AuditLine;
pub use record::Record;

/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// Where records go. Clones share the file.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    file: Option<LineWriter>,
}

impl Audit {
    /// Opens the file, if one is named.
    ///
    /// # Errors
    /// If it cannot be opened, or the system has no thread left.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let sink = AuditFile {
            file: AppendFile::open("--audit (CLAUDE_SOCKET_AUDIT)", path)?,
            fails: false,
        };
        Ok(Self {
            file: Some(LineWriter::start("audit", sink)?),
        })
    }

    /// Writes a record to the log and to the file. Never blocks.
    pub fn record(&self, record: &Record<'_>) {
        info!("{record}");
        if let Some(file) = &self.file {
            file.send(AuditLine::of(record).encode());
        }
    }

    /// Goes on in a file that is opened again by its name. Never blocks.
    pub fn reopen(&self) {
        if let Some(file) = &self.file {
            file.reopen();
        }
    }

    /// Blocks until the last lines are written, 100 ms at most.
    pub fn finish(&self) {
        if let Some(file) = &self.file {
            file.flush(Instant::now() + FLUSH_TIMEOUT);
        }
    }
}

struct AuditFile {
    file: AppendFile,
    /// The last line was not written completely.
    fails: bool,
}

impl Sink for AuditFile {
    /// Writes the number of lost lines in a line of its own.
    fn write(&mut self, line: Vec<u8>, lost: u64) -> u64 {
        let still_lost = if lost > 0 {
            self.write_line(AuditLine::lost(lost).encode(), lost)
        } else {
            0
        };
        still_lost + self.write_line(line, 1)
    }

    fn reopen(&mut self) {
        self.file.reopen();
        // An incomplete line is not in a new file.
        self.fails &= !self.file.is_empty();
    }
}

impl AuditFile {
    /// Writes a line in place of `stands_for` ones. Returns how many of them are lost.
    fn write_line(&mut self, mut line: Vec<u8>, stands_for: u64) -> u64 {
        if self.fails {
            // The line must not be appended to an incomplete one.
            line.insert(0, b'\n');
        }
        let Err(error) = self.file.write_all(&line) else {
            self.fails = false;
            return 0;
        };
        if !self.fails {
            let name = self.file.path().display();
            error!(
                "the audit file {name} cannot be written ({error}); what is missing in it will be counted there; make room, or name another file with CLAUDE_SOCKET_AUDIT"
            );
        }
        self.fails = true;
        stands_for
    }
}
