//! What apps do: connect, ask, decide, leave. What they say is in `messages`.

use std::sync::Arc;

use super::rights::cannot_read;
use super::session::Session;
use super::{
    Client, Closing, Effects, Hub, Notification, Now, Remarkable, only, permission_request,
};
use crate::protocol::{
    ClientRequest, ConnId, DEFAULT_USER, DeliveryState, ErrorCode, Grant, HostInfo, MAX_ECHO,
    RESERVED_DECIDERS, Refusal, ServerMessage, SessionId, Speaker,
};

impl Hub {
    /// A client has connected, to the session of its URL. An operator gets what waits
    /// for a verdict.
    pub fn connect(
        &mut self,
        now: Now,
        client: ConnId,
        home: SessionId,
        grant: Arc<Grant>,
        fx: &mut impl Effects,
    ) {
        let decides = grant.role.decides();
        let newcomer = Client {
            home: home.clone(),
            sessions: Vec::with_capacity(1),
            grant,
            user: None,
            stream: false,
            overstepped: false,
            gone: false,
        };
        self.clients.insert(client, newcomer);
        if let Err(refusal) = self.join(now, client, &home) {
            self.clients.remove(&client);
            self.refuse(client, &refusal, fx);
            fx.close(client, Closing::TryAgainLater);
            return;
        }
        for request in self.permissions.iter().filter(|_| decides) {
            fx.send(only(client), &permission_request(&home, request));
        }
    }

    /// A client has gone. It leaves all of its sessions. Whether it was known: one that
    /// was turned away is not.
    pub fn disconnect(&mut self, now: Now, client: ConnId) -> bool {
        self.leave_all(now, client, |_| {})
    }

    /// The same for a client that was cut off before it had received everything: if
    /// nobody else was there, the last answer waits for someone to receive it.
    pub fn lose(&mut self, now: Now, client: ConnId) -> bool {
        self.leave_all(now, client, |session| {
            let said_last = session.last().map(|entry| entry.role);
            if session.members.is_empty() && said_last == Some(Speaker::Assistant) {
                session.keep_unseen(now);
            }
        })
    }

    fn leave_all(&mut self, now: Now, client: ConnId, then: impl Fn(&mut Session)) -> bool {
        let Some(gone) = self.clients.remove(&client) else {
            return false;
        };
        for id in gone.sessions {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.leave(client, now);
                then(session);
                self.reschedule(&id);
            }
        }
        true
    }

    /// A client asks for something that Claude has no part in.
    pub fn request(&mut self, client: ConnId, request: ClientRequest, fx: &mut impl Effects) {
        let Some(asker) = self.clients.get_mut(&client) else {
            return;
        };
        match request {
            ClientRequest::Ping => {
                fx.send(only(client), &ServerMessage::Pong);
            }
            ClientRequest::Hello { stream } => {
                asker.stream = stream.unwrap_or(asker.stream);
                let asker = &self.clients[&client];
                let session = self.sessions.get(&asker.home);
                let created = session.map_or_else(String::new, Session::created);
                let welcome = ServerMessage::Welcome {
                    server: env!("CARGO_PKG_NAME"),
                    version: env!("CARGO_PKG_VERSION"),
                    session_id: asker.home.as_str(),
                    role: asker.grant.role,
                    user: asker.grant.user.as_deref(),
                    seq: session.map_or(0, Session::seq),
                    created: &created,
                    max_message: self.limits.max_message,
                    host: self.host_info(),
                };
                fx.send(only(client), &welcome);
            }
            ClientRequest::FetchHistory {
                session,
                limit,
                since,
            } => {
                let id = session.unwrap_or_else(|| asker.home.clone());
                match cannot_read(&asker.grant, &id) {
                    Some(why) => self.forbid(client, id.as_str(), None, why, fx),
                    None => self.history(client, &id, limit, since, fx),
                }
            }
            ClientRequest::ListSessions => {
                let grant = asker.grant.clone();
                fx.send(only(client), &self.sessions_for(&grant));
            }
            ClientRequest::PermissionResponse {
                request_id,
                allowed,
            } => self.verdict(client, &request_id, allowed, fx),
        }
    }

    /// Tells a client that its frame was not taken, and why.
    pub fn refuse(&mut self, client: ConnId, refusal: &Refusal, fx: &mut impl Effects) {
        self.counts.refused += 1;
        fx.send(only(client), &refusal.error());
        if let Some(id) = &refusal.id {
            let home = self.clients.get(&client).map(|client| client.home.as_str());
            let named = Some(refusal.session_id.as_str()).filter(|named| !named.is_empty());
            let rejected = ServerMessage::Delivery {
                session_id: named.or(home).unwrap_or_default(),
                id,
                message_id: None,
                seq: None,
                state: DeliveryState::Rejected,
                code: Some(refusal.code),
                hint: None,
            };
            fx.send(only(client), &rejected);
        }
    }

    fn history(
        &mut self,
        client: ConnId,
        id: &SessionId,
        limit: usize,
        since: Option<u64>,
        fx: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            let nothing = ServerMessage::History {
                session_id: id.as_str(),
                messages: Vec::new(),
            };
            fx.send(only(client), &nothing);
            return;
        };
        let messages = session.history(limit, since);
        let newest = messages.last().map_or(0, |item| item.seq);
        let history = ServerMessage::History {
            session_id: id.as_str(),
            messages,
        };
        fx.send(only(client), &history);
        session.seen_up_to(newest);
        self.reschedule(id);
    }

    fn verdict(&mut self, client: ConnId, request_id: &str, allowed: bool, fx: &mut impl Effects) {
        let Some(decider) = self.clients.get(&client) else {
            return;
        };
        if !decider.grant.role.decides() {
            let role = decider.grant.role.as_str();
            let why = format!(
                "only an operator answers permission requests, and this token is a {role}'s; use an operator's"
            );
            return self.forbid(client, "", None, why, fx);
        }
        let signed = decider.grant.user.clone();
        // Without a token it calls itself what it likes.
        let called = || {
            let user = decider.user.clone();
            user.filter(|user| !RESERVED_DECIDERS.contains(&&**user))
        };
        let user = signed.or_else(called);
        let by = user.as_deref().unwrap_or(DEFAULT_USER);
        let Some(request) = self.permissions.close(request_id) else {
            let id: String = request_id.chars().take(MAX_ECHO).collect();
            let why = format!(
                "permission request \"{id}\" is not open: it was answered, has expired or never was"
            );
            let refusal = Refusal::new(ErrorCode::UnknownRequest, why);
            return self.refuse(client, &refusal, fx);
        };
        self.counts.verdicts += 1;
        fx.record(&Remarkable::Verdict {
            client,
            user: by,
            request: &request,
            allowed,
        });
        fx.notify(&Notification::Verdict {
            request_id,
            allowed,
        });
        self.resolved(&request, allowed, by, fx);
        if !allowed {
            self.tool_denied(&request.tool_name, fx);
        } else if self.watch.is_heard() {
            self.permissions.allowed(request);
        }
    }

    /// Takes a client into a session, which is created if need be.
    pub(super) fn join(&mut self, now: Now, client: ConnId, id: &SessionId) -> Result<(), Refusal> {
        if !self.sessions.contains_key(id) {
            let max = self.limits.max_sessions;
            if self.sessions.len() >= max {
                return Err(Refusal {
                    session_id: id.to_string(),
                    ..Refusal::new(
                        ErrorCode::Busy,
                        format!(
                            "the server already has {max} sessions, its limit; use one of them or try again later"
                        ),
                    )
                });
            }
            self.sessions.insert(id.clone(), Session::new(now));
        }
        if let (Some(session), Some(newcomer)) =
            (self.sessions.get_mut(id), self.clients.get_mut(&client))
        {
            session.join(client);
            newcomer.sessions.push(id.clone());
        }
        self.reschedule(id);
        Ok(())
    }

    fn host_info(&self) -> HostInfo<&str> {
        let (name, version) = self
            .host
            .as_ref()
            .map_or(("", ""), |(name, version)| (name, version));
        HostInfo {
            name,
            version,
            ready: self.host_ready,
        }
    }
}
