//! The stand-in for Claude Code: says and answers what Claude Code would, one step
//! at a time.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{self, Plan};

/// Claude Code's name for the reply tool in a raw MCP config.
const REPLY_TOOL: &str = "mcp__claude-socket__reply";

/// Someone's message, as it came through the channel.
#[derive(Clone, Debug)]
struct Message {
    chat_id: String,
    user: String,
    content: String,
}

/// Something to do when its time has come.
#[derive(Debug)]
enum Step {
    Status(String, &'static str, Option<String>),
    Consider(Message),
    LookBack(Message),
    AskToRun(Message, String),
    Answer(String, String),
}

/// What a verdict is waited for.
#[derive(Debug)]
enum Asked {
    Run(Message, String),
    Reply(String, String),
}

/// A pretended Claude Code.
pub struct Standin<W> {
    server: W,
    pace: Duration,
    requests: u64,
    /// What is to be done, by time.
    agenda: BTreeMap<(Instant, u64), Step>,
    steps: u64,
    /// Permission requests without a verdict.
    asked: HashMap<String, Asked>,
    /// `fetch_messages` calls without a result.
    looking_back: HashMap<u64, Message>,
    /// How many messages of each session are being worked on.
    turns: HashMap<String, usize>,
    /// It may use the reply tool.
    may_reply: bool,
}

/// What can come from the server.
#[derive(Deserialize)]
struct Line {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
}

impl<W: Write> Standin<W> {
    /// A stand-in that writes to the server's stdin, and takes `pace` for each step.
    pub fn new(server: W, pace: Duration) -> Self {
        Self {
            server,
            pace,
            requests: 0,
            agenda: BTreeMap::new(),
            steps: 0,
            asked: HashMap::new(),
            looking_back: HashMap::new(),
            turns: HashMap::new(),
            may_reply: false,
        }
    }

    /// Opens the conversation as Claude Code does.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        let host = json!({ "name": "claude-socket demo", "version": env!("CARGO_PKG_VERSION") });
        self.request(
            "initialize",
            &json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": host }),
        )?;
        self.notify("notifications/initialized", &json!({}))?;
        self.request("tools/list", &json!({}))?;
        Ok(())
    }

    /// Takes a line from the server.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn hear(&mut self, line: &str, now: Instant) -> io::Result<()> {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            return Ok(());
        };
        match (line.method.as_deref(), line.id) {
            (Some("notifications/claude/channel"), _) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let message = Message {
                    chat_id: text(&line.params["meta"]["chat_id"]),
                    user: text(&line.params["meta"]["user"]),
                    content: text(&line.params["content"]),
                };
                let chat_id = message.chat_id.clone();
                *self.turns.entry(chat_id.clone()).or_default() += 1;
                self.plan(now, Step::Status(chat_id, "thinking", None));
                self.plan(now + self.pace, Step::Consider(message));
            }
            (Some("notifications/claude/channel/permission"), _) => {
                let allowed = line.params["behavior"] == "allow";
                let request_id = line.params["request_id"].as_str().unwrap_or_default();
                if let Some(asked) = self.asked.remove(request_id) {
                    self.obey(asked, allowed, now)?;
                }
            }
            (None, Some(id)) => {
                let message = id.as_u64().and_then(|id| self.looking_back.remove(&id));
                if let Some(message) = message {
                    let said = line.result["content"][0]["text"].as_str();
                    let answer =
                        answers::answer(&message.user, &message.content, said.unwrap_or_default());
                    self.plan(now + self.pace, Step::Answer(message.chat_id, answer));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// When the next step is due.
    pub fn next_step(&self) -> Option<Instant> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the steps that are due.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn act(&mut self, now: Instant) -> io::Result<()> {
        while self.next_step().is_some_and(|at| at <= now)
            && let Some((_, step)) = self.agenda.pop_first()
        {
            self.step(step)?;
        }
        Ok(())
    }

    fn plan(&mut self, at: Instant, step: Step) {
        self.steps += 1;
        self.agenda.insert((at, self.steps), step);
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Status(chat_id, status, detail) => {
                let arguments = json!({ "chat_id": chat_id, "status": status, "detail": detail });
                self.call("status", &arguments)?;
            }
            Step::Consider(message) => {
                let chat_id = message.chat_id.clone();
                let (detail, next) = match answers::plan(&message.content) {
                    Plan::Run(command) => {
                        (format!("Bash: {command}"), Step::AskToRun(message, command))
                    }
                    Plan::Answer => ("looking at what was said".into(), Step::LookBack(message)),
                };
                self.step(Step::Status(chat_id, "tool_use", Some(detail)))?;
                self.step(next)?;
            }
            Step::LookBack(message) => {
                let arguments = json!({ "session_id": message.chat_id, "limit": 100 });
                let id = self.call("fetch_messages", &arguments)?;
                self.looking_back.insert(id, message);
            }
            Step::AskToRun(message, command) => {
                let input = json!({ "command": command }).to_string();
                let asked = Asked::Run(message, command.clone());
                self.ask("Bash", &format!("Run {command}"), &input, asked)?;
            }
            Step::Answer(chat_id, text) if self.may_reply => {
                self.call("reply", &json!({ "chat_id": chat_id, "text": text }))?;
                self.end_turn(chat_id)?;
            }
            Step::Answer(chat_id, text) => {
                let input = json!({ "chat_id": chat_id, "text": text }).to_string();
                let asked = Asked::Reply(chat_id, text);
                self.ask(REPLY_TOOL, "Answer a <channel> message.", &input, asked)?;
            }
        }
        Ok(())
    }

    /// Does what it was allowed to do, or says that it was not.
    fn obey(&mut self, asked: Asked, allowed: bool, now: Instant) -> io::Result<()> {
        match asked {
            Asked::Run(message, command) => {
                let answer = if allowed {
                    answers::run(&command)
                } else {
                    format!("All right, I won't run `{command}`.")
                };
                self.plan(now + self.pace, Step::Answer(message.chat_id, answer));
                Ok(())
            }
            Asked::Reply(chat_id, text) if allowed => {
                self.may_reply = true;
                self.step(Step::Answer(chat_id, text))
            }
            Asked::Reply(chat_id, _) => self.end_turn(chat_id),
        }
    }

    /// One message less to work on; after the last there is nothing to do.
    fn end_turn(&mut self, chat_id: String) -> io::Result<()> {
        if let Some(turns) = self.turns.get_mut(&chat_id) {
            *turns -= 1;
            if *turns > 0 {
                return Ok(());
            }
        }
        self.turns.remove(&chat_id);
        self.call("status", &json!({ "chat_id": chat_id, "status": "idle" }))?;
        Ok(())
    }

    fn ask(&mut self, tool: &str, description: &str, input: &str, asked: Asked) -> io::Result<()> {
        let request_id = answers::request_id(self.steps);
        self.steps += 1;
        let params = json!({
            "request_id": request_id,
            "tool_name": tool,
            "description": description,
            "input_preview": input,
        });
        self.asked.insert(request_id, asked);
        self.notify("notifications/claude/channel/permission_request", &params)
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> io::Result<u64> {
        self.request(
            "tools/call",
            &json!({ "name": tool, "arguments": arguments }),
        )
    }

    fn request(&mut self, method: &str, params: &Value) -> io::Result<u64> {
        let id = self.requests;
        self.requests += 1;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        Ok(id)
    }

    fn notify(&mut self, method: &str, params: &Value) -> io::Result<()> {
        self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
    }

    fn write(&mut self, message: &Value) -> io::Result<()> {
        writeln!(self.server, "{message}")?;
        self.server.flush()
    }
}
