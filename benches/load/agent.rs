//! The agent (Claude Code): MCP on the server's stdin and stdout.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

use serde_json::{Value, json};

use crate::server::Result;

/// The id of every request after the handshake. Where results are read, one request at most is
/// pending.
const REQUEST_ID: u64 = 7;

/// The text of a reply: 61 characters, a usual length.
pub const ANSWER: &str = "Twenty-one degrees in the greenhouse, and the window is open.";

/// The agent's ends of both pipes.
pub struct Agent {
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    line: Vec<u8>,
}

impl Agent {
    pub fn new(stdin: Option<ChildStdin>, stdout: Option<ChildStdout>) -> Self {
        let stdout = stdout.map(|stdout| BufReader::with_capacity(1 << 20, stdout));
        let line = Vec::new();
        Self {
            stdin,
            stdout,
            line,
        }
    }

    /// Sends `initialize` and waits for the result.
    pub fn initialize(&mut self) -> Result<()> {
        self.send_initialize()?;
        let line = self.read_line()?;
        let answer: Value = serde_json::from_slice(line).unwrap_or_default();
        if answer["result"]["protocolVersion"].is_string() {
            return Ok(());
        }
        let line = String::from_utf8_lossy(line);
        Err(format!(
            "the server wrote {} instead of a result of \"initialize\"",
            line.trim_end()
        ))
    }

    /// Sends `initialize`.
    pub fn send_initialize(&mut self) -> Result<()> {
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "roots": { "listChanged": true } },
            "clientInfo": { "name": "claude-code", "version": "2.1.330" },
        });
        let request =
            json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        self.write(format!("{request}\n").as_bytes())
    }

    /// Sends `notifications/initialized`, after which messages may come.
    pub fn send_initialized(&mut self) -> Result<()> {
        self.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n")
    }

    /// Writes to the server's stdin.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Err("the server's stdin is in use".into());
        };
        stdin
            .write_all(bytes)
            .map_err(|error| format!("the server no longer reads its stdin ({error})"))
    }

    /// Returns the next line of the server's stdout.
    pub fn read_line(&mut self) -> Result<&[u8]> {
        self.line.clear();
        let Some(stdout) = &mut self.stdout else {
            return Err("the server's stdout is in use".into());
        };
        match stdout.read_until(b'\n', &mut self.line) {
            Ok(1..) => Ok(&self.line),
            Ok(0) => Err("the server closed its stdout".into()),
            Err(error) => Err(format!("the server's stdout cannot be read ({error})")),
        }
    }

    /// Reads up to the next message of a client.
    pub fn wait_for_message(&mut self) -> Result<()> {
        while !contains(self.read_line()?, b"notifications/claude/channel") {}
        Ok(())
    }

    /// Reads up to the next result of a tool call.
    ///
    /// # Errors
    /// If the server rejects the call.
    pub fn wait_for_result(&mut self) -> Result<()> {
        while !contains(self.read_line()?, b"\"result\"") {
            if contains(&self.line, b"\"error\"") {
                let line = String::from_utf8_lossy(&self.line);
                return Err(format!("the server rejected a reply: {}", line.trim_end()));
            }
        }
        if contains(&self.line, b"\"isError\":true") {
            let line = String::from_utf8_lossy(&self.line);
            return Err(format!("the server rejected a reply: {}", line.trim_end()));
        }
        Ok(())
    }

    /// Counts the lines that can be read without blocking; blocks only until there is a byte.
    pub fn count_available_lines(&mut self) -> Result<usize> {
        let Some(stdout) = &mut self.stdout else {
            return Err("the server's stdout is in use".into());
        };
        let came = stdout
            .fill_buf()
            .map_err(|error| format!("the server's stdout cannot be read ({error})"))?;
        if came.is_empty() {
            return Err("the server closed its stdout".into());
        }
        let (lines, length) = (
            came.iter().filter(|&&byte| byte == b'\n').count(),
            came.len(),
        );
        stdout.consume(length);
        Ok(lines)
    }

    /// Moves the pipes out, for two threads that each use one of them.
    pub fn take_pipes(&mut self) -> Option<(ChildStdin, BufReader<ChildStdout>)> {
        Some((self.stdin.take()?, self.stdout.take()?))
    }

    /// Closes both pipes.
    pub fn close(&mut self) {
        (self.stdin, self.stdout) = (None, None);
    }
}

/// Returns the line with which the agent calls the tool `reply`.
pub fn reply_call(session: &str) -> Vec<u8> {
    let arguments = json!({ "chat_id": session, "text": ANSWER });
    let params = json!({ "name": "reply", "arguments": arguments });
    let call =
        json!({ "jsonrpc": "2.0", "id": REQUEST_ID, "method": "tools/call", "params": params });
    format!("{call}\n").into_bytes()
}

/// Returns `true` if `part` occurs in `text`.
pub fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
