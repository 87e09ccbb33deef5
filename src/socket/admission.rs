//! Admission: who may connect, and what they may do.
//!
//! A valid token is enough, from anywhere: whoever shows it was given it, and a browser sends
//! none by itself. If no token is configured, only programs on this machine may connect.
//!
//! Browsers let any website talk to servers on the same machine. What a website cannot do is
//! choose its `Origin`, or (unless its name was rebound to a loopback address) the `Host` that
//! it is reached under. So both must be loopback names.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{HOST, HeaderName, ORIGIN, UPGRADE};
use http::{HeaderMap, Request, StatusCode};

use super::credentials::{SeveralTokens, request_token};
use super::http::Response;
use super::origin::{AllowedOrigins, Origin, is_loopback, is_loopback_authority};
use super::website;
use crate::access::{Access, Guesser, Policy, TokenError};
use crate::protocol::Grant;

/// The headers that proxies add to the requests they pass on.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// The most characters of a header that a refusal repeats, and the log and the audit with it.
const MAX_SHOWN: usize = 256;

/// Why a request is not admitted. It is displayed as one sentence that says why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmissionError {
    /// Without a token: the connection comes from another machine.
    RemotePeer(IpAddr),
    /// Without a token: this header says that the request came through a proxy.
    Proxied(&'static str),
    /// Without a token: this header is there more than once.
    RepeatedHeader(HeaderName),
    /// Without a token: this header is not text.
    UnreadableHeader(HeaderName),
    /// Without a token: the `Host` is no loopback name.
    ForeignHost(String),
    /// Without a token: the `Origin` is neither a loopback nor a listed one.
    ForeignOrigin(Origin),
    /// Without a token: the `Origin` is none, and so cannot be listed.
    MalformedOrigin(String),
    /// Without a token: the `Origin` is `null`.
    OpaqueOrigin,
    /// A token is needed, and the request shows none.
    NoToken,
    /// The request shows different tokens: each would be another guess.
    SeveralTokens,
    /// The token is in the address of a request that a website may have made a browser send. It is
    /// not looked at, so that the website learns nothing of it.
    TokenInAddress,
    /// The token is rejected.
    Token(TokenError),
}

impl AdmissionError {
    /// Returns the status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::RemotePeer(_)
            | Self::Proxied(_)
            | Self::RepeatedHeader(_)
            | Self::UnreadableHeader(_)
            | Self::ForeignHost(_)
            | Self::ForeignOrigin(_)
            | Self::MalformedOrigin(_)
            | Self::OpaqueOrigin => StatusCode::FORBIDDEN,
            Self::NoToken | Self::Token(TokenError::Unknown | TokenError::Expired(_)) => {
                StatusCode::UNAUTHORIZED
            }
            Self::SeveralTokens | Self::TokenInAddress => StatusCode::BAD_REQUEST,
            Self::Token(TokenError::TooManyFailures) => StatusCode::TOO_MANY_REQUESTS,
            Self::Token(TokenError::FileUnusable) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the code that tells programs why.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RemotePeer(_) => "forbidden_address",
            Self::Proxied(_) => "forbidden_proxy",
            Self::RepeatedHeader(_) | Self::UnreadableHeader(_) | Self::SeveralTokens => {
                "bad_request"
            }
            Self::TokenInAddress => "token_in_address",
            Self::ForeignHost(_) => "forbidden_host",
            Self::ForeignOrigin(_) | Self::MalformedOrigin(_) | Self::OpaqueOrigin => {
                "forbidden_origin"
            }
            Self::NoToken | Self::Token(TokenError::Unknown | TokenError::Expired(_)) => {
                "unauthorized"
            }
            Self::Token(TokenError::TooManyFailures) => "too_many_failures",
            Self::Token(TokenError::FileUnusable) => "tokens_unusable",
        }
    }
}

impl From<SeveralTokens> for AdmissionError {
    fn from(SeveralTokens: SeveralTokens) -> Self {
        Self::SeveralTokens
    }
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemotePeer(peer) => write!(
                f,
                "connections from {peer} are refused: without a token only this machine may connect"
            ),
            Self::Proxied(header) => write!(
                f,
                "the request came through a proxy, as its header {header} tells, and anyone could be behind that: make a token first, with \"claude-socket token add\""
            ),
            Self::RepeatedHeader(name) => {
                write!(f, "the request has more than one {name} header; send one")
            }
            Self::UnreadableHeader(name) => write!(f, "the {name} header is not plain text"),
            Self::ForeignHost(host) => write!(
                f,
                "the Host \"{host}\" is refused: connect to 127.0.0.1 or localhost, so that no other name can be made to lead here"
            ),
            Self::OpaqueOrigin => f.write_str(
                "pages without an origin (from a file, or sandboxed) are refused: open the page from http://127.0.0.1 or http://localhost",
            ),
            Self::ForeignOrigin(origin) => write!(
                f,
                "pages from {origin} are refused: to let them in, start the server with CLAUDE_SOCKET_ALLOWED_ORIGINS={origin}"
            ),
            Self::MalformedOrigin(origin) => write!(
                f,
                "the Origin \"{origin}\" is refused, because no page has it: send none, or that of a page of this machine, such as http://localhost"
            ),
            Self::NoToken => f.write_str(
                "a token is needed here: send it as \"Authorization: Bearer TOKEN\", as ?token=TOKEN, or as the WebSocket subprotocol bearer.TOKEN next to claude-socket; \"claude-socket token add\" makes one",
            ),
            Self::SeveralTokens => f.write_str("the request shows several tokens; show one"),
            Self::TokenInAddress => f.write_str(
                "a token in the address is not looked at when a page of another origin asks: send it as \"Authorization: Bearer TOKEN\", or open the address by itself",
            ),
            Self::Token(TokenError::Unknown) => f.write_str(
                "this token is not known here, or was removed: look at \"claude-socket token list\", and make a new one with \"claude-socket token add\"",
            ),
            Self::Token(TokenError::Expired(expiry)) => write!(
                f,
                "this token expired at {expiry}: have it removed and a new one made, with \"claude-socket token\""
            ),
            Self::Token(TokenError::TooManyFailures) => f.write_str(
                "too many wrong tokens came from this address: wait a minute, then try again with the right one",
            ),
            Self::Token(TokenError::FileUnusable) => f.write_str(
                "the server cannot read its tokens and lets nobody in: its log says what to repair",
            ),
        }
    }
}

impl std::error::Error for AdmissionError {}

impl From<AdmissionError> for Response {
    fn from(error: AdmissionError) -> Self {
        let response = Self::refusal(error.status(), error.code(), &error.to_string());
        match error.status() {
            StatusCode::UNAUTHORIZED => {
                response.with("WWW-Authenticate", "Bearer realm=\"claude-socket\"")
            }
            StatusCode::TOO_MANY_REQUESTS => response.with("Retry-After", "60"),
            _ => response,
        }
    }
}

/// Returns what the sender of a request may do.
///
/// # Errors
/// [`AdmissionError`].
pub fn admit(
    peer: IpAddr,
    request: &Request<()>,
    access: &Access,
    allowed: &AllowedOrigins,
) -> Result<Arc<Grant>, AdmissionError> {
    let policy = access.policy();
    if policy == Policy::LocalOnly {
        return check_local(peer, request.headers(), allowed).map(|()| access.anonymous());
    }
    let headers = request.headers();
    match request_token(request)? {
        Some(shown) => {
            let by_website = website::is_sender(headers, allowed);
            // A script of any page may connect, if it has a token.
            let is_handshake = headers.contains_key(UPGRADE);
            if by_website && shown.is_in_address && website::is_page(headers) && !is_handshake {
                return Err(AdmissionError::TokenInAddress);
            }
            let guesser = Guesser::new(peer, by_website);
            let grant = access.admit(&shown.token, guesser, (Instant::now(), SystemTime::now()));
            grant.map_err(AdmissionError::Token)
        }
        None if policy == Policy::FileUnusable => {
            Err(AdmissionError::Token(TokenError::FileUnusable))
        }
        None => Err(AdmissionError::NoToken),
    }
}

/// Checks that a request comes from a program on this machine, or from a page that may connect.
///
/// # Errors
/// [`AdmissionError`].
pub fn check_local(
    peer: IpAddr,
    headers: &HeaderMap,
    allowed: &AllowedOrigins,
) -> Result<(), AdmissionError> {
    if !is_loopback(peer) {
        return Err(AdmissionError::RemotePeer(peer));
    }
    if let Some(header) = FORWARDED.iter().find(|name| headers.contains_key(**name)) {
        return Err(AdmissionError::Proxied(header));
    }
    let host = single_header(headers, &HOST)?.unwrap_or_default();
    if !is_loopback_authority(host) {
        return Err(AdmissionError::ForeignHost(shown(host)));
    }
    match single_header(headers, &ORIGIN)? {
        None => Ok(()),
        Some("null") => Err(AdmissionError::OpaqueOrigin),
        Some(text) => match Origin::parse(text) {
            Some(origin) if allowed.admits(&origin) => Ok(()),
            Some(origin) if origin.as_str().len() <= MAX_SHOWN => {
                Err(AdmissionError::ForeignOrigin(origin))
            }
            _ => Err(AdmissionError::MalformedOrigin(shown(text))),
        },
    }
}

/// Returns a header as a message shows it, cut to [`MAX_SHOWN`] characters.
fn shown(header: &str) -> String {
    match header.char_indices().nth(MAX_SHOWN) {
        None => header.to_owned(),
        Some(_) => header.chars().take(MAX_SHOWN - 1).chain(['…']).collect(),
    }
}

/// Returns a header that may be there once at most.
fn single_header<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, AdmissionError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(AdmissionError::RepeatedHeader(name.clone()));
    }
    let unreadable = |_| AdmissionError::UnreadableHeader(name.clone());
    value
        .map(|value| value.to_str().map_err(unreadable))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::expiry::Expiry;

    fn decide(peer: &str, headers: &[(HeaderName, &str)]) -> Result<(), AdmissionError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().expect("the header value is valid"));
        }
        let allowed = AllowedOrigins::parse("https://chat.example,").expect("the origin is valid");
        check_local(peer.parse().expect("the address is valid"), &map, &allowed)
    }

    #[test]
    fn only_loopback_peers_and_hosts_are_admitted() {
        let hosts = [
            "127.0.0.1:3100",
            "127.0.0.1",
            "localhost:3100",
            "LOCALHOST",
            "127.8.9.10",
            "[::1]:3100",
            "[::1]",
        ];
        for host in hosts {
            assert_eq!(decide("127.0.0.1", &[(HOST, host)]), Ok(()), "{host}");
        }
        let strangers = [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.7:3100",
            "[::2]",
            "evil.example@127.0.0.1",
            "127.0.0.1@evil.example",
            "0.0.0.0:3100",
            "localhost:3100/x",
            "::1",
            "[::1]evil",
        ];
        for host in strangers {
            assert!(decide("127.0.0.1", &[(HOST, host)]).is_err(), "{host}");
        }
        assert!(decide("127.0.0.1", &[]).is_err(), "no Host at all");
        assert!(decide("127.0.0.1", &[(HOST, "localhost"), (HOST, "localhost")]).is_err());
        for peer in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(decide(peer, &[(HOST, "localhost")]), Ok(()), "{peer}");
        }
        for peer in ["10.0.0.7", "192.168.1.2", "fe80::1", "::ffff:10.0.0.7"] {
            assert!(decide(peer, &[(HOST, "localhost")]).is_err(), "{peer}");
        }
    }

    #[test]
    fn only_loopback_and_listed_origins_are_admitted() {
        let origins = [
            "http://localhost:5173",
            "https://127.0.0.1",
            "http://[::1]:8080",
            "https://chat.example",
            "HTTPS://CHAT.EXAMPLE",
        ];
        for origin in origins {
            assert_eq!(
                decide("::1", &[(HOST, "[::1]"), (ORIGIN, origin)]),
                Ok(()),
                "{origin}"
            );
        }
        let strangers = [
            "null",
            "",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://chat.example",
            "https://chat.example:444",
            "https://chat.example.evil.example",
            "file://",
            "chrome-extension://localhost",
            "http://evil.example@localhost",
            "http://[::ffff:127.0.0.1].evil",
            "capacitor://localhost",
            "localhost",
        ];
        for origin in strangers {
            assert!(
                decide("::1", &[(HOST, "[::1]"), (ORIGIN, origin)]).is_err(),
                "{origin}"
            );
        }
    }

    #[test]
    fn each_error_has_its_status_and_headers() {
        use AdmissionError as E;
        let peer = IpAddr::from([10, 0, 0, 7]);
        let expiry = Expiry::at(SystemTime::UNIX_EPOCH).expect("the time can be written");
        let expired = TokenError::Expired(expiry);
        let origin = Origin::parse("https://evil.example").expect("the origin is valid");
        let cases = [
            (E::RemotePeer(peer), 403, None),
            (E::Proxied("via"), 403, None),
            (E::RepeatedHeader(HOST), 403, None),
            (E::UnreadableHeader(HOST), 403, None),
            (E::ForeignHost("evil.example".into()), 403, None),
            (E::ForeignOrigin(origin), 403, None),
            (E::MalformedOrigin("evil".into()), 403, None),
            (E::OpaqueOrigin, 403, None),
            (E::NoToken, 401, Some("WWW-Authenticate")),
            (E::SeveralTokens, 400, None),
            (E::TokenInAddress, 400, None),
            (E::Token(TokenError::Unknown), 401, Some("WWW-Authenticate")),
            (E::Token(expired), 401, Some("WWW-Authenticate")),
            (
                E::Token(TokenError::TooManyFailures),
                429,
                Some("Retry-After"),
            ),
            (E::Token(TokenError::FileUnusable), 503, Some("Retry-After")),
        ];
        for (error, status, header) in cases {
            let sentence = error.to_string();
            let response = Response::from(error);
            assert_eq!(response.status.as_u16(), status, "{sentence}");
            let first = response.headers.first().map(|(name, _)| *name);
            assert_eq!(first, header, "{sentence}");
            assert_eq!(response.message, Some(sentence));
        }
    }
}
