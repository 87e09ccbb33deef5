//! An immutable snapshot of all tokens. A reload builds a new one; unchanged tokens keep their
//! [`Grant`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use log::{error, info};

use super::expiry::Expiry;
use super::file::StoredToken;
use super::file_stamp::FileStamp;
use super::token::{Digest, EnvToken};
use super::{OPERATOR, Policy};
use crate::protocol::Grant;

/// One token.
#[derive(Clone, Debug)]
pub struct Token {
    digest: Digest,
    /// What it allows.
    pub grant: Arc<Grant>,
    /// When it expires; never if `None`.
    pub expires: Option<Expiry>,
}

impl Token {
    fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expiry| expiry.is_over(now))
    }
}

/// All tokens, and what they allow.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Every token. One that has expired stays until it is removed: it must not count as no tokens
    /// configured, and who shows it is told.
    all: Vec<Token>,
    /// The file's tokens, or a sentence that says what is wrong with the file.
    pub file: Result<Vec<StoredToken>, String>,
    /// The file must be there, because it held tokens or could not be read. If it is missing then,
    /// that must never count as no tokens configured.
    pub file_expected: bool,
    /// The stamp of the file when it was read. `None` if a change since could go unnoticed.
    pub stamp: Option<FileStamp>,
    /// The ids of the grants whose token has not expired.
    current: HashSet<u64>,
}

impl Tokens {
    /// The token of the environment alone, if there is one.
    pub fn new(token: Option<&EnvToken>) -> Self {
        let mut tokens = Self {
            all: Vec::new(),
            file: Ok(Vec::new()),
            file_expected: false,
            stamp: None,
            current: HashSet::new(),
        };
        tokens.replace(Ok(Vec::new()), token);
        tokens
    }

    /// Returns `true` if the grant is that of a token that has not expired.
    pub fn has(&self, grant_id: u64) -> bool {
        self.current.contains(&grant_id)
    }

    /// Replaces the tokens of the file, which has changed.
    pub fn update(&mut self, file: Result<Vec<StoredToken>, String>, token: Option<&EnvToken>) {
        match &file {
            Ok(stored) => info!("the tokens were read: {}", stored.len()),
            Err(why) => error!("{why}; until then only CLAUDE_SOCKET_TOKEN lets anyone in"),
        }
        self.replace(file, token);
    }

    /// Tokens that allow the same as before keep their grant.
    fn replace(&mut self, file: Result<Vec<StoredToken>, String>, token: Option<&EnvToken>) {
        let before = std::mem::take(&mut self.current);
        let known = self
            .all
            .drain(..)
            .map(|token| (token.grant.id, token.grant));
        let known: HashMap<_, _> = known.collect();
        let grant = |digest: &Digest, new: Grant| {
            let id = digest.grant_id(&new);
            let old = known.get(&id).cloned();
            old.unwrap_or_else(|| Arc::new(Grant { id, ..new }))
        };
        for stored in file.iter().flatten() {
            self.all.push(Token {
                digest: stored.sha256,
                grant: grant(&stored.sha256, stored.grant()),
                expires: stored.expires,
            });
        }
        if let Some(secret) = token {
            let operator = Grant {
                user: Some(OPERATOR.into()),
                ..Grant::WITHOUT_TOKEN
            };
            self.all.push(Token {
                digest: secret.digest,
                grant: grant(&secret.digest, operator),
                expires: None,
            });
        }
        // What has expired before stays out.
        let ids = self.all.iter().map(|token| token.grant.id);
        self.current = ids
            .filter(|id| !known.contains_key(id) || before.contains(id))
            .collect();
        self.file = file;
    }

    /// Returns `true` if a token has expired since [`Tokens::expire`], or the clock was set back to
    /// before that.
    pub fn must_expire(&self, now: SystemTime) -> bool {
        let mut expiring = self.all.iter().filter(|token| token.expires.is_some());
        expiring.any(|token| token.is_expired(now) == self.has(token.grant.id))
    }

    /// Leaves out the grants whose token has expired.
    pub fn expire(&mut self, now: SystemTime) {
        let (expired, valid): (Vec<_>, Vec<_>) =
            self.all.iter().partition(|token| token.is_expired(now));
        for token in expired.iter().filter(|token| self.has(token.grant.id)) {
            info!("the token of the {} has expired", token.grant);
        }
        self.current = valid.iter().map(|token| token.grant.id).collect();
    }

    /// Returns what a connection needs.
    pub fn policy(&self) -> Policy {
        match &self.file {
            Err(_) => Policy::FileUnusable,
            _ if !self.all.is_empty() => Policy::Token,
            _ => Policy::LocalOnly,
        }
    }

    /// Returns `true` if there are tokens, expired or not.
    pub fn is_any(&self) -> bool {
        !self.all.is_empty()
    }

    /// Returns the grants of the tokens that have not expired.
    pub fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        let grants = self.all.iter().map(|token| &token.grant);
        grants.filter(|grant| self.has(grant.id))
    }

    /// Returns the token that is shown, expired or not. Compares it with every one, to the last
    /// byte: the time this takes says nothing about them.
    pub fn find(&self, shown: &Digest) -> Option<&Token> {
        let mut found = None;
        for token in &self.all {
            if token.digest.is(shown) {
                found = Some(token);
            }
        }
        found
    }
}
