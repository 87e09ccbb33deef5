//! Passes the lines of an agent on to the hub, and answers those that need no hub.

use std::fmt;

use log::info;
use serde_json::json;

use super::main_loop::Server;
use super::signals::{Reason, Shutdown};
use crate::access::NoTokens;
use crate::agent::mcp::{self, Incoming, Request};
use crate::agent::tools::{self, ToolResult};
use crate::agent::writer;
use crate::audit::Record;
use crate::hub::{AgentId, AgentInput, CallId, Input, PermissionRequest, ToolCall};
use crate::socket::port::BindError;

/// Why no client can connect. Its `Display` is the sentence for Claude.
#[derive(Debug)]
enum Unreachable<'a> {
    /// The server does not listen.
    NotListening(&'a BindError),
    /// The server listens, but the file with the tokens can't be used, for the reason in the
    /// sentence.
    TokenFileUnusable(String),
    /// The server listens, but every token has expired.
    TokensExpired,
}

impl fmt::Display for Unreachable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListening(error) => error.fmt(f),
            Self::TokenFileUnusable(why) => write!(f, "no app can connect: {why}"),
            Self::TokensExpired => f.write_str(
                "no app can connect: every token has expired; make a new one with \"claude-socket token add\"",
            ),
        }
    }
}

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
            Request::ListTools => {
                self.out.agent.result(&id, &tools::list());
                self.agent_input(AgentInput::ToolsListed);
            }
            // Hooks report whether clients can connect or not.
            Request::CallTool(call @ ToolCall::Activity(_)) => {
                self.agent_input(AgentInput::Call(id, call));
            }
            Request::CallTool(call) => match self.check_reachable() {
                Ok(()) => self.agent_input(AgentInput::Call(id, call)),
                Err(error) => {
                    let result = ToolResult::quoting_error(&error);
                    self.out.agent.result(&id, &result);
                }
            },
            Request::InvalidCall(invalid) => {
                let result = match self.check_reachable() {
                    Ok(()) => ToolResult::quoting_error(&invalid),
                    Err(error) => ToolResult::quoting_error(&error),
                };
                self.out.agent.result(&id, &result);
            }
        }
    }

    /// Checks that a client is connected or can connect.
    ///
    /// # Errors
    /// [`Unreachable`].
    fn check_reachable(&self) -> Result<(), Unreachable<'_>> {
        let error = match &self.listen_error {
            Some(error) => Unreachable::NotListening(error),
            None => match self.access.usable_tokens() {
                Err(NoTokens::FileUnusable(why)) => Unreachable::TokenFileUnusable(why),
                Err(NoTokens::Expired) => Unreachable::TokensExpired,
                Ok(_) | Err(NoTokens::NotConfigured) => return Ok(()),
            },
        };
        // Clients that connected before are still there. `stats` copies every figure, so it is
        // only asked when there is an error.
        if self.hub.stats().clients > 0 {
            return Ok(());
        }
        Err(error)
    }

    fn permission_request(&mut self, request: PermissionRequest) {
        let server_key = &self.config.server_key;
        let is_own = server_key.own_tool(&request.tool_name).is_some();
        if is_own && self.config.approve_own_tools {
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
