//! What holds for whatever comes in: the head of an HTTP request, the lines of Claude
//! Code, the messages of apps, and a hub in which anything happens in any order.

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

/// Any JSON, not too deep.
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
    fn a_head_is_understood_as_it_was_meant(
        method in "[A-Z]{1,9}",
        path in "/[a-zA-Z0-9/._~%?=&+-]{0,40}",
        headers in vec(("[a-zA-Z][a-zA-Z0-9-]{0,15}", "[!-~]([ -~]{0,20}[!-~])?"), 0..20),
        rest in any::<Vec<u8>>(),
    ) {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("{method} {path} HTTP/1.1\r\n{}\r\n", lines.collect::<String>());
        let bytes = [head.as_bytes(), &rest].concat();
        let (request, length) = parse_head(&bytes).expect("it is right").expect("it is whole");
        prop_assert_eq!(length, head.len());
        prop_assert_eq!(request.method().as_str(), method);
        prop_assert_eq!(request.uri().to_string(), path);
        prop_assert_eq!(request.headers().len(), headers.len());
        for (name, value) in &headers {
            let mut values = request.headers().get_all(name).iter();
            prop_assert!(values.any(|other| other.as_bytes() == value.as_bytes()));
        }
        // A part of it is neither wrong nor whole.
        for length in 0..head.len() {
            prop_assert!(matches!(parse_head(&head.as_bytes()[..length]), Ok(None)));
        }
    }

    #[test]
    fn no_bytes_are_too_odd_for_a_head(start in select(vec!["", "GET / HTTP/1.1\r\n", "GET "]), bytes in any::<Vec<u8>>()) {
        let bytes = [start.as_bytes(), &bytes].concat();
        if let Ok(Some((_, length))) = parse_head(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }
}

// ---- The lines of Claude Code ----

proptest! {
    #[test]
    fn lines_come_out_as_they_went_in(
        lines in vec(vec(any::<u8>().prop_filter("no line end", |byte| *byte != b'\n'), 0..40), 0..20),
        max in 1_usize..40,
        buffer in 1_usize..50,
    ) {
        let bytes = lines.join(&b'\n');
        let mut reader = LineReader::new(BufReader::with_capacity(buffer, &bytes[..]), max);
        let mut seen = Vec::new();
        while let Some(line) = reader.next_line().expect("memory does not fail") {
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
    fn a_request_is_understood_and_answered_under_its_id(
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
            return Err(TestCaseError::fail("it is a request"));
        };
        prop_assert_eq!(asked, method);
        if let Some(params) = params.filter(|params| !params.is_null()) {
            prop_assert_eq!(given, params.to_string());
        }
        let mut answer = Vec::new();
        rpc::write_result(&mut answer, &kept, &json!({}));
        let answer: Value = serde_json::from_slice(&answer).expect("it is JSON");
        prop_assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
    }

    #[test]
    fn whatever_is_no_request_has_an_error(value in any_json(), bytes in any::<Vec<u8>>()) {
        let is_call = |value: &Value| value["jsonrpc"] == "2.0";
        if !is_call(&value) {
            prop_assert!(rpc::parse(value.to_string().as_bytes()).is_err());
        }
        if serde_json::from_slice::<Value>(&bytes).is_err() {
            let rpc::Malformed { error, .. } = rpc::parse(&bytes).expect_err("it is no JSON");
            prop_assert_eq!(error.code, rpc::PARSE_ERROR);
        }
    }
}

// ---- The messages of apps ----

/// A name that may be given to a session.
const NAME: &str = "[^\\p{Cc}\u{2028}\u{2029}]{1,20}";

proptest! {
    #[test]
    fn a_message_is_understood_as_it_was_meant(
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
            return Err(TestCaseError::fail("it is a message"));
        };
        prop_assert_eq!(&*message.content, content);
        prop_assert_eq!(message.session.as_ref().map(protocol::SessionId::as_str), session.as_deref());
        prop_assert_eq!(message.user.as_deref(), user.as_deref());
        prop_assert_eq!(message.id.as_deref(), id.as_deref());
    }

    /// Whatever stands in a field that can't stand there, the refusal names that field.
    #[test]
    fn a_wrong_field_is_named(
        (kind, field) in select(vec![
            ("message", "content"), ("message", "session_id"), ("message", "user"), ("message", "id"),
            ("message", "ts"), ("fetch_history", "session_id"), ("permission_response", "request_id"),
        ]),
        wrong in any_json().prop_filter("wrong", |value| !value.is_string() && !value.is_null()),
    ) {
        let mut frame = json!({ "type": kind, "content": "hi", "request_id": "abcde", "allowed": true });
        frame[field] = wrong;
        let refusal = protocol::parse(&frame.to_string(), 128).expect_err("it is wrong");
        prop_assert_eq!(refusal.code, ErrorCode::InvalidMessage);
        let named = format!("\"{field}\" must be a string, not ");
        prop_assert!(refusal.message.starts_with(&named), "{}", refusal.message);
    }

    #[test]
    fn whatever_is_no_message_has_a_refusal(value in any_json(), text in any::<String>()) {
        let refusal = protocol::parse(&value.to_string(), 128).expect_err("it has no type");
        prop_assert_eq!(refusal.code, ErrorCode::InvalidMessage);
        if serde_json::from_str::<Value>(&text).is_err() {
            let refusal = protocol::parse(&text, 128).expect_err("it is no JSON");
            prop_assert_eq!(refusal.code, ErrorCode::InvalidJson);
        }
    }
}

// ---- The hub ----

const CLIENTS: usize = 4;
const SESSIONS: [&str; 3] = ["s0", "s1", "s2"];

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Joins(usize, Index),
    Leaves(usize),
    Breaks(usize),
    /// Says one of two things under one of a few ids.
    Says(usize, Index, u8, bool),
    Replies(Index),
    /// Claude Code takes what there is for it.
    Takes,
    /// Seconds pass.
    After(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        2 => (client.clone(), any::<Index>()).prop_map(|(who, place)| Step::Joins(who, place)),
        1 => client.clone().prop_map(Step::Leaves),
        1 => client.clone().prop_map(Step::Breaks),
        6 => (client, any::<Index>(), 0..8_u8, any::<bool>())
            .prop_map(|(who, place, id, word)| Step::Says(who, place, id, word)),
        2 => any::<Index>().prop_map(Step::Replies),
        3 => Just(Step::Takes),
        1 => (0..4_u64).prop_map(Step::After),
    ]
}

/// What must be so, kept beside the hub.
#[derive(Default)]
struct Model {
    /// Everyone who is connected, by the name of the connection, and where it takes part.
    members: BTreeMap<String, BTreeSet<&'static str>>,
    /// The connection of each client; it has a new name each time.
    names: HashMap<usize, String>,
    /// How many connections there were.
    connections: usize,
    /// What stands under an id of a session, and on which connection it was said last.
    said: BTreeMap<(&'static str, u8), (bool, String)>,
    /// The last seq of each session.
    seqs: BTreeMap<&'static str, u64>,
    /// What Claude Code is to get, in order.
    expected: Vec<String>,
    got: Vec<String>,
    /// How often each connection was told that a message was accepted.
    accepted: BTreeMap<(String, String), usize>,
}

impl Model {
    fn play(&mut self, step: &Step, stage: &mut HubStage) {
        match step {
            Step::Joins(who, place) if !self.names.contains_key(who) => {
                let session = *place.get(&SESSIONS);
                self.connections += 1;
                let name = format!("client {}", self.connections);
                stage.joins(&name, session, None);
                self.members.insert(name.clone(), [session].into());
                self.names.insert(*who, name);
                self.seqs.entry(session).or_default();
            }
            Step::Leaves(who) | Step::Breaks(who) => {
                let Some(name) = self.names.remove(who) else {
                    return;
                };
                self.hear(&name, stage);
                match step {
                    Step::Leaves(_) => stage.leaves(&name),
                    _ => stage.breaks(&name),
                }
                self.members.remove(&name);
            }
            Step::Says(who, place, id, word) => {
                let Some(name) = self.names.get(who).cloned() else {
                    return;
                };
                let session = *place.get(&SESSIONS);
                let content = format!("{session} {id} {word}");
                let frame = json!({ "type": "message", "session_id": session, "content": content, "id": id.to_string() });
                stage.says(&name, &frame.to_string());
                self.members
                    .entry(name.clone())
                    .or_default()
                    .insert(session);
                match self.said.get_mut(&(session, *id)) {
                    None => {
                        self.said.insert((session, *id), (*word, name));
                        *self.seqs.entry(session).or_default() += 1;
                        self.expected.push(content);
                    }
                    Some(known) if known.0 == *word => known.1 = name,
                    Some(_) => {}
                }
            }
            Step::Replies(place) => {
                let session = *place.get(&SESSIONS);
                let answer = stage.calls("reply", json!({ "chat_id": session, "text": "yes" }));
                match self.seqs.get_mut(session) {
                    Some(seq) => *seq += 1,
                    None => assert!(answer.starts_with("there is no session"), "{answer}"),
                }
            }
            Step::Takes => {
                while let Some(params) = stage.next_notification() {
                    self.got
                        .push(params["content"].as_str().expect("a message").to_owned());
                }
            }
            Step::After(seconds) => stage.after(Duration::from_secs(*seconds)),
            Step::Joins(..) => {}
        }
    }

    /// Looks at everything that a client has got: it is for nobody else.
    fn hear(&mut self, name: &str, stage: &mut HubStage) {
        let mut last = BTreeMap::new();
        while let Some(message) = stage.gets(name) {
            let session = message["session_id"]
                .as_str()
                .expect("it has one")
                .to_owned();
            assert!(
                self.members[name].contains(&*session),
                "{name} is not in it: {message}"
            );
            let seq = message["seq"].as_u64();
            if message["type"] == "reply" || message["type"] == "user_message" {
                let before = last.insert(session.clone(), seq);
                assert!(before < Some(seq), "{message} comes too late");
            }
            if message["state"] == "accepted" || message["state"] == "answered" {
                let id = format!("{session} {}", message["id"].as_str().expect("it has one"));
                *self.accepted.entry((name.to_owned(), id)).or_default() += 1;
            }
        }
    }

    /// When all is over, everyone has what is theirs.
    fn conclude(mut self, stage: &mut HubStage) {
        self.play(&Step::Takes, stage);
        assert_eq!(
            self.got, self.expected,
            "each message is handed over once, in order"
        );
        let here: Vec<String> = self.names.values().cloned().collect();
        for name in &here {
            self.hear(name, stage);
        }
        for ((session, id), (_, name)) in &self.said {
            let told = self
                .accepted
                .get(&(name.clone(), format!("{session} {id}")));
            assert!(
                told.is_some() || !here.contains(name),
                "{name} never heard of {session} {id}"
            );
        }
        let Some(name) = here.first() else {
            return;
        };
        for (session, last) in &self.seqs {
            let mut seq = 0;
            let frame = json!({ "type": "fetch_history", "session_id": session, "limit": 100 });
            stage.says(name, &frame.to_string());
            let history = stage.gets(name).expect("an answer");
            for item in history["messages"].as_array().expect("a list") {
                let next = item["seq"].as_u64().expect("a number");
                assert!(seq == 0 || next == seq + 1, "{history} has a gap");
                seq = next;
            }
            assert_eq!(seq, *last, "{session}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_each_message_arrives_once(steps in vec(step(), 0..60)) {
        let mut stage = HubStage::new();
        let mut model = Model::default();
        for step in &steps {
            model.play(step, &mut stage);
        }
        model.conclude(&mut stage);
    }
}
