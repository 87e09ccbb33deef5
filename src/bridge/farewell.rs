//! The end: everyone is told, and nothing is waited for that does not come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, select};

use super::{Bridge, Event, SESSION_ENDED, now};
use crate::protocol::{ErrorCode, Refusal};
use crate::socket::frame::CloseCode;
use crate::socket::{self, Said};

/// How much of the time that is left is kept for the clients.
const FAREWELL: Duration = Duration::from_millis(300);
/// How many waiting messages are given back; more can't have been waiting.
const GIVEN_BACK: usize = 10_000;
/// How often it is looked whether all of them have gone.
const LOOK: Duration = Duration::from_millis(5);

impl Bridge {
    /// Gives Claude Code its last lines, tells every client how things stand, and waits
    /// a moment for them to hear it.
    pub fn shut_down(mut self, deadline: Instant, written: &Receiver<()>, open: &AtomicUsize) {
        self.last_lines(deadline - FAREWELL, written);
        self.turn_away_messages();
        self.hub.shut_down(&mut self.wires);
        self.wires.flush();

        while open.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            select! {
                recv(self.events) -> event => {
                    if let Ok(Event::Socket(socket::Event::Connected { outbox, .. })) = event {
                        outbox.close(CloseCode::Away, SESSION_ENDED);
                    }
                }
                // A client whose message waits would not read on to the close.
                recv(self.said) -> _ => {}
                recv(after(LOOK)) -> _ => {}
            }
        }
    }

    /// Gives Claude Code the last lines, if it reads them in time.
    fn last_lines(&mut self, deadline: Instant, written: &Receiver<()>) {
        let output = &mut self.wires.output;
        if !output.is_empty() {
            let last = output.take();
            // If it fails, the messages among them are given back below.
            let _ = output.writer().send_deadline(last, deadline);
        }
        output.close();
        let _ = written.recv_deadline(deadline);
        let written = output.written();
        self.hub.handed_over(now(), written, &mut self.wires);
    }

    /// Gives back the messages that Claude Code will not get any more.
    fn turn_away_messages(&mut self) {
        for Said { conn, message } in self.said.try_iter().take(GIVEN_BACK) {
            let session = message.session.map(|id| id.to_string());
            let refusal = Refusal {
                session_id: session.unwrap_or_default(),
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
