//! Lines of JSON over a Unix socket, each within a time and a length.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line, in bytes, without its end.
const MAX_LINE: usize = 64 * 1024;
/// The most bytes that are read at once.
const CHUNK: usize = 4 * 1024;

/// The two directions of a control socket.
#[derive(Debug)]
pub struct Lines {
    stream: UnixStream,
    /// What was read behind the last line.
    received: Vec<u8>,
}

/// Why there is no line.
#[derive(Debug)]
pub enum LineError {
    /// The other side has closed.
    Closed,
    TimedOut,
    TooLong,
    /// It isn't what was expected.
    Invalid(serde_json::Error),
    Io(io::Error),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it has closed the connection"),
            Self::TimedOut => f.write_str("it has not answered in time"),
            Self::TooLong => write!(f, "it has sent a line of more than {MAX_LINE} bytes"),
            Self::Invalid(error) => write!(f, "it has sent what is not understood: {error}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl Lines {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn read<T: DeserializeOwned>(&mut self, deadline: Instant) -> Result<T, LineError> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                if end > MAX_LINE {
                    return Err(LineError::TooLong);
                }
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(LineError::Invalid);
            }
            if self.received.len() > MAX_LINE {
                return Err(LineError::TooLong);
            }
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            let mut chunk = [0; CHUNK];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(LineError::Closed),
                Ok(count) => self.received.extend(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn write(&mut self, line: &impl Serialize, deadline: Instant) -> Result<(), LineError> {
        let mut line = serde_json::to_vec(line).map_err(LineError::Invalid)?;
        line.push(b'\n');
        self.stream.set_write_timeout(Some(left(deadline)?))?;
        Ok(self.stream.write_all(&line)?)
    }
}

fn left(deadline: Instant) -> Result<Duration, LineError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(LineError::TimedOut);
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Reads a line from a side that has sent this and closes or not.
    fn read(sent: &[u8], stays: bool, patience: Duration) -> Result<Value, LineError> {
        let (mut theirs, ours) = UnixStream::pair().expect("a pair is made");
        theirs.write_all(sent).expect("there is room");
        let theirs = stays.then_some(theirs);
        let line = Lines::new(ours).read(Instant::now() + patience);
        drop(theirs);
        line
    }

    #[test]
    fn line_is_read_whole_or_not_at_all() {
        let long = Duration::from_secs(20);
        let line = read(b"{\"a\":1}\n{\"b\"", true, long);
        assert_eq!(line.expect("it is a line"), json!({ "a": 1 }));
        let cases: [(&[u8], bool, Duration, &str); 5] = [
            (b"{\"a\":1}", false, long, "closed"),
            (b"{\"a\":1}", true, Duration::from_millis(1), "in time"),
            (b"{\"a\":1}", true, Duration::ZERO, "in time"),
            (b"a\n", true, long, "not understood"),
            (&[b' '; MAX_LINE + 1], true, long, "more than 65536 bytes"),
        ];
        for (sent, stays, patience, why) in cases {
            let error = read(sent, stays, patience).expect_err("it is no line");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn lines_that_come_together_are_read_one_by_one() {
        let (ours, theirs) = UnixStream::pair().expect("a pair is made");
        let (mut ours, mut theirs) = (Lines::new(ours), Lines::new(theirs));
        let deadline = Instant::now() + Duration::from_secs(20);
        for number in 1..=3 {
            ours.write(&number, deadline).expect("there is room");
        }
        for number in 1..=3 {
            let read: u32 = theirs.read(deadline).expect("it was written");
            assert_eq!(read, number);
        }
    }
}
