//! The crate `claude-socket-client` against the real binary.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use claude_socket_client::protocol::{DeliveryState, ErrorCode, ServerMessage};
use claude_socket_client::{Client, Error, Event, Options, Refusal};
use serde_json::json;

use crate::app::App;
use crate::server::{Server, TEST_TIMEOUT};
use crate::state::State;

fn options(server: &Server) -> Options {
    Options {
        session: "s1".to_owned(),
        user: "ann".to_owned(),
        reconnect_delay: Duration::from_millis(10),
        max_reconnect_delay: Duration::from_millis(50),
        ..Options::new(format!("ws://{}", server.address))
    }
}

fn connect(server: &Server) -> Client {
    Client::connect(options(server)).expect("the client starts")
}

/// Returns the next message that is wanted.
fn next<T>(client: &Client, wanted: impl Fn(ServerMessage) -> Option<T>) -> T {
    loop {
        let message = client
            .recv_timeout(TEST_TIMEOUT)
            .expect("the server says something");
        if let Some(found) = wanted(message) {
            return found;
        }
    }
}

fn welcomed(client: &Client) {
    next(client, |message| {
        matches!(message, ServerMessage::Welcome { .. }).then_some(())
    });
}

/// Returns the next message of the session.
fn said(client: &Client) -> String {
    next(client, |message| match message {
        ServerMessage::Reply { content, .. } => Some(format!("claude: {content}")),
        ServerMessage::UserMessage { content, user, .. } => Some(format!("{user}: {content}")),
        _ => None,
    })
}

fn reply(server: &mut Server, text: &str) {
    server.call("reply", &json!({ "chat_id": "s1", "text": text }));
}

/// Starts a server on the port of another that has ended.
fn again(port: u16) -> Server {
    let mut server = Server::listening(&["--port", &port.to_string()]);
    server.initialize();
    server
}

#[test]
fn sent_message_is_followed_to_its_answer() {
    let mut server = Server::start(&[]);
    let client = connect(&server);
    let sent = client.send("31 °C");
    let heard = server.next_message();
    assert_eq!(
        (&heard["content"], &heard["meta"]["user"]),
        (&json!("31 °C"), &json!("ann"))
    );
    assert_eq!(
        sent.accepted(TEST_TIMEOUT)
            .expect("the server accepts it")
            .seq,
        Some(1)
    );
    assert_eq!(sent.answered(Duration::ZERO), Err(Error::TimedOut));
    reply(&mut server, "open the window");
    let receipt = sent.answered(TEST_TIMEOUT).expect("it is answered");
    assert_eq!(receipt.state, DeliveryState::Answered);
    assert_eq!(said(&client), "claude: open the window");
    let nothing = client.recv_timeout(Duration::ZERO);
    assert!(matches!(
        nothing,
        Ok(ServerMessage::Delivery { .. }) | Err(Error::TimedOut)
    ));
}

/// Both wait for their answers, whether the messages are received or not.
#[test]
fn history_and_sessions_are_answered() {
    let mut server = Server::start(&[]);
    let client = connect(&server);
    client
        .send("one")
        .accepted(TEST_TIMEOUT)
        .expect("the server accepts it");
    server.next_message();
    reply(&mut server, "two");
    let all = client.fetch_history(100, None, None).answer(TEST_TIMEOUT);
    let all = all.expect("the server answers");
    let contents: Vec<&str> = all.iter().map(|item| item.content.as_str()).collect();
    assert_eq!(contents, ["one", "two"]);
    let later = client
        .fetch_history(100, Some(1), None)
        .answer(TEST_TIMEOUT);
    assert_eq!(later.as_deref(), Ok(&all[1..]));

    let _other = App::connect(&server, "s2");
    let sessions = client.fetch_sessions().answer(TEST_TIMEOUT);
    let sessions = sessions.expect("the server answers");
    let names: Vec<&str> = sessions
        .sessions
        .iter()
        .map(|session| session.session_id.as_str())
        .collect();
    assert_eq!((names, sessions.total), (vec!["s1", "s2"], 2));
    let asked = client.fetch_sessions();
    drop(client);
    // It came before the end, or nobody waits for ever.
    assert!(!matches!(asked.answer(TEST_TIMEOUT), Err(Error::TimedOut)));
}

/// A program that has kept a message on disk sends it again under the same id.
#[test]
fn message_with_kept_id_arrives_once() {
    let server = Server::start(&[]);
    for _ in 0..2 {
        let client = connect(&server);
        let sent = client.send_as("kept-1", "31 °C");
        assert_eq!(
            sent.accepted(TEST_TIMEOUT)
                .expect("the server accepts it")
                .seq,
            Some(1)
        );
    }
    let client = connect(&server);
    for wrong in ["", &"x".repeat(65)] {
        let refused = client.send_as(wrong, "x").accepted(TEST_TIMEOUT);
        let code = ErrorCode::InvalidMessage;
        assert!(
            matches!(&refused, Err(Error::Rejected { code: Some(is), .. }) if *is == code),
            "{refused:?}"
        );
    }
    client
        .send("32 °C")
        .accepted(TEST_TIMEOUT)
        .expect("the server accepts it");
    assert_eq!(server.next_message()["content"], "31 °C");
    assert_eq!(server.next_message()["content"], "32 °C");
}

#[test]
fn message_sent_without_server_waits_for_it() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("any port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let server = Server::listening(&[]);
    let mut options = options(&server);
    options.url = format!("ws://127.0.0.1:{port}");
    drop(server);
    let client = Client::connect(options).expect("the client starts");
    let sent = client.send("early");
    let event = client
        .events()
        .recv_timeout(TEST_TIMEOUT)
        .expect("the client tells");
    assert!(
        matches!(
            event,
            Event::Disconnected {
                retry_in: Some(_),
                ..
            }
        ),
        "{event:?}"
    );
    let server = again(port);
    assert_eq!(server.next_message()["content"], "early");
    sent.accepted(TEST_TIMEOUT).expect("the server accepts it");
}

/// A connection that breaks between a message and its receipt: the same message comes again
/// under its id, and Claude gets it once. What was said meanwhile comes in order.
#[test]
fn gap_after_reconnect_is_filled_in_order_and_once() {
    let mut server = Server::start(&[]);
    let between = between(server.address);
    let mut options = options(&server);
    options.url = format!("ws://{}", between.address);
    let client = Client::connect(options).expect("the client starts");
    welcomed(&client);
    let first = client.send("one");
    assert_eq!(server.next_message()["content"], "one");
    first.accepted(TEST_TIMEOUT).expect("the server accepts it");

    between.cut();
    let mut bob = App::connect(&server, "s1");
    bob.send(&json!({ "type": "message", "content": "two", "user": "bob" }));
    assert_eq!(server.next_message()["content"], "two");
    reply(&mut server, "three");
    let second = client.send("four");
    between.mend();
    assert_eq!(said(&client), "bob: two");
    assert_eq!(said(&client), "claude: three");
    assert_eq!(server.next_message()["content"], "four");
    second
        .accepted(TEST_TIMEOUT)
        .expect("the server accepts it");
    first.answered(TEST_TIMEOUT).expect("somebody has told");
    reply(&mut server, "five");
    assert_eq!(said(&client), "claude: five");
    assert_eq!(
        server.request("ping", &json!({})),
        json!({}),
        "nothing came twice"
    );
}

/// Another server has taken its place: what had no receipt is sent to that one.
#[test]
fn restarted_server_gets_unacknowledged_messages() {
    let server = Server::start(&[]);
    let port = server.address.port();
    let client = connect(&server);
    let first = client.send("one");
    assert_eq!(server.next_message()["content"], "one");
    first.accepted(TEST_TIMEOUT).expect("the server accepts it");
    drop(server);
    loop {
        match client
            .events()
            .recv_timeout(TEST_TIMEOUT)
            .expect("the client tells")
        {
            Event::Disconnected { retry_in, .. } => break assert!(retry_in.is_some()),
            Event::Message(_) | Event::Refused(_) | Event::Gap { .. } => {}
        }
    }
    let second = client.send("two");
    let mut server = again(port);
    assert_eq!(server.next_message()["content"], "two");
    second
        .accepted(TEST_TIMEOUT)
        .expect("the server accepts it");
    reply(&mut server, "both");
    assert_eq!(said(&client), "claude: both");
    // The new server doesn't know of the first.
    let lost = first.answered(TEST_TIMEOUT);
    assert!(matches!(lost, Err(Error::Lost(_))), "{lost:?}");
    second.answered(TEST_TIMEOUT).expect("the client tells");
}

#[test]
fn rejected_message_has_code_and_reason() {
    let server = Server::start(&["--max-message", "1KiB"]);
    let mut options = options(&server);
    options.queue_limit = 1;
    let client = Client::connect(options).expect("the client starts");
    welcomed(&client);
    let code = |error| match error {
        Err(Error::Rejected { code, why, .. }) => (code, why),
        other => panic!("{other:?}"),
    };
    let (too_large, why) = code(client.send("x".repeat(2_000)).accepted(TEST_TIMEOUT));
    assert_eq!(too_large, Some(ErrorCode::TooLarge));
    assert!(why.contains("1024"), "{why}");
    let (invalid, _) = code(client.send("").accepted(TEST_TIMEOUT));
    assert_eq!(invalid, Some(ErrorCode::InvalidMessage));
}

/// The app is told at once, and not after the next attempt to connect.
#[test]
fn message_beyond_queue_without_server_is_rejected_at_once() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    drop(listener);
    let client = Client::connect(Options {
        queue_limit: 0,
        reconnect_delay: Duration::from_secs(3_600),
        max_reconnect_delay: Duration::from_secs(3_600),
        ..Options::new(format!("ws://{address}"))
    });
    let client = client.expect("the client starts");
    let event = client.events().recv_timeout(TEST_TIMEOUT);
    assert!(matches!(event, Ok(Event::Disconnected { .. })), "{event:?}");
    client.send("too much");
    let message = client.recv_timeout(TEST_TIMEOUT).expect("the client tells");
    assert!(
        matches!(&message, ServerMessage::Error { code, .. } if *code == ErrorCode::QueueFull),
        "{message:?}"
    );
}

fn refusal(status: u16, code: &str, message: &str) -> Refusal {
    Refusal {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

/// What a client is told about its first attempt to connect.
struct Attempt {
    refusal: Option<Refusal>,
    reason: String,
    retry_in: Option<Duration>,
}

fn first_attempt(client: &Client) -> Attempt {
    let mut refusal = None;
    loop {
        let event = client.events().recv_timeout(TEST_TIMEOUT);
        match event.expect("the client tells") {
            Event::Refused(refused) => refusal = Some(refused),
            Event::Disconnected {
                code,
                reason,
                retry_in,
            } => {
                assert_eq!(code, refusal.as_ref().map(|refusal| refusal.status));
                return Attempt {
                    refusal,
                    reason,
                    retry_in,
                };
            }
            event @ (Event::Message(_) | Event::Gap { .. }) => panic!("{event:?}"),
        }
    }
}

/// Returns the address of a server that answers each connection with these parts of a response, one by one.
fn answering(parts: &'static [&'static str]) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("any port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            client.set_nodelay(true).expect("it is a TCP socket");
            for part in parts {
                // A client that has gone takes no more.
                let _ = client.write_all(part.as_bytes());
                thread::yield_now();
            }
            // What was not read would reset the connection.
            let _ = std::io::copy(&mut client, &mut std::io::sink());
        }
    });
    format!("ws://{address}")
}

#[test]
fn refused_client_tells_why_and_ends() {
    let state = State::new();
    let token = state.add("shed", "sender", Some("shed-1"));
    let server = Server::start(&["--state-dir", state.path()]);
    let cases = [
        (None, 401, "unauthorized", "a token is needed here"),
        (Some("guessed"), 401, "unauthorized", "is not known here"),
        (Some(&*token), 403, "forbidden_session", "\"shed-1\""),
    ];
    for (token, status, code, part) in cases {
        let client = Client::connect(Options {
            token: token.map(str::to_owned),
            ..options(&server)
        });
        let client = client.expect("the client starts");
        let early = client.send("early");
        let told = first_attempt(&client);
        let refusal = told.refusal.expect("it is refused");
        assert_eq!((refusal.status, &*refusal.code), (status, code));
        assert!(refusal.message.contains(part), "{refusal:?}");
        assert_eq!((&told.reason, told.retry_in), (&refusal.message, None));

        let refused = Error::Refused(refusal);
        assert_eq!(client.recv().err().as_ref(), Some(&refused));
        for sent in [early, client.send("late")] {
            assert_eq!(sent.answered(TEST_TIMEOUT).err().as_ref(), Some(&refused));
        }
        let history = client.fetch_history(1, None, None).answer(TEST_TIMEOUT);
        assert_eq!(history.err().as_ref(), Some(&refused));
        let sessions = client.fetch_sessions().answer(TEST_TIMEOUT);
        assert_eq!(sessions.err(), Some(refused));
    }
}

/// What a proxy says in between, and a body that comes after its head.
#[test]
fn refusal_of_any_server_is_told_and_tried_again() {
    let page = "the server answers with the HTTP status";
    let cases: [(&[&str], Refusal, u64); 4] = [
        (
            &[
                "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n",
                "<html>",
            ],
            refusal(502, "http_502", &format!("{page} 502")),
            0,
        ),
        (
            &[
                "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 34\r\n\r\n",
                "{\"code\":\"busy\",",
                "\"message\":\"full now\"}",
            ],
            refusal(503, "busy", "full now"),
            7,
        ),
        (
            &["HTTP/1.1 429 Slow\r\nRetry-After: tomorrow\r\nContent-Length: 2\r\n\r\n{}"],
            refusal(429, "http_429", &format!("{page} 429")),
            0,
        ),
        (
            &["HTTP/1.1 404 Gone\r\nContent-Length: 15\r\n\r\n{\"error\":\"none\"}"],
            refusal(404, "http_404", "none"),
            0,
        ),
    ];
    for (parts, expected, wait) in cases {
        let client = Client::connect(Options {
            reconnect_delay: Duration::ZERO,
            ..Options::new(answering(parts))
        });
        let told = first_attempt(&client.expect("the client starts"));
        assert_eq!(told.refusal, Some(expected));
        assert_eq!(told.retry_in, Some(Duration::from_secs(wait)));
    }
}

#[test]
fn server_that_does_not_answer_in_time_counts_as_lost() {
    // The first says nothing, the second not why it refuses.
    let silent: [&[&str]; 2] = [
        &[],
        &["HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n"],
    ];
    for (parts, status) in silent.into_iter().zip([None, Some(502)]) {
        let client = Client::connect(Options {
            connect_timeout: Duration::from_millis(20),
            ..Options::new(answering(parts))
        });
        let told = first_attempt(&client.expect("the client starts"));
        assert_eq!(told.refusal.map(|refusal| refusal.status), status);
        assert!(told.retry_in.is_some(), "{}", told.reason);
    }
}

/// 4401 and 401 end it: no other attempt would help.
#[test]
fn client_whose_token_is_removed_ends() {
    let state = State::new();
    let token = state.add("ann", "operator", None);
    let server = Server::start(&["--state-dir", state.path()]);
    let client = Client::connect(Options {
        token: Some(token),
        ..options(&server)
    });
    let client = client.expect("the client starts");
    welcomed(&client);
    let sent = client.send("hi");
    sent.accepted(TEST_TIMEOUT).expect("the server accepts it");
    state.add("bob", "operator", None);
    state.remove("ann");
    let end = client.iter().count();
    assert!(end < 10, "{end}");
    for sent in [sent, client.send("more")] {
        match sent.answered(TEST_TIMEOUT) {
            Err(Error::Refused(refusal)) => assert_eq!(refusal.status, 401),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn full_receive_capacity_drops_oldest_events_only() {
    let mut server = Server::start(&[]);
    let client = Client::connect(Options {
        receive_capacity: 2,
        ..options(&server)
    });
    let client = client.expect("the client starts");
    let sent = client.send("hi");
    server.next_message();
    for text in ["one", "two", "three"] {
        reply(&mut server, text);
    }
    sent.answered(TEST_TIMEOUT)
        .expect("receipts come all the same");
    let last = client.send("last");
    server.next_message();
    last.accepted(TEST_TIMEOUT).expect("the server accepts it");
    assert!(client.dropped() > 0);
    assert!(client.events().len() <= 2);
}

/// A wire between client and server that can be cut.
pub struct Between {
    pub address: std::net::SocketAddr,
    whole: std::sync::Arc<std::sync::atomic::AtomicBool>,
    wires: std::sync::Arc<parking_lot::Mutex<Vec<std::net::TcpStream>>>,
}

impl Between {
    pub fn cut(&self) {
        self.whole.store(false, std::sync::atomic::Ordering::SeqCst);
        for wire in self.wires.lock().drain(..) {
            // It may be gone already.
            let _ = wire.shutdown(std::net::Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.whole.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

pub fn between(server: std::net::SocketAddr) -> Between {
    use std::net::TcpStream;
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("any port");
    let address = listener.local_addr().expect("it is bound");
    let between = Between {
        address,
        whole: Default::default(),
        wires: Default::default(),
    };
    between.mend();
    let (whole, wires) = (between.whole.clone(), between.wires.clone());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            if !whole.load(std::sync::atomic::Ordering::SeqCst) {
                continue;
            }
            let server = TcpStream::connect(server).expect("it listens");
            let both = [(&client, &server), (&server, &client)];
            for (from, to) in both.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
                std::thread::spawn(move || {
                    // It ends when it is cut.
                    let _ = std::io::copy(&mut from, &mut to);
                });
            }
            wires.lock().extend([client, server]);
        }
    });
    between
}
