//! What clients may not do, and what happens when they may do less.

use super::{AuditEvent, Effects, Hub, Now, Revocation};
use crate::protocol::{ConnId, ErrorCode, Grant, Rejection, SessionId};

impl Hub {
    /// Disconnects the clients whose grant isn't valid any more. The agents don't get what they
    /// have said, as far as they don't have it yet.
    pub(super) fn revoke(&mut self, now: Now, revocation: &Revocation, out: &mut impl Effects) {
        self.budgets.retain(&revocation.is_valid);
        self.drop_waiting(&revocation.is_valid, revocation.reason, out);
        let mut removed = Vec::new();
        for agent in self.agents.iter_mut() {
            removed.extend(agent.inbox.remove_invalid(&revocation.is_valid));
            if let Some(hold) = agent.inbox.poll_hold() {
                out.hold_senders(agent.id, hold);
            }
        }
        for item in removed {
            let why = "the token was removed or changed or has expired before Claude Code had this message";
            self.reject_item(&item, ErrorCode::Forbidden, why, out);
        }
        let clients = self.clients.iter();
        let revoked = clients.filter(|(_, client)| !(revocation.is_valid)(client.grant.id));
        let revoked: Vec<ConnId> = revoked.map(|(id, _)| *id).collect();
        for client in revoked {
            out.close(client, revocation.reason);
            self.disconnect(now, client);
        }
    }

    /// Tells a client that it may not do what its frame asks for. The first time, that is audited.
    pub(super) fn reject_forbidden(
        &mut self,
        client: ConnId,
        rejected: Rejected<'_>,
        why: String,
        out: &mut impl Effects,
    ) {
        if let Some(known) = self.clients.get_mut(&client)
            && !std::mem::replace(&mut known.violation_audited, true)
        {
            let (grant, why) = (&*known.grant, &*why);
            out.record(&AuditEvent::Forbidden { client, grant, why });
        }
        let rejection = Rejection {
            session_id: rejected.session.to_owned(),
            id: rejected.id,
            request: rejected.request,
            ..Rejection::new(ErrorCode::Forbidden, why)
        };
        self.reject(client, &rejection, out);
    }
}

/// The frame that a client may not send.
#[derive(Debug)]
pub struct Rejected<'a> {
    /// The session that it names.
    pub session: &'a str,
    /// The client's own id of a message.
    pub id: Option<String>,
    /// The `type` of a request.
    pub request: Option<&'static str>,
}

impl<'a> Rejected<'a> {
    pub fn request(session: &'a str, request: &'static str) -> Self {
        Self {
            session,
            id: None,
            request: Some(request),
        }
    }
}

/// Checks that a client may say something in a session.
///
/// # Errors
/// The sentence for the client.
pub fn check_send(grant: &Grant, session: &SessionId) -> Result<(), String> {
    if !grant.role.can_send() {
        let role = grant.role.as_str();
        return Err(format!(
            "this token is a {role}'s, which only reads; use a sender's or an operator's"
        ));
    }
    check_read(grant, session)
}

/// Checks that a client may read a session.
///
/// # Errors
/// The sentence for the client.
pub fn check_read(grant: &Grant, session: &SessionId) -> Result<(), String> {
    match &grant.sessions {
        Some(pattern) if !grant.covers(session) => Err(format!(
            "this token is for sessions \"{pattern}\" and not for \"{session}\"; name one of those"
        )),
        _ => Ok(()),
    }
}
