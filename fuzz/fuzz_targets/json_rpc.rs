//! What comes from Claude Code: the lines, the envelope, the requests, the tools.

#![no_main]

use std::io::BufReader;

use claude_socket::agent::line_reader::{Line, LineReader};
use claude_socket::agent::mcp::{Incoming, Parser};
use claude_socket::agent::rpc;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

/// The longest line here, in bytes.
const MAX: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let whole = lines(bytes, 4096);
    // However it arrives, the same lines come of it.
    assert_eq!(whole, lines(bytes, 3));
    let parser = Parser {
        server_key: "claude-socket".into(),
    };
    for line in whole.iter().flatten() {
        assert!(line.len() < MAX);
        match parser.parse(line) {
            Some(Incoming::Malformed(id, error)) => {
                let mut answer = Vec::new();
                rpc::write_error(&mut answer, id.as_ref(), &error);
                is_one_line_of_json(&answer);
            }
            Some(Incoming::Request(id, _)) => {
                let mut answer = Vec::new();
                rpc::write_result(&mut answer, &id, &());
                is_one_line_of_json(&answer);
            }
            Some(Incoming::End) => unreachable!("a line is no end"),
            Some(Incoming::Initialized | Incoming::PermissionRequest(_)) | None => {}
        }
    }
});

/// The lines; `None` for those that are too long.
fn lines(bytes: &[u8], buffer: usize) -> Vec<Option<Vec<u8>>> {
    let mut lines = LineReader::new(BufReader::with_capacity(buffer, bytes), MAX);
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().expect("memory does not fail") {
        all.push(match line {
            Line::Complete(line) => Some(line.to_vec()),
            Line::TooLong => None,
        });
    }
    all
}

fn is_one_line_of_json(answer: &[u8]) {
    let line = answer.strip_suffix(b"\n").expect("a line has an end");
    assert!(!line.contains(&b'\n'));
    // The id is that of the request, which may hold what a `Value` can't.
    serde_json::from_slice::<&RawValue>(line).expect("it is JSON");
    assert!(line.starts_with(br#"{"jsonrpc":"2.0","id":"#));
}
