//! Clients that read late, slowly or not at all, over real sockets.

use std::io::{Cursor, Read};
use std::net::TcpListener;

use socket2::SockRef;
use tungstenite::protocol::frame::FrameHeader;

use super::super::frame::{Batch, FrameRanges};
use super::*;

/// An outbox whose socket takes little, and the client's end of that.
fn outbox(limit: usize) -> (Arc<Outbox>, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("it has one"));
    let client = client.expect("it listens");
    let (stream, _) = listener.accept().expect("it is there");
    let (sends, receives) = (SockRef::from(&stream), SockRef::from(&client));
    sends
        .set_send_buffer_size(128 * 1024)
        .expect("it can be set");
    // Less than a few packets of the loopback's would be slow.
    receives
        .set_recv_buffer_size(256 * 1024)
        .expect("it can be set");
    (
        Outbox::new(ConnId(1), stream, limit).expect("an outbox"),
        client,
    )
}

/// Sends in one batch what this client gets of it, with what others get between; returns
/// what the client is to read.
fn send(outbox: &Arc<Outbox>, batch: &mut Batch, texts: &[String]) -> Vec<u8> {
    let mut ranges = FrameRanges::default();
    let mut expected = Vec::new();
    for text in texts {
        batch.add(&"for somebody else");
        ranges.push(batch.add(text));
        expected.extend_from_slice(&frame::text(text));
    }
    let frames = batch.freeze();
    outbox.send(&frames, ranges.as_slice());
    batch.reclaim(frames);
    expected
}

/// The opcodes of these frames, each of which must be whole, and the last one's payload.
fn frames(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut cursor = Cursor::new(bytes);
    let (mut opcodes, mut payload) = (Vec::new(), Vec::new());
    while (cursor.position() as usize) < bytes.len() {
        let header = FrameHeader::parse(&mut cursor).expect("it is valid");
        let (header, length) = header.expect("it is whole");
        opcodes.push(header.opcode.into());
        payload = vec![0; length as usize];
        cursor.read_exact(&mut payload).expect("it is whole");
    }
    (opcodes, payload)
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

#[test]
fn whoever_reads_late_gets_everything_in_order() {
    let (outbox, mut client) = outbox(usize::MAX);
    let mut batch = Batch::default();
    let mut expected = Vec::new();
    // More pieces than go into one system call, some longer than the socket takes.
    for round in 0..20_usize {
        let texts = (0..100).map(|n| format!("{round} {n} {}", "x".repeat(n * round)));
        expected.extend(send(&outbox, &mut batch, &texts.collect::<Vec<_>>()));
        let pong = frame::ping();
        expected.extend_from_slice(&pong);
        outbox.send_frame(pong);
    }
    assert!(outbox.has_backlog.load(Ordering::Acquire));
    outbox.close(CloseCode::Away, "enough");
    expected.extend_from_slice(&frame::close(CloseCode::Away, "enough"));
    send(&outbox, &mut batch, &["too late".into()]);
    outbox.close(CloseCode::Normal, "twice");

    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).expect("it is all there");
    assert!(got == expected);
    outbox.finish();
    assert!(outbox.backlog.lock().is_none());
    outbox.abort();
    assert_eq!(client.read(&mut [0]).expect("it has ended"), 0);
}

#[test]
fn whoever_has_caught_up_is_written_to_at_once_again() {
    let (outbox, mut client) = outbox(usize::MAX);
    let mut batch = Batch::default();
    for _ in 0..3 {
        let expected = send(&outbox, &mut batch, &["x".repeat(3_000_000)]);
        assert!(outbox.has_backlog.load(Ordering::Acquire));
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).expect("it is all there");
        assert!(got == expected);
        outbox.finish();
        assert!(!outbox.has_backlog.load(Ordering::Acquire));
    }
}

#[test]
fn whoever_is_too_slow_gets_whole_frames_and_then_the_reason() {
    const LIMIT: usize = 100_000;
    let (outbox, mut client) = outbox(LIMIT);
    let mut batch = Batch::default();
    let mut sent = 0;
    while outbox.is_open() {
        sent += 10 * send(&outbox, &mut batch, &[(); 10].map(|()| "y".repeat(1_000))).len();
        assert!(sent < 1_000_000_000, "it is never too slow");
    }
    let mut got = Vec::new();
    let ended = thread::spawn(move || client.read_to_end(&mut got).map(|_| got));
    outbox.finish();
    outbox.abort();
    let got = ended.join().expect("it reads").expect("it ends");
    let (opcodes, reason) = frames(&got);
    let (last, others) = opcodes.split_last().expect("there is a close");
    assert_eq!(*last, CLOSE);
    assert!(others.iter().all(|opcode| *opcode == TEXT), "{others:?}");
    assert_eq!(
        reason,
        [&1013_u16.to_be_bytes()[..], b"reading too slowly"].concat()
    );
}

#[test]
fn whoever_goes_away_while_much_waits_leaves_nothing_behind() {
    let (outbox, client) = outbox(usize::MAX);
    let mut batch = Batch::default();
    send(&outbox, &mut batch, &["z".repeat(3_000_000)]);
    assert!(outbox.has_backlog.load(Ordering::Acquire));
    drop(client);
    outbox.finish();
    assert!(!outbox.is_open());
    assert!(outbox.backlog.lock().is_none());
    // Nobody waits for it to read, and what is sent to it costs nothing.
    outbox.wait_for_drain(Duration::MAX);
    send(&outbox, &mut batch, &["z".repeat(3_000_000)]);
    assert!(outbox.backlog.lock().is_none());
}
