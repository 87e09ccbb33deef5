//! Programs that a test needs beside Rust, installed if they are missing.

use std::process::{Command, Stdio};

/// Runs `tests/prepare`, which installs what is missing.
pub fn prepare(needs: &[&str]) {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prepare"))
        .args(needs)
        .stdin(Stdio::null())
        .output()
        .expect("tests/prepare starts");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
}
