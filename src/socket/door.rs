//! What all connections share: how the apps' side is set up, the way to the hub, and
//! how many of them there are.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crossbeam_channel::Sender;

use super::{Event, Options, Said};
use crate::access::Access;
use crate::audit::Audit;

/// What all connections share.
#[derive(Debug)]
pub struct Door<E> {
    /// How the apps' side is set up.
    pub options: Options,
    /// Who has a token.
    pub access: Arc<Access>,
    /// Where it is remembered who came and went.
    pub audit: Audit,
    /// To the hub: everything but words for Claude.
    pub events: Sender<E>,
    /// To the hub: words for Claude.
    pub said: Sender<Said>,
    /// How many connections are open.
    pub open: Arc<AtomicUsize>,
    /// When the server started.
    pub started: SystemTime,
}

impl<E: From<Event>> Door<E> {
    /// Tells the hub something. If the hub is gone, so is the process in a moment.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send(event.into());
    }
}

/// A place among the connections that are open, until it is dropped.
#[derive(Debug)]
pub struct Place<E>(Arc<Door<E>>);

impl<E> Place<E> {
    /// Takes a place. Also returns how many were taken before.
    pub fn take(door: &Arc<Door<E>>) -> (Self, usize) {
        let before = door.open.fetch_add(1, Ordering::Relaxed);
        (Self(door.clone()), before)
    }

    /// What the connections share, for someone who needs no place.
    pub fn share(&self) -> Arc<Door<E>> {
        self.0.clone()
    }
}

impl<E> Drop for Place<E> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<E> Deref for Place<E> {
    type Target = Door<E>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
