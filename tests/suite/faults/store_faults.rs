//! Faults of the disk, and of what is on it. What is said goes on in memory, and everything is on disk when that is over.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::machine_faults::libfaketime;
use super::{Agent, Scene, faults, healthy};
use crate::app::App;
use crate::disk::Disk;
use crate::prepare::prepare;
use crate::server::{Server, address_in, binary};
use crate::state::State;

/// The longest until the store tries again what has failed, and more.
const PATIENCE: Duration = Duration::from_secs(90);

faults! {
    /// With as much as one commit can take.
    wake_up_of_5000_messages_is_few_commits(scene) [] {
        let server = &scene.agent.server;
        wait_for_store(server, "open");
        let before = writes_of_store(server);
        let mut app = App::connect(server, "burst");
        let frame = json!({ "type": "message", "content": "x".repeat(100) }).to_string();
        for _ in 0..5_000 {
            app.socket.write(tungstenite::Message::text(frame.as_str())).expect("the server reads");
        }
        app.socket.flush().expect("the server reads");
        for _ in 0..5_000 {
            scene.agent.next_message();
        }
        server.wait_for_health(|health| health["store"]["pending"] == 0);
        // One by one, each would take eight.
        let writes = writes_of_store(server) - before;
        println!("{writes} writes");
        assert!(writes < 5_000 * 4, "{writes} writes");
    }
}

/// Waits until the store is so. It tries again what has failed less and less often.
fn wait_for_store(server: &Server, state: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let store = server.health()["store"].take();
        if store["state"] == state {
            return store;
        }
        assert!(
            Instant::now() < deadline,
            "the store is never {state}: {store}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until everything is on disk.
fn wait_until_stored(server: &Server) {
    wait_for_store(server, "open");
    server.wait_for_health(|health| health["store"]["pending"] == 0);
}

/// Returns how often the thread of the store has written.
fn writes_of_store(server: &Server) -> u64 {
    io_of_store(server, "syscw: ")
}

/// Returns a figure of what the thread of the store has read and written (proc(5), `io`).
fn io_of_store(server: &Server, name: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
    let mut stores = tasks.flatten().filter(|task| {
        let name = fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| name.trim_end() == "store")
    });
    let store = stores.next().expect("there is a thread of the store");
    let io = fs::read_to_string(store.path().join("io")).expect("the thread runs");
    let line = io.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|count| count.parse().ok())
        .expect("it is a number")
}

/// Sends messages with ids, and returns what became of them: the state that is told of each first.
fn send(app: &mut App, contents: std::ops::Range<u32>) -> Vec<String> {
    for number in contents.clone() {
        let content = format!("text {number}");
        app.send(&json!({ "type": "message", "content": content, "id": content }));
    }
    contents
        .map(|number| {
            let delivery = app.expect("delivery");
            assert_eq!(delivery["id"], format!("text {number}"));
            delivery["state"]
                .as_str()
                .expect("it has a state")
                .to_owned()
        })
        .collect()
}

/// Takes these messages as Claude Code.
fn take(agent: &Agent, contents: std::ops::Range<u32>) {
    for number in contents {
        assert_eq!(agent.next_message()["content"], format!("text {number}"));
    }
}

/// Returns everything that was said in a session.
fn history(server: &Server, session: &str) -> Vec<Value> {
    let mut app = App::connect(server, session);
    let (mut messages, mut since) = (Vec::new(), 0);
    loop {
        app.send(&json!({ "type": "fetch_history", "limit": 100, "since": since }));
        let mut history = app.expect("history");
        let page = history["messages"].as_array_mut().expect("a list");
        let Some(last) = page.last() else {
            return messages;
        };
        since = last["seq"].as_u64().expect("it has a seq");
        messages.append(page);
    }
}

/// Asserts that all messages are there, in their order.
fn assert_texts(server: &Server, session: &str, contents: std::ops::Range<u32>) {
    let texts: Vec<String> = contents.map(|number| format!("text {number}")).collect();
    let messages = history(server, session);
    let said: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["content"].as_str())
        .collect();
    assert_eq!(said, texts);
}

/// Asserts that everything is there that the healthy client and Claude Code have said, but for what is older.
fn assert_healthy(server: &Server, agent_got: usize, is_whole: bool) {
    let messages = history(server, healthy::SESSION);
    let mut said: [Vec<u64>; 2] = Default::default();
    let mut before = 0;
    for message in &messages {
        let seq = message["seq"].as_u64().expect("it has a seq");
        assert!(seq > before, "{seq} after {before}");
        before = seq;
        let content = message["content"].as_str().expect("it has a content");
        let of = usize::from(message["role"] == "assistant");
        said[of].push(content.parse().expect("its messages are numbers"));
    }
    let last = agent_got as u64;
    for said in said {
        let first = if is_whole {
            1
        } else {
            said.first().copied().unwrap_or(0)
        };
        assert!(first > 0 && first <= last, "{first} of {last}");
        assert_eq!(said, (first..=last).collect::<Vec<_>>());
    }
}

/// Runs a fault of a server on a disk, and then another server there.
fn play_on_disk(disk: &Disk, fault: impl FnOnce(&mut Scene), check: impl FnOnce(&Server)) {
    let start = |flags: &[&str]| disk.server(flags);
    play(&start, true, fault, check);
}

/// Runs a fault of a server, and then another one with the same state.
fn play(
    start: &dyn Fn(&[&str]) -> Server,
    is_whole: bool,
    fault: impl FnOnce(&mut Scene),
    check: impl FnOnce(&Server),
) {
    let scene = Scene::with(start(&[]));
    wait_for_store(&scene.agent.server, "open");
    let mut agent = scene.play_on(fault);
    let got = agent.healthy_messages().len();
    agent.close_stdin();
    let (status, _) = agent.server.wait_for_exit();
    assert!(status.success(), "{status}");
    drop(agent);
    let server = start(&[]);
    wait_for_store(&server, "open");
    assert_healthy(&server, got, is_whole);
    check(&server);
}

/// Starts a server with this state.
fn start_with(state: &State, flags: &[&str]) -> Server {
    let mut command = binary();
    command
        .args(["--port", "0", "--state-dir", state.path()])
        .args(flags);
    command.env("CLAUDE_SOCKET_STATE_DIR", state.path());
    let mut server = Server::spawn(&mut command);
    server.address = address_in(&server.wait_for_log("listening on "));
    server
}

/// Returns the file of the messages.
fn database(state: &State) -> PathBuf {
    Path::new(state.path()).join("store/0.db")
}

/// Returns what the doctor says of the store of a server.
fn diagnosis(mut command: std::process::Command) -> Value {
    let output = command.output().expect("the binary starts");
    let mut report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    let findings = report["findings"].as_array_mut().expect("a list");
    let store = findings
        .iter_mut()
        .find(|finding| finding["what"] == "store");
    store.expect("the store is examined").take()
}

/// Asserts that the server says everywhere that the store is so, and why.
fn assert_told(server: &Server, disk: &Disk, state: &str, why: &str) {
    let store = wait_for_store(server, state);
    let problem = store["problem"].as_str().expect("it has a problem");
    assert!(problem.contains(why), "{problem}");
    server.wait_for_log(why);
    let mut doctor = binary();
    let port = server.address.port().to_string();
    doctor.args(["doctor", "--json", "--port", &port]);
    doctor.env("CLAUDE_SOCKET_STATE_DIR", disk.state());
    let found = diagnosis(disk.command(&doctor));
    assert_eq!(found["state"], "problem", "{found}");
    let says = found["says"].as_str().expect("it says something");
    assert!(says.contains("kept in memory only"), "{says}");
    let (_, metrics) = server.get("/metrics");
    assert!(
        metrics.contains("claude_socket_store_failing 1"),
        "{metrics}"
    );
}

#[test]
fn full_disk_keeps_everything_in_memory_until_there_is_room() {
    let Some(disk) = Disk::of_memory(4 * 1024) else {
        return;
    };
    let fault = |scene: &mut Scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        wait_until_stored(server);
        disk.fill();
        assert_told(server, &disk, "failing", "the disk is full");
        send(&mut app, 10..60);
        take(&scene.agent, 10..60);
        scene.healthy.wait_for_rounds(10);
        disk.make_room();
        wait_until_stored(server);
        server.wait_for_log("are written again");
        send(&mut app, 60..70);
        take(&scene.agent, 60..70);
    };
    play_on_disk(&disk, fault, |server| assert_texts(server, "s1", 0..70));
}

#[test]
fn disk_that_is_full_from_the_start_keeps_nothing_waiting() {
    let Some(disk) = Disk::of_memory(1024) else {
        return;
    };
    disk.fill();
    Scene::with(disk.server(&[])).play(|scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        assert_told(server, &disk, "unavailable", "cannot be");
        scene.healthy.wait_for_rounds(5);
        disk.make_room();
        wait_for_store(server, "open");
        // What was said before stays in memory only.
        send(&mut app, 10..20);
        take(&scene.agent, 10..20);
        let mut app = App::connect(server, "s2");
        send(&mut app, 20..30);
        take(&scene.agent, 20..30);
        wait_until_stored(server);
        assert_texts(server, "s1", 0..20);
    });
    let server = disk.server(&[]);
    wait_for_store(&server, "open");
    assert_texts(&server, "s2", 20..30);
}

#[test]
fn read_only_disk_keeps_everything_in_memory_until_it_can_be_written() {
    let Some(disk) = Disk::of_memory(8 * 1024) else {
        return;
    };
    // While a file is open for writing, the system makes nothing read-only: so it is so before.
    let server = disk.server(&[]);
    wait_for_store(&server, "open");
    server.end();
    assert!(disk.remount("ro"), "nothing writes there");
    Scene::with(disk.server(&[])).play(|scene| {
        let server = &scene.agent.server;
        assert_told(server, &disk, "unavailable", "Read-only file system");
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        assert!(disk.remount("rw"));
        wait_for_store(server, "open");
        let mut app = App::connect(server, "s2");
        send(&mut app, 10..20);
        take(&scene.agent, 10..20);
        wait_until_stored(server);
    });
    let server = disk.server(&[]);
    wait_for_store(&server, "open");
    assert_texts(&server, "s2", 10..20);
}

/// As the system does it itself after errors of the disk.
#[test]
fn disk_that_becomes_read_only_keeps_everything_in_memory() {
    let Some(disk) = Disk::of_image(24) else {
        return;
    };
    Scene::with(disk.server(&[])).play(|scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        wait_until_stored(server);
        if !disk.remount("abort") {
            eprintln!("this file system cannot be aborted: this is not tested");
            return;
        }
        let store = wait_for_store(server, "failing");
        let problem = store["problem"].as_str().expect("it has a problem");
        assert!(problem.contains("cannot be written"), "{problem}");
        send(&mut app, 10..60);
        take(&scene.agent, 10..60);
        scene.healthy.wait_for_rounds(10);
        assert_texts(server, "s1", 0..60);
    });
}

#[test]
fn disk_that_hangs_delays_nobody() {
    let Some(disk) = Disk::of_image(24) else {
        return;
    };
    let fault = |scene: &mut Scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        wait_until_stored(server);
        if !disk.freeze(true) {
            eprintln!("this file system cannot be frozen: this is not tested");
            return;
        }
        for number in 10..20 {
            let content = format!("text {number}");
            app.send(&json!({ "type": "message", "content": content, "id": content }));
        }
        take(&scene.agent, 10..20);
        scene.healthy.wait_for_rounds(5);
        let store = wait_for_store(server, "failing");
        let problem = store["problem"].as_str().expect("it has a problem");
        assert!(problem.contains("does not answer"), "{problem}");
        // From now on nobody waits for it, not even for a receipt.
        for number in 10..20 {
            assert_eq!(app.expect("delivery")["id"], format!("text {number}"));
        }
        send(&mut app, 20..30);
        take(&scene.agent, 20..30);
        App::connect(server, "new");
        scene.healthy.wait_for_rounds(10);
        assert!(disk.freeze(false));
        wait_until_stored(server);
        send(&mut app, 30..40);
        take(&scene.agent, 30..40);
    };
    play_on_disk(&disk, fault, |server| assert_texts(server, "s1", 0..40));
}

#[test]
fn removed_file_is_written_anew() {
    let state = State::new();
    let start = |flags: &[&str]| start_with(&state, flags);
    let fault = |scene: &mut Scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..40);
        take(&scene.agent, 0..40);
        wait_until_stored(server);
        fs::remove_file(database(&state)).expect("it is there");
        server.wait_for_log("were removed while they were in use");
        send(&mut app, 40..50);
        take(&scene.agent, 40..50);
        wait_until_stored(server);
        // With all that is beside it.
        fs::remove_dir_all(database(&state).parent().expect("it is in a folder"))
            .expect("it is there");
        server.wait_for_log("were removed while they were in use");
        send(&mut app, 50..60);
        take(&scene.agent, 50..60);
        wait_until_stored(server);
    };
    play(&start, false, fault, |server| {
        assert_texts(server, "s1", 0..60)
    });
}

#[test]
fn replaced_file_is_set_aside() {
    let (state, other) = (State::new(), State::new());
    let server = start_with(&other, &[]);
    wait_for_store(&server, "open");
    server.end();
    let start = |flags: &[&str]| start_with(&state, flags);
    let fault = |scene: &mut Scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..40);
        take(&scene.agent, 0..40);
        wait_until_stored(server);
        fs::rename(database(&other), database(&state)).expect("both are there");
        server.wait_for_log("were replaced while they were in use");
        send(&mut app, 40..50);
        take(&scene.agent, 40..50);
        wait_until_stored(server);
        // Something that is no database at all.
        let nonsense = database(&other);
        let mut file = fs::OpenOptions::new();
        let mut file = file
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&nonsense)
            .expect("it can be made");
        file.write_all(&[b'x'; 10_000]).expect("there is room");
        fs::rename(nonsense, database(&state)).expect("both are there");
        server.wait_for_log("were replaced while they were in use");
        send(&mut app, 50..60);
        take(&scene.agent, 50..60);
        wait_until_stored(server);
    };
    play(&start, false, fault, |server| {
        assert_texts(server, "s1", 0..60)
    });
}

/// Fills a session with so much that its first messages are neither in memory nor in the first pages of the file.
fn say_much(scene: &Scene, session: &str) {
    let mut app = App::connect(&scene.agent.server, session);
    for number in 0..400 {
        let content = format!("{number} {}", "long ".repeat(1_000));
        app.send(&json!({ "type": "message", "content": content }));
        scene.agent.next_message();
    }
    wait_until_stored(&scene.agent.server);
}

/// Overwrites pages in the middle of the file.
fn damage(path: &Path) {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("it is there");
    let len = file.metadata().expect("it is there").len();
    assert!(len > 600 * 1024, "{len}");
    file.write_all_at(&vec![0xa5; 300 * 1024], len / 3)
        .expect("there is room");
}

#[test]
fn damaged_page_is_found_while_it_is_in_use() {
    let state = State::new();
    let start = |flags: &[&str]| start_with(&state, flags);
    let fault = |scene: &mut Scene| {
        say_much(scene, "much");
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        wait_until_stored(server);
        damage(&database(&state));
        // Somebody reads what is damaged.
        let mut reader = App::connect(server, "much");
        reader.send(&json!({ "type": "fetch_history", "limit": 100, "since": 0 }));
        let history = reader.expect("history");
        assert!(history["messages"].is_array(), "{history}");
        reader.send(&json!({ "type": "search", "text": "long" }));
        reader.expect("history");
        server.wait_for_log("are damaged");
        send(&mut app, 10..20);
        take(&scene.agent, 10..20);
        wait_until_stored(server);
        let aside = database(&state).with_file_name("0.damaged-1.db");
        assert!(aside.exists());
    };
    play(&start, false, fault, |server| {
        assert_texts(server, "s1", 0..20)
    });
}

#[test]
fn damaged_page_is_found_after_the_start() {
    let state = State::new();
    Scene::with(start_with(&state, &[])).play(|scene| {
        wait_for_store(&scene.agent.server, "open");
        say_much(scene, "much");
    });
    damage(&database(&state));
    let start = |flags: &[&str]| start_with(&state, flags);
    let fault = |scene: &mut Scene| {
        let server = &scene.agent.server;
        let mut reader = App::connect(server, "much");
        reader.send(&json!({ "type": "fetch_history", "limit": 100 }));
        reader.expect("history");
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..20);
        take(&scene.agent, 0..20);
        wait_until_stored(server);
    };
    // Whether the healthy client's session is of before the damage or not, what it says now is there.
    let scene = Scene::with(start(&[]));
    let agent = scene.play_on(fault);
    drop(agent);
    let server = start(&[]);
    wait_for_store(&server, "open");
    assert_texts(&server, "s1", 0..20);
}

#[test]
fn database_of_a_newer_version_is_left_alone() {
    let state = State::new();
    let server = start_with(&state, &[]);
    wait_for_store(&server, "open");
    server.end();
    let database = database(&state);
    let newer = Connection::open(&database).expect("it opens");
    newer
        .pragma_update(None, "user_version", 99)
        .expect("it can be written");
    newer.close().expect("it closes");
    let before = fs::read(&database).expect("it can be read");
    Scene::with(start_with(&state, &[])).play(|scene| {
        let server = &scene.agent.server;
        let store = wait_for_store(server, "unavailable");
        let problem = store["problem"].as_str().expect("it has a problem");
        assert!(
            problem.contains("of version 99") && problem.contains("update claude-socket"),
            "{problem}"
        );
        server.wait_for_log("of version 99");
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        assert_texts(server, "s1", 0..10);
    });
    assert!(
        fs::read(&database).expect("it can be read") == before,
        "it is as it was"
    );
}

/// The second goes on in memory, and has the store when the first has ended.
#[test]
fn two_servers_with_one_database_disturb_each_other_not() {
    let state = State::new();
    let start = |flags: &[&str]| start_with(&state, flags);
    let mut second = None;
    let fault = |scene: &mut Scene| {
        let first = &scene.agent.server;
        let mut other = start_with(&state, &[]);
        other.initialize();
        let store = wait_for_store(&other, "unavailable");
        let problem = store["problem"].as_str().expect("it has a problem");
        let process = format!("used by another claude-socket (process {})", first.pid());
        assert!(problem.contains(&process), "{problem}");
        let mut app = App::connect(&other, "s1");
        for number in 0..5 {
            let content = format!("text {number}");
            app.send(&json!({ "type": "message", "content": content, "id": content }));
            assert_eq!(other.next_message()["content"], content);
            assert_eq!(app.expect("delivery")["state"], "accepted");
        }
        let mut app = App::connect(first, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        wait_until_stored(first);
        second = Some(other);
    };
    let scene = Scene::with(start(&[]));
    wait_for_store(&scene.agent.server, "open");
    let mut agent = scene.play_on(fault);
    agent.close_stdin();
    agent.server.wait_for_exit();
    let second = second.expect("it was started");
    wait_for_store(&second, "open");
    let mut app = App::connect(&second, "s2");
    app.send(&json!({ "type": "message", "content": "text 0", "id": "text 0" }));
    assert_eq!(second.next_message()["content"], "text 0");
    app.expect("delivery");
    wait_until_stored(&second);
    second.end();
    let server = start(&[]);
    wait_for_store(&server, "open");
    assert_texts(&server, "s1", 0..10);
    assert_texts(&server, "s2", 0..1);
}

/// Whatever the clock says, nothing is removed for its age that is young.
#[test]
fn clock_jumps_remove_nothing() {
    prepare(&["faketime"]);
    let state = State::new();
    let clock = Path::new(state.path()).with_file_name("clock");
    fs::create_dir_all(clock.parent().expect("it is in a folder")).expect("it can be made");
    let set = |to: &str| fs::write(&clock, to).expect("the file can be written");
    let start = |_: &[&str]| {
        let mut command = binary();
        command
            .args(["--port", "0"])
            .env("CLAUDE_SOCKET_STATE_DIR", state.path())
            .env("LD_PRELOAD", libfaketime())
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let mut server = Server::spawn(&mut command);
        server.address = address_in(&server.wait_for_log("listening on "));
        server
    };
    set("+0");
    let restart = |jump: &str, texts: u32| {
        set(jump);
        let mut server = start(&[]);
        wait_for_store(&server, "open");
        assert_texts(&server, "s1", 0..texts);
        // Old messages are looked for at the start, and whenever something is written.
        server.initialize();
        let mut app = App::connect(&server, "other");
        app.send_message("hello");
        server.next_message();
        wait_until_stored(&server);
        assert_texts(&server, "s1", 0..texts);
        server.end();
    };
    let fault = |scene: &mut Scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        for (number, jump) in (0..).zip(["+0", "+1d", "-1d", "-10y", "+0"]) {
            set(jump);
            send(&mut app, number * 10..number * 10 + 10);
            take(&scene.agent, number * 10..number * 10 + 10);
            scene.healthy.wait_for_rounds(3);
            wait_until_stored(server);
        }
    };
    play(&start, true, fault, |server| {
        assert_texts(server, "s1", 0..50)
    });
    for jump in ["+1d", "-1d", "-10y", "+10y"] {
        restart(jump, 50);
    }
    // Something was said when the clock was ahead.
    for jump in ["+0", "-10y", "+1d"] {
        restart(jump, 50);
    }
}

/// The sessions of a store with many messages.
const SESSIONS: u32 = 10_000;

/// Makes a store with so many messages in each of [`SESSIONS`].
fn fill(state: &State, messages: u32) {
    let mut server = start_with(state, &[]);
    server.initialize();
    wait_for_store(&server, "open");
    App::connect(&server, "first").send_message("first");
    server.next_message();
    wait_until_stored(&server);
    server.end();
    let database = Connection::open(database(state)).expect("it opens");
    let numbers = |to: u32| {
        format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {to})")
    };
    let now = "(SELECT max(said) FROM messages)";
    let sql = format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -100000; BEGIN;
        {all} INSERT INTO sessions(number, agent, name, created, updated, seq)
            SELECT 10 + i, 1, 'many' || i, {now}, {now}, {messages} FROM n;
        {each} INSERT INTO messages(id, message_id, said, ts, state, user, key, fingerprint, content)
            SELECT number << 32 | i, randomblob(16), updated, 0, 6, 'ann', 'id ' || i, i,
                'text ' || i || ' of ' || number || ': a message that is as long as most of them'
            FROM sessions, n WHERE number > 10;
        {each} INSERT INTO spans(session, first, start, place)
            SELECT number, i, updated, number FROM sessions, n WHERE number > 10 AND i % 64 = 1;
        INSERT INTO words(words) VALUES('rebuild'); DELETE FROM unindexed; COMMIT;
        PRAGMA wal_checkpoint(TRUNCATE);",
        all = numbers(SESSIONS),
        each = numbers(messages),
    );
    database.execute_batch(&sql).expect("it can be written");
}

/// Whatever is on disk, a server takes as much memory as with nothing, and reads as much to start. When that is too much,
/// the oldest goes, and nobody waits for that.
fn play_with_many(messages: u32) {
    let (empty, many) = (State::new(), State::new());
    fill(&many, messages);
    let [(read, memory), (read_of_many, memory_of_many)] = [&empty, &many].map(|state| {
        let server = start_with(state, &[]);
        wait_for_store(&server, "open");
        (io_of_store(&server, "rchar: "), server.memory("RssAnon"))
    });
    println!(
        "{read_of_many} bytes are read, {read} if there is nothing; {memory_of_many} KiB, {memory} KiB"
    );
    // The sessions are looked through, not what was said there.
    assert!(read_of_many < read + 64 * u64::from(SESSIONS));
    assert!(memory_of_many < memory + 1024);
    // The store keeps 10 MiB free for what comes at once.
    let limit = used_bytes(&many) - (512 << 10);
    let disk = (limit + (10 << 20)).to_string();
    let start = |_: &[&str]| start_with(&many, &["--history-disk", &disk]);
    let fault = |scene: &mut Scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        let (mut sent, deadline) = (0, Instant::now() + PATIENCE);
        while used_bytes(&many) > limit {
            send(&mut app, sent..sent + 10);
            take(&scene.agent, sent..sent + 10);
            sent += 10;
            assert!(
                Instant::now() < deadline,
                "{} of {limit} bytes are used",
                used_bytes(&many)
            );
        }
        let mut app = App::connect(server, &format!("many{SESSIONS}"));
        app.send(&json!({ "type": "fetch_history", "limit": 100 }));
        let history = app.expect("history");
        assert_eq!(
            history["messages"].as_array().map(Vec::len),
            Some(messages as usize)
        );
        app.send(&json!({ "type": "fetch_history", "session_id": "many1", "limit": 100 }));
        let history = app.expect("history");
        assert_eq!(history["messages"], json!([]));
    };
    play(&start, true, fault, |_| {});
}

/// Returns the bytes of the pages that are in use.
fn used_bytes(state: &State) -> u64 {
    let database = Connection::open(database(state)).expect("it opens");
    let value = |name| {
        database
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .expect("it can be read")
            .cast_unsigned()
    };
    (value("page_count") - value("freelist_count")) * value("page_size")
}

#[test]
fn many_messages_on_disk_cost_nothing() {
    play_with_many(10);
}

#[test]
#[ignore = "it takes a minute: cargo test --test suite store_faults -- --ignored --nocapture"]
fn million_messages_on_disk_cost_nothing() {
    play_with_many(100);
}

/// What doesn't fit into memory goes, and what is in memory is on disk when there is room again.
#[test]
fn full_disk_for_long_keeps_what_is_in_memory() {
    let Some(disk) = Disk::of_memory(64 * 1024) else {
        return;
    };
    let scene = Scene::with(disk.server(&[]));
    wait_for_store(&scene.agent.server, "open");
    let mut agent = scene.play_on(|scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        wait_until_stored(server);
        disk.fill();
        wait_for_store(server, "failing");
        let long = "x".repeat(200_000);
        let mut loud = App::connect(server, "loud");
        for _ in 0..60 {
            loud.send_message(&long);
            scene.agent.next_message();
        }
        send(&mut app, 10..20);
        take(&scene.agent, 10..20);
        disk.make_room();
        wait_until_stored(server);
        assert_texts(server, "s1", 0..20);
    });
    agent.close_stdin();
    agent.server.wait_for_exit();
    let server = disk.server(&[]);
    wait_for_store(&server, "open");
    assert_texts(&server, "s1", 0..20);
    assert!(!history(&server, "loud").is_empty());
}

/// Nobody waits at the end for a disk that takes nothing.
#[test]
fn full_disk_at_the_end_delays_it_not() {
    let Some(disk) = Disk::of_memory(4 * 1024) else {
        return;
    };
    Scene::with(disk.server(&[])).play_to_the_end(|scene| {
        let server = &scene.agent.server;
        let mut app = App::connect(server, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        wait_until_stored(server);
        disk.fill();
        wait_for_store(server, "failing");
        send(&mut app, 10..20);
        take(&scene.agent, 10..20);
        scene.agent.close_stdin();
    });
    disk.make_room();
    let server = disk.server(&[]);
    wait_for_store(&server, "open");
    assert_texts(&server, "s1", 0..10);
}

/// Also who starts when the folder of another was removed doesn't use the same database.
#[test]
fn server_whose_folder_was_removed_keeps_its_database() {
    let state = State::new();
    let start = |flags: &[&str]| start_with(&state, flags);
    let fault = |scene: &mut Scene| {
        let first = &scene.agent.server;
        let mut app = App::connect(first, "s1");
        send(&mut app, 0..10);
        take(&scene.agent, 0..10);
        wait_until_stored(first);
        let folder = database(&state);
        fs::remove_dir_all(folder.parent().expect("it is in a folder")).expect("it is there");
        first.wait_for_log("were removed while they were in use");
        wait_until_stored(first);
        let second = start(&[]);
        wait_for_store(&second, "unavailable");
        send(&mut app, 10..20);
        take(&scene.agent, 10..20);
        wait_until_stored(first);
    };
    play(&start, false, fault, |server| {
        assert_texts(server, "s1", 0..20);
    });
}
