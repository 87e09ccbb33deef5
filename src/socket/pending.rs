//! What all connections have pending together: messages that are not complete, and events that the
//! hub's loop has not taken. When that is too much, whoever has most gives way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::event_queue::EventQueue;
use super::outbox::Outbox;
use crate::protocol::ConnId;

/// The sum of all connections, and who has how much of it.
#[derive(Debug)]
pub struct Pending {
    /// In bytes.
    total: AtomicUsize,
    max: usize,
    holders: Mutex<FxHashMap<ConnId, Holder>>,
}

#[derive(Debug)]
struct Holder {
    queue: Arc<EventQueue>,
    outbox: Arc<Outbox>,
}

impl Pending {
    pub fn new(max: usize) -> Self {
        Self {
            total: AtomicUsize::new(0),
            max,
            holders: Mutex::default(),
        }
    }

    /// Adds a connection to those that may have to give way.
    pub fn watch(&self, conn: ConnId, queue: Arc<EventQueue>, outbox: Arc<Outbox>) {
        self.holders.lock().insert(conn, Holder { queue, outbox });
    }

    pub fn unwatch(&self, conn: ConnId) {
        self.holders.lock().remove(&conn);
    }

    /// Forgets all connections.
    pub fn end(&self) {
        self.holders.lock().clear();
    }

    /// Adds so many bytes. Returns `true` if somebody must give way.
    pub fn add(&self, bytes: usize) -> bool {
        bytes > 0 && self.total.fetch_add(bytes, Ordering::Relaxed) + bytes > self.max
    }

    /// Removes so many bytes, which must have been added before.
    pub fn remove(&self, bytes: usize) {
        if bytes > 0 {
            self.total.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The bytes of all connections.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Lets those who have most give way, until there is not too much. If another thread is at that, it
    /// goes on for this one. No [`EventQueue`] may be locked.
    pub fn make_room(&self) {
        while let Some(excess) = self.excess()
            && let Some(holders) = self.holders.try_lock()
        {
            let largest = holders
                .iter()
                .max_by_key(|(_, holder)| holder.queue.pending());
            let Some((conn, Holder { queue, outbox })) = largest else {
                return;
            };
            let freed = queue.give_way(*conn, outbox, excess);
            self.remove(freed);
            if freed == 0 {
                return;
            }
        }
    }

    /// Returns by how many bytes the total is too much, if it is.
    fn excess(&self) -> Option<usize> {
        let excess = self.total().checked_sub(self.max);
        excess.filter(|excess| *excess > 0)
    }
}
