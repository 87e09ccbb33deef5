//! A running tool in one short line.

use std::sync::Arc;

use crate::json;
use crate::sanitize::is_invisible;

/// The longest detail that is shown, in characters.
const MAX_DETAIL: usize = 120;
/// Input fields that summarize a tool call, in order of preference.
const SUMMARY_FIELDS: [&str; 10] = [
    "description",
    "file_path",
    "notebook_path",
    "command",
    "pattern",
    "query",
    "url",
    "path",
    "skill",
    "subject",
];

/// Returns what a tool does, in one line of at most [`MAX_DETAIL`] characters, such as
/// `Bash: make a file` or `Edit: src/main.rs`.
pub fn of_tool(name: &str, input: &str, cwd: &str) -> Arc<str> {
    let mut detail = String::new();
    match name
        .strip_prefix("mcp__")
        .and_then(|name| name.split_once("__"))
    {
        Some((server, tool)) => {
            push_line(&mut detail, tool);
            push_line(&mut detail, &format!(" ({server})"));
        }
        None => push_line(&mut detail, name),
    }
    if let Ok(fields) = json::object(input, SUMMARY_FIELDS) {
        let values = fields.iter().zip(SUMMARY_FIELDS);
        let mut summaries = values.filter_map(|(field, name)| {
            let value: &str = field.optional().ok()??;
            Some((name, value)).filter(|(_, value)| !value.trim().is_empty())
        });
        if let Some((name, value)) = summaries.next() {
            let is_path = name.ends_with("path");
            append(
                &mut detail,
                if is_path { relative(value, cwd) } else { value },
            );
        }
    }
    detail.into()
}

/// Returns a path relative to the folder that Claude works in, if it is inside.
fn relative<'a>(path: &'a str, cwd: &str) -> &'a str {
    let inside = path.strip_prefix(cwd.trim_end_matches(['/', '\\']));
    match inside.and_then(|rest| rest.strip_prefix(['/', '\\'])) {
        Some(inside) if !inside.is_empty() && !cwd.is_empty() => inside,
        _ => path,
    }
}

pub fn append(line: &mut String, more: &str) {
    if !more.trim().is_empty() {
        line.push_str(": ");
        push_line(line, more);
    }
}

/// Adds a text to a line of bounded length, without anything that could break the line or
/// change its direction.
fn push_line(line: &mut String, text: &str) {
    let mut room = MAX_DETAIL.saturating_sub(line.chars().count());
    let mut words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let mut is_first = !text.starts_with(' ');
    for word in words.by_ref().filter(|word| !word.is_empty()) {
        let gap = if is_first { None } else { Some(' ') };
        is_first = false;
        for c in gap
            .into_iter()
            .chain(word.chars().filter(|c| !is_invisible(*c)))
        {
            if room == 0 {
                line.pop();
                line.push('…');
                return;
            }
            line.push(c);
            room -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    #[test]
    fn tool_is_shown_in_one_short_line() {
        let cases = [
            ("Bash", r#"{"command":"touch made","description":"make a file"}"#, "Bash: make a file"),
            ("Bash", r#"{"command":"touch  made\n\trm -r x"}"#, "Bash: touch made rm -r x"),
            ("Edit", r#"{"file_path":"/home/pi/greenhouse/src/main.rs"}"#, "Edit: src/main.rs"),
            ("Read", r#"{"file_path":"/home/pi/greenhouse2/a"}"#, "Read: /home/pi/greenhouse2/a"),
            ("Read", r#"{"file_path":"/home/pi/greenhouse"}"#, "Read: /home/pi/greenhouse"),
            ("Grep", r#"{"pattern":"fn main","path":"/home/pi/greenhouse/src"}"#, "Grep: fn main"),
            ("TodoWrite", r#"{"todos":[{"a":1}]}"#, "TodoWrite"),
            ("Task", r#"{"description":"  ","prompt":"x"}"#, "Task"),
            ("Odd", r#"{"description":7,"url":"https://example.org/"}"#, "Odd: https://example.org/"),
            ("mcp__github__create_issue", "{}", "create_issue (github)"),
            ("Bash", "no json", "Bash"),
            ("Bash", "", "Bash"),
            ("Ba\nsh", r#"{"command":"a\u0000b\u202ec\u2028d"}"#, "Ba sh: a bc d"),
        ];
        for (name, input, expected) in cases {
            assert_eq!(&*of_tool(name, input, "/home/pi/greenhouse"), expected, "{name} {input}");
        }
        let long = of_tool("Bash", &format!(r#"{{"command":"{}"}}"#, "é ".repeat(5_000_000)), "");
        assert_eq!(long.chars().count(), MAX_DETAIL);
        assert!(long.ends_with('…'));
    }
}
