//! Many clients, slow clients, and a Claude Code that doesn't read.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::App;
use crate::server::{Server, TEST_TIMEOUT, text_of};

#[test]
fn reply_reaches_a_thousand_clients() {
    let mut server = Server::in_process(&[]);
    let mut apps: Vec<App> = (0..1_000).map(|_| App::connect(&server, "s1")).collect();
    assert_eq!(server.health()["clients"], 1_000);
    server.call("reply", &json!({ "chat_id": "s1", "text": "to all" }));
    for app in &mut apps {
        assert_eq!(app.expect("reply")["content"], "to all");
    }
    apps.clear();
    server.wait_for_health(|health| health["clients"] == 0);
}

/// Of 16 MiB of replies the client that reads gets each, and the other is closed with 1013.
#[test]
fn client_that_never_reads_is_closed_with_1013() {
    let mut server = Server::in_process(&["--max-backlog", "1MiB"]);
    let mut stuck = App::connect(&server, "s1");
    let reader = App::connect(&server, "s1");
    let reader = thread::spawn(move || {
        let mut reader = reader;
        (0..256)
            .map(|_| reader.expect("reply")["seq"].as_u64())
            .collect::<Vec<_>>()
    });
    let text = "x".repeat(64 * 1024);
    for _ in 0..256 {
        assert_eq!(
            server.call("reply", &json!({ "chat_id": "s1", "text": text })),
            "sent"
        );
    }
    let seqs = reader.join().expect("the reading client gets every reply");
    assert_eq!(seqs, (1..=256).map(Some).collect::<Vec<_>>());
    // It can read whole frames that were under way, then the close with the reason.
    assert_eq!(stuck.close_code(), 1013);
    drop(stuck);
    server.wait_for_health(|health| health["clients"] == 0);
}

/// Its requests have responses of 500 MiB together.
#[cfg(target_os = "linux")]
#[test]
fn requests_without_reading_cost_little_memory() {
    let flags = ["--ping-interval", "200ms", "--ping-timeout", "600ms"];
    let mut server = Server::start(&flags);
    let mut greedy = App::connect(&server, "s1");
    let text = "x".repeat(10_000);
    for _ in 0..100 {
        server.call("reply", &json!({ "chat_id": "s1", "text": text }));
    }
    // Each response has a mebibyte.
    let fetch = json!({ "type": "fetch_history", "limit": 100 }).to_string();
    for _ in 0..500 {
        greedy.send_text(&fetch);
    }
    server.wait_for_log("it reads too slowly");
    assert!(
        server.memory("VmHWM") < 64 << 10,
        "{} KiB",
        server.memory("VmHWM")
    );
}

/// They ask for all of a mebibyte again and again, and read nothing. What waits for each is a frame of an answer at most,
/// and a short one once many are slow. Who reads gets a whole history meanwhile.
#[cfg(target_os = "linux")]
#[test]
fn many_requests_without_reading_cost_little_memory() {
    const CLIENTS: usize = 30;
    let mut server = Server::start(&[]);
    let mut reader = App::connect(&server, "s1");
    let text = "x".repeat(10_000);
    for _ in 0..100 {
        server.call("reply", &json!({ "chat_id": "s1", "text": text }));
        reader.expect("reply");
    }
    let fetch = json!({ "type": "fetch_history", "limit": 100 }).to_string();
    let mut mute: Vec<App> = (0..CLIENTS).map(|_| App::connect(&server, "s1")).collect();
    for app in &mut mute {
        for _ in 0..20 {
            app.send_text(&fetch);
        }
    }
    // Each has a thread that waits until it reads. The system cuts names at 15 characters.
    let drains = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
        let names = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.contains("-dra")).count()
    };
    let deadline = Instant::now() + TEST_TIMEOUT;
    while drains() < CLIENTS {
        assert!(
            Instant::now() < deadline,
            "{} of {CLIENTS} are slow",
            drains()
        );
        reader.until_pong();
    }
    let mut messages = 0;
    reader.send_text(&fetch);
    loop {
        let history = reader.expect("history");
        messages += history["messages"].as_array().map_or(0, Vec::len);
        if history["more"] != true {
            break;
        }
    }
    assert_eq!(messages, 100);
    let after = server.memory("VmHWM");
    assert!(after < 32 << 10, "{after} KiB");
}

/// It gets every reply, then is written to directly again.
#[test]
fn slow_client_catches_up() {
    let mut server = Server::in_process(&["--max-backlog", "64MiB"]);
    let mut slow = App::connect(&server, "s1");
    let text = "x".repeat(64 * 1024);
    for _ in 0..256 {
        assert_eq!(
            server.call("reply", &json!({ "chat_id": "s1", "text": text })),
            "sent"
        );
    }
    for seq in 1..=256 {
        assert_eq!(slow.expect("reply")["seq"], seq);
    }
    assert_eq!(
        server.call("reply", &json!({ "chat_id": "s1", "text": "direct again" })),
        "sent"
    );
    assert_eq!(slow.expect("reply")["content"], "direct again");
}

/// For five seconds Claude Code reads nothing, while 50 clients send 200 messages each. Meanwhile
/// other clients are served. Then every message arrives, each client's in order.
#[test]
fn messages_survive_agent_that_does_not_read() {
    const CLIENTS: usize = 50;
    const MESSAGES: usize = 200;
    let mut server = Server::in_process(&[]);
    let mut bystander = App::connect(&server, "bystander");
    let stop_reading = Instant::now();
    let senders: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let mut app = App::connect(&server, &format!("s{client}"));
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    let content = format!("{number} {}", "x".repeat(200));
                    app.send(&json!({
                        "type": "message", "content": content, "id": number.to_string(),
                    }));
                }
                app
            })
        })
        .collect();
    let mut served = 0;
    while stop_reading.elapsed() < Duration::from_secs(5) {
        bystander.send(&json!({ "type": "fetch_history" }));
        assert_eq!(bystander.expect("history")["messages"], json!([]));
        assert_eq!(server.health()["status"], "ok");
        App::connect(&server, "visitor");
        served += 1;
    }
    assert!(served > 10, "other clients are served meanwhile");
    let mut next = [0; CLIENTS];
    for _ in 0..CLIENTS * MESSAGES {
        let message = server.next_message();
        let client: usize = message["meta"]["chat_id"]
            .as_str()
            .expect("a message has a chat_id")[1..]
            .parse()
            .expect("the session has a number");
        let content = message["content"].as_str().expect("a message has content");
        let number: usize = content
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("the content begins with a number");
        assert_eq!(number, next[client], "client {client}");
        next[client] += 1;
    }
    assert_eq!(next, [MESSAGES; CLIENTS]);
    for sender in senders {
        let mut app = sender.join().expect("the client sends everything");
        for number in 0..MESSAGES {
            let delivery = app.expect("delivery");
            assert_eq!(delivery["id"], number.to_string());
            assert_eq!(delivery["state"], "accepted");
        }
    }
    assert_eq!(server.request("ping", &json!({})), json!({}));
}

/// The client is gone at once, and its messages are still delivered.
#[test]
fn pending_messages_survive_disconnect_of_their_sender() {
    const MESSAGES: usize = 80;
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let padding = "x".repeat(5_000);
    for number in 0..MESSAGES {
        app.send_message(&format!("{number} {padding}"));
    }
    drop(app);
    server.wait_for_health(|health| health["clients"] == 0);
    let arguments = json!({ "chat_id": "s1", "text": "the answer" });
    let reply = server.send_request(
        "tools/call",
        &json!({ "name": "reply", "arguments": arguments }),
    );
    let mut next = 0;
    let mut result = Value::Null;
    while next < MESSAGES || result.is_null() {
        let line = server.next_line();
        if line["id"] == reply {
            result = line["result"].clone();
            continue;
        }
        let content = line["params"]["content"]
            .as_str()
            .expect("the line is a message");
        assert_eq!(content, format!("{next} {padding}"));
        next += 1;
    }
    assert!(
        text_of(&result).starts_with("stored: nobody is in session"),
        "{result}"
    );
    let mut back = App::connect(&server, "s1");
    back.send(&json!({ "type": "fetch_history", "limit": 100 }));
    let history = back.expect("history");
    let messages = history["messages"]
        .as_array()
        .expect("history has a list of messages");
    assert!(
        messages
            .iter()
            .any(|message| message["content"] == "the answer")
    );
}

/// A client that lost its connection while Claude Code did not read resends everything before its
/// first messages were delivered. The receipts go to its new connection.
/// While Claude Code reads nothing. Each message is delivered or rejected, and its sender knows.
#[test]
fn held_messages_are_bounded_together() {
    let server = Server::start(&["--max-pending", "4MiB"]);
    let mut senders: Vec<App> = (0..40)
        .map(|number| App::connect(&server, &format!("s{number}")))
        .collect();
    let text = "x".repeat(300_000);
    for app in &mut senders {
        app.send(&json!({ "type": "message", "content": text, "id": "a1" }));
    }
    let none = "\nclaude_socket_refused_total 0\n";
    server.wait_for_health(|_| !server.get("/metrics").1.contains(none));
    let lines = server.lines();
    let agent = thread::spawn(move || {
        lines
            .iter()
            .filter(|line| !line["method"].is_null())
            .count()
    });
    let mut accepted = 0;
    for app in &mut senders {
        let delivery = app.next();
        if delivery["type"] == "error" {
            assert_eq!(delivery["code"], "busy", "{delivery}");
            assert_eq!(app.expect("delivery")["code"], "busy");
        } else {
            assert_eq!(delivery["state"], "accepted", "{delivery}");
            accepted += 1;
        }
    }
    assert!((10..40).contains(&accepted), "{accepted} were accepted");
    server.end();
    assert_eq!(agent.join().expect("the lines end"), accepted);
}

/// While Claude Code reads nothing, senders are held back. What those have sent is delivered later.
#[test]
fn held_senders_that_hang_up_free_their_places() {
    const SENDERS: usize = 60;
    let server = Server::start(&["--max-connections", "12"]);
    let text = "x".repeat(30_000);
    for number in 0..SENDERS {
        // The places of those before are free, or this one would be refused.
        server.wait_for_health(|health| health["clients"].as_u64().is_some_and(|open| open < 8));
        let mut app = App::connect(&server, &format!("s{number}"));
        // They fill its queue, and the end of the connection fits into the socket behind them.
        (0..3).for_each(|_| app.send_message(&text));
    }
    server.wait_for_health(|health| health["clients"] == 0);
    for _ in 0..3 * SENDERS {
        assert_eq!(server.next_message()["content"], text);
    }
}

#[test]
fn resent_messages_get_receipts_on_the_new_connection() {
    // More than the pipe to Claude Code holds, fewer than the inbox.
    const MESSAGES: usize = 200;
    let mut server = Server::in_process(&[]);
    let padding = "x".repeat(2_000);
    let send_all = |app: &mut App| {
        for number in 0..MESSAGES {
            let id = number.to_string();
            app.send(&json!({ "type": "message", "content": padding, "id": id }));
        }
    };
    let mut app = App::connect(&server, "s1");
    send_all(&mut app);
    drop(app);
    server.wait_for_health(|health| health["clients"] == 0);
    let mut app = App::connect(&server, "s1");
    send_all(&mut app);
    for _ in 0..MESSAGES {
        server.next_message();
    }
    let mut accepted = std::collections::HashSet::new();
    while accepted.len() < MESSAGES {
        // The messages of its first connection come back as another client's too.
        let message = app.next();
        if message["type"] == "delivery" {
            accepted.insert(message["id"].to_string());
        }
    }
    assert_eq!(
        server.request("ping", &json!({})),
        json!({}),
        "no message is delivered twice"
    );
}

/// There are far more messages under way than ids are remembered. None is delivered twice.
#[test]
fn every_message_under_way_gets_its_receipt() {
    const MESSAGES: usize = 6_000;
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let message = |number: usize| json!({ "type": "message", "content": "x", "id": number.to_string(), "user": "u", "ts": "1" });
    let sender = thread::spawn(move || {
        (0..MESSAGES).for_each(|number| app.send(&message(number)));
        app
    });
    let mut app = sender.join().expect("the client sends everything");
    for _ in 0..MESSAGES {
        server.next_message();
    }
    for number in 0..MESSAGES {
        let delivery = app.expect("delivery");
        assert_eq!(
            (&delivery["id"], &delivery["state"]),
            (&json!(number.to_string()), &json!("accepted"))
        );
    }
    for number in MESSAGES - 50..MESSAGES {
        app.send(&message(number));
        assert_eq!(app.expect("delivery")["state"], "accepted");
    }
    assert_eq!(
        server.request("ping", &json!({})),
        json!({}),
        "no message is delivered twice"
    );
}

/// A message is accepted when it has been written to Claude Code completely.
#[test]
fn message_is_not_accepted_before_it_is_written() {
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let long = "x".repeat(100_000);
    for number in 0..5 {
        app.send(&json!({ "type": "message", "content": long, "id": number.to_string() }));
    }
    // The test has read the first of them ahead, and the pipe takes 64 KiB, so the second is
    // stuck halfway. A request of Claude Code changes nothing.
    let ping = server.send_request("ping", &json!({}));
    let mut other = App::connect(&server, "s2");
    assert_eq!(other.until_pong(), [] as [Value; 0]);
    app.send(&json!({ "type": "fetch_history", "session_id": "nowhere" }));
    let mut accepted = 0;
    while app.next()["type"] == "delivery" {
        accepted += 1;
    }
    assert!(
        accepted <= 1,
        "{accepted} are accepted that were not written"
    );
    let mut lines: Vec<Value> = (0..6).map(|_| server.next_line()).collect();
    lines.retain(|line| line["id"] != ping);
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|line| line["params"]["content"] == long));
    for number in accepted..5 {
        assert_eq!(app.expect("delivery")["id"], number.to_string());
    }
    // A request is answered after the sender's message before it was handled.
    for number in 0..100 {
        app.send_message(&number.to_string());
        app.send(&json!({ "type": "fetch_history", "limit": 1 }));
        assert_eq!(
            app.expect("history")["messages"][0]["content"],
            number.to_string()
        );
        assert_eq!(server.next_message()["content"], number.to_string());
    }
}

#[test]
fn ten_thousand_tool_calls_at_once_are_answered_in_order() {
    let mut server = Server::in_process(&[]);
    let app = App::connect(&server, "s1");
    let mut stdin = server.stdin.take().expect("stdin is open");
    let writer = thread::spawn(move || {
        for id in 0..10_000 {
            let arguments =
                json!({ "chat_id": "s1", "status": "thinking", "detail": id.to_string() });
            let params = json!({ "name": "status", "arguments": arguments });
            let call =
                json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
            writeln!(stdin, "{call}").expect("the server reads");
        }
        stdin
    });
    let reader = thread::spawn(move || {
        let mut app = app;
        for number in 0..10_000 {
            assert_eq!(app.expect("status")["detail"], number.to_string());
        }
    });
    // All are written before the first response is read.
    server.stdin = Some(writer.join().expect("every call can be written"));
    for id in 0..10_000 {
        assert_eq!(server.next_line()["id"], id);
    }
    reader.join().expect("the client gets every status");
}

/// It goes on sending pings after the close.
#[test]
fn closed_client_is_not_read_any_more() {
    let mut server = Server::start(&["--max-sessions", "1"]);
    let mut first = App::connect(&server, "s1");
    let mut second = App::open(server.address, "/?session=s2");
    assert_eq!(second.expect("error")["code"], "busy");
    while second
        .socket
        .get_mut()
        .write_all(b"\x89\x80\0\0\0\0")
        .is_ok()
    {}
    server.wait_for_health(|health| health["clients"] == 1);
    server.wait_for_log("it did not answer the close");
    first.send_message("still here");
    assert_eq!(server.next_message()["content"], "still here");
    assert_eq!(server.request("ping", &json!({})), json!({}));
}

/// The close is answered after the frames that were sent before.
#[test]
fn client_that_closes_gets_everything_sent_before() {
    let mut server = Server::in_process(&[]);
    let mut app = App::connect(&server, "s1");
    let text = "x".repeat(450_000);
    for _ in 0..5 {
        server.call("reply", &json!({ "chat_id": "s1", "text": text }));
    }
    app.socket.close(None).expect("the server reads");
    for seq in 1..=5 {
        assert_eq!(app.expect("reply")["seq"], seq);
    }
    app.read_close();
}

/// It has at most 100 sessions, those with clients first, and 200 characters of the last message.
#[test]
fn session_list_is_limited() {
    let server = Server::in_process(&[]);
    let name = |n: u32| format!("s{n:03}");
    let mut last = App::connect(&server, "alone");
    last.send(&json!({ "type": "message", "session_id": "s999", "content": "é".repeat(300) }));
    last.until_pong();
    for n in 0..60 {
        // They disconnect at once.
        App::connect(&server, &name(n));
    }
    let here: Vec<App> = (60..180)
        .rev()
        .map(|n| App::connect(&server, &name(n)))
        .collect();
    server.wait_for_health(|health| health["clients"] == 121);
    last.send(&json!({ "type": "list_sessions" }));
    let list = last.expect("sessions");
    assert_eq!(list["total"], 182, "{list}");
    let listed = list["sessions"].as_array().expect("sessions has a list");
    let names: Vec<&str> = listed
        .iter()
        .filter_map(|session| session["session_id"].as_str())
        .collect();
    let first: Vec<String> = (60..159).map(name).collect();
    assert_eq!(names[0], "alone");
    assert_eq!(names[1..], first);

    drop(here);
    server.wait_for_health(|health| health["clients"] == 1);
    last.send(&json!({ "type": "list_sessions" }));
    let list = last.expect("sessions");
    assert_eq!(list["sessions"][1]["session_id"], "s999", "{list}");
    let excerpt = list["sessions"][1]["last"]["content"].as_str();
    assert_eq!(excerpt, Some(&*"é".repeat(200)));
}
