//! As much HTTP/1.1 as a WebSocket server needs: reads the head of a request, and sends short
//! responses after which the connection closes.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::mem;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::linger;
use crate::timed_read::{ReadError, read_until};

/// The longest head, in bytes. Browsers send the cookies of every app on `localhost` to each of them,
/// whatever its port.
const MAX_HEAD: usize = 64 * 1024;
/// The longest head that every connection may have at the same time, in bytes.
const USUAL_HEAD: usize = 8 * 1024;
/// How much of it is read at once, in bytes. Most heads come whole.
const CHUNK: usize = 1024;
/// The most headers. A browser sends about twenty.
const MAX_HEADERS: usize = 64;
/// How long a client may take to read a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no request to answer.
#[derive(Debug)]
pub enum HeadError {
    /// The client has disconnected.
    Disconnected,
    /// The status, the code and the sentence to answer with.
    Refused(StatusCode, &'static str, String),
}

impl HeadError {
    fn malformed(why: impl fmt::Display) -> Self {
        Self::Refused(
            StatusCode::BAD_REQUEST,
            "bad_request",
            format!("the request is not HTTP/1.1: {why}"),
        )
    }

    fn too_many_long() -> Self {
        Self::Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many requests with a head of more than 8 KiB arrive at the same time; try again later, or send fewer cookies".into(),
        )
    }

    fn too_large(what: &str) -> Self {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::Refused(
            status,
            "too_large",
            format!("the request's head has more than {what}; send less"),
        )
    }
}

/// Reads the head of a request, of 64 KiB at most. Returns it with the bytes that came after it.
///
/// `may_be_long` is asked once when a head has more than 8 KiB. If it returns `false`, the request is
/// refused.
///
/// # Errors
/// [`HeadError`], also if the head isn't complete within `timeout`.
pub fn read_head(
    stream: &TcpStream,
    timeout: Duration,
    mut may_be_long: impl FnMut() -> bool,
) -> Result<(Request<()>, Vec<u8>), HeadError> {
    let deadline = Instant::now() + timeout;
    let mut seen = 0;
    let parse = |bytes: &[u8]| {
        let before = mem::replace(&mut seen, bytes.len());
        if before <= USUAL_HEAD && seen > USUAL_HEAD && !may_be_long() {
            return Err(HeadError::too_many_long());
        }
        // At first, because what isn't HTTP has no such end. Not each time, because a head that
        // comes byte by byte would cost the square of its length.
        if before == 0 || has_end(&bytes[before.saturating_sub(2)..]) {
            return parse_head(bytes);
        }
        Ok(None)
    };
    match read_until(stream, deadline, CHUNK, MAX_HEAD, parse) {
        // A copy, because the buffer has room for the whole head.
        Ok(((request, length), bytes)) => Ok((request, bytes[length..].to_vec())),
        Err(ReadError::TimedOut) => Err(too_slow(timeout)),
        Err(ReadError::Disconnected) => Err(HeadError::Disconnected),
        Err(ReadError::TooLong) => Err(HeadError::too_large("64 KiB")),
        Err(ReadError::Invalid(error)) => Err(error),
    }
}

/// Returns `true` if there is an empty line, with which a head ends.
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|end| end == b"\n\n") || bytes.windows(3).any(|end| end == b"\n\r\n")
}

fn too_slow(timeout: Duration) -> HeadError {
    let timeout = humantime::format_duration(timeout);
    let why = format!("the request was not complete within {timeout}; try again");
    HeadError::Refused(StatusCode::REQUEST_TIMEOUT, "timeout", why)
}

/// Parses a head. Returns it with its length, or `None` while it is incomplete.
///
/// # Errors
/// [`HeadError::Refused`].
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Request<()>, usize)>, HeadError> {
    // On the heap: a stack page that was touched once stays resident for the life of the thread.
    let mut headers = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length > MAX_HEAD => {
            return Err(HeadError::too_large("64 KiB"));
        }
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::too_large("64 headers")),
        Err(error) => return Err(HeadError::malformed(error)),
    };
    let version = match parsed.version {
        Some(1) => http::Version::HTTP_11,
        _ => http::Version::HTTP_10,
    };
    let mut request = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(version);
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(HeadError::malformed)?;
        let value = HeaderValue::from_bytes(header.value).map_err(HeadError::malformed)?;
        request = request.header(name, value);
    }
    let request = request.body(()).map_err(HeadError::malformed)?;
    Ok(Some((request, length)))
}

/// Returns the items of a header that is a list, those of all its lines (RFC 9110, sections 5.3
/// and 5.6.1).
pub fn list_items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

/// A response, after which the connection closes.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    /// The `Content-Type` and the body.
    pub body: Option<(&'static str, Cow<'static, str>)>,
    /// The sentence, if this is a refusal.
    pub message: Option<String>,
    /// The `Cache-Control`.
    pub cache: &'static str,
    /// The `Accept` of the request decides, too.
    pub varies_by_accept: bool,
    /// Further headers.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl Response {
    /// A response with a JSON body.
    pub fn json(body: &impl Serialize) -> Self {
        // No body that is answered with can fail to serialize.
        let body = serde_json::to_string(body).unwrap_or_default();
        Self::text("application/json", body + "\n")
    }

    /// A response with a text body of any kind.
    pub fn text(content_type: &'static str, body: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::OK,
            body: Some((content_type, body.into())),
            message: None,
            cache: "no-store",
            varies_by_accept: false,
            headers: Vec::new(),
        }
    }

    /// A response without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            body: None,
            ..Self::text("", "").status(status)
        }
    }

    /// A refusal as JSON: a code for programs, and one sentence for people, which says what to
    /// do. The sentence is also there as `error`, where clients of older servers look for it.
    pub fn refusal(status: StatusCode, code: &'static str, message: &str) -> Self {
        let body = json!({
            "status": "error",
            "code": code,
            "message": message,
            "error": message,
        });
        let refusal = Self {
            message: Some(message.to_owned()),
            ..Self::json(&body).status(status)
        };
        match status {
            StatusCode::SERVICE_UNAVAILABLE => refusal.with("Retry-After", "5"),
            _ => refusal,
        }
    }

    /// Sets the status, which is 200 otherwise.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets the `Cache-Control`, which is `no-store` otherwise.
    pub fn cached(mut self, cache: &'static str) -> Self {
        self.cache = cache;
        self
    }

    /// Says that the `Accept` of the request decides, too.
    pub fn vary_accept(mut self) -> Self {
        self.varies_by_accept = true;
        self
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends the response and ends the connection. Leaves out the body if `is_head`.
    pub fn send(&self, stream: &TcpStream, is_head: bool) {
        // Each response says which pages may read it.
        let vary = match self.varies_by_accept {
            true => "Accept, Origin",
            false => "Origin",
        };
        let mut answer = format!(
            "HTTP/1.1 {}\r\nCache-Control: {}\r\nVary: {}\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n",
            self.status, self.cache, vary
        );
        let mut header = |name: &str, value: &dyn fmt::Display| {
            // Writing to a string cannot fail.
            let _ = write!(answer, "{name}: {value}\r\n");
        };
        for (name, value) in &self.headers {
            header(name, value);
        }
        if let Some((content_type, body)) = &self.body {
            header("Content-Type", content_type);
            header("Content-Length", &body.len());
        }
        answer.push_str("\r\n");
        if let Some((_, body)) = &self.body
            && !is_head
        {
            answer.push_str(body);
        }
        // If it fails, the client has disconnected, and there is nobody to tell.
        let sent = stream
            .set_write_timeout(Some(WRITE_TIMEOUT))
            .and_then(|()| (&*stream).write_all(answer.as_bytes()));
        if sent.is_ok() {
            linger(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_head_is_an_empty_line() {
        for bytes in ["\r\n\r\n", "\n\n", "a\n\r\nb", "a\n\nb\n"] {
            assert!(has_end(bytes.as_bytes()), "{bytes:?}");
        }
        for bytes in ["", "\n", "\r\n", "\n\r", "\r\n\r", "a\r\nb\r\n", "\n\ra\n"] {
            assert!(!has_end(bytes.as_bytes()), "{bytes:?}");
        }
    }

    #[test]
    fn head_is_parsed_or_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD));
        let cases = [
            ("GET / HTTP/1.1\r\nHost: x\r\n", None),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\nrest", Some(200)),
            ("POST /a?b=c HTTP/1.0\r\n\r\n", Some(200)),
            ("GET /\u{e9} HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", Some(200)),
            ("hello\r\n\r\n", Some(400)),
            ("GET / HTTP/2.0\r\n\r\n", Some(400)),
            ("GET  / HTTP/1.1\r\n\r\n", Some(400)),
            ("GET / HTTP/1.1\r\nA\0: b\r\n\r\n", Some(400)),
            (&many, Some(431)),
            (&long, Some(431)),
        ];
        for (head, expected) in cases {
            let status = match parse_head(head.as_bytes()) {
                Ok(parsed) => parsed.map(|_| 200),
                Err(HeadError::Refused(status, ..)) => Some(status.as_u16()),
                Err(HeadError::Disconnected) => None,
            };
            assert_eq!(status, expected, "{}", &head[..head.len().min(60)]);
        }
    }
}
