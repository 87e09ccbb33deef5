//! Who was there, who was turned away, and who decided what: in the log, and as JSON
//! lines in a file of its own if one is named. Never what was said.
//!
//! Lines go through a bounded channel to a thread that writes them, as those of the
//! [log](crate::logging) do: nobody waits for a disk.

mod record;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{error, info};

use record::Line;
pub use record::Record;

/// How many lines wait to be written; further ones are lost, and counted.
const LINES_WAITING: usize = 1024;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(100);

/// Where records go. Clones share the file.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    file: Option<Queue>,
}

#[derive(Clone, Debug)]
struct Queue {
    lines: Sender<Entry>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before is written when this is dropped.
    Flush(#[expect(dead_code, reason = "it is there to be dropped")] Sender<()>),
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
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path);
        let file = file.map_err(|error| {
            let why = format!(
                "--audit (CLAUDE_SOCKET_AUDIT) cannot be {path:?}: it cannot be opened ({error}); name another file"
            );
            io::Error::new(error.kind(), why)
        })?;
        let (lines, receiver) = bounded(LINES_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            file,
            name: path.display().to_string(),
            lost: lost.clone(),
            fails: false,
        };
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self {
            file: Some(Queue { lines, lost }),
        })
    }

    /// Remembers something. Doesn't wait.
    pub fn record(&self, record: &Record<'_>) {
        info!("{record}");
        if let Some(queue) = &self.file {
            let line = Line::of(record).encode();
            if queue.lines.try_send(Entry::Line(line)).is_err() {
                queue.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits for the last lines, but not for long.
    pub fn finish(&self) {
        let Some(queue) = &self.file else {
            return;
        };
        let deadline = Instant::now() + LAST_LINES;
        let (flushed, flush) = bounded(0);
        if queue
            .lines
            .send_deadline(Entry::Flush(flushed), deadline)
            .is_ok()
        {
            let _ = flush.recv_deadline(deadline);
        }
    }
}

/// The thread that writes.
struct Writer {
    file: File,
    name: String,
    lost: Arc<AtomicU64>,
    /// The last line was not written, or not to its end.
    fails: bool,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Entry>) {
        for entry in lines {
            let Entry::Line(line) = entry else {
                continue;
            };
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let gap = Line::lost(lost);
                self.write(gap.encode(), lost);
            }
            self.write(line, 1);
        }
    }

    /// Writes a line that stands for so many.
    fn write(&mut self, mut line: Vec<u8>, stands_for: u64) {
        if self.fails {
            // What was begun before must not run into it.
            line.insert(0, b'\n');
        }
        match self.file.write_all(&line) {
            Ok(()) => self.fails = false,
            Err(error) => {
                self.lost.fetch_add(stands_for, Ordering::Relaxed);
                if !self.fails {
                    let name = &self.name;
                    error!(
                        "the audit file {name} cannot be written ({error}); what is missing in it will be counted there; make room, or name another file with CLAUDE_SOCKET_AUDIT"
                    );
                }
                self.fails = true;
            }
        }
    }
}
