//! The channel: what goes into the Claude Code session, and the permission relay.
//!
//! The capability and the methods are those of the Claude Code channel reference.

use serde::Serialize;

use super::rpc;
use crate::hub::Notification;
use crate::json;
use crate::sanitize::escape_channel_tags;

/// The beginning of every message. `meta` has the tag's attributes, but no `source`: Claude Code
/// sets that itself, and would show a second one as another attribute.
const MESSAGE: &[u8] =
    br#"{"jsonrpc":"2.0","method":"notifications/claude/channel","params":{"content":"#;

/// How Claude Code names the plugin's server in a channel tag.
const PLUGIN_SOURCE: &str = "plugin:claude-socket:claude-socket";
/// How Claude Code's names of the plugin's tools begin.
const PLUGIN_TOOL_PREFIX: &str = "mcp__plugin_claude-socket_claude-socket__";
/// The tools of this server, whose permission requests it may answer itself.
const OWN_TOOLS: [&str; 3] = ["reply", "status", "fetch_messages"];

/// Writes a message as one line. It is written piece by piece: through serde's derive this was a
/// third of all that a message costs.
pub fn write_message(line: &mut Vec<u8>, notification: &Notification<'_>) {
    let message = notification.message;
    line.extend_from_slice(MESSAGE);
    json::write(line, notification.content);
    line.extend_from_slice(br#","meta":{"chat_id":"#);
    json::write(line, &*escape_channel_tags(notification.session.as_str()));
    line.extend_from_slice(br#","user":"#);
    json::write(line, &*escape_channel_tags(message.user_or_default()));
    line.extend_from_slice(br#","ts":"#);
    json::write(line, &*message.ts);
    line.extend_from_slice(br#","message_id":""#);
    line.extend_from_slice(&message.id.text());
    line.extend_from_slice(b"\"}}}\n");
}

/// Writes the answer to a permission request as one line.
pub fn write_verdict(line: &mut Vec<u8>, request_id: &str, allowed: bool) {
    let params = Verdict {
        request_id,
        behavior: if allowed { "allow" } else { "deny" },
    };
    rpc::write_notification(line, "notifications/claude/channel/permission", &params);
}

/// The server's name in a raw MCP config. Claude Code names the server and its tools after it;
/// the plugin's server has a name of its own.
#[derive(Clone, Debug)]
pub struct ServerKey(String);

impl ServerKey {
    /// Returns the tool of this server that Claude Code means by the name of a tool: the
    /// plugin's, or that of the raw MCP config.
    pub fn own_tool<'a>(&self, name: &'a str) -> Option<&'a str> {
        let plugin = name.strip_prefix(PLUGIN_TOOL_PREFIX);
        let raw = || {
            name.strip_prefix("mcp__")?
                .strip_prefix(&*self.0)?
                .strip_prefix("__")
        };
        plugin.or_else(raw).filter(|tool| OWN_TOOLS.contains(tool))
    }

    /// Returns `true` if the `source` of a channel tag means this server.
    pub fn is_source(&self, source: &str) -> bool {
        source == PLUGIN_SOURCE || source == self.0
    }
}

impl From<&str> for ServerKey {
    fn from(key: &str) -> Self {
        Self(key.to_owned())
    }
}

#[derive(Serialize)]
struct Verdict<'a> {
    request_id: &'a str,
    behavior: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    #[test]
    fn only_exact_names_are_own_tools() {
        let own = [
            "mcp__plugin_claude-socket_claude-socket__reply",
            "mcp__claude-socket__status",
            "mcp__claude-socket__fetch_messages",
        ];
        let strangers = [
            "reply", "Bash", "mcp__other__reply", "mcp__claude-socket__", "mcp__claude-socket__reply2",
            "mcp__claude-socket2__reply", "mcp__plugin_other_claude-socket__reply", "mcp__claude-socket__bash",
        ];
        let server_key = ServerKey::from("claude-socket");
        assert!(own.iter().all(|name| server_key.own_tool(name).is_some()));
        assert!(!strangers.iter().any(|name| server_key.own_tool(name).is_some()));
        let bridge = ServerKey::from("bridge");
        assert_eq!(bridge.own_tool("mcp__bridge__reply"), Some("reply"));
        assert_eq!(bridge.own_tool("mcp__claude-socket__reply"), None);
    }
}
