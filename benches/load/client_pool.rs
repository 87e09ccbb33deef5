//! Many clients that one thread reads, as fast as a machine with two cores can while the server
//! runs on it too.
//!
//! One epoll set, one big buffer, and of each frame only the header is looked at: what the
//! readers cost, the server cannot have. A thread per client would cost more than the server.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::client::{Client, parse_header};
use crate::server::{Result, TIMEOUT};

/// What one read takes from a socket.
const BUFFER: usize = 256 * 1024;

/// The clients.
pub struct ClientPool {
    members: Vec<Member>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

struct Member {
    client: Client,
    /// How many text frames it has got.
    received: u64,
    /// How many bytes of the frame are still to come.
    remaining: usize,
    /// A header that hasn't come to its end.
    partial_header: Vec<u8>,
}

impl ClientPool {
    /// Has `count` clients join; the session of each is asked for.
    pub fn join(
        server: SocketAddr,
        count: usize,
        session: impl Fn(usize) -> String,
    ) -> Result<Self> {
        let failed = |error: Errno| format!("epoll doesn't work ({error})");
        let mut pool = Self {
            members: Vec::with_capacity(count),
            epoll: epoll::create(CreateFlags::CLOEXEC).map_err(failed)?,
            events: Vec::with_capacity(1024),
            buffer: vec![0; BUFFER],
        };
        for n in 0..count {
            let client = Client::join(server, &session(n))
                .map_err(|error| format!("{error}, with {n} clients connected"))?;
            let data = EventData::new_u64(n as u64);
            epoll::add(&pool.epoll, &client.stream, data, EventFlags::IN).map_err(failed)?;
            let partial_header = Vec::new();
            pool.members.push(Member {
                client,
                received: 0,
                remaining: 0,
                partial_header,
            });
        }
        Ok(pool)
    }

    /// Nobody has got anything yet.
    pub fn reset_counts(&mut self) {
        for member in &mut self.members {
            member.received = 0;
        }
    }

    /// Reads what is there for any of them, after waiting for something. Tells of everyone who
    /// has got frames how many they had before and have now.
    pub fn read_ready(&mut self, mut on_received: impl FnMut(u64, u64)) -> Result<()> {
        self.events.clear();
        let patience = Timespec {
            tv_sec: TIMEOUT.as_secs() as i64,
            tv_nsec: 0,
        };
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&patience)) {
            Ok(0) => return Err("nothing came for clients that waited for it".into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("epoll doesn't work ({error})")),
        }
        for event in &self.events {
            let member = &mut self.members[event.data.u64() as usize];
            let (_, length) = match recv(
                &member.client.stream,
                &mut self.buffer[..],
                RecvFlags::DONTWAIT,
            ) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => {
                    return Err("it closed a client's connection".into());
                }
                Ok(read) => read,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(format!("a client cannot read ({error})")),
            };
            let before = member.received;
            member.consume(&self.buffer[..length]);
            if member.received > before {
                on_received(before, member.received);
            }
        }
        Ok(())
    }

    /// Has one after the other leave, and something happen after each.
    pub fn disconnect_each(mut self, mut then: impl FnMut() -> Result<()>) -> Result<()> {
        while let Some(member) = self.members.pop() {
            drop(member);
            then()?;
        }
        Ok(())
    }

    /// Reads until everyone has got one message.
    pub fn wait_for_one_each(&mut self) -> Result<()> {
        self.reset_counts();
        let mut waiting = self.members.len();
        while waiting > 0 {
            self.read_ready(|before, _| waiting -= usize::from(before == 0))?;
        }
        Ok(())
    }
}

impl Member {
    fn consume(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let now = self.remaining.min(bytes.len());
            self.remaining -= now;
            bytes = &bytes[now..];
            if bytes.is_empty() {
                return;
            }
            if self.partial_header.is_empty() {
                let Some((head, payload)) = parse_header(bytes) else {
                    self.partial_header.extend_from_slice(bytes);
                    return;
                };
                self.count_frame(bytes[0]);
                self.remaining = head + payload;
            } else {
                self.partial_header.push(bytes[0]);
                bytes = &bytes[1..];
                if let Some((_, payload)) = parse_header(&self.partial_header) {
                    let first = self.partial_header[0];
                    self.partial_header.clear();
                    self.count_frame(first);
                    self.remaining = payload;
                }
            }
        }
    }

    /// Counts texts: a ping of the server is no message. It counts at its header, but the rest
    /// has left the server with it.
    fn count_frame(&mut self, first: u8) {
        self.received += u64::from(first & 0xf == 1);
    }
}
