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

/// The name that Claude Code has for this server, and after which it names the server's tools and
/// messages. It is exactly one: beside the plugin's server there may be a stranger that is called
/// `claude-socket` in a raw MCP config, and the other way round.
#[derive(Clone, Debug)]
pub enum ServerKey {
    /// The server was started by the plugin.
    Plugin,
    /// The key in the `mcpServers` of a raw MCP config.
    Raw(String),
}

impl ServerKey {
    /// Returns the tool of this server that Claude Code means by the name of a tool.
    pub fn own_tool<'a>(&self, name: &'a str) -> Option<&'a str> {
        let tool = match self {
            Self::Plugin => name.strip_prefix(PLUGIN_TOOL_PREFIX)?,
            Self::Raw(key) => name
                .strip_prefix("mcp__")?
                .strip_prefix(&**key)?
                .strip_prefix("__")?,
        };
        OWN_TOOLS.contains(&tool).then_some(tool)
    }

    /// Returns `true` if the `source` of a channel tag means this server.
    pub fn is_source(&self, source: &str) -> bool {
        match self {
            Self::Plugin => source == PLUGIN_SOURCE,
            Self::Raw(key) => source == key,
        }
    }
}

impl From<&str> for ServerKey {
    /// Returns that of a raw MCP config.
    fn from(key: &str) -> Self {
        Self::Raw(key.to_owned())
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

    /// Each server has one name, and what bears the name of another is a stranger's.
    #[test]
    fn only_exact_names_are_own() {
        let servers = [
            (
                ServerKey::Plugin,
                "mcp__plugin_claude-socket_claude-socket__",
                "plugin:claude-socket:claude-socket",
            ),
            (
                "claude-socket".into(),
                "mcp__claude-socket__",
                "claude-socket",
            ),
            ("bridge".into(), "mcp__bridge__", "bridge"),
        ];
        let strangers = [
            "mcp__other__",
            "mcp__claude-socket2__",
            "mcp__plugin_other_claude-socket__",
            "",
        ];
        for (server_key, own_prefix, own_source) in &servers {
            let prefixes = servers.iter().map(|(_, prefix, _)| *prefix);
            for prefix in prefixes.chain(strangers) {
                let is_own = prefix == *own_prefix;
                for tool in OWN_TOOLS {
                    let name = format!("{prefix}{tool}");
                    let expected = is_own.then_some(tool);
                    assert_eq!(
                        server_key.own_tool(&name),
                        expected,
                        "{server_key:?} {name}"
                    );
                }
                for tool in ["", "reply2", "activity", "Bash"] {
                    let name = format!("{prefix}{tool}");
                    assert_eq!(server_key.own_tool(&name), None, "{server_key:?} {name}");
                }
            }
            for (_, _, source) in &servers {
                let is_own = source == own_source;
                assert_eq!(
                    server_key.is_source(source),
                    is_own,
                    "{server_key:?} {source}"
                );
            }
        }
    }
}
