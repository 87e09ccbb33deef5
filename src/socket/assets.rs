//! Serves the web chat's files: those of `examples/basic` and the client library, built into the
//! binary.
//!
//! Browsers cache them and ask each time whether they are still the same (`no-cache` and an
//! `ETag` made of the content), so that after an upgrade no page is made of two versions.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use http::header::{ACCEPT, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode, Uri};

use super::http::Response;

/// The page may only use files and sockets of the server that it came from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file that is built in.
#[derive(Debug)]
pub struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
    /// The `ETag`, computed from the content at the first request.
    tag: OnceLock<String>,
}

/// Declares files of `examples/basic`, which are served beside the page.
macro_rules! page_files {
    ($($name:literal is $content_type:expr),* $(,)?) => {
        [$(Asset {
            path: concat!("/", $name),
            content_type: $content_type,
            content: include_str!(concat!("../../examples/basic/", $name)),
            tag: OnceLock::new(),
        }),*]
    };
}

/// The page itself.
static PAGE: Asset = Asset {
    path: "/",
    content_type: "text/html; charset=utf-8",
    content: include_str!("../../examples/basic/index.html"),
    tag: OnceLock::new(),
};

/// The client library.
static CLIENT: Asset = Asset {
    path: "/client/claude-socket.js",
    content_type: SCRIPT,
    content: include_str!("../../client/claude-socket.js"),
    tag: OnceLock::new(),
};

/// What belongs to the page.
static FILES: [Asset; 18] = page_files![
    "chat.css" is "text/css; charset=utf-8",
    "chat.js" is SCRIPT,
    "composer.js" is SCRIPT,
    "connection.js" is SCRIPT,
    "dom.js" is SCRIPT,
    "excerpt.js" is SCRIPT,
    "from-disk.js" is SCRIPT,
    "loader.js" is SCRIPT,
    "location.js" is SCRIPT,
    "markdown.js" is SCRIPT,
    "messages.js" is SCRIPT,
    "notify.js" is SCRIPT,
    "permissions.js" is SCRIPT,
    "render.js" is SCRIPT,
    "sanitize.js" is SCRIPT,
    "search.js" is SCRIPT,
    "icon.svg" is "image/svg+xml",
    "manifest.webmanifest" is "application/manifest+json",
];

/// Returns the file at this path, if there is one. The page itself is not among them.
pub fn find(path: &str) -> Option<&'static Asset> {
    FILES
        .iter()
        .chain([&CLIENT])
        .find(|asset| asset.path == path)
}

/// Returns the response to a request for HTML: the page, or a redirection to it.
///
/// The location is relative to the request's, so that it also holds when a proxy serves all this
/// under a path of its own.
pub fn page(uri: &Uri, headers: &HeaderMap) -> Response {
    if uri.path() == PAGE.path {
        return PAGE
            .answer(headers)
            .vary_accept()
            .with("Content-Security-Policy", POLICY)
            .with("X-Frame-Options", "DENY");
    }
    let below = uri.path().matches('/').count().saturating_sub(1);
    let mut location = if below == 0 {
        "./".to_owned()
    } else {
        "../".repeat(below)
    };
    // An address stays in the browser's history, so the token is left out.
    let query = uri.query().unwrap_or_default().split('&');
    let query: Vec<_> = query.filter(|pair| !pair.starts_with("token=")).collect();
    if query.iter().any(|pair| !pair.is_empty()) {
        location.push('?');
        location.push_str(&query.join("&"));
    }
    let body = format!("The web chat is at {location}\n");
    Response::text("text/plain; charset=utf-8", body)
        .status(StatusCode::FOUND)
        .with("Location", location)
        .vary_accept()
}

impl Asset {
    /// Returns the file, or 304 if the browser has this version.
    pub fn answer(&'static self, headers: &HeaderMap) -> Response {
        let tag = self.tag();
        let known = headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|other| other == "*" || other.trim_start_matches("W/") == tag);
        let response = if known {
            Response::empty(StatusCode::NOT_MODIFIED)
        } else {
            Response::text(self.content_type, self.content)
        };
        response
            .cached("no-cache")
            .with("ETag", tag)
            .with("Referrer-Policy", "no-referrer")
    }

    fn tag(&'static self) -> &'static str {
        self.tag.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.content.hash(&mut hasher);
            format!("\"{:016x}\"", hasher.finish())
        })
    }
}

/// Returns `true` if a request asks for HTML, at least as much as for JSON (RFC 9110, 12.5.1). A
/// browser does so when it opens a page; a script that accepts anything doesn't.
pub fn wants_html(headers: &HeaderMap) -> bool {
    let quality = |kind: &str| {
        headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let named = parts.next()?.eq_ignore_ascii_case(kind);
                let weight = parts.find_map(|part| part.strip_prefix("q="));
                named.then(|| weight.map_or(Some(1.0), |weight| weight.parse().ok()))?
            })
            .fold(0.0, f32::max)
    };
    let html = quality("text/html");
    html > 0.0 && html >= quality("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_served_only_if_asked_for() {
        let cases = [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                true,
            ),
            ("text/html", true),
            ("TEXT/HTML ; charset=utf-8", true),
            ("application/json;q=0.5, text/html;q=0.5", true),
            ("application/json, text/html;q=0.9", false),
            ("text/html;q=0", false),
            ("text/html;q=much", false),
            ("application/json, text/plain, */*", false),
            ("*/*", false),
            ("text/htmlx", false),
            ("", false),
        ];
        for (accept, expected) in cases {
            let value = accept.parse().expect("the header value is valid");
            let headers = HeaderMap::from_iter([(ACCEPT, value)]);
            assert_eq!(wants_html(&headers), expected, "{accept}");
        }
        assert!(!wants_html(&HeaderMap::new()));
    }

    #[test]
    fn tag_is_computed_once() {
        for asset in FILES.iter().chain([&PAGE, &CLIENT]) {
            assert!(std::ptr::eq(asset.tag(), asset.tag()), "{}", asset.path);
        }
    }

    #[test]
    fn page_files_stay_small() {
        let files = FILES.iter().chain([&PAGE]);
        let bytes: usize = files.map(|asset| asset.content.len()).sum();
        assert!(bytes < 112 * 1024, "the page's files have {bytes} bytes");
    }
}
