//! How text looks in a terminal: styles, where there are colours, and the time.

use std::env;
use std::io::{IsTerminal, stdout};

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

    /// Without colours.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(false)
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
    fn a_clock_time_is_taken_only_from_a_time() {
        assert_eq!(clock("2026-01-02T03:04:05.678Z"), "03:04:05");
        assert_eq!(clock("yesterday, or so, at noon"), "--:--:--");
        assert_eq!(clock(""), "--:--:--");
    }
}
