//! What the machine does wrong.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getuid, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};

use super::{Scene, faults, processor_ticks};
use crate::app::App;
use crate::prepare::prepare;
use crate::server::{PATIENCE, Server, address_in, binary};

/// A user who has no processes but those of this test.
const NOBODY_ELSE: u32 = 61_742;
/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

faults! {
    /// Accepting rests until there are some again.
    no_file_descriptors_left(scene) [] {
        let server = &scene.agent.server;
        let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").count();
        let usual = set_limit(server, "Max open files", "nofile", &(open + 5).to_string());
        let waiting: Vec<TcpStream> = (0..50)
            .map(|_| TcpStream::connect(server.address).expect("it listens"))
            .collect();
        server.wait_for_log("cannot accept connections");
        let (start, before) = (Instant::now(), processor_ticks(server));
        scene.healthy.beats(20);
        let ticks = processor_ticks(server) - before;
        // A tick is 10 ms: a thread that spins has 100 a second.
        let share = Duration::from_millis(10) * u32::try_from(ticks).expect("few") ;
        assert!(share < start.elapsed() / 2, "it spins: {share:?} in {:?}", start.elapsed());
        drop(waiting);
        set_limit(server, "Max open files", "nofile", &usual);
        App::connect(server, "s1");
    }

    log_file_on_a_full_disk(scene) ["--log-file", "/dev/full", "--log-level", "trace"] {
        for _ in 0..100 {
            App::connect(&scene.agent.server, "s1");
        }
        scene.agent.server.wait_for_health(|health| health["clients"] == 1);
    }

    /// Nobody can connect, everyone who has goes on, and then it listens again.
    port_lost(scene) [] {
        let server = &scene.agent.server;
        rustix::net::shutdown(listening_socket(server), rustix::net::Shutdown::Read).expect("it listens");
        // Somebody else has it before the server does.
        let deadline = Instant::now() + PATIENCE;
        let other = loop {
            match TcpListener::bind(server.address) {
                Ok(other) => break Some(other),
                // Or the server was quicker, and that is fine, too.
                Err(_) if TcpStream::connect(server.address).is_ok() => break None,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        if other.is_some() {
            server.wait_for_log("is taken by");
        }
        scene.healthy.beats(20);
        drop(other);
        server.wait_for_log("listening on ");
        let mut app = App::connect(server, "s1");
        app.send_message("back again");
        assert_eq!(scene.agent.next_message()["content"], "back again");
    }
}

/// Who needs one for itself is turned away; everyone else goes on.
#[test]
fn no_threads_left() {
    let folder = Folder::new("threads");
    let mut command = as_nobody_else(&folder);
    let mut server = Server::spawn(command.args(["--port", "0"]));
    server.address = address_in(&server.wait_for_log("listening on "));
    Scene::with(server).play(|scene| {
        let server = &scene.agent.server;
        // Who reads nothing needs one as soon as its socket is full.
        let stuck = App::connect(server, "stuck");
        let usual = set_limit(server, "Max processes", "nproc", "1");
        for _ in 0..20 {
            let mut stream = TcpStream::connect(server.address).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it is cut");
        }
        server.wait_for_log("no thread for it");
        let arguments = json!({ "chat_id": "stuck", "text": "x".repeat(500_000) });
        let params = json!({ "name": "reply", "arguments": arguments });
        for id in 0..20 {
            scene.agent.send(
                &json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }),
            );
            scene.agent.answer();
        }
        server.wait_for_log("no thread to wait for it");
        scene.healthy.beats(20);
        set_limit(server, "Max processes", "nproc", &usual);
        drop(stuck);
        App::connect(server, "s1");
    });
}

/// Forth and back again. Only what the time is called changes.
#[test]
fn clock_jumping_by_a_day() {
    prepare(&["faketime"]);
    let folder = Folder::new("clock");
    let clock = folder.0.join("clock");
    fs::write(&clock, "+0").expect("it can be written");
    let mut command = binary();
    command
        .args(["--port", "0"])
        .env("LD_PRELOAD", libfaketime())
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut server = Server::spawn(&mut command);
    server.address = address_in(&server.wait_for_log("listening on "));
    Scene::with(server).play(|scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        let mut left = App::connect(server, "left");
        left.send_message("something to remember");
        scene.agent.next_message();
        drop(left);
        for (jump, days) in [("+1d", 1.0), ("+0", 0.0), ("-1d", -1.0), ("+0", 0.0)] {
            fs::write(&clock, jump).expect("it can be written");
            app.send_message(jump);
            let ts = scene.agent.next_message()["meta"]["ts"].take();
            let ts = humantime::parse_rfc3339(ts.as_str().expect("a time")).expect("a time");
            let ahead = match ts.duration_since(SystemTime::now()) {
                Ok(ahead) => ahead.as_secs_f64(),
                Err(behind) => -behind.duration().as_secs_f64(),
            };
            let expected = days * DAY.as_secs_f64();
            assert!((ahead - expected).abs() < 60.0, "{jump}: {ahead} s");
            scene.healthy.beats(5);
        }
        // No session has expired by it.
        app.send(&json!({ "type": "fetch_history", "session_id": "left" }));
        assert_eq!(
            app.expect("history")["messages"][0]["content"],
            "something to remember"
        );
        assert_eq!(app.until_pong(), [] as [Value; 0]);
    });
}

/// Where Debian has it.
fn libfaketime() -> PathBuf {
    let list = Command::new("dpkg")
        .args(["-L", "libfaketime"])
        .output()
        .expect("Debian has it");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let library = list
        .lines()
        .find(|path| path.ends_with("libfaketimeMT.so.1"));
    library.expect("the package is installed").into()
}

/// A command for the binary as a user whose threads can be counted. Limits don't bind root.
fn as_nobody_else(folder: &Folder) -> Command {
    let mut command = binary();
    if getuid().is_root() {
        // Where that user can't look, it can't run anything.
        let copy = folder.0.join("claude-socket");
        // Not made by this process: another test may be starting a program just now, and
        // hold the open file for a moment, and what is open for writing can't be run.
        let copied = Command::new("cp")
            .arg(command.get_program())
            .arg(&copy)
            .status();
        assert!(copied.expect("every system has it").success());
        command = Command::new(copy);
        command.env_clear().uid(NOBODY_ELSE).gid(NOBODY_ELSE);
    }
    command
}

/// Sets a limit of the server's, as its own user: `name` in its `limits` (proc(5)), which
/// prlimit(1) calls `flag`. Returns what it was.
fn set_limit(server: &Server, name: &str, flag: &str, to: &str) -> String {
    let process = format!("/proc/{}", server.pid());
    let limits = fs::read_to_string(format!("{process}/limits")).expect("it runs");
    let limit = limits.lines().find_map(|line| line.strip_prefix(name));
    let usual = limit.and_then(|limit| limit.split_whitespace().next());
    let owner = fs::metadata(process).expect("it runs");
    let set = Command::new("prlimit")
        .args(["--pid", &server.pid().to_string()])
        .arg(format!("--{flag}={to}:"))
        .uid(owner.uid())
        .gid(owner.gid())
        .status();
    assert!(set.expect("util-linux has it").success());
    usual.expect("it has a limit").to_owned()
}

/// The socket on which the server listens.
fn listening_socket(server: &Server) -> OwnedFd {
    let pidfd = pidfd_open(server.process(), PidfdFlags::empty()).expect("it runs");
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs");
    let sockets = files.flatten().filter_map(|file| {
        let number = file.file_name().to_str()?.parse().ok()?;
        pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok()
    });
    let mut listening =
        sockets.filter(|socket| rustix::net::sockopt::socket_acceptconn(socket) == Ok(true));
    listening.next().expect("it listens")
}

/// A folder of its own, as long as the test lasts.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("claude-socket-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("it can be made");
        let for_all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&folder, for_all).expect("it is one's own");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
