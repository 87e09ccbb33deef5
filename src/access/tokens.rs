//! The tokens there are at one moment. Another moment has others: they are made anew
//! from what the file holds then, and what hasn't changed keeps its grant.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use log::{error, info};

use super::file::StoredToken;
use super::file_stamp::FileStamp;
use super::token::{Digest, EnvToken};
use super::{OPERATOR, Policy};
use crate::protocol::Grant;

/// The tokens there are at one moment, and what they allow.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Each token's digest, and what it allows.
    pub grants: Vec<(Digest, Arc<Grant>)>,
    /// What the file holds, or a sentence that says what is wrong with it.
    pub file: Result<Vec<StoredToken>, String>,
    /// Whether the file must be there: it held tokens, or something that nobody could
    /// read. A file that is gone doesn't mean that no tokens are wanted any more.
    pub file_expected: bool,
    /// What the file looked like then; none if it may have changed since unnoticed.
    pub stamp: Option<FileStamp>,
    /// The numbers of all grants.
    current: HashSet<u64>,
    /// How many numbers were given.
    numbers: u64,
}

impl Tokens {
    /// That of the environment, if there is one.
    pub fn new(token: Option<&EnvToken>) -> Self {
        let mut tokens = Self {
            grants: Vec::new(),
            file: Ok(Vec::new()),
            file_expected: false,
            stamp: None,
            current: HashSet::new(),
            numbers: 0,
        };
        tokens.replace(Ok(Vec::new()), token);
        tokens
    }

    /// Whether a grant is one of these.
    pub fn has(&self, grant: &Grant) -> bool {
        self.current.contains(&grant.number)
    }

    /// Takes what the file holds now, which is something else than before.
    pub fn take(&mut self, file: Result<Vec<StoredToken>, String>, token: Option<&EnvToken>) {
        match &file {
            Ok(stored) => info!("the tokens were read: {}", stored.len()),
            Err(why) => error!("{why}; until then only CLAUDE_SOCKET_TOKEN lets anyone in"),
        }
        self.replace(file, token);
    }

    /// What hasn't changed keeps its grant.
    fn replace(&mut self, file: Result<Vec<StoredToken>, String>, token: Option<&EnvToken>) {
        let known: HashMap<_, _> = self.grants.drain(..).collect();
        let mut numbers = self.numbers;
        let mut grant = |digest: &Digest, new: Grant| {
            numbers += 1;
            match known.get(digest) {
                Some(old) if old.allows_the_same(&new) => old.clone(),
                _ => Arc::new(Grant {
                    number: numbers,
                    ..new
                }),
            }
        };
        for stored in file.iter().flatten() {
            let entry = (stored.sha256, grant(&stored.sha256, stored.grant()));
            self.grants.push(entry);
        }
        if let Some(secret) = token {
            let operator = Grant {
                user: Some(OPERATOR.into()),
                ..Grant::WITHOUT_TOKEN
            };
            let entry = (secret.digest, grant(&secret.digest, operator));
            self.grants.push(entry);
        }
        self.numbers = numbers;
        self.current = self.grants().map(|grant| grant.number).collect();
        self.file = file;
    }

    /// What connections need.
    pub fn policy(&self) -> Policy {
        match &self.file {
            Err(_) => Policy::Unreadable,
            _ if !self.grants.is_empty() => Policy::Token,
            _ => Policy::LocalOnly,
        }
    }

    /// What all of them allow.
    pub fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.grants.iter().map(|(_, grant)| grant)
    }

    /// Finds what a token allows. Looks at every one of them, to the last byte: how long
    /// it takes tells nothing.
    pub fn find(&self, shown: &Digest) -> Option<Arc<Grant>> {
        let mut found = None;
        for (digest, grant) in &self.grants {
            if digest.is(shown) {
                found = Some(grant);
            }
        }
        found.cloned()
    }
}
