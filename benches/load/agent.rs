//! The agent's place: MCP on the server's stdin and stdout, and the lines it would write.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

use serde_json::{Value, json};

use crate::server::Result;

/// The id of every request after the handshake. One at a time is open where answers are read.
const REQUEST_ID: u64 = 7;

/// What Claude says in a reply, of a usual length.
pub const ANSWER: &str = "Twenty-one degrees in the greenhouse, and the window is open.";

/// Both pipes.
pub struct Agent {
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    line: Vec<u8>,
}

impl Agent {
    /// Around the pipes of a child.
    pub fn new(stdin: Option<ChildStdin>, stdout: Option<ChildStdout>) -> Self {
        let stdout = stdout.map(|stdout| BufReader::with_capacity(1 << 20, stdout));
        let line = Vec::new();
        Self {
            stdin,
            stdout,
            line,
        }
    }

    /// Asks for the handshake and waits for the answer.
    pub fn initialize(&mut self) -> Result<()> {
        self.send_initialize()?;
        let line = self.read_line()?;
        let answer: Value = serde_json::from_slice(line).unwrap_or_default();
        if answer["result"]["protocolVersion"].is_string() {
            return Ok(());
        }
        let line = String::from_utf8_lossy(line);
        Err(format!(
            "it doesn't answer \"initialize\", but writes {}",
            line.trim_end()
        ))
    }

    /// Asks for the handshake.
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

    /// Tells it that messages may come.
    pub fn send_initialized(&mut self) -> Result<()> {
        self.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n")
    }

    /// Writes to its stdin.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Err("its stdin is in use".into());
        };
        stdin
            .write_all(bytes)
            .map_err(|error| format!("it doesn't read its stdin any more ({error})"))
    }

    /// The next line of its stdout.
    pub fn read_line(&mut self) -> Result<&[u8]> {
        self.line.clear();
        let Some(stdout) = &mut self.stdout else {
            return Err("its stdout is in use".into());
        };
        match stdout.read_until(b'\n', &mut self.line) {
            Ok(1..) => Ok(&self.line),
            Ok(0) => Err("it has ended".into()),
            Err(error) => Err(format!("its stdout cannot be read ({error})")),
        }
    }

    /// Waits for a client's message.
    pub fn wait_for_message(&mut self) -> Result<()> {
        while !contains(self.read_line()?, b"notifications/claude/channel") {}
        Ok(())
    }

    /// Waits for the answer to a call.
    pub fn wait_for_result(&mut self) -> Result<()> {
        while !contains(self.read_line()?, b"\"result\"") {
            if contains(&self.line, b"\"error\"") {
                let line = String::from_utf8_lossy(&self.line);
                return Err(format!("it refuses a reply: {}", line.trim_end()));
            }
        }
        if contains(&self.line, b"\"isError\":true") {
            let line = String::from_utf8_lossy(&self.line);
            return Err(format!("it refuses a reply: {}", line.trim_end()));
        }
        Ok(())
    }

    /// Counts how many lines there are in what has come by now; waits for the first bytes.
    pub fn count_available_lines(&mut self) -> Result<usize> {
        let Some(stdout) = &mut self.stdout else {
            return Err("its stdout is in use".into());
        };
        let came = stdout
            .fill_buf()
            .map_err(|error| format!("its stdout cannot be read ({error})"))?;
        if came.is_empty() {
            return Err("it has ended".into());
        }
        let (lines, length) = (
            came.iter().filter(|&&byte| byte == b'\n').count(),
            came.len(),
        );
        stdout.consume(length);
        Ok(lines)
    }

    /// Takes the pipes out, for threads that each use one of them.
    pub fn take_pipes(&mut self) -> Option<(ChildStdin, BufReader<ChildStdout>)> {
        Some((self.stdin.take()?, self.stdout.take()?))
    }

    /// Hangs up: its stdin ends, and nobody reads its stdout.
    pub fn close(&mut self) {
        (self.stdin, self.stdout) = (None, None);
    }
}

/// The line in which the agent uses the tool `reply`.
pub fn reply_call(session: &str) -> Vec<u8> {
    let arguments = json!({ "chat_id": session, "text": ANSWER });
    let params = json!({ "name": "reply", "arguments": arguments });
    let call =
        json!({ "jsonrpc": "2.0", "id": REQUEST_ID, "method": "tools/call", "params": params });
    format!("{call}\n").into_bytes()
}

/// Whether `text` has `part` in it.
pub fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
