//! Asks whoever listens on a port of this machine how it is: another claude-socket
//! answers with its [`Health`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::health::Health;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Who answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A claude-socket.
    Health(Box<Health>),
    /// A claude-socket that refuses, with this status: 401 if it wants a token.
    Refused(u16),
    /// Something else, or something that has no time.
    Stranger,
    /// Nobody.
    Nobody,
}

/// Asks for `/healthz`, with a token if there is one.
pub fn probe(address: SocketAddr, token: Option<&str>, timeout: Duration) -> Answer {
    let deadline = Instant::now() + timeout;
    let Ok(stream) = TcpStream::connect_timeout(&address, timeout) else {
        return Answer::Nobody;
    };
    match get(stream, address, token, deadline) {
        Some((200, body)) => match serde_json::from_str::<Health>(&body) {
            // What it says ends up in the log and before Claude.
            Ok(health) if health.since().is_some() => Answer::Health(Box::new(health)),
            _ => Answer::Stranger,
        },
        Some((status, body)) if body.contains(r#""status":"error""#) => Answer::Refused(status),
        _ => Answer::Stranger,
    }
}

/// The status and the body of the answer, if there is one in time.
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
    let left = || deadline.saturating_duration_since(Instant::now());
    // There is no time left when it is over, and a timeout of zero is an error.
    stream.set_write_timeout(Some(left())).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    loop {
        let length = answer.len();
        if let Some(complete) = complete(&answer) {
            return Some(complete);
        }
        answer.resize((length + 4096).min(MAX_ANSWER), 0);
        stream.set_read_timeout(Some(left())).ok()?;
        let read = stream.read(answer.get_mut(length..)?).ok()?;
        if read == 0 {
            return None;
        }
        answer.truncate(length + read);
    }
}

/// The status and the body, once as much of it has come as the head announces.
fn complete(answer: &[u8]) -> Option<(u16, String)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(answer).ok()? else {
        return None;
    };
    let announced = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("Content-Length"))?;
    let length: usize = std::str::from_utf8(announced.value).ok()?.parse().ok()?;
    let body = answer.get(start..start.checked_add(length)?)?;
    Some((head.code?, String::from_utf8_lossy(body).into_owned()))
}
