//! Properties that hold for any input: the head of an HTTP request, the lines of Claude Code,
//! the messages of clients, and a hub with any inputs in any order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::BufReader;
use std::time::Duration;

use claude_socket::agent::line_reader::{Line, LineReader};
use claude_socket::agent::rpc::{self, Envelope};
use claude_socket::protocol::{self, ClientMessage, ErrorCode};
use claude_socket::socket::http::parse_head;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::hub::HubStage;
use crate::story::Stage;

/// Returns a strategy for any JSON, not too deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

// ---- The HTTP head ----

proptest! {
    #[test]
    fn valid_head_is_parsed_to_its_parts(
        method in "[A-Z]{1,9}",
        path in "/[a-zA-Z0-9/._~%?=&+-]{0,40}",
        headers in vec(("[a-zA-Z][a-zA-Z0-9-]{0,15}", "[!-~]([ -~]{0,20}[!-~])?"), 0..20),
        rest in any::<Vec<u8>>(),
    ) {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("{method} {path} HTTP/1.1\r\n{}\r\n", lines.collect::<String>());
        let bytes = [head.as_bytes(), &rest].concat();
        let (request, length) = parse_head(&bytes).expect("the head is valid").expect("the head is complete");
        prop_assert_eq!(length, head.len());
        prop_assert_eq!(request.method().as_str(), method);
        prop_assert_eq!(request.uri().to_string(), path);
        prop_assert_eq!(request.headers().len(), headers.len());
        for (name, value) in &headers {
            let mut values = request.headers().get_all(name).iter();
            prop_assert!(values.any(|other| other.as_bytes() == value.as_bytes()));
        }
        // Each prefix is incomplete and not an error.
        for length in 0..head.len() {
            prop_assert!(matches!(parse_head(&head.as_bytes()[..length]), Ok(None)));
        }
    }

    #[test]
    fn random_bytes_never_exceed_the_head(start in select(vec!["", "GET / HTTP/1.1\r\n", "GET "]), bytes in any::<Vec<u8>>()) {
        let bytes = [start.as_bytes(), &bytes].concat();
        if let Ok(Some((_, length))) = parse_head(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }
}

// ---- The lines of Claude Code ----

proptest! {
    #[test]
    fn line_reader_returns_every_line_below_the_limit(
        lines in vec(vec(any::<u8>().prop_filter("a line end", |byte| *byte != b'\n'), 0..40), 0..20),
        max in 1_usize..40,
        buffer in 1_usize..50,
    ) {
        let bytes = lines.join(&b'\n');
        let mut reader = LineReader::new(BufReader::with_capacity(buffer, &bytes[..]), max);
        let mut seen = Vec::new();
        while let Some(line) = reader.next_line().expect("reading from memory does not fail") {
            seen.push(match line {
                Line::Complete(line) => Some(line.to_vec()),
                Line::TooLong => None,
            });
        }
        let fits = |line: &Vec<u8>| (line.len() < max).then(|| line.clone());
        let is_blank = |line: &Vec<u8>| line.len() < max && line.trim_ascii().is_empty();
        let expected: Vec<_> = lines.iter().filter(|line| !is_blank(line)).map(fits).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn request_is_parsed_and_answered_with_its_id(
        id in prop_oneof![any::<i64>().prop_map(Value::from), any::<String>().prop_map(Value::from)],
        method in any::<String>(),
        params in option::of(any_json()),
        more in any_json(),
    ) {
        let mut message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "more": more });
        if let Some(params) = &params {
            message["params"] = params.clone();
        }
        let line = message.to_string();
        let Ok(Envelope::Request { id: kept, method: asked, params: given }) = rpc::parse(line.as_bytes()) else {
            return Err(TestCaseError::fail("the line is a request"));
        };
        prop_assert_eq!(asked, method);
        if let Some(params) = params.filter(|params| !params.is_null()) {
            prop_assert_eq!(given, params.to_string());
        }
        let mut answer = Vec::new();
        rpc::write_result(&mut answer, &kept, &json!({}));
        let answer: Value = serde_json::from_slice(&answer).expect("the response is JSON");
        prop_assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
    }

    #[test]
    fn invalid_request_is_an_error(value in any_json(), bytes in any::<Vec<u8>>()) {
        let is_call = |value: &Value| value["jsonrpc"] == "2.0";
        if !is_call(&value) {
            prop_assert!(rpc::parse(value.to_string().as_bytes()).is_err());
        }
        if serde_json::from_slice::<Value>(&bytes).is_err() {
            let rpc::Malformed { error, .. } = rpc::parse(&bytes).expect_err("the input is not JSON");
            prop_assert_eq!(error.code, rpc::PARSE_ERROR);
        }
    }
}

// ---- The messages of clients ----

/// Matches valid session ids and user names.
const NAME: &str = "[^\\p{Cc}\u{2028}\u{2029}]{1,20}";

proptest! {
    #[test]
    fn valid_message_is_parsed_to_its_fields(
        content in ".{1,200}",
        session in option::of(NAME),
        user in option::of(NAME),
        id in option::of(NAME),
        more in any_json(),
    ) {
        let frame = json!({
            "type": "message", "content": content, "session_id": session, "user": user, "id": id, "more": more,
        });
        let Ok(ClientMessage::Message(message)) = protocol::parse(&frame.to_string(), 20) else {
            return Err(TestCaseError::fail("the frame is a message"));
        };
        prop_assert_eq!(&*message.content, content);
        prop_assert_eq!(message.session.as_ref().map(protocol::SessionId::as_str), session.as_deref());
        prop_assert_eq!(message.user.as_deref(), user.as_deref());
        prop_assert_eq!(message.id.as_deref(), id.as_deref());
    }

    /// A field of the wrong type is named in the error.
    #[test]
    fn field_of_wrong_type_is_named_in_the_error(
        (kind, field) in select(vec![
            ("message", "content"), ("message", "session_id"), ("message", "user"), ("message", "id"),
            ("message", "ts"), ("fetch_history", "session_id"), ("permission_response", "request_id"),
        ]),
        wrong in any_json().prop_filter("wrong", |value| !value.is_string() && !value.is_null()),
    ) {
        let mut frame = json!({ "type": kind, "content": "hi", "request_id": "abcde", "allowed": true });
        frame[field] = wrong;
        let rejection = protocol::parse(&frame.to_string(), 128).expect_err("the field has the wrong type");
        prop_assert_eq!(rejection.code, ErrorCode::InvalidMessage);
        let named = format!("\"{field}\" must be a string, not ");
        prop_assert!(rejection.message.starts_with(&named), "{}", rejection.message);
    }

    #[test]
    fn frame_without_type_is_rejected(value in any_json(), text in any::<String>()) {
        let rejection = protocol::parse(&value.to_string(), 128).expect_err("the frame has no type");
        prop_assert_eq!(rejection.code, ErrorCode::InvalidMessage);
        if serde_json::from_str::<Value>(&text).is_err() {
            let rejection = protocol::parse(&text, 128).expect_err("the input is not JSON");
            prop_assert_eq!(rejection.code, ErrorCode::InvalidJson);
        }
    }
}

// ---- The hub ----

const CLIENTS: usize = 4;
const SESSIONS: [&str; 3] = ["s0", "s1", "s2"];

/// An input of the hub.
#[derive(Clone, Debug)]
enum Step {
    Connect(usize, Index),
    Disconnect(usize),
    LoseConnection(usize),
    /// Sends one of two texts under one of a few ids.
    Send(usize, Index, u8, bool),
    Reply(Index),
    /// Claude Code reads all its notifications.
    ReadAgent,
    /// That many seconds pass.
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        2 => (client.clone(), any::<Index>()).prop_map(|(client, place)| Step::Connect(client, place)),
        1 => client.clone().prop_map(Step::Disconnect),
        1 => client.clone().prop_map(Step::LoseConnection),
        6 => (client, any::<Index>(), 0..8_u8, any::<bool>())
            .prop_map(|(client, place, id, text)| Step::Send(client, place, id, text)),
        2 => any::<Index>().prop_map(Step::Reply),
        3 => Just(Step::ReadAgent),
        1 => (0..4_u64).prop_map(Step::Advance),
    ]
}

/// What the hub must do, computed beside it.
#[derive(Default)]
struct Model {
    /// The sessions of each open connection, by its name.
    members: BTreeMap<String, BTreeSet<&'static str>>,
    /// The connection of each client. Each connection has a name of its own.
    names: HashMap<usize, String>,
    /// The number of connections so far.
    connections: usize,
    /// The text under each id of a session, and the connection that sent it last.
    sent: BTreeMap<(&'static str, u8), (bool, String)>,
    /// The last seq of each session.
    seqs: BTreeMap<&'static str, u64>,
    /// What Claude Code must receive, in order.
    expected: Vec<String>,
    got: Vec<String>,
    /// How often each connection was sent `accepted` for a message.
    accepted: BTreeMap<(String, String), usize>,
}

impl Model {
    fn play(&mut self, step: &Step, stage: &mut HubStage) {
        match step {
            Step::Connect(client, place) if !self.names.contains_key(client) => {
                let session = *place.get(&SESSIONS);
                self.connections += 1;
                let name = format!("client {}", self.connections);
                stage.connect(&name, session, None);
                self.members.insert(name.clone(), [session].into());
                self.names.insert(*client, name);
                self.seqs.entry(session).or_default();
            }
            Step::Disconnect(client) | Step::LoseConnection(client) => {
                let Some(name) = self.names.remove(client) else {
                    return;
                };
                self.receive(&name, stage);
                match step {
                    Step::Disconnect(_) => stage.disconnect(&name),
                    _ => stage.lose_connection(&name),
                }
                self.members.remove(&name);
            }
            Step::Send(client, place, id, text) => {
                let Some(name) = self.names.get(client).cloned() else {
                    return;
                };
                let session = *place.get(&SESSIONS);
                let content = format!("{session} {id} {text}");
                let frame = json!({ "type": "message", "session_id": session, "content": content, "id": id.to_string() });
                stage.send_frame(&name, &frame.to_string());
                self.members
                    .entry(name.clone())
                    .or_default()
                    .insert(session);
                match self.sent.get_mut(&(session, *id)) {
                    None => {
                        self.sent.insert((session, *id), (*text, name));
                        *self.seqs.entry(session).or_default() += 1;
                        self.expected.push(content);
                    }
                    // Receipts go to the newest connection that has sent it and is still there.
                    Some(known) if known.0 == *text => {
                        let number = |name: &str| -> u32 {
                            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
                            digits.parse().expect("a name ends with a number")
                        };
                        if number(&name) > number(&known.1)
                            || !self.names.values().any(|here| *here == known.1)
                        {
                            known.1 = name;
                        }
                    }
                    Some(_) => {}
                }
            }
            Step::Reply(place) => {
                let session = *place.get(&SESSIONS);
                let answer = stage.call_tool("reply", json!({ "chat_id": session, "text": "yes" }));
                match self.seqs.get_mut(session) {
                    Some(seq) => *seq += 1,
                    None => assert!(answer.starts_with("there is no session"), "{answer}"),
                }
            }
            Step::ReadAgent => {
                while let Some(params) = stage.next_notification() {
                    self.got.push(
                        params["content"]
                            .as_str()
                            .expect("a notification has content")
                            .to_owned(),
                    );
                }
            }
            Step::Advance(seconds) => stage.advance_clock(Duration::from_secs(*seconds)),
            Step::Connect(..) => {}
        }
    }

    /// Checks everything that a client has received since the last call.
    fn receive(&mut self, name: &str, stage: &mut HubStage) {
        let mut last = BTreeMap::new();
        while let Some(message) = stage.next_frame(name) {
            let session = message["session_id"]
                .as_str()
                .expect("a message has a session_id")
                .to_owned();
            assert!(
                self.members[name].contains(&*session),
                "{name} is not in the session of {message}"
            );
            let seq = message["seq"].as_u64();
            if message["type"] == "reply" || message["type"] == "user_message" {
                let before = last.insert(session.clone(), seq);
                assert!(before < Some(seq), "{message} is out of order");
            }
            if message["state"] == "accepted" || message["state"] == "answered" {
                let id = format!(
                    "{session} {}",
                    message["id"].as_str().expect("a delivery has an id")
                );
                *self.accepted.entry((name.to_owned(), id)).or_default() += 1;
            }
        }
    }

    /// Checks that everybody has received everything in the end.
    fn conclude(mut self, stage: &mut HubStage) {
        self.play(&Step::ReadAgent, stage);
        assert_eq!(
            self.got, self.expected,
            "Claude Code receives each message once, in order"
        );
        let here: Vec<String> = self.names.values().cloned().collect();
        for name in &here {
            self.receive(name, stage);
        }
        for ((session, id), (_, name)) in &self.sent {
            let accepted = self
                .accepted
                .get(&(name.clone(), format!("{session} {id}")));
            assert!(
                accepted.is_some() || !here.contains(name),
                "{name} never got the receipt of {session} {id}"
            );
        }
        let Some(name) = here.first() else {
            return;
        };
        for (session, last) in &self.seqs {
            let mut seq = 0;
            let frame = json!({ "type": "fetch_history", "session_id": session, "limit": 100 });
            stage.send_frame(name, &frame.to_string());
            let history = stage.next_frame(name).expect("fetch_history is answered");
            // Answers that nobody has received are kept longer than what was said after them.
            let complete_from = history["truncated_before"].as_u64().unwrap_or(0);
            for item in history["messages"]
                .as_array()
                .expect("history has a list of messages")
            {
                let next = item["seq"].as_u64().expect("each message has a seq");
                assert!(
                    seq == 0 || next == seq + 1 || seq < complete_from,
                    "{history} has a gap"
                );
                seq = next;
            }
            assert_eq!(seq, *last, "{session}");
        }
    }
}

proptest! {
    #[test]
    fn random_inputs_deliver_each_message_once(steps in vec(step(), 0..60)) {
        let mut stage = HubStage::new();
        let mut model = Model::default();
        for step in &steps {
            model.play(step, &mut stage);
        }
        model.conclude(&mut stage);
    }
}
