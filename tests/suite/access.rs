//! Admission: tokens and what they allow, addresses, proxies, wrong tokens.

use std::process::Command;

use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Server, address_in, binary, status_of};
use crate::state::State;

pub const STRONG: &str = "a-token-of-32-characters-or-more";
/// A token of the minimum length.
const SHORT: &str = "exactly-24-characters-ok";

/// Starts this command as a server on a free port.
pub fn start(command: &mut Command) -> Server {
    let mut server = Server::spawn(command.args(["--port", "0"]));
    server.address = address_in(&server.wait_for_log("listening on "));
    server.initialize();
    server
}

pub fn with_tokens(state: &State) -> Server {
    Server::start(&["--state-dir", state.path()])
}

/// Connects with a token, and waits until the hub knows the client.
pub fn connect(server: &Server, session: &str, token: &str) -> App {
    let mut app = App::open(
        server.address,
        &format!("/?session={session}&token={token}"),
    );
    app.until_pong();
    app
}

/// Returns the response to a handshake with these further headers.
pub fn shake(server: &Server, path: &str, headers: &str) -> String {
    let head = server.handshake(path);
    let head = head.trim_end();
    // A server that lets it in would wait for frames; an empty close ends that.
    let mut bytes = format!("{head}\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(b"\x88\x80\0\0\0\0");
    server.http(&bytes)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A browser sends no token by itself, so a page that shows one was given it.
#[test]
fn valid_token_with_foreign_origin_is_admitted() {
    let server = start(binary().env("CLAUDE_SOCKET_TOKEN", SHORT));
    let right = format!("/?token={SHORT}");
    for origin in ["https://evil.example", "null", "http://localhost:5173"] {
        let origin = format!("Origin: {origin}\r\n");
        assert_eq!(status_of(&shake(&server, &right, &origin)), 101, "{origin}");
        let answer = shake(&server, "/?token=bad", &origin);
        assert_eq!(status_of(&answer), 401, "{origin}: {answer}");
    }
    // Under a name that leads here, too.
    let head = format!(
        "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nOrigin: https://evil.example\r\nAuthorization: Bearer {SHORT}\r\n\r\n"
    );
    assert_eq!(status_of(&server.http(head.as_bytes())), 200);
}

/// Wrong tokens that a page sends from its visitor's browser are counted like others. They must
/// not lock out who has a valid one.
#[test]
fn wrong_tokens_of_page_lock_nobody_out() {
    let server = start(binary().env("CLAUDE_SOCKET_TOKEN", SHORT));
    let page = "Origin: https://evil.example\r\n";
    for _ in 0..10 {
        assert_eq!(status_of(&shake(&server, "/?token=bad", page)), 401);
    }
    assert_eq!(status_of(&shake(&server, "/?token=bad", page)), 429);
    let right = format!("/?token={SHORT}");
    for origin in ["", page, "Origin: http://localhost:5173\r\n"] {
        assert_eq!(status_of(&shake(&server, &right, origin)), 101, "{origin}");
    }
}

/// A picture, a prefetch, a frame or a script of a website can put any token into an address.
#[test]
fn website_learns_nothing_of_token_in_address_and_locks_nobody_out() {
    let server = start(binary().env("CLAUDE_SOCKET_TOKEN", SHORT));
    let here = server.address.to_string();
    let ask = |host: &str, path: &str, headers: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        server.http(head.as_bytes())
    };
    let websites = [
        (
            &*here,
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n",
        ),
        (
            &*here,
            "Sec-Fetch-Site: cross-site\r\nSec-Purpose: prefetch\r\n",
        ),
        (
            &*here,
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
        ),
        (
            &*here,
            "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n",
        ),
        (
            &*here,
            "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
        ),
        (&*here, "Origin: https://evil.example\r\n"),
        (&*here, "Origin: null\r\n"),
        ("rebind.example", "Sec-Fetch-Site: same-origin\r\n"),
        ("[::1]evil", "Sec-Fetch-Site: same-origin\r\n"),
    ];
    for (host, headers) in websites {
        for path in ["/", "/healthz", "/metrics", "/api/x"] {
            let answers =
                [SHORT, "bad"].map(|token| ask(host, &format!("{path}?token={token}"), headers));
            assert_eq!(status_of(&answers[0]), 400, "{headers}: {}", answers[0]);
            assert!(answers[0].contains("token_in_address"), "{}", answers[0]);
            assert_eq!(answers[0], answers[1], "{host} {path} {headers}");
        }
    }
    let evil = "Origin: https://evil.example\r\n";
    for _ in 0..10 {
        assert_eq!(status_of(&shake(&server, "/?token=bad", evil)), 401);
    }
    assert_eq!(status_of(&shake(&server, "/?token=bad", evil)), 429);

    // The owner still has all guesses, in programs and in pages of this machine.
    let own = "Sec-Fetch-Site: same-origin\r\n";
    let local = "Origin: http://localhost:5173\r\nSec-Fetch-Site: same-site\r\n";
    let typed = "Sec-Fetch-Site: none\r\n";
    let right = format!("/healthz?token={SHORT}");
    for headers in ["", own, local, typed] {
        assert_eq!(
            status_of(&ask(&here, "/?token=bad", headers)),
            401,
            "{headers}"
        );
        assert_eq!(status_of(&ask(&here, &right, headers)), 200, "{headers}");
    }
    // What the refusal recommends.
    let bearer = format!("{evil}Authorization: Bearer {SHORT}\r\n");
    assert_eq!(status_of(&ask(&here, "/healthz", &bearer)), 200);
}

/// A program on this machine can connect from any of its addresses.
#[cfg(target_os = "linux")]
#[test]
fn guesses_of_all_loopback_addresses_count_together() {
    use std::io::{Read, Write};
    let server = start(binary().env("CLAUDE_SOCKET_TOKEN", SHORT));
    let guess_from = |last: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("there is a descriptor");
        let from = std::net::SocketAddr::from(([127, 0, 7, last], 0));
        socket.bind(&from.into()).expect("all addresses are there");
        socket
            .connect(&server.address.into())
            .expect("the server listens");
        let mut stream = std::net::TcpStream::from(socket);
        let head = format!(
            "GET /?token=bad HTTP/1.1\r\nHost: {}\r\n\r\n",
            server.address
        );
        stream.write_all(head.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        status_of(&answer)
    };
    for last in 1..=10 {
        assert_eq!(guess_from(last), 401);
    }
    assert_eq!(guess_from(11), 429);
}

/// Each way to show a token, valid or not, and the response.
#[test]
fn token_in_header_query_or_subprotocol_is_admitted() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let dev = state.add("dev", "sender", Some("shed-*"));
    let one = state.add("one", "viewer", Some("shed-1"));
    let server = with_tokens(&state);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let protocols = |list: &str| format!("Sec-WebSocket-Protocol: {list}\r\n");
    let cases = [
        ("/", bearer(&ann), 101, ""),
        ("/", format!("authorization: bEaReR   {ann}\r\n"), 101, ""),
        (&format!("/?token={ann}"), String::new(), 101, ""),
        (
            &format!("/x?a=b&token={ann}&session=s"),
            String::new(),
            101,
            "",
        ),
        (
            "/",
            protocols(&format!("claude-socket, bearer.{ann}")),
            101,
            "sec-websocket-protocol: claude-socket\r\n",
        ),
        (
            "/",
            protocols(&format!("bearer.{ann},claude-socket")),
            101,
            "sec-websocket-protocol: claude-socket\r\n",
        ),
        (
            "/",
            protocols(&format!(
                "bearer.{ann}\r\nSec-WebSocket-Protocol: claude-socket"
            )),
            101,
            "sec-websocket-protocol: claude-socket\r\n",
        ),
        (
            "/",
            protocols(&format!("bearer.{ann}")),
            400,
            "offer claude-socket next to it",
        ),
        // With a valid token, neither Origin nor proxies matter.
        (
            "/",
            bearer(&ann) + "Origin: https://evil.example\r\nX-Forwarded-For: 10.0.0.7\r\n",
            101,
            "",
        ),
        // The same token twice is one; another scheme is for a proxy.
        (&format!("/?token={ann}"), bearer(&ann), 101, ""),
        (
            &format!("/?token={ann}"),
            "Authorization: Basic YTpi\r\n".into(),
            101,
            "",
        ),
        (
            &format!("/?token={ann}"),
            bearer(&dev),
            400,
            "several tokens",
        ),
        ("/", bearer("x") + &bearer(&ann), 400, "several tokens"),
        (
            &format!("/?token=x&token={ann}"),
            String::new(),
            400,
            "several tokens",
        ),
        // None, in many ways.
        ("/", String::new(), 401, "a token is needed here"),
        (
            "/?token=",
            "Authorization: Bearer \r\n".into(),
            401,
            "a token is needed here",
        ),
        (
            "/",
            format!("Authorization: {ann}\r\n"),
            401,
            "a token is needed here",
        ),
        (
            &format!("/?TOKEN={ann}"),
            String::new(),
            401,
            "a token is needed here",
        ),
        // Wrong ones.
        ("/", bearer(&ann[1..]), 401, "not known"),
        ("/", bearer(&format!("{ann}0")), 401, "not known"),
        ("/", bearer(&ann.to_uppercase()), 401, "not known"),
        ("/?token=%00%ff", String::new(), 401, "not known"),
        // Sessions.
        ("/?session=shed-7", bearer(&dev), 101, ""),
        (
            "/?session=house",
            bearer(&dev),
            403,
            "for sessions \\\"shed-*\\\" and not for \\\"house\\\"",
        ),
        ("/", bearer(&dev), 403, "not for \\\"default\\\""),
        ("/", bearer(&one), 101, ""),
        (
            "/?session=shed-2",
            bearer(&one),
            403,
            "not for \\\"shed-2\\\"",
        ),
    ];
    for (path, headers, status, part) in cases {
        let answer = shake(&server, path, &headers);
        let place = format!("{path} {headers}");
        assert_eq!(status_of(&answer), status, "{place}: {answer}");
        assert!(answer.contains(part), "{place}: {answer}");
        for token in [&ann, &dev, &one] {
            assert!(!answer.contains(token.as_str()), "{place}: {answer}");
        }
        assert_eq!(
            status == 401,
            answer.contains("WWW-Authenticate: Bearer"),
            "{answer}"
        );
        if status != 101 {
            let (_, body) = answer
                .split_once("\r\n\r\n")
                .expect("the response has a body");
            let body: Value = serde_json::from_str(body).expect("the body is JSON");
            assert!(body["error"].is_string(), "{body}");
        }
    }
}

/// A browser hides why a WebSocket was refused. The same URL says it to a plain request.
#[test]
fn plain_request_for_socket_is_answered_as_its_handshake() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let dev = state.add("dev", "sender", Some("shed-*"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let cases = [
        ("/".to_owned(), bearer(&ann), 101, ""),
        (format!("/?session=s1&token={ann}"), String::new(), 101, ""),
        ("/any/path?session=shed-7".into(), bearer(&dev), 101, ""),
        ("/".into(), String::new(), 401, "unauthorized"),
        ("/".into(), bearer("wrong"), 401, "unauthorized"),
        ("/".into(), bearer(&dev), 403, "forbidden_session"),
        (
            format!("/?session=house&token={dev}"),
            String::new(),
            403,
            "forbidden_session",
        ),
        (format!("/?token={ann}"), bearer(&dev), 400, "bad_request"),
        (
            format!("/?session={}", "s".repeat(200)),
            bearer(&ann),
            400,
            "bad_request",
        ),
    ];
    compare_plain_with_handshake(&with_tokens(&state), &cases);

    let cases = [
        ("/?session=s1".into(), String::new(), 101, ""),
        (
            "/".into(),
            "Origin: https://evil.example\r\n".into(),
            403,
            "forbidden_origin",
        ),
        (
            "/".into(),
            "Via: 1.1 proxy\r\n".into(),
            403,
            "forbidden_proxy",
        ),
    ];
    compare_plain_with_handshake(&Server::start(&[]), &cases);

    let full = Server::start(&["--max-connections", "1"]);
    let _only = App::connect(&full, "s1");
    let case = ("/".into(), String::new(), 503, "too_many_connections");
    compare_plain_with_handshake(&full, &[case]);
}

/// Sends each path and headers as a handshake and as a plain request, and compares the answers
/// with each other and with the status of the handshake and the code.
fn compare_plain_with_handshake(server: &Server, cases: &[(String, String, u16, &str)]) {
    for (path, headers, status, code) in cases {
        let place = format!("{path} {headers}");
        let handshake = shake(server, path, headers);
        assert_eq!(status_of(&handshake), *status, "{place}: {handshake}");
        let host = server.address;
        let plain = server.http(
            format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n{headers}\r\n"
            )
            .as_bytes(),
        );
        if *status == 101 {
            assert_eq!(status_of(&plain), 200, "{place}: {plain}");
            continue;
        }
        assert_eq!(plain, handshake, "{place}");
        let (_, body) = plain.split_once("\r\n\r\n").expect("there is a body");
        let body: Value = serde_json::from_str(body).expect("the body is JSON");
        assert_eq!(body["code"], *code, "{place}: {body}");
        assert_eq!(body["message"], body["error"], "{place}: {body}");
    }
}

/// Any token is enough for them, whatever its role.
#[test]
fn health_and_metrics_without_token_are_refused() {
    let state = State::new();
    let eve = state.add("eve", "viewer", None);
    let mut server = with_tokens(&state);
    for path in ["/", "/healthz", "/metrics", "/any"] {
        let (status, body) = server.get(path);
        assert_eq!(status, 401, "{path}: {body}");
        assert!(!body.contains("sessions"), "{body}");
    }
    server.token = Some(eve);
    for path in ["/healthz", "/metrics"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
}

#[test]
fn eleventh_wrong_token_in_a_minute_gets_429() {
    let state = State::new();
    let ann = state.add("ann", "operator", None);
    let wrong = "Authorization: Bearer wrong\r\n";
    let server = start(
        binary()
            .args(["--state-dir", state.path()])
            .env("CLAUDE_SOCKET_TOKEN", SHORT),
    );
    for _ in 0..10 {
        assert_eq!(status_of(&shake(&server, "/", wrong)), 401);
    }
    let answer = shake(&server, "/", wrong);
    assert_eq!(status_of(&answer), 429, "{answer}");
    assert!(
        answer.contains("Retry-After: ") && answer.contains("wait a minute"),
        "{answer}"
    );
    // Valid ones still get in.
    let short = format!("Authorization: Bearer {SHORT}\r\n");
    assert_eq!(status_of(&shake(&server, "/", &short)), 101);
    connect(&server, "s1", &ann);
    // A request without a token is no wrong token.
    assert_eq!(status_of(&shake(&server, "/", "")), 401);
}

#[test]
fn env_token_is_an_operator() {
    let mut server = start(binary().env("CLAUDE_SOCKET_TOKEN", SHORT));
    let mut app = connect(&server, "s1", SHORT);
    app.send(&json!({ "type": "hello" }));
    let welcome = app.expect("welcome");
    assert_eq!(
        (&welcome["role"], &welcome["user"]),
        (&json!("operator"), &json!("operator"))
    );
    app.send(&json!({ "type": "message", "content": "hi", "user": "somebody" }));
    assert_eq!(server.next_message()["meta"]["user"], "operator");
    let request = json!({ "request_id": "abcde", "tool_name": "Bash" });
    server.notify("notifications/claude/channel/permission_request", &request);
    app.expect("permission_request");
    assert_eq!(status_of(&shake(&server, "/", "")), 401);

    // A token that isn't percent-encoded in the address.
    let server = start(binary().env("CLAUDE_SOCKET_TOKEN", "a/b+c/d+e/f+g/h+i/j+k/l="));
    connect(&server, "s1", "a/b+c/d+e/f+g/h+i/j+k/l=");
}

#[test]
fn short_or_unprintable_env_token_is_refused_at_start() {
    for token in [
        "hunter2",
        "sixteen-letters!",
        // 23 characters, one too few.
        "twenty-three-characters",
        "with spaces in between",
        "\u{fc}n\u{ef}c\u{f6}de-for-everyone",
    ] {
        let output = binary()
            .env("CLAUDE_SOCKET_TOKEN", token)
            .output()
            .expect("claude-socket runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains("CLAUDE_SOCKET_TOKEN") && stderr.contains("at least 24"),
            "{stderr}"
        );
        assert!(!stderr.contains(token), "{stderr}");
    }
    // Not on the command line, where everyone could see it.
    let output = binary()
        .args(["--token", STRONG])
        .output()
        .expect("claude-socket runs");
    assert_eq!(output.status.code(), Some(2));
}

/// Each header that says that a request came through a proxy.
#[test]
fn proxied_request_without_token_is_refused() {
    let server = Server::start(&[]);
    for header in [
        "X-Forwarded-For: 10.0.0.7",
        "Forwarded: for=10.0.0.7",
        "Via: 1.1 proxy",
        "X-Real-IP: 10.0.0.7",
        "X-Forwarded-Host: a",
        "X-Forwarded-Proto: https",
    ] {
        let answer = shake(&server, "/", &format!("{header}\r\n"));
        assert_eq!(status_of(&answer), 403, "{header}: {answer}");
        assert!(answer.contains("through a proxy"), "{answer}");
    }
    // Where no token is needed, one that is shown is ignored.
    let offered = "Sec-WebSocket-Protocol: claude-socket, bearer.x\r\n";
    let answer = shake(&server, "/?token=y", offered);
    assert_eq!(status_of(&answer), 101, "{answer}");
    assert!(answer.contains("sec-websocket-protocol: claude-socket\r\n"));
}

#[test]
fn foreign_address_is_served_only_while_a_token_exists() {
    let state = State::new();
    let mut server = Server::spawn(binary().args([
        "--port",
        "0",
        "--host",
        "0.0.0.0",
        "--state-dir",
        state.path(),
    ]));
    server.initialize();
    server.wait_for_log("nothing listens: at 0.0.0.0");
    let fetch = json!({ "session_id": "s1" });
    assert!(
        server
            .call("fetch_messages", &fetch)
            .contains("claude-socket token add")
    );

    let ann = state.add("ann", "operator", None);
    let address = address_in(&server.wait_for_log("listening on "));
    server.address = ([127, 0, 0, 1], address.port()).into();
    let mut app = connect(&server, "s1", &ann);
    assert_eq!(server.call("fetch_messages", &fetch), "(no messages)");
    // Under any name.
    let head =
        format!("GET /healthz HTTP/1.1\r\nHost: box.lan\r\nAuthorization: Bearer {ann}\r\n\r\n");
    assert_eq!(status_of(&server.http(head.as_bytes())), 200);

    state.remove("ann");
    assert_eq!(app.close_code(), 4401);
    server.wait_for_log("nothing listens: at 0.0.0.0");
    assert!(server.call("fetch_messages", &fetch).contains("0.0.0.0"));
    assert!(
        std::net::TcpStream::connect(server.address).is_err(),
        "it still listens"
    );

    let ann = state.add("ann", "operator", None);
    assert_eq!(
        address_in(&server.wait_for_log("listening on ")).port(),
        server.address.port()
    );
    connect(&server, "s1", &ann);
}

/// Claude Code must relay its prompts only if there is somebody to answer them.
#[test]
fn permission_capability_needs_an_operator() {
    let declares = |tokens: &[&str], token: &str| {
        let state = State::new();
        for (number, role) in tokens.iter().enumerate() {
            state.add(&format!("t{number}"), role, None);
        }
        let mut command = binary();
        command.args(["--port", "0", "--state-dir", state.path()]);
        command.env("CLAUDE_SOCKET_TOKEN", token);
        let mut server = Server::spawn(&mut command);
        let params = json!({ "protocolVersion": "2025-11-25", "clientInfo": {} });
        let result = server.request("initialize", &params);
        let channels = &result["capabilities"]["experimental"];
        assert!(channels["claude/channel"].is_object(), "{result}");
        channels["claude/channel/permission"].is_object()
    };
    assert!(declares(&[], ""));
    assert!(declares(&["sender", "operator"], ""));
    assert!(declares(&["viewer"], STRONG));
    assert!(declares(&[], STRONG));
    assert!(!declares(&["sender", "viewer"], ""));
}
