//! What all connections share: settings, the way to the hub, and the number of connections.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use super::Options;
use super::event_queue::Events;
use crate::access::Access;
use crate::audit::Audit;

/// What all connections share.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub options: Options,
    /// The tokens.
    pub access: Arc<Access>,
    /// Records who came and went.
    pub audit: Audit,
    /// The way to the hub's loop.
    pub events: Arc<Events>,
    /// The number of clients that have a backlog.
    pub slow: Arc<AtomicUsize>,
    /// The number of open connections.
    pub open: Arc<AtomicUsize>,
    /// The number of [`LongHead`]s.
    pub long_heads: AtomicUsize,
    /// The server has ended, so nothing is accepted any more.
    pub ended: Arc<AtomicBool>,
    /// When the server started.
    pub started: SystemTime,
}

impl Context {
    /// Returns `true` if the server has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Counts one open connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Context>);

impl ConnectionPermit {
    /// Counts another connection. Also returns how many were open before.
    pub fn acquire(context: &Arc<Context>) -> (Self, usize) {
        let before = context.open.fetch_add(1, Ordering::Relaxed);
        (Self(context.clone()), before)
    }

    /// The context without the permit.
    pub fn context(&self) -> Arc<Context> {
        self.0.clone()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for ConnectionPermit {
    type Target = Context;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The most connections that may have a long head at the same time: 6 MiB with all copies.
const MAX_LONG_HEADS: usize = 32;

/// Counts one connection that has a long head, until it is dropped. Nobody had to show a token for
/// that memory.
#[derive(Debug)]
pub struct LongHead(Arc<Context>);

impl LongHead {
    /// Counts another one; `None` if there are too many.
    pub fn acquire(context: Arc<Context>) -> Option<Self> {
        let before = context.long_heads.fetch_add(1, Ordering::Relaxed);
        // Counted at once, so that dropping it takes it back.
        let long_head = Self(context);
        (before < MAX_LONG_HEADS).then_some(long_head)
    }
}

impl Drop for LongHead {
    fn drop(&mut self) {
        self.0.long_heads.fetch_sub(1, Ordering::Relaxed);
    }
}
