//! Plain HTTP on the same port: health, metrics, admission and every refusal.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Server, TEST_TIMEOUT, binary, status_of};

#[test]
fn unreserved_path_answers_health() {
    let mut server = Server::in_process(&[]);
    let _ann = App::connect(&server, "s1");
    let _bob = App::connect(&server, "s2");
    for path in ["/", "/healthz", "/any/other?x=y"] {
        let (status, body) = server.get(path);
        let health: Value = serde_json::from_str(&body).expect("the body is JSON");
        assert_eq!(status, 200);
        let expected = json!({
            "status": "ok", "sessions": 2, "clients": 2, "permissions": 0,
            "server": "claude-socket", "version": env!("CARGO_PKG_VERSION"), "pid": server.pid(),
            "host": { "name": "claude-code", "version": "2.1.330", "ready": true },
        });
        crate::story::compare(&health, &expected, &mut Default::default(), path);
    }
    server.call("reply", &json!({ "chat_id": "s1", "text": "x" }));
    let (status, metrics) = server.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "claude_socket_sessions 2",
        "claude_socket_clients 2",
        "claude_socket_replies_total 1",
    ] {
        assert!(
            metrics.lines().any(|other| other == line),
            "{line} is missing in {metrics}"
        );
    }
    let head =
        server.http(format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).as_bytes());
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

/// Each request, its status, and a part of the sentence in the body.
#[test]
fn refusal_has_status_and_sentence() {
    let flags = [
        "--handshake-timeout",
        "300ms",
        "--allowed-origins",
        "https://chat.example",
    ];
    let server = Server::in_process(&flags);
    let host = format!("Host: {}\r\n", server.address);
    let upgrade = format!("{host}Connection: Upgrade\r\nUpgrade: websocket\r\n");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let shake = format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n");
    let get = |headers: &str| format!("GET / HTTP/1.1\r\n{headers}\r\n");
    let many = "X: y\r\n".repeat(65);
    let long = format!("X: {}\r\n", "y".repeat(64 * 1024));
    let cases = [
        (
            get("Host: evil.example\r\n"),
            403,
            "connect to 127.0.0.1 or localhost",
        ),
        (get(""), 403, "connect to 127.0.0.1 or localhost"),
        (
            get(&format!("{host}{host}")),
            403,
            "more than one host header",
        ),
        (
            get(&format!("{host}Origin: https://evil.example\r\n")),
            403,
            "CLAUDE_SOCKET_ALLOWED_ORIGINS=https://evil.example",
        ),
        (
            get(&format!("{shake}Origin: https://evil.example\r\n")),
            403,
            "CLAUDE_SOCKET_ALLOWED_ORIGINS",
        ),
        (
            get(&format!("{shake}Origin: null\r\n")),
            403,
            "http://localhost",
        ),
        (
            get(&format!("{host}Origin: http://localhost:5173\r\n")),
            200,
            "",
        ),
        (
            get(&format!("{host}Origin: https://chat.example\r\n")),
            200,
            "",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 2\r\n\r\nhi"),
            405,
            "over the WebSocket",
        ),
        (
            get(&format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n")),
            426,
            "version 13",
        ),
        (
            get(&format!("{upgrade}Sec-WebSocket-Version: 13\r\n")),
            400,
            "handshake",
        ),
        (
            get(&format!(
                "{upgrade}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"
            )),
            400,
            "handshake",
        ),
        (get(&format!("{host}{many}")), 431, "64 headers"),
        (get(&format!("{host}{long}")), 431, "64 KiB"),
        ("x".repeat(65 * 1024), 431, "64 KiB"),
        ("hello\r\n\r\n".into(), 400, "not HTTP/1.1"),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".into(), 400, "not HTTP/1.1"),
        (
            "GET / HTTP/1.1\r\nHost: ".into(),
            408,
            "not complete within 300ms",
        ),
    ];
    for (request, status, part) in cases {
        let answer = server.http(request.as_bytes());
        let place = &request[..request.len().min(200)];
        assert_eq!(status_of(&answer), status, "{place}: {answer}");
        assert!(answer.contains(part), "{place}: {answer}");
        if status != 200 {
            let (_, body) = answer
                .split_once("\r\n\r\n")
                .expect("the response has a body");
            let body: Value = serde_json::from_str(body).expect("the body is JSON");
            assert!(body["error"].is_string(), "{body}");
            assert!(body["code"].is_string(), "{body}");
            assert_eq!(body["message"], body["error"]);
        }
    }
}

/// Of several lines of a list, and of tabs between its items (RFC 9110, sections 5.3 and 5.6.3).
#[test]
fn handshake_with_lists_is_answered() {
    let server = Server::in_process(&[]);
    let (connection, upgrade) = ("Connection: Upgrade\r\n", "Upgrade: websocket\r\n");
    let lists = [
        ("Connection: keep-alive\r\nConnection: Upgrade\r\n", upgrade),
        ("Connection: Upgrade\r\nconnection: keep-alive\r\n", upgrade),
        ("Connection: keep-alive,\tUpgrade\r\n", upgrade),
        ("Connection: keep-alive\t,\tupgrade\t, x\r\n", upgrade),
        ("Connection:\tUpgrade\r\n", upgrade),
        (connection, "Upgrade: h2c\r\nUpgrade: websocket\r\n"),
        (connection, "Upgrade: WebSocket\r\nUpgrade: h2c\r\n"),
        (connection, "Upgrade: h2c,\twebsocket\r\n"),
    ];
    let usual = server.handshake("/");
    let shake = |lists: String| {
        let head = usual.replace(&format!("{connection}{upgrade}"), &lists);
        // An empty close, which ends what the server would wait for.
        let answer = server.http(&[head.as_bytes(), b"\x88\x80\0\0\0\0"].concat());
        (status_of(&answer), answer)
    };
    for (connection, upgrade) in lists {
        let (status, answer) = shake(format!("{connection}{upgrade}"));
        assert_eq!(status, 101, "{connection}{upgrade}: {answer}");
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    }
    for other in ["", "Connection: close\r\n", "Connection: not-upgrade\r\n"] {
        let (status, answer) = shake(format!("{other}{upgrade}"));
        assert_eq!(status, 400, "{other}: {answer}");
    }
    for other in ["", "Upgrade: h2c\r\n", "Upgrade: websocket2\r\n"] {
        let (status, answer) = shake(format!("{connection}{other}"));
        assert_eq!(status, 200, "a plain request: {answer}");
    }
}

/// The cookies of all apps on localhost come with every request there.
#[test]
fn cookies_of_other_apps_are_no_obstacle() {
    let server = Server::in_process(&[]);
    let cookies = |bytes: usize| format!("Cookie: a={}\r\n\r\n", "x".repeat(bytes));
    for bytes in [8 * 1024, 32 * 1024, 63 * 1024] {
        let host = server.address;
        let page = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n{}",
            cookies(bytes)
        );
        assert_eq!(status_of(&server.http(page.as_bytes())), 200, "{bytes}");
        // Byte by byte, also where the head ends.
        let head = server.handshake("/?session=s1");
        let head = format!("{}\r\n{}", head.trim_end(), cookies(bytes));
        let (most, rest) = head.split_at(head.len() - 3);
        let mut stream = TcpStream::connect(host).expect("the server listens");
        stream.write_all(most.as_bytes()).expect("the server reads");
        for byte in rest.bytes() {
            stream.write_all(&[byte]).expect("the server reads");
        }
        let message = br#"{"type":"message","content":"hi"}"#;
        let mut frame = vec![0x81, 0x80 | 33, 0, 0, 0, 0];
        frame.extend_from_slice(message);
        stream.write_all(&frame).expect("the server reads");
        assert_eq!(server.next_message()["content"], "hi", "{bytes}");
    }
}

/// Nobody has to show a token for the memory of a head.
#[test]
fn few_long_heads_are_read_at_the_same_time() {
    const ALLOWED: usize = 32;
    const MORE: usize = 8;
    let server = Server::in_process(&[]);
    let host = server.address;
    let (answered, answers) = std::sync::mpsc::channel();
    let mut streams: Vec<TcpStream> = (0..ALLOWED + MORE)
        .map(|_| {
            let mut stream = TcpStream::connect(host).expect("the server listens");
            let long = "x".repeat(9 * 1024);
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {long}");
            stream.write_all(head.as_bytes()).expect("the server reads");
            let mut reading = stream.try_clone().expect("there is a descriptor");
            let answered = answered.clone();
            std::thread::spawn(move || {
                let mut answer = Vec::new();
                let _ = reading.read_to_end(&mut answer);
                let _ = answered.send(String::from_utf8_lossy(&answer).into_owned());
            });
            stream
        })
        .collect();
    let next = || answers.recv_timeout(TEST_TIMEOUT).expect("it is answered");
    for _ in 0..MORE {
        let answer = next();
        assert_eq!(status_of(&answer), 503, "{answer}");
        assert!(
            answer.contains("Retry-After: ") && answer.contains("\"busy\""),
            "{answer}"
        );
    }
    assert_eq!(server.get("/").0, 200, "short ones are read");
    for stream in &mut streams {
        // Those that were refused have ended.
        let _ = stream.write_all(b"\r\n\r\n");
    }
    for _ in 0..ALLOWED {
        assert_eq!(status_of(&next()), 200);
    }
}

#[test]
fn connection_over_limit_gets_503() {
    let server = Server::in_process(&["--max-connections", "2"]);
    let ann = App::connect(&server, "s1");
    let mut bob = App::connect(&server, "s1");
    let (status, body) = server.get("/");
    assert_eq!(status, 503);
    assert!(body.contains("all 2 connections are in use"), "{body}");
    drop(ann);
    bob.send_message("still here");
    assert_eq!(server.next_message()["content"], "still here");
    // Freed places can be had again.
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    while server.get("/").0 != 200 {
        assert!(
            std::time::Instant::now() < deadline,
            "the place was never freed"
        );
    }
}

/// With few file descriptors there are fewer connections, and none that hangs.
#[test]
fn connection_over_file_limit_gets_503() {
    let mut shell = std::process::Command::new("sh");
    let script = "ulimit -n 40; exec \"$0\" --port 0";
    shell.arg("-c").arg(script).arg(binary().get_program());
    let mut server = Server::spawn(&mut shell);
    server.address = crate::server::address_in(&server.wait_for_log("listening on "));
    server.initialize();
    let mut apps: Vec<App> = (0..8).map(|_| App::connect(&server, "s1")).collect();
    assert_eq!(server.get("/").0, 503);
    apps[0].send_message("still here");
    assert_eq!(server.next_message()["content"], "still here");
}

#[test]
fn silent_client_is_pinged_then_dropped() {
    let server = Server::in_process(&["--ping-interval", "100ms", "--ping-timeout", "300ms"]);
    let mut answering = App::connect(&server, "s1");
    let mut silent = TcpStream::connect(server.address).expect("the server listens");
    let head = server.handshake("/");
    silent.write_all(head.as_bytes()).expect("the server reads");
    silent
        .set_read_timeout(Some(TEST_TIMEOUT))
        .expect("the timeout is valid");
    let dropped = std::thread::spawn(move || {
        let mut all = Vec::new();
        silent
            .read_to_end(&mut all)
            .expect("the server closes the connection");
        all
    });
    // A client that only listens answers pings by itself, and stays.
    while !dropped.is_finished() {
        answering
            .socket
            .get_ref()
            .set_read_timeout(Some(std::time::Duration::from_millis(50)))
            .expect("the timeout is valid");
        let _ = answering.socket.read();
    }
    let all = dropped.join().expect("the reader does not panic");
    let end = all
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .expect("the handshake is answered")
        + 4;
    let frames = &all[end..];
    assert!(
        frames.starts_with(b"\x89\x00\x89\x00\x88"),
        "two pings and a close: {frames:?}"
    );
    server.wait_for_health(|health| health["clients"] == 1);
    answering
        .socket
        .get_ref()
        .set_read_timeout(Some(TEST_TIMEOUT))
        .expect("the timeout is valid");
    assert_eq!(answering.until_pong(), [] as [Value; 0]);
}
