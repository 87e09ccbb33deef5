//! Stdout, or whatever leads to an agent, written with and without blocking.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::PIPE_BUF;

/// A file that leads to an agent.
#[derive(Debug)]
pub struct Stdout {
    out: File,
    kind: FdKind,
}

/// What kind of file it is, and so how it is written to without blocking.
#[derive(Clone, Copy, Debug)]
enum FdKind {
    /// A pipe that polls as writable takes [`PIPE_BUF`] bytes, all at once (`pipe(7)`).
    Pipe,
    /// A socket takes what there is room for. Node starts its children with sockets.
    Socket,
    /// A file or a terminal: it may always block.
    Other,
}

impl Stdout {
    pub fn new(out: File) -> Self {
        let kind = fstat(&out).map_or(FdKind::Other, |stat| {
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Fifo => FdKind::Pipe,
                FileType::Socket => FdKind::Socket,
                _ => FdKind::Other,
            }
        });
        Self { out, kind }
    }

    /// Writes what there is room for and returns how many bytes that was. Never blocks.
    ///
    /// # Errors
    /// What writing fails with: the agent has closed its end.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.kind {
            FdKind::Pipe if bytes.len() <= PIPE_BUF && self.has_room()? => {
                rustix::io::write(&self.out, bytes)
            }
            // A closed end is an error and no signal: Rust programs ignore SIGPIPE.
            FdKind::Socket => rustix::net::send(&self.out, bytes, SendFlags::DONTWAIT),
            FdKind::Pipe | FdKind::Other => Ok(0),
        };
        match written {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            written => Ok(written?),
        }
    }

    /// Writes everything. Blocks as long as that takes.
    ///
    /// # Errors
    /// What writing fails with: the agent has closed its end.
    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.out, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                // Any process that shares the file can make it non-blocking at any time.
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
            // That there is no reader any more is for `write_all` to find out.
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
    use std::thread::{self, JoinHandle};

    use rustix::io::ioctl_fionbio;

    use super::*;

    fn a_pipe() -> (Stdout, PipeReader) {
        let (end, stdout) = pipe().expect("the system makes a pipe");
        (Stdout::new(OwnedFd::from(stdout).into()), end)
    }

    fn a_socket() -> (Stdout, UnixStream) {
        let (end, stdout) = UnixStream::pair().expect("the system makes sockets");
        (Stdout::new(OwnedFd::from(stdout).into()), end)
    }

    /// Reads everything until the other end is closed.
    fn read_in_thread(mut end: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut got = Vec::new();
            end.read_to_end(&mut got).expect("the other end is open");
            got
        })
    }

    #[test]
    fn pipe_takes_short_piece_whole_or_not_at_all() {
        let (stdout, mut end) = a_pipe();
        assert_eq!(
            stdout
                .try_write(&[0; PIPE_BUF + 1])
                .expect("the other end is open"),
            0
        );
        let mut taken = 0;
        while stdout
            .try_write(&[7; PIPE_BUF])
            .expect("the other end is open")
            == PIPE_BUF
        {
            taken += PIPE_BUF;
        }
        assert_eq!(
            stdout
                .try_write(&[7; PIPE_BUF])
                .expect("the other end is open"),
            0
        );
        drop(stdout);
        let mut got = Vec::new();
        end.read_to_end(&mut got).expect("the pipe is readable");
        assert_eq!(got, vec![7; taken]);
    }

    #[test]
    fn socket_takes_what_fits() {
        let (stdout, end) = a_socket();
        let long: Vec<u8> = (0..4_000_000_u32).map(|n| n as u8).collect();
        let first = stdout.try_write(&long).expect("the other end is open");
        assert!((1..long.len()).contains(&first), "{first}");
        assert_eq!(
            stdout
                .try_write(&long[first..])
                .expect("the other end is open"),
            0
        );
        let got = read_in_thread(end);
        stdout
            .write_all(&long[first..])
            .expect("the other end is open");
        drop(stdout);
        assert!(got.join().expect("the reader ends") == long);
    }

    #[test]
    fn non_blocking_pipe_is_written_completely() {
        let (stdout, end) = a_pipe();
        ioctl_fionbio(&stdout.out, true).expect("a pipe can be non-blocking");
        let got = read_in_thread(end);
        let long = vec![7; 1_000_000];
        stdout.write_all(&long).expect("the other end is open");
        drop(stdout);
        assert!(got.join().expect("the reader ends") == long);
    }

    #[test]
    fn closed_end_is_an_error() {
        let (stdout, end) = a_socket();
        drop(end);
        assert!(stdout.try_write(b"x").is_err());
        let (stdout, end) = a_pipe();
        drop(end);
        // A pipe that isn't writable is left to `write_all`.
        assert_eq!(stdout.try_write(b"x").expect("nothing is written"), 0);
        assert!(stdout.write_all(b"x").is_err());
    }

    #[test]
    fn file_is_never_written_by_try_write() {
        let null = File::options().write(true).open("/dev/null");
        let stdout = Stdout::new(null.expect("/dev/null opens"));
        assert_eq!(stdout.try_write(b"x").expect("nothing is written"), 0);
        stdout.write_all(b"x").expect("/dev/null takes everything");
    }
}
