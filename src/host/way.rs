//! The way to Claude Code: this process's stdout, which can be written to with and
//! without waiting.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::PIPE_BUF;

/// Stdout.
#[derive(Debug)]
pub struct Way {
    out: File,
    kind: Kind,
}

/// What stdout is, and so how it is written to without waiting.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A pipe that polls as writable takes [`PIPE_BUF`] bytes, all at once (`pipe(7)`).
    Pipe,
    /// A socket takes what there is room for. Node starts its children with sockets.
    Socket,
    /// A file, or a terminal: whether it waits is not known before.
    Other,
}

impl Way {
    /// The way through this file.
    pub fn new(out: File) -> Self {
        let kind = fstat(&out).map_or(Kind::Other, |stat| {
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Fifo => Kind::Pipe,
                FileType::Socket => Kind::Socket,
                _ => Kind::Other,
            }
        });
        Self { out, kind }
    }

    /// Writes what there is room for, and says how many bytes that was. Never waits.
    ///
    /// # Errors
    /// What writing fails with: Claude Code has closed its end.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.kind {
            Kind::Pipe if bytes.len() <= PIPE_BUF && self.has_room()? => {
                rustix::io::write(&self.out, bytes)
            }
            Kind::Socket => {
                rustix::net::send(&self.out, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
            Kind::Pipe | Kind::Other => Ok(0),
        };
        match written {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            written => Ok(written?),
        }
    }

    /// Writes everything, for which it waits as long as it takes.
    ///
    /// # Errors
    /// What writing fails with: Claude Code has closed its end.
    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.out).write_all(bytes)
    }

    fn has_room(&self) -> io::Result<bool> {
        let mut out = [PollFd::from_borrowed_fd(self.out.as_fd(), PollFlags::OUT)];
        match poll(&mut out, Some(&Timespec::default())) {
            // If there is no reader any more, that is the writer's to find out.
            Ok(_) | Err(Errno::INTR) => Ok(out[0].revents() == PollFlags::OUT),
            Err(error) => Err(error.into()),
        }
    }
}
