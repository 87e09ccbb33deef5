//! What the hub does when the store reports something: it opens, writes, fails, recovers, has removed what is old.

use std::borrow::Cow;
use std::iter::once;
use std::sync::Arc;

use log::{info, warn};
use rustc_hash::{FxHashMap, FxHashSet};

use super::inbox::{InboxItem, Release};
use super::journal::StoreState;
use super::opening::NOBODY;
use super::receipts::{self, Receipt};
use super::session::Session;
use super::stored::{Opened, SessionNumber, StoreInput, StoredInboxItem, StoredSession};
use super::{AuthorId, Effects, Hub, Now};
use crate::protocol::{DeliveryState, SessionId};
use crate::sanitize::escape_channel_tags;

impl Hub {
    /// Reacts to what the store reports.
    pub(super) fn handle_store(&mut self, now: Now, input: StoreInput, out: &mut impl Effects) {
        match input {
            StoreInput::Opened(opened) => self.store_opened(now, *opened, out),
            StoreInput::Unavailable => {
                self.journal.set_state(StoreState::Off);
                self.resume_all(now, out);
            }
            StoreInput::Stored(up_to) => self.journal.mark_stored(up_to),
            StoreInput::Failing => self.journal.set_state(StoreState::Failing),
            StoreInput::Recovered { must_resend } => {
                self.journal.set_state(StoreState::Open);
                if must_resend {
                    self.record_again();
                }
            }
            StoreInput::Removed(removed) => self.mark_removed(&removed),
            StoreInput::Answer(id, answer) => self.answered(now, id, answer, out),
        }
        self.tell_stored(out);
    }

    /// Sends the receipts of messages that are on disk now.
    fn tell_stored(&mut self, out: &mut impl Effects) {
        while let Some(untold) = self.journal.pop_told() {
            let session = self.sessions.get(&untold.session);
            let receipt = session.and_then(|session| session.receipts.get(&untold.key));
            // Who has gone asks when it is back.
            if let Some(receipt) = receipt
                && self.clients.contains_key(&receipt.client)
            {
                let (id, key) = (&untold.session, &untold.key);
                let delivery = receipt.delivery(id, key, untold.state, untold.hint);
                out.send(once(receipt.client), &delivery);
            }
        }
        if !self.journal.is_open() {
            return;
        }
        let stored = self.journal.stored();
        for agent in self.agents.iter_mut() {
            while let Some(item) = agent.inbox.next_untold(stored) {
                let session = self.sessions.get_mut(&item.session);
                let receipts = session.map(|session| &mut session.receipts);
                let Some(key) = &item.key else { continue };
                let receipt = receipts.and_then(|receipts| receipts.get_mut(key));
                let Some(receipt) = receipt.filter(|receipt| receipt.state.is_none()) else {
                    continue;
                };
                let state = DeliveryState::Queued;
                receipt.state = Some(state);
                let queued = receipt.delivery(&item.session, key, state, None);
                out.send(once(receipt.client), &queued);
            }
        }
    }

    fn store_opened(&mut self, now: Now, opened: Opened, out: &mut impl Effects) {
        let Opened {
            next_session,
            sessions,
            inbox,
        } = opened;
        self.journal.begin_at(next_session);
        self.journal.set_state(StoreState::Open);
        let mut restored = FxHashSet::default();
        for (id, stored) in sessions {
            // One that has begun without the store stays without it.
            if !self.sessions.contains_key(&id) {
                self.add_stored(now, AuthorId::Connection(NOBODY), &id, &stored);
                restored.insert(id);
            }
        }
        if !inbox.is_empty() {
            info!("{} messages from before wait for Claude Code", inbox.len());
        }
        for item in inbox {
            if restored.contains(&item.session) {
                self.queue_restored(item);
            }
        }
        for id in &restored {
            self.reschedule(id);
        }
        let agent = self.default_agent;
        if let Some(hold) = self.agents[agent].inbox.poll_hold() {
            out.hold_senders(agent, hold);
        }
        self.resume_all(now, out);
    }

    /// Puts a message from an earlier run into the inbox.
    fn queue_restored(&mut self, item: StoredInboxItem) {
        let Some(session) = self.sessions.get_mut(&item.session) else {
            return;
        };
        let message = Arc::new(item.message);
        let inbox = &mut self.agents[session.agent].inbox;
        let number = inbox.last() + 1;
        let key = item.key.map(|(key, fingerprint)| {
            let receipt = Receipt {
                message_id: message.id,
                seq: message.seq,
                fingerprint,
                number,
                position: 0,
                state: Some(DeliveryState::Queued),
                client: NOBODY,
            };
            session.receipts.insert(key.clone(), receipt);
            key
        });
        self.receipts_total += receipts::bytes_of(key.as_ref());
        session
            .receipts
            .await_answer(number, message.id, message.seq, key.clone());
        let escaped = match escape_channel_tags(&message.content) {
            Cow::Borrowed(_) => None,
            Cow::Owned(escaped) => Some(escaped.into()),
        };
        inbox.push(InboxItem {
            session: item.session,
            message,
            escaped,
            key,
            sender: NOBODY,
            release: Release::Queued,
        });
    }

    /// Adds a session that the store has to those in memory.
    pub(super) fn add_stored(
        &mut self,
        now: Now,
        creator: AuthorId,
        id: &SessionId,
        stored: &StoredSession,
    ) {
        let mut session = Session::restored(now, creator, self.default_agent, id, stored);
        if let Some(status) = self.agents[session.agent].turn.status_for_everyone() {
            session.status = status;
        }
        self.history_total += session.history_bytes();
        self.receipts_total += session.receipts.bytes();
        self.sessions.insert(id.clone(), session);
        self.session_quota.add(creator);
    }

    /// Gives the store all that is known once more: it has missed some of it.
    fn record_again(&mut self) {
        let mut count = 0;
        for (id, session) in &mut self.sessions {
            if session.number.is_some() {
                let label = &self.agents[session.agent].label;
                session.record_again(&mut self.journal, label, id);
                count += 1;
            }
        }
        for agent in self.agents.iter_mut() {
            agent.stored_proof = None;
        }
        warn!("{count} sessions are written to the store once more, as far as they are in memory");
    }

    fn mark_removed(&mut self, removed: &[(SessionNumber, u64)]) {
        let before: FxHashMap<u32, u64> = removed
            .iter()
            .map(|(session, before)| (session.0, *before))
            .collect();
        for session in self.sessions.values_mut() {
            let number = session.number;
            if let Some(before) = number.and_then(|number| before.get(&number.0)) {
                session.mark_removed(*before);
            }
        }
    }
}
