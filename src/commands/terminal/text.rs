//! Text from the network on a terminal: nothing in it may move the cursor, change colours, or
//! pass for something else.

use std::env;
use std::fmt::Write;
use std::io::{IsTerminal, stdout};

/// The same text, in which what could steer a terminal is written out. Ends of lines and
/// tabs stay.
pub fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// The same in one line.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if stays(c) => safe.push(c),
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            // Writing to a string cannot fail.
            c if c.is_control() || misleads(c) => drop(write!(safe, "\\u{{{:x}}}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe
}

/// Whether it is unseen and changes the order or the lines of what is seen (Unicode, UAX #9).
fn misleads(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The clock time of an RFC 3339 timestamp, in UTC as it came.
pub fn clock(ts: &str) -> &str {
    match ts.get(11..19) {
        Some(clock) if clock.chars().all(|c| c.is_ascii_digit() || c == ':') => clock,
        _ => "--:--:--",
    }
}

/// How something is shown.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// As it is.
    Plain,
    /// Of less weight.
    Dim,
    /// Of more weight.
    Bold,
    /// Claude's.
    Claude,
    /// Someone's.
    Person,
    /// A question, or something wrong.
    Alert,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// Only on a terminal, and not where `NO_COLOR` is set (no-color.org).
    pub fn of_stdout() -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb)
    }

    /// Whether there are.
    pub fn is_on(self) -> bool {
        self.0
    }

    /// The text in its style.
    pub fn apply(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Dim => "2",
            Style::Bold => "1",
            Style::Claude => "1;35",
            Style::Person => "1;36",
            Style::Alert => "1;33",
        };
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        let cases = [
            ("plain – ü", "plain – ü", "plain – ü"),
            ("a\nb\tc", "a\nb\tc", "a\\nb\\tc"),
            (
                "\x1b[31mred\x07",
                "\\u{1b}[31mred\\u{7}",
                "\\u{1b}[31mred\\u{7}",
            ),
            ("over\rwritten", "over\\rwritten", "over\\rwritten"),
            (
                "\u{9b}2J\u{202e}x",
                "\\u{9b}2J\\u{202e}x",
                "\\u{9b}2J\\u{202e}x",
            ),
        ];
        for (text, several, one) in cases {
            assert_eq!((&*lines(text), &*line(text)), (several, one));
        }
    }

    #[test]
    fn a_clock_time_is_taken_only_from_a_time() {
        assert_eq!(clock("2026-01-02T03:04:05.678Z"), "03:04:05");
        assert_eq!(clock("yesterday, or so, at noon"), "--:--:--");
        assert_eq!(clock(""), "--:--:--");
    }
}
