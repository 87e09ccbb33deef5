//! What comes from an agent, on its way to the hub.

use log::info;
use serde_json::json;

use super::main_loop::Server;
use super::signals::{Reason, Shutdown};
use crate::access::NoTokens;
use crate::agent::mcp::{self, Incoming, Request};
use crate::agent::tools::{self, ToolResult};
use crate::agent::{channel, writer};
use crate::audit::Record;
use crate::hub::{AgentId, AgentInput, CallId, Input, PermissionRequest, ToolCall};

impl Server {
    pub fn agent_line(&mut self, line: Incoming) {
        match line {
            Incoming::Request(id, request) => self.agent_request(id, request),
            Incoming::Initialized => {
                info!("Claude Code is ready for messages");
                self.agent_input(AgentInput::Ready);
            }
            Incoming::PermissionRequest(request) => self.permission_request(request),
            Incoming::Malformed(id, error) => self.out.agent.error(id.as_ref(), &error),
            Incoming::End => self.shutdown = Some(Shutdown::now(Reason::InputEnded)),
        }
    }

    pub fn agent_writer(&mut self, event: writer::Event) {
        match event {
            writer::Event::Written { up_to, buffer } => {
                self.out.agent.chunk_written(up_to, buffer);
                self.agent_input(AgentInput::Written(up_to));
            }
            writer::Event::Failed(error) => {
                self.out.agent.mark_broken();
                self.shutdown = Some(Shutdown::now(Reason::WriteFailed(error)));
            }
        }
    }

    fn agent_input(&mut self, input: AgentInput) {
        self.handle_input(Input::Agent(AgentId::FIRST, input));
    }

    fn agent_request(&mut self, id: CallId, request: Request) {
        match request {
            Request::Initialize {
                revision,
                name,
                version,
            } => {
                info!(
                    "the agent is {} {}",
                    name.escape_debug(),
                    version.escape_debug()
                );
                self.agent_input(AgentInput::Initialized { name, version });
                let relays = self.access.has_operator();
                if !relays {
                    info!("no token is an operator's, so permission prompts stay in the terminal");
                }
                self.permission_relay_announced = Some(relays);
                let result = mcp::initialize_result(revision, relays);
                self.out.agent.result(&id, &result);
            }
            Request::Ping => self.out.agent.result(&id, &json!({})),
            Request::ListTools => self.out.agent.result(&id, &tools::list()),
            // What a hook reports counts whether clients can connect or not.
            Request::CallTool(call @ ToolCall::Activity(_)) => {
                self.agent_input(AgentInput::Call(id, call));
            }
            Request::CallTool(call) => match self.check_reachable() {
                Ok(()) => self.agent_input(AgentInput::Call(id, call)),
                Err(why) => self.out.agent.result(&id, &ToolResult::error(why)),
            },
            Request::InvalidCall(wrong) => {
                let why = self.check_reachable().err().unwrap_or(wrong);
                self.out.agent.result(&id, &ToolResult::error(why));
            }
        }
    }

    /// Checks that a client is connected or can connect.
    ///
    /// # Errors
    /// The sentence for Claude that says why none can.
    fn check_reachable(&self) -> Result<(), String> {
        let unusable = || match self.access.usable_tokens() {
            Err(NoTokens::FileUnusable(why)) => Some(format!("no app can connect: {why}")),
            Ok(_) | Err(NoTokens::NotConfigured) => None,
        };
        match self.listen_error.clone().or_else(unusable) {
            // Clients that connected before the port was lost are still there.
            Some(why) if self.hub.stats().clients == 0 => Err(why),
            _ => Ok(()),
        }
    }

    fn permission_request(&mut self, request: PermissionRequest) {
        let own = channel::own_tool(&request.tool_name, &self.config.server_key).is_some();
        if own && self.config.approve_own_tools {
            self.out.audit.record(&Record::Verdict {
                client: None,
                user: env!("CARGO_PKG_NAME"),
                tool: &request.tool_name,
                request_id: request.request_id.as_str(),
                allowed: true,
            });
            return self.out.agent.verdict(&request.request_id, true);
        }
        self.agent_input(AgentInput::PermissionRequest(request));
    }
}
