//! An immutable snapshot of all tokens. A reload builds a new one; unchanged tokens keep their
//! [`Grant`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use log::{error, info};

use super::file::StoredToken;
use super::file_stamp::FileStamp;
use super::token::{Digest, EnvToken};
use super::{OPERATOR, Policy};
use crate::protocol::Grant;

/// All tokens, and what they allow.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// What each token allows, by its digest.
    pub by_digest: Vec<(Digest, Arc<Grant>)>,
    /// The file's tokens, or a sentence that says what is wrong with the file.
    pub file: Result<Vec<StoredToken>, String>,
    /// The file must be there, because it held tokens or could not be read. If it is missing then,
    /// that must never count as no tokens configured.
    pub file_expected: bool,
    /// The stamp of the file when it was read. `None` if a change since could go unnoticed.
    pub stamp: Option<FileStamp>,
    /// The ids of all grants.
    current: HashSet<u64>,
    /// The last id that was given to a grant.
    last_id: u64,
}

impl Tokens {
    /// The token of the environment alone, if there is one.
    pub fn new(token: Option<&EnvToken>) -> Self {
        let mut tokens = Self {
            by_digest: Vec::new(),
            file: Ok(Vec::new()),
            file_expected: false,
            stamp: None,
            current: HashSet::new(),
            last_id: 0,
        };
        tokens.replace(Ok(Vec::new()), token);
        tokens
    }

    /// Returns `true` if the grant is one of these.
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
        let known: HashMap<_, _> = self.by_digest.drain(..).collect();
        let mut last_id = self.last_id;
        let mut grant = |digest: &Digest, new: Grant| {
            last_id += 1;
            match known.get(digest) {
                Some(old) if old.same_permissions(&new) => old.clone(),
                _ => Arc::new(Grant { id: last_id, ..new }),
            }
        };
        for stored in file.iter().flatten() {
            let entry = (stored.sha256, grant(&stored.sha256, stored.grant()));
            self.by_digest.push(entry);
        }
        if let Some(secret) = token {
            let operator = Grant {
                user: Some(OPERATOR.into()),
                ..Grant::WITHOUT_TOKEN
            };
            let entry = (secret.digest, grant(&secret.digest, operator));
            self.by_digest.push(entry);
        }
        self.last_id = last_id;
        self.current = self.grants().map(|grant| grant.id).collect();
        self.file = file;
    }

    /// Returns what a connection needs.
    pub fn policy(&self) -> Policy {
        match &self.file {
            Err(_) => Policy::FileUnusable,
            _ if !self.by_digest.is_empty() => Policy::Token,
            _ => Policy::LocalOnly,
        }
    }

    pub fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.by_digest.iter().map(|(_, grant)| grant)
    }

    /// Returns what a token allows. Compares it with every one, to the last byte: the time this
    /// takes says nothing about them.
    pub fn find(&self, shown: &Digest) -> Option<Arc<Grant>> {
        let mut found = None;
        for (digest, grant) in &self.by_digest {
            if digest.is(shown) {
                found = Some(grant);
            }
        }
        found.cloned()
    }
}
