//! Reads from a socket until a request's head or a response is complete, within a time and a size.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

/// Why reading has ended without a complete value.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadError<E> {
    /// The deadline has passed.
    TimedOut,
    /// The other end has closed, or the connection broke.
    Disconnected,
    /// More than the maximum of bytes was received.
    TooLong,
    /// `parse` has rejected the bytes.
    Invalid(E),
}

/// Reads until `parse` finds a complete value at the beginning of the received bytes. Returns it
/// and all bytes that were read. `parse` returns `None` while the value is incomplete.
///
/// Reads at most `chunk` bytes at once. Fails after more than `max` bytes.
///
/// # Errors
/// [`ReadError`].
pub fn read_until<T, E>(
    mut stream: &TcpStream,
    deadline: Instant,
    chunk: usize,
    max: usize,
    mut parse: impl FnMut(&[u8]) -> Result<Option<T>, E>,
) -> Result<(T, Vec<u8>), ReadError<E>> {
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ReadError::TimedOut);
        }
        let length = bytes.len();
        bytes.resize(length + chunk, 0);
        let read = stream
            .set_read_timeout(Some(left))
            .and_then(|()| stream.read(&mut bytes[length..]));
        bytes.truncate(length + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => return Err(ReadError::Disconnected),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ReadError::TimedOut);
            }
            Err(_) => return Err(ReadError::Disconnected),
        }
        if let Some(found) = parse(&bytes).map_err(ReadError::Invalid)? {
            return Ok((found, bytes));
        }
        if bytes.len() > max {
            return Err(ReadError::TooLong);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    /// Reads a line from a client that has sent this and keeps the connection open or not.
    fn read_line(sent: &str, stays: bool, patience: Duration) -> Result<usize, ReadError<char>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("any port is free");
        let address = listener.local_addr().expect("it is bound");
        let mut client = TcpStream::connect(address).expect("it listens");
        client.write_all(sent.as_bytes()).expect("there is room");
        let (stream, _) = listener.accept().expect("a client is there");
        let client = stays.then_some(client);
        let found = read_until(
            &stream,
            Instant::now() + patience,
            3,
            8,
            |bytes| match bytes.first() {
                Some(b'!') => Err('!'),
                _ => Ok(bytes.iter().position(|byte| *byte == b'\n')),
            },
        );
        drop(client);
        found.map(|(end, bytes)| {
            assert_eq!(bytes, sent.as_bytes()[..bytes.len()]);
            end
        })
    }

    #[test]
    fn reading_ends_with_what_is_wanted_or_says_why_not() {
        let long = Duration::from_secs(20);
        assert_eq!(read_line("a line\n", true, long), Ok(6));
        assert_eq!(
            read_line("no line", false, long),
            Err(ReadError::Disconnected)
        );
        assert_eq!(
            read_line("no line yet", true, long),
            Err(ReadError::TooLong)
        );
        assert_eq!(read_line("!", true, long), Err(ReadError::Invalid('!')));
        let short = Duration::from_millis(1);
        assert_eq!(read_line("no line", true, short), Err(ReadError::TimedOut));
        assert_eq!(
            read_line("a line\n", true, Duration::ZERO),
            Err(ReadError::TimedOut)
        );
    }
}
