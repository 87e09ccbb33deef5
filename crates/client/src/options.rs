//! What a client is told, and what can go wrong with it.

use std::fmt;
use std::io;
use std::time::Duration;

use http::Uri;

use crate::protocol::{DEFAULT_SESSION, DEFAULT_USER, ErrorCode};

/// Where the server is, who speaks, and how hard the connection is kept.
#[derive(Clone)]
pub struct Options {
    /// Where the server is, such as `ws://127.0.0.1:3100`.
    pub url: String,
    /// The chat to take part in; `default` if not told otherwise.
    pub session: String,
    /// Who speaks; `user` if not told otherwise. A token's name counts more.
    pub user: String,
    /// What lets this client in, if the server asks for one.
    pub token: Option<String>,
    /// Whether the token is kept from a program of another user that listens on a port of this
    /// machine, because the server is down perhaps; false if not told otherwise. Only Linux
    /// tells whose it is. Root's is trusted.
    pub guard_token: bool,
    /// Whether Claude's text is wanted as it appears, in `stream` messages.
    pub stream: bool,
    /// Whether a lost connection is opened again; true if not told otherwise.
    pub reconnect: bool,
    /// The longest wait before the first attempt to reconnect, 1 s. It doubles with each. How
    /// long it really is, is random (full jitter).
    pub reconnect_delay: Duration,
    /// The longest wait of all, 30 s.
    pub max_reconnect_delay: Duration,
    /// How often a silent server is asked for a sign of life, 20 s. After two without one the
    /// connection counts as lost.
    pub heartbeat: Duration,
    /// The most messages that wait for a receipt, 1,000. One more is rejected.
    pub queue_limit: usize,
    /// The most messages of the server that wait to be received, 10,000. One more pushes the
    /// oldest out; see [`Client::dropped`](super::Client::dropped).
    pub inbox_limit: usize,
}

impl Options {
    /// The usual ones, for the server at this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            session: DEFAULT_SESSION.to_owned(),
            user: DEFAULT_USER.to_owned(),
            token: None,
            guard_token: false,
            stream: false,
            reconnect: true,
            reconnect_delay: Duration::from_secs(1),
            max_reconnect_delay: Duration::from_secs(30),
            heartbeat: Duration::from_secs(20),
            queue_limit: 1_000,
            inbox_limit: 10_000,
        }
    }
}

/// All but the token.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url)
            .field("session", &self.session)
            .field("user", &self.user)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The options name no server that this client can talk to.
    Address(String),
    /// The system gives no thread or no socket.
    System(String),
    /// The message was not taken, by the server or, without a code, by this client.
    Rejected {
        /// Why, for programs.
        code: Option<ErrorCode>,
        /// Why, for people.
        why: String,
    },
    /// It has not happened in time. It still can.
    TimedOut,
    /// There is no connection any more, and there will be none.
    Ended(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) | Self::System(why) => f.write_str(why),
            Self::Rejected { why, .. } => f.write_str(why),
            Self::TimedOut => f.write_str("it has not happened in time"),
            Self::Ended(why) => write!(f, "the connection has ended: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::System(error.to_string())
    }
}

/// Where to connect to, and what to ask for there.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// With the session in its query.
    pub uri: Uri,
}

impl Target {
    /// Reads the options' address.
    pub fn of(options: &Options) -> Result<Self, Error> {
        let url = &options.url;
        let wrong = |why: &str| Error::Address(format!("{url:?} cannot be connected to: {why}"));
        let right = "give an address such as ws://127.0.0.1:3100";
        let uri: Uri = url.parse().map_err(|_| wrong(right))?;
        match uri.scheme_str() {
            Some("ws" | "http") => {}
            Some("wss" | "https") => {
                return Err(wrong(
                    "this client speaks no TLS; give a ws:// address, in a private network or at the end of a tunnel such as ssh -L 3100:127.0.0.1:3100 HOST",
                ));
            }
            _ => return Err(wrong(right)),
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong(right));
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if name != "session" {
                query.append_pair(&name, &value);
            }
        }
        query.append_pair("session", &options.session);
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let whole = format!("ws://{authority}{}?{}", uri.path(), query.finish());
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            uri: whole.parse().map_err(|_| wrong(right))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let cases = [
            (
                "ws://127.0.0.1:3100",
                "127.0.0.1",
                3100,
                "ws://127.0.0.1:3100/?session=a+b",
            ),
            (
                "http://[::1]:80/x?session=y&z=1",
                "::1",
                80,
                "ws://[::1]:80/x?z=1&session=a+b",
            ),
            ("ws://pi.lan", "pi.lan", 80, "ws://pi.lan/?session=a+b"),
        ];
        for (url, host, port, uri) in cases {
            let session = "a b".to_owned();
            let options = Options {
                session,
                ..Options::new(url)
            };
            let target = Target::of(&options).expect(url);
            assert_eq!((&*target.host, target.port), (host, port), "{url}");
            assert_eq!(target.uri.to_string(), uri);
        }
    }

    #[test]
    fn a_wrong_address_is_told_what_would_be_right() {
        for (url, part) in [
            ("wss://chat.example.org", "ssh -L"),
            ("127.0.0.1:3100", "ws://127.0.0.1:3100"),
            ("ftp://x", "ws://127.0.0.1:3100"),
            ("", "ws://127.0.0.1:3100"),
        ] {
            let error = Target::of(&Options::new(url)).expect_err(url).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
