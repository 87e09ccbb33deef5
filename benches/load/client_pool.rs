//! Many clients that one thread reads.
//!
//! The clients share two cores with the server, so reading must be cheap: one epoll set, one
//! buffer, and of each frame only the header is parsed. A thread for each client would take more
//! CPU time than the server.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::client::{Client, FrameCounter};
use crate::server::{Result, TIMEOUT};

/// Bytes that one read takes at most.
const BUFFER: usize = 256 * 1024;

/// Clients, numbered in the order in which they joined.
pub struct ClientPool {
    members: Vec<Member>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

struct Member {
    client: Client,
    /// What it has received since the counts were reset.
    received: FrameCounter,
}

impl ClientPool {
    /// Connects `count` clients; `session` returns the session of each.
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
            let received = FrameCounter::default();
            pool.members.push(Member { client, received });
        }
        Ok(pool)
    }

    pub fn reset_counts(&mut self) {
        for member in &mut self.members {
            member.received.frames = 0;
        }
    }

    /// Blocks until a client can read, then reads once for each that can. Calls `on_received` for
    /// each client that got frames, with its counts before and after.
    pub fn read_ready(&mut self, mut on_received: impl FnMut(u64, u64)) -> Result<()> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: TIMEOUT.as_secs() as i64,
            tv_nsec: 0,
        };
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(0) => return Err("the clients received nothing".into()),
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
                    return Err("the server closed a client's connection".into());
                }
                Ok(read) => read,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(format!("a client cannot read ({error})")),
            };
            let before = member.received.frames;
            member.received.consume(&self.buffer[..length]);
            let now = member.received.frames;
            if now > before {
                on_received(before, now);
            }
        }
        Ok(())
    }

    /// Disconnects the clients one by one, and calls `then` after each.
    pub fn disconnect_each(mut self, mut then: impl FnMut() -> Result<()>) -> Result<()> {
        while let Some(member) = self.members.pop() {
            drop(member);
            then()?;
        }
        Ok(())
    }

    /// Resets the counts, then reads until each client has received a message.
    pub fn wait_for_one_each(&mut self) -> Result<()> {
        self.reset_counts();
        let mut waiting = self.members.len();
        while waiting > 0 {
            self.read_ready(|before, _| waiting -= usize::from(before == 0))?;
        }
        Ok(())
    }
}
