//! Wrong frames: the connection is closed only if RFC 6455 requires it, otherwise they are answered
//! with an error.

use std::io::Write;
use std::net::Shutdown;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::app::App;
use crate::raw::Raw;
use crate::server::Server;

#[test]
fn bad_message_gets_error_and_keeps_connection() {
    let server = Server::in_process(&["--max-message", "1000"]);
    let mut app = App::connect(&server, "s1");
    let long = "x".repeat(1_000);
    let longest = "y".repeat(4_000);
    let cases = [
        (Message::text("{"), "invalid_json", "invalid JSON"),
        (
            Message::text("[]"),
            "invalid_message",
            "a message must be a JSON object",
        ),
        (
            Message::text(r#"{"type":"dance"}"#),
            "unknown_type",
            "unknown message type: dance",
        ),
        (
            Message::text(r#"{"type":"message"}"#),
            "invalid_message",
            "\"content\" is missing",
        ),
        (
            Message::text(format!("{{\"type\":\"message\",\"content\":\"{long}\"}}")),
            "too_large",
            "1000 bytes",
        ),
        (Message::text(longest), "too_large", "1000 bytes"),
        (
            Message::binary(vec![0, 159, 146, 150]),
            "invalid_message",
            "binary",
        ),
        (
            Message::text(r#"{"type":"permission_response","request_id":"abcde","allowed":true}"#),
            "unknown_request",
            "abcde",
        ),
    ];
    for (frame, code, part) in cases {
        app.socket.send(frame).expect("the server reads");
        let error = app.expect("error");
        assert_eq!(error["code"], code, "{error}");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.contains(part)),
            "{error}"
        );
    }
    // The error of a message with an id comes with a rejection of that id.
    app.send(&json!({ "type": "message", "content": long, "id": "a1", "session_id": "s2" }));
    assert_eq!(app.expect("error")["session_id"], "s2");
    let delivery = app.expect("delivery");
    assert_eq!(
        (&delivery["id"], &delivery["code"]),
        (&json!("a1"), &json!("too_large"))
    );
    app.send_message("still here");
    assert_eq!(server.next_message()["content"], "still here");
}

#[test]
fn fragments_with_pings_between_make_one_message() {
    let server = Server::in_process(&[]);
    let mut raw = Raw::connect(&server, "raw");
    raw.send_frame(0x01, br#"{"type":"message","#);
    raw.send_frame(0x89, b"are you there");
    assert_eq!(raw.read_frame(), (0x8a, b"are you there".to_vec()));
    raw.send_frame(0x00, b"\"content\":");
    raw.send_frame(0x80, br#""in parts"}"#);
    assert_eq!(server.next_message()["content"], "in parts");
}

/// A long frame is one message all the same, also with others directly before and behind it.
#[test]
fn long_frames_arrive_whole() {
    let server = Server::in_process(&[]);
    let mut raw = Raw::connect(&server, "raw");
    let mut bytes = Vec::new();
    let lengths = [1, 16_384, 16_385, 70_000, 2, 400_000, 3];
    for length in lengths {
        let content = "x".repeat(length);
        let message = format!(r#"{{"type":"message","content":"{content}"}}"#);
        let header = match message.len() {
            length @ ..126 => vec![0x81, 0x80 | length as u8],
            length @ ..65_536 => [&[0x81, 0xfe], &(length as u16).to_be_bytes()[..]].concat(),
            length => [&[0x81, 0xff], &(length as u64).to_be_bytes()[..]].concat(),
        };
        bytes.extend(header);
        let mask = [1, 2, 3, 4];
        bytes.extend(mask);
        let payload = message.bytes().zip(mask.iter().cycle());
        bytes.extend(payload.map(|(byte, mask)| byte ^ mask));
    }
    raw.stream.write_all(&bytes).expect("the server reads");
    for length in lengths {
        let content = &server.next_message()["content"];
        assert_eq!(content.as_str().map(str::len), Some(length));
    }
}

/// 14 bytes can announce 4 MiB. Where addresses have 32 bits, a few hundred clients would take all of
/// them.
#[cfg(target_os = "linux")]
#[test]
fn memory_for_a_frame_grows_with_what_comes() {
    use crate::server::{address_in, binary};

    const CLIENTS: usize = 200;
    // Each arena of glibc reserves 64 MiB.
    let mut command = binary();
    command.args(["--port", "0"]).env("MALLOC_ARENA_MAX", "1");
    let mut server = Server::spawn(&mut command);
    server.address = address_in(&server.wait_for_log("listening on "));
    server.initialize();
    let mut clients: Vec<Raw> = (0..CLIENTS).map(|_| Raw::connect(&server, "raw")).collect();
    let before = server.memory("VmSize");
    for raw in &mut clients {
        let frame = b"\x81\xff\0\0\0\0\0\x3f\0\0\0\0\0\0{";
        raw.stream.write_all(frame).expect("the server reads");
    }
    wait_until_all_is_read(&server);
    let grown = server.memory("VmSize") - before;
    assert!(grown < 100 << 10, "{grown} KiB for {CLIENTS} headers");
}

/// Waits until the server has read everything that clients have sent (proc_net_tcp(5)).
#[cfg(target_os = "linux")]
fn wait_until_all_is_read(server: &Server) {
    let port = format!(":{:04X}", server.address.port());
    let is_unread = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && !fields[4].ends_with(":00000000")
    };
    let deadline = std::time::Instant::now() + crate::server::TEST_TIMEOUT;
    while std::fs::read_to_string("/proc/net/tcp")
        .expect("the system says it")
        .lines()
        .any(is_unread)
    {
        assert!(std::time::Instant::now() < deadline, "it never reads");
    }
}

/// Each violation of RFC 6455, and its close code.
#[test]
fn protocol_violation_is_closed_with_its_code() {
    let server = Server::in_process(&["--max-message", "1000"]);
    let mut healthy = App::connect(&server, "s1");
    let cases: &[(&str, &[u8], u16)] = &[
        ("an unmasked frame", b"\x81\x02hi", 1002),
        ("a reserved bit", b"\xc1\x80\0\0\0\0", 1002),
        ("a reserved opcode", b"\x83\x80\0\0\0\0", 1002),
        ("a reserved control opcode", b"\x8b\x80\0\0\0\0", 1002),
        ("a fragmented ping", b"\x09\x80\0\0\0\0", 1002),
        ("a ping that is too long", b"\x89\xfe\0\x7e\0\0\0\0", 1002),
        ("a length in three bytes", b"\x81\xfe\0\x02\0\0\0\0hi", 1002),
        (
            "a length in nine bytes",
            b"\x81\xff\0\0\0\0\0\0\0\x02\0\0\0\0hi",
            1002,
        ),
        ("a continuation of nothing", b"\x80\x80\0\0\0\0", 1002),
        (
            "a new message amid fragments",
            b"\x01\x81\0\0\0\0a\x81\x81\0\0\0\0b",
            1002,
        ),
        ("text that is not UTF-8", b"\x81\x82\0\0\0\0\xc3\x28", 1007),
        (
            "UTF-8 that breaks off between fragments",
            b"\x01\x81\0\0\0\0\xc3\x80\x81\0\0\0\0(",
            1007,
        ),
        (
            "a gibibyte announced",
            b"\x81\xff\0\0\0\0\x40\0\0\0\0\0\0\0",
            1009,
        ),
        (
            "2^63 bytes announced",
            b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
            1009,
        ),
        (
            "a close code that may not be sent",
            b"\x88\x82\0\0\0\0\x03\xed",
            1002,
        ),
        (
            "a close reason that is not UTF-8",
            b"\x88\x84\0\0\0\0\x03\xe8\xc3\x28",
            1007,
        ),
        ("half a close code", b"\x88\x81\0\0\0\0\x03", 1002),
    ];
    for (violation, bytes, code) in cases {
        let mut raw = Raw::connect(&server, "raw");
        let padding = vec![0; if *code == 1002 { 130 } else { 0 }];
        raw.stream.write_all(bytes).expect(violation);
        let _ = raw.stream.write_all(&padding);
        let (opcode, payload) = loop {
            let (opcode, payload) = raw.read_frame();
            // 1009 comes after an error with a code for programs.
            if opcode != 0x81 {
                break (opcode, payload);
            }
            let error: Value = serde_json::from_slice(&payload).expect("an error is JSON");
            assert_eq!(error["code"], "too_large", "{violation}");
        };
        assert_eq!(opcode, 0x88, "{violation}");
        assert_eq!(
            u16::from_be_bytes([payload[0], payload[1]]),
            *code,
            "{violation}"
        );
        assert_eq!(
            raw.read_to_end(),
            b"",
            "{violation}: the close is the last frame"
        );
        healthy.send_message(violation);
        assert_eq!(server.next_message()["content"], *violation);
    }
    server.wait_for_health(|health| health["clients"] == 1);
}

#[test]
fn close_is_answered_with_its_own_code() {
    let server = Server::in_process(&[]);
    for (code, reason) in [(1000, "done"), (1001, ""), (4000, "mine")] {
        let mut app = App::connect(&server, "s1");
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: reason.into(),
        };
        app.socket.close(Some(frame)).expect("the server reads");
        assert_eq!(app.close_code(), code);
    }
    // A close without a code is answered without one.
    let mut raw = Raw::connect(&server, "raw");
    raw.send_frame(0x88, b"");
    assert_eq!(raw.read_frame(), (0x88, Vec::new()));
    assert_eq!(raw.read_to_end(), b"");
    server.wait_for_health(|health| health["clients"] == 0);
}

/// The client connects, sends and disconnects at once.
#[test]
fn last_message_before_disconnect_is_delivered() {
    let server = Server::in_process(&[]);
    for number in 0..50 {
        let mut app = App::open(server.address, "/?session=s1");
        app.send_message(&format!("message {number}"));
        app.socket
            .get_ref()
            .shutdown(Shutdown::Both)
            .expect("the socket is open");
        drop(app);
        assert_eq!(
            server.next_message()["content"],
            format!("message {number}")
        );
    }
    server.wait_for_health(|health| health["clients"] == 0);
}

#[test]
fn session_id_may_have_any_script_and_no_control_characters() {
    let mut server = Server::in_process(&[]);
    for (encoded, name) in [
        ("caf%C3%A9", "café"),
        ("%F0%9F%A4%96", "🤖"),
        ("a+b%20c", "a b c"),
        ("%22quoted%22%3C%26", "\"quoted\"<&"),
        ("..%2F..%2Fetc", "../../etc"),
        ("", "default"),
    ] {
        let mut app = App::open(server.address, &format!("/any/path?x=1&session={encoded}"));
        app.send_message("hi");
        assert_eq!(server.next_message()["meta"]["chat_id"], name);
        assert_eq!(
            server.call("reply", &json!({ "chat_id": name, "text": "yo" })),
            "sent"
        );
        assert_eq!(app.expect("reply")["session_id"], name);
    }
    let long = "x".repeat(129);
    for encoded in ["a%0Ab", "%00", "%C2%85", &long] {
        let head = server.handshake(&format!("/?session={encoded}"));
        let answer = server.http(head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{encoded}: {answer}");
    }
}
