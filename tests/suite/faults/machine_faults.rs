//! Faults of the machine.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getuid, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};
use tungstenite::Message;

use super::{Scene, faults, processor_ticks};
use crate::app::App;
use crate::prepare::prepare;
use crate::server::{Server, TEST_TIMEOUT, address_in, binary, status_of};

/// A user id with no processes but those of this test.
const TEST_UID: u32 = 61_742;
/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

faults! {
    /// The server accepts again when there are some.
    exhausted_file_descriptors_pause_accepting(scene) [] {
        let server = &scene.agent.server;
        let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server runs").count();
        let usual = set_limit(server, "Max open files", "nofile", &(open + 5).to_string());
        let waiting: Vec<TcpStream> = (0..50)
            .map(|_| TcpStream::connect(server.address).expect("the server listens"))
            .collect();
        server.wait_for_log("cannot accept connections");
        let (start, before) = (Instant::now(), processor_ticks(server));
        scene.healthy.wait_for_rounds(20);
        let ticks = processor_ticks(server) - before;
        // A tick is 10 ms: a thread that spins takes 100 a second.
        let share = Duration::from_millis(10) * u32::try_from(ticks).expect("the ticks are few") ;
        assert!(share < start.elapsed() / 2, "the server spins: {share:?} in {:?}", start.elapsed());
        drop(waiting);
        set_limit(server, "Max open files", "nofile", &usual);
        App::connect(server, "s1");
    }

    /// What needs much of it is refused, and clients that are there go on.
    exhausted_memory_refuses_only_who_needs_it(scene) [] {
        let server = &scene.agent.server;
        let mut clients: Vec<_> = (0..20).map(|_| App::connect(server, "s1")).collect();
        let room = server.memory("VmSize") * 1024 + (20 << 20);
        let usual = set_limit(server, "Max address space", "as", &room.to_string());
        for client in &mut clients[..10] {
            let message = json!({ "type": "message", "content": "x".repeat(400_000) });
            // The server may close while this is sent.
            let _ = client.socket.send(Message::text(message.to_string()));
            assert_eq!(client.close_code(), 1013);
        }
        for _ in 0..20 {
            let answer = server.http(server.handshake("/").as_bytes());
            assert_eq!(status_of(&answer), 503, "{answer}");
        }
        for client in &mut clients[10..] {
            client.send_message("short");
            client.until_pong();
            assert_eq!(scene.agent.next_message()["content"], "short");
        }
        scene.healthy.wait_for_rounds(20);
        set_limit(server, "Max address space", "as", &usual);
        let mut app = App::connect(server, "s1");
        app.send_message(&"x".repeat(400_000));
        assert_eq!(scene.agent.next_message()["content"].as_str().map(str::len), Some(400_000));
    }

    /// However the room ends while many take it.
    memory_that_many_exhaust_at_once_ends_nothing(scene) [] {
        let server = &scene.agent.server;
        // An arena of glibc takes 64 MiB, whatever is in it.
        for room in [1, 40, 120, 200, 300] {
            let size = server.memory("VmSize") * 1024 + (room << 20);
            let usual = set_limit(server, "Max address space", "as", &size.to_string());
            thread::scope(|scope| {
                for number in 0..40 {
                    scope.spawn(move || send_until_refused(server, number));
                }
            });
            set_limit(server, "Max address space", "as", &usual);
            App::connect(server, "s1");
        }
    }

    log_file_on_full_disk_disturbs_nobody(scene) ["--log-file", "/dev/full", "--log-level", "trace"] {
        for _ in 0..100 {
            App::connect(&scene.agent.server, "s1");
        }
        scene.agent.server.wait_for_health(|health| health["clients"] == 1);
    }

    /// Open connections go on, and the server listens again when it can.
    lost_port_is_bound_again(scene) [] {
        let server = &scene.agent.server;
        rustix::net::shutdown(listening_socket(server), rustix::net::Shutdown::Read).expect("the server listens");
        // Another listener takes the port before the server does.
        let deadline = Instant::now() + TEST_TIMEOUT;
        let other = loop {
            match TcpListener::bind(server.address) {
                Ok(other) => break Some(other),
                // The server was quicker, which is fine too.
                Err(_) if TcpStream::connect(server.address).is_ok() => break None,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        if other.is_some() {
            server.wait_for_log("is taken by");
        }
        scene.healthy.wait_for_rounds(20);
        drop(other);
        server.wait_for_log("listening on ");
        let mut app = App::connect(server, "s1");
        app.send_message("back again");
        assert_eq!(scene.agent.next_message()["content"], "back again");
    }
}

/// Connects, and sends long messages, whatever becomes of that.
fn send_until_refused(server: &Server, number: usize) {
    let Ok(mut stream) = TcpStream::connect(server.address) else {
        return;
    };
    let request = format!(
        "GET /?session=s{number} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let message = format!(
        r#"{{"type":"message","content":"{}"}}"#,
        "x".repeat(400_000)
    );
    let mut frame = vec![0x81, 0xff];
    frame.extend((message.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(message.as_bytes());
    let sent = stream.write_all(request.as_bytes());
    let _ = sent.and_then(|()| (0..5).try_for_each(|_| stream.write_all(&frame)));
}

/// A client that needs one is disconnected, and the others go on.
#[test]
fn exhausted_threads_disconnect_only_who_needs_one() {
    let folder = Folder::new("threads");
    let mut command = as_test_user(&folder);
    let mut server = Server::spawn(command.args(["--port", "0"]));
    server.address = address_in(&server.wait_for_log("listening on "));
    Scene::with(server).play(|scene| {
        let server = &scene.agent.server;
        // A client that reads nothing needs one as soon as its socket is full.
        let stuck = App::connect(server, "stuck");
        let usual = set_limit(server, "Max processes", "nproc", "1");
        for _ in 0..20 {
            let mut stream = TcpStream::connect(server.address).expect("the server listens");
            stream
                .set_read_timeout(Some(TEST_TIMEOUT))
                .expect("the timeout is valid");
            let mut answer = String::new();
            stream
                .read_to_string(&mut answer)
                .expect("the connection is closed");
            assert_eq!(status_of(&answer), 503, "{answer}");
        }
        server.wait_for_log("no thread for it");
        let arguments = json!({ "chat_id": "stuck", "text": "x".repeat(400_000) });
        let params = json!({ "name": "reply", "arguments": arguments });
        for id in 0..20 {
            scene.agent.send(
                &json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }),
            );
            scene.agent.response();
        }
        server.wait_for_log("no thread to wait for it");
        scene.healthy.wait_for_rounds(20);
        set_limit(server, "Max processes", "nproc", &usual);
        drop(stuck);
        App::connect(server, "s1");
    });
}

/// Forth and back again: only the timestamps change.
#[test]
fn clock_jump_of_a_day_expires_nothing() {
    prepare(&["faketime"]);
    let folder = Folder::new("clock");
    let clock = folder.0.join("clock");
    fs::write(&clock, "+0").expect("the file can be written");
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
            fs::write(&clock, jump).expect("the file can be written");
            app.send_message(jump);
            let ts = scene.agent.next_message()["meta"]["ts"].take();
            let ts = humantime::parse_rfc3339(ts.as_str().expect("ts is a string"))
                .expect("ts is a time");
            let ahead = match ts.duration_since(SystemTime::now()) {
                Ok(ahead) => ahead.as_secs_f64(),
                Err(behind) => -behind.duration().as_secs_f64(),
            };
            let expected = days * DAY.as_secs_f64();
            assert!((ahead - expected).abs() < 60.0, "{jump}: {ahead} s");
            scene.healthy.wait_for_rounds(5);
        }
        // No session has expired.
        app.send(&json!({ "type": "fetch_history", "session_id": "left" }));
        assert_eq!(
            app.expect("history")["messages"][0]["content"],
            "something to remember"
        );
        assert_eq!(app.until_pong(), [] as [Value; 0]);
    });
}

/// Returns the path of libfaketime on Debian.
pub fn libfaketime() -> PathBuf {
    let list = Command::new("dpkg")
        .args(["-L", "libfaketime"])
        .output()
        .expect("Debian has dpkg");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let library = list
        .lines()
        .find(|path| path.ends_with("libfaketimeMT.so.1"));
    library.expect("the package is installed").into()
}

/// Returns a command for the binary as a user whose threads are limited: limits don't bind root.
fn as_test_user(folder: &Folder) -> Command {
    let mut command = binary();
    if getuid().is_root() {
        // That user may not have access to the target folder.
        let copy = folder.0.join("claude-socket");
        // Copied by another process: while this one has a file open for writing, so may a child of
        // another test for a moment, and then the file can't be executed.
        let copied = Command::new("cp")
            .arg(command.get_program())
            .arg(&copy)
            .status();
        assert!(copied.expect("the system has cp").success());
        command = Command::new(copy);
        command.env_clear().uid(TEST_UID).gid(TEST_UID);
        command.env("CLAUDE_SOCKET_CHANNEL_DELAY", "0s");
    }
    command
}

/// Sets a limit of the server as its own user, and returns the old value. `name` is the one in
/// `limits` (proc(5)), and `flag` that of prlimit(1).
fn set_limit(server: &Server, name: &str, flag: &str, to: &str) -> String {
    let process = format!("/proc/{}", server.pid());
    let limits = fs::read_to_string(format!("{process}/limits")).expect("the server runs");
    let limit = limits.lines().find_map(|line| line.strip_prefix(name));
    let usual = limit.and_then(|limit| limit.split_whitespace().next());
    let owner = fs::metadata(process).expect("the server runs");
    let set = Command::new("prlimit")
        .args(["--pid", &server.pid().to_string()])
        .arg(format!("--{flag}={to}:"))
        .uid(owner.uid())
        .gid(owner.gid())
        .status();
    assert!(set.expect("the system has prlimit").success());
    usual.expect("the process has this limit").to_owned()
}

/// Returns the socket on which the server listens.
fn listening_socket(server: &Server) -> OwnedFd {
    let pidfd = pidfd_open(server.process(), PidfdFlags::empty()).expect("the server runs");
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server runs");
    let sockets = files.flatten().filter_map(|file| {
        let number = file.file_name().to_str()?.parse().ok()?;
        pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok()
    });
    let mut listening =
        sockets.filter(|socket| rustix::net::sockopt::socket_acceptconn(socket) == Ok(true));
    listening.next().expect("the server listens")
}

/// A folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("claude-socket-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("the folder can be created");
        let for_all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&folder, for_all).expect("the folder belongs to this user");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
