//! Kills servers that would outlive the benchmark when it is interrupted, and servers that hang.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// The process groups of the running servers.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Calls `act`. Kills the servers if it takes longer than `limit`, so that an `act` which waits for
/// one of them fails.
pub fn with_timeout<T>(limit: Duration, act: impl FnOnce() -> T) -> T {
    let (done, wait) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("the measurement takes more than {limit:?}, so the server is killed");
                with_running(|groups| groups.iter().copied().for_each(kill));
            }
        });
        let result = act();
        drop(done);
        result
    })
}

/// Starts a thread that kills the servers and exits this process on SIGINT and SIGTERM.
pub fn kill_servers_on_signal() -> io::Result<()> {
    let (mut signals, wake) = UnixStream::pair()?;
    pipe::register(SIGINT, wake.try_clone()?)?;
    pipe::register(SIGTERM, wake)?;
    thread::spawn(move || {
        let _ = signals.read(&mut [0]);
        with_running(|groups| groups.iter().copied().for_each(kill));
        process::exit(130);
    });
    Ok(())
}

/// Calls `act` with the process groups of the running servers, locked.
pub fn with_running<T>(act: impl FnOnce(&mut Vec<u32>) -> T) -> T {
    act(&mut RUNNING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Kills a process group: a server and its children.
pub fn kill(group: u32) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}
