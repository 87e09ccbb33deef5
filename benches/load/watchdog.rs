//! Ends servers that would stay: when somebody interrupts the benchmark, or when one of them
//! doesn't come to an end.

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

/// The servers that run, by the ids of their process groups.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Does something, and kills the servers if it hasn't come to an end by then: whoever waits for
/// them gets an error.
pub fn with_timeout<T>(limit: Duration, act: impl FnOnce() -> T) -> T {
    let (done, wait) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("this takes more than {limit:?}, so the server is killed");
                with_running(|pids| pids.iter().copied().for_each(kill));
            }
        });
        let result = act();
        drop(done);
        result
    })
}

/// Ends the servers and this process when somebody interrupts it.
pub fn kill_servers_on_signal() -> io::Result<()> {
    let (mut signals, wake) = UnixStream::pair()?;
    pipe::register(SIGINT, wake.try_clone()?)?;
    pipe::register(SIGTERM, wake)?;
    thread::spawn(move || {
        let _ = signals.read(&mut [0]);
        with_running(|pids| pids.iter().copied().for_each(kill));
        process::exit(130);
    });
    Ok(())
}

/// Looks at the list of the servers that run, or changes it.
pub fn with_running<T>(act: impl FnOnce(&mut Vec<u32>) -> T) -> T {
    act(&mut RUNNING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Kills a server and what it has started.
pub fn kill(group: u32) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}
