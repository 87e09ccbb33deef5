//! What ends the process: a signal, Claude Code's death, the end of its pipe.
//!
//! The `signals` thread waits for all of them at once. It asks the hub's loop to end,
//! and should that not work within a second, ends the process itself.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, getppid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// How long the end may take, from the moment in which it is noticed. All steps of it
/// share this: the last words of Claude Code, its last answers, the clients' farewell.
const BUDGET: Duration = Duration::from_millis(600);
/// How much later the process ends itself, whatever the other threads are doing.
const GRACE: Duration = Duration::from_millis(350);
/// How long after Claude Code has closed its end of stdin what it wrote before may
/// take to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often the parent is looked for where the system cannot tell of its death.
const LOOK: Duration = Duration::from_millis(500);

/// The process is to end.
#[derive(Debug)]
pub struct Ending {
    /// Why.
    pub reason: Reason,
    /// Until when.
    pub deadline: Instant,
}

/// Why the process ends.
#[derive(Debug)]
pub enum Reason {
    /// Claude Code has closed stdin.
    InputEnded,
    /// Claude Code has closed stdout.
    Unwritable(io::Error),
    /// SIGINT or SIGTERM came.
    Signal,
    /// The process that started this one is gone.
    ParentGone,
}

impl Ending {
    /// It was noticed just now.
    pub fn now(reason: Reason) -> Self {
        let deadline = Instant::now() + BUDGET;
        Self { reason, deadline }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::InputEnded => f.write_str("stdin has ended"),
            Reason::Unwritable(error) => write!(f, "stdout cannot be written ({error})"),
            Reason::Signal => f.write_str("a signal came"),
            Reason::ParentGone => f.write_str("the process that started this one is gone"),
        }
    }
}

/// Starts the `signals` thread.
///
/// # Errors
/// If signals can't be caught, or the system has no thread left.
pub fn watch<E: From<Ending> + Send + 'static>(hub: Sender<E>) -> io::Result<()> {
    let (signals, wake) = UnixStream::pair()?;
    pipe::register(SIGINT, wake.try_clone()?)?;
    pipe::register(SIGTERM, wake)?;
    let parent = Parent::find();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let ending = wait(signals, &parent);
            let deadline = ending.deadline + GRACE;
            // The hub takes it at once, or is beyond help.
            let _ = hub.send_deadline(ending.into(), deadline);
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            log::error!("the end takes too long; cutting it short");
            process::exit(1);
        })?;
    Ok(())
}

/// Blocks until there is a reason to end.
fn wait(mut signals: UnixStream, parent: &Parent) -> Ending {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut watches_stdin = true;
    loop {
        let mut files = vec![
            PollFd::new(&signals, PollFlags::IN),
            // That nobody reads it any more is told unasked.
            PollFd::new(&stdout, PollFlags::empty()),
        ];
        if let Some(process) = &parent.process {
            files.push(PollFd::new(process, PollFlags::IN));
        }
        if watches_stdin {
            files.push(PollFd::new(&stdin, END_OF_INPUT));
        }
        let timeout = parent.must_be_looked_for().then(|| timespec(LOOK));
        // It fails only when interrupted, and then everything is looked at again.
        let _ = poll(&mut files, timeout.as_ref());
        let signal = !files[0].revents().is_empty();
        let stdout_has = files[1].revents();
        let stdin_has = match files.last() {
            Some(file) if watches_stdin => file.revents(),
            _ => PollFlags::empty(),
        };
        drop(files);
        if signal {
            // Only the wake-up counts; what was read doesn't.
            let _ = signals.read(&mut [0; 16]);
            return Ending::now(Reason::Signal);
        }
        if parent.is_gone() {
            return Ending::now(Reason::ParentGone);
        }
        if stdin_has.intersects(END_OF_INPUT | PollFlags::HUP | PollFlags::ERR) {
            // host-reader comes to the end by itself, unless the hub has stopped
            // taking lines because Claude Code doesn't read its answers.
            let ending = Ending::now(Reason::InputEnded);
            thread::sleep(LAST_WORDS);
            return ending;
        }
        if stdout_has.intersects(PollFlags::HUP | PollFlags::ERR) {
            let ending = Ending::now(Reason::Unwritable(io::ErrorKind::BrokenPipe.into()));
            thread::sleep(LAST_WORDS);
            return ending;
        }
        // What can't be polled has no end that could be waited for.
        watches_stdin &= stdin_has.is_empty();
    }
}

/// What to ask for beside a hang-up, which is told unasked: the end of a socket whose
/// other half is still open.
#[cfg(target_os = "linux")]
const END_OF_INPUT: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const END_OF_INPUT: PollFlags = PollFlags::empty();

/// The process that started this one: Claude Code.
struct Parent {
    pid: Option<Pid>,
    /// Becomes readable when it dies, where the system has such a thing.
    process: Option<OwnedFd>,
}

impl Parent {
    fn find() -> Self {
        let pid = getppid();
        let process = pid.and_then(open);
        Self { pid, process }
    }

    /// Whether the system doesn't tell when it dies. A parent outside of this one's
    /// process namespace has no number, and can't be looked for either.
    fn must_be_looked_for(&self) -> bool {
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
