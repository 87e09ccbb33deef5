//! Connections and their requests. Where the default would take long, the setting makes it shorter.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;

use claude_socket::server::control::CLIENT_TIMEOUT;
use serde_json::json;

use super::{Check, Row};
use crate::access;
use crate::app::App;
use crate::control;
use crate::raw::Raw;
use crate::server::{Server, TEST_TIMEOUT, status_of};
use crate::state::State;

pub const CHECKS: &[(&str, Check)] = &[
    ("connections", connections),
    ("head of a request", head),
    ("headers of a request", headers),
    ("heads at once that are longer than for one", long_heads),
    ("time for the head of a request", handshake_timeout),
    ("silence of a client", ping_interval),
    ("silence of a client that answers no ping", ping_timeout),
    ("wrong tokens in a minute, of one address", wrong_tokens),
    ("header that a refusal repeats", repeated_header),
    ("what waits for a slow client", backlog),
    (
        "messages that are not complete, or wait for Claude Code",
        pending,
    ),
    ("connections of the control socket", control_connections),
    ("line on the control socket", control_line),
    ("time for a request on the control socket", control_timeout),
];

fn control_connections(row: &Row) {
    let (_server, state) = control::server();
    let path = control::socket(&state);
    let _others: Vec<_> = (0..row.all)
        .map(|_| UnixStream::connect(&path).expect("the server accepts"))
        .collect();
    let said = control::talk(&path, &[]);
    assert_eq!(said[1]["error"]["code"], "busy");
}

fn control_line(row: &Row) {
    let (_server, state) = control::server();
    let request = |length: usize| {
        let request = json!({ "remove": { "all": true } }).to_string();
        format!("{}{request}", " ".repeat(length - request.len()))
    };
    for (length, answers) in [(row.one, 1), (row.one + 1, 0)] {
        let said = control::talk(
            &control::socket(&state),
            &[control::HELLO, &request(length)],
        );
        assert_eq!(said.len(), 1 + answers, "{length}");
    }
}

/// Waiting for it would take too long. That there is such a limit, its own tests show.
fn control_timeout(row: &Row) {
    assert_eq!(
        CLIENT_TIMEOUT.as_millis(),
        u128::try_from(row.one).unwrap_or(0)
    );
}

fn connections(_: &Row) {
    let server = Server::in_process(&["--max-connections", "2"]);
    let _apps = [(); 2].map(|()| App::connect(&server, "s1"));
    let (status, body) = server.get("/");
    assert_eq!(status, 503);
    assert!(body.contains("too_many_connections"), "{body}");
}

/// The end of a head.
const END: &str = "\r\n\r\n";

/// Returns a request whose head has this length, without its [`END`].
fn request_of(server: &Server, length: usize) -> String {
    let start = format!("GET / HTTP/1.1\r\nHost: {}\r\nCookie: ", server.address);
    let cookie = "x".repeat(length - start.len() - END.len());
    start + &cookie
}

fn head(row: &Row) {
    let server = Server::in_process(&[]);
    for (length, status) in [(row.one, 200), (row.one + 1, 431)] {
        let request = request_of(&server, length) + END;
        assert_eq!(request.len(), length);
        assert_eq!(
            status_of(&server.http(request.as_bytes())),
            status,
            "{length}"
        );
    }
}

fn headers(row: &Row) {
    let server = Server::in_process(&[]);
    for (count, status) in [(row.one, 200), (row.one + 1, 431)] {
        let others = "X: y\r\n".repeat(count - 1);
        let host = server.address;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{others}\r\n");
        assert_eq!(
            status_of(&server.http(request.as_bytes())),
            status,
            "{count}"
        );
    }
}

/// Of one too many, one is refused, and the others wait for their ends.
fn long_heads(row: &Row) {
    let server = Server::in_process(&[]);
    let long = request_of(&server, row.one + 1 + END.len());
    let (answered, answers) = crossbeam_channel::unbounded();
    let mut streams: Vec<TcpStream> = (0..=row.all)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).expect("the server listens");
            stream.write_all(long.as_bytes()).expect("the server reads");
            let mut reading = stream.try_clone().expect("there is a descriptor");
            let answered = answered.clone();
            thread::spawn(move || {
                let mut answer = String::new();
                let _ = reading.read_to_string(&mut answer);
                answered.send(status_of(&answer))
            });
            stream
        })
        .collect();
    let next = || answers.recv_timeout(TEST_TIMEOUT).expect("it is answered");
    assert_eq!(next(), 503);
    let short = request_of(&server, row.one) + END;
    assert_eq!(status_of(&server.http(short.as_bytes())), 200);
    for stream in &mut streams {
        // The one that was refused has ended.
        let _ = stream.write_all(END.as_bytes());
    }
    assert!((0..row.all).all(|_| next() == 200));
}

fn handshake_timeout(_: &Row) {
    let server = Server::in_process(&["--handshake-timeout", "100ms"]);
    let answer = server.http(b"GET / HTTP/1.1\r\nHost: ");
    assert_eq!(status_of(&answer), 408, "{answer}");
    assert!(answer.contains("not complete within 100ms"), "{answer}");
}

/// A client that only waits for frames, and answers none.
fn silent_client(flags: &[&str]) -> (Server, Raw) {
    let server = Server::in_process(flags);
    let raw = Raw::connect(&server, "s1");
    (server, raw)
}

const PING: (u8, Vec<u8>) = (0x89, Vec::new());

fn ping_interval(_: &Row) {
    let (_server, mut raw) = silent_client(&["--ping-interval", "20ms"]);
    assert_eq!(raw.read_frame(), PING);
    raw.send_frame(0x8a, b"");
    assert_eq!(raw.read_frame(), PING);
}

fn ping_timeout(_: &Row) {
    let flags = ["--ping-interval", "20ms", "--ping-timeout", "60ms"];
    let (_server, mut raw) = silent_client(&flags);
    assert_eq!(raw.read_frame(), PING);
    assert_eq!(raw.read_frame(), PING);
    let (first, close) = raw.read_frame();
    assert_eq!((first, &close[..2]), (0x88, &1001_u16.to_be_bytes()[..]));
}

fn wrong_tokens(row: &Row) {
    let state = State::new();
    let token = state.add("ann", "operator", None);
    let server = Server::in_process(&["--state-dir", state.path()]);
    let shake = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        access::shake(&server, "/", &header)
    };
    for _ in 0..row.one {
        assert_eq!(status_of(&shake("wrong")), 401);
    }
    let refused = shake("wrong");
    assert_eq!(status_of(&refused), 429, "{refused}");
    assert!(refused.contains("too_many_failures"), "{refused}");
    assert_eq!(status_of(&shake(&token)), 101);
}

fn repeated_header(row: &Row) {
    let server = Server::in_process(&[]);
    let refusal = |host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        server.http(request.as_bytes())
    };
    let host = "x".repeat(row.one);
    assert!(refusal(&host).contains(&host));
    let cut = format!("{}…", &host[1..]);
    let refusal = refusal(&format!("{host}x"));
    assert!(
        !refusal.contains(&host) && refusal.contains(&cut),
        "{refusal}"
    );
}

/// More is said than sockets hold. A client that has the room for it gets it all.
fn backlog(_: &Row) {
    const REPLIES: usize = 256;
    let text = "x".repeat(64 * 1024);
    let slow_client = |max_backlog: &str| {
        let mut server = Server::in_process(&["--max-backlog", max_backlog]);
        let slow = App::connect(&server, "s1");
        for _ in 0..REPLIES {
            server.call("reply", &json!({ "chat_id": "s1", "text": text }));
        }
        (server, slow)
    };
    let (_server, mut slow) = slow_client("1MiB");
    assert_eq!(slow.close_code(), 1013);
    let (_server, mut slow) = slow_client("64MiB");
    for _ in 0..REPLIES {
        slow.expect("reply");
    }
}

fn pending(_: &Row) {
    const SENDERS: usize = 20;
    let text = "x".repeat(300_000);
    // Claude Code reads nothing, so its inbox is full after the first of them.
    let busy_ones = |max_pending: &str| {
        let server = Server::in_process(&["--max-pending", max_pending]);
        let mut senders: Vec<App> = (0..SENDERS)
            .map(|number| App::connect(&server, &format!("s{number}")))
            .collect();
        for app in &mut senders {
            app.send(&json!({ "type": "message", "content": text, "id": "a1" }));
        }
        (server, senders)
    };
    let (server, _senders) = busy_ones("2MiB");
    let none = "\nclaude_socket_refused_total 0\n";
    server.wait_for_health(|_| !server.get("/metrics").1.contains(none));
    let (server, mut senders) = busy_ones("64MiB");
    (0..SENDERS).for_each(|_| drop(server.next_message()));
    for app in &mut senders {
        assert_eq!(app.next()["state"], "accepted");
    }
}
