//! Runs the tests in JavaScript (`tests/web`) with Node: those of the client library, of the pages
//! and of the documents. Each is named after its file.

use crate::prepare::prepare;
use crate::server::binary;

/// Runs a file of tests, after installing what it needs.
fn node(file: &str, needs: &[&str]) {
    node_with(file, needs, &[]);
}

/// Runs a file of tests with more environment variables.
pub fn node_with(file: &str, needs: &[&str], environment: &[(&str, &str)]) {
    prepare(needs);
    let output = std::process::Command::new("node")
        .args(["--test", file])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web"))
        .env("CLAUDE_SOCKET_TEST_BINARY", binary().get_program())
        // Not the tokens of the user who runs the tests.
        .env(
            "CLAUDE_SOCKET_STATE_DIR",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/nobody"),
        )
        .envs(environment.iter().copied())
        .output()
        .expect("Node 20 or newer starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
}

#[test]
fn client() {
    node("client.test.js", &["npm"]);
}

#[test]
fn client_frames() {
    node("client-frames.test.js", &["npm"]);
}

#[test]
fn stories() {
    node("stories.test.js", &["npm"]);
}

#[test]
fn runtimes() {
    node("runtimes.test.js", &["npm"]);
}

#[test]
fn types() {
    node("types.test.js", &["npm"]);
}

#[test]
fn bot() {
    node("bot.test.js", &["npm", "ngircd"]);
}

#[test]
fn dashboard() {
    node("dashboard.test.js", &["npm", "chromium"]);
}

#[test]
fn origins() {
    node("origins.test.js", &["npm", "chromium"]);
}

#[test]
fn markdown() {
    node("markdown.test.js", &["npm"]);
}

#[test]
fn sanitize() {
    node("sanitize.test.js", &["npm"]);
}

#[test]
fn page() {
    node("page.test.js", &["npm", "chromium"]);
}

#[test]
fn page_connection() {
    node("page-connection.test.js", &["npm", "chromium"]);
}

#[test]
fn page_history() {
    node("page-history.test.js", &["npm", "chromium"]);
}

#[test]
fn store() {
    node("store.test.js", &["npm", "chromium"]);
}

#[test]
fn page_looks() {
    node("page-looks.test.js", &["npm", "chromium"]);
}

#[test]
fn page_permissions() {
    node("page-permissions.test.js", &["npm", "chromium"]);
}

#[test]
fn workflows() {
    node("workflows.test.js", &["npm", "shellcheck"]);
}

#[test]
fn documents() {
    node("documents.test.js", &["npm", "chromium", "python"]);
}
