//! The order in which the loop visits the queues of clients' events.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, never};

use super::main_loop::Server;
use crate::socket::Event;
use crate::socket::event_queue::{EventQueue, Events, Rest};

/// The queues that hold something.
pub struct Turns {
    events: Arc<Events>,
    /// Queues that held nothing until now. Clients that send little are here.
    ready: Receiver<Arc<EventQueue>>,
    /// Queues that have had a turn and hold more. Clients that send much are here.
    busy: VecDeque<Arc<EventQueue>>,
    /// Queues whose next event is a message, while senders are held back.
    held: VecDeque<Arc<EventQueue>>,
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

    /// Takes the events of a queue's turn.
    fn take(&mut self, queue: &Arc<EventQueue>, holds_messages: bool) {
        match queue.take(holds_messages, &mut self.taken) {
            Rest::Nothing => {}
            Rest::Something => self.busy.push_back(queue.clone()),
            Rest::Held => self.held.push_back(queue.clone()),
        }
    }

    /// Drops what waits, as the loop has ended, and wakes the readers that wait for it.
    pub fn end(&mut self) {
        self.events.end();
        let queues = self.busy.drain(..).chain(self.held.drain(..));
        queues
            .chain(self.ready.try_iter())
            .for_each(|queue| queue.clear());
        self.ready = never();
    }
}

impl Server {
    /// Visits the next queue of each kind, so that none waits for all of another kind. Returns `false` if there was
    /// none.
    pub fn visit_next(&mut self, handle: impl Fn(&mut Self, Event)) -> bool {
        let ready = self.turns.ready.try_recv().ok();
        let busy = self.turns.busy.pop_front();
        let is_any = ready.is_some() || busy.is_some();
        for queue in ready.into_iter().chain(busy) {
            self.visit(queue, &handle);
        }
        if !self.out.holds_senders()
            && let Some(queue) = self.turns.held.pop_front()
        {
            self.visit(queue, handle);
            return true;
        }
        is_any
    }

    /// Handles as many events of a queue as it has credit for, up to a message that must wait for room in the inbox.
    pub fn visit(&mut self, queue: Arc<EventQueue>, handle: impl Fn(&mut Self, Event)) {
        self.turns.take(&queue, self.out.holds_senders());
        while let Some(event) = self.turns.taken.pop_front() {
            if event.is_message() && self.out.holds_senders() {
                self.turns.taken.push_front(event);
                let is_new = queue.put_back(&mut self.turns.taken);
                if let Some(conn) = queue.hung_up() {
                    handle(self, Event::HungUp(conn));
                }
                if is_new {
                    self.turns.held.push_back(queue);
                }
                return;
            }
            handle(self, event);
        }
    }
}
