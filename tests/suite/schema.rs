//! The protocol for machines, `src/protocol/asyncapi.yaml`, against the server. `cargo xtask codegen` makes its messages from
//! the Rust types.

use crate::web::node_with;

#[test]
fn asyncapi() {
    node_with("asyncapi.test.js", &["npm"], &[]);
}
