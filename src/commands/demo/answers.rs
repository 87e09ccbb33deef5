//! What the fake agent understands and says.

use std::process::Command;
use std::time::SystemTime;

/// The commands that are really run: they change nothing. Others are only named in the answer.
const HARMLESS: [&str; 6] = ["date", "uptime", "uname -a", "whoami", "pwd", "df -h"];

const HELP: &str = "\
I can

- chat a little,
- tell the **time**,
- remember **what you said**,
- show some **markdown**,
- ask for permission to run a command: try `run date`, and deny it, too,
- and **forget to reply**, so that you see what becomes of an answer then.";

const MARKDOWN: &str = "\
# A heading

Some *emphasis*, some **strong words**, some `code`.

1. first
2. second
   - with a detail

| what | how much |
|---|---:|
| memory | little |
| hurry | none |

```sh
claude-socket demo
```

[The protocol](https://modelcontextprotocol.io/) behind it.";

/// What a message asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// Run a command.
    Run(String),
    /// Reply.
    Answer,
    /// Say the answer without the reply tool, which Claude sometimes forgets.
    Forget,
}

/// Returns what a message asks for.
pub fn plan(content: &str) -> Plan {
    let line = content.trim().lines().next().unwrap_or_default().trim();
    let lower = line.to_lowercase();
    if lower.contains("forget to reply") {
        return Plan::Forget;
    }
    let polite = lower.strip_prefix("please ").unwrap_or(&lower);
    let verb = ["run ", "execute ", "$ ", "!"]
        .into_iter()
        .find(|verb| polite.starts_with(verb));
    let Some(verb) = verb else {
        return Plan::Answer;
    };
    let start = lower.len() - polite.len() + verb.len();
    let command = line
        .get(start..)
        .unwrap_or_default()
        .trim()
        .trim_matches('`');
    if command.is_empty() {
        return Plan::Answer;
    }
    let is_vague = ["a command", "something", "it"].contains(&command.to_lowercase().as_str());
    Plan::Run(if is_vague { "date" } else { command }.to_owned())
}

/// Returns the answer to a message. `conversation` is the history as `fetch_messages` returns it.
pub fn answer(user: &str, content: &str, conversation: &str) -> String {
    let lower = content.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let begins = |words: &[&str]| {
        words
            .iter()
            .any(|word| lower.trim_start().starts_with(word))
    };
    if has(&["markdown", "formatting"]) {
        MARKDOWN.to_owned()
    } else if has(&["i say", "i said", "remember", "history", "so far"]) {
        let lines: Vec<&str> = conversation.lines().collect();
        let last = lines[lines.len().saturating_sub(6)..].join("\n");
        format!("This is what I remember:\n\n```\n{last}\n```")
    } else if begins(&["time", "date"])
        || has(&["what time", "the time", "what date", "what day", "clock"])
    {
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        format!("It is {now} (UTC).")
    } else if has(&["help", "what can you", "what do you do"]) {
        HELP.to_owned()
    } else if has(&["who are you", "your name", "are you claude", "are you real"]) {
        "I am not Claude. I stand in for Claude Code so that you can try the server; \
         everything between you and me is the real thing."
            .to_owned()
    } else if has(&["forget to reply"]) {
        "I say this in the terminal only, and don't use the reply tool.".to_owned()
    } else if has(&["thank", "thx", "cheers"]) {
        "You're welcome.".to_owned()
    } else if begins(&["bye", "good night", "see you"]) {
        format!("Goodbye, {user}.")
    } else if begins(&[
        "hello",
        "hi",
        "hey",
        "good morning",
        "good evening",
        "moin",
        "hallo",
    ]) {
        format!("Hello, {user}! I stand in for Claude Code. Ask me for `help`, or try `run date`.")
    } else if lower.trim_end().ends_with('?') {
        format!(
            "Claude would look into that now. I only stand in, so all I can say is that \
             your question arrived:\n\n> {}",
            quote(content)
        )
    } else {
        format!("I heard you:\n\n> {}", quote(content))
    }
}

fn quote(content: &str) -> String {
    content.trim().replace('\n', "\n> ")
}

/// Runs a command that was allowed, if it is harmless. Returns the answer.
pub fn run(command: &str) -> String {
    if !HARMLESS.contains(&command) {
        let harmless = HARMLESS.join("`, `");
        return format!(
            "You allowed it, so Claude would run `{command}` now. The stand-in only runs \
             `{harmless}`."
        );
    }
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    match Command::new(program).args(words).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            format!("`{command}` says:\n\n```\n{}\n```", text.trim_end())
        }
        Err(error) => format!("`{command}` cannot be run here: {error}"),
    }
}

/// Returns the id of the n-th permission request: five letters without `l`, as those of Claude
/// Code. It repeats after 25⁵ requests.
pub fn request_id(n: u64) -> String {
    const LETTERS: &[u8; 25] = b"abcdefghijkmnopqrstuvwxyz";
    const IDS: u64 = 25 * 25 * 25 * 25 * 25;
    // A factor without 5 as a divisor visits every id once.
    let mut rest = n.wrapping_mul(7_654_321) % IDS;
    let mut id = String::with_capacity(5);
    for _ in 0..5 {
        id.push(char::from(LETTERS[(rest % 25) as usize]));
        rest /= 25;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_follows_first_words_of_message() {
        let cases = [
            ("run date", Some("date")),
            ("Please run `uname -a`", Some("uname -a")),
            ("please run a command", Some("date")),
            ("$ rm -rf /", Some("rm -rf /")),
            ("!df -h", Some("df -h")),
            ("EXECUTE make\nnow", Some("make")),
            ("run", None),
            ("I run every day", None),
            ("İ run", None),
            ("hello", None),
            ("", None),
        ];
        assert_eq!(plan("please forget to reply"), Plan::Forget);
        for (content, expected) in cases {
            let expected = expected.map_or(Plan::Answer, |command| Plan::Run(command.into()));
            assert_eq!(plan(content), expected, "{content}");
        }
    }

    #[test]
    fn request_ids_have_form_of_claude_code_and_differ() {
        let ids: std::collections::HashSet<String> = (0..10_000).map(request_id).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 5 && !id.contains('l')));
    }
}
