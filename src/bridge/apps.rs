//! What comes from the apps' side, on its way to the hub. Words for Claude and
//! everything else take two channels; here each client's are put in order again.

use log::warn;

use super::Bridge;
use super::wires::Peer;
use crate::access::Policy;
use crate::hub::{Closing, Effects};
use crate::protocol::{ConnId, Grant};
use crate::socket::{self, Said};

impl Bridge {
    pub fn socket(&mut self, event: socket::Event) {
        match event {
            socket::Event::Connected {
                conn,
                session,
                grant,
                outbox,
            } => {
                let holds = self.access.is_valid(&grant);
                let peer = Peer::new(outbox, session.clone(), grant.clone());
                self.wires.peers.insert(conn, peer);
                if !holds {
                    // The tokens have changed while it was on its way here.
                    return self.wires.close(conn, self.why_revoked());
                }
                let fx = &mut self.wires;
                self.hub.connect(self.now, conn, session, grant, fx);
            }
            socket::Event::Asked {
                conn,
                after,
                request,
                answered: _answered,
            } => {
                self.catch_up(conn, after);
                self.hub.request(conn, request, &mut self.wires);
            }
            socket::Event::Refused {
                conn,
                after,
                refusal,
            } => {
                self.catch_up(conn, after);
                self.hub.refuse(conn, &refusal, &mut self.wires);
            }
            socket::Event::Disconnected { conn, after } => {
                let caught_up = self.catch_up(conn, after);
                let was_here = self.hub.disconnect(self.now, conn);
                match self.wires.peers.get_mut(&conn) {
                    // Its last words still wait for Claude Code.
                    Some(peer) if !caught_up => {
                        peer.gone |= was_here;
                        peer.leaves_after = Some(after);
                    }
                    _ => drop(self.wires.peers.remove(&conn)),
                }
            }
            socket::Event::Inspect(asker) => {
                // Whoever asked may have gone.
                let _ = asker.try_send(self.hub.summary());
            }
            socket::Event::AccessChanged => self.access_changed(),
            socket::Event::Listening(Ok(_)) => self.not_listening = None,
            socket::Event::Listening(Err(why)) => self.not_listening = Some(why),
        }
    }

    /// Other tokens count now. Clients whose own is gone are cut off.
    fn access_changed(&mut self) {
        let access = self.access.clone();
        let holds = |grant: &Grant| access.is_valid(grant);
        for peer in self.wires.peers.values_mut() {
            // What it said before it went does not count any more.
            peer.gone &= holds(&peer.grant);
        }
        let why = self.why_revoked();
        self.hub.revoke(self.now, holds, why, &mut self.wires);
        if self.relays_permission == Some(false) && access.has_operator() {
            self.relays_permission = None;
            warn!(
                "there is an operator now, but Claude Code was told that there is none; restart it to have its permission prompts in apps"
            );
        }
    }

    /// Why a client is cut off whose grant doesn't hold.
    fn why_revoked(&self) -> Closing {
        match self.access.policy() {
            Policy::FileUnusable => Closing::Unverifiable,
            Policy::Token | Policy::LocalOnly => Closing::Unauthorized,
        }
    }

    /// Nothing can be sent to a client any more: it reads too slowly, or is just leaving.
    pub fn lose(&mut self, conn: ConnId) {
        let was_here = self.hub.lose(self.now, conn);
        if let Some(peer) = self.wires.peers.get_mut(&conn) {
            peer.gone |= was_here;
        }
    }

    /// Takes waiting messages until those that this client sent before are taken, so
    /// that its frames keep their order. Whether that worked: not while Claude Code
    /// doesn't read.
    fn catch_up(&mut self, conn: ConnId, after: u64) -> bool {
        loop {
            let taken = self.wires.peers.get(&conn).map_or(after, |peer| peer.taken);
            if taken >= after {
                return true;
            }
            if !self.takes_messages() {
                self.hand_over();
            }
            if !self.takes_messages() {
                return false;
            }
            let Ok(said) = self.said.try_recv() else {
                return false;
            };
            self.said(said);
        }
    }

    pub fn said(&mut self, said: Said) {
        let Said { conn, message } = said;
        // That it has connected was told before, but through another channel.
        while !self.wires.peers.contains_key(&conn)
            && let Ok(event) = self.events.try_recv()
        {
            self.event(event);
        }
        let Some(peer) = self.wires.peers.get_mut(&conn) else {
            return;
        };
        peer.taken += 1;
        let gone = peer.gone.then(|| (peer.home.clone(), peer.grant.clone()));
        let is_last = peer.leaves_after == Some(peer.taken);
        match gone {
            None => self.hub.message(self.now, conn, message, &mut self.wires),
            Some((home, grant)) => {
                let fx = &mut self.wires;
                self.hub
                    .last_words(self.now, conn, home, grant, message, fx);
            }
        }
        if is_last {
            self.wires.peers.remove(&conn);
        }
    }
}
