//! The end: everyone is told, and nothing is waited for that does not come.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, select};

use super::wires::Wires;
use super::{Bridge, Event, SESSION_ENDED};
use crate::host::output::Output;
use crate::protocol::{ErrorCode, Refusal};
use crate::socket::frame::CloseCode;
use crate::socket::{self, Said};

/// How long the last lines may take to get to Claude Code.
const LAST_LINES: Duration = Duration::from_millis(250);
/// How long clients may take to answer the close.
const FAREWELL: Duration = Duration::from_millis(400);

impl Bridge {
    /// Says goodbye to everyone, and waits a moment for them to hear it.
    pub fn shut_down(mut self, written: &Receiver<()>) {
        let deadline = Instant::now() + FAREWELL;
        self.turn_away_messages();
        self.hub.shut_down(&mut self.wires);
        self.wires.flush();
        let Wires {
            output, mut peers, ..
        } = self.wires;
        finish(output, written);
        peers.retain(|_, peer| peer.leaves_after.is_none());
        while !peers.is_empty() && Instant::now() < deadline {
            select! {
                recv(self.events) -> event => match event {
                    Ok(Event::Socket(socket::Event::Disconnected { conn, .. })) => {
                        peers.remove(&conn);
                    }
                    Ok(Event::Socket(socket::Event::Connected { outbox, .. })) => {
                        outbox.close(CloseCode::Away, SESSION_ENDED);
                    }
                    _ => {}
                },
                // A client whose message waits would not read on to the close.
                recv(self.said) -> _ => {}
                recv(at(deadline)) -> _ => {}
            }
        }
    }

    /// Messages that Claude Code will not get any more.
    fn turn_away_messages(&mut self) {
        while let Ok(Said { conn, message }) = self.said.try_recv() {
            let refusal = Refusal {
                session_id: message
                    .session
                    .map_or_else(String::new, |id| id.to_string()),
                id: message.id.map(|id| id.to_string()),
                ..Refusal::new(
                    ErrorCode::HostClosed,
                    "Claude Code has ended; send the message again when it is back",
                )
            };
            self.hub.refuse(conn, &refusal, &mut self.wires);
        }
    }
}

/// Gives Claude Code the last lines, if it reads them in time.
fn finish(mut output: Output, written: &Receiver<()>) {
    let deadline = Instant::now() + LAST_LINES;
    if !output.is_empty() {
        let last = output.take();
        let _ = output.writer().send_deadline(last, deadline);
    }
    drop(output);
    let _ = written.recv_deadline(deadline);
}
