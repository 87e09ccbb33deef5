//! Queues without a loop: what a turn takes, in which order, and who gives way.

use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;
use crate::protocol::{ClientRequest, NewMessage};

/// More than all tests send.
const PLENTY: usize = 64 << 20;

fn input(conn: u64, input: ClientInput) -> Event {
    Event::Input {
        conn: ConnId(conn),
        input,
        handled: None,
    }
}

/// Returns a message whose text is as long.
fn message(conn: u64, length: usize) -> Event {
    let message = NewMessage {
        id: Some(length.to_string().into()),
        ..NewMessage::new("x".repeat(length))
    };
    input(conn, ClientInput::Message(message.into()))
}

fn ping(conn: u64) -> Event {
    input(conn, ClientInput::Request(ClientRequest::Ping))
}

/// Returns what events are: the length of a message, `None` for a ping.
fn lengths(events: &VecDeque<Event>) -> Vec<Option<usize>> {
    let length = |event: &Event| match event {
        Event::Input {
            input: ClientInput::Message(input),
            ..
        } => Some(input.message.content.len()),
        _ => None,
    };
    events.iter().map(length).collect()
}

/// Returns the queue of a client, its outbox, and the client's end of the socket.
fn client(events: &Arc<Events>, conn: u64) -> (Arc<EventQueue>, Arc<Outbox>, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let client = TcpStream::connect(listener.local_addr().expect("the listener is bound"));
    let (stream, _) = listener.accept().expect("the client connects");
    let outbox = Outbox::new(ConnId(conn), stream, PLENTY, Arc::default());
    let outbox = outbox.expect("the socket takes a timeout");
    let queue = EventQueue::for_client(events, ConnId(conn), &outbox);
    (queue, outbox, client.expect("the listener accepts"))
}

#[test]
fn queue_is_reported_once_until_it_is_empty() {
    let (events, ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    let mut taken = VecDeque::new();
    for _ in 0..2 {
        queue.push(ping(1));
        queue.push(message(1, 5));
        assert_eq!(ready.try_iter().count(), 1);
        assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Nothing);
    }
    assert_eq!(lengths(&taken), [None, Some(5), None, Some(5)]);
}

/// A turn gives credit for some short events; a long message needs that of several turns.
#[test]
fn turn_is_bounded_by_bytes() {
    let (events, _ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    let short = QUANTUM / cost(ping(1).bytes());
    for _ in 0..short + 4 {
        queue.push(ping(1));
    }
    queue.push(message(1, 100_000));
    queue.push(ping(1));
    let mut taken = VecDeque::new();
    assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Something);
    assert_eq!(taken.len(), short);
    let mut turns = 1;
    while taken.len() < short + 6 {
        turns += 1;
        queue.take(QUANTUM, false, &mut taken);
    }
    assert_eq!(lengths(&taken)[short + 3..], [None, Some(100_000), None]);
    let needed = 100_000 / QUANTUM;
    assert!((needed..needed + 4).contains(&turns), "{turns}");
}

/// A round of many turns is no longer than one of few.
#[test]
fn turn_is_shorter_among_many() {
    assert_eq!(credit(0), QUANTUM);
    assert_eq!(credit(ROUND / QUANTUM - 1), QUANTUM);
    assert_eq!(credit(99), ROUND / 100);
    assert_eq!(credit(100_000), MIN_COST);
}

/// What is put back is taken in the next turn; the credit of many turns is only kept for a long message.
#[test]
fn credit_of_what_is_put_back_is_bounded() {
    let (events, _ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    queue.push(message(1, 100_000));
    while !queue.push(ping(1)) {}
    let mut taken = VecDeque::new();
    while taken.is_empty() {
        queue.take(QUANTUM, false, &mut taken);
    }
    assert!(!queue.put_back(&mut taken, false));
    queue.take(0, false, &mut taken);
    assert_eq!(lengths(&taken)[0], Some(100_000));
    taken.clear();
    for _ in 0..9 {
        queue.take(QUANTUM, false, &mut taken);
        assert!(taken.len() <= 2 * QUANTUM / cost(ping(1).bytes()));
        assert!(!queue.put_back(&mut taken, false));
    }
}

/// The loop doesn't take what it can't use, and what it has taken too much comes first again.
#[test]
fn messages_are_held_in_order() {
    let (events, ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    queue.push(ping(1));
    for length in 1..=3 {
        queue.push(message(1, length));
    }
    let mut taken = VecDeque::new();
    assert_eq!(queue.take(QUANTUM, true, &mut taken), Rest::Held);
    assert_eq!(lengths(&taken), [None]);
    taken.clear();
    assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Nothing);
    taken.pop_front();
    assert!(queue.put_back(&mut taken, true));
    queue.push(message(1, 4));
    assert_eq!(
        ready.try_iter().count(),
        1,
        "the loop knows that it must come back"
    );
    assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Nothing);
    assert_eq!(lengths(&taken), [Some(2), Some(3), Some(4)]);
}

#[test]
fn end_of_a_held_client_is_reported_at_once() {
    let (events, ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    queue.push(message(1, 5));
    let mut taken = VecDeque::new();
    assert_eq!(queue.take(QUANTUM, true, &mut taken), Rest::Held);
    drop(ready.try_iter().collect::<Vec<_>>());
    queue.push(Event::Disconnected(ConnId(1)));
    let notice = ready.try_recv().expect("it is reported");
    assert_eq!(notice.take(QUANTUM, true, &mut taken), Rest::Nothing);
    assert!(matches!(taken.pop_front(), Some(Event::HungUp(ConnId(1)))));
}

/// The loop takes nothing of a client that waits for the store, and hears only that it has gone.
#[test]
fn paused_queue_keeps_its_order_and_reports_its_end() {
    let (events, ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    for length in 1..=3 {
        queue.push(message(1, length));
    }
    drop(ready.try_iter().collect::<Vec<_>>());
    let mut taken = VecDeque::new();
    assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Nothing);
    taken.pop_front();
    queue.pause(&mut taken);
    assert_eq!(queue.hung_up(), None);
    queue.push(message(1, 4));
    assert_eq!(ready.try_iter().count(), 0, "the loop comes back by itself");
    assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Paused);
    assert!(taken.is_empty());

    queue.push(Event::Disconnected(ConnId(1)));
    assert_eq!(queue.hung_up(), Some(ConnId(1)));
    let notice = ready.try_recv().expect("it is reported");
    assert_eq!(notice.take(QUANTUM, false, &mut taken), Rest::Nothing);
    assert!(matches!(taken.pop_front(), Some(Event::HungUp(ConnId(1)))));

    queue.resume();
    assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Nothing);
    assert_eq!(lengths(&taken), [Some(2), Some(3), Some(4), None]);
    assert_eq!(queue.hung_up(), None);
}

/// However often it waits for the store, it gets no more at once than others.
#[test]
fn paused_queue_gathers_no_credit() {
    let (events, _ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    let short = QUANTUM / cost(ping(1).bytes());
    for _ in 0..4 * short {
        queue.push(ping(1));
    }
    let mut taken = VecDeque::new();
    for _ in 0..20 {
        assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Something);
        assert_eq!(taken.len(), short);
        taken.pop_front();
        queue.pause(&mut taken);
        queue.resume();
    }
}

#[test]
fn reader_of_a_full_queue_waits_for_room() {
    let (events, _ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    let fills = |_: &usize| !queue.push(ping(1));
    let full = CAPACITY.div_ceil(cost(ping(1).bytes()));
    assert_eq!((0..2 * full).take_while(fills).count(), full - 1);
    let mut taken = VecDeque::new();
    thread::scope(|scope| {
        let reader = scope.spawn(|| queue.wait_for_room(|| false));
        for _ in 0..=CAPACITY / QUANTUM / 2 {
            assert_eq!(queue.take(QUANTUM, false, &mut taken), Rest::Something);
        }
        reader.join().expect("there is room");
    });
}

/// Many that flood have less in their queues, which are read from again when there is little everywhere.
#[test]
fn queues_are_shorter_while_much_is_pending() {
    let (events, _ready) = Events::new(PLENTY);
    let (large, small) = (EventQueue::new(&events), EventQueue::new(&events));
    large.set_unfinished(MANY + 1);
    let fills = |_: &usize| !small.push(ping(1));
    let full = CAPACITY_OF_MANY.div_ceil(cost(ping(1).bytes()));
    assert_eq!((0..2 * full).take_while(fills).count(), full - 1);
    large.set_unfinished(0);
    small.wait_for_room(|| panic!("there is room"));
    assert!(!small.push(ping(1)));
}

#[test]
fn reader_does_not_wait_for_a_loop_that_has_ended() {
    let (events, ready) = Events::new(PLENTY);
    let queue = EventQueue::new(&events);
    while !queue.push(ping(1)) {}
    thread::scope(|scope| {
        let reader = scope.spawn(|| queue.wait_for_room(|| false));
        events.end();
        ready.try_iter().for_each(|queue| queue.clear());
        reader.join().expect("the loop has ended");
    });
    queue.push(ping(1));
    assert_eq!(queue.pending(), 0, "nothing waits for nobody");
}

/// Whoever has most loses its newest messages, and is told so. The others lose nothing.
#[test]
fn largest_messages_are_rejected_when_too_much_is_pending() {
    let (events, _ready) = Events::new(250_000);
    let (small, large) = (client(&events, 1), client(&events, 2));
    for length in [40_000, 40_001] {
        large.0.push(message(2, length));
    }
    for length in [30_000, 30_001] {
        small.0.push(message(1, length));
    }
    for length in [80_000, 80_001] {
        large.0.push(message(2, length));
    }
    assert!(small.0.pending() + large.0.pending() <= 250_000);
    let take = |queue: &EventQueue| {
        let mut taken = VecDeque::new();
        while queue.take(QUANTUM, false, &mut taken) == Rest::Something {}
        taken
    };
    assert_eq!(lengths(&take(&small.0)), [Some(30_000), Some(30_001)]);
    let taken = take(&large.0);
    assert_eq!(
        lengths(&taken),
        [Some(40_000), Some(40_001), Some(80_000), None]
    );
    let Some(Event::Input {
        input: ClientInput::Rejected(rejection),
        ..
    }) = taken.back()
    else {
        panic!("{taken:?}");
    };
    assert_eq!(rejection.id.as_deref(), Some("80001"));
    assert_eq!(rejection.code, ErrorCode::Busy);
    assert!(small.1.is_open() && large.1.is_open());
}

/// Nobody can be told about a message that isn't complete, so that connection is closed.
#[test]
fn largest_unfinished_message_is_cut_off() {
    let (events, _ready) = Events::new(100_000);
    let (small, large) = (client(&events, 1), client(&events, 2));
    large.0.set_unfinished(60_000);
    small.0.set_unfinished(30_000);
    assert!(!large.0.is_cut_off());
    small.0.set_unfinished(45_000);
    assert!(large.0.is_cut_off() && large.1.is_closed());
    assert!(!small.0.is_cut_off() && small.1.is_open());
    large.0.set_unfinished(90_000);
    assert_eq!(large.0.pending(), 0, "what is dropped is not counted");
    small.0.set_unfinished(0);
    small.0.set_unfinished(99_000);
    assert!(!small.0.is_cut_off());
}
