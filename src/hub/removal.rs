//! Removing what was said, on somebody's wish.

use super::journal::StoreState;
use super::session::Session;
use super::stored::{QueryAnswer, Selection};
use super::{CloseReason, Effects, Hub, Now};
use crate::protocol::SessionId;

impl Hub {
    /// Removes sessions and all that was said there. The clients in them are disconnected: what they show is gone.
    pub(super) fn forget(&mut self, now: Now, selection: Selection, out: &mut impl Effects) {
        for id in self.selected(&selection) {
            self.forget_session(&id, out);
        }
        let agents = self.agents.iter_mut();
        for agent in agents.filter(|agent| selection.has_agent(&agent.label)) {
            agent.verdicts.clear();
            // The store forgets it with the agent.
            agent.stored_proof = None;
        }
        if self.journal.state() != StoreState::Off {
            self.journal.remove(selection.clone());
            self.forget_opening(now, &selection, out);
        }
    }

    /// Opens, as new ones, the selected sessions that the store was asked for: what it answers is what was there before.
    fn forget_opening(&mut self, now: Now, selection: &Selection, out: &mut impl Effects) {
        let agent = self.agents[self.default_agent].label.clone();
        let mut opening = self.questions.opening();
        opening.retain(|id| selection.has_session(&agent, id));
        for id in opening {
            self.questions.forget_opening(&id);
            self.open_session(now, id, QueryAnswer::Session(None), out);
        }
    }

    /// Returns the sessions in memory that are selected.
    fn selected(&self, selection: &Selection) -> Vec<SessionId> {
        let is_selected = |(id, session): &(&SessionId, &Session)| {
            selection.has_session(&self.agents[session.agent].label, id)
        };
        let selected = self.sessions.iter().filter(is_selected);
        selected.map(|(id, _)| id.clone()).collect()
    }

    fn forget_session(&mut self, id: &SessionId, out: &mut impl Effects) {
        let members = self.sessions.get(id).map(|session| session.members.clone());
        for member in members.unwrap_or_default() {
            out.close(member, CloseReason::SessionRemoved);
            self.leave(member, id);
        }
        for agent in self.agents.iter_mut() {
            agent.inbox.remove_session(id);
            if let Some(hold) = agent.inbox.poll_hold() {
                out.hold_senders(agent.id, hold);
            }
        }
        self.remove_session(id);
    }
}

impl Selection {
    /// Returns `true` if this session of an agent is selected.
    pub(super) fn has_session(&self, of: &str, id: &SessionId) -> bool {
        match self {
            Self::Session { agent, session } => {
                session == id && agent.as_deref().is_none_or(|agent| agent == of)
            }
            Self::Agent(_) | Self::All => self.has_agent(of),
        }
    }

    /// Returns `true` if everything of this agent is selected.
    fn has_agent(&self, name: &str) -> bool {
        match self {
            Self::Session { .. } => false,
            Self::Agent(agent) => agent == name,
            Self::All => true,
        }
    }
}
