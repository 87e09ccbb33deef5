//! Plays `tests/stories/client`, whose README describes the lines.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, iter};

use serde_json::Map;

use super::*;
use crate::pending::Found;
use crate::protocol::{DEFAULT_LIMIT, HistoryItem, VerdictItem};

/// What the app may be told without the story's telling.
const OPTIONAL: [&str; 5] = ["welcome", "pong", "delivery", "error", "disconnected"];
/// The story's time at its beginning, in seconds since 1970.
const BEGINNING: u64 = 1_767_225_600;

#[test]
fn stories_of_clients() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/stories/client");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("the stories are there") {
        let path = entry.expect("a folder can be read").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&path).expect("a story is text");
        let mut stage: Option<Stage> = None;
        for (line, number) in text.lines().zip(1..) {
            if line.starts_with("# ") {
                count += 1;
                stage.replace(Stage::new()).into_iter().for_each(Stage::end);
            } else if !line.is_empty() {
                let stage = stage.as_mut().expect("a story has a title");
                stage.place = format!("{file}:{number}: {line}");
                stage.play(line);
            }
        }
        stage.into_iter().for_each(Stage::end);
    }
    assert!(count > 0);
}

struct Stage {
    place: String,
    options: Options,
    client: Option<Conversation>,
    start: Instant,
    now: Instant,
    frames: VecDeque<Value>,
    told: VecDeque<Value>,
    sent: HashMap<String, SentMessage>,
    /// What the app has asked for last.
    history: Option<Pending<Vec<HistoryItem>>>,
    sessions: Option<Pending<Sessions>>,
    verdicts: Option<Pending<Vec<VerdictItem>>>,
    found: Option<Pending<Vec<Found>>>,
    /// The client has left a silent server.
    left: bool,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            place: String::new(),
            options: Options {
                session: "s".to_owned(),
                user: "ann".to_owned(),
                ..Options::new("ws://x")
            },
            client: None,
            start: now,
            now,
            frames: VecDeque::new(),
            told: VecDeque::new(),
            sent: HashMap::new(),
            history: None,
            sessions: None,
            verdicts: None,
            found: None,
            left: false,
        }
    }

    /// Nothing may be left that the story doesn't tell.
    fn end(self) {
        let place = &self.place;
        assert_eq!(self.frames, [] as [Value; 0], "frames after {place}");
        let is_optional = |event: &&Value| !OPTIONAL.iter().any(|kind| event["type"] == *kind);
        let told: Vec<&Value> = self.told.iter().filter(is_optional).collect();
        assert!(told.is_empty(), "told after {place}: {told:?}");
        assert!(!self.left, "the client has left after {place}");
    }

    fn client(&mut self) -> &mut Conversation {
        let (options, now) = (&self.options, self.now);
        self.client
            .get_or_insert_with(|| Conversation::new(options.clone(), now))
    }

    fn play(&mut self, line: &str) {
        let (who, rest) = line.split_once(' ').expect("a line has a verb");
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match (who, verb) {
            ("option", name) => self.option(name, rest),
            ("server", "opens") => self.opens(),
            ("server", "welcomes") => self.welcomes(rest),
            ("server", ">") => self.server_sends(rest),
            ("server", "<") => {
                let frame = self.frames.pop_front();
                let frame = frame.unwrap_or_else(|| panic!("no frame: {}", self.place));
                self.compare(&frame, &json_of(rest));
            }
            ("server", "refuses") => self.refuses(&json_of(rest)),
            ("server", "breaks") => self.disconnects(Disconnect::because("lost")),
            ("server", "closes") => {
                let code = rest.parse().expect("a close code");
                self.disconnects(Disconnect::closed(code, "lost"));
            }
            ("app", "sends") => self.app_sends(rest),
            ("app", "fetches") => self.app_fetches(rest),
            ("app", "searches") => {
                let pending = self.found.insert(Pending::new()).clone();
                self.client()
                    .search(rest.into(), DEFAULT_LIMIT, None, pending);
            }
            ("app", "allows" | "denies") => {
                let (id, allowed) = (rest.to_owned(), verb == "allows");
                self.client().respond_to_permission(id, allowed);
            }
            ("app", "closes") => {
                let closed = Error::Ended("closed".to_owned());
                self.client().end(closed);
            }
            ("app", "<") => self.app_hears(rest),
            ("client", "leaves") => {
                assert!(std::mem::take(&mut self.left), "{}", self.place);
            }
            ("client", "gives") => assert_eq!(self.client().connect_at(), None, "{}", self.place),
            ("after", time) => self.after(humantime::parse_duration(time).expect("a duration")),
            (id, "is") => assert_eq!(self.state_of(id), rest, "{}", self.place),
            _ => panic!("unknown line: {}", self.place),
        }
        // It isn't made before its options are known.
        if who != "option" {
            self.collect();
        }
    }

    fn option(&mut self, name: &str, value: &str) {
        let options = &mut self.options;
        match name {
            "queue_limit" => options.queue_limit = value.parse().expect("a number"),
            "reconnect" => options.reconnect = value.parse().expect("true or false"),
            "heartbeat" => {
                options.heartbeat = humantime::parse_duration(value).expect("a duration");
            }
            _ => panic!("unknown option: {}", self.place),
        }
    }

    fn opens(&mut self) {
        let now = self.now;
        let at = self.client().connect_at();
        assert!(at.is_some_and(|at| at <= now), "{}", self.place);
        self.client().connected(now);
    }

    fn welcomes(&mut self, fields: &str) {
        let hello = self.frames.pop_front();
        assert_eq!(hello.expect("a frame")["type"], "hello", "{}", self.place);
        let mut welcome = json!({
            "type": "welcome", "server": "claude-socket", "version": "0", "role": "operator",
            "seq": 0, "created": "t1", "max_message": 1000,
            "host": { "name": "", "version": "", "ready": true },
        });
        let fields = json_of(fields);
        let fields = fields.as_object().expect("an object").clone();
        welcome.as_object_mut().expect("an object").extend(fields);
        self.frame(welcome);
    }

    fn server_sends(&mut self, rest: &str) {
        if let Some(text) = rest.strip_prefix("text ") {
            return self.client().handle_frame(text);
        }
        let (more, rest) = match rest.strip_prefix("more ") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let frame = match replies(rest) {
            Some(seqs) => {
                let item = |seq: u64| json!({ "role": "assistant", "seq": seq, "content": seq.to_string() });
                let items: Vec<Value> = seqs.map(item).collect();
                json!({ "type": "history", "messages": items, "more": more })
            }
            None => json_of(rest),
        };
        self.frame(frame);
    }

    fn frame(&mut self, mut frame: Value) {
        let object = frame.as_object_mut().expect("an object");
        object.entry("session_id").or_insert("s".into());
        complete(object);
        for item in object
            .get_mut("messages")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            complete(item.as_object_mut().expect("an object"));
        }
        self.client().handle_frame(&frame.to_string());
    }

    fn refuses(&mut self, refusal: &Value) {
        let at = self.client().connect_at();
        assert!(at.is_some_and(|at| at <= self.now), "{}", self.place);
        let (status, body) = match refusal.as_u64() {
            Some(status) => (status, "not JSON".to_owned()),
            None => {
                let status = refusal["status"].as_u64().expect("a status");
                (status, refusal.to_string())
            }
        };
        let retry_after = Duration::from_secs(refusal["retry_after"].as_u64().unwrap_or(0));
        let status = status.try_into().expect("a status has three digits");
        self.disconnects(Disconnect::refused(status, body.as_bytes(), retry_after));
    }

    fn disconnects(&mut self, disconnect: Disconnect) {
        let now = self.now;
        self.frames.clear();
        self.client().disconnected(disconnect, now, 1.0);
    }

    fn app_sends(&mut self, rest: &str) {
        let (id, content) = rest.split_once(' ').expect("an id and a text");
        let sent = SentMessage::new(id.to_owned());
        self.sent.insert(id.to_owned(), sent.clone());
        let ts = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGINNING) + (self.now - self.start);
        let message = Outgoing {
            sent,
            content: content.to_owned(),
            ts: humantime::format_rfc3339_millis(ts).to_string(),
        };
        self.client().send(message);
    }

    fn app_fetches(&mut self, rest: &str) {
        let words: Vec<&str> = rest.split(' ').collect();
        let number = |word: &&str| word.parse::<u64>().expect("a number");
        match words[..] {
            ["sessions"] => {
                let pending = self.sessions.insert(Pending::new()).clone();
                self.client().fetch_sessions(pending);
            }
            ["verdicts"] => {
                let pending = self.verdicts.insert(Pending::new()).clone();
                self.client().fetch_verdicts(DEFAULT_LIMIT, pending);
            }
            ["history", ref rest @ ..] => {
                let limit = rest.first().map(number).expect("a limit") as usize;
                let seq = rest.get(2).map(number);
                let (since, before) = match rest.get(1) {
                    Some(&"before") => (None, seq),
                    _ => (seq, None),
                };
                let pending = self.history.insert(Pending::new()).clone();
                self.client().fetch_history(limit, since, before, pending);
            }
            _ => panic!("unknown line: {}", self.place),
        }
    }

    fn app_hears(&mut self, rest: &str) {
        let wanted: Vec<Value> = match replies(rest) {
            Some(seqs) => seqs
                .map(|seq| json!({ "type": "reply", "seq": seq }))
                .collect(),
            None => vec![json_of(rest)],
        };
        for wanted in wanted {
            let is_skipped = |event: &Value| {
                event["type"] != wanted["type"]
                    && OPTIONAL.iter().any(|kind| event["type"] == *kind)
            };
            while self.told.front().is_some_and(is_skipped) {
                self.told.pop_front();
            }
            let event = self.told.pop_front();
            let event = event.unwrap_or_else(|| panic!("nothing is told: {}", self.place));
            self.compare(&event, &wanted);
        }
    }

    fn state_of(&self, id: &str) -> String {
        let state = match id {
            "history" => self.history.as_ref().map(answer_state),
            "sessions" => self.sessions.as_ref().map(answer_state),
            "verdicts" => self.verdicts.as_ref().map(answer_state),
            "search" => self.found.as_ref().map(found_state),
            _ => None,
        };
        if let Some(state) = state {
            return state;
        }
        let sent = self.sent.get(id).expect("it was sent");
        match sent.answered(Duration::ZERO) {
            Ok(_) => "answered".to_owned(),
            Err(Error::Rejected {
                code, retry_after, ..
            }) => {
                let code = code.expect("a code").as_str();
                let again = retry_after.map(|after| format!(" for {}s", after.as_secs()));
                format!("rejected {code}{}", again.unwrap_or_default())
            }
            Err(_) if sent.seen(Duration::ZERO).is_ok() => "seen".to_owned(),
            Err(Error::Lost(_)) => "lost".to_owned(),
            Err(_) if sent.accepted(Duration::ZERO).is_ok() => "accepted".to_owned(),
            Err(error) => failure(&error),
        }
    }

    fn after(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.client().heartbeat_at().filter(|at| *at <= until) {
            self.now = at;
            self.client().heartbeat(at);
            self.collect();
        }
        self.now = until;
    }

    /// Takes what the client does.
    fn collect(&mut self) {
        let outputs: Vec<Output> = iter::from_fn(|| self.client().next()).collect();
        for output in outputs {
            match output {
                Output::Frame(text) => self.frames.push_back(json_of(&text)),
                Output::Event(Event::Message(message)) => {
                    let message = serde_json::to_value(message).expect("it is JSON");
                    self.told.push_back(message);
                }
                Output::Event(Event::Gap { after, until }) => {
                    let gap = json!({ "type": "gap", "after": after, "until": until });
                    self.told.push_back(gap);
                }
                Output::Event(Event::Refused(refusal)) => {
                    let Refusal {
                        status,
                        code,
                        message,
                    } = refusal;
                    self.told.push_back(json!({
                        "type": "refused", "status": status, "code": code, "message": message,
                    }));
                }
                Output::Event(Event::Disconnected { code, retry_in, .. }) => {
                    let retry_in = retry_in.map(|delay| delay.as_secs());
                    let event = json!({
                        "type": "disconnected", "code": code.unwrap_or(1006), "retry_in": retry_in,
                    });
                    self.told.push_back(event);
                }
                Output::Drop => {
                    self.disconnects(Disconnect::because("lost"));
                    self.left = true;
                    return self.collect();
                }
            }
        }
    }

    fn compare(&self, found: &Value, wanted: &Value) {
        assert!(fits(found, wanted), "{}, and not {found}", self.place);
    }
}

/// Returns what has become of a request to the server.
fn answer_state<T: Clone>(pending: &Pending<T>) -> String {
    match pending.answer(Duration::ZERO) {
        Ok(_) => "answered".to_owned(),
        Err(error) => failure(&error),
    }
}

/// Returns what has become of a search, and where something was found.
fn found_state(pending: &Pending<Vec<Found>>) -> String {
    let mut state = answer_state(pending);
    for found in pending.answer(Duration::ZERO).unwrap_or_default() {
        for item in found.messages {
            state += &format!(" {}/{}", found.session_id, item.seq);
        }
    }
    state
}

/// Returns why something was not done, as a story says it.
fn failure(error: &Error) -> String {
    match error {
        Error::Refused(refusal) => format!("refused {} {}", refusal.status, refusal.code),
        Error::Ended(_) => "ended".to_owned(),
        Error::Rejected {
            code: Some(code), ..
        } => format!("rejected {}", code.as_str()),
        _ => "waiting".to_owned(),
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The numbers of `replies 1..100`.
fn replies(text: &str) -> Option<impl Iterator<Item = u64> + use<>> {
    let (first, last) = text.strip_prefix("replies ")?.split_once("..")?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Fills in what the story leaves out.
fn complete(message: &mut Map<String, Value>) {
    message.entry("ts").or_insert("2026-01-01T00:00:00Z".into());
    if let Some(seq) = message.get("seq").and_then(Value::as_u64) {
        message
            .entry("message_id")
            .or_insert(format!("00000000-0000-0000-0000-{seq:012}").into());
    }
}

/// Returns `true` if a value has what a story says of it.
fn fits(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| fits(found.get(key).unwrap_or(&Value::Null), wanted)),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found
                    .iter()
                    .zip(wanted)
                    .all(|(found, wanted)| fits(found, wanted))
        }
        _ => found == wanted,
    }
}
