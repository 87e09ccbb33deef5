//! The file with the tokens: `access.json` in the folder where channels conventionally keep
//! theirs.
//!
//! No other user may read it or replace it. A file with anything unknown in it is not used at
//! all: that could be a restriction.

use std::collections::HashSet;
use std::env;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::check_name;
use super::expiry::Expiry;
use super::token::Digest;
use crate::private_file::{Exposure, check_file, check_folder, folder_of};
use crate::protocol::{Grant, Rate, RateLimit, Role, SessionPattern};

const NAME: &str = "access.json";
/// The format that is written, and the only one that is read.
const VERSION: u32 = 1;
/// The largest file, in bytes. 10,000 tokens take a fifth of it.
const MAX_SIZE: u64 = 16 * 1024 * 1024;
/// How long another process may take to change the tokens.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the lock is tried meanwhile.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// A token as the file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredToken {
    /// Who uses it.
    pub name: String,
    pub role: Role,
    /// The sessions that it is bound to; all if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionPattern>,
    /// How much it may send; what its role may if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// When it expires; never if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
    pub sha256: Digest,
    /// RFC 3339.
    #[serde(default)]
    pub created: String,
}

impl StoredToken {
    /// Returns what it allows, with no id yet.
    pub fn grant(&self) -> Grant {
        Grant {
            id: 0,
            user: Some(self.name.as_str().into()),
            role: self.role,
            sessions: self.sessions.clone(),
            rate: self.rate(),
        }
    }

    /// Returns how much it may send; any amount if `None`.
    pub fn rate(&self) -> Option<Rate> {
        match (self.rate, self.role) {
            (Some(limit), _) => limit.rate(),
            (None, Role::Sender) => Some(Rate::OF_SENDERS),
            (None, _) => None,
        }
    }

    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expiry| expiry.is_over(now))
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.name).map_err(|error| error.to_string())?;
        if self.role.can_approve() && self.sessions.is_some() {
            return Err(format!(
                "\"{}\" is an operator, who decides for all sessions, and cannot be bound to some",
                self.name
            ));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    tokens: Vec<StoredToken>,
}

#[derive(Serialize)]
struct ContentsRef<'a> {
    version: u32,
    tokens: &'a [StoredToken],
}

/// Why the tokens can't be read or changed. Its `Display` is one sentence that says what is wrong
/// with the file, and what to do.
#[derive(Debug)]
pub enum TokenFileError {
    /// The system is out of descriptors or memory; the file itself may be fine.
    Transient(io::Error),
    /// The file can't be trusted or understood.
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
    /// The file can't be changed.
    NotChanged {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// What is wrong with the file, or with the folder that it is in.
#[derive(Debug)]
pub enum FileProblem {
    /// It held tokens, and is not there any more.
    Removed,
    /// Other users could read or replace it.
    Exposed(Exposure),
    /// It can't be read.
    Unreadable(io::Error),
    /// It has more than 16 MiB.
    TooLarge,
    /// It is not UTF-8.
    NotText,
    /// Its content is not what this version writes.
    Malformed(String),
}

impl TokenFileError {
    pub(super) fn unusable(path: &Path, problem: FileProblem) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            problem,
        }
    }

    fn not_changed(path: &Path, error: io::Error) -> Self {
        Self::NotChanged {
            path: path.to_owned(),
            error,
        }
    }
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient(error) => error.fmt(f),
            Self::Unusable { path, problem } => {
                write!(f, "the tokens in {} ", path.display())?;
                problem.fmt(f, path)
            }
            Self::NotChanged { path, error } => {
                let path = path.display();
                write!(f, "the tokens in {path} cannot be changed: {error}")
            }
        }
    }
}

impl FileProblem {
    /// Writes what is wrong with the tokens, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
        match self {
            Self::Removed => f.write_str(
                "are gone, for the file was removed; put it back, or make new ones with \"claude-socket token add\", or, to go without tokens, start Claude Code again",
            ),
            Self::Exposed(exposure) => exposure.fmt(f, path),
            Self::Unreadable(error) => {
                write!(f, "cannot be read ({error}); check who owns them")
            }
            Self::TooLarge => f.write_str("are too many; remove some"),
            Self::NotText => f.write_str("are not text; remove the file and make new ones"),
            Self::Malformed(why) => write!(
                f,
                "cannot be understood: {why}; repair the file, or remove it and make new tokens"
            ),
        }
    }
}

impl std::error::Error for TokenFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Transient(error) | Self::NotChanged { error, .. } => Some(error),
            Self::Unusable { problem, .. } => match problem {
                FileProblem::Unreadable(error) => Some(error),
                FileProblem::Exposed(exposure) => exposure.source(),
                _ => None,
            },
        }
    }
}

impl From<TokenFileError> for io::Error {
    fn from(error: TokenFileError) -> Self {
        match error {
            TokenFileError::Transient(error) => error,
            error => Self::other(error),
        }
    }
}

/// Returns where the file is. `None` if this user has no home.
pub fn path(folder: Option<&Path>) -> Option<PathBuf> {
    Some(state_folder(folder)?.join(NAME))
}

/// Returns the state folder: `folder`, or the folder of this channel. `None` if this user has no home.
pub fn state_folder(folder: Option<&Path>) -> Option<PathBuf> {
    let claude = || match env::var_os("CLAUDE_CONFIG_DIR") {
        Some(folder) if !folder.is_empty() => Some(PathBuf::from(folder)),
        _ => Some(env::home_dir()?.join(".claude")),
    };
    let channel = || Some(claude()?.join("channels").join(env!("CARGO_PKG_NAME")));
    let folder = folder.map(Path::to_owned).or_else(channel)?;
    folder.is_absolute().then_some(folder)
}

/// Reads the tokens. Returns `None` if there is no file.
///
/// # Errors
/// [`TokenFileError::Transient`] or [`TokenFileError::Unusable`].
pub fn read(path: &Path) -> Result<Option<Vec<StoredToken>>, TokenFileError> {
    let unusable = |problem| TokenFileError::unusable(path, problem);
    let exposed = |exposure| unusable(FileProblem::Exposed(exposure));
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let (file, metadata) = match file.and_then(|file| Ok((file.metadata()?, file))) {
        Ok((metadata, file)) => (file, metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Whoever can write to the folder may have taken the file away.
            if path.parent().is_some_and(Path::exists) {
                check_folder(path).map_err(exposed)?;
            }
            return Ok(None);
        }
        Err(error) if is_transient(&error) => return Err(TokenFileError::Transient(error)),
        Err(_) if path.is_symlink() => return Err(exposed(Exposure::Symlink)),
        Err(error) => return Err(unusable(FileProblem::Unreadable(error))),
    };
    check_file(&metadata).map_err(exposed)?;
    check_folder(path).map_err(exposed)?;
    let mut text = String::new();
    match file.take(MAX_SIZE + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > MAX_SIZE => Err(unusable(FileProblem::TooLarge)),
        Ok(_) => parse(&text)
            .map(Some)
            .map_err(|why| unusable(FileProblem::Malformed(why))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(unusable(FileProblem::NotText))
        }
        Err(error) => Err(TokenFileError::Transient(error)),
    }
}

fn parse(text: &str) -> Result<Vec<StoredToken>, String> {
    // Some editors put a byte order mark before what they save.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let contents: Contents = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if contents.version != VERSION {
        return Err(format!(
            "they are of version {}, and this is for version {VERSION}",
            contents.version
        ));
    }
    contents.tokens.iter().try_for_each(StoredToken::check)?;
    let (mut names, mut digests) = (HashSet::new(), HashSet::new());
    for token in &contents.tokens {
        let name = token.name.as_str();
        if !names.insert(name) {
            return Err(format!("there are two of the name \"{name}\""));
        }
        if !digests.insert(token.sha256) {
            return Err(format!("\"{name}\" has the token of somebody else"));
        }
    }
    Ok(contents.tokens)
}

/// Returns `true` if the system is out of descriptors or memory, or the call was interrupted.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let transient = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| transient.contains(&errno))
}

/// Changes the tokens. Two that do so at once wait for each other, for 5 s at most. Who reads
/// meanwhile sees the file as it was, or as it is afterwards.
///
/// # Errors
/// Those of `change`, which leave the file alone, or a [`TokenFileError`].
pub fn change<T, E: From<TokenFileError>>(
    path: &Path,
    change: impl FnOnce(&mut Vec<StoredToken>) -> Result<T, E>,
) -> Result<T, E> {
    let not_changed = |error| TokenFileError::not_changed(path, error);
    let parent = folder_of(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(not_changed)?;
    let folder = File::open(parent).map_err(not_changed)?;
    lock(&folder).map_err(not_changed)?;
    let mut tokens = match read(path) {
        Ok(tokens) => tokens.unwrap_or_default(),
        Err(TokenFileError::Transient(error)) => return Err(not_changed(error).into()),
        Err(error) => return Err(error.into()),
    };
    // There may be no file yet, and then nobody has looked at the folder.
    check_folder(path)
        .map_err(|exposure| TokenFileError::unusable(path, FileProblem::Exposed(exposure)))?;
    let result = change(&mut tokens)?;
    write(path, &tokens).map_err(not_changed)?;
    // The rename is on the disk once the folder is.
    folder.sync_all().map_err(not_changed)?;
    Ok(result)
}

/// Locks the folder until it is closed.
fn lock(folder: &File) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => {
                let why = "another process is changing them; try again when it has finished";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn write(path: &Path, tokens: &[StoredToken]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    // A file that a crash has left behind is incomplete.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let contents = ContentsRef {
        version: VERSION,
        tokens,
    };
    let mut text = serde_json::to_vec_pretty(&contents)?;
    text.push(b'\n');
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
