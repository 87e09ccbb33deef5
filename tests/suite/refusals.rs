//! Refusals: who does what one recommends is admitted.

use serde_json::json;

use crate::access::{shake, start, with_tokens};
use crate::app::App;
use crate::server::{Server, binary, status_of};
use crate::state::State;

/// Sends a handshake that must be refused, and returns the sentence.
fn refusal(server: &Server, path: &str, headers: &str) -> String {
    let answer = shake(server, path, headers);
    let status = status_of(&answer);
    assert!((400..500).contains(&status), "{path} {headers}: {answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("there is a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("the body is JSON");
    let sentence = body["message"].as_str().expect("there is a sentence");
    sentence.to_owned()
}

fn assert_admitted(server: &Server, path: &str, headers: &str) {
    let answer = shake(server, path, headers);
    assert_eq!(status_of(&answer), 101, "{path} {headers}: {answer}");
}

/// The setting in the refusal is one that the server starts with, and that lets this origin in.
#[test]
fn recommended_origins_are_admitted() {
    let server = Server::in_process(&[]);
    for origin in [
        // The clients of ESP and Arduino, as they come.
        "file://",
        "capacitor://localhost",
        "ionic://localhost",
        "chrome-extension://abcdefghijklmnop",
        "moz-extension://6a0f3c1e-0000-4000-8000-000000000000",
        "https://evil.example",
        "https://Chat.Example:443",
        "http://10.0.0.7:8080",
        "http://[fd00::7]",
        "http://[::ffff:10.0.0.7]:8080",
    ] {
        let header = format!("Origin: {origin}\r\n");
        let why = refusal(&server, "/", &header);
        let (_, list) = why
            .split_once("CLAUDE_SOCKET_ALLOWED_ORIGINS=")
            .unwrap_or_else(|| panic!("nothing is recommended: {why}"));
        let other = start(binary().env("CLAUDE_SOCKET_ALLOWED_ORIGINS", list));
        assert_admitted(&other, "/", &header);
        assert_admitted(&other, "/", "Origin: http://localhost:5173\r\n");
        refusal(&other, "/", "Origin: https://other.example\r\n");
    }
}

/// What cannot be listed is not recommended to be.
#[test]
fn unlistable_origins_have_other_advice() {
    let server = Server::in_process(&[]);
    let long = format!("https://{}.example", "a".repeat(300));
    for origin in [
        "null",
        "evil",
        "https://a,https://b",
        "https://a/b",
        "http://[::ffff:127.0.0.1].evil",
        "https://a:b",
        "*",
        &long,
    ] {
        let why = refusal(&server, "/", &format!("Origin: {origin}\r\n"));
        assert!(!why.contains("ALLOWED_ORIGINS"), "{why}");
        assert!(why.contains("http://localhost"), "{why}");
    }
    for origin in ["http://localhost", "http://127.0.0.1"] {
        assert_admitted(&server, "/", &format!("Origin: {origin}\r\n"));
    }
    assert_admitted(&server, "/", "");
}

#[test]
fn recommended_hosts_are_admitted() {
    let server = Server::in_process(&[]);
    let head = |host: &str| {
        let port = server.address.port();
        server
            .handshake("/")
            .replace(&server.address.to_string(), &format!("{host}:{port}"))
    };
    for host in ["evil.example", "[::1]evil", "localhost.evil.example"] {
        let answer = server.http(head(host).as_bytes());
        assert_eq!(status_of(&answer), 403, "{host}: {answer}");
        assert!(answer.contains("127.0.0.1 or localhost"), "{answer}");
    }
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let bytes = [head(host).as_bytes(), b"\x88\x80\0\0\0\0"].concat();
        assert_eq!(status_of(&server.http(&bytes)), 101, "{host}");
    }
}

/// Each request that is refused, a part of what the refusal recommends, and a request that obeys.
#[test]
fn request_that_obeys_its_refusal_is_admitted() {
    let state = State::new();
    let proxied = "X-Forwarded-For: 10.0.0.7\r\n";
    let why = refusal(&Server::start(&["--state-dir", state.path()]), "/", proxied);
    assert!(why.contains("\"claude-socket token add\""), "{why}");

    let ann = state.add("ann", "operator", None);
    let dev = state.add("dev", "sender", Some("shed-*"));
    let server = with_tokens(&state);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let protocols = |list: &str| format!("Sec-WebSocket-Protocol: {list}\r\n");
    assert_admitted(&server, "/", &format!("{proxied}{}", bearer(&ann)));
    let query = format!("?token={ann}");
    let both = format!("bearer.{ann}, claude-socket");
    let cases = [
        (
            "",
            "",
            "\"Authorization: Bearer TOKEN\"",
            "",
            &*bearer(&ann),
        ),
        ("", "", "?token=TOKEN", &*query, ""),
        (
            "",
            "",
            "the WebSocket subprotocol bearer.TOKEN next to claude-socket",
            "",
            &*protocols(&both),
        ),
        (
            "",
            &*protocols(&format!("bearer.{ann}")),
            "offer claude-socket next to it",
            "",
            &*protocols(&both),
        ),
        (&*query, &*bearer(&dev), "show one", &*query, ""),
        (
            "?session=house",
            &*bearer(&dev),
            "for sessions \"shed-*\" and not for \"house\"; name one of those, as ?session=NAME",
            "?session=shed-1",
            &*bearer(&dev),
        ),
    ];
    for (query, headers, advice, better_query, better_headers) in cases {
        let why = refusal(&server, &format!("/{query}"), headers);
        assert!(why.contains(advice), "{why}");
        assert_admitted(&server, &format!("/{better_query}"), better_headers);
    }
}

/// The settings in the rejection go together: the server starts when both are raised.
#[test]
fn long_message_is_taken_after_raising_what_its_rejection_names() {
    let long = json!({ "type": "message", "content": "x".repeat(500_000) });
    let server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    app.send(&long);
    let error = app.expect("error");
    let why = error["message"].as_str().expect("there is a sentence");
    let (_, settings) = why
        .split_once("raise the server's ")
        .unwrap_or_else(|| panic!("nothing is recommended: {why}"));
    let names: Vec<_> = settings.split(" and ").collect();
    let flags: Vec<_> = names.into_iter().zip(["1MiB", "2MiB"]).collect();
    let flags: Vec<_> = flags
        .iter()
        .flat_map(|(name, size)| [*name, *size])
        .collect();
    let server = Server::start(&flags);
    let mut app = App::connect(&server, "s1");
    app.send(&long);
    assert_eq!(server.next_message()["content"], long["content"]);
}
