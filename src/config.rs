//! Every setting: its flag, its environment variable, its default, its parser.
//!
//! `--help`, the manual pages and docs/settings.md are made from what is written here.

use std::env;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use log::{LevelFilter, warn};

use crate::access;
use crate::access::token::{EnvToken, EnvTokenError};
use crate::agent::channel::ServerKey;
use crate::audit::Audit;
use crate::hub::{INBOX_BYTES, INBOX_MESSAGES, Limits, max_text, min_frame};
use crate::protocol::{MAX_NAME, check_name};
use crate::socket::OVERSIZE_FACTOR;
use crate::socket::origin::AllowedOrigins;
use crate::{server, socket, store};

/// Claude Code sets it for the server of a plugin (Claude Code plugins reference).
const PLUGIN_ROOT_VARIABLE: &str = "CLAUDE_PLUGIN_ROOT";
/// The variable with the token of the environment.
const TOKEN_VARIABLE: &str = "CLAUDE_SOCKET_TOKEN";
const PORT_VARIABLE: &str = "CLAUDE_SOCKET_PORT";
const DEFAULT_PORT: &str = "3100";
const HOST_VARIABLE: &str = "CLAUDE_SOCKET_HOST";
const DEFAULT_HOST: &str = "127.0.0.1";
/// The folder of the project, which Claude Code sets for the server of a plugin (Claude Code plugins reference).
const PROJECT_VARIABLE: &str = "CLAUDE_PROJECT_DIR";
/// The name of an agent whose project's folder has none, such as `/`.
const DEFAULT_AGENT: &str = "claude";
const HEADING: &str = "Settings";

/// The settings of a server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub struct ServerArgs {
    /// The port to listen on; 0 for any
    #[arg(long, env = PORT_VARIABLE, default_value = DEFAULT_PORT, value_parser = port)]
    pub port: u16,

    /// The address to listen on
    #[arg(long, env = HOST_VARIABLE, default_value = DEFAULT_HOST, value_parser = host)]
    pub host: IpAddr,

    /// Origins whose pages and apps may connect besides those of this machine, such as `https://example.org` or `file://`, separated by commas
    #[arg(long, env = "CLAUDE_SOCKET_ALLOWED_ORIGINS", value_name = "ORIGINS", value_parser = AllowedOrigins::parse)]
    pub allowed_origins: Option<AllowedOrigins>,

    /// The name of this Claude Code, under which it finds its sessions again; that of the project's folder if it is not given
    #[arg(long, env = "CLAUDE_SOCKET_AGENT", value_name = "NAME", value_parser = agent_name)]
    pub agent: Option<Arc<str>>,

    #[command(flatten)]
    pub state: StateArgs,

    /// A file that gets a JSON line for every connection, refusal and verdict
    #[arg(long, env = "CLAUDE_SOCKET_AUDIT", value_name = "FILE")]
    pub audit: Option<PathBuf>,

    /// How long a session is kept after its last client left
    #[arg(long, env = "CLAUDE_SOCKET_SESSION_TTL", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub session_ttl: Duration,

    /// How long an answer is kept that nobody has received, and its session with it
    #[arg(long, env = "CLAUDE_SOCKET_UNSEEN_TTL", value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub unseen_ttl: Duration,

    /// How long a permission request waits for a verdict
    #[arg(long, env = "CLAUDE_SOCKET_PERMISSION_TTL", value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub permission_ttl: Duration,

    /// How long messages wait for a Claude Code that has just started: what comes before it has registered the channel is
    /// lost. With the plugin's hooks, which report what is seen, it is an eighth of that
    #[arg(long, env = "CLAUDE_SOCKET_CHANNEL_DELAY", value_name = "DURATION", default_value = "2s", value_parser = delay)]
    pub channel_delay: Duration,

    /// How long an idle Claude Code may take to put a message into its conversation
    #[arg(long, env = "CLAUDE_SOCKET_SEEN_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub seen_timeout: Duration,

    /// The most permission requests that wait at once; one more pushes the oldest out
    #[arg(long, env = "CLAUDE_SOCKET_MAX_PERMISSIONS", value_name = "COUNT", default_value = "64", value_parser = count)]
    pub max_permissions: usize,

    /// The most connections at once; fewer if the system allows fewer open files
    #[arg(long, env = "CLAUDE_SOCKET_MAX_CONNECTIONS", value_name = "COUNT", default_value = "16384", value_parser = count)]
    pub max_connections: usize,

    /// The most sessions at once; one that nobody needs makes room for another
    #[arg(long, env = "CLAUDE_SOCKET_MAX_SESSIONS", value_name = "COUNT", default_value = "10000", value_parser = count)]
    pub max_sessions: usize,

    /// The most sessions that the clients with one token, or one connection without a token, may begin
    #[arg(long, env = "CLAUDE_SOCKET_MAX_SESSIONS_PER_TOKEN", value_name = "COUNT", default_value = "5000", value_parser = count)]
    pub max_sessions_per_token: usize,

    /// The longest message of a client, in bytes; seven eighths of the longest frame at most
    #[arg(long, env = "CLAUDE_SOCKET_MAX_MESSAGE", value_name = "SIZE", default_value = "448KiB", value_parser = size)]
    pub max_message: usize,

    /// The longest frame for a client, in bytes; many clients take 1MiB at most
    #[arg(long, env = "CLAUDE_SOCKET_MAX_FRAME", value_name = "SIZE", default_value = "512KiB", value_parser = size)]
    pub max_frame: usize,

    /// The longest session id and user name, in characters
    #[arg(long, env = "CLAUDE_SOCKET_MAX_ID_LENGTH", value_name = "COUNT", default_value = "128", value_parser = count)]
    pub max_id_length: usize,

    /// How long what was said is kept on disk; with 0 nothing is written there, and it is kept in memory only
    #[arg(long, env = "CLAUDE_SOCKET_HISTORY_TTL", value_name = "DURATION", default_value = "30d", value_parser = history_ttl)]
    pub history_ttl: Duration,

    /// The most bytes of history on disk, at least 1MiB; beyond that the oldest messages are removed
    #[arg(long, env = "CLAUDE_SOCKET_HISTORY_DISK", value_name = "SIZE", default_value = "256MiB", value_parser = disk_size)]
    pub history_disk: u64,

    /// The most messages of a session's history in memory, from where the newest are read; answers that nobody has received
    /// stay beyond that
    #[arg(long, env = "CLAUDE_SOCKET_HISTORY_MESSAGES", value_name = "COUNT", default_value = "100", value_parser = count)]
    pub history_messages: usize,

    /// The most bytes of a session's history in memory, with all that a message costs beside its text; answers that nobody
    /// has received stay beyond that
    #[arg(long, env = "CLAUDE_SOCKET_HISTORY_SIZE", value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    pub history_size: usize,

    /// The most bytes of history in memory, of all sessions together; beyond that those of the longest are left to the disk,
    /// the oldest first. Half of it is for answers that nobody has received, a quarter for those of one session; more of them
    /// are refused
    #[arg(long, env = "CLAUDE_SOCKET_HISTORY_TOTAL", value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    pub history_total: usize,

    /// The most memory for the ids of messages, of all sessions together; beyond that the sessions with the most forget
    /// their oldest
    #[arg(long, env = "CLAUDE_SOCKET_RECEIPTS_TOTAL", value_name = "SIZE", default_value = "16MiB", value_parser = size)]
    pub receipts_total: usize,

    /// The most bytes of memory that wait for one slow client before it is disconnected, with the frame that is being written
    #[arg(long, env = "CLAUDE_SOCKET_MAX_BACKLOG", value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    pub max_backlog: usize,

    /// The most bytes of messages that are not complete, or wait for Claude Code, of all clients together; beyond that whoever
    /// has most is rejected, or disconnected
    #[arg(long, env = "CLAUDE_SOCKET_MAX_PENDING", value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    pub max_pending: usize,

    /// How long a client may take to send the request for its connection
    #[arg(long, env = "CLAUDE_SOCKET_HANDSHAKE_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub handshake_timeout: Duration,

    /// How long a client may be silent before it is pinged
    #[arg(long, env = "CLAUDE_SOCKET_PING_INTERVAL", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub ping_interval: Duration,

    /// How long a client may be silent before it is disconnected; more than the ping interval
    #[arg(long, env = "CLAUDE_SOCKET_PING_TIMEOUT", value_name = "DURATION", default_value = "90s", value_parser = duration)]
    pub ping_timeout: Duration,

    /// Whether Claude may use reply, status and fetch_messages without a prompt
    #[arg(long, env = "CLAUDE_SOCKET_APPROVE_OWN_TOOLS", value_name = "BOOL", default_value = "true", action = ArgAction::Set,
        value_parser = parse_bool)]
    pub approve_own_tools: bool,

    /// The server's name in the mcpServers of a raw MCP config, if it is another one
    #[arg(
        long,
        env = "CLAUDE_SOCKET_SERVER_KEY",
        value_name = "KEY",
        default_value = "claude-socket"
    )]
    pub server_key: String,

    /// A file or pipe that gets a JSON line whenever the server begins or fails to listen
    #[arg(long, value_name = "FILE", hide = true)]
    pub ready_file: Option<PathBuf>,

    /// How much is logged: off, error, warn, info, debug, trace; message texts are never logged
    #[arg(long, env = "CLAUDE_SOCKET_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = level)]
    pub log_level: LevelFilter,

    /// A file that gets the log too, beside stderr
    #[arg(long, env = "CLAUDE_SOCKET_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// Where the tokens are, and what was said.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub struct StateArgs {
    /// The folder with the tokens and what was said, in full; instead of ~/.claude/channels/claude-socket
    #[arg(long, env = "CLAUDE_SOCKET_STATE_DIR", value_name = "FOLDER", value_parser = folder)]
    pub state_dir: Option<PathBuf>,
}

/// Whose database a command works on.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = HEADING)]
pub struct PortArgs {
    /// The port of the server whose messages they are; 0 for one that listens on any
    #[arg(long, env = PORT_VARIABLE, default_value = DEFAULT_PORT, value_parser = port)]
    pub port: u16,
}

/// Which server a command talks to.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = HEADING)]
pub struct AddressArgs {
    /// The server's port
    #[arg(long, env = PORT_VARIABLE, default_value = DEFAULT_PORT, value_parser = port)]
    pub port: u16,

    /// The server's address
    #[arg(long, env = HOST_VARIABLE, default_value = DEFAULT_HOST, value_parser = host)]
    pub host: IpAddr,
}

/// The settings of a server that a command starts, as they were given on its own command line.
#[derive(Clone, Debug)]
pub struct ServerFlags {
    /// As flags again.
    pub given: Vec<OsString>,
}

impl Args for ServerFlags {
    fn augment_args(command: Command) -> Command {
        ServerArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        ServerArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for ServerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            given: given_flags(matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given.extend(given_flags(matches));
        Ok(())
    }
}

/// Returns the token of the environment as it is. There is no flag for it: everyone on the
/// machine can see the arguments of every process.
pub fn env_token() -> Option<String> {
    env::var(TOKEN_VARIABLE)
        .ok()
        .filter(|token| !token.is_empty())
}

/// Returns the token of the environment for comparison with those that clients send.
///
/// # Errors
/// One line, without the token.
pub fn env_secret() -> Result<Option<EnvToken>, String> {
    with_env_token(EnvToken::parse)
}

/// Checks the token of the environment.
///
/// # Errors
/// One line, without the token.
pub fn check_env_token() -> Result<(), String> {
    with_env_token(EnvToken::check).map(|_| ())
}

fn with_env_token<T>(
    parse: impl Fn(&str) -> Result<T, EnvTokenError>,
) -> Result<Option<T>, String> {
    let Some(token) = env::var_os(TOKEN_VARIABLE).filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    parse(&token.to_string_lossy())
        .map(Some)
        .map_err(|why| format!("{TOKEN_VARIABLE} cannot be used: {why}"))
}

impl AddressArgs {
    /// Returns where the server can be reached from this machine.
    pub fn address(self) -> SocketAddr {
        let host = match self.host {
            host if !host.is_unspecified() => host,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(host, self.port)
    }
}

impl StateArgs {
    /// Returns where tokens come from.
    pub fn access(&self) -> access::Options {
        access::Options {
            // A command that reads its arguments has already reported what is wrong with it.
            token: env_secret().unwrap_or_default(),
            file: self.token_file(),
        }
    }

    /// Returns the state folder; `None` if this user has no home.
    pub fn folder(&self) -> Option<PathBuf> {
        Some(self.token_file()?.parent()?.to_owned())
    }

    /// Returns the path of the token file; `None` if this user has no home.
    pub fn token_file(&self) -> Option<PathBuf> {
        access::file::path(self.state_dir.as_deref())
    }

    /// Returns the folder of the store; `None` if this user has no home.
    pub fn store_folder(&self) -> Option<PathBuf> {
        let folder = access::file::state_folder(self.state_dir.as_deref())?;
        Some(folder.join("store"))
    }
}

impl ServerArgs {
    /// Checks what no setting can check alone.
    ///
    /// # Errors
    /// One line, as [`explain`] gives it.
    pub fn check(&self) -> Result<(), String> {
        self.check_ping()?;
        self.check_sizes()
    }

    fn check_ping(&self) -> Result<(), String> {
        if self.ping_timeout > self.ping_interval {
            return Ok(());
        }
        let [timeout, interval] =
            [self.ping_timeout, self.ping_interval].map(humantime::format_duration);
        Err(format!(
            "--ping-timeout (CLAUDE_SOCKET_PING_TIMEOUT) cannot be \"{timeout}\": give more than the ping interval, which is {interval}"
        ))
    }

    /// What a client sends must fit into a frame for the others, with names around it.
    fn check_sizes(&self) -> Result<(), String> {
        let (frame, message) = (self.max_frame, self.max_message);
        let least = min_frame(self.max_id_length);
        if frame < least {
            return Err(format!(
                "--max-frame (CLAUDE_SOCKET_MAX_FRAME) cannot be \"{frame}\" bytes: give at least {least}, or a smaller --max-id-length, which is {}",
                self.max_id_length
            ));
        }
        let most = max_text(frame);
        if message > most {
            return Err(format!(
                "--max-message (CLAUDE_SOCKET_MAX_MESSAGE) cannot be \"{message}\" bytes: give at most {most}, which is seven eighths of --max-frame (CLAUDE_SOCKET_MAX_FRAME), or raise that"
            ));
        }
        let (pending, least) = (self.max_pending, message.saturating_mul(OVERSIZE_FACTOR));
        if pending < least {
            return Err(format!(
                "--max-pending (CLAUDE_SOCKET_MAX_PENDING) cannot be \"{pending}\" bytes: give at least {least}, which is {OVERSIZE_FACTOR} times --max-message (CLAUDE_SOCKET_MAX_MESSAGE)"
            ));
        }
        Ok(())
    }

    /// Returns where the store is and what it keeps; `None` if nothing may be kept on disk, or there is no place for it.
    fn store_options(&self, agent: &Arc<str>) -> Option<store::Options> {
        if self.history_ttl.is_zero() {
            return None;
        }
        let folder = self.state.store_folder();
        if folder.is_none() {
            warn!(
                "this user has no home, so what is said is kept in memory only; set CLAUDE_SOCKET_STATE_DIR"
            );
        }
        Some(store::Options {
            folder: folder?,
            port: self.port,
            agent: agent.clone(),
            ttl: self.history_ttl,
            max_bytes: self.history_disk,
        })
    }

    /// Returns the settings as the server takes them.
    pub fn server_config(&self, audit: Audit) -> server::Config {
        let plugin_root = env::var_os(PLUGIN_ROOT_VARIABLE);
        let is_plugin = plugin_root.is_some_and(|root| !root.is_empty());
        let agent = self.agent.clone().unwrap_or_else(default_agent);
        let store = self.store_options(&agent);
        server::Config {
            audit,
            agent,
            access: self.state.access(),
            limits: Limits {
                session_ttl: self.session_ttl,
                unread_ttl: self.unseen_ttl,
                permission_ttl: self.permission_ttl,
                channel_delay: self.channel_delay,
                seen_timeout: self.seen_timeout,
                max_permissions: self.max_permissions,
                max_sessions: self.max_sessions,
                max_sessions_per_token: self.max_sessions_per_token,
                history_messages: self.history_messages,
                history_bytes: self.history_size,
                history_total: self.history_total,
                receipts_total: self.receipts_total,
                inbox_messages: INBOX_MESSAGES,
                inbox_bytes: INBOX_BYTES,
                max_message: self.max_message,
                max_frame: self.max_frame,
                stores: store.is_some(),
            },
            store,
            socket: socket::Options {
                host: self.host,
                port: self.port,
                allowed_origins: self.allowed_origins.clone().unwrap_or_default(),
                max_connections: self.max_connections,
                max_message: self.max_message,
                max_name: self.max_id_length,
                max_backlog: self.max_backlog,
                max_pending: self.max_pending,
                handshake_timeout: self.handshake_timeout,
                ping_interval: self.ping_interval,
                ping_timeout: self.ping_timeout,
            },
            ready_file: self.ready_file.clone(),
            approve_own_tools: self.approve_own_tools,
            server_key: if is_plugin {
                ServerKey::Plugin
            } else {
                ServerKey::Raw(self.server_key.clone())
            },
            has_hooks: is_plugin,
            control: self.state.folder().map(|state| server::control::Options {
                state,
                port: self.port,
            }),
        }
    }
}

/// Returns the command line, in which an empty variable counts as unset: that is what
/// `"${NAME:-}"` in somebody's configuration means.
pub fn ignore_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let variable = arg.get_env().and_then(env::var_os);
        if variable.is_some_and(|value| value.is_empty()) {
            arg.env(Resettable::Reset)
        } else {
            arg
        }
    });
    command.mut_subcommands(ignore_empty_variables)
}

/// Returns the settings of a server that were given as flags, as flags again.
pub fn given_flags(matches: &ArgMatches) -> Vec<OsString> {
    let mut flags = Vec::new();
    for setting in ServerArgs::augment_args(Command::new("")).get_arguments() {
        let id = setting.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut flag = OsString::from(format!("--{}=", setting.get_long().unwrap_or(id)));
            flag.push(value);
            flags.push(flag);
        }
    }
    flags
}

/// Returns one line about a wrong argument of this command line: which setting, which value,
/// what would be right. Returns `None` if it is another kind of error, or no error at all.
pub fn explain(error: &clap::Error, command: &Command) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};

    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if error.kind() == ErrorKind::InvalidUtf8 {
        return Some("a setting is not valid UTF-8; give its value as plain text".into());
    }
    if !matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    ) {
        return None;
    }
    let flag = text(ContextKind::InvalidArg)?
        .split([' ', '[', '='])
        .next()?;
    let value = text(ContextKind::InvalidValue)?;
    let Some(right) = std::error::Error::source(error) else {
        // Clap's own message lists the values that are possible.
        return value.is_empty().then(|| format!("{flag} needs a value"));
    };
    let variable = variable_of(flag.trim_start_matches('-'), command);
    let variable = variable.map_or_else(String::new, |variable| format!(" ({variable})"));
    Some(format!("{flag}{variable} cannot be {value:?}: {right}"))
}

/// Returns the variable that sets the same as a flag, of any command.
fn variable_of(flag: &str, command: &Command) -> Option<String> {
    let is_it = |arg: &&Arg| arg.get_long() == Some(flag);
    let variable = command.get_arguments().find(is_it).and_then(Arg::get_env);
    let variable = variable.map(|variable| variable.to_string_lossy().into_owned());
    variable.or_else(|| {
        let mut commands = command.get_subcommands();
        commands.find_map(|command| variable_of(flag, command))
    })
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "give a port from 0 to 65535".into())
}

fn host(text: &str) -> Result<IpAddr, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bracketed
        .unwrap_or(text)
        .parse()
        .map_err(|_| "give an IP address such as 127.0.0.1 or ::1, or localhost".into())
}

/// Parses a duration with a unit, from above zero to 365 days.
///
/// # Errors
/// What would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= MAX_DURATION => Ok(duration),
        _ => Err("give a duration above zero and up to 365days with its unit, such as 500ms, 30s, 5m or 24h".into()),
    }
}

/// Parses a duration with a unit, up to 365 days, that may be zero.
fn delay(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => Err("give a duration up to 365days with its unit, such as 0s, 500ms, 2s or 1m".into()),
    }
}

/// Parses a duration with a unit, up to 365 days, or 0.
fn history_ttl(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    delay(text).map_err(|_| {
        "give a duration up to 365days with its unit, such as 12h or 30d, or 0 to keep nothing on disk".into()
    })
}

/// Far beyond any use, and well within what clocks can add.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn size(text: &str) -> Result<usize, String> {
    let size: Option<ByteSize> = text.parse().ok();
    size.and_then(|size| usize::try_from(size.as_u64()).ok())
        .filter(|size| *size > 0)
        .ok_or_else(|| "give a size such as 64KiB, 1MiB or 4MB".into())
}

/// The smallest `--history-disk`, in bytes.
const MIN_DISK: u64 = 1024 * 1024;

fn disk_size(text: &str) -> Result<u64, String> {
    let size: Option<ByteSize> = text.parse().ok();
    size.map(|size| size.as_u64())
        .filter(|size| *size >= MIN_DISK)
        .ok_or_else(|| "give a size from 1MiB on, such as 64MiB or 1GiB".into())
}

/// Parses the name of an agent.
fn agent_name(text: &str) -> Result<Arc<str>, String> {
    if cleaned_name(text) == text && !text.is_empty() {
        return Ok(text.into());
    }
    Err(format!(
        "give a name of 1 to {MAX_NAME} characters, without line breaks or other control characters, and without spaces around it"
    ))
}

/// Returns the name of an agent that has been given none: that of the folder of its project.
fn default_agent() -> Arc<str> {
    let project = env::var_os(PROJECT_VARIABLE).filter(|folder| !folder.is_empty());
    let project = project.map(PathBuf::from);
    agent_in(project.or_else(|| env::current_dir().ok()).as_deref())
}

/// Returns the name of an agent whose project is in this folder.
fn agent_in(project: Option<&Path>) -> Arc<str> {
    let name = project.and_then(Path::file_name).unwrap_or_default();
    match cleaned_name(&name.to_string_lossy()) {
        name if name.is_empty() => DEFAULT_AGENT.into(),
        name => name.into(),
    }
}

/// Returns a text without what a name can't have.
fn cleaned_name(text: &str) -> String {
    let fits = |c: &char| check_name("agent", c.encode_utf8(&mut [0; 4]), 1).is_ok();
    let name: String = text.chars().filter(fits).collect();
    let name: String = name.trim().chars().take(MAX_NAME).collect();
    name.trim_end().to_owned()
}

/// Parses a number of things.
///
/// # Errors
/// What would be right.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("give a whole number from 1 on".into()),
    }
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("give true or false".into()),
    }
}

/// Parses the path of a folder. It must be absolute: the server and `token` are started from
/// different folders.
fn folder(text: &str) -> Result<PathBuf, String> {
    let folder = PathBuf::from(text);
    if folder.is_absolute() {
        return Ok(folder);
    }
    Err("give the folder in full, such as /home/ann/claude-socket".into())
}

fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| "give off, error, warn, info, debug or trace".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_is_named_after_the_folder_of_its_project() {
        let long = "x".repeat(MAX_NAME);
        let cases = [
            (Some("/home/ann/greenhouse"), "greenhouse"),
            (Some("/home/ann/greenhouse/"), "greenhouse"),
            (Some("/home/ann/my project"), "my project"),
            (Some("/home/ann/Grün"), "Grün"),
            (Some("/home/ann/ two\nlines\u{2028} "), "twolines"),
            (Some("/home/ann/\u{7}"), "claude"),
            (Some("/"), "claude"),
            (None, "claude"),
            (Some(&format!("/{long}y")), &long),
        ];
        for (folder, name) in cases {
            assert_eq!(*agent_in(folder.map(Path::new)), *name, "{folder:?}");
            assert_eq!(agent_name(name).as_deref(), Ok(name));
        }
        for wrong in ["", " ", " a", "a ", "a\nb", &format!("{long}y")] {
            assert!(agent_name(wrong).is_err(), "{wrong}");
        }
    }
}
