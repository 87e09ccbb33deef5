//! Replies that nobody has received in time. Claude is told with the result of its next tool call.

use log::warn;

use super::{Hub, Now};
use crate::protocol::SessionId;

/// The most sessions that Claude is told of at once. The log has all of them.
const MAX_TOLD: usize = 16;

/// Replies that are not kept any longer, though nobody has received them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The session they are in.
    pub session: SessionId,
    /// The number of replies.
    pub count: usize,
}

impl Hub {
    /// Gives up the replies of a session that nobody has received in time, and notes them for the agent.
    pub(super) fn give_up_unread(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let count = session.give_up_unread(now, &self.limits);
        if count == 0 {
            return;
        }
        warn!(
            "nobody has received {count} of the replies to session \"{id}\" in time; they are given up"
        );
        let noted = &mut self.agents[session.agent].given_up;
        if let Some(known) = noted.iter_mut().find(|known| known.session == *id) {
            known.count += count;
            return;
        }
        if noted.len() == MAX_TOLD {
            noted.remove(0);
        }
        let session = id.clone();
        noted.push(GivenUp { session, count });
    }
}
