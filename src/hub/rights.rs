//! What clients may not do, and what happens when what they may do changes.

use super::{Closing, Effects, Hub, Now, Remarkable};
use crate::protocol::{ConnId, ErrorCode, Grant, Refusal, SessionId};

impl Hub {
    /// Cuts off the clients whose grant doesn't hold any more. What they are still
    /// saying is not heard.
    pub fn revoke(
        &mut self,
        now: Now,
        holds: impl Fn(&Grant) -> bool,
        why: Closing,
        fx: &mut impl Effects,
    ) {
        let revoked = self
            .clients
            .iter()
            .filter(|(_, client)| !holds(&client.grant));
        let revoked: Vec<ConnId> = revoked.map(|(id, _)| *id).collect();
        for client in revoked {
            fx.close(client, why);
            self.disconnect(now, client);
        }
    }

    /// Tells a client that it may not do what its frame asks for.
    pub fn forbid(
        &mut self,
        client: ConnId,
        session: &str,
        id: Option<String>,
        why: String,
        fx: &mut impl Effects,
    ) {
        if let Some(known) = self.clients.get_mut(&client)
            && !std::mem::replace(&mut known.overstepped, true)
        {
            let (grant, why) = (&*known.grant, &*why);
            fx.record(&Remarkable::Forbidden { client, grant, why });
        }
        let refusal = Refusal {
            session_id: session.to_owned(),
            id,
            ..Refusal::new(ErrorCode::Forbidden, why)
        };
        self.refuse(client, &refusal, fx);
    }
}

/// Why a client may not say anything in a session, if so.
pub fn cannot_send(grant: &Grant, session: &SessionId) -> Option<String> {
    if !grant.role.may_send() {
        let role = grant.role.as_str();
        return Some(format!(
            "this token is a {role}'s, which only reads; use a sender's or an operator's"
        ));
    }
    cannot_read(grant, session)
}

/// Why a client may not know what is said in a session, if so.
pub fn cannot_read(grant: &Grant, session: &SessionId) -> Option<String> {
    if grant.covers(session) {
        return None;
    }
    let pattern = grant.sessions.as_ref()?;
    Some(format!(
        "this token is for sessions \"{pattern}\" and not for \"{session}\"; name one of those"
    ))
}
