//! The way to Claude Code: this process's stdout, which can be written to with and
//! without waiting.

use std::fs::File;
use std::io;
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
            // A closed end is an error and no signal: Rust programs ignore SIGPIPE.
            Kind::Socket => rustix::net::send(&self.out, bytes, SendFlags::DONTWAIT),
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
    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.out, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                // Whoever shares it can make it non-blocking at any time.
                Err(Errno::AGAIN) => self.wait_for_room()?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait_for_room(&self) -> io::Result<()> {
        let mut out = [PollFd::from_borrowed_fd(self.out.as_fd(), PollFlags::OUT)];
        match poll(&mut out, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
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

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use rustix::io::ioctl_fionbio;

    use super::*;

    fn a_pipe() -> (Way, PipeReader) {
        let (end, way) = pipe().expect("a pipe");
        (Way::new(OwnedFd::from(way).into()), end)
    }

    fn a_socket() -> (Way, UnixStream) {
        let (end, way) = UnixStream::pair().expect("a pair");
        (Way::new(OwnedFd::from(way).into()), end)
    }

    #[test]
    fn a_pipe_takes_a_short_piece_whole_or_not_at_all() {
        let (way, mut end) = a_pipe();
        assert_eq!(way.write_now(&[0; PIPE_BUF + 1]).expect("open"), 0);
        let mut taken = 0;
        while way.write_now(&[7; PIPE_BUF]).expect("open") == PIPE_BUF {
            taken += PIPE_BUF;
        }
        assert_eq!(way.write_now(&[7; PIPE_BUF]).expect("open"), 0);
        drop(way);
        let mut got = Vec::new();
        end.read_to_end(&mut got).expect("readable");
        assert_eq!(got, vec![7; taken]);
    }

    #[test]
    fn a_socket_takes_what_there_is_room_for() {
        let (way, mut end) = a_socket();
        let long: Vec<u8> = (0..4_000_000_u32).map(|n| n as u8).collect();
        let first = way.write_now(&long).expect("open");
        assert!((1..long.len()).contains(&first), "{first}");
        assert_eq!(way.write_now(&long[first..]).expect("open"), 0);
        let got = thread::spawn(move || {
            let mut got = Vec::new();
            end.read_to_end(&mut got).map(|_| got)
        });
        way.write_all(&long[first..]).expect("open");
        drop(way);
        assert!(got.join().expect("it reads").expect("open") == long);
    }

    #[test]
    fn what_somebody_has_made_non_blocking_is_waited_for_all_the_same() {
        let (way, mut end) = a_pipe();
        ioctl_fionbio(&way.out, true).expect("a pipe can be so");
        let got = thread::spawn(move || {
            let mut got = Vec::new();
            end.read_to_end(&mut got).map(|_| got)
        });
        let long = vec![7; 1_000_000];
        way.write_all(&long).expect("open");
        drop(way);
        assert!(got.join().expect("it reads").expect("open") == long);
    }

    #[test]
    fn a_closed_end_is_an_error() {
        let (way, end) = a_socket();
        drop(end);
        assert!(way.write_now(b"x").is_err());
        let (way, end) = a_pipe();
        drop(end);
        // A pipe that isn't writable is left to who may wait.
        assert_eq!(way.write_now(b"x").expect("not asked"), 0);
        assert!(way.write_all(b"x").is_err());
    }

    #[test]
    fn a_file_is_never_written_to_without_waiting() {
        let null = File::options().write(true).open("/dev/null");
        let way = Way::new(null.expect("it is there"));
        assert_eq!(way.write_now(b"x").expect("not tried"), 0);
        way.write_all(b"x").expect("it takes everything");
    }
}
