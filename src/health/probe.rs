//! Asks whoever listens on a port how it is. Another claude-socket answers with its
//! [`Health`].

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Health;
use crate::timed_read::read_until;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How much of it is read at once, in bytes. Most answers come whole.
const CHUNK: usize = 4096;
/// The most headers of an answer.
const MAX_HEADERS: usize = 32;

/// Who answers on a port.
#[derive(Clone, Debug)]
pub enum ProbeResult {
    /// A claude-socket.
    Health(Box<Health>),
    /// A claude-socket that refuses, with this HTTP status: 401 if it wants a token.
    Refused(u16),
    /// Another program, or one that didn't answer in time.
    Other,
    /// Nothing listens there.
    NoListener,
}

/// Asks for `/healthz`, with a token if there is one. Blocks for `timeout` at most to connect,
/// and for the rest of it to get the answer.
pub fn probe(address: SocketAddr, token: Option<&str>, timeout: Duration) -> ProbeResult {
    let deadline = Instant::now() + timeout;
    let Ok(stream) = TcpStream::connect_timeout(&address, timeout) else {
        return ProbeResult::NoListener;
    };
    match get(stream, address, token, deadline) {
        Some((200, body)) => match serde_json::from_str::<Health>(&body) {
            // What it says ends up in the log and before Claude.
            Ok(health) if health.since().is_some() => ProbeResult::Health(Box::new(health)),
            _ => ProbeResult::Other,
        },
        Some((status, body)) if body.contains(r#""status":"error""#) => {
            ProbeResult::Refused(status)
        }
        _ => ProbeResult::Other,
    }
}

/// Returns the status and the body of the answer, if it is complete before the deadline.
fn get(
    mut stream: TcpStream,
    address: SocketAddr,
    token: Option<&str>,
    deadline: Instant,
) -> Option<(u16, String)> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{}\r\n",
        authorization.unwrap_or_default()
    );
    // A timeout of zero, when no time is left, is an error.
    let left = deadline.saturating_duration_since(Instant::now());
    stream.set_write_timeout(Some(left)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let (answer, _) = read_until(&stream, deadline, CHUNK, MAX_ANSWER, complete).ok()?;
    Some(answer)
}

/// Returns the status and the body, once as much of it has come as the head announces.
///
/// # Errors
/// If it is not HTTP, or doesn't announce a length.
fn complete(answer: &[u8]) -> Result<Option<(u16, String)>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(answer).map_err(drop)? else {
        return Ok(None);
    };
    let status = head.code.ok_or(())?;
    let mut headers = head.headers.iter();
    let announced = headers.find(|header| header.name.eq_ignore_ascii_case("Content-Length"));
    let length = std::str::from_utf8(announced.ok_or(())?.value).map_err(drop)?;
    let end = length
        .parse()
        .ok()
        .and_then(|length| start.checked_add(length));
    let body = answer.get(start..end.ok_or(())?);
    Ok(body.map(|body| (status, String::from_utf8_lossy(body).into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_complete_with_its_announced_length() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        let complete = |answer: &str| complete(answer.as_bytes());
        assert_eq!(complete(""), Ok(None));
        assert_eq!(complete(&head[..20]), Ok(None));
        assert_eq!(complete(&format!("{head}{{")), Ok(None));
        for rest in ["{}", "{} and more"] {
            let expected = Ok(Some((200, "{}".to_owned())));
            assert_eq!(complete(&format!("{head}{rest}")), expected);
        }
        for answer in [
            "hello\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{}",
        ] {
            assert_eq!(complete(answer), Err(()), "{answer}");
        }
    }
}
