//! Faults of clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::SockRef;

use super::{Scene, faults, healthy};
use crate::app::App;
use crate::raw::Raw;
use crate::server::{Server, TEST_TIMEOUT, status_of};

/// The clients with the same fault.
const CLIENTS: usize = 50;
/// The start of a text frame of 200 bytes, masked with zeros.
const HALF_A_FRAME: &[u8] = b"\x81\xfe\0\xc8\0\0\0\0{\"type\":\"mess";

faults! {
    reset_mid_frame_frees_connection(scene) [] {
        for number in 0..CLIENTS {
            let mut raw = Raw::connect(&scene.agent.server, "s1");
            raw.stream.write_all(HALF_A_FRAME).expect("the server reads");
            if number % 2 == 0 {
                reset(&raw.stream);
            }
        }
        wait_for_disconnects(scene);
    }

    reset_mid_handshake_frees_connection(scene) [] {
        for number in 0..CLIENTS {
            let mut stream = connect(&scene.agent.server);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: 127").expect("the server reads");
            if number % 2 == 0 {
                reset(&stream);
            }
        }
    }

    /// They send nothing, not even the end of the connection.
    silent_connections_are_dropped(scene) ["--ping-interval", "100ms", "--ping-timeout", "300ms"] {
        let mut mute: Vec<Raw> = (0..CLIENTS)
            .map(|_| Raw::connect(&scene.agent.server, healthy::SESSION))
            .collect();
        for raw in &mut mute[CLIENTS / 2..] {
            raw.stream.write_all(HALF_A_FRAME).expect("the server reads");
        }
        wait_for_disconnects(scene);
        drop(mute);
    }

    /// They request much history and read nothing.
    unread_responses_disturb_nobody(scene) [] {
        let server = &scene.agent.server;
        let mut rich = App::connect(server, "rich");
        let text = "x".repeat(100_000);
        for _ in 0..4 {
            rich.send_message(&text);
            scene.agent.next_message();
        }
        drop(rich);
        let fetch = json!({ "type": "fetch_history", "limit": 100 }).to_string();
        let mut greedy: Vec<App> = (0..10).map(|_| App::connect(server, "rich")).collect();
        for app in &mut greedy {
            // More than the socket and the backlog hold.
            for _ in 0..20 {
                if app.socket.send(tungstenite::Message::text(fetch.as_str())).is_err() {
                    break;
                }
            }
        }
        // Those that are still connected delay nobody.
        scene.healthy.wait_for_rounds(10);
        drop(greedy);
        wait_for_disconnects(scene);
    }

    /// They read nothing of the replies to their session.
    unread_broadcasts_disturb_nobody(scene) [] {
        let server = &scene.agent.server;
        let stuck: Vec<App> = (0..CLIENTS).map(|_| App::connect(server, "s1")).collect();
        let arguments = json!({ "chat_id": "s1", "text": "x".repeat(200_000) });
        let params = json!({ "name": "reply", "arguments": arguments });
        for id in 0..60 {
            scene.agent.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }));
            scene.agent.response();
        }
        server.wait_for_log("it reads too slowly");
        drop(stuck);
        wait_for_disconnects(scene);
    }

    /// One that connects, leaves, and connects under the next name.
    names_of_one_client_use_up_no_sessions(scene) ["--max-sessions", "50"] {
        let server = &scene.agent.server;
        for name in 0..200 {
            let mut app = App::connect(server, &format!("name{name}"));
            assert_eq!(app.until_pong(), [] as [Value; 0], "name{name} is let in");
        }
        wait_for_disconnects(scene);
    }

    /// Each id is remembered, so that a message sent again is not given to Claude Code twice.
    ids_of_one_client_fill_no_memory(scene) ["--receipts-total", "1MiB"] {
        let mut app = App::connect(&scene.agent.server, "ids");
        for round in 0..100 {
            for id in 0..1_000 {
                let session = format!("ids{}", id % 50);
                let message = json!({
                    "type": "message", "session_id": session, "content": "x",
                    "id": format!("0b0c0a64-6a5c-4ad0-8b6d-{round:06}{id:06}"),
                });
                app.send_text(&message.to_string());
            }
            for _ in 0..1_000 {
                scene.agent.next_message();
                assert_eq!(app.next()["state"], "accepted");
            }
        }
        let memory = scene.agent.server.memory("VmHWM");
        assert!(memory < 24 << 10, "the server took {memory} KiB of memory");
        drop(app);
        wait_for_disconnects(scene);
    }

    slow_head_gets_408(scene) ["--handshake-timeout", "500ms"] {
        let server = &scene.agent.server;
        let head = server.handshake("/?session=s1");
        let mut streams: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(server)).collect();
        let start = Instant::now();
        for byte in head.bytes() {
            // A refused connection takes no more bytes.
            streams.iter_mut().for_each(|stream| drop(stream.write_all(&[byte])));
            if start.elapsed() > Duration::from_millis(600) {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        for mut stream in streams {
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert_eq!(status_of(&answer), 408, "{answer}");
        }
    }

    /// A client that sends a byte less often than the ping timeout is dropped.
    slow_frame_is_awaited_between_pings(scene) ["--ping-interval", "150ms", "--ping-timeout", "450ms"] {
        let server = &scene.agent.server;
        let mut slow: Vec<Raw> = (0..CLIENTS).map(|_| Raw::connect(server, "slow")).collect();
        let mut slower = Raw::connect(server, "slower");
        let text = br#"{"type":"message","content":"slowly"}"#;
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("the frame is short"), 0, 0, 0, 0];
        frame.extend(text);
        let start = Instant::now();
        for (number, byte) in frame.iter().enumerate() {
            slow.iter_mut().for_each(|raw| raw.stream.write_all(&[*byte]).expect("the server reads"));
            if number % 16 == 0 {
                let _ = slower.stream.write_all(&[*byte]);
            }
            let due = start + Duration::from_millis(20) * u32::try_from(number).expect("the frame is short");
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        for _ in 0..CLIENTS {
            assert_eq!(scene.agent.next_message()["content"], "slowly");
        }
        let end = loop {
            let (opcode, payload) = slower.read_frame();
            if opcode != 0x89 {
                break (opcode, payload);
            }
        };
        assert_eq!((end.0, &end.1[..2]), (0x88, &1001_u16.to_be_bytes()[..]));
        drop(slow);
        wait_for_disconnects(scene);
    }

    fragments_with_pings_between_make_one_message(scene) [] {
        let server = &scene.agent.server;
        let text = json!({ "type": "message", "content": "é".repeat(400) }).to_string();
        for _ in 0..CLIENTS {
            let mut raw = Raw::connect(server, "s1");
            let parts: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
            for (number, part) in parts.iter().enumerate() {
                let first = if number == 0 { 0x01 } else { 0x00 };
                let last = if number + 1 == parts.len() { 0x80 } else { 0x00 };
                raw.send_frame(first | last, part);
                raw.send_frame(0x89, b"still there?");
            }
            for _ in &parts {
                assert_eq!(raw.read_frame(), (0x8a, b"still there?".to_vec()));
            }
            assert_eq!(scene.agent.next_message()["content"], "é".repeat(400));
        }
        wait_for_disconnects(scene);
    }

    unmasked_frame_is_closed_with_1002(scene) [] { assert_closed(scene, b"\x81\x02hi", &[1002]); }
    reserved_bits_are_closed_with_1002(scene) [] {
        for bit in [0x40, 0x20, 0x10] {
            assert_closed(scene, &[0x81 | bit, 0x80, 0, 0, 0, 0], &[1002]);
        }
    }
    bad_opcode_is_closed_with_1002(scene) [] {
        for opcode in (3..=7).chain(11..=15) {
            assert_closed(scene, &[0x80 | opcode, 0x80, 0, 0, 0, 0], &[1002]);
        }
    }
    bad_utf8_is_closed_with_1007(scene) [] {
        for text in [&b"\xff"[..], b"\xc3\x28", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"] {
            assert_closed(scene, &frame(0x81, text), &[1007]);
        }
    }
    bad_utf8_across_frames_is_closed_with_1007(scene) [] {
        for (start, end) in [(&b"\xe2\x82"[..], &b"("[..]), (b"\xf0\x9f", b"\xff"), (b"a\xc3", b"")] {
            assert_closed(scene, &[frame(0x01, start), frame(0x80, end)].concat(), &[1007]);
        }
    }
    bad_close_codes_are_closed_with_1002(scene) [] {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535_u16] {
            assert_closed(scene, &frame(0x88, &code.to_be_bytes()), &[1002]);
        }
        assert_closed(scene, &frame(0x88, b"\x03"), &[1002]);
        assert_closed(scene, &frame(0x88, b"\x03\xe8\xff"), &[1002, 1007]);
    }
    announced_gibibyte_is_closed_with_1009(scene) [] {
        for _ in 0..CLIENTS {
            assert_closed(scene, b"\x81\xff\0\0\0\0\x40\0\0\0\0\0\0\0", &[1009]);
        }
    }
    gibibyte_in_fragments_is_cut_off(scene) [] {
        let mut raw = Raw::connect(&scene.agent.server, "s1");
        let mut head = vec![0x01, 0xff];
        head.extend((64_u64 << 10).to_be_bytes());
        head.extend([0; 4]);
        let part = vec![b' '; 64 << 10];
        let mut sent = 0;
        while sent < 1 << 30 && raw.stream.write_all(&head).and_then(|()| raw.stream.write_all(&part)).is_ok() {
            head[0] = 0x00;
            sent += part.len();
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken");
        wait_for_disconnects(scene);
    }

    /// As quickly as possible: a quick machine makes far more than that in a second.
    five_thousand_connects_disturb_nobody(scene) [] {
        let server = &scene.agent.server;
        let head = server.handshake("/?session=s1");
        thread::scope(|scope| {
            for worker in 0..2 {
                let head = &head;
                scope.spawn(move || {
                    for number in 0..2_500 {
                        let mut stream = connect(server);
                        if number % 5 == worker {
                            let _ = stream.write_all(head.as_bytes());
                        }
                        // Otherwise this machine would run out of ports.
                        reset(&stream);
                    }
                });
            }
        });
        wait_for_disconnects(scene);
    }

    connections_over_limit_get_503(scene) ["--max-connections", "20"] {
        let server = &scene.agent.server;
        let head = server.handshake("/?session=s1");
        let mut inside: Vec<Raw> = (0..19).map(|_| Raw::connect(server, "s1")).collect();
        let mut outside: Vec<TcpStream> = (0..200).map(|_| connect(server)).collect();
        for stream in &mut outside {
            let _ = stream.write_all(head.as_bytes());
        }
        for mut stream in outside {
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!([0, 503].contains(&status_of(&answer)), "{answer}");
        }
        for raw in &mut inside {
            raw.send_frame(0x89, b"");
            assert_eq!(raw.read_frame().0, 0x8a);
        }
        drop(inside);
        wait_for_disconnects(scene);
        App::connect(server, "s1");
    }

    /// One client, as fast as the server lets it, each message as long as may be.
    long_messages_of_one_client_delay_nobody(scene) [] {
        let mut app = App::connect(&scene.agent.server, "flood");
        let text = "x".repeat(450_000);
        let messages = 100;
        let flood = thread::spawn(move || {
            for _ in 0..messages {
                app.send_message(&text);
            }
            app
        });
        scene.healthy.wait_for_rounds(10);
        for _ in 0..messages {
            assert_eq!(scene.agent.next_message()["content"].as_str().map(str::len), Some(450_000));
        }
        flood.join().expect("the client sends everything");
    }

    /// All in the session of the healthy client, again and again.
    thousand_members_who_ping_delay_nobody(scene) [] {
        const ROUNDS: usize = 20;
        let server = &scene.agent.server;
        let mut members: Vec<Raw> = (0..1_000).map(|_| Raw::connect(server, healthy::SESSION)).collect();
        let pings = frame(0x81, br#"{"type":"ping"}"#).repeat(ROUNDS);
        members.iter_mut().for_each(|raw| raw.stream.write_all(&pings).expect("the server reads"));
        scene.healthy.wait_for_rounds(10);
        for raw in &mut members {
            let mut pongs = 0;
            while pongs < ROUNDS {
                let (_, payload) = raw.read_frame();
                pongs += usize::from(payload.windows(4).any(|part| part == b"pong"));
            }
        }
        drop(members);
        wait_for_disconnects(scene);
    }

    /// A reply to a session with many members who read nothing.
    long_broadcasts_to_many_delay_nobody(scene) [] {
        let server = &scene.agent.server;
        let stuck: Vec<Raw> = (0..200).map(|_| Raw::connect(server, "s1")).collect();
        let arguments = json!({ "chat_id": "s1", "text": "x".repeat(400_000) });
        let params = json!({ "name": "reply", "arguments": arguments });
        for id in 0..5 {
            scene.agent.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }));
            scene.agent.response();
        }
        scene.healthy.wait_for_rounds(10);
        drop(stuck);
        wait_for_disconnects(scene);
    }

    /// Each begins a message and doesn't complete it. Those who have most are closed.
    unfinished_messages_are_bounded_together(scene) ["--max-pending", "4MiB"] {
        let server = &scene.agent.server;
        let mut clients: Vec<Raw> = (0..20).map(|_| Raw::connect(server, "s1")).collect();
        let mut part = vec![0x01, 0xff];
        part.extend(1_000_000_u64.to_be_bytes());
        part.extend([0; 4]);
        part.resize(part.len() + 1_000_000, b' ');
        // Those that are closed may not take everything.
        clients.iter_mut().for_each(|raw| drop(raw.stream.write_all(&part)));
        server.wait_for_health(|health| health["clients"].as_u64().is_some_and(|clients| clients <= 5));
        scene.healthy.wait_for_rounds(10);
        let is_closed = |mut raw: Raw| {
            raw.stream.set_nonblocking(true).expect("a socket can be non-blocking");
            // A close frame with 1013 and a reason (RFC 6455, sections 5.5.1 and 7.4.1).
            matches!(raw.read_to_end()[..], [0x88, _, 0x03, 0xf5, ..])
        };
        let closed = clients.into_iter().map(is_closed).filter(|is_closed| *is_closed).count();
        // What a client has sent and nobody reads resets the connection, and that can overtake the close frame.
        assert!(closed >= 10, "{closed} were told why");
        wait_for_disconnects(scene);
    }

    /// Every character of Unicode, a hundred at a time.
    session_ids_may_have_any_character_but_line_breaks(scene) [] {
        let mut app = App::connect(&scene.agent.server, "s1");
        let all: Vec<char> = ('\0'..=char::MAX).collect();
        for names in all.chunks(100 * 64).map(|block| block.chunks(100)) {
            for name in names.clone() {
                let name: String = name.iter().collect();
                app.send(&json!({ "type": "fetch_history", "session_id": name }));
            }
            for name in names {
                let breaks_lines = |c: &char| c.is_control() || ['\u{2028}', '\u{2029}'].contains(c);
                let answer = app.next();
                if name.iter().any(breaks_lines) {
                    assert_eq!(answer["code"], "invalid_message", "{answer}");
                } else {
                    let name: String = name.iter().collect();
                    assert_eq!(answer["type"], "history", "{answer}");
                    assert_eq!(answer["session_id"], name);
                }
            }
        }
    }

    /// In the URL and in messages.
    bad_session_ids_are_refused(scene) [] {
        let server = &scene.agent.server;
        for (encoded, statuses) in [
            ("%00", &[400][..]),
            ("a%00b", &[400]),
            ("a%0Ab", &[400]),
            ("%0D%0AX-Evil:%20yes", &[400]),
            ("%C2%85", &[400]),
            ("%E2%80%A8", &[400]),
            // Not UTF-8: the replacement characters are a valid name.
            ("%FF%ED%A0%80", &[101]),
            (&"x".repeat(129), &[400]),
            (&"%F0%9F%A4%96".repeat(129), &[400]),
            (&"x".repeat(10_000_000), &[431, 0]),
        ] {
            let mut stream = connect(server);
            let _ = stream.write_all(server.handshake(&format!("/?session={encoded}")).as_bytes());
            let mut answer = vec![0; 12];
            let read = stream.read(&mut answer).unwrap_or(0);
            let status = status_of(&String::from_utf8_lossy(&answer[..read]));
            assert!(statuses.contains(&status), "{status}: {}", &encoded[..encoded.len().min(50)]);
        }
        let mut app = App::connect(server, "s1");
        for (name, part) in [
            ("\0".to_owned(), "control characters"),
            ("a\nb".to_owned(), "control characters"),
            ("x".repeat(400_000), "400000 characters"),
            ("x".repeat(500_000), "458752 bytes"),
        ] {
            app.send(&json!({ "type": "message", "content": "x", "session_id": name }));
            let error = app.expect("error");
            assert!(error["message"].as_str().is_some_and(|text| text.contains(part)), "{error}");
        }
        let name = "x".repeat(10_000_000);
        let much = json!({ "type": "message", "content": "x", "session_id": name }).to_string();
        let _ = app.socket.send(tungstenite::Message::text(much));
        assert_eq!(app.close_code(), 1009);
    }

    /// One client sends all of them at once. Each is delivered once and in order.
    flood_of_messages_is_delivered_in_order(scene) [] {
        const MESSAGES: usize = 100_000;
        let mut app = App::connect(&scene.agent.server, "flood");
        let flood = thread::spawn(move || {
            for number in 0..MESSAGES {
                let message = format!(r#"{{"type":"message","content":"{number}"}}"#);
                let frame = tungstenite::Message::text(message);
                // Many frames in each system call.
                app.socket.write(frame).expect("the server reads");
            }
            app.socket.flush().expect("the server reads");
            app
        });
        for number in 0..MESSAGES {
            assert_eq!(scene.agent.next_message()["content"], number.to_string());
        }
        let mut app = flood.join().expect("the client sends everything");
        assert_eq!(app.until_pong(), [] as [Value; 0]);
    }
}

/// Opens a TCP connection.
fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("the server listens");
    stream
        .set_read_timeout(Some(TEST_TIMEOUT))
        .expect("the timeout is valid");
    stream
}

/// Makes the connection end with a reset, as when a process dies with data unread.
fn reset(stream: &TcpStream) {
    let now = Some(Duration::ZERO);
    SockRef::from(stream)
        .set_linger(now)
        .expect("the socket is open");
}

/// Waits until only the healthy client is connected.
fn wait_for_disconnects(scene: &Scene) {
    let server = &scene.agent.server;
    server.wait_for_health(|health| health["clients"] == 1);
}

/// Returns a short frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("the frame is short");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// Violates RFC 6455 in five connections at once, which must be closed with one of these codes.
fn assert_closed(scene: &Scene, bytes: &[u8], codes: &[u16]) {
    let server = &scene.agent.server;
    let mut clients: Vec<Raw> = (0..5)
        .map(|_| Raw::connect(server, healthy::SESSION))
        .collect();
    for raw in &mut clients {
        raw.stream.write_all(bytes).expect("the server reads");
    }
    for raw in &mut clients {
        let code = loop {
            let (opcode, payload) = raw.read_frame();
            if opcode == 0x88 {
                break u16::from_be_bytes([payload[0], payload[1]]);
            }
        };
        assert!(codes.contains(&code), "{bytes:02x?}: {code}");
    }
    drop(clients);
    wait_for_disconnects(scene);
}
