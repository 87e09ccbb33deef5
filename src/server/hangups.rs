//! What a SIGHUP means: that the terminal is gone, or that files were rotated.
//!
//! A process that is started in a terminal has it as its controlling terminal, and that is gone
//! when the SIGHUP comes with which the system, or the shell, reports it. The process ends, as by
//! SIGTERM. In all other cases, above all in a service, which has no terminal, somebody has sent
//! the signal to have the log file and the audit file opened again, as logrotate does. A process
//! that nohup(1) has started ignores it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use signal_hook::consts::SIGHUP;
use signal_hook::low_level::pipe;

/// What a SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The terminal that the process was started in is gone.
    TerminalGone,
    /// The files are to be opened again.
    FilesRotated,
}

/// The SIGHUPs of this process.
#[derive(Debug)]
pub struct Hangups {
    /// Has a byte for each; `None` if they are ignored.
    wake_ups: Option<UnixStream>,
    /// The process was started in a terminal.
    had_terminal: bool,
}

impl Hangups {
    /// Catches every SIGHUP from now on, unless it is ignored.
    ///
    /// # Errors
    /// If it can't be caught.
    pub fn catch() -> io::Result<Self> {
        let had_terminal = has_terminal();
        if is_ignored() {
            return Ok(Self {
                wake_ups: None,
                had_terminal,
            });
        }
        let (wake_ups, wake) = UnixStream::pair()?;
        wake_ups.set_nonblocking(true)?;
        pipe::register(SIGHUP, wake)?;
        Ok(Self {
            wake_ups: Some(wake_ups),
            had_terminal,
        })
    }

    /// Returns what is readable when one has come.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let wake_ups = self.wake_ups.as_ref()?;
        Some(PollFd::new(wake_ups, PollFlags::IN))
    }

    /// Returns what those mean that came since the last call. Never blocks.
    pub fn take(&self) -> Option<Hangup> {
        let came = self.wake_ups.as_ref()?.read(&mut [0; 64]);
        if !came.is_ok_and(|bytes| bytes > 0) {
            return None;
        }
        Some(if self.had_terminal && !has_terminal() {
            Hangup::TerminalGone
        } else {
            Hangup::FilesRotated
        })
    }
}

/// Returns `true` if the process has a controlling terminal. Only then `/dev/tty` can be opened
/// (tty(4)).
fn has_terminal() -> bool {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let terminal = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open("/dev/tty");
    terminal.is_ok()
}

/// Returns `true` if the process that started this one had SIGHUP ignored. Only Linux can tell
/// without `unsafe`.
fn is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, SIGHUP)
}

/// Returns `true` if a status of proc(5) says that a signal is ignored.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default() >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::SIGPIPE;

    use super::*;

    #[test]
    fn ignored_signals_are_read_from_status() {
        let status = "Name:\tclaude-socket\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n";
        assert!(ignores(status, SIGPIPE));
        assert!(!ignores(status, SIGHUP));
        assert!(ignores(&status.replace("1000", "1001"), SIGHUP));
        assert!(!ignores("", SIGHUP));
    }
}
