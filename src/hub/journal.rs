//! The journal: what changes, in the order in which the store is to write it, and how far that is on disk.
//!
//! Nobody waits for the store. What must not be said before it is on disk, such as a receipt, waits here.

use std::collections::VecDeque;
use std::iter::once;
use std::mem;

use super::receipts::Receipt;
use super::stored::{Change, Selection, SessionNumber};
use super::{Effects, MessageKey};
use crate::protocol::{DeliveryState, SessionId};

/// Whether there is a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// There is none: everything is in memory only.
    Off,
    /// It is about to be opened.
    Opening,
    Open,
    /// It can't be written, and everything since is in memory only.
    Failing,
}

/// The changes, and what waits for them.
#[derive(Debug)]
pub struct Journal {
    state: StoreState,
    /// Those that the store hasn't been given yet.
    changes: Vec<Change>,
    /// The number of all of them.
    newest: u64,
    /// The number of those that are on disk.
    stored: u64,
    /// Receipts of messages that are not on disk.
    untold: VecDeque<Untold>,
    /// The number of the next session that begins.
    next_session: u32,
    /// What is removed and still on disk, and the positions of that.
    removing: Vec<(u64, Selection)>,
}

/// A receipt that waits until its message is on disk.
#[derive(Debug)]
pub struct Untold {
    position: u64,
    pub session: SessionId,
    pub key: MessageKey,
    pub state: DeliveryState,
    pub hint: Option<&'static str>,
}

impl Journal {
    /// Returns an empty journal; with a store, it waits until that is open.
    pub fn new(has_store: bool) -> Self {
        Self {
            state: if has_store {
                StoreState::Opening
            } else {
                StoreState::Off
            },
            changes: Vec::new(),
            newest: 0,
            stored: 0,
            untold: VecDeque::new(),
            next_session: 1,
            removing: Vec::new(),
        }
    }

    pub fn state(&self) -> StoreState {
        self.state
    }

    /// Records what is known of the store.
    pub fn set_state(&mut self, state: StoreState) {
        self.state = state;
    }

    /// Returns `true` if changes are written, or will be.
    pub fn is_kept(&self) -> bool {
        matches!(self.state, StoreState::Open | StoreState::Failing)
    }

    /// Returns `true` if changes get to the disk.
    pub fn is_open(&self) -> bool {
        self.state == StoreState::Open
    }

    /// No session gets a lower number from now on.
    pub fn begin_at(&mut self, session: u32) {
        self.next_session = self.next_session.max(session);
    }

    /// Returns the number of a session that begins.
    pub fn number_session(&mut self) -> SessionNumber {
        let number = SessionNumber(self.next_session);
        self.next_session += 1;
        number
    }

    /// Adds a change.
    pub fn push(&mut self, change: Change) {
        self.newest += 1;
        self.changes.push(change);
    }

    /// Adds the removal of sessions.
    pub fn remove(&mut self, selection: Selection) {
        self.push(Change::Remove(selection.clone()));
        self.removing.push((self.newest, selection));
    }

    /// Returns `true` if what is on disk of a session will be removed: whoever opens it begins a new one.
    pub fn is_removing(&self, agent: &str, id: &SessionId) -> bool {
        let mut removing = self.removing.iter();
        removing.any(|(_, selection)| selection.has_session(agent, id))
    }

    /// The position of the next change.
    pub fn next(&self) -> u64 {
        self.newest + 1
    }

    /// The position of the newest change.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns the changes since the last call.
    pub fn take(&mut self) -> Vec<Change> {
        mem::take(&mut self.changes)
    }

    /// Records that the first so many changes are on disk.
    pub fn mark_stored(&mut self, up_to: u64) {
        self.stored = self.stored.max(up_to);
        self.removing.retain(|(position, _)| *position > up_to);
    }

    /// The position up to which nothing has to wait for the disk.
    pub fn stored(&self) -> u64 {
        if self.state == StoreState::Open {
            self.stored
        } else {
            u64::MAX
        }
    }

    /// Tells a message's sender of its state: at once, or when the message is on disk.
    pub fn tell(
        &mut self,
        receipt: &Receipt,
        session: &SessionId,
        key: &MessageKey,
        state: DeliveryState,
        hint: Option<&'static str>,
        out: &mut impl Effects,
    ) {
        if receipt.position <= self.stored() {
            let delivery = receipt.delivery(session, key, state, hint);
            out.send(once(receipt.client), &delivery);
            return;
        }
        self.untold.push_back(Untold {
            position: receipt.position,
            session: session.clone(),
            key: key.clone(),
            state,
            hint,
        });
    }

    /// Returns the next receipt that waits no longer.
    pub fn pop_told(&mut self) -> Option<Untold> {
        let stored = self.stored();
        self.untold.pop_front_if(|untold| untold.position <= stored)
    }
}
