//! Room for sessions: who has created how many, and which one makes room for another.
//!
//! A session that somebody needs is never removed: one with a client in it, with a reply that nobody has received, or with
//! a message that waits for an answer. Of the others, those in which nothing was said go first.

use std::collections::BTreeSet;
use std::time::Instant;

use log::debug;
use rustc_hash::FxHashMap;

use super::{Agent, AuthorId, Hub};
use crate::protocol::{ErrorCode, Grant, Rejection, SessionId};

/// The most sessions without clients that are kept though nothing was said in them: whoever comes back in a moment finds
/// the same session, and thousands of names cost nothing.
const MAX_UNUSED: usize = 64;

/// Whether a session can make room for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody needs it.
    Needed,
    /// Nobody is in it, and nothing in it waits for anybody.
    Idle,
    /// Nobody is in it, and nothing was ever said in it.
    Unused,
}

/// The sessions that can make room, and the number that each client or token has created.
#[derive(Debug, Default)]
pub struct SessionQuota {
    created: FxHashMap<AuthorId, usize>,
    /// By the moment they expire, as is `unused`.
    idle: BTreeSet<(Instant, SessionId)>,
    unused: BTreeSet<(Instant, SessionId)>,
}

impl SessionQuota {
    /// Counts a new session.
    pub fn add(&mut self, creator: AuthorId) {
        *self.created.entry(creator).or_default() += 1;
    }

    /// Counts a session no more.
    pub fn remove(&mut self, creator: AuthorId) {
        if let Some(count) = self.created.get_mut(&creator) {
            *count -= 1;
            if *count == 0 {
                self.created.remove(&creator);
            }
        }
    }

    /// Adds a session to those that can make room.
    pub fn offer(&mut self, (expires, standing): (Instant, Standing), id: &SessionId) {
        if let Some(sessions) = self.sessions(standing) {
            sessions.insert((expires, id.clone()));
        }
    }

    /// Takes back a session that was offered like this.
    pub fn withdraw(&mut self, (expires, standing): (Instant, Standing), id: &SessionId) {
        if let Some(sessions) = self.sessions(standing) {
            sessions.remove(&(expires, id.clone()));
        }
    }

    /// Returns the session that is to be removed because too many are unused.
    pub fn surplus(&self) -> Option<&SessionId> {
        let oldest = self.unused.first().map(|(_, id)| id);
        oldest.filter(|_| self.unused.len() > MAX_UNUSED)
    }

    fn sessions(&mut self, standing: Standing) -> Option<&mut BTreeSet<(Instant, SessionId)>> {
        match standing {
            Standing::Needed => None,
            Standing::Idle => Some(&mut self.idle),
            Standing::Unused => Some(&mut self.unused),
        }
    }
}

impl Hub {
    /// Makes room for a session that somebody is about to create.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if there is none.
    pub(super) fn make_room(&mut self, creator: AuthorId, id: &SessionId) -> Result<(), Rejection> {
        let (max, max_own) = (self.limits.max_sessions, self.limits.max_sessions_per_token);
        let own = self.session_quota.created.get(&creator);
        let why = if own.is_some_and(|own| *own >= max_own) && !self.evict(Some(creator)) {
            let who = match creator {
                AuthorId::Grant(id) if id != Grant::WITHOUT_TOKEN.id => "this token's clients have",
                _ => "this connection has",
            };
            format!(
                "{who} already begun {max_own} sessions, the limit for one; use one of them or try again later"
            )
        } else if self.sessions.len() >= max && !self.evict(None) {
            format!(
                "the server already has {max} sessions, its limit; use one of them or try again later"
            )
        } else {
            return Ok(());
        };
        Err(Rejection {
            session_id: id.to_string(),
            ..Rejection::new(ErrorCode::Busy, why)
        })
    }

    /// Removes the session that can best be spared, of all or of those of one creator. Returns `false` if all of them are
    /// needed.
    fn evict(&mut self, creator: Option<AuthorId>) -> bool {
        let SessionQuota { unused, idle, .. } = &self.session_quota;
        let mut spare = unused.iter().chain(idle).map(|(_, id)| id);
        let evicted = spare.find(|id| {
            let is_theirs = creator.is_none_or(|creator| self.sessions[*id].creator == creator);
            is_theirs && !self.has_waiting_message(id) && self.is_stored(id)
        });
        let Some(evicted) = evicted.cloned() else {
            return false;
        };
        debug!("session \"{evicted}\" makes room for another");
        self.close_session(&evicted);
        true
    }

    /// Returns `true` if a message of a session is in an inbox.
    pub(super) fn has_waiting_message(&self, id: &SessionId) -> bool {
        let mut inboxes = self.agents.iter().map(|agent: &Agent| &agent.inbox);
        inboxes.any(|inbox| inbox.has_session(id))
    }
}
