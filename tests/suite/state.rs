//! A state folder with a server's tokens, and `claude-socket token` to change them.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::server::binary;

/// A state folder that is removed when this is dropped.
pub struct State(PathBuf);

impl State {
    /// Returns a folder that doesn't exist yet.
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("claude-socket-test-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name).join("state"))
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }

    /// Returns the path of the token file.
    pub fn file(&self) -> PathBuf {
        self.0.join("access.json")
    }

    /// Runs `claude-socket token` with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = binary();
        command.env("CLAUDE_SOCKET_STATE_DIR", &self.0);
        command.arg("token").args(arguments);
        command.output().expect("the binary starts")
    }

    /// Adds a token and returns it.
    pub fn add(&self, name: &str, role: &str, sessions: Option<&str>) -> String {
        let sessions = sessions.map(|sessions| ["--session", sessions]);
        self.add_with(name, role, sessions.as_ref().map_or(&[], |options| options))
    }

    /// Adds a token with these options and returns it.
    pub fn add_with(&self, name: &str, role: &str, options: &[&str]) -> String {
        let arguments = [&["add", name, "--role", role], options].concat();
        let output = self.run(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        let token = String::from_utf8(output.stdout).expect("a token is UTF-8");
        token.trim_end().to_owned()
    }

    pub fn remove(&self, name: &str) {
        let output = self.run(&["remove", name]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // It does not exist if it was never used.
        let _ = fs::remove_dir_all(self.0.parent().unwrap_or(&self.0));
    }
}
