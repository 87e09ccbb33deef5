//! The life of the process: what ends it, and what it does while its port is taken.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
#[cfg(target_os = "linux")]
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;

use crate::app::App;
use crate::server::{Server, address_in, binary};
use crate::state::State;

/// The longest that the end may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// What ends a server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cause {
    StdinEnds,
    Interrupt,
    Terminate,
    /// Its parent is killed while another process keeps its pipe open.
    ParentKilled,
    /// Claude Code is killed, and a wrapper between the two lives on.
    ClaudeCodeKilled,
    /// Its terminal is closed.
    #[cfg(target_os = "linux")]
    TerminalGone,
}

const CAUSES: &[Cause] = &[
    Cause::StdinEnds,
    Cause::Interrupt,
    Cause::Terminate,
    Cause::ParentKilled,
    Cause::ClaudeCodeKilled,
    #[cfg(target_os = "linux")]
    Cause::TerminalGone,
];

/// A server that can be ended in some way.
struct Started {
    server: Server,
    /// The other end of its terminal, if it has one.
    terminal: Option<OwnedFd>,
}

impl From<Server> for Started {
    fn from(server: Server) -> Self {
        Self {
            server,
            terminal: None,
        }
    }
}

/// Starts a server that can be ended in this way.
fn start_for(cause: Cause) -> Started {
    match cause {
        Cause::ParentKilled => start_under_shell().into(),
        Cause::ClaudeCodeKilled => start_behind_wrapper("claude").into(),
        #[cfg(target_os = "linux")]
        Cause::TerminalGone => start_in_terminal(""),
        _ => Server::start(&[]).into(),
    }
}

fn signal(server: &Server, signal: Signal) {
    kill_process(server.process(), signal).expect("the server runs");
}

/// Starts a server under a shell, which is the process that can be killed.
fn start_under_shell() -> Server {
    let server = binary();
    let script = "exec 3<&0; \"$0\" --port 0 --log-level info <&3 & wait";
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(server.get_program());
    let mut server = Server::spawn(&mut shell);
    server.address = address_in(&server.wait_for_log("listening on "));
    server.initialize();
    server
}

/// Starts a server under a shell under a program of this name, which is the process that can be
/// killed.
fn start_behind_wrapper(name: &str) -> Server {
    let state = State::new();
    std::fs::create_dir_all(state.path()).expect("a folder can be made");
    let program = Path::new(state.path()).join(name);
    symlink("/bin/sh", &program).expect("the name is free");
    let wrapper = "\"$0\" --port 0 --log-level info <&3 & wait";
    let script = format!("exec 3<&0; sh -c '{wrapper}' \"$0\" & wait");
    let mut program = Command::new(program);
    program.arg("-c").arg(script).arg(binary().get_program());
    let mut server = Server::spawn(&mut program);
    server.address = address_in(&server.wait_for_log("listening on "));
    server.initialize();
    server
}

/// Starts a server that has a controlling terminal, but whose input and output are pipes. The
/// shell runs `before` first.
#[cfg(target_os = "linux")]
fn start_in_terminal(before: &str) -> Started {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).expect("a terminal is available");
    grantpt(&terminal).expect("the terminal is ours");
    unlockpt(&terminal).expect("the terminal is ours");
    let name = ptsname(&terminal, Vec::new()).expect("the terminal has a name");
    let name = name.into_string().expect("the name is text");
    let server = binary();
    // The first terminal that a session's leader opens becomes the session's (credentials(7)).
    let script = format!("exec 3<>\"$1\"; {before} exec \"$0\" --port 0");
    let mut setsid = Command::new("setsid");
    setsid.args(["sh", "-c", &script]);
    let mut server = Server::spawn(setsid.arg(server.get_program()).arg(name));
    server.address = address_in(&server.wait_for_log("listening on "));
    server.initialize();
    Started {
        server,
        terminal: Some(terminal),
    }
}

/// Ends the server, and returns the time until all of its processes had ended.
fn end(started: &mut Started, cause: Cause) -> Duration {
    let start = Instant::now();
    let server = &mut started.server;
    match cause {
        Cause::StdinEnds => drop(server.stdin.take()),
        Cause::Interrupt => signal(server, Signal::INT),
        #[cfg(target_os = "linux")]
        Cause::TerminalGone => drop(started.terminal.take()),
        Cause::Terminate => signal(server, Signal::TERM),
        Cause::ParentKilled | Cause::ClaudeCodeKilled => {
            server.child().kill().expect("the shell runs");
        }
    }
    if !matches!(cause, Cause::ParentKilled | Cause::ClaudeCodeKilled) {
        let (status, _) = server.wait_for_exit();
        assert!(status.success(), "{cause:?}: {status}");
    }
    // The log's pipe ends with the last process that has it.
    while server.log.recv_timeout(crate::server::TEST_TIMEOUT).is_ok() {}
    start.elapsed()
}

#[test]
fn process_ends_within_a_second_and_closes_with_1001() {
    for &cause in CAUSES {
        let mut started = start_for(cause);
        let server = &mut started.server;
        let mut apps: Vec<App> = (0..1_000).map(|_| App::connect(server, "s1")).collect();
        let readers =
            std::thread::spawn(move || apps.iter_mut().map(App::close_code).collect::<Vec<_>>());
        let took = end(&mut started, cause);
        assert!(took < SHUTDOWN_LIMIT, "{cause:?} took {took:?}");
        let codes = readers.join().expect("every connection gets a close frame");
        assert_eq!(codes, [1001; 1_000], "{cause:?}");
    }
}

/// A process further up counts only if it is Claude Code: other hosts may start a server so that it
/// outlives them.
#[test]
fn death_behind_the_parent_counts_only_if_it_is_claude_code() {
    let mut server = start_behind_wrapper("other");
    server.child().kill().expect("the shell runs");
    server.child().wait().expect("the shell has ended");
    let mut app = App::connect(&server, "s1");
    app.send_message("still here");
    assert_eq!(server.next_message()["content"], "still here");
    drop(server.stdin.take());
    server.wait_for_log("ending: stdin has ended");
}

/// Under nohup(1), a server outlives its terminal.
#[cfg(target_os = "linux")]
#[test]
fn ignored_hangup_stays_ignored() {
    let mut started = start_in_terminal("trap '' HUP;");
    drop(started.terminal.take());
    let server = &mut started.server;
    signal(server, Signal::HUP);
    assert_eq!(server.request("ping", &json!({})), json!({}));
    drop(server.stdin.take());
    let log: Vec<String> = server.log.iter().collect();
    assert!(server.wait_for_exit().0.success());
    let last = log.last().expect("the end is logged");
    assert!(last.contains("stdin has ended"), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("SIGHUP")), "{log:#?}");
}

/// Claude Code does not read, and messages wait for it.
#[test]
fn process_ends_within_a_second_with_unread_messages() {
    for &cause in CAUSES {
        let mut started = start_for(cause);
        let server = &mut started.server;
        let mut apps: Vec<App> = (0..20).map(|_| App::connect(server, "s1")).collect();
        let long = "x".repeat(50_000);
        for app in &mut apps {
            for _ in 0..5 {
                app.send(&json!({ "type": "message", "content": long }));
            }
        }
        let took = end(&mut started, cause);
        assert!(took < SHUTDOWN_LIMIT, "{cause:?} took {took:?}");
        for app in &mut apps {
            assert_eq!(app.close_code(), 1001, "{cause:?}");
        }
    }
}

/// So many responses are unread that the server has stopped reading.
#[test]
fn process_ends_within_a_second_with_unread_responses() {
    for &cause in CAUSES {
        let mut started = start_for(cause);
        let server = &mut started.server;
        let mut mute: Vec<_> = (0..100)
            .map(|_| TcpStream::connect(server.address).expect("the server listens"))
            .collect();
        for stream in &mut mute {
            // It never answers the close.
            let head = server.handshake("/");
            stream.write_all(head.as_bytes()).expect("the server reads");
        }
        let mut app = App::connect(server, "s1");
        let long = "x".repeat(24_000);
        server.call("reply", &json!({ "chat_id": "s1", "text": long }));
        app.expect("reply");
        for _ in 0..400 {
            let arguments = json!({ "session_id": "s1" });
            server.send_request(
                "tools/call",
                &json!({ "name": "fetch_messages", "arguments": arguments }),
            );
        }
        app.until_pong();
        let took = end(&mut started, cause);
        assert!(took < SHUTDOWN_LIMIT, "{cause:?} took {took:?}");
        assert_eq!(app.close_code(), 1001, "{cause:?}");
    }
}

/// Node makes sockets where other programs make pipes. Here they are non-blocking too, also when
/// somebody who shares them makes them so later.
#[test]
fn server_works_with_non_blocking_sockets_as_pipes() {
    let (mut agent, server) = UnixStream::pair().expect("the system makes sockets");
    server
        .set_nonblocking(true)
        .expect("a socket can be non-blocking");
    let stdin = OwnedFd::from(server.try_clone().expect("a socket can be duplicated"));
    let shared = server.try_clone().expect("a socket can be duplicated");
    let state = State::new();
    let mut child = binary()
        .args(["--port", "0", "--state-dir", state.path()])
        .stdin(stdin)
        .stdout(OwnedFd::from(server))
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    agent
        .set_read_timeout(Some(crate::server::TEST_TIMEOUT))
        .expect("the timeout is valid");
    let mut lines = BufReader::new(agent.try_clone().expect("a socket can be duplicated"));
    let mut line = String::new();
    for id in 0..2_000 {
        writeln!(
            agent,
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#
        )
        .expect("the server reads");
        if id % 500 == 0 {
            // Some responses are left unread meanwhile.
            continue;
        }
        line.clear();
        lines.read_line(&mut line).expect("the server answers");
        shared
            .set_nonblocking(true)
            .expect("a socket can be non-blocking");
        assert!(line.contains("alwaysLoad"), "{line}");
    }
    drop(shared);
    agent.shutdown(Shutdown::Write).expect("the socket is open");
    let mut rest = String::new();
    lines.read_to_string(&mut rest).expect("the output ends");
    assert_eq!(rest.lines().count(), 4);
    assert!(child.wait().expect("the child can be waited for").success());
}

/// As by Ctrl-Z and `fg`: every read is interrupted, and none fails.
#[test]
fn server_continues_after_being_stopped() {
    let mut server = Server::start(&[]);
    let mut apps: Vec<App> = (0..20).map(|_| App::connect(&server, "s1")).collect();
    signal(&server, Signal::STOP);
    #[cfg(target_os = "linux")]
    server.wait_for_state('T');
    signal(&server, Signal::CONT);
    assert_eq!(server.request("ping", &json!({})), json!({}));
    for app in &mut apps {
        app.send_message("still here");
        assert_eq!(server.next_message()["content"], "still here");
    }
}

/// A message that never reached Claude Code is rejected, if it can't wait on disk.
#[test]
fn pending_messages_are_rejected_at_the_end() {
    let mut server = Server::listening(&["--history-ttl", "0"]);
    let mut app = App::connect(&server, "s1");
    app.send(&json!({ "type": "message", "content": "too late", "id": "a1" }));
    app.until_pong();
    drop(server.stdin.take());
    let delivery = app.expect("delivery");
    assert_eq!(
        (&delivery["state"], &delivery["code"]),
        (&json!("rejected"), &json!("host_closed"))
    );
    assert_eq!(app.close_code(), 1001);
}

/// All requests before the end of the input are answered.
#[test]
fn requests_before_end_of_input_are_answered() {
    let mut server = Server::start(&[]);
    let mut app = App::connect(&server, "s1");
    server.send_request(
        "tools/call",
        &json!({ "name": "reply", "arguments": { "chat_id": "s1", "text": "bye" } }),
    );
    let ping = server.send_request("ping", &json!({}));
    drop(server.stdin.take());
    assert_eq!(server.next_line()["result"]["content"][0]["text"], "sent");
    assert_eq!(server.next_line()["id"], ping);
    assert!(server.wait_for_exit().0.success());
    assert_eq!(app.expect("reply")["content"], "bye");
    assert_eq!(app.close_code(), 1001);
}

#[test]
fn server_ends_when_its_output_is_closed() {
    let mut command = Command::new("sh");
    // Its stdout goes to a process that ends at once.
    let script = "\"$0\" --port 0 | true";
    let mut server = Server::spawn(command.arg("-c").arg(script).arg(binary().get_program()));
    server.wait_for_log("listening on ");
    server.send_request("ping", &json!({}));
    assert!(server.wait_for_exit().0.success());
}

#[test]
fn taken_port_is_explained_and_bound_when_it_is_free() {
    let mut first = Server::start(&[]);
    let port = first.address.port().to_string();
    let mut second = Server::spawn(binary().args(["--port", &port]));
    second.initialize();
    second.wait_for_log("is taken by another claude-socket");
    for (tool, arguments) in [
        ("reply", json!({ "chat_id": "s1", "text": "x" })),
        ("status", json!({ "chat_id": "s1", "status": "idle" })),
        ("fetch_messages", json!({ "session_id": "s1" })),
    ] {
        let text = second.call(tool, &arguments);
        for part in [
            &port,
            "another claude-socket",
            &first.pid().to_string(),
            "CLAUDE_SOCKET_PORT",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
    let freed = Instant::now();
    drop(first.stdin.take());
    first.wait_for_exit();
    second.address = address_in(&second.wait_for_log("listening on "));
    assert!(
        freed.elapsed() < 2 * SHUTDOWN_LIMIT,
        "binding the port took {:?}",
        freed.elapsed()
    );
    let mut app = App::connect(&second, "s1");
    app.send_message("welcome back");
    assert_eq!(second.next_message()["content"], "welcome back");
    assert_eq!(
        second.call("reply", &json!({ "chat_id": "s1", "text": "thanks" })),
        "sent"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn other_program_on_the_port_is_named() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = other
        .local_addr()
        .expect("the listener is bound")
        .port()
        .to_string();
    let mut server = Server::spawn(binary().args(["--port", &port]));
    server.initialize();
    let line = server.wait_for_log("is taken by");
    let this = format!("(process {})", std::process::id());
    assert!(line.contains(&this), "{this} is missing in: {line}");
    assert!(
        server
            .call("reply", &json!({ "chat_id": "s1", "text": "x" }))
            .contains(&this)
    );
    drop(other);
    server.wait_for_log("listening on ");
}

#[test]
fn public_address_without_token_is_refused_and_explained() {
    let mut server = Server::spawn(binary().args(["--port", "0", "--host", "0.0.0.0"]));
    server.initialize();
    server.wait_for_log("nothing listens: at 0.0.0.0");
    let text = server.call("reply", &json!({ "chat_id": "s1", "text": "x" }));
    assert!(
        text.contains("0.0.0.0") && text.contains("127.0.0.1"),
        "{text}"
    );
    // The server sleeps meanwhile.
    #[cfg(target_os = "linux")]
    server.wait_for_state('S');
}
