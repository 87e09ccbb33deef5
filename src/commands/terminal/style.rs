//! Styles of text in a terminal, and the clock time.

use std::env;
use std::io::{IsTerminal, stdout};

/// Returns the clock time of an RFC 3339 timestamp, in UTC as it came.
pub fn clock(ts: &str) -> &str {
    match ts.get(11..19) {
        Some(clock) if clock.chars().all(|c| c.is_ascii_digit() || c == ':') => clock,
        _ => "--:--:--",
    }
}

/// Returns the date and the clock time of an RFC 3339 timestamp, in UTC as it came.
pub fn date_and_clock(ts: &str) -> String {
    let date = ts.get(..10).filter(|date| {
        let is_digit_or_hyphen = |c: char| c.is_ascii_digit() || c == '-';
        date.chars().all(is_digit_or_hyphen)
    });
    format!("{} {}", date.unwrap_or("----------"), clock(ts))
}

#[derive(Clone, Copy, Debug)]
pub enum Style {
    Dim,
    Claude,
    Person,
    /// A question, or something wrong.
    Alert,
}

/// Applies styles, or not if the output has no colors.
#[derive(Clone, Copy, Debug)]
pub struct Colors(bool);

impl Colors {
    /// Returns colors for a terminal, unless `NO_COLOR` is set (no-color.org).
    pub fn of_stdout() -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb)
    }

    #[cfg(test)]
    pub fn none() -> Self {
        Self(false)
    }

    pub fn is_on(self) -> bool {
        self.0
    }

    /// Returns the text with the escapes of the style.
    pub fn apply(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Dim => "2",
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
    fn clock_of_no_timestamp_is_dashes() {
        assert_eq!(clock("2026-01-02T03:04:05.678Z"), "03:04:05");
        assert_eq!(clock("yesterday, or so, at noon"), "--:--:--");
        assert_eq!(clock(""), "--:--:--");
    }

    #[test]
    fn date_of_no_timestamp_is_dashes() {
        assert_eq!(
            date_and_clock("2026-01-02T03:04:05.678Z"),
            "2026-01-02 03:04:05"
        );
        assert_eq!(date_and_clock("\u{1b}[2J, at noon"), "---------- --:--:--");
    }
}
