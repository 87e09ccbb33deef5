//! The order in which the loop visits the queues of clients' events.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, never};
use rustc_hash::FxHashMap;

use super::main_loop::Server;
use crate::protocol::ConnId;
use crate::socket::Event;
use crate::socket::event_queue::{EventQueue, Events, Rest, credit};

/// How many frames for all clients together a turn of a queue may bring, or one message's. A message in a large session
/// takes a thousand times as long as one to nobody else.
const MAX_DELIVERIES: usize = 2 * 1024;

/// The queues that hold something.
pub struct Turns {
    events: Arc<Events>,
    /// Queues that held nothing until now. Clients that send little are here.
    ready: Receiver<Arc<EventQueue>>,
    /// Queues that have had a turn and hold more. Clients that send much are here.
    busy: VecDeque<Arc<EventQueue>>,
    /// Queues whose next event is a message, while senders are held back.
    held: VecDeque<Arc<EventQueue>>,
    /// Queues of clients that wait for an answer of the store. Nothing is taken from them.
    paused: FxHashMap<ConnId, Arc<EventQueue>>,
    /// The events of the turn.
    taken: VecDeque<Event>,
}

impl Turns {
    pub fn new(events: Arc<Events>, ready: Receiver<Arc<EventQueue>>) -> Self {
        Self {
            events,
            ready,
            busy: VecDeque::new(),
            held: VecDeque::new(),
            paused: FxHashMap::default(),
            taken: VecDeque::new(),
        }
    }

    /// The queues that wait for their first turn.
    pub fn ready(&self) -> &Receiver<Arc<EventQueue>> {
        &self.ready
    }

    /// Returns `true` if a queue waits for another turn than its first.
    pub fn has_more(&self, holds_messages: bool) -> bool {
        !self.busy.is_empty() || (!holds_messages && !self.held.is_empty())
    }

    /// Gives a queue its next turn when it is due, if its last one has left something.
    fn put(&mut self, queue: Arc<EventQueue>, rest: Rest) {
        match rest {
            Rest::Nothing | Rest::Paused => {}
            Rest::Something => self.busy.push_back(queue),
            Rest::Held => self.held.push_back(queue),
        }
    }

    /// Returns the queue that has waited longest for another turn. What was held back comes first: it has waited since
    /// senders were held.
    fn next_again(&mut self, holds_messages: bool) -> Option<Arc<EventQueue>> {
        let held = if holds_messages {
            None
        } else {
            self.held.pop_front()
        };
        held.or_else(|| self.busy.pop_front())
    }

    /// Takes the events of a queue's turn.
    fn take(&mut self, queue: &EventQueue, holds_messages: bool) -> Rest {
        let credit = credit(self.busy.len() + self.held.len());
        queue.take(credit, holds_messages, &mut self.taken)
    }

    /// A client doesn't wait for the store any longer.
    pub fn resume(&mut self, conn: ConnId) {
        if let Some(queue) = self.paused.remove(&conn) {
            queue.resume();
            self.busy.push_back(queue);
        }
    }

    /// Drops what waits, as the loop has ended, and wakes the readers that wait for it.
    pub fn end(&mut self) {
        self.events.end();
        let queues = self.busy.drain(..).chain(self.held.drain(..));
        let paused = self.paused.drain().map(|(_, queue)| queue);
        queues
            .chain(paused)
            .chain(self.ready.try_iter())
            .for_each(|queue| queue.clear());
        self.ready = never();
    }
}

impl Server {
    /// Visits the next queue that waits for its first turn, and the next of the others, so that none waits for all of
    /// another kind. Returns `false` if there was none.
    pub fn visit_next(&mut self, handle: impl Fn(&mut Self, Event)) -> bool {
        let first = self.turns.ready.try_recv().ok();
        let again = self.turns.next_again(self.holds_senders());
        let is_any = first.is_some() || again.is_some();
        for queue in first.into_iter().chain(again) {
            self.visit(queue, &handle);
        }
        is_any
    }

    /// Handles as many events of a queue as it has credit for, up to a message that must wait for room in the inbox or for
    /// the store, or to what the store must be asked for, or until it has brought others too much.
    pub fn visit(&mut self, queue: Arc<EventQueue>, handle: impl Fn(&mut Self, Event)) {
        let holds_senders = self.holds_senders();
        let mut rest = self.turns.take(&queue, holds_senders);
        let before = self.out.deliveries();
        while let Some(event) = self.turns.taken.pop_front() {
            let is_held = event.is_message() && self.holds_senders();
            // What may go on must not wait behind what is held back.
            let is_too_much = rest != Rest::Held
                && self.out.deliveries().saturating_sub(before) >= MAX_DELIVERIES;
            if is_held || is_too_much {
                self.turns.taken.push_front(event);
                let is_new = queue.put_back(&mut self.turns.taken, is_held);
                if is_new || rest != Rest::Nothing {
                    rest = if is_held { Rest::Held } else { Rest::Something };
                }
                self.hang_up(&queue, &handle);
                break;
            }
            let conn = event.conn();
            handle(self, event);
            if let Some(conn) = conn.filter(|conn| self.hub.is_waiting(*conn)) {
                queue.pause(&mut self.turns.taken);
                self.turns.paused.insert(conn, queue.clone());
                rest = Rest::Paused;
                self.hang_up(&queue, &handle);
                break;
            }
        }
        self.turns.put(queue, rest);
    }

    /// Reports that a connection has ended, if what came from it before is held back.
    fn hang_up(&mut self, queue: &EventQueue, handle: impl Fn(&mut Self, Event)) {
        if let Some(conn) = queue.hung_up() {
            handle(self, Event::HungUp(conn));
        }
    }
}
