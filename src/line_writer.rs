//! A thread that writes lines, with a bounded channel in front: nobody waits for a disk or a
//! terminal. The [log](crate::logging) has one, and so has the [audit file](crate::audit).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

/// The most lines that wait to be written; further ones are lost.
const LINE_CAPACITY: usize = 1024;

/// Sends lines to the thread that writes them. Clones share the thread.
#[derive(Clone, Debug)]
pub struct LineWriter {
    lines: Sender<Entry>,
    shared: Arc<Shared>,
}

/// What is not in the channel, because that may be full.
#[derive(Debug, Default)]
struct Shared {
    /// The lines that were lost and that nothing was written about yet.
    lost: AtomicU64,
    /// The next line goes to a file that is opened again.
    reopens: AtomicBool,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Only wakes the thread.
    Reopen,
    /// Dropped when everything before it is written.
    Flush(#[expect(dead_code, reason = "it is there to be dropped")] Sender<()>),
}

/// Where the lines go.
pub trait Sink: Send + 'static {
    /// Writes a line. `lost` is the number of lines lost since the one before. Returns how many
    /// lines this call has lost.
    fn write(&mut self, line: Vec<u8>, lost: u64) -> u64;

    /// Opens the file again by its name.
    fn reopen(&mut self);
}

impl LineWriter {
    /// Starts the thread. It ends when all clones are dropped.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(thread: &str, sink: impl Sink) -> io::Result<Self> {
        let (lines, receiver) = bounded(LINE_CAPACITY);
        let shared = Arc::<Shared>::default();
        let of_thread = shared.clone();
        thread::Builder::new()
            .name(thread.into())
            .spawn(move || run(&receiver, &of_thread, sink))?;
        Ok(Self { lines, shared })
    }

    /// Sends a line, with its line end. Never blocks: the line is lost, and counted, if too many
    /// wait already.
    pub fn send(&self, line: Vec<u8>) {
        if self.lines.try_send(Entry::Line(line)).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the file opened again, before any line is written that is sent after this. Never blocks.
    pub fn reopen(&self) {
        self.shared.reopens.store(true, Ordering::Release);
        // If there is no room, the thread is at work, and looks before it writes the next line.
        let _ = self.lines.try_send(Entry::Reopen);
    }

    /// Blocks until everything that was sent before is written, or until the deadline.
    pub fn flush(&self, deadline: Instant) {
        let (flushed, flush) = bounded(0);
        let entry = Entry::Flush(flushed);
        if self.lines.send_deadline(entry, deadline).is_ok() {
            // It ends with an error: nothing is sent, the other end is dropped.
            let _ = flush.recv_deadline(deadline);
        }
    }
}

fn run(lines: &Receiver<Entry>, shared: &Shared, mut sink: impl Sink) {
    let Shared { lost, reopens } = shared;
    for entry in lines {
        if reopens.swap(false, Ordering::Acquire) {
            sink.reopen();
        }
        if let Entry::Line(line) = entry {
            let before = lost.swap(0, Ordering::Relaxed);
            lost.fetch_add(sink.write(line, before), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Shows each line with the number of those that were lost before it, when it may.
    struct Shown(Receiver<()>, Sender<(Vec<u8>, u64)>);

    impl Sink for Shown {
        fn write(&mut self, line: Vec<u8>, lost: u64) -> u64 {
            self.0.recv().expect("the test lets it go on");
            let fails = line == b"bad\n";
            self.1.send((line, lost)).expect("the test looks");
            u64::from(fails)
        }

        fn reopen(&mut self) {
            self.1
                .send((b"reopened\n".to_vec(), 0))
                .expect("the test looks");
        }
    }

    #[test]
    fn full_channel_loses_and_counts_lines() {
        let (go, gate) = bounded(LINE_CAPACITY * 2);
        let (shown, lines) = bounded(LINE_CAPACITY * 2);
        let writer = LineWriter::start("test", Shown(gate, shown)).expect("a thread starts");
        writer.send(b"bad\n".to_vec());
        // One is with the thread, or will be: so one more or less fits.
        for _ in 0..LINE_CAPACITY + 9 {
            writer.send(b"x\n".to_vec());
        }
        let soon = Instant::now() + Duration::from_millis(1);
        writer.flush(soon);
        assert!(Instant::now() >= soon, "nothing could be written");
        for _ in 0..LINE_CAPACITY * 2 {
            go.send(()).expect("there is room");
        }
        writer.flush(Instant::now() + Duration::from_secs(20));
        let lines: Vec<_> = lines.try_iter().collect();
        assert_eq!(lines[0].0, b"bad\n");
        // The one that failed, and those that found no room.
        assert!(lines.len() <= LINE_CAPACITY + 1, "{}", lines.len());
        let lost: u64 = lines.iter().map(|(_, lost)| lost).sum();
        let all = LINE_CAPACITY as u64 + 10;
        assert_eq!(lines.len() as u64 - 1 + lost, all, "{lost}");
    }

    #[test]
    fn full_channel_loses_no_request_to_reopen() {
        let (go, gate) = bounded(LINE_CAPACITY * 2);
        let (shown, lines) = bounded(LINE_CAPACITY * 2);
        let writer = LineWriter::start("test", Shown(gate, shown)).expect("a thread starts");
        for _ in 0..LINE_CAPACITY + 9 {
            writer.send(b"x\n".to_vec());
        }
        writer.reopen();
        for _ in 0..LINE_CAPACITY * 2 {
            go.send(()).expect("there is room");
        }
        writer.flush(Instant::now() + Duration::from_secs(20));
        writer.send(b"last\n".to_vec());
        writer.flush(Instant::now() + Duration::from_secs(20));
        let lines: Vec<_> = lines.try_iter().map(|(line, _)| line).collect();
        let reopened = lines.iter().filter(|line| *line == b"reopened\n").count();
        assert_eq!(reopened, 1);
        assert_eq!(lines.last().map(Vec::as_slice), Some(&b"last\n"[..]));
    }
}
