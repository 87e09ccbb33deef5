//! Clients that ask for as much as they can: the loads of `fairness`.
//!
//! They share the processors with the server, so each load is one thread with one epoll set, and its
//! frames are encoded before. What clients receive is thrown away in the kernel (`MSG_TRUNC`, tcp(7)) where
//! nothing depends on it. A load runs until its flag is set, and fails if the server closes a client.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::client::{Client, FrameCounter};
use crate::server::Result;

/// Bytes that one read takes at most.
const BUFFER: usize = 256 * 1024;
/// How often a load looks whether it must end.
const STOP_CHECK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
/// The time between two reads of a slow client.
const SLOW_READ: Duration = Duration::from_millis(10);
/// The time between two clients that come and don't read.
const ARRIVAL: Duration = Duration::from_millis(2);

/// The clients of a load, numbered from 0.
struct Crowd {
    clients: Vec<Client>,
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Crowd {
    /// Waits for `flags` at each client.
    fn new(clients: Vec<Client>, flags: impl Fn(usize) -> EventFlags) -> Result<Self> {
        let failed = |error: Errno| format!("epoll doesn't work ({error})");
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        for (n, client) in clients.iter().enumerate() {
            let data = EventData::new_u64(n as u64);
            epoll::add(&epoll, &client.stream, data, flags(n)).map_err(failed)?;
        }
        let events = Vec::with_capacity(1024);
        Ok(Self {
            clients,
            epoll,
            events,
        })
    }

    /// Calls `act` for each client that can read or write, with what it can. Blocks for [`STOP_CHECK`]
    /// at most.
    fn for_each_ready(
        &mut self,
        mut act: impl FnMut(usize, &mut Client, EventFlags) -> Result<()>,
    ) -> Result<()> {
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&STOP_CHECK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("epoll doesn't work ({error})")),
        }
        self.events.iter().try_for_each(|event| {
            let n = event.data.u64() as usize;
            act(n, &mut self.clients[n], event.flags)
        })
    }
}

/// Lets the first `senders` of the clients send `frames` again and again, as fast as the server takes
/// them.
pub fn send_always(
    clients: Vec<Client>,
    senders: usize,
    frames: &[u8],
    stop: &AtomicBool,
) -> Result<()> {
    let flags = |n| match n < senders {
        true => EventFlags::IN | EventFlags::OUT,
        false => EventFlags::IN,
    };
    let mut sent = vec![0; senders];
    let mut buffer = vec![0; BUFFER];
    let mut crowd = Crowd::new(clients, flags)?;
    while !stop.load(Relaxed) {
        crowd.for_each_ready(|n, client, flags| {
            if flags.contains(EventFlags::IN) {
                receive(client, &mut buffer, RecvFlags::TRUNC)?;
            }
            if flags.contains(EventFlags::OUT) {
                sent[n] = (sent[n] + send_some(client, &frames[sent[n]..])?) % frames.len();
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Lets each client send `request`, and again as soon as it is answered. The end of an answer is a frame
/// of less than 126 bytes, such as a pong.
pub fn ask_always(clients: Vec<Client>, request: &[u8], stop: &AtomicBool) -> Result<()> {
    let mut frames: Vec<FrameCounter> = clients.iter().map(|_| FrameCounter::default()).collect();
    let mut buffer = vec![0; BUFFER];
    let mut crowd = Crowd::new(clients, |_| EventFlags::IN)?;
    for client in &mut crowd.clients {
        client.send(request)?;
    }
    while !stop.load(Relaxed) {
        crowd.for_each_ready(|n, client, _| {
            let received = receive(client, &mut buffer, RecvFlags::empty())?;
            let before = frames[n].short;
            frames[n].consume(&buffer[..received]);
            (before..frames[n].short).try_for_each(|_| client.send(request))
        })?;
    }
    Ok(())
}

/// Lets `count` clients send `requests` and read nothing. Each is replaced by a new one in turn.
pub fn ask_unread(
    server: SocketAddr,
    count: usize,
    session: &str,
    requests: &[u8],
    stop: &AtomicBool,
) -> Result<()> {
    let mut clients = Vec::with_capacity(count);
    let mut next = 0;
    while !stop.load(Relaxed) {
        let client = Client::connect(server, session)?;
        // As much as the socket takes, because the server doesn't read on.
        send_some(&client, requests)?;
        if clients.len() < count {
            clients.push(client);
        } else {
            clients[next] = client;
            next = (next + 1) % count;
            thread::sleep(ARRIVAL);
        }
    }
    Ok(())
}

/// Lets `sender` send `frame` in each `interval`, and the others read `rate` bytes a second each.
pub fn send_to_slow(
    mut sender: Client,
    others: &[Client],
    frame: &[u8],
    interval: Duration,
    rate: usize,
    stop: &AtomicBool,
) -> Result<()> {
    let mut buffer = vec![0; rate * SLOW_READ.as_millis() as usize / 1_000];
    let mut next = Instant::now();
    while !stop.load(Relaxed) {
        if Instant::now() >= next {
            sender.send(frame)?;
            next += interval;
        }
        receive(&sender, &mut buffer, RecvFlags::TRUNC)?;
        for client in others {
            receive(client, &mut buffer, RecvFlags::TRUNC)?;
        }
        thread::sleep(SLOW_READ);
    }
    Ok(())
}

/// Returns how many bytes a client has sent without blocking.
fn send_some(client: &Client, bytes: &[u8]) -> Result<usize> {
    match send(
        &client.stream,
        bytes,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    ) {
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(format!("a client cannot send ({error})")),
    }
}

/// Returns how many bytes a client has received without blocking.
fn receive(client: &Client, buffer: &mut [u8], flags: RecvFlags) -> Result<usize> {
    match recv(&client.stream, buffer, flags | RecvFlags::DONTWAIT) {
        Ok((_, 0)) | Err(Errno::CONNRESET) => Err("the server closed a client's connection".into()),
        Ok((_, received)) => Ok(received),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(format!("a client cannot read ({error})")),
    }
}
