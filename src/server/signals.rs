//! What ends the process: a signal, the death of Claude Code, the end of its pipe.
//!
//! The `signals` thread waits for all of them at once. It asks the hub's loop to end. If that takes
//! longer than a second, it ends the process itself. It also has files opened again that were
//! rotated.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use log::info;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getppid;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use super::hangups::{Hangup, Hangups};
use super::starters::Starters;

/// How long the end may take from the moment it is noticed. All steps share this: the last
/// lines of Claude Code, its last answers, closing the connections.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(600);
/// How much later this thread ends the process.
const GRACE: Duration = Duration::from_millis(350);
/// How long reading may take what Claude Code wrote before it closed stdin.
const STDIN_DRAIN: Duration = Duration::from_millis(200);
/// How often the processes that started this one are looked for, where the system does not report
/// their end.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The request to end.
#[derive(Debug)]
pub struct Shutdown {
    pub reason: Reason,
    /// When the end must be complete.
    pub deadline: Instant,
}

/// Why the process ends.
#[derive(Debug)]
pub enum Reason {
    /// Claude Code has closed stdin.
    InputEnded,
    /// Claude Code has closed stdout.
    WriteFailed(io::Error),
    /// SIGINT or SIGTERM was received.
    Signal,
    /// The terminal that the process was started in is gone.
    TerminalGone,
    /// A thread has ended that the server needs.
    ThreadEnded(&'static str),
    /// The process that started this one is gone.
    ParentGone,
    /// Claude Code is gone, which has started this process through others.
    ClaudeCodeGone,
}

impl Shutdown {
    /// Returns a shutdown that was requested just now.
    pub fn now(reason: Reason) -> Self {
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        Self { reason, deadline }
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::InputEnded => f.write_str("stdin has ended"),
            Reason::WriteFailed(error) => write!(f, "stdout cannot be written ({error})"),
            Reason::ThreadEnded(thread) => write!(f, "the thread \"{thread}\" has ended"),
            Reason::Signal => f.write_str("a signal came"),
            Reason::TerminalGone => f.write_str("its terminal is gone"),
            Reason::ParentGone => f.write_str("the process that started this one is gone"),
            Reason::ClaudeCodeGone => {
                f.write_str("Claude Code is gone, behind the process that started this one")
            }
        }
    }
}

/// Starts the `signals` thread, and returns where it asks the loop to end. It calls `reopen_files`
/// when files were rotated.
///
/// # Errors
/// If signals can't be caught, or the system has no thread left.
pub fn watch(reopen_files: impl Fn() + Send + 'static) -> io::Result<Receiver<Shutdown>> {
    let (hub, shutdown) = bounded(1);
    let (signals, wake) = UnixStream::pair()?;
    pipe::register(SIGINT, wake.try_clone()?)?;
    pipe::register(SIGTERM, wake)?;
    let hangups = Hangups::catch()?;
    let parent = getppid();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut sources = Sources {
                signals,
                hangups,
                starters: Starters::find(parent),
                watches_stdin: true,
            };
            let request = loop {
                match sources.next_event() {
                    Event::Shutdown(request) => break request,
                    Event::FilesRotated => {
                        reopen_files();
                        info!("SIGHUP: opening the log file and the audit file again");
                    }
                }
            };
            let deadline = request.deadline + GRACE;
            // There is room for it. It fails only if the loop has ended.
            let _ = hub.send(request);
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            log::error!("the end takes too long; cutting it short");
            process::exit(1);
        })?;
    Ok(shutdown)
}

/// What the thread reacts to.
enum Event {
    Shutdown(Shutdown),
    FilesRotated,
}

/// What the thread waits for.
struct Sources {
    /// Has a byte for each SIGINT and SIGTERM.
    signals: UnixStream,
    hangups: Hangups,
    starters: Starters,
    watches_stdin: bool,
}

/// What `poll` has reported of the files whose events matter.
struct Ready {
    signals: PollFlags,
    stdin: PollFlags,
    stdout: PollFlags,
}

impl Sources {
    /// Blocks until there is something to do.
    fn next_event(&mut self) -> Event {
        loop {
            let ready = self.poll();
            if let Some(shutdown) = self.shutdown(&ready) {
                return Event::Shutdown(shutdown);
            }
            match self.hangups.take() {
                None => {}
                Some(Hangup::TerminalGone) => {
                    return Event::Shutdown(Shutdown::now(Reason::TerminalGone));
                }
                Some(Hangup::FilesRotated) => return Event::FilesRotated,
            }
            // A file that can't be polled has no end to wait for.
            self.watches_stdin &= ready.stdin.is_empty();
        }
    }

    /// Blocks until something is reported, or the processes that started this one are to be looked for.
    fn poll(&self) -> Ready {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let mut files = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            // POLLERR is reported without being requested.
            PollFd::new(&stdout, PollFlags::empty()),
        ];
        files.extend(self.hangups.poll_fd());
        files.extend(self.starters.poll_fds());
        if self.watches_stdin {
            files.push(PollFd::new(&stdin, END_OF_INPUT));
        }
        let looks = self.starters.must_be_looked_for();
        let timeout = looks.then(|| timespec(POLL_INTERVAL));
        // It fails only when interrupted, and then everything is checked again.
        let _ = poll(&mut files, timeout.as_ref());
        Ready {
            signals: files[0].revents(),
            stdout: files[1].revents(),
            stdin: match files.last() {
                Some(file) if self.watches_stdin => file.revents(),
                _ => PollFlags::empty(),
            },
        }
    }

    /// Returns the reason to end, if there is one.
    fn shutdown(&mut self, ready: &Ready) -> Option<Shutdown> {
        if !ready.signals.is_empty() {
            // Only the wake-up counts.
            let _ = self.signals.read(&mut [0; 16]);
            return Some(Shutdown::now(Reason::Signal));
        }
        if let Some(reason) = self.starters.ended() {
            return Some(Shutdown::now(reason));
        }
        let reason = if ready
            .stdin
            .intersects(END_OF_INPUT | PollFlags::HUP | PollFlags::ERR)
        {
            // agent-reader reaches the end by itself, unless the hub has stopped receiving lines
            // because Claude Code doesn't read its answers.
            Reason::InputEnded
        } else if ready.stdout.intersects(PollFlags::HUP | PollFlags::ERR) {
            Reason::WriteFailed(io::ErrorKind::BrokenPipe.into())
        } else {
            return None;
        };
        let shutdown = Shutdown::now(reason);
        thread::sleep(STDIN_DRAIN);
        Some(shutdown)
    }
}

/// POLLRDHUP: the peer closed its sending direction. POLLHUP needs no request.
#[cfg(target_os = "linux")]
const END_OF_INPUT: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const END_OF_INPUT: PollFlags = PollFlags::empty();

fn timespec(duration: Duration) -> Timespec {
    // It fits: the durations here are far below a second.
    Timespec::try_from(duration).unwrap_or_default()
}
