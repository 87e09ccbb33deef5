//! Stdin, or whatever leads from an agent, read until the end whether it is non-blocking or not.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A file that leads from an agent.
#[derive(Debug)]
pub struct Stdin {
    input: File,
}

impl Stdin {
    pub fn new(input: File) -> Self {
        Self { input }
    }

    fn wait_for_input(&self) -> io::Result<()> {
        let mut input = [PollFd::from_borrowed_fd(self.input.as_fd(), PollFlags::IN)];
        match poll(&mut input, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Stdin {
    /// Blocks until there is something to read.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.input.read(bytes) {
                // Any process that shares the file can make it non-blocking at any time.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_input()?,
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};
    use std::os::fd::OwnedFd;
    use std::thread;

    use rustix::io::ioctl_fionbio;

    use super::*;

    #[test]
    fn non_blocking_pipe_is_read_to_the_end() {
        let (input, mut agent) = pipe().expect("the system makes a pipe");
        let (mut echoes, mut echo) = pipe().expect("the system makes a pipe");
        ioctl_fionbio(&input, true).expect("a pipe can be non-blocking");
        let mut stdin = Stdin::new(OwnedFd::from(input).into());
        let reader = thread::spawn(move || {
            let mut byte = [0];
            while stdin.read(&mut byte).expect("an empty pipe is no error") > 0 {
                echo.write_all(&byte).expect("the test reads");
            }
        });
        // There is nothing to read whenever a byte was echoed.
        for sent in 0..100 {
            agent.write_all(&[sent]).expect("the pipe is read");
            let mut byte = [0];
            echoes.read_exact(&mut byte).expect("the byte was read");
            assert_eq!(byte, [sent]);
        }
        drop(agent);
        reader.join().expect("the end is no error");
    }
}
