//! Clients: connecting, requests and verdicts, disconnecting. What they say to Claude is in
//! [`super::messages`].

use std::iter::once;
use std::sync::Arc;

use super::answers::Answer;
use super::authorization::{Rejected, check_read, check_send};
use super::session::Session;
use super::{AuditEvent, AuthorId, CloseReason, Effects, Hub, Now};
use crate::protocol::{
    ClientRequest, ConnId, DEFAULT_USER, DeliveryState, ErrorCode, FETCH_HISTORY, FETCH_RECEIPT,
    FETCH_VERDICTS, Grant, HostInfo, MAX_QUOTED, PERMISSION_RESPONSE, RESERVED_NAMES, Rejection,
    SEARCH, ServerMessage, SessionId, Status,
};

/// One connection.
pub struct Client {
    /// The session of its URL.
    pub default_session: SessionId,
    /// Every session it takes part in, the default one first.
    pub sessions: Vec<SessionId>,
    /// What it may do.
    pub grant: Arc<Grant>,
    /// Its role may send.
    pub can_send: bool,
    /// The name in its latest message.
    pub user: Option<Arc<str>>,
    /// It wants Claude's text as it appears.
    pub wants_stream: bool,
    /// What it has not got yet of the answer to its last request.
    pub answer: Option<Box<Answer>>,
    /// A forbidden request of this client was already audited; further ones are not.
    pub violation_audited: bool,
    /// It was cut off and has left its sessions. What it sent before that is still accepted,
    /// until its end of the connection is read.
    pub is_lost: bool,
}

impl Hub {
    /// Adds a client to the session of its URL. An operator gets the pending permission requests.
    pub(super) fn connect(
        &mut self,
        now: Now,
        client: ConnId,
        session: SessionId,
        grant: Arc<Grant>,
        out: &mut impl Effects,
    ) {
        let is_operator = grant.role.can_approve();
        let newcomer = Client {
            default_session: session.clone(),
            sessions: Vec::with_capacity(1),
            can_send: grant.role.can_send(),
            grant,
            user: None,
            wants_stream: false,
            answer: None,
            violation_audited: false,
            is_lost: false,
        };
        self.clients.insert(client, newcomer);
        if let Err(rejection) = self.join(now, client, &session, out) {
            self.clients.remove(&client);
            self.reject(client, &rejection, out);
            out.close(client, CloseReason::TryAgainLater);
            return;
        }
        if is_operator {
            let agents = self.agents.iter();
            for request in agents.flat_map(|agent| agent.permissions.iter()) {
                out.send(once(client), &request.frame(&session));
            }
        }
    }

    /// A client was cut off. If nobody else is in a session whose newest message is a reply,
    /// that may not have been received, and the session is kept for it.
    pub(super) fn connection_lost(&mut self, now: Now, client: ConnId) {
        let sessions = self.leave_sessions(now, client);
        for id in sessions {
            let Some(session) = self.sessions.get(&id) else {
                continue;
            };
            let bytes = session.last().map_or(0, |message| message.bytes());
            if session.members.is_empty() && self.has_room_for_unread(session, bytes) {
                self.mark_unread(now, &id);
            }
        }
        if let Some(lost) = self.clients.get_mut(&client) {
            lost.is_lost = true;
            lost.answer = None;
        }
    }

    /// Removes a client. Whatever else comes from it, or from one that was never added, is ignored.
    pub(super) fn disconnect(&mut self, now: Now, client: ConnId) {
        self.leave_sessions(now, client);
        self.clients.remove(&client);
    }

    /// Removes a client from its sessions, and returns them.
    pub(super) fn leave_sessions(&mut self, now: Now, client: ConnId) -> Vec<SessionId> {
        let Some(left) = self.clients.get_mut(&client) else {
            return Vec::new();
        };
        let sessions = std::mem::take(&mut left.sessions);
        for id in &sessions {
            if let Some(session) = self.sessions.get_mut(id) {
                session.leave(client, now);
                self.reschedule(id);
            }
        }
        sessions
    }

    /// Removes a client from one of its sessions.
    pub(super) fn leave(&mut self, client: ConnId, id: &SessionId) {
        if let Some(leaving) = self.clients.get_mut(&client) {
            leaving.sessions.retain(|session| session != id);
        }
    }

    /// Returns `true` if a client can be sent an answer.
    pub(super) fn is_listening(&self, client: ConnId) -> bool {
        let client = self.clients.get(&client);
        client.is_some_and(|client| !client.is_lost)
    }

    /// Nobody has received the newest reply of a session.
    fn mark_unread(&mut self, now: Now, id: &SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.mark_unread(now, &mut self.journal);
            self.reschedule(id);
        }
    }

    /// Adds a client to a session, which is created if need be, and shows the client what
    /// Claude is doing there, unless that is nothing.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if there are too many sessions that somebody needs.
    pub(super) fn join(
        &mut self,
        now: Now,
        client: ConnId,
        id: &SessionId,
        out: &mut impl Effects,
    ) -> Result<(), Rejection> {
        if !self.sessions.contains_key(id) {
            let creator = AuthorId::of(client, &self.clients[&client].grant);
            self.make_room(creator, id)?;
            let mut session = Session::new(now, creator, self.default_agent, id);
            session.is_kept = !self.questions.is_unknown;
            if let Some(status) = self.agents[session.agent].turn.status_for_everyone() {
                session.status = status;
            }
            self.sessions.insert(id.clone(), session);
            self.session_quota.add(creator);
        }
        if let (Some(session), Some(newcomer)) =
            (self.sessions.get_mut(id), self.clients.get_mut(&client))
        {
            session.join(client);
            newcomer.sessions.push(id.clone());
            if session.status.status != Status::Idle {
                out.send(once(client), &session.status.frame(id));
            }
        }
        self.reschedule(id);
        Ok(())
    }

    /// Answers what Claude has no part in.
    pub(super) fn request(
        &mut self,
        now: Now,
        client: ConnId,
        request: ClientRequest,
        out: &mut impl Effects,
    ) {
        let Some(requester) = self.clients.get_mut(&client) else {
            return;
        };
        // Nobody would receive the answer, and history that is sent counts as read.
        if requester.is_lost && !matches!(request, ClientRequest::PermissionResponse { .. }) {
            return;
        }
        match request {
            ClientRequest::Ping => {
                out.send(once(client), &ServerMessage::Pong);
            }
            ClientRequest::Hello { stream } => {
                requester.wants_stream = stream.unwrap_or(requester.wants_stream);
                self.welcome(client, out);
            }
            ClientRequest::FetchHistory {
                session,
                limit,
                since,
                before,
            } => {
                let id = session.unwrap_or_else(|| requester.default_session.clone());
                match check_read(&requester.grant, &id) {
                    Ok(()) => {
                        let answer = self.history_answer(&id, limit, since, before);
                        self.begin_answer(client, answer, out);
                    }
                    Err(forbidden) => {
                        let rejected = Rejected::request(id.as_str(), FETCH_HISTORY);
                        self.reject_forbidden(client, rejected, forbidden, out);
                    }
                }
            }
            ClientRequest::FetchReceipt { session, id } => {
                self.send_receipt(client, session, &id, out);
            }
            ClientRequest::Search {
                session,
                text,
                limit,
            } => {
                if let Some(id) = &session
                    && let Err(forbidden) = check_read(&requester.grant, id)
                {
                    let rejected = Rejected::request(id.as_str(), SEARCH);
                    return self.reject_forbidden(client, rejected, forbidden, out);
                }
                self.search(client, session, text, limit, out);
            }
            ClientRequest::FetchVerdicts { limit } => {
                if !requester.grant.role.can_approve() {
                    let role = requester.grant.role.as_str();
                    let why = format!(
                        "only an operator sees verdicts, and this token is a {role}'s; use an operator's"
                    );
                    let rejected = Rejected::request("", FETCH_VERDICTS);
                    return self.reject_forbidden(client, rejected, why, out);
                }
                self.fetch_verdicts(client, limit, out);
            }
            ClientRequest::ListSessions => {
                let grant = requester.grant.clone();
                self.list_sessions(client, grant, out);
            }
            ClientRequest::PermissionResponse {
                request_id,
                allowed,
            } => self.permission_response(now, client, &request_id, allowed, out),
        }
    }

    fn welcome(&self, client: ConnId, out: &mut impl Effects) {
        let requester = &self.clients[&client];
        let session = self.sessions.get(&requester.default_session);
        let agent = session.map_or(self.default_agent, |session| session.agent);
        let agent = &self.agents[agent];
        let (name, version) = match &agent.info {
            Some((name, version)) => (name.as_str(), version.as_str()),
            None => ("", ""),
        };
        let created = session.map(Session::created);
        let welcome = ServerMessage::Welcome {
            server: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            session_id: requester.default_session.as_str(),
            role: requester.grant.role,
            user: requester.grant.user.as_deref(),
            seq: session.map_or(0, Session::seq),
            created: created.as_deref().unwrap_or_default(),
            max_message: self.limits.max_message,
            host: HostInfo {
                name,
                version,
                ready: agent.is_ready,
            },
        };
        out.send(once(client), &welcome);
    }

    /// Tells a client that its frame was rejected, and why.
    pub(super) fn reject(&mut self, client: ConnId, rejection: &Rejection, out: &mut impl Effects) {
        self.counters.rejected += 1;
        out.send(once(client), &rejection.error());
        let Some(id) = &rejection.id else {
            return;
        };
        let default = self.clients.get(&client);
        let default = default.map(|client| client.default_session.as_str());
        let named = Some(rejection.session_id.as_str()).filter(|named| !named.is_empty());
        let rejected = ServerMessage::Delivery {
            session_id: named.or(default).unwrap_or_default(),
            id,
            message_id: None,
            seq: None,
            state: DeliveryState::Rejected,
            code: Some(rejection.code),
            retry_after: rejection.retry_after,
            hint: None,
        };
        out.send(once(client), &rejected);
    }

    /// Tells a client what has become of a message, and directs further receipts of it to this client.
    fn send_receipt(
        &mut self,
        client: ConnId,
        session: Option<SessionId>,
        key: &str,
        out: &mut impl Effects,
    ) {
        let requester = &self.clients[&client];
        let id = session.unwrap_or_else(|| requester.default_session.clone());
        // A receipt goes to one connection, and that of the sender is not to be taken from it.
        if let Err(forbidden) = check_send(&requester.grant, &id) {
            let rejected = Rejected::request(id.as_str(), FETCH_RECEIPT);
            return self.reject_forbidden(client, rejected, forbidden, out);
        }
        let session = self.sessions.get_mut(&id);
        let Some(receipt) = session.and_then(|session| session.receipts.get_mut(key)) else {
            let unknown = ServerMessage::Delivery {
                session_id: id.as_str(),
                id: key,
                message_id: None,
                seq: None,
                state: DeliveryState::Lost,
                code: None,
                retry_after: None,
                hint: Some(HINT_UNKNOWN),
            };
            out.send(once(client), &unknown);
            return;
        };
        receipt.client = client;
        // What isn't on disk yet is told when it is.
        if let Some(state) = receipt.state
            && receipt.position <= self.journal.stored()
        {
            let delivery = receipt.delivery(&id, key, state, None);
            out.send(once(client), &delivery);
        }
    }

    /// Passes a verdict on to the agent that asked, and tells every operator.
    fn permission_response(
        &mut self,
        now: Now,
        client: ConnId,
        request_id: &str,
        allowed: bool,
        out: &mut impl Effects,
    ) {
        let Some(decider) = self.clients.get(&client) else {
            return;
        };
        if !decider.grant.role.can_approve() {
            let role = decider.grant.role.as_str();
            let why = format!(
                "only an operator answers permission requests, and this token is a {role}'s; use an operator's"
            );
            let rejected = Rejected::request("", PERMISSION_RESPONSE);
            return self.reject_forbidden(client, rejected, why, out);
        }
        let by_token = decider.grant.user.clone();
        // Without a token a client calls itself what it likes.
        let by_itself = || {
            let user = decider.user.clone();
            user.filter(|user| !RESERVED_NAMES.contains(&&**user))
        };
        let user = by_token.or_else(by_itself);
        let by = user.as_deref().unwrap_or(DEFAULT_USER);
        let closed = self.agents.iter_mut().find_map(|agent| {
            let request = agent.permissions.close(request_id)?;
            Some((agent.id, request))
        });
        let Some((agent, request)) = closed else {
            let id: String = request_id.chars().take(MAX_QUOTED).collect();
            let why = format!(
                "permission request \"{id}\" is not open: it was answered, has expired or never was"
            );
            let rejection = Rejection {
                request: Some(PERMISSION_RESPONSE),
                ..Rejection::new(ErrorCode::UnknownRequest, why)
            };
            return self.reject(client, &rejection, out);
        };
        self.counters.verdicts += 1;
        out.record(&AuditEvent::Verdict {
            client,
            user: by,
            request: &request,
            allowed,
        });
        out.verdict(agent, &request.request_id, allowed);
        self.broadcast_resolved(now, agent, &request, allowed, by, out);
        if !allowed {
            self.tool_denied(agent, &request.tool_name, out);
        } else if self.agents[agent].monitor.hooks_active() {
            self.agents[agent].permissions.remember_allowed(request);
        }
    }
}

/// For a client that asks for a message that the server doesn't know.
const HINT_UNKNOWN: &str = "the server does not know this message: Claude Code has ended since, or the session has expired; \
     if no answer came, send the message again";
