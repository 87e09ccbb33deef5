//! The way of events to the hub's loop: a queue for each connection, so that a client's frames keep
//! their order. The loop visits those that hold something in turns, and takes as much from each as
//! it has credit for (deficit round robin: Shreedhar and Varghese, 1995). So what one client sends
//! delays nobody else.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::info;
use parking_lot::{Condvar, Mutex};

use super::Event;
use super::frame::{CloseCode, SESSION_ENDED};
use super::outbox::Outbox;
use super::pending::Pending;
use crate::hub::{ClientInput, MessageInput};
use crate::protocol::{ConnId, ErrorCode, Rejection};

/// The credit that a queue gets in each turn at most, in bytes.
const QUANTUM: usize = 16 * 1024;
/// The credit that all queues get in a round of turns, in bytes, so that a round is short, however many take part.
const ROUND: usize = 256 * 1024;
/// What an event costs at least, in bytes: so that many short ones are handled in several turns. With 1 KiB, four clients
/// that flood got half as many messages through: their readers waited for room all the time.
const MIN_COST: usize = 128;
/// A connection whose events cost so much, in bytes, is not read from until half of them are taken.
const CAPACITY: usize = 256 * 1024;
/// The same while many connections have much pending: a hundred readers that parse messages which only wait would take
/// the processor from the loop.
const CAPACITY_OF_MANY: usize = 32 * 1024;
/// With more than this pending of all, in bytes, there are many.
const MANY: usize = 2 * 1024 * 1024;
/// How often a reader that waits for room looks whether its client has hung up.
const HANGUP_CHECK: Duration = Duration::from_secs(1);
/// A message with fewer bytes takes hardly more memory than its rejection.
const MIN_REJECTED: usize = 1024;

/// What all queues share.
#[derive(Debug)]
pub struct Events {
    /// To the hub's loop: the queues that hold something. Each is in it once, and once more if what the loop holds back gives
    /// way, so it is bounded by the number of connections.
    ready: Sender<Arc<EventQueue>>,
    /// The loop has ended.
    has_ended: AtomicBool,
    pending: Pending,
}

impl Events {
    /// Returns them with the receiver of the loop. At most `max_pending` bytes may wait.
    pub fn new(max_pending: usize) -> (Arc<Self>, Receiver<Arc<EventQueue>>) {
        let (ready, queues) = unbounded();
        let events = Self {
            ready,
            has_ended: AtomicBool::new(false),
            pending: Pending::new(max_pending),
        };
        (Arc::new(events), queues)
    }

    /// Sends an event that keeps no order with others.
    pub fn send(self: &Arc<Self>, event: Event) {
        EventQueue::new(self).push(event);
    }

    /// Lets queues refuse everything from now on. The loop must then [`clear`](EventQueue::clear)
    /// those that it knows of.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.pending.end();
    }
}

/// The events of one connection.
#[derive(Debug)]
pub struct EventQueue {
    events: Arc<Events>,
    state: Mutex<State>,
    /// Notified when there is room.
    room: Condvar,
    /// The connection was closed because it had most pending.
    is_cut_off: AtomicBool,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Event>,
    /// What the events cost.
    cost: usize,
    /// Memory of the events, in bytes.
    bytes: usize,
    /// The bytes of a message that is not complete.
    unfinished: usize,
    /// What may be taken before the next turn.
    credit: usize,
    /// The loop knows that it holds something.
    is_listed: bool,
    /// The reader waits for room.
    is_awaited: bool,
    /// A message is next, and the loop holds it back.
    is_held: bool,
    /// The client waits for an answer of the store, so the loop takes nothing.
    is_paused: bool,
}

/// What a turn has left in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing. The queue reports itself when it holds something.
    Nothing,
    /// More than the turn allowed.
    Something,
    /// A message is next, while senders are held back.
    Held,
    /// It isn't known: nothing may be taken before [`EventQueue::resume`].
    Paused,
}

impl EventQueue {
    pub fn new(events: &Arc<Events>) -> Arc<Self> {
        Arc::new(Self {
            events: events.clone(),
            state: Mutex::new(State {
                // Most connections never have two events at the same time.
                queue: VecDeque::with_capacity(1),
                cost: 0,
                bytes: 0,
                unfinished: 0,
                credit: 0,
                is_listed: false,
                is_awaited: false,
                is_held: false,
                is_paused: false,
            }),
            room: Condvar::new(),
            is_cut_off: AtomicBool::new(false),
        })
    }

    // ---- The reader's side ----

    /// Returns the queue of a WebSocket, which can be cut off when too much is pending.
    pub fn for_client(events: &Arc<Events>, conn: ConnId, outbox: &Arc<Outbox>) -> Arc<Self> {
        let queue = Self::new(events);
        events.pending.watch(conn, queue.clone(), outbox.clone());
        queue
    }

    /// Adds an event. Never blocks. Returns `true` if nothing more should be read before there is room.
    pub fn push(self: &Arc<Self>, event: Event) -> bool {
        let bytes = event.bytes();
        let is_too_much = self.events.pending.add(bytes);
        let mut state = self.state.lock();
        state.bytes += bytes;
        state.cost += cost(bytes);
        state.queue.push_back(event);
        let is_full = state.cost >= self.capacity();
        let is_listed = mem::replace(&mut state.is_listed, true);
        let hung_up = state.hung_up();
        drop(state);
        if let Some(conn) = hung_up {
            self.events.send(Event::HungUp(conn));
        }
        if !is_listed {
            // If the loop has ended, the queue is cleared below.
            let _ = self.events.ready.send(self.clone());
        }
        if self.events.has_ended.load(Ordering::SeqCst) {
            self.clear();
        } else if is_too_much {
            self.events.pending.make_room();
        }
        is_full
    }

    /// Blocks while the queue is full, unless `stop` returns `true`, which is asked every second
    /// and whenever the reader is woken.
    pub fn wait_for_room(&self, stop: impl Fn() -> bool) {
        let mut state = self.state.lock();
        state.is_awaited = state.cost >= self.capacity();
        while state.is_awaited && !self.events.has_ended.load(Ordering::SeqCst) && !stop() {
            self.room.wait_for(&mut state, HANGUP_CHECK);
        }
        state.is_awaited = false;
    }

    /// Lets a reader that waits for room look whether it must stop.
    pub fn wake(&self) {
        if self.state.lock().is_awaited {
            self.room.notify_one();
        }
    }

    /// Counts the bytes of a message that is not complete yet, instead of those counted before.
    pub fn set_unfinished(&self, bytes: usize) {
        let pending = &self.events.pending;
        let mut state = self.state.lock();
        if self.is_cut_off() {
            return;
        }
        let before = mem::replace(&mut state.unfinished, bytes);
        drop(state);
        pending.remove(before.saturating_sub(bytes));
        if pending.add(bytes.saturating_sub(before)) {
            pending.make_room();
        }
    }

    /// Frees memory that an idle connection doesn't need.
    pub fn shrink(&self) {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            state.queue.shrink_to(1);
        }
    }

    /// Returns `true` if the connection was closed because it had most pending.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Relaxed)
    }

    /// What events may cost before the connection is not read from.
    fn capacity(&self) -> usize {
        if self.events.pending.total() > MANY {
            CAPACITY_OF_MANY
        } else {
            CAPACITY
        }
    }

    // ---- The loop's side ----

    /// Takes the events of one turn with this new credit; no messages if `holds_messages`.
    pub fn take(&self, credit: usize, holds_messages: bool, taken: &mut VecDeque<Event>) -> Rest {
        let mut state = self.state.lock();
        if state.is_paused {
            return Rest::Paused;
        }
        state.credit += credit;
        let before = state.bytes;
        let rest = state.take(credit, holds_messages, taken);
        if state.is_awaited && state.cost <= self.capacity() / 2 {
            state.is_awaited = false;
            self.room.notify_one();
        }
        let freed = before - state.bytes;
        let hung_up = state.hung_up();
        drop(state);
        self.events.pending.remove(freed);
        if let Some(conn) = hung_up {
            taken.push_back(Event::HungUp(conn));
        }
        rest
    }

    /// Puts events back that were taken, for another turn. If messages are held back, the first is one. Returns `true` if
    /// the loop must visit the queue again, and doesn't know yet.
    pub fn put_back(&self, events: &mut VecDeque<Event>, is_held: bool) -> bool {
        self.put_back_with(events, |state| state.is_held |= is_held)
    }

    /// Puts events back that were taken, if any are left, and lets nothing be taken until [`EventQueue::resume`], after which
    /// the loop must visit the queue.
    pub fn pause(&self, events: &mut VecDeque<Event>) {
        self.put_back_with(events, |state| {
            state.is_paused = true;
            // It gets as much in the turn in which it may go on.
            state.credit = state.credit.saturating_sub(QUANTUM);
        });
    }

    /// Puts events back, and marks why.
    fn put_back_with(&self, events: &mut VecDeque<Event>, mark: impl Fn(&mut State)) -> bool {
        let mut state = self.state.lock();
        let before = state.bytes;
        // What the first needs was gathered in many turns, if it is long.
        let most = events.front().map_or(0, |event| cost(event.bytes()));
        while let Some(event) = events.pop_back() {
            if matches!(event, Event::HungUp(_)) {
                // It isn't of the queue, which reports it anew.
                continue;
            }
            let bytes = event.bytes();
            state.bytes += bytes;
            state.cost += cost(bytes);
            state.credit += cost(bytes);
            state.queue.push_front(event);
        }
        state.credit = state.credit.min(most.max(QUANTUM));
        let is_too_much = self.events.pending.add(state.bytes - before);
        mark(&mut state);
        let is_new = !mem::replace(&mut state.is_listed, true);
        drop(state);
        if is_too_much {
            self.events.pending.make_room();
        }
        is_new
    }

    /// Lets events be taken again.
    pub fn resume(&self) {
        self.state.lock().is_paused = false;
    }

    /// Returns the connection if it has ended, and what it sent before is held back.
    pub fn hung_up(&self) -> Option<ConnId> {
        self.state.lock().hung_up()
    }

    /// Drops all events, as the loop has ended, and wakes the reader.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.cost = 0;
        state.bytes = 0;
        let events = mem::take(&mut state.queue);
        self.room.notify_one();
        drop(state);
        for event in events {
            if let Event::Connected { outbox, .. } = event {
                outbox.close(CloseCode::Away, SESSION_ENDED);
            }
        }
    }

    /// The connection has ended, and nothing of it is pending any more.
    pub fn retire(&self, conn: ConnId) {
        self.set_unfinished(0);
        self.events.pending.unwatch(conn);
    }

    // ---- When too much is pending ----

    /// Memory that the connection has pending, in bytes.
    pub fn pending(&self) -> usize {
        let state = self.state.lock();
        state.bytes + state.unfinished
    }

    /// Frees `excess` bytes: rejects the newest messages, or else closes the connection. Returns how many
    /// were freed.
    pub fn give_way(self: &Arc<Self>, conn: ConnId, outbox: &Arc<Outbox>, excess: usize) -> usize {
        let mut state = self.state.lock();
        let freed = if state.unfinished < state.bytes {
            state.reject_newest(excess)
        } else {
            0
        };
        if freed > 0 {
            let is_next = !state.queue.front().is_some_and(Event::is_message);
            let is_released = is_next && mem::take(&mut state.is_held);
            drop(state);
            if is_released {
                // The loop would not visit it before messages may go on.
                let _ = self.events.ready.send(self.clone());
            }
            return freed;
        }
        if self.is_cut_off.swap(true, Ordering::Relaxed) {
            return 0;
        }
        let freed = state.drop_input();
        drop(state);
        info!("{conn}: closed, it had most pending ({freed} bytes) when all clients had too much");
        outbox.close(
            CloseCode::Again,
            "too much of all clients is pending, most of it from here",
        );
        // Wakes the reader.
        let _ = outbox.stream().shutdown(Shutdown::Read);
        self.room.notify_one();
        freed
    }
}

impl State {
    /// Returns the connection if it has ended, and what it sent before is held back.
    fn hung_up(&self) -> Option<ConnId> {
        match self.queue.back() {
            Some(Event::Disconnected(conn)) if self.is_held || self.is_paused => Some(*conn),
            _ => None,
        }
    }

    fn take(&mut self, credit: usize, holds_messages: bool, taken: &mut VecDeque<Event>) -> Rest {
        self.is_held = false;
        while let Some(next) = self.queue.front() {
            if holds_messages && next.is_message() {
                self.is_held = true;
                // It gets as much in the turn in which it may go on.
                self.credit = self.credit.saturating_sub(credit);
                return Rest::Held;
            }
            let bytes = next.bytes();
            if cost(bytes) > self.credit {
                return Rest::Something;
            }
            self.credit -= cost(bytes);
            self.cost -= cost(bytes);
            self.bytes -= bytes;
            taken.extend(self.queue.pop_front());
        }
        self.credit = 0;
        self.is_listed = false;
        Rest::Nothing
    }

    /// Rejects the newest messages until `excess` bytes are freed. Returns how many were freed.
    fn reject_newest(&mut self, excess: usize) -> usize {
        let before = self.bytes;
        for event in self.queue.iter_mut().rev() {
            if before - self.bytes >= excess {
                break;
            }
            let bytes = event.bytes();
            if let Event::Input {
                input: input @ ClientInput::Message(_),
                ..
            } = event
                && bytes >= size_of::<Event>() + MIN_REJECTED
            {
                reject(input);
                self.bytes = self.bytes - bytes + event.bytes();
                self.cost = self.cost - cost(bytes) + cost(event.bytes());
            }
        }
        before - self.bytes
    }

    /// Drops everything that came from the client, and what is unfinished. Returns how many bytes were freed.
    fn drop_input(&mut self) -> usize {
        let before = self.bytes + mem::take(&mut self.unfinished);
        self.queue
            .retain(|event| !matches!(event, Event::Input { .. }));
        self.bytes = self.queue.iter().map(Event::bytes).sum();
        self.cost = self.queue.iter().map(|event| cost(event.bytes())).sum();
        before - self.bytes
    }
}

/// Returns the credit that a queue gets in a round with so many others.
pub fn credit(others: usize) -> usize {
    (ROUND / (others + 1)).clamp(MIN_COST, QUANTUM)
}

/// Returns what an event of so many bytes costs.
fn cost(bytes: usize) -> usize {
    bytes.max(MIN_COST)
}

/// Makes a message a rejection.
fn reject(input: &mut ClientInput) {
    let why = "too many bytes of messages wait for Claude Code, most of them from here; send it again later, or raise CLAUDE_SOCKET_MAX_PENDING";
    let nothing = ClientInput::Rejected(Rejection::new(ErrorCode::Busy, why));
    if let ClientInput::Message(MessageInput { message, .. }) = mem::replace(input, nothing)
        && let ClientInput::Rejected(rejection) = input
    {
        rejection.id = message.id.map(|key| key.to_string());
        let session = message.session.map(|session| session.to_string());
        rejection.session_id = session.unwrap_or_default();
    }
}
