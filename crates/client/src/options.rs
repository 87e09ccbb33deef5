//! What a client is told when it is made.

use std::fmt;
use std::time::Duration;

use http::Uri;

use crate::Error;
use crate::protocol::{DEFAULT_SESSION, DEFAULT_USER};

/// Where the server is, who speaks, and how the connection is kept.
///
/// Make one with [`Options::new`] and `..`, as more fields may come:
///
/// ```
/// # use claude_socket_client::Options;
/// let options = Options { user: "thermometer".to_owned(), ..Options::new("ws://127.0.0.1:3100") };
/// ```
#[derive(Clone)]
pub struct Options {
    /// The server's address, such as `ws://127.0.0.1:3100`.
    pub url: String,
    /// The session to take part in; `default` unless set.
    pub session: String,
    /// The author's name; `user` unless set. A token's name overrides it.
    pub user: String,
    /// The token, if the server asks for one.
    pub token: Option<String>,
    /// `true` if the token must not be sent to a listener on this machine that belongs to another user, as one can when
    /// the server is down; `false` unless set. Root is trusted. Only Linux tells whose a listener is.
    pub guard_token: bool,
    /// `true` if Claude's text is wanted as it appears, in `stream` messages; `false` unless set.
    pub stream: bool,
    /// `true` if a lost connection is opened again; `true` unless set.
    pub reconnect: bool,
    /// The longest wait before the first attempt to reconnect; 1 s unless set. It doubles with each attempt. The wait
    /// itself is random (full jitter).
    pub reconnect_delay: Duration,
    /// The longest wait before any attempt; 30 s unless set.
    pub max_reconnect_delay: Duration,
    /// The time that an address may take to answer, and its server to open the connection; 10 s unless set. Looking up
    /// a name takes as long as the system lets it.
    pub connect_timeout: Duration,
    /// The time after which a silent server is asked for a sign of life; 20 s unless set. After a second one without an
    /// answer the connection is lost.
    pub heartbeat: Duration,
    /// The most messages that wait for a receipt; 1,000 unless set. One more is rejected.
    pub queue_limit: usize,
    /// The most messages of the server that wait to be received; 10,000 unless set. One more drops the oldest; see
    /// [`Client::dropped`](crate::Client::dropped).
    pub receive_capacity: usize,
}

impl Options {
    /// Returns the defaults, for the server at this address.
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
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
            queue_limit: 1_000,
            receive_capacity: 10_000,
        }
    }
}

/// Leaves out the token.
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

/// Where to connect to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// Has the session in its query.
    pub uri: Uri,
}

impl Target {
    /// Parses the options' address.
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
    fn address_is_parsed_into_its_parts() {
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
    fn wrong_address_is_rejected_with_a_right_one() {
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
