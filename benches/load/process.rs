//! CPU time and memory of a server, from `/proc`.
//!
//! A process and its descendants count together, because a shell or a runtime may start another
//! process that does the work.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Result, TIMEOUT};

/// Ticks a second in `/proc/pid/stat`: 100 on every Linux, whatever the kernel's own tick is
/// (`USER_HZ`, time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory in bytes.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// `VmRSS`: all resident pages, those of the program's file too.
    pub resident: f64,
    /// `RssAnon`: the resident pages of no file, which are heap and stacks.
    pub own: f64,
}

/// A process and its descendants.
#[derive(Clone, Copy)]
pub struct ProcessTree(pub u32);

impl ProcessTree {
    /// Returns seconds of CPU time, user and kernel, with those of ended threads and children. The
    /// resolution is 10 ms, so what is measured should take a second.
    pub fn cpu(self) -> f64 {
        let ticks = |pid| {
            let stat = Stat::read(pid)?;
            Some(stat.own + stat.reaped)
        };
        self.pids().into_iter().filter_map(ticks).sum::<f64>() / TICKS_PER_SECOND
    }

    /// Returns the memory that it has now.
    pub fn memory(self) -> Memory {
        let mut memory = Memory::default();
        for pid in self.pids() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let bytes = |field| kibibytes(&status, field).unwrap_or_default() * 1024.0;
            memory.resident += bytes("VmRSS:");
            memory.own += bytes("RssAnon:");
        }
        memory
    }

    /// Returns the bytes that the process itself has had written to disk, if the kernel counts them:
    /// whole pages, once until they are written back. Of files in memory (tmpfs) there are none.
    pub fn disk_bytes(self) -> Option<f64> {
        let counts = fs::read_to_string(format!("/proc/{}/io", self.0)).ok()?;
        let bytes = |line: &str| line.strip_prefix("write_bytes: ")?.parse().ok();
        counts.lines().find_map(bytes)
    }

    /// Returns the bytes of the largest program that runs in it, without the libraries and scripts
    /// that the program loads.
    pub fn program(self) -> Option<f64> {
        let size = |pid| {
            let program: PathBuf = format!("/proc/{pid}/exe").into();
            Some(fs::metadata(program).ok()?.len() as f64)
        };
        self.pids().into_iter().filter_map(size).reduce(f64::max)
    }

    /// Returns `true` if every thread sleeps.
    pub fn is_idle(self) -> bool {
        self.pids().into_iter().all(|pid| {
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
                return true;
            };
            threads.flatten().all(|thread| {
                let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                // Asleep, or ended.
                stat.is_empty() || after_name(&stat).is_some_and(|rest| rest.starts_with('S'))
            })
        })
    }

    /// Waits until [`Self::is_idle`] was true twice, 100 µs apart: between two system calls a busy
    /// thread can look asleep.
    pub fn wait_until_idle(self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        let mut seen = 0;
        while seen < 2 {
            if Instant::now() > deadline {
                return Err(format!("the server is still busy after {TIMEOUT:?}"));
            }
            seen = if self.is_idle() { seen + 1 } else { 0 };
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    fn pids(self) -> Vec<u32> {
        let mut found = vec![self.0];
        let mut next = 0;
        while let Some(&pid) = found.get(next) {
            // Each thread has children of its own, and it is seldom the first that starts
            // processes. Reading thousands of threads would disturb what is measured, so 64 are.
            let threads = fs::read_dir(format!("/proc/{pid}/task"));
            for thread in threads.into_iter().flatten().flatten().take(64) {
                let children = fs::read_to_string(thread.path().join("children"));
                let children = children.unwrap_or_default();
                found.extend(
                    children
                        .split_whitespace()
                        .filter_map(|pid| pid.parse::<u32>().ok()),
                );
            }
            next += 1;
        }
        found
    }
}

/// CPU time in ticks.
struct Stat {
    own: f64,
    /// That of children that were waited for.
    reaped: f64,
}

impl Stat {
    /// Reads fields 14 to 17 of `/proc/pid/stat` (proc(5)), in ticks.
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut ticks = after_name(&stat)?
            .split(' ')
            .skip(11)
            .map(|ticks| ticks.parse::<f64>().unwrap_or_default());
        let mut two = || Some(ticks.next()? + ticks.next()?);
        Some(Self {
            own: two()?,
            reaped: two()?,
        })
    }
}

/// Returns the fields after the name, in which any character can occur.
fn after_name(stat: &str) -> Option<&str> {
    Some(stat.rsplit_once(") ")?.1)
}

fn kibibytes(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
