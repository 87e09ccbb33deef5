//! Whether there is memory for what clients want.
//!
//! Rust ends the process when an allocation fails, and most allocations, such as those of a parsed
//! message or of a new thread's signal stack, can't be made to fail otherwise. So before a client
//! gets a connection, a thread, or a place for a long message, it is tried whether there is room
//! for it and for a reserve, of which no page is touched. Otherwise the client is refused in words,
//! and everybody else goes on.
//!
//! This covers a limited address space (`ulimit -v`), a system that doesn't overcommit, and
//! addresses of 32 bits. It can't cover a system that promises memory and then ends a process that
//! uses it (Linux by default, containers), nor what Claude Code sends: its lines, and the replies
//! in histories, have only the reserve.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The room that a connection, a thread or a long message must leave, in bytes: for all that is
/// allocated meanwhile without being asked for here, such as the frames of one turn of the loop.
const RESERVE: usize = 32 << 20;
/// What each of a few threads may take at once as its heap: an arena of glibc.
const ARENA: usize = if cfg!(all(target_env = "gnu", target_pointer_width = "64")) {
    64 << 20
} else {
    1 << 20
};
/// The room that short messages must leave. They go on when long ones are refused.
const SHORT_RESERVE: usize = 8 << 20;
/// How often a message is in memory while it is parsed, at most: as it was read, in a buffer that
/// grows by doubling, its text, and that with its tags escaped, each of which grows too.
const COPIES: usize = 8;
/// The length from which a message is long, in bytes.
const LONG: usize = 4 * 1024;
/// What a short message costs beside its text, in bytes.
const SHORT_COST: usize = 512;
/// After how many bytes of short messages a connection is checked again. Each check makes and removes a mapping, which
/// interrupts the other cores: with 32 KiB, a flood of short messages took half as long again.
const CHECK_INTERVAL: usize = 512 * 1024;

/// What all connections together are allowed to allocate and may not have allocated yet, in bytes.
static EXPECTED: AtomicUsize = AtomicUsize::new(0);

/// Returns `true` if there is room for so many bytes.
pub fn has_room(bytes: usize) -> bool {
    let expected = EXPECTED.load(Ordering::Relaxed);
    can_allocate(
        expected
            .saturating_add(bytes)
            .saturating_add(RESERVE + ARENA),
    )
}

fn can_allocate(bytes: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    let is_free = probe.try_reserve_exact(bytes).is_ok();
    // Freeing a long block makes glibc keep all blocks up to that length from then on (mallopt(3),
    // M_MMAP_THRESHOLD), so it is a short one when it is freed.
    probe.shrink_to(1);
    is_free
}

/// The room for the messages of one connection.
#[derive(Debug, Default)]
pub struct MessageRoom {
    /// What it adds to [`EXPECTED`].
    expected: usize,
    /// The bytes of short messages since there was room for the last time.
    unchecked: usize,
}

impl MessageRoom {
    /// Returns `true` if there is room for a message that has this length so far.
    pub fn reserve(&mut self, length: usize) -> bool {
        // By doubling, as its buffer grows, so that it isn't asked for each piece.
        length < LONG || self.expect(length.next_power_of_two())
    }

    /// Returns `true` if there is room to parse a message of this length.
    /// [`MessageRoom::release`] must follow when that is done.
    pub fn reserve_whole(&mut self, length: usize) -> bool {
        if length >= LONG {
            return self.expect(length.saturating_mul(COPIES));
        }
        self.unchecked += length + SHORT_COST;
        if self.unchecked < CHECK_INTERVAL {
            return true;
        }
        let is_free = can_allocate(SHORT_RESERVE);
        if is_free {
            self.unchecked = 0;
        }
        is_free
    }

    fn expect(&mut self, bytes: usize) -> bool {
        let added = bytes.saturating_sub(self.expected);
        self.expected += added;
        EXPECTED.fetch_add(added, Ordering::Relaxed);
        added == 0 || has_room(0)
    }

    /// The message is parsed or dropped.
    pub fn release(&mut self) {
        if self.expected > 0 {
            EXPECTED.fetch_sub(self.expected, Ordering::Relaxed);
            self.expected = 0;
        }
    }
}

impl Drop for MessageRoom {
    fn drop(&mut self) {
        self.release();
    }
}
