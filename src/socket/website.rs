//! Requests that a website makes the browser of its visitor send. They come from the address of
//! the visitor, who knows nothing of them.

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};

use super::origin::{AllowedOrigins, Origin, is_address_authority, is_loopback_authority};

/// Fetch Metadata Request Headers (W3C). Browsers send it to servers on this machine and over
/// TLS, and no page can change it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns `true` if a page may have caused the request that is neither this server's nor of an
/// admitted origin, nor the person at the browser.
///
/// The server's own page is only known by a `Host` that nobody can make lead elsewhere: under a
/// name that was rebound to this machine, the page of a website is of the same origin.
pub fn is_sender(headers: &HeaderMap, allowed: &AllowedOrigins) -> bool {
    let own_host = text(headers, &HOST).filter(|host| is_own(host, allowed));
    if headers.contains_key(ORIGIN) {
        let origin = text(headers, &ORIGIN).and_then(Origin::parse);
        return origin.is_none_or(|origin| {
            let is_same =
                own_host.is_some_and(|host| host.eq_ignore_ascii_case(origin.authority()));
            !allowed.admits(&origin) && !is_same
        });
    }
    match text(headers, &SEC_FETCH_SITE) {
        Some("none") => false,
        Some("same-origin") => own_host.is_none(),
        Some(_) => true,
        None => headers.contains_key(SEC_FETCH_SITE) || own_host.is_none(),
    }
}

/// Returns `true` if a browser says that a page caused the request.
pub fn is_page(headers: &HeaderMap) -> bool {
    let typed = text(headers, &SEC_FETCH_SITE) == Some("none");
    headers.contains_key(ORIGIN) || (headers.contains_key(SEC_FETCH_SITE) && !typed)
}

fn is_own(host: &str, allowed: &AllowedOrigins) -> bool {
    is_loopback_authority(host) || is_address_authority(host) || allowed.names_host(host)
}

/// Returns a header that is there once.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn website_is_told_from_programs_and_own_pages() {
        let (here, rebound) = ("127.0.0.1:3100", "rebind.example:3100");
        // Lines of Host, Origin and Sec-Fetch-Site, and whether a website may have sent them.
        let cases = [
            (here, "", "", false),
            (here, "", "none", false),
            (here, "", "same-origin", false),
            // Another server of this machine, but nobody knows which.
            (here, "", "same-site", true),
            (here, "", "cross-site", true),
            (here, "", "new-value", true),
            (here, "", "none same-origin", true),
            (here, "http://localhost:5173", "cross-site", false),
            (here, "https://chat.example", "cross-site", false),
            (here, "https://evil.example", "cross-site", true),
            (here, "https://evil.example", "none", true),
            (here, "https://evil.example", "", true),
            (here, "null", "same-origin", true),
            (here, "http://localhost http://localhost", "", true),
            (rebound, "", "", true),
            (rebound, "", "none", false),
            (rebound, "", "same-origin", true),
            (rebound, "http://rebind.example:3100", "same-origin", true),
            ("[::1]evil", "", "same-origin", true),
            // The name of a proxy that is listed, and an address, which cannot be rebound.
            ("chat.example", "", "same-origin", false),
            ("10.0.0.7:3100", "", "same-origin", false),
            ("10.0.0.7:3100", "http://10.0.0.7:3100", "", false),
            ("10.0.0.7:3100", "http://10.0.0.8:3100", "", true),
        ];
        let allowed = AllowedOrigins::parse("https://chat.example").expect("the origin is valid");
        for (host, origins, sites, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, values) in [(HOST, host), (ORIGIN, origins), (SEC_FETCH_SITE, sites)] {
                for value in values.split_whitespace() {
                    headers.append(&name, value.parse().expect("the value is valid"));
                }
            }
            let is_sender = is_sender(&headers, &allowed);
            assert_eq!(is_sender, expected, "{host} {origins} {sites}");
        }
    }
}
