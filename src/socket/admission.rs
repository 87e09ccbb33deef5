//! Who may connect, and as whom.
//!
//! A valid token lets anyone in, from anywhere: whoever shows it was given it, and a
//! browser sends none by itself. If no token is configured, only this machine gets in.
//!
//! Browsers let any website talk to servers on the same machine. What a website
//! cannot do is choose its `Origin`, or (unless its name was rebound to a loopback
//! address) the `Host` it is reached under. So both must be loopback names.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use http::header::{HOST, HeaderName, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode, Uri};

use super::credentials::request_token;
use super::http::Response;
use crate::access::{Access, Denied, Policy};
use crate::protocol::Grant;

/// What proxies add to the requests they pass on.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// The origins that are let in beside loopback ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<String>);

impl AllowedOrigins {
    /// Reads origins (RFC 6454) as a browser writes them, separated by commas.
    ///
    /// # Errors
    /// What would be right, if one of them cannot be told from others.
    pub fn parse(text: &str) -> Result<Self, String> {
        let origins = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        origins
            .map(parse_origin)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn has(&self, origin: &str) -> bool {
        let mut listed = self.0.iter();
        listed.any(|listed| listed.eq_ignore_ascii_case(origin))
    }
}

fn parse_origin(text: &str) -> Result<String, String> {
    let origin = text.trim_end_matches('/').to_ascii_lowercase();
    let host = origin.split_once("://").map(|(_, host)| host);
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', ' ', '*']) => Ok(origin),
        _ => Err("give origins as https://example.org or http://10.0.0.7:8080, separated by commas; \"null\" and \"*\" cannot be trusted".into()),
    }
}

/// Decides about one request: what whoever makes it may do.
///
/// # Errors
/// The refusal to answer with.
pub fn admit(
    peer: IpAddr,
    request: &Request<()>,
    access: &Access,
    allowed: &AllowedOrigins,
) -> Result<Arc<Grant>, Response> {
    let policy = access.policy();
    if policy == Policy::LocalOnly {
        return match check(peer, request.headers(), allowed) {
            Ok(()) => Ok(access.anonymous()),
            Err(why) => Err(Response::refusal(StatusCode::FORBIDDEN, &why)),
        };
    }
    match request_token(request) {
        Ok(Some(token)) => {
            let grant = access.admit(&token, peer, Instant::now());
            grant.map_err(denied)
        }
        Ok(None) if policy == Policy::Unreadable => Err(denied(Denied::Unreadable)),
        Ok(None) => Err(unauthorized(
            "a token is needed here: send it as \"Authorization: Bearer TOKEN\", as ?token=TOKEN, or as the WebSocket subprotocol bearer.TOKEN; \"claude-socket token add\" makes one",
        )),
        Err(why) => Err(Response::refusal(StatusCode::BAD_REQUEST, &why)),
    }
}

fn unauthorized(why: &str) -> Response {
    let refusal = Response::refusal(StatusCode::UNAUTHORIZED, why);
    refusal.with("WWW-Authenticate", "Bearer realm=\"claude-socket\"")
}

fn denied(denied: Denied) -> Response {
    match denied {
        Denied::Unknown => unauthorized(
            "this token is not known here, or was removed: look at \"claude-socket token list\", and make a new one with \"claude-socket token add\"",
        ),
        Denied::TooMany => {
            let why = "too many wrong tokens came from this address: wait a minute, then try again with the right one";
            let refusal = Response::refusal(StatusCode::TOO_MANY_REQUESTS, why);
            refusal.with("Retry-After", "60")
        }
        Denied::Unreadable => {
            let why =
                "the server cannot read its tokens and lets nobody in: its log says what to repair";
            let refusal = Response::refusal(StatusCode::SERVICE_UNAVAILABLE, why);
            refusal.with("Retry-After", "5")
        }
    }
}

/// Decides about one request without a token.
///
/// # Errors
/// One sentence that says why not, and what to do.
pub fn check(peer: IpAddr, headers: &HeaderMap, allowed: &AllowedOrigins) -> Result<(), String> {
    if !is_loopback(peer) {
        return Err(format!(
            "connections from {peer} are refused: without a token only this machine may connect"
        ));
    }
    if let Some(header) = FORWARDED.iter().find(|name| headers.contains_key(**name)) {
        return Err(format!(
            "the request came through a proxy, as its header {header} tells, and anyone could be behind that: make a token first, with \"claude-socket token add\""
        ));
    }
    let host = single_header(headers, &HOST)?.unwrap_or_default();
    if !is_loopback_authority(host) {
        return Err(format!(
            "the Host \"{host}\" is refused: connect to 127.0.0.1 or localhost, so that no other name can be made to lead here"
        ));
    }
    match single_header(headers, &ORIGIN)? {
        None => Ok(()),
        Some(origin) if is_loopback_origin(origin) || allowed.has(origin) => Ok(()),
        Some("null") => Err(
            "pages without an origin (from a file, or sandboxed) are refused: open the page from http://127.0.0.1 or http://localhost".into(),
        ),
        Some(origin) => Err(format!(
            "pages from {origin} are refused: to let them in, start the server with CLAUDE_SOCKET_ALLOWED_ORIGINS={origin}"
        )),
    }
}

/// A header that may be there once at most.
fn single_header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(format!(
            "the request has more than one {name} header; send one"
        ));
    }
    value
        .map(|value| {
            value
                .to_str()
                .map_err(|_| format!("the {name} header is not plain text"))
        })
        .transpose()
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// A host, maybe with a port, that always means this machine.
fn is_loopback_authority(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(ip) => ip
            .parse::<Ipv6Addr>()
            .is_ok_and(|ip| is_loopback(ip.into())),
        None => {
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(is_loopback)
        }
    }
}

fn is_loopback_origin(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else {
        return false;
    };
    let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().map(Authority::as_str);
    known_scheme && authority.is_some_and(is_loopback_authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(peer: &str, headers: &[(HeaderName, &str)]) -> Result<(), String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().expect("a header value"));
        }
        let allowed = AllowedOrigins::parse("https://chat.example,").expect("an origin");
        check(peer.parse().expect("an address"), &map, &allowed)
    }

    #[test]
    fn only_this_machine_under_its_own_names_gets_in() {
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
    fn only_loopback_and_listed_origins_get_in() {
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
    fn a_setting_can_only_list_real_origins() {
        let listed = AllowedOrigins::parse(" https://Chat.Example/ ,http://10.0.0.7:8080,");
        let expected = [
            "https://chat.example".to_owned(),
            "http://10.0.0.7:8080".to_owned(),
        ];
        assert_eq!(listed, Ok(AllowedOrigins(expected.to_vec())));
        for wrong in [
            "null",
            "*",
            "chat.example",
            "https://",
            "https://*.example",
            "https://a/b",
        ] {
            assert!(AllowedOrigins::parse(wrong).is_err(), "{wrong}");
        }
    }
}
