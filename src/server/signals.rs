//! What ends the process: a signal, the death of Claude Code, the end of its pipe.
//!
//! The `signals` thread waits for all of them at once. It asks the hub's loop to end. If that takes
//! longer than a second, it ends the process itself.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, getppid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// How long the end may take from the moment it is noticed. All steps share this: the last
/// lines of Claude Code, its last answers, closing the connections.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(600);
/// How much later this thread ends the process.
const GRACE: Duration = Duration::from_millis(350);
/// How long reading may take what Claude Code wrote before it closed stdin.
const STDIN_DRAIN: Duration = Duration::from_millis(200);
/// How often the parent is looked for where the system does not report its death.
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
    /// A thread has ended that the server needs.
    ThreadEnded(&'static str),
    /// The process that started this one is gone.
    ParentGone,
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
            Reason::ParentGone => f.write_str("the process that started this one is gone"),
        }
    }
}

/// Starts the `signals` thread, and returns where it asks the loop to end.
///
/// # Errors
/// If signals can't be caught, or the system has no thread left.
pub fn watch() -> io::Result<Receiver<Shutdown>> {
    let (hub, shutdown) = bounded(1);
    let (signals, wake) = UnixStream::pair()?;
    pipe::register(SIGINT, wake.try_clone()?)?;
    pipe::register(SIGTERM, wake)?;
    let parent = Parent::find();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let request = wait(signals, &parent);
            let deadline = request.deadline + GRACE;
            // There is room for it. It fails only if the loop has ended.
            let _ = hub.send(request);
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            log::error!("the end takes too long; cutting it short");
            process::exit(1);
        })?;
    Ok(shutdown)
}

/// Blocks until there is a reason to end.
fn wait(mut signals: UnixStream, parent: &Parent) -> Shutdown {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut watches_stdin = true;
    loop {
        let mut files = vec![
            PollFd::new(&signals, PollFlags::IN),
            // POLLERR is reported without being requested.
            PollFd::new(&stdout, PollFlags::empty()),
        ];
        if let Some(process) = &parent.process {
            files.push(PollFd::new(process, PollFlags::IN));
        }
        if watches_stdin {
            files.push(PollFd::new(&stdin, END_OF_INPUT));
        }
        let timeout = parent.needs_polling().then(|| timespec(POLL_INTERVAL));
        // It fails only when interrupted, and then everything is checked again.
        let _ = poll(&mut files, timeout.as_ref());
        let signal = !files[0].revents().is_empty();
        let stdout_has = files[1].revents();
        let stdin_has = match files.last() {
            Some(file) if watches_stdin => file.revents(),
            _ => PollFlags::empty(),
        };
        drop(files);
        if signal {
            // Only the wake-up counts.
            let _ = signals.read(&mut [0; 16]);
            return Shutdown::now(Reason::Signal);
        }
        if parent.is_gone() {
            return Shutdown::now(Reason::ParentGone);
        }
        if stdin_has.intersects(END_OF_INPUT | PollFlags::HUP | PollFlags::ERR) {
            // agent-reader reaches the end by itself, unless the hub has stopped receiving lines
            // because Claude Code doesn't read its answers.
            let shutdown = Shutdown::now(Reason::InputEnded);
            thread::sleep(STDIN_DRAIN);
            return shutdown;
        }
        if stdout_has.intersects(PollFlags::HUP | PollFlags::ERR) {
            let shutdown = Shutdown::now(Reason::WriteFailed(io::ErrorKind::BrokenPipe.into()));
            thread::sleep(STDIN_DRAIN);
            return shutdown;
        }
        // A file that can't be polled has no end to wait for.
        watches_stdin &= stdin_has.is_empty();
    }
}

/// POLLRDHUP: the peer closed its sending direction. POLLHUP needs no request.
#[cfg(target_os = "linux")]
const END_OF_INPUT: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const END_OF_INPUT: PollFlags = PollFlags::empty();

/// The process that started this one: Claude Code.
struct Parent {
    pid: Option<Pid>,
    /// A pidfd, readable when the process dies, where the system has that.
    process: Option<OwnedFd>,
}

impl Parent {
    fn find() -> Self {
        let pid = getppid();
        let process = pid.and_then(open);
        Self { pid, process }
    }

    /// Returns `true` if the system doesn't report its death. A parent outside of this process's
    /// namespace has no pid, and can't be polled either.
    fn needs_polling(&self) -> bool {
        self.pid.is_some() && self.process.is_none()
    }

    fn is_gone(&self) -> bool {
        getppid() != self.pid
    }
}

#[cfg(target_os = "linux")]
fn open(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_pid: Pid) -> Option<OwnedFd> {
    None
}

fn timespec(duration: Duration) -> Timespec {
    // It fits: the durations here are far below a second.
    Timespec::try_from(duration).unwrap_or_default()
}
