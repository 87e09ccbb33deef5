//! The store.

mod health;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

pub use health::{Health, State};

use crate::hub::stored::{Change, Query, QueryId, StoreInput};

/// Where it is, and how much it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    pub folder: PathBuf,
    pub port: u16,
    pub agent: Arc<str>,
    pub ttl: Duration,
    pub max_bytes: u64,
}

/// The way to the store.
#[derive(Debug)]
pub struct Store(#[expect(dead_code)] Sender<StoreInput>);

/// Starts it.
///
/// # Errors
/// If the system has no thread left.
pub fn start(_options: Options) -> io::Result<(Store, Receiver<StoreInput>)> {
    let (to_hub, inputs) = bounded(1);
    let kept = to_hub.clone();
    thread::Builder::new()
        .name("store".into())
        .spawn(move || drop(to_hub.send(StoreInput::Unavailable)))?;
    Ok((Store(kept), inputs))
}

impl Store {
    pub fn write(&self, _changes: Vec<Change>) {}

    pub fn ask(&self, _id: QueryId, _query: Query) {}

    pub fn is_behind(&self) -> bool {
        false
    }

    pub fn health(&self) -> Arc<Health> {
        Arc::new(Health {
            state: State::Open,
            bytes: 0,
            position: 0,
            pending: 0,
        })
    }

    pub fn close(self, _deadline: Instant) -> bool {
        true
    }
}
