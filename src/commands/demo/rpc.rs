//! The stand-in's way to the server: JSON-RPC lines, as Claude Code writes them.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::answers;
use super::fake_agent::{FakeAgent, PendingRequest};

impl<W: Write> FakeAgent<W> {
    /// Opens the conversation as Claude Code does.
    ///
    /// # Errors
    /// If the server has ended.
    pub fn initialize(&mut self) -> io::Result<()> {
        let host = json!({ "name": "claude-socket demo", "version": env!("CARGO_PKG_VERSION") });
        self.request(
            "initialize",
            &json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": host }),
        )?;
        self.notify("notifications/initialized", &json!({}))?;
        self.request("tools/list", &json!({}))?;
        Ok(())
    }

    pub(super) fn ask(
        &mut self,
        tool: &str,
        description: &str,
        input: &Value,
        request: PendingRequest,
    ) -> io::Result<()> {
        let request_id = answers::request_id(self.steps);
        self.steps += 1;
        let params = json!({
            "request_id": request_id,
            "tool_name": tool,
            "description": description,
            "input_preview": input.to_string(),
        });
        self.pending_requests.insert(request_id, request);
        self.notify("notifications/claude/channel/permission_request", &params)
    }

    pub(super) fn call(&mut self, tool: &str, arguments: &Value) -> io::Result<u64> {
        self.request(
            "tools/call",
            &json!({ "name": tool, "arguments": arguments }),
        )
    }

    fn request(&mut self, method: &str, params: &Value) -> io::Result<u64> {
        let id = self.requests;
        self.requests += 1;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        Ok(id)
    }

    fn notify(&mut self, method: &str, params: &Value) -> io::Result<()> {
        self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
    }

    fn write(&mut self, message: &Value) -> io::Result<()> {
        writeln!(self.server, "{message}")?;
        self.server.flush()
    }
}
