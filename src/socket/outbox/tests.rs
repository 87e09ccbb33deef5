//! Clients that read late, slowly or not at all, over real sockets.

use std::io::{Cursor, Read};
use std::net::TcpListener;

use socket2::SockRef;
use tungstenite::protocol::frame::FrameHeader;

use super::super::frame::{Batch, FrameRanges};
use super::*;

/// Returns an outbox with small socket buffers, and the client's end of its socket.
fn outbox(limit: usize) -> (Arc<Outbox>, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let client = TcpStream::connect(listener.local_addr().expect("the listener is bound"));
    let client = client.expect("the listener accepts");
    let (stream, _) = listener.accept().expect("the client connects");
    let (sends, receives) = (SockRef::from(&stream), SockRef::from(&client));
    sends
        .set_send_buffer_size(128 * 1024)
        .expect("the buffer size can be set");
    // With less than a few packets of the loopback interface the test would be slow.
    receives
        .set_recv_buffer_size(256 * 1024)
        .expect("the buffer size can be set");
    (
        Outbox::new(ConnId(1), stream, limit, Arc::default())
            .expect("the socket can be duplicated"),
        client,
    )
}

/// Sends a batch in which the frames of this client alternate with those of others. Returns the
/// bytes that the client must read.
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

/// Returns the opcodes of these frames, each of which must be complete, and the last one's payload.
fn frames(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut cursor = Cursor::new(bytes);
    let (mut opcodes, mut payload) = (Vec::new(), Vec::new());
    while (cursor.position() as usize) < bytes.len() {
        let header = FrameHeader::parse(&mut cursor).expect("the frame is valid");
        let (header, length) = header.expect("the frame is complete");
        opcodes.push(header.opcode.into());
        payload = vec![0; length as usize];
        cursor
            .read_exact(&mut payload)
            .expect("the frame is complete");
    }
    (opcodes, payload)
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

#[test]
fn late_reader_gets_all_frames_in_order() {
    let (outbox, mut client) = outbox(usize::MAX);
    let mut batch = Batch::default();
    let mut expected = Vec::new();
    // More pieces than fit into one system call, some longer than the socket buffer.
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
    client.read_exact(&mut got).expect("all frames are sent");
    assert!(got == expected);
    outbox.finish();
    assert!(outbox.backlog.lock().is_none());
    outbox.abort();
    assert_eq!(client.read(&mut [0]).expect("the connection ends"), 0);
}

#[test]
fn drained_backlog_restores_direct_writes() {
    let (outbox, mut client) = outbox(usize::MAX);
    let mut batch = Batch::default();
    for _ in 0..3 {
        let expected = send(&outbox, &mut batch, &["x".repeat(3_000_000)]);
        assert!(outbox.has_backlog.load(Ordering::Acquire));
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).expect("all frames are sent");
        assert!(got == expected);
        outbox.finish();
        assert!(!outbox.has_backlog.load(Ordering::Acquire));
    }
}

#[test]
fn slow_reader_gets_whole_frames_then_close_1013() {
    const LIMIT: usize = 100_000;
    let (outbox, mut client) = outbox(LIMIT);
    let mut batch = Batch::default();
    let mut sent = 0;
    while outbox.is_open() {
        sent += 10 * send(&outbox, &mut batch, &[(); 10].map(|()| "y".repeat(1_000))).len();
        assert!(sent < 1_000_000_000, "the outbox closes beyond its limit");
    }
    let mut got = Vec::new();
    let ended = thread::spawn(move || client.read_to_end(&mut got).map(|_| got));
    outbox.finish();
    outbox.abort();
    let got = ended
        .join()
        .expect("the reader does not panic")
        .expect("the connection ends");
    let (opcodes, reason) = frames(&got);
    let (last, others) = opcodes.split_last().expect("the client gets a close");
    assert_eq!(*last, CLOSE);
    assert!(others.iter().all(|opcode| *opcode == TEXT), "{others:?}");
    assert_eq!(
        reason,
        [&1013_u16.to_be_bytes()[..], b"reading too slowly"].concat()
    );
}

#[test]
fn disconnect_frees_backlog() {
    let (outbox, client) = outbox(usize::MAX);
    let mut batch = Batch::default();
    send(&outbox, &mut batch, &["z".repeat(3_000_000)]);
    assert!(outbox.has_backlog.load(Ordering::Acquire));
    drop(client);
    outbox.finish();
    assert!(!outbox.is_open());
    assert!(outbox.backlog.lock().is_none());
    // Waiting for it returns at once, and frames to it are dropped.
    outbox.wait_for_drain(Duration::MAX);
    send(&outbox, &mut batch, &["z".repeat(3_000_000)]);
    assert!(outbox.backlog.lock().is_none());
}
