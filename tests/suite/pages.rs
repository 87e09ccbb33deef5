//! The web chat's files over HTTP: who gets them, and their headers.

use serde_json::Value;

use crate::server::{Server, status_of};

/// The `Accept` of a browser that opens a page.
const BROWSER: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

/// Sends a request. Returns the head and the body of the response.
fn ask(server: &Server, method: &str, path: &str, headers: &str) -> (String, String) {
    let host = server.address;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    let answer = server.http(request.as_bytes());
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .expect("the response is complete");
    (head.to_owned(), body.to_owned())
}

fn get(server: &Server, path: &str, accept: &str) -> (String, String) {
    ask(server, "GET", path, &format!("Accept: {accept}\r\n"))
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut values = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value);
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice");
    value
}

#[test]
fn root_is_html_for_browsers_and_json_for_scripts() {
    let server = Server::start(&[]);
    for accept in [BROWSER, "text/html", "text/html, application/json;q=0.9"] {
        let (head, body) = get(&server, "/?session=s1", accept);
        assert_eq!(status_of(&head), 200);
        assert_eq!(
            header(&head, "Content-Type"),
            Some("text/html; charset=utf-8")
        );
        assert!(body.starts_with("<!doctype html>"), "{accept}: {body}");
    }
    // curl, fetch, axios, and one who says nothing.
    for accept in [
        "*/*",
        "application/json, text/plain, */*",
        "text/html;q=0.1, application/json",
        "",
    ] {
        for path in ["/", "/any/other"] {
            let (head, body) = get(&server, path, accept);
            assert_eq!(header(&head, "Content-Type"), Some("application/json"));
            assert_eq!(header(&head, "Vary"), Some("Accept, Origin"));
            let health: Value = serde_json::from_str(&body).expect("the body is JSON");
            assert_eq!(health["status"], "ok", "{accept}");
        }
    }
    for (path, kind) in [
        ("/healthz", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ] {
        let (head, _) = get(&server, path, BROWSER);
        assert_eq!(header(&head, "Content-Type"), Some(kind), "{path}");
    }
}

/// The location is relative, so that it also holds behind a proxy that serves this under a path.
#[test]
fn browser_at_unknown_path_is_redirected_to_page() {
    let server = Server::start(&[]);
    let cases = [
        ("/chat", "./"),
        ("/chat?session=s%201&x", "./?session=s%201&x"),
        ("/a/b/c", "../../"),
        ("/a/", "../"),
        ("/index.html", "./"),
        ("//evil.example/x", "../../"),
        ("/chat.cssx?y", "./?y"),
        ("/chat?token=secret", "./"),
        ("/chat?a&token=secret&session=s1", "./?a&session=s1"),
    ];
    for (path, location) in cases {
        let (head, _) = get(&server, path, BROWSER);
        assert_eq!(status_of(&head), 302, "{path}");
        assert_eq!(header(&head, "Location"), Some(location), "{path}");
        assert_eq!(header(&head, "Vary"), Some("Accept, Origin"), "{path}");
        assert_eq!(header(&head, "Cache-Control"), Some("no-store"), "{path}");
    }
}

#[test]
fn asset_has_type_and_is_revalidated() {
    let server = Server::start(&[]);
    let files = [
        ("/", "text/html; charset=utf-8"),
        ("/chat.css", "text/css; charset=utf-8"),
        ("/chat.js", "text/javascript; charset=utf-8"),
        ("/from-disk.js", "text/javascript; charset=utf-8"),
        ("/client/claude-socket.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/manifest.webmanifest", "application/manifest+json"),
    ];
    for (path, kind) in files {
        let (head, body) = get(&server, path, BROWSER);
        assert_eq!(status_of(&head), 200, "{path}");
        assert_eq!(header(&head, "Content-Type"), Some(kind), "{path}");
        let length = body.len().to_string();
        assert_eq!(
            header(&head, "Content-Length"),
            Some(&*length),
            "{path}: not all of it is ASCII, or it is cut"
        );
        for (name, value) in [
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ] {
            assert_eq!(header(&head, name), Some(value), "{path}");
        }
        let tag = header(&head, "ETag").expect("the file has a tag");

        // The same length and headers, and no body.
        let accept = format!("Accept: {BROWSER}\r\n");
        let (bare, nothing) = ask(&server, "HEAD", path, &accept);
        assert_eq!((&*bare, &*nothing), (&*head, ""), "{path}");

        // The browser has it already, or something else.
        for known in [
            tag.to_owned(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".into(),
        ] {
            let (head, body) = ask(
                &server,
                "GET",
                path,
                &format!("{accept}If-None-Match: {known}\r\n"),
            );
            assert_eq!((status_of(&head), &*body), (304, ""), "{path} {known}");
            assert_eq!(header(&head, "ETag"), Some(tag), "{path}");
            assert_eq!(header(&head, "Content-Length"), None, "{path}");
        }
        let changed = format!("{accept}If-None-Match: \"0123456789abcdef\"\r\n");
        let (head, _) = ask(&server, "GET", path, &changed);
        assert_eq!(status_of(&head), 200, "{path}");
    }
}

#[test]
fn page_policy_allows_only_own_server() {
    let server = Server::start(&[]);
    let (head, page) = get(&server, "/", BROWSER);
    let policy = header(&head, "Content-Security-Policy").expect("the page has a policy");
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        let found = policy.split(';').any(|other| other.trim() == directive);
        assert!(found, "{directive} is not in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"));
    assert_eq!(header(&head, "X-Frame-Options"), Some("DENY"));
    assert_eq!(header(&head, "Vary"), Some("Accept, Origin"));
    // Everything that the page names is there.
    let named = page.split('"').filter(|part| {
        let extension = part.rsplit_once('.').map(|(_, extension)| extension);
        matches!(extension, Some("js" | "css" | "svg" | "webmanifest"))
    });
    let mut count = 0;
    for name in named {
        let (head, _) = get(&server, &format!("/{name}"), "*/*");
        assert_ne!(header(&head, "ETag"), None, "{name}");
        count += 1;
    }
    assert!(count >= 5, "{page}");
}

/// A program that misspells a path must not get the health or a page in place of what it wants.
#[test]
fn unknown_path_for_programs_is_not_found() {
    let server = Server::start(&[]);
    for path in [
        "/api/",
        "/api/sessions/s1/messages?since=1",
        "/files/x/y.png",
        "/client/",
        "/client/claude-socket.mjs",
        "/client/claude-socket.js/",
        "/metrics/",
        "/metrics.json",
    ] {
        for accept in [BROWSER, "application/json", "*/*"] {
            let (head, body) = get(&server, path, accept);
            assert_eq!(status_of(&head), 404, "{path}: {body}");
            assert_eq!(header(&head, "Content-Type"), Some("application/json"));
            assert_eq!(header(&head, "Cache-Control"), Some("no-store"));
            let length = body.len().to_string();
            assert_eq!(header(&head, "Content-Length"), Some(&*length));
            let body: Value = serde_json::from_str(&body).expect("the body is JSON");
            assert_eq!(body["status"], "error");
            let sentence = body["error"].as_str().expect("there is a sentence");
            assert!(sentence.contains("/healthz"), "{sentence}");

            let (bare, nothing) = ask(&server, "HEAD", path, &format!("Accept: {accept}\r\n"));
            assert_eq!((&*bare, &*nothing), (&*head, ""), "{path}");
        }
    }
    // What is known there, and what only looks like it.
    for path in [
        "/client/claude-socket.js",
        "/metrics",
        "/metrics?x",
        "/api",
        "/files",
        "/apis/x",
    ] {
        let (head, _) = get(&server, path, "*/*");
        assert_eq!(status_of(&head), 200, "{path}");
    }
    for path in ["/api", "/clients/x", "/x/api/"] {
        let (head, _) = get(&server, path, BROWSER);
        assert_eq!(status_of(&head), 302, "{path}");
    }
    // A WebSocket is one at every path.
    let answer =
        server.http(&[server.handshake("/api/x").as_bytes(), b"\x88\x80\0\0\0\0"].concat());
    assert_eq!(status_of(&answer), 101, "{answer}");
    let (head, _) = ask(&server, "POST", "/api/x", "Content-Length: 0\r\n");
    assert_eq!(status_of(&head), 405, "{head}");
}

/// The page can be loaded without a token, and then asks for it. Nothing else can be.
#[test]
fn static_page_needs_no_token() {
    let env = (
        "CLAUDE_SOCKET_TOKEN",
        "a-token-that-is-long-enough-to-be-one",
    );
    let mut server = Server::spawn(
        crate::server::binary()
            .args(["--port", "0"])
            .env(env.0, env.1),
    );
    server.address = crate::server::address_in(&server.wait_for_log("listening on "));
    for path in ["/", "/chat.js", "/client/claude-socket.js"] {
        let (head, _) = get(&server, path, BROWSER);
        assert_eq!(status_of(&head), 200, "{path}");
    }
    for (path, accept) in [
        ("/", "*/*"),
        ("/healthz", BROWSER),
        ("/metrics", BROWSER),
        ("/api/x", BROWSER),
        ("/client/x.js", BROWSER),
    ] {
        let (head, _) = get(&server, path, accept);
        assert_eq!(status_of(&head), 401, "{path}");
    }
}
