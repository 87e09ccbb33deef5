//! The tokens, and what each allows.
//!
//! They come from `CLAUDE_SOCKET_TOKEN`, which is an operator's, and from the
//! [file](mod@file) that `claude-socket token` writes. The server checks every second whether
//! the file has changed, which takes two calls of stat(2), and whether a token has expired.
//!
//! A file that can't be used lets nobody in: while it is broken, or open to other users, only
//! the token in the environment counts.

#[cfg(test)]
mod tests;

pub mod expiry;
pub mod file;
mod file_stamp;
mod rate_limit;
pub mod token;
mod tokens;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use log::{info, warn};
use parking_lot::Mutex;

use crate::protocol::{self, FieldError, Grant, MAX_NAME, RESERVED_NAMES};
use expiry::Expiry;
use file::{FileProblem, StoredToken, TokenFileError};
use file_stamp::FileStamp;
pub use rate_limit::Guesser;
use rate_limit::RateLimit;
use token::{Digest, EnvToken};
use tokens::Tokens;

/// The user of the token in the environment.
pub const OPERATOR: &str = "operator";

/// Where tokens come from.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub token: Option<EnvToken>,
    /// The file with the other tokens. `None` if this user has no home.
    pub file: Option<PathBuf>,
}

/// Why a token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// There is no such token.
    Unknown,
    /// It has expired.
    Expired(Expiry),
    /// More than ten unknown ones came from there within a minute.
    TooManyFailures,
    /// The file can't be used, so it isn't known which tokens there are.
    FileUnusable,
}

/// What a connection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// No token is configured: only programs on this machine may connect, and need none.
    LocalOnly,
    /// A token.
    Token,
    /// A token, but the file with the tokens can't be used.
    FileUnusable,
}

/// Why there is no token that anyone could show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTokens {
    /// None is configured.
    NotConfigured,
    /// All have expired.
    Expired,
    /// The file with the tokens can't be used. The sentence says why.
    FileUnusable(String),
}

/// The tokens that are valid now. Shared by all threads.
#[derive(Debug)]
pub struct Access {
    options: Options,
    /// Only locked to get or to replace the `Arc`: the hub must never wait for a comparison.
    tokens: Mutex<Arc<Tokens>>,
    rate_limit: Mutex<RateLimit>,
    anonymous: Arc<Grant>,
}

impl Access {
    /// Reads the tokens.
    pub fn open(options: Options) -> Self {
        // Logged so that a path that differs from the one `token add` writes to is noticed.
        match &options.file {
            Some(path) => info!("tokens are looked for in {}", path.display()),
            None => info!("this user has no home, so there is no file of tokens"),
        }
        let tokens = Tokens::new(options.token.as_ref());
        let access = Self {
            options,
            tokens: Mutex::new(Arc::new(tokens)),
            rate_limit: Mutex::default(),
            anonymous: Arc::new(Grant::WITHOUT_TOKEN),
        };
        access.refresh(SystemTime::now());
        access
    }

    /// Returns what a connection needs now.
    pub fn policy(&self) -> Policy {
        self.tokens().policy()
    }

    fn tokens(&self) -> Arc<Tokens> {
        self.tokens.lock().clone()
    }

    /// Returns what a client without a token may do.
    pub fn anonymous(&self) -> Arc<Grant> {
        self.anonymous.clone()
    }

    /// Returns what the holder of this token may do.
    ///
    /// A valid token always gets in, also from an address that has shown too many wrong ones:
    /// it cannot be guessed, and whoever shares an address with an attacker, or a proxy, must
    /// not be locked out.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn admit(
        &self,
        shown: &str,
        guesser: Guesser,
        (now, wall): (Instant, SystemTime),
    ) -> Result<Arc<Grant>, TokenError> {
        let tokens = self.tokens();
        if let Some(token) = tokens.find(&Digest::of(shown)) {
            return match token.expires {
                Some(expiry) if expiry.is_over(wall) => Err(TokenError::Expired(expiry)),
                _ => Ok(token.grant.clone()),
            };
        }
        let mut rate_limit = self.rate_limit.lock();
        if rate_limit.is_exceeded(guesser, now) {
            return Err(TokenError::TooManyFailures);
        }
        rate_limit.count(guesser, now);
        Err(match tokens.policy() {
            Policy::FileUnusable => TokenError::FileUnusable,
            Policy::Token | Policy::LocalOnly => TokenError::Unknown,
        })
    }

    /// Returns `true` if the token of the grant with this id is still there, allows the same and has
    /// not expired.
    pub fn is_valid(&self, grant_id: u64) -> bool {
        let tokens = self.tokens();
        if grant_id == Grant::WITHOUT_TOKEN.id {
            return tokens.policy() == Policy::LocalOnly;
        }
        tokens.has(grant_id)
    }

    /// Returns `true` if anyone who can connect may answer permission requests.
    pub fn has_operator(&self) -> bool {
        let tokens = self.tokens();
        tokens.policy() != Policy::Token || tokens.grants().any(|grant| grant.role.can_approve())
    }

    /// Returns how many tokens there are that let somebody in.
    ///
    /// # Errors
    /// [`NoTokens`], if there is none.
    pub fn usable_tokens(&self) -> Result<NonZeroUsize, NoTokens> {
        let tokens = self.tokens();
        NonZeroUsize::new(tokens.grants().count()).ok_or_else(|| match &tokens.file {
            Ok(_) if tokens.is_any() => NoTokens::Expired,
            Ok(_) => NoTokens::NotConfigured,
            Err(why) => NoTokens::FileUnusable(why.clone()),
        })
    }

    /// Reads the file if it has changed, and leaves out what has expired. Returns `true` if other
    /// tokens are valid now.
    pub fn refresh(&self, now: SystemTime) -> bool {
        let is_reloaded = self.reload();
        let must_expire = self.tokens().must_expire(now);
        if must_expire {
            let mut tokens = (*self.tokens()).clone();
            tokens.expire(now);
            *self.tokens.lock() = Arc::new(tokens);
        }
        is_reloaded || must_expire
    }

    /// Reads the file if it has changed. Returns `true` if it has other tokens now.
    fn reload(&self) -> bool {
        let Some(path) = &self.options.file else {
            return false;
        };
        let stamp = FileStamp::of(path);
        if stamp.is_some() && self.tokens().stamp == stamp {
            return false;
        }
        let file = match file::read(path) {
            Ok(Some(stored)) => Ok(stored),
            // Removing the file must never give anyone access. The last `token remove` leaves
            // an empty list behind.
            Ok(None) if self.tokens().file_expected => {
                Err(TokenFileError::unusable(path, FileProblem::Removed).to_string())
            }
            Ok(None) => Ok(Vec::new()),
            Err(TokenFileError::Transient(error)) => {
                warn!("the tokens cannot be read now ({error}); those known still count");
                return false;
            }
            Err(error) => Err(error.to_string()),
        };
        self.update(file, stamp)
    }

    fn update(&self, file: Result<Vec<StoredToken>, String>, stamp: Option<FileStamp>) -> bool {
        let mut tokens = (*self.tokens()).clone();
        tokens.file_expected = match &file {
            Ok(stored) => !stored.is_empty(),
            Err(_) => tokens.file_expected || stamp.as_ref().is_some_and(FileStamp::exists),
        };
        tokens.stamp = stamp.filter(FileStamp::is_stable);
        let changes = tokens.file != file;
        if changes {
            tokens.update(file, self.options.token.as_ref());
        }
        *self.tokens.lock() = Arc::new(tokens);
        changes
    }
}

/// Checks that a name can be a token's. The names that the server itself uses can't.
///
/// # Errors
/// [`NameError`].
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.trim() != name {
        return Err(NameError::NotTrimmed);
    }
    protocol::check_name("name", name, MAX_NAME).map_err(NameError::Malformed)?;
    if name == OPERATOR {
        return Err(NameError::EnvToken);
    }
    match RESERVED_NAMES
        .into_iter()
        .find(|reserved| *reserved == name)
    {
        Some(reserved) => Err(NameError::Reserved(reserved)),
        None => Ok(()),
    }
}

/// Why a name can't be a token's. Its `Display` is one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is empty, or begins or ends with a space.
    NotTrimmed,
    /// It is too long, or has control characters.
    Malformed(FieldError),
    /// It is [`OPERATOR`], the name of the token in the environment.
    EnvToken,
    /// It means something else as the author of a verdict.
    Reserved(&'static str),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTrimmed => f.write_str(
                "a token's name must not be empty, or begin or end with a space; give the name of who uses it, such as greenhouse",
            ),
            Self::Malformed(error) => error.fmt(f),
            Self::EnvToken => write!(
                f,
                "\"{OPERATOR}\" is what CLAUDE_SOCKET_TOKEN goes by; choose another name"
            ),
            Self::Reserved(name) => write!(
                f,
                "\"{name}\" as the author of a verdict means something else; choose another name"
            ),
        }
    }
}

impl std::error::Error for NameError {}
