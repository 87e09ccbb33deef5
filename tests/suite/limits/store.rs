//! What is kept on disk.

use super::{Check, Row};
use crate::server::{binary, config};

pub const CHECKS: &[(&str, Check)] = &[
    ("name of an agent", agent_name),
    ("time that what was said is kept on disk", history_ttl),
    ("bytes of what was said on disk", history_disk),
];

/// The folder is not made before a server listens.
const FOLDER: [&str; 2] = ["--state-dir", "/nonexistent"];

fn agent_name(row: &Row) {
    let name = "é".repeat(row.one);
    assert_eq!(*config(&["--agent", &name]).agent, *name);
    let longer = format!("--agent={name}é");
    let output = binary().arg(longer).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&row.one.to_string()), "{said}");
}

fn history_ttl(row: &Row) {
    let store = config(&FOLDER).store.expect("there is a store by default");
    assert_eq!(store.ttl.as_millis(), row.one as u128);
}

fn history_disk(row: &Row) {
    let store = config(&FOLDER).store.expect("there is a store by default");
    assert_eq!(store.max_bytes, row.all as u64);
}
