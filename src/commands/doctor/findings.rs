//! What is right and wrong with each component, and what to do about it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use serde::Serialize;
use serde_json::{Value, json};

use super::claude::{Claude, Version};
use super::store::StoreFolder;
use crate::access::{Access, NoTokens, Policy};
use crate::health::probe::ProbeResult;
use crate::health::{Health, StoreHealth, StoreState};
use crate::socket::port;
use crate::socket_owner::UNTRUSTED_OWNER;

/// The first version with channels (Claude Code channels reference).
const CHANNELS: Version = Version(2, 1, 80);
/// The first version that relays permission prompts (Claude Code channels reference).
const PERMISSIONS: Version = Version(2, 1, 81);

/// The state of one component.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub what: Component,
    pub state: State,
    /// A sentence for people.
    pub says: String,
    /// The same facts for programs.
    #[serde(flatten)]
    pub facts: Value,
}

/// What a message passes on its way from a client to Claude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// What listens on the port.
    Server,
    /// Who may connect to it.
    Access,
    /// What keeps on disk what is said.
    Store,
    /// The `claude` command.
    ClaudeCode,
    /// The plugin in it.
    Plugin,
    /// The way from the server into the conversation.
    Channel,
}

impl Component {
    /// Returns its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Access => "access",
            Self::Store => "store",
            Self::ClaudeCode => "Claude Code",
            Self::Plugin => "plugin",
            Self::Channel => "channel",
        }
    }
}

/// What became of `CLAUDE_SOCKET_TOKEN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// There is no token.
    None,
    Sent,
    /// The server asked for none, or belongs to another user.
    NotSent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not known, or not needed.
    Note,
    /// A reason why nothing arrives, or why it may get lost.
    Problem,
}

impl State {
    /// Returns its name for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "PROBLEM",
        }
    }
}

fn finding(what: Component, state: State, says: String, facts: Value) -> Finding {
    Finding {
        what,
        state,
        says,
        facts,
    }
}

/// Reports whether a server listens, and whose it is.
pub fn server(address: SocketAddr, answer: &ProbeResult, token: Token) -> Finding {
    let facts = json!({ "address": address.to_string() });
    let problem = |says| finding(Component::Server, State::Problem, says, facts.clone());
    match answer {
        ProbeResult::Health(health) => listening(address, health),
        ProbeResult::NoListener => problem(format!("nothing listens on {address}")),
        ProbeResult::Refused(401) if token == Token::Sent => problem(format!(
            "a server listens on {address}, and CLAUDE_SOCKET_TOKEN is none of its tokens"
        )),
        ProbeResult::Refused(401) if token == Token::NotSent => problem(format!(
            "a server listens on {address} and wants a token, but it {UNTRUSTED_OWNER}"
        )),
        ProbeResult::Refused(401) => problem(format!(
            "a server listens on {address} and answers only with a token; set CLAUDE_SOCKET_TOKEN to one"
        )),
        ProbeResult::Refused(status) => problem(format!(
            "the server on {address} refuses to report its health (HTTP status {status})"
        )),
        ProbeResult::Other => problem(format!(
            "{address} is taken by {}",
            port::port_owner(address)
        )),
    }
}

fn listening(address: SocketAddr, health: &Health) -> Finding {
    let version = &health.version;
    let started = health.since().unwrap_or_else(SystemTime::now);
    let age = Duration::from_secs(started.elapsed().unwrap_or_default().as_secs());
    let says = format!(
        "claude-socket {version} listens on {address} (process {}, for {}), {} in {}, started by {}",
        health.pid,
        humantime::format_duration(age),
        pluralize(health.clients, "client"),
        pluralize(health.sessions, "session"),
        host(health)
    );
    let facts = json!({
        "address": address.to_string(),
        "version": version,
        "pid": health.pid,
        "started": health.started,
        "clients": health.clients,
        "sessions": health.sessions,
        "host": health.host,
    });
    finding(Component::Server, State::Ok, says, facts)
}

fn host(health: &Health) -> String {
    match (&health.host.name, &health.host.version) {
        (Some(name), Some(version)) => format!("{name} {version}"),
        _ => "a program that has not said its name".to_owned(),
    }
}

fn pluralize(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Reports who may connect, and whether that keeps the server from listening.
pub fn access(host: IpAddr, access: &Access) -> Finding {
    let (state, says) = match (access.usable_tokens(), access.policy()) {
        (Err(NoTokens::FileUnusable(why)), _) => (State::Problem, format!("no app can connect: {why}")),
        (Err(NoTokens::Expired), _) => (
            State::Problem,
            "no app can connect: every token has expired".to_owned(),
        ),
        (Err(NoTokens::NotConfigured), _) if !host.is_loopback() => (
            State::Problem,
            format!("to listen on {host}, where other machines could connect, a server needs a token"),
        ),
        (_, Policy::LocalOnly) => (
            State::Ok,
            "programs of this machine need no token, and nobody else may connect".to_owned(),
        ),
        _ if !access.has_operator() => (
            State::Note,
            "every client with a token may connect; no token is an operator's, so permission prompts stay in the terminal"
                .to_owned(),
        ),
        _ => (State::Ok, "every client with a token may connect".to_owned()),
    };
    let facts = json!({
        "token_needed": access.policy() != Policy::LocalOnly,
        "file_usable": access.policy() != Policy::FileUnusable,
    });
    finding(Component::Access, state, says, facts)
}

/// Reports where what is said is kept on disk, how much that is, and what keeps it from there. `folder` is `None` if this
/// user has no home.
pub fn store(folder: Option<&StoreFolder>, answer: &ProbeResult) -> Finding {
    let server = match answer {
        ProbeResult::Health(health) => Some(&health.store),
        _ => None,
    };
    let (state, says) = match server {
        Some(store) => store_of_server(folder, store),
        None => store_without_server(folder),
    };
    let facts = json!({
        "folder": folder.map(|folder| folder.path.display().to_string()),
        "store": server.map(|store| store.state),
        "bytes": server.map(|store| store.bytes).or_else(|| folder?.bytes),
        "pending": server.map(|store| store.pending),
    });
    finding(Component::Store, state, says, facts)
}

fn store_of_server(folder: Option<&StoreFolder>, store: &StoreHealth) -> (State, String) {
    // The server may have been given another folder than this program.
    let found = folder.filter(|folder| folder.bytes.is_some());
    let place = found.map_or_else(
        || "its state folder".to_owned(),
        |folder| folder.path.display().to_string(),
    );
    match store.state {
        StoreState::Off => (
            State::Note,
            "the server keeps what is said in memory only, because --history-ttl is 0".to_owned(),
        ),
        StoreState::Opening => (
            State::Note,
            format!("the server is opening its store in {place}"),
        ),
        StoreState::Open => (
            State::Ok,
            format!(
                "the server keeps what is said in {place}: {}",
                ByteSize(store.bytes)
            ),
        ),
        StoreState::Failing | StoreState::Unavailable => {
            let why = folder.and_then(StoreFolder::explanation);
            let why = why.unwrap_or_else(|| {
                format!("the server cannot write to {place}, and its log says why")
            });
            let says = format!("{why}; until then what is said is kept in memory only");
            (State::Problem, says)
        }
    }
}

fn store_without_server(folder: Option<&StoreFolder>) -> (State, String) {
    let Some(folder) = folder else {
        let says = "this user has no home, so what is said is kept in memory only; set CLAUDE_SOCKET_STATE_DIR";
        return (State::Note, says.to_owned());
    };
    let path = folder.path.display();
    match (folder.explanation(), folder.bytes) {
        (Some(why), _) => (State::Problem, why),
        (None, Some(bytes)) => (
            State::Ok,
            format!("what was said is kept in {path}: {}", ByteSize(bytes)),
        ),
        (None, None) => (State::Note, format!("nothing is kept in {path} yet")),
    }
}

/// Reports whether `claude` is there, and new enough.
pub fn claude_code(claude: &Claude) -> Finding {
    let (state, says, version) = match &claude.version {
        Ok(version) if *version < CHANNELS => (
            State::Problem,
            format!("{version} is too old: channels need {CHANNELS} or newer"),
            Some(version),
        ),
        Ok(version) if *version < PERMISSIONS => (
            State::Note,
            format!("{version} relays no permission prompts; {PERMISSIONS} does"),
            Some(version),
        ),
        Ok(version) => (State::Ok, version.to_string(), Some(version)),
        Err(why) => (State::Note, format!("the command claude {why}"), None),
    };
    let facts = json!({ "version": version.map(ToString::to_string) });
    finding(Component::ClaudeCode, state, says, facts)
}

/// Reports whether the plugin is installed, enabled, and of this version.
pub fn plugin(claude: &Claude) -> Finding {
    let plugin = match &claude.plugin {
        Ok(Some(plugin)) => plugin,
        Ok(None) => {
            let says = "is not installed; a raw MCP config works without".to_owned();
            let facts = json!({ "installed": false });
            return finding(Component::Plugin, State::Note, says, facts);
        }
        Err(why) => {
            let says = format!("it is unknown whether it is installed: the command claude {why}");
            let facts = json!({ "installed": null });
            return finding(Component::Plugin, State::Note, says, facts);
        }
    };
    let (id, version, own) = (&plugin.id, &plugin.version, env!("CARGO_PKG_VERSION"));
    let (state, says) = if !plugin.enabled {
        (
            State::Note,
            format!("{id} {version} is installed, but disabled"),
        )
    } else if version != own {
        (
            State::Note,
            format!("{id} is version {version}, and this program {own}"),
        )
    } else {
        (
            State::Ok,
            format!("{id} {version} is installed and enabled"),
        )
    };
    let facts =
        json!({ "installed": true, "id": id, "version": version, "enabled": plugin.enabled });
    finding(Component::Plugin, state, says, facts)
}

/// Reports whether messages get from the server into the conversation. Returns `None` without a
/// server.
pub fn channel(answer: &ProbeResult) -> Option<Finding> {
    let ProbeResult::Health(health) = answer else {
        return None;
    };
    let channel = &health.channel;
    let (state, says) = match channel.proven {
        _ if !health.host.ready => (
            State::Problem,
            "the program that started the server is not ready for messages yet".to_owned(),
        ),
        Some(true) => (
            State::Ok,
            "proven: an app's message has come into the conversation".to_owned(),
        ),
        Some(false) => (
            State::Problem,
            format!(
                "{} unseen: {}",
                pluralize(channel.unseen, "message"),
                channel.hint.as_deref().unwrap_or_default()
            ),
        ),
        None if channel.hooks || channel.plugin => (
            State::Note,
            "not proven yet: no app has said anything; send a message, then look again".to_owned(),
        ),
        None => (
            State::Note,
            "not proven yet: no hook has called, and without the plugin's hooks only a reply can show it"
                .to_owned(),
        ),
    };
    let facts = json!(channel);
    Some(finding(Component::Channel, state, says, facts))
}

/// Returns what to type, for the first problem on the way.
pub fn next_steps(
    address: SocketAddr,
    answer: &ProbeResult,
    token: Token,
    access: &Finding,
    claude: &Claude,
) -> Vec<String> {
    let too_old = |version: &Version| *version < CHANNELS;
    match answer {
        _ if claude.version.as_ref().is_ok_and(too_old) => vec!["claude update".to_owned()],
        _ if access.state == State::Problem => vec![match access.facts["file_usable"] {
            Value::Bool(false) => {
                "claude-socket token list   (once the file is repaired)".to_owned()
            }
            _ => "claude-socket token add NAME --role operator".to_owned(),
        }],
        ProbeResult::Health(health)
            if health.host.ready && health.channel.proven != Some(false) =>
        {
            Vec::new()
        }
        ProbeResult::Health(_) => match &claude.plugin {
            Ok(Some(plugin)) if plugin.enabled => {
                vec![start_command(&format!("plugin:{}", plugin.id))]
            }
            _ => vec![start_command("server:claude-socket")],
        },
        ProbeResult::Refused(401) if token != Token::NotSent => {
            vec!["CLAUDE_SOCKET_TOKEN=TOKEN claude-socket doctor".to_owned()]
        }
        ProbeResult::Refused(_) | ProbeResult::Other => {
            let other = address.port().checked_add(1).unwrap_or(3100);
            vec![format!(
                "export CLAUDE_SOCKET_PORT={other}   (here, and where Claude Code is started)"
            )]
        }
        ProbeResult::NoListener => steps_to_server(claude),
    }
}

/// Returns what to type to get a server, depending on what is installed.
fn steps_to_server(claude: &Claude) -> Vec<String> {
    match &claude.plugin {
        Ok(Some(plugin)) => {
            let enable = format!("claude plugin enable {}", plugin.id);
            let enable = Some(enable).filter(|_| !plugin.enabled);
            let start = start_command(&format!("plugin:{}", plugin.id));
            enable.into_iter().chain([start]).collect()
        }
        Ok(None) => vec![
            "claude plugin marketplace add OWNER/REPOSITORY   (or the folder of a checkout)"
                .to_owned(),
            "claude plugin install claude-socket@claude-socket".to_owned(),
            start_command("plugin:claude-socket@claude-socket"),
        ],
        Err(_) => vec![
            "install Claude Code (https://code.claude.com/docs/en/setup), then: claude-socket doctor"
                .to_owned(),
            "or try it without: claude-socket demo".to_owned(),
        ],
    }
}

/// Returns the command that starts Claude Code with the channel on.
fn start_command(channel: &str) -> String {
    format!("claude --dangerously-load-development-channels {channel}")
}
