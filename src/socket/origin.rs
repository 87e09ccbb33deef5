//! Origins (RFC 6454) and the hosts of URLs: which of them mean this machine, and which others are
//! listed. Each is parsed as a whole, so that no stranger's name passes for having the right beginning.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The schemes that have no origin without a host, and their default ports.
const WEB: [(&str, &str); 2] = [("http", "80"), ("https", "443")];

/// The origins that are admitted beside loopback ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<Origin>);

impl AllowedOrigins {
    /// Parses origins as a browser or another client sends them, separated by commas.
    ///
    /// # Errors
    /// A sentence that names the first one that cannot be listed, and says what to give.
    pub fn parse(text: &str) -> Result<Self, String> {
        let origins = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        origins
            .map(|origin| Origin::parse(origin).ok_or_else(|| unlistable(origin)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns `true` for a page of this machine, or one of a listed origin.
    pub fn admits(&self, origin: &Origin) -> bool {
        origin.is_loopback() || self.0.contains(origin)
    }

    /// Returns `true` if a listed origin has this host and port, as the `Host` of a request
    /// names them.
    pub fn names_host(&self, host: &str) -> bool {
        let mut listed = self.0.iter();
        listed.any(|origin| origin.authority().eq_ignore_ascii_case(host))
    }
}

fn unlistable(origin: &str) -> String {
    match origin {
        "null" => "\"null\" cannot be listed, because any website can send it; give the origin of a server, such as https://example.org, and open the page from there".into(),
        "*" => "\"*\" cannot be listed, because it stands for every website; give each origin, such as https://example.org".into(),
        _ => format!(
            "\"{origin}\" is not an origin; give it as browsers send it, such as https://example.org, http://10.0.0.7:8080 or file://, and separate several by commas"
        ),
    }
}

/// An origin in lower case and without the default port. Of any scheme, because apps have their
/// own (`capacitor://localhost`). Without a host for those that have none: the clients of
/// small devices send `file://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Returns `None` if the text is not an origin, or `null`: that one cannot be told from
    /// others.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = lower.split_once("://")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let web = WEB.iter().find(|(name, _)| *name == scheme);
        if !is_scheme(scheme) || (authority.is_empty() && web.is_some()) {
            return None;
        }
        if authority.is_empty() {
            return Some(Self(format!("{scheme}://")));
        }
        let (host, port) = split_authority(authority)?;
        let port = port.filter(|port| web.is_none_or(|(_, default)| port != default));
        let origin = match port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Some(Self(origin))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns `true` for a page of a server on this machine.
    fn is_loopback(&self) -> bool {
        let (scheme, _) = self.0.split_once("://").unwrap_or_default();
        WEB.iter().any(|(name, _)| *name == scheme) && is_loopback_authority(self.authority())
    }

    /// Returns the host and the port, if it is not the default one.
    pub fn authority(&self) -> &str {
        let (_, authority) = self.0.split_once("://").unwrap_or_default();
        authority
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Returns `true` for a host, with or without a port, that always means this machine.
pub fn is_loopback_authority(authority: &str) -> bool {
    let Some((host, _)) = split_authority(authority) else {
        return false;
    };
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(is_loopback)
}

/// Returns `true` for an address, with or without a port, of any machine.
pub fn is_address_authority(authority: &str) -> bool {
    split_authority(authority).is_some_and(|(host, _)| address(host).is_some())
}

/// Returns `true` for an address of this machine alone.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Returns the address that a host is, if it is no name.
fn address(host: &str) -> Option<IpAddr> {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(ip) => ip.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => host.parse().ok(),
    }
}

/// Returns the host, an IPv6 address with its brackets, and the port (RFC 3986, section 3.2). Returns
/// `None` for anything else, also with a user in it.
fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    // The brackets have colons in them.
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(end);
    let port = match rest {
        "" => None,
        _ => Some(rest.strip_prefix(':').filter(|port| is_port(port))?),
    };
    (is_name(host) || (host.starts_with('[') && address(host).is_some())).then_some((host, port))
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(origin: &str) -> Option<String> {
        Origin::parse(origin).map(|origin| origin.to_string())
    }

    #[test]
    fn origin_of_any_scheme_is_parsed() {
        let cases = [
            ("https://Chat.Example/", "https://chat.example"),
            ("HTTPS://chat.example:443", "https://chat.example"),
            ("http://chat.example:443", "http://chat.example:443"),
            ("http://10.0.0.7:8080", "http://10.0.0.7:8080"),
            ("http://[FD00::1]:80", "http://[fd00::1]"),
            ("file://", "file://"),
            ("file:///", "file://"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("app://obsidian.md", "app://obsidian.md"),
        ];
        for (origin, expected) in cases {
            assert_eq!(parsed(origin).as_deref(), Some(expected), "{origin}");
        }
    }

    #[test]
    fn text_that_is_no_origin_is_refused() {
        for wrong in [
            "",
            "null",
            "*",
            "chat.example",
            "://chat.example",
            "1a://b",
            "a b://c",
            "https://",
            "http:///",
            "https://*.example",
            "https://a/b",
            "https://a//",
            "https://a?b",
            "https://a,https://b",
            "https://a:b",
            "https://a:+1",
            "https://a:65536",
            "https://a:",
            "https://:80",
            "https://me@a",
            "https://[::1",
            "https://[::1]a",
            "https://[a]",
            "https://::1",
            "https://b\u{fc}cher.example",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn entry_that_cannot_be_listed_is_named() {
        let listed = AllowedOrigins::parse(" https://Chat.Example/ ,file://,");
        let expected = ["https://chat.example", "file://"].map(|origin| Origin(origin.into()));
        assert_eq!(listed, Ok(AllowedOrigins(expected.to_vec())));
        for wrong in ["null", "*", "chat.example", "https://a/b"] {
            let error = AllowedOrigins::parse(&format!("https://a, {wrong},file://"));
            let error = error.expect_err("the entry is wrong");
            assert!(error.starts_with(&format!("\"{wrong}\" ")), "{error}");
        }
    }

    #[test]
    fn loopback_authority_is_parsed_to_its_end() {
        for authority in [
            "127.0.0.1:3100",
            "127.8.9.10",
            "localhost:3100",
            "LOCALHOST",
            "[::1]",
            "[::1]:3100",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback_authority(authority), "{authority}");
        }
        for authority in [
            "",
            ":3100",
            "[::1]evil",
            "[::1].evil:3100",
            "[::1]:3100.evil",
            "[::ffff:127.0.0.1].evil",
            "[::1",
            "::1",
            "[127.0.0.1]",
            "127.0.0.1.evil.example",
            "127.0.0.1:3100:1",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "localhost:3100/x",
            "localhost#",
            "localhost ",
            "0.0.0.0",
        ] {
            assert!(!is_loopback_authority(authority), "{authority}");
        }
    }
}
