//! Cross-origin requests: which pages may read the answers of the server.

use crate::access::{STRONG, start};
use crate::app::App;
use crate::server::{Server, binary, status_of};

/// Sends a request with these headers, and returns the head of the response.
fn ask(server: &Server, method: &str, path: &str, headers: &str) -> String {
    let host = server.address;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    let answer = server.http(request.as_bytes());
    let (head, _) = answer.split_once("\r\n\r\n").expect("it is complete");
    assert!(
        head.contains("\r\nVary: Origin\r\n") || head.contains("\r\nVary: Accept, Origin\r\n"),
        "no cache may mix the answers: {head}"
    );
    head.to_owned()
}

/// Checks that a page of this origin may read the response, or that no page may.
fn check_reader(head: &str, origin: Option<&str>) {
    let mut readers = head
        .lines()
        .filter_map(|line| line.strip_prefix("Access-Control-Allow-Origin: "));
    assert_eq!(readers.next(), origin, "{head}");
    assert_eq!(readers.next(), None, "{head}");
    assert!(!head.contains("Allow-Credentials"), "{head}");
}

const PATHS: [&str; 6] = [
    "/",
    "/?session=s1",
    "/healthz",
    "/metrics",
    "/client/claude-socket.js",
    "/api/nothing",
];

#[test]
fn pages_of_admitted_origins_may_read() {
    let server = Server::in_process(&["--allowed-origins", "https://chat.example,file://"]);
    for origin in [
        "http://localhost:5173",
        "http://127.0.0.1",
        "https://chat.example",
        "HTTPS://Chat.Example",
        "file://",
    ] {
        let header = format!("Origin: {origin}\r\n");
        for path in PATHS {
            let head = ask(&server, "GET", path, &header);
            let status = if path.starts_with("/api") { 404 } else { 200 };
            assert_eq!(status_of(&head), status, "{path}: {head}");
            check_reader(&head, Some(origin));
        }
        let tag = "If-None-Match: *\r\n";
        let head = ask(&server, "GET", "/chat.css", &format!("{header}{tag}"));
        assert_eq!(status_of(&head), 304, "{head}");
        check_reader(&head, Some(origin));
        let head = ask(&server, "POST", "/", &header);
        assert_eq!(status_of(&head), 405, "{head}");
        check_reader(&head, Some(origin));
        let head = ask(&server, "GET", "/", &format!("{header}Via: 1.1 a\r\n"));
        assert_eq!(status_of(&head), 403, "{head}");
        check_reader(&head, Some(origin));
    }
    for path in PATHS {
        check_reader(&ask(&server, "GET", path, ""), None);
    }
}

#[test]
fn pages_of_other_origins_may_not_read() {
    let server = Server::in_process(&["--allowed-origins", "https://chat.example"]);
    for origin in [
        "https://evil.example",
        "http://chat.example",
        "http://localhost.evil.example",
        "http://[::ffff:127.0.0.1].evil",
        "file://",
        "null",
        "http://localhost\r\nOrigin: http://localhost",
    ] {
        let header = format!("Origin: {origin}\r\n");
        for path in PATHS {
            let head = ask(&server, "GET", path, &header);
            assert_eq!(status_of(&head), 403, "{path}: {head}");
            check_reader(&head, None);
        }
        let asked = format!("{header}Access-Control-Request-Method: GET\r\n");
        let head = ask(&server, "OPTIONS", "/", &asked);
        assert_eq!(status_of(&head), 403, "{head}");
        check_reader(&head, None);
        assert!(!head.contains("Access-Control-"), "{head}");
    }
}

/// A token counts wherever its page is from, and the page is told why it doesn't.
#[test]
fn with_tokens_any_page_may_read_what_its_token_allows() {
    let server = start(binary().env("CLAUDE_SOCKET_TOKEN", STRONG));
    for origin in ["https://evil.example", "null", "http://localhost:5173"] {
        let header = format!("Origin: {origin}\r\n");
        let token = |token: &str| format!("{header}Authorization: Bearer {token}\r\n");
        for (headers, status) in [
            (header.clone(), 401),
            (token("wrong"), 401),
            (token(STRONG), 200),
        ] {
            let head = ask(&server, "GET", "/?session=s1", &headers);
            assert_eq!(status_of(&head), status, "{head}");
            check_reader(&head, Some(origin));
        }
    }
}

#[test]
fn preflight_of_admitted_page_is_answered_without_token() {
    let servers = [
        Server::in_process(&[]),
        start(binary().env("CLAUDE_SOCKET_TOKEN", STRONG)),
    ];
    let asked = "Origin: http://localhost:5173\r\nAccess-Control-Request-Method: GET\r\n\
                 Access-Control-Request-Headers: authorization\r\n";
    let private = "Access-Control-Request-Private-Network: true\r\n";
    for server in &servers {
        for path in PATHS {
            let head = ask(server, "OPTIONS", path, asked);
            assert_eq!(status_of(&head), 204, "{path}: {head}");
            check_reader(&head, Some("http://localhost:5173"));
            for header in [
                "Access-Control-Allow-Methods: GET, HEAD",
                "Access-Control-Allow-Headers: Authorization",
            ] {
                assert!(head.lines().any(|line| line == header), "{head}");
            }
            assert!(!head.contains("Private-Network"), "{head}");
        }
        let head = ask(server, "OPTIONS", "/", &format!("{asked}{private}"));
        let allowed = "Access-Control-Allow-Private-Network: true";
        assert!(head.lines().any(|line| line == allowed), "{head}");
    }
    // It asks for nothing.
    let head = ask(&servers[0], "OPTIONS", "/", "");
    assert_eq!(status_of(&head), 405, "{head}");
    assert!(head.contains("Allow: GET, HEAD, OPTIONS"), "{head}");
}

#[test]
fn page_may_read_that_the_server_is_full() {
    let server = Server::in_process(&["--max-connections", "1"]);
    let _only = App::connect(&server, "s1");
    let head = ask(&server, "GET", "/", "Origin: http://localhost\r\n");
    assert_eq!(status_of(&head), 503, "{head}");
    check_reader(&head, Some("http://localhost"));
    assert!(head.contains("\r\nRetry-After: 5"), "{head}");
    assert!(
        head.contains("\r\nAccess-Control-Expose-Headers: Retry-After"),
        "{head}"
    );
}
