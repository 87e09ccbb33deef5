//! Who has a token, and what it allows.
//!
//! There are two kinds: the one in `CLAUDE_SOCKET_TOKEN`, which is an operator's, and
//! those of the [file](mod@file) that `claude-socket token` keeps. The server looks every
//! second whether the file has changed, which is one or two calls of stat(2).
//!
//! What cannot be read lets nobody in: with a file that is broken, or open to others,
//! only the token in the environment counts.

#[cfg(test)]
mod tests;

pub mod file;
mod file_stamp;
mod rate_limit;
pub mod token;
mod tokens;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};
use parking_lot::Mutex;

use crate::protocol::{Grant, RESERVED_DECIDERS};
use file::{FileProblem, StoredToken, TokenFileError};
use file_stamp::FileStamp;
use rate_limit::RateLimit;
use token::{Digest, EnvToken};
use tokens::Tokens;

/// What messages of the token in the environment are signed with.
pub const OPERATOR: &str = "operator";

/// Where tokens come from.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The one in the environment.
    pub token: Option<EnvToken>,
    /// The file with the others; none if there is no place for it.
    pub file: Option<PathBuf>,
}

/// Why a token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// There is no such token.
    Unknown,
    /// More than ten unknown ones came from that address within a minute.
    TooManyFailures,
    /// The file can't be used, so it isn't known which tokens there are.
    FileUnusable,
}

/// What connections need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// No token is configured; programs on this machine need none.
    LocalOnly,
    /// A token.
    Token,
    /// A token, but the file with the tokens can't be used.
    Unreadable,
}

/// Why there is no token that anyone could show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTokens {
    /// None is configured.
    NotConfigured,
    /// The file with the tokens can't be used. The sentence says why.
    Unreadable(String),
}

/// Who has a token, and what it allows, at this moment.
#[derive(Debug)]
pub struct Access {
    options: Options,
    /// Locked only to take them or to put others there: the hub must not wait for a
    /// comparison.
    tokens: Mutex<Arc<Tokens>>,
    rate_limit: Mutex<RateLimit>,
    anonymous: Arc<Grant>,
}

impl Access {
    /// Reads what there is.
    pub fn open(options: Options) -> Self {
        // Should it not be the one that tokens are written to, this tells.
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
        access.refresh();
        access
    }

    /// What connections need.
    pub fn policy(&self) -> Policy {
        self.tokens().policy()
    }

    fn tokens(&self) -> Arc<Tokens> {
        self.tokens.lock().clone()
    }

    /// What a client may do that needs no token.
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
    pub fn admit(&self, shown: &str, peer: IpAddr, now: Instant) -> Result<Arc<Grant>, TokenError> {
        let tokens = self.tokens();
        if let Some(grant) = tokens.find(&Digest::of(shown)) {
            return Ok(grant);
        }
        let mut rate_limit = self.rate_limit.lock();
        if rate_limit.is_exceeded(peer, now) {
            return Err(TokenError::TooManyFailures);
        }
        rate_limit.count(peer, now);
        Err(match tokens.policy() {
            Policy::Unreadable => TokenError::FileUnusable,
            Policy::Token | Policy::LocalOnly => TokenError::Unknown,
        })
    }

    /// Whether a grant still holds: its token is there and allows the same.
    pub fn is_valid(&self, grant: &Grant) -> bool {
        let tokens = self.tokens();
        if grant.number == Grant::WITHOUT_TOKEN.number {
            return tokens.policy() == Policy::LocalOnly;
        }
        tokens.has(grant)
    }

    /// Whether anyone who can connect may answer permission requests.
    pub fn has_operator(&self) -> bool {
        let tokens = self.tokens();
        tokens.policy() != Policy::Token || tokens.grants().any(|grant| grant.role.decides())
    }

    /// Returns how many tokens there are that somebody could show.
    ///
    /// # Errors
    /// [`NoTokens`], if there is none.
    pub fn usable_tokens(&self) -> Result<NonZeroUsize, NoTokens> {
        let tokens = self.tokens();
        NonZeroUsize::new(tokens.grants.len()).ok_or_else(|| match &tokens.file {
            Ok(_) => NoTokens::NotConfigured,
            Err(why) => NoTokens::Unreadable(why.clone()),
        })
    }

    /// Looks whether the file has changed. Whether that changes anything for anyone.
    pub fn refresh(&self) -> bool {
        let Some(path) = &self.options.file else {
            return false;
        };
        let stamp = FileStamp::of(path);
        if stamp.is_some() && self.tokens().stamp == stamp {
            return false;
        }
        let file = match file::read(path) {
            Ok(Some(stored)) => Ok(stored),
            // Nobody gets rights by taking a file away. The last "token remove" leaves an
            // empty list behind.
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
        self.take(file, stamp)
    }

    fn take(&self, file: Result<Vec<StoredToken>, String>, stamp: Option<FileStamp>) -> bool {
        let mut tokens = (*self.tokens()).clone();
        tokens.file_expected = match &file {
            Ok(stored) => !stored.is_empty(),
            Err(_) => tokens.file_expected || stamp.as_ref().is_some_and(FileStamp::exists),
        };
        tokens.stamp = stamp.filter(FileStamp::is_stable);
        let changes = tokens.file != file;
        if changes {
            tokens.take(file, self.options.token.as_ref());
        }
        *self.tokens.lock() = Arc::new(tokens);
        changes
    }
}

/// Whether a name can be a token's: others could not tell it from the server's own.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.trim() != name {
        return Err("a token's name must not be empty, or begin or end with a space; give the name of who uses it, such as greenhouse".into());
    }
    crate::json::check_name("name", name, crate::protocol::MAX_NAME)?;
    match name {
        OPERATOR => Err(format!(
            "\"{OPERATOR}\" is what CLAUDE_SOCKET_TOKEN goes by; choose another name"
        )),
        name if RESERVED_DECIDERS.contains(&name) => Err(format!(
            "\"{name}\" as the author of a verdict means something else; choose another name"
        )),
        _ => Ok(()),
    }
}
