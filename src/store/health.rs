//! How a store is, for `/healthz`, `/metrics` and `doctor`.

use std::sync::Arc;

/// What a store reports about itself.
#[derive(Clone, Debug)]
pub struct Health {
    pub state: State,
    /// The bytes of the database and its log.
    pub bytes: u64,
    /// How many changes are on disk.
    pub position: u64,
    /// How many changes wait to be written.
    pub pending: usize,
}

/// What a store can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being opened.
    Opening,
    Open,
    /// Nothing can be written, and it is tried again. The sentence says why.
    Failing(Arc<str>),
    /// Everything is kept in memory only. The sentence says why.
    Unavailable(Arc<str>),
}

impl State {
    /// What is wrong, in one sentence.
    pub fn sentence(&self) -> Option<&str> {
        match self {
            Self::Opening | Self::Open => None,
            Self::Failing(why) | Self::Unavailable(why) => Some(why),
        }
    }
}
