//! Passes the events of the clients' side on to the hub.

use crossbeam_channel::Sender;
use log::warn;

use super::main_loop::Server;
use super::outputs::Link;
use crate::access::Policy;
use crate::health::Figures;
use crate::hub::{ClientInput, CloseReason, Effects, Input, Revocation};
use crate::protocol::ConnId;
use crate::ready::Ready;
use crate::socket::Event;

/// A request with a long answer. Its client's reader waits for that, so a client has one at most.
#[derive(Debug)]
pub struct LongRequest {
    conn: ConnId,
    input: ClientInput,
    /// Dropped when the request is handled. If the answer goes on, something is sent before.
    handled: Sender<()>,
}

impl Server {
    pub fn client_event(&mut self, event: Event) {
        match event {
            Event::Connected {
                conn,
                session,
                grant,
                outbox,
                queue,
            } => {
                let link = Link::new(outbox, queue);
                self.out.links.insert(conn, link);
                // The tokens may have changed since the client was admitted.
                if !self.access.is_valid(grant.id) {
                    return self.out.close(conn, self.revocation_reason());
                }
                let connected = ClientInput::Connected { session, grant };
                self.handle_input(Input::Client(conn, connected));
            }
            Event::Input {
                conn,
                input,
                handled: None,
            } => self.handle_input(Input::Client(conn, input)),
            Event::Input {
                conn,
                input,
                handled: Some(handled),
            } => self.long_requests.push_back(LongRequest {
                conn,
                input,
                handled,
            }),
            Event::Disconnected(conn) => {
                self.handle_input(Input::Client(conn, ClientInput::Disconnected));
                self.out.disconnected(conn);
            }
            Event::HungUp(conn) => self.handle_input(Input::Client(conn, ClientInput::Lost)),
            Event::Stats(reply_to) => {
                // Whoever asked may have disconnected.
                let _ = reply_to.try_send(Figures {
                    hub: self.hub.stats(),
                    store: self.storage.health(),
                });
            }
            Event::TokensChanged => self.tokens_changed(),
            Event::Remove(removal) => self.remove(removal),
            Event::Listening(listening) => {
                if listening.is_ok() {
                    self.control.open();
                }
                if let Some(file) = &self.config.ready_file {
                    let socket = &self.config.socket;
                    let failed = Ready::Failed((socket.host, socket.port).into());
                    let ready = listening
                        .as_ref()
                        .map_or(failed, |at| Ready::Listening(*at));
                    ready.write(file);
                }
                if listening.is_ok() {
                    self.start_store();
                }
                self.listen_error = listening.err();
            }
        }
    }

    /// Handles requests with a long answer, as many as there is time for, one at least, so that clients that
    /// asked for little don't wait for all of those that asked for much.
    pub fn answer_long_requests(&mut self) {
        while !self.out.should_flush()
            && let Some(request) = self.long_requests.pop_front()
        {
            let conn = request.conn;
            self.handle_input(Input::Client(conn, request.input));
            if self.hub.is_waiting(conn) {
                self.unanswered.insert(conn, request.handled);
            } else {
                self.answered(conn, &request.handled);
            }
            if self.is_late() {
                return;
            }
        }
    }

    /// A long request is handled, or a part of its answer: if there is more, its client's reader is told before `handled`
    /// is dropped.
    pub fn answered(&self, conn: ConnId, handled: &Sender<()>) {
        if self.hub.has_more(conn) {
            // It has room for one.
            let _ = handled.try_send(());
        }
    }

    /// Disconnects the clients whose grant isn't valid any more, and rejects their messages that wait.
    pub fn revoke(&mut self) {
        let access = self.access.clone();
        self.handle_input(Input::TokensChanged(Revocation {
            is_valid: Box::new(move |grant_id| access.is_valid(grant_id)),
            reason: self.revocation_reason(),
        }));
    }

    fn tokens_changed(&mut self) {
        self.revoke();
        if self.permission_relay_announced == Some(false) && self.access.has_operator() {
            self.permission_relay_announced = None;
            warn!(
                "there is an operator now, but Claude Code was told that there is none; restart it to have its permission prompts in apps"
            );
        }
    }

    /// Returns why a client whose grant isn't valid any more is disconnected.
    fn revocation_reason(&self) -> CloseReason {
        match self.access.policy() {
            Policy::FileUnusable => CloseReason::AuthUnavailable,
            Policy::Token | Policy::LocalOnly => CloseReason::Unauthorized,
        }
    }
}
