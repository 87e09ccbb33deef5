//! What Claude Code says, on its way to the hub, and the answers.

use log::info;

use super::Bridge;
use crate::access::NoTokens;
use crate::audit::Record;
use crate::host::mcp::{self, Incoming, Request};
use crate::host::tools::{self, ToolCall, ToolResult};
use crate::host::{channel, rpc};
use crate::hub::PermissionRequest;
use crate::lifetime::{Ending, Reason};

impl Bridge {
    /// What Claude Code says.
    pub fn line(&mut self, line: Incoming) {
        self.hub.handing_over(self.wires.output.started());
        match line {
            Incoming::Request(id, request) => self.request(&id, request),
            Incoming::Initialized => {
                info!("the host is ready");
                self.hub.host_is_ready();
            }
            Incoming::PermissionRequest(asked) => self.ask_permission(asked),
            Incoming::Malformed(id, error) => self.wires.output.error(id.as_ref(), &error),
            Incoming::End => self.ending = Some(Ending::now(Reason::InputEnded)),
        }
    }

    fn request(&mut self, id: &rpc::Id, request: Request) {
        match request {
            Request::Initialize {
                revision,
                name,
                version,
            } => {
                info!(
                    "the host is {} {}",
                    name.escape_debug(),
                    version.escape_debug()
                );
                self.hub.introduce_host(name, version);
                let relays = self.access.has_operator();
                if !relays {
                    info!("no token is an operator's, so permission prompts stay in the terminal");
                }
                self.relays_permission = Some(relays);
                self.wires
                    .output
                    .result(id, &mcp::initialize_result(revision, relays));
            }
            Request::Ping => self.wires.output.result(id, &serde_json::json!({})),
            Request::ListTools => self.wires.output.result(id, &tools::list()),
            Request::CallTool(call) => {
                let result = self.call_tool(call);
                self.wires.output.result(id, &result);
            }
        }
    }

    fn call_tool(&mut self, call: Result<ToolCall, String>) -> ToolResult {
        // What a hook tells counts whether apps can connect or not.
        let is_hook = matches!(call, Ok(ToolCall::Activity(_)));
        let unreachable = if is_hook {
            None
        } else {
            self.why_unreachable()
        };
        match (call, unreachable) {
            (_, Some(why)) => ToolResult::error(why),
            (Err(wrong), _) => ToolResult::error(wrong),
            (Ok(call), _) => tools::run(call, self.now, &mut self.hub, &mut self.wires),
        }
    }

    /// Why there is no app and none can connect, if so.
    fn why_unreachable(&self) -> Option<String> {
        let unreadable = || match self.access.usable_tokens() {
            Err(NoTokens::FileUnusable(why)) => Some(format!("no app can connect: {why}")),
            Err(NoTokens::NotConfigured) | Ok(_) => None,
        };
        // Apps that connected before the port was lost are still here.
        let is_alone = |_: &String| self.hub.summary().clients == 0;
        let why = self.not_listening.clone().or_else(unreadable);
        why.filter(is_alone)
    }

    fn ask_permission(&mut self, asked: PermissionRequest) {
        let own = channel::own_tool(&asked.tool_name, &self.options.server_key).is_some();
        if own && self.options.approve_own_tools {
            self.wires.audit.record(&Record::Verdict {
                client: None,
                user: env!("CARGO_PKG_NAME"),
                tool: &asked.tool_name,
                request_id: &asked.request_id,
                allowed: true,
            });
            return self.wires.output.verdict(&asked.request_id, true);
        }
        self.hub.ask_permission(self.now, asked, &mut self.wires);
    }
}
