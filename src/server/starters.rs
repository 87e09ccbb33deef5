//! The processes without which the server is of no use: its parent, and Claude Code, which may be
//! further up. A wrapper between the two can outlive Claude Code and keep stdin open.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, getppid};

use super::signals::Reason;
use crate::ancestors::{self, Process};

/// The processes that have started this one.
pub struct Starters {
    parent: Option<Pid>,
    /// Of the parent.
    parent_handle: Option<OwnedFd>,
    /// `None` if it is the parent itself, or isn't found: then the parent alone counts, as with a
    /// host that isn't Claude Code.
    claude_code: Option<ClaudeCode>,
}

/// Claude Code, behind the parent.
struct ClaudeCode {
    process: Process,
    handle: Option<OwnedFd>,
}

impl Starters {
    /// Looks for them, which takes some milliseconds where there is no `/proc`. `parent` is the
    /// parent when this process started.
    pub fn find(parent: Option<Pid>) -> Self {
        let claude_code = ancestors::find_claude_code(parent);
        Self {
            parent,
            parent_handle: parent.and_then(open),
            claude_code: claude_code
                .filter(|process| Some(process.pid) != parent)
                .map(ClaudeCode::watch),
        }
    }

    /// Returns what is readable when one of them has ended, where the system has that.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let claude_code = self.claude_code.as_ref();
        let handles = [
            self.parent_handle.as_ref(),
            claude_code.and_then(|claude_code| claude_code.handle.as_ref()),
        ];
        let handles = handles.into_iter().flatten();
        handles.map(|handle| PollFd::new(handle, PollFlags::IN))
    }

    /// Returns `true` if the system doesn't report the end of each. A parent outside of this
    /// process's namespace has no id, and can't be looked for either.
    pub fn must_be_looked_for(&self) -> bool {
        let claude_code = self.claude_code.as_ref();
        self.parent.is_some() && self.parent_handle.is_none()
            || claude_code.is_some_and(|claude_code| claude_code.handle.is_none())
    }

    /// Returns which of them has ended, if one has.
    pub fn ended(&self) -> Option<Reason> {
        if getppid() != self.parent {
            return Some(Reason::ParentGone);
        }
        let claude_code = self.claude_code.as_ref()?;
        claude_code.has_ended().then_some(Reason::ClaudeCodeGone)
    }
}

impl ClaudeCode {
    fn watch(process: Process) -> Self {
        // If it has ended since it was found, this may be another process with its id.
        let handle = open(process.pid).filter(|_| process.is_running());
        Self { process, handle }
    }

    fn has_ended(&self) -> bool {
        match &self.handle {
            Some(handle) => {
                let mut files = [PollFd::new(handle, PollFlags::IN)];
                // It fails only if it is interrupted, and then it is asked again.
                poll(&mut files, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
            }
            None => !is_running(&self.process),
        }
    }
}

/// Returns a pidfd, which is readable when the process has ended (pidfd_open(2)).
#[cfg(target_os = "linux")]
fn open(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_pid: Pid) -> Option<OwnedFd> {
    None
}

#[cfg(target_os = "linux")]
fn is_running(process: &Process) -> bool {
    process.is_running()
}

/// Returns `true` if there is a process with this id. ps(1) takes too long to be asked again and
/// again.
#[cfg(not(target_os = "linux"))]
fn is_running(process: &Process) -> bool {
    rustix::process::test_kill_process(process.pid) != Err(rustix::io::Errno::SRCH)
}
