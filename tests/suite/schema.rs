//! Checks the server against `src/protocol/asyncapi.yaml`, whose messages `cargo xtask codegen`
//! makes from the Rust types.

use crate::web::node_with;

#[test]
fn asyncapi() {
    node_with("asyncapi.test.js", &["npm"], &[]);
}
