//! The limits as docs/limits.md has them: each row is read there and tried, so that the document and the code can't
//! differ.

mod agent;
mod clients;
mod connections;
mod sessions;
mod store;

use std::collections::BTreeSet;
use std::panic;

use clap::Command;
use claude_socket::args;
use claude_socket::hub::Limits;
use serde_json::{Value, json};

use crate::hooks;
use crate::hub::HubStage;
use crate::server::config;
use crate::story::Stage;

const DOCUMENT: &str = include_str!("../../docs/limits.md");

/// Tries one limit.
type Check = fn(&Row);

/// A row of the table.
#[derive(Debug)]
struct Row {
    what: &'static str,
    /// The limit for one, and that for all; 0 if there is none. Bytes, milliseconds, or a number.
    one: usize,
    all: usize,
    /// What sets them, in this order; empty for a constant.
    settings: Vec<Setting>,
}

/// A flag, and the part of its value that counts.
#[derive(Debug)]
struct Setting {
    flag: &'static str,
    /// A numerator and a denominator.
    part: (usize, usize),
}

impl Row {
    fn parse(line: &'static str) -> Self {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [what, one, all, settings, beyond] = cells[..] else {
            panic!("a row has five cells: {line}");
        };
        assert!(!beyond.is_empty(), "{what}");
        let limit = |cell: &str| match cell {
            "" => 0,
            cell => amount(cell).unwrap_or_else(|| panic!("{what}: {cell}")),
        };
        let row = Self {
            what,
            one: limit(one),
            all: limit(all),
            settings: settings
                .split(", ")
                .filter(|setting| !setting.is_empty())
                .map(Setting::parse)
                .collect(),
        };
        assert!(!row.limits().is_empty(), "{what} has a limit");
        row
    }

    /// Its limits: those that there are.
    fn limits(&self) -> Vec<usize> {
        let both = [self.one, self.all].into_iter();
        both.filter(|limit| *limit > 0).collect()
    }
}

impl Setting {
    fn parse(text: &'static str) -> Self {
        let mut pieces = text.split('`');
        let part = match pieces.next().map(str::trim) {
            Some("") => (1, 1),
            Some("four times") => (4, 1),
            Some("seven eighths of") => (7, 8),
            Some("half of") => (1, 2),
            Some("a quarter of") => (1, 4),
            Some("an eighth of") => (1, 8),
            part => panic!("a setting cannot have a part {part:?}"),
        };
        let flag = pieces.next().expect("a setting names a flag");
        Self { flag, part }
    }

    fn part_of(&self, value: usize) -> usize {
        value * self.part.0 / self.part.1
    }
}

/// Returns the number of a cell or of a setting's value; bytes or milliseconds if it has such a unit.
fn amount(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ',');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: usize = number.replace(',', "").parse().ok()?;
    let unit = match unit.trim() {
        "" | "bytes" | "characters" | "ms" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "s" => 1_000,
        "min" | "m" => 60 * 1_000,
        "h" => 60 * 60 * 1_000,
        "d" => 24 * 60 * 60 * 1_000,
        _ => return None,
    };
    Some(number * unit)
}

fn rows() -> Vec<Row> {
    let lines = DOCUMENT.lines().filter(|line| line.starts_with('|'));
    // The head, and the line below it.
    lines.skip(2).map(Row::parse).collect()
}

fn checks() -> impl Iterator<Item = &'static (&'static str, Check)> {
    let rooms = [
        connections::CHECKS,
        clients::CHECKS,
        sessions::CHECKS,
        agent::CHECKS,
        store::CHECKS,
    ];
    rooms.into_iter().flatten()
}

/// Tries the limits of one part of the server. One run tells of every limit that fails.
fn try_all(checks: &[(&str, Check)]) {
    let rows = rows();
    let failed = checks.iter().filter(|(what, check)| {
        let row = rows.iter().find(|row| row.what == *what);
        let row = row.unwrap_or_else(|| panic!("docs/limits.md has no row «{what}»"));
        panic::catch_unwind(|| check(row)).is_err()
    });
    let failed: Vec<_> = failed.map(|(what, _)| what).collect();
    assert!(failed.is_empty(), "these do not hold: {failed:?}");
}

#[test]
fn limits_of_connections_hold() {
    try_all(connections::CHECKS);
}

#[test]
fn limits_of_clients_hold() {
    try_all(clients::CHECKS);
}

#[test]
fn limits_of_sessions_hold() {
    try_all(sessions::CHECKS);
}

#[test]
fn limits_of_agent_hold() {
    try_all(agent::CHECKS);
}

#[test]
fn limits_of_store_hold() {
    try_all(store::CHECKS);
}

#[test]
fn every_limit_has_one_check() {
    let written: Vec<_> = rows().iter().map(|row| row.what).collect();
    let tried: Vec<_> = checks().map(|(what, _)| *what).collect();
    let unique = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(unique(&written), unique(&tried));
    assert_eq!(written.len(), tried.len());
}

#[test]
fn table_has_the_defaults_of_the_settings() {
    let program = args::cli_command();
    for row in rows().iter().filter(|row| !row.settings.is_empty()) {
        assert_eq!(row.limits().len(), row.settings.len(), "{}", row.what);
        for (limit, setting) in row.limits().into_iter().zip(&row.settings) {
            // That of another command is for its own check.
            if setting.flag.starts_with("--") {
                let default = default_of(&program, setting.flag).expect("the flag has a default");
                assert_eq!(
                    limit,
                    setting.part_of(default),
                    "{} {}",
                    row.what,
                    setting.flag
                );
            }
        }
    }
}

/// A setting whose default is a number, a size or a time is a limit.
#[test]
fn every_setting_that_limits_is_in_the_table() {
    let rows = rows();
    let settings = rows.iter().flat_map(|row| &row.settings);
    let written: BTreeSet<_> = settings.map(|setting| setting.flag.to_owned()).collect();
    let program = args::cli_command();
    let flags = program.get_arguments().filter_map(|arg| arg.get_long());
    for flag in flags.filter(|flag| *flag != "port") {
        let flag = format!("--{flag}");
        if default_of(&program, &flag).is_some() {
            assert!(written.contains(&flag), "docs/limits.md lacks {flag}");
        }
    }
}

/// Returns the default of a flag; `None` if that is no amount.
fn default_of(program: &Command, flag: &str) -> Option<usize> {
    let mut arguments = program.get_arguments();
    let argument = arguments.find(|argument| argument.get_long() == flag.strip_prefix("--"))?;
    amount(argument.get_default_values().first()?.to_str()?)
}

/// The hub alone, with the limits that these flags set. Its agent accepts messages.
fn hub(flags: &[&str]) -> HubStage {
    HubStage::with(limits(flags))
}

fn limits(flags: &[&str]) -> Limits {
    config(flags).limits
}

/// A client sends this, and the agent takes what comes of it.
fn say(stage: &mut HubStage, client: &str, frame: &Value) {
    stage.send_frame(client, &frame.to_string());
    take(stage);
}

/// A client sends a message to the session `to`.
fn write(stage: &mut HubStage, client: &str, to: &str, content: &str) {
    let message = json!({ "type": "message", "session_id": to, "content": content });
    say(stage, client, &message);
}

/// The agent takes all notifications. Returns the last one.
fn take(stage: &mut HubStage) -> Option<Value> {
    std::iter::from_fn(|| stage.next_notification()).last()
}

/// Returns what a client has received since it was last asked.
fn received(stage: &mut HubStage, client: &str) -> Vec<Value> {
    std::iter::from_fn(|| stage.next_frame(client)).collect()
}

/// Returns the messages of an answer that a client gets, however many frames that has.
fn history(stage: &mut HubStage, client: &str, request: &Value) -> Vec<Value> {
    received(stage, client);
    say(stage, client, request);
    let frames = received(stage, client).into_iter();
    let lists = frames.flat_map(|frame| frame["messages"].as_array().cloned());
    lists.flatten().collect()
}

fn reply(stage: &mut HubStage, to: &str, text: &str) -> String {
    stage.call_tool("reply", json!({ "chat_id": to, "text": text }))
}

/// A hook reports that the agent has put a message into its conversation.
fn see(stage: &mut HubStage, notification: &Value) {
    let prompt = hooks::channel_tag(&notification["meta"], "");
    stage.call_hook(json!({
        "hook_event_name": "UserPromptSubmit", "prompt_id": "p1", "prompt": prompt,
    }));
}

/// Returns an error's code, or `""`.
fn code(frame: &Value) -> &str {
    frame["code"].as_str().unwrap_or_default()
}
