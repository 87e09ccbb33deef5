//! The file with the tokens: `access.json` in the folder that channels conventionally
//! keep such things in.
//!
//! Nobody else may read it or replace it, and what is in it is understood completely or
//! not used at all: a restriction that was overlooked would be none.

use std::collections::HashSet;
use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::check_name;
use super::token::Digest;
use crate::protocol::{Grant, Role, SessionPattern};

/// The file's name.
const NAME: &str = "access.json";
/// What this version writes, and the only one it reads.
const VERSION: u32 = 1;
/// The longest file, in bytes. 10,000 tokens take a fifth of it.
const MAX_SIZE: u64 = 16 * 1024 * 1024;
/// How long somebody else may take to write.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether they have finished.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// A token as the file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredToken {
    /// Who uses it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The sessions it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionPattern>,
    /// The token's digest.
    pub sha256: Digest,
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub created: String,
}

impl StoredToken {
    /// What it allows, under no number yet.
    pub fn grant(&self) -> Grant {
        Grant {
            number: 0,
            user: Some(self.name.as_str().into()),
            role: self.role,
            sessions: self.sessions.clone(),
        }
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        if self.role.decides() && self.sessions.is_some() {
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

/// Why the tokens can't be read.
#[derive(Debug)]
pub enum Error {
    /// The system is short of something.
    Transient(io::Error),
    /// One sentence that says what is wrong with the file, and what to do.
    Wrong(String),
}

/// Where the file is: in `folder`, or where channels keep such things. None if this
/// user has no home.
pub fn path(folder: Option<&Path>) -> Option<PathBuf> {
    let claude = || match env::var_os("CLAUDE_CONFIG_DIR") {
        Some(folder) if !folder.is_empty() => Some(PathBuf::from(folder)),
        _ => Some(env::home_dir()?.join(".claude")),
    };
    let channel = || Some(claude()?.join("channels").join(env!("CARGO_PKG_NAME")));
    let folder = folder.map(Path::to_owned).or_else(channel)?;
    folder.is_absolute().then(|| folder.join(NAME))
}

/// Reads the tokens; `None` if there is no file.
///
/// # Errors
/// [`Error`].
pub fn read(path: &Path) -> Result<Option<Vec<StoredToken>>, Error> {
    let wrong = |why: &str| Error::Wrong(format!("the tokens in {} {why}", path.display()));
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let (file, metadata) = match file.and_then(|file| Ok((file.metadata()?, file))) {
        Ok((metadata, file)) => (file, metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Whoever can write to the folder may have taken it away.
            let is_there = path.parent().is_some_and(Path::exists);
            let folder = if is_there { check_folder(path) } else { Ok(()) };
            return folder.map(|()| None).map_err(|why| wrong(&why));
        }
        Err(error) if is_transient(&error) => return Err(Error::Transient(error)),
        Err(_) if path.is_symlink() => {
            return Err(wrong(
                "are not used: that is a symbolic link; put the file itself there",
            ));
        }
        Err(error) => {
            return Err(wrong(&format!(
                "cannot be read ({error}); check who owns them"
            )));
        }
    };
    if !metadata.is_file() {
        return Err(wrong(
            "are not used: that is no plain file; remove what is there",
        ));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(wrong(
            "are not used: the file belongs to somebody else; give it to the user who runs claude-socket",
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(wrong(&format!(
            "are not used: other users may open the file; run: chmod 600 \"{}\"",
            path.display()
        )));
    }
    check_folder(path).map_err(|why| wrong(&why))?;
    let mut text = String::new();
    match file.take(MAX_SIZE + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > MAX_SIZE => Err(wrong("are too many; remove some")),
        Ok(_) => parse(&text).map(Some).map_err(|why| {
            wrong(&format!(
                "cannot be understood: {why}; repair the file, or remove it and make new tokens"
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(wrong("are not text; remove the file and make new ones"))
        }
        Err(error) => Err(Error::Transient(error)),
    }
}

/// Whoever can write to the folder can put another file there, or take this one away.
fn check_folder(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    let metadata = fs::metadata(folder).map_err(|error| format!("cannot be read ({error})"))?;
    let owners = [geteuid().as_raw(), 0];
    if !owners.contains(&metadata.uid()) {
        return Err(
            "are not used: the folder belongs to somebody else; use one of your own".into(),
        );
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!(
            "are not used: other users may write to the folder; run: chmod 700 \"{}\"",
            folder.display()
        ));
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<StoredToken>, String> {
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

/// The system is short of something, which says nothing about the file.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// Changes the tokens. Two that do so at once wait for each other, and whoever reads
/// meanwhile sees the file as it was, or as it is afterwards.
///
/// # Errors
/// A sentence that says what is wrong, and what to do.
pub fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut Vec<StoredToken>) -> Result<T, String>,
) -> Result<T, String> {
    let cannot = |error: io::Error| {
        format!(
            "the tokens in {} cannot be changed: {error}",
            path.display()
        )
    };
    let parent = path.parent().unwrap_or(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(cannot)?;
    let folder = File::open(parent).map_err(cannot)?;
    lock(&folder).map_err(cannot)?;
    let mut tokens = match read(path) {
        Ok(tokens) => tokens.unwrap_or_default(),
        Err(Error::Wrong(why)) => return Err(why),
        Err(Error::Transient(error)) => return Err(cannot(error)),
    };
    // There may be no file yet, and then nobody has looked at the folder.
    check_folder(path).map_err(|why| format!("the tokens in {} {why}", path.display()))?;
    let result = change(&mut tokens)?;
    write(path, &tokens).map_err(cannot)?;
    // The new name is on the disk when the folder is.
    folder.sync_all().map_err(cannot)?;
    Ok(result)
}

/// Locks the folder, until it is closed.
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
    // Whoever left one behind has not finished it.
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
