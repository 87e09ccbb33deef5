//! The fake agent: a state machine that says and answers what Claude Code would, one step at a
//! time. The caller reads lines and waits; nothing here knows the clock.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{self, Plan};

/// Prefix of the names that Claude Code gives the tools of a server in a raw MCP config.
const OWN: &str = "mcp__claude-socket__";
/// Words that are streamed in the time of one step.
const WORDS_A_STEP: u32 = 20;

/// A message of a client, as it came through the channel.
#[derive(Clone, Debug)]
pub struct Message {
    pub chat_id: String,
    pub user: String,
    /// RFC 3339.
    pub ts: String,
    pub message_id: String,
    pub content: String,
}

/// What a timer does when it expires.
#[derive(Debug)]
enum Step {
    Consider(Message),
    Say(StreamingReply),
    Answer(String, String),
    Forget(String),
}

/// A text that is streamed word by word.
#[derive(Debug)]
struct StreamingReply {
    number: u64,
    chat_id: String,
    text: String,
    /// The bytes streamed so far.
    streamed: usize,
    /// The words streamed so far.
    words: usize,
    /// The turn ends after the text, without the reply tool.
    forgets: bool,
}

/// What a pending permission request is for.
#[derive(Debug)]
pub enum PendingRequest {
    Run(Message, String),
    Reply(String, String),
}

/// The current turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// Number of turns so far, this one included.
    pub(super) count: u64,
    /// Number of messages of this turn without an answer.
    pub(super) unanswered: usize,
    pub(super) last_text: String,
}

/// Plays Claude Code to a server.
pub struct FakeAgent<W> {
    pub(super) server: W,
    pace: Duration,
    pub(super) requests: u64,
    /// By time, and by their order for the same time.
    timers: BTreeMap<(Instant, u64), Step>,
    pub(super) steps: u64,
    /// Pending permission requests, by their id.
    pub(super) pending_requests: HashMap<String, PendingRequest>,
    /// Calls of `fetch_messages` without a result, by the id of the call.
    pending_fetches: HashMap<u64, Message>,
    pub(super) turn: Turn,
    /// Number of messages without an answer in each session.
    unanswered: HashMap<String, usize>,
    /// The reply tool was allowed once, which counts for all calls.
    may_reply: bool,
}

/// A JSON-RPC line of the server: a notification, or the result of a call.
#[derive(Deserialize)]
struct Line {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
}

impl<W: Write> FakeAgent<W> {
    /// Returns an agent that writes to the server's stdin, and takes `pace` for each step.
    pub fn new(server: W, pace: Duration) -> Self {
        Self {
            server,
            pace,
            requests: 0,
            timers: BTreeMap::new(),
            steps: 0,
            pending_requests: HashMap::new(),
            pending_fetches: HashMap::new(),
            turn: Turn::default(),
            unanswered: HashMap::new(),
            may_reply: false,
        }
    }

    /// Handles a line of the server.
    ///
    /// # Errors
    /// If the server has closed its stdin.
    pub fn handle_line(&mut self, line: &str, now: Instant) -> io::Result<()> {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            return Ok(());
        };
        match (line.method.as_deref(), line.id) {
            (Some("notifications/claude/channel"), _) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let meta = |name: &str| text(&line.params["meta"][name]);
                let message = Message {
                    chat_id: meta("chat_id"),
                    user: meta("user"),
                    ts: meta("ts"),
                    message_id: meta("message_id"),
                    content: text(&line.params["content"]),
                };
                *self.unanswered.entry(message.chat_id.clone()).or_default() += 1;
                self.take(&message)?;
                self.plan(now + self.pace, Step::Consider(message));
            }
            (Some("notifications/claude/channel/permission"), _) => {
                let allowed = line.params["behavior"] == "allow";
                let request_id = line.params["request_id"].as_str().unwrap_or_default();
                if let Some(request) = self.pending_requests.remove(request_id) {
                    self.resume(request, allowed, now)?;
                }
            }
            (None, Some(id)) => {
                let message = id.as_u64().and_then(|id| self.pending_fetches.remove(&id));
                if let Some(message) = message {
                    let conversation = line.result["content"][0]["text"].as_str();
                    let answer = answers::answer(
                        &message.user,
                        &message.content,
                        conversation.unwrap_or_default(),
                    );
                    let forgets = answers::plan(&message.content) == Plan::Forget;
                    self.say(now + self.pace, message.chat_id, answer, forgets);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the steps that are due at `now`.
    ///
    /// # Errors
    /// If the server has closed its stdin.
    pub fn handle_timeout(&mut self, now: Instant) -> io::Result<()> {
        while self.poll_timeout().is_some_and(|at| at <= now)
            && let Some((_, step)) = self.timers.pop_first()
        {
            self.step(step, now)?;
        }
        Ok(())
    }

    fn plan(&mut self, at: Instant, step: Step) {
        self.steps += 1;
        self.timers.insert((at, self.steps), step);
    }

    /// Streams a text, and then replies with it.
    fn say(&mut self, at: Instant, chat_id: String, text: String, forgets: bool) {
        let speech = StreamingReply {
            number: self.steps,
            chat_id,
            text,
            streamed: 0,
            words: 0,
            forgets,
        };
        self.plan(at, Step::Say(speech));
    }

    fn step(&mut self, step: Step, now: Instant) -> io::Result<()> {
        match step {
            Step::Consider(message) => match answers::plan(&message.content) {
                Plan::Run(command) => self.ask_to_run(message, command),
                Plan::Answer | Plan::Forget => self.look_back(message),
            },
            Step::Say(speech) => self.say_a_word(speech, now),
            Step::Answer(chat_id, text) => {
                let input = json!({ "chat_id": chat_id, "text": text });
                self.before(&format!("{OWN}reply"), &input)?;
                if self.may_reply {
                    return self.reply(chat_id, &input);
                }
                let request = PendingRequest::Reply(chat_id, text);
                let description = "Answer a <channel> message.";
                self.ask(&format!("{OWN}reply"), description, &input, request)
            }
            Step::Forget(chat_id) => self.end(chat_id),
        }
    }

    fn look_back(&mut self, message: Message) -> io::Result<()> {
        let detail = "looking at what was said";
        let status = json!({ "chat_id": message.chat_id, "status": "tool_use", "detail": detail });
        self.use_own("status", &status)?;
        let arguments = json!({ "session_id": message.chat_id, "limit": 100 });
        let id = self.use_own("fetch_messages", &arguments)?;
        self.pending_fetches.insert(id, message);
        Ok(())
    }

    fn ask_to_run(&mut self, message: Message, command: String) -> io::Result<()> {
        let input = json!({ "command": command });
        self.before("Bash", &input)?;
        let description = format!("Run {command}");
        self.ask(
            "Bash",
            &description,
            &input,
            PendingRequest::Run(message, command),
        )
    }

    fn say_a_word(&mut self, mut speech: StreamingReply, now: Instant) -> io::Result<()> {
        let rest = &speech.text[speech.streamed..];
        let word = rest.trim_start();
        let end = word.find(char::is_whitespace).unwrap_or(word.len());
        let piece = &rest[..rest.len() - word.len() + end];
        self.display(speech.number, speech.words, piece)?;
        speech.streamed += piece.len();
        speech.words += 1;
        let step = if speech.streamed < speech.text.len() {
            Step::Say(speech)
        } else if speech.forgets {
            Step::Forget(speech.chat_id)
        } else {
            Step::Answer(speech.chat_id, speech.text)
        };
        self.plan(now + self.pace / WORDS_A_STEP, step);
        Ok(())
    }

    /// Continues after a verdict: does what was allowed, or says that it was denied.
    fn resume(&mut self, request: PendingRequest, allowed: bool, now: Instant) -> io::Result<()> {
        match request {
            PendingRequest::Run(message, command) => {
                let answer = if allowed {
                    let answer = answers::run(&command);
                    self.after("Bash", &json!({ "command": command }))?;
                    answer
                } else {
                    format!("All right, I won't run `{command}`.")
                };
                self.say(now + self.pace, message.chat_id, answer, false);
                Ok(())
            }
            PendingRequest::Reply(chat_id, text) if allowed => {
                self.may_reply = true;
                let input = json!({ "chat_id": chat_id, "text": text });
                self.reply(chat_id, &input)
            }
            PendingRequest::Reply(chat_id, _) => self.end(chat_id),
        }
    }

    fn reply(&mut self, chat_id: String, input: &Value) -> io::Result<()> {
        self.call("reply", input)?;
        self.after(&format!("{OWN}reply"), input)?;
        self.end(chat_id)
    }

    /// Counts a message as answered. A session without further messages becomes idle, even if
    /// others are not.
    fn end(&mut self, chat_id: String) -> io::Result<()> {
        let unanswered = self.unanswered.entry(chat_id.clone()).or_default();
        *unanswered = unanswered.saturating_sub(1);
        let is_done = *unanswered == 0;
        if is_done {
            self.unanswered.remove(&chat_id);
        }
        if !self.finish()? && is_done {
            self.use_own("status", &json!({ "chat_id": chat_id, "status": "idle" }))?;
        }
        Ok(())
    }

    /// Calls a tool of the server that needs no permission. Returns the id of the call.
    fn use_own(&mut self, tool: &str, input: &Value) -> io::Result<u64> {
        let name = format!("{OWN}{tool}");
        self.before(&name, input)?;
        let id = self.call(tool, input)?;
        self.after(&name, input)?;
        Ok(id)
    }
}
