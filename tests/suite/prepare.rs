//! What a test needs beside Rust, installed if it is missing.

use std::process::{Command, Stdio};

/// Has `tests/prepare` install what isn't there.
pub fn prepare(needs: &[&str]) {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prepare"))
        .args(needs)
        .stdin(Stdio::null())
        .output()
        .expect("tests/prepare runs");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
}
