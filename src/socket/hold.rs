//! Backpressure: while an agent's inbox is full, the readers of its senders wait here, so that
//! their sockets are not read and TCP holds the senders back.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

/// Where senders wait.
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

    /// Blocks while senders are held back.
    pub fn wait(&self) {
        if !self.on.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        state.waiting += 1;
        self.changed.wait_while(&mut state, |state| state.on);
        state.waiting -= 1;
    }

    /// Returns `true` if a sender still waits.
    pub fn has_waiting(&self) -> bool {
        self.state.lock().waiting > 0
    }
}
