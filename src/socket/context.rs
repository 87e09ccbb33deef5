//! What all connections share: settings, the way to the hub, and the number of connections.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{SendError, Sender};
use parking_lot::{Condvar, Mutex};

use super::frame::{CloseCode, SESSION_ENDED};
use super::{Event, Options};
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
    /// To the hub's loop.
    pub events: Sender<Event>,
    /// Holds back the senders of messages.
    pub hold: Arc<SenderHold>,
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

    /// Sends the hub's loop an event. If the loop has ended, it has closed every connection that it
    /// knew.
    pub fn send(&self, event: Event) {
        if let Err(SendError(Event::Connected { outbox, .. })) = self.events.send(event) {
            outbox.close(CloseCode::Away, SESSION_ENDED);
        }
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

/// How often a sender that is held back looks whether its connection is broken. That it was closed
/// wakes it at once.
const HOLD_CHECK: Duration = Duration::from_secs(30);

/// Backpressure: while an agent's inbox is full, the readers of its senders wait here, so that
/// their sockets are not read and TCP holds the senders back.
#[derive(Debug, Default)]
pub struct SenderHold {
    /// Mirrors `state.on`, for readers that need not wait: that is asked for every message.
    on: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    on: bool,
    waiting: usize,
}

impl SenderHold {
    /// Holds senders back, or lets them go on.
    pub fn set(&self, on: bool) {
        self.state.lock().on = on;
        self.on.store(on, Ordering::Release);
        if !on {
            self.changed.notify_all();
        }
    }

    /// Returns `true` while senders are held back.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Lets senders that are held back look whether they were closed.
    pub fn wake_closed(&self) {
        if self.on.load(Ordering::Acquire) {
            let _state = self.state.lock();
            self.changed.notify_all();
        }
    }

    /// Blocks while senders are held back and `is_open` returns `true` for the sender. A sender
    /// that had to wait counts as waiting until what is returned is dropped.
    pub fn wait(&self, is_open: impl Fn() -> bool) -> Option<HeldSender<'_>> {
        if !self.on.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state.lock();
        state.waiting += 1;
        while state.on && is_open() {
            self.changed.wait_for(&mut state, HOLD_CHECK);
        }
        Some(HeldSender(self))
    }

    /// Returns `true` if a sender still waits.
    pub fn has_waiting(&self) -> bool {
        self.state.lock().waiting > 0
    }
}

/// Counts a sender that had to wait until its message is on its way.
#[derive(Debug)]
pub struct HeldSender<'a>(&'a SenderHold);

impl Drop for HeldSender<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}
