//! Matches the preview of a permission request with the input that a tool has run with.
//!
//! A preview is text that resembles JSON, and may be truncated: Claude Code 2.1.197 and
//! older cut it at 200 characters, newer ones cut each field at 3,500. A wrong match closes the wrong
//! request, which is worse than leaving one open. When in doubt, there is no match.

use std::cell::OnceCell;

use serde_json::Value;

use crate::json;

/// A preview with this many characters may be truncated; older versions cut at 200.
const TRUNCATION_LENGTH: usize = 190;
/// The most characters at the end of a truncated preview that mark the truncation, such as `…`.
const ELLIPSIS_MARGIN: usize = 20;
/// A truncated preview must share at least this many non-blank characters with the input.
const MIN_COMMON: usize = 50;
/// Stop after this many equal characters and accept the match.
const MAX_COMPARED: usize = 2_000;

/// How well a preview matches an input, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchQuality {
    /// One of the two is empty.
    Unknown,
    /// Equal as far as the truncated preview goes.
    Prefix,
    /// Equal but for blanks, quotes and escapes.
    Significant,
    /// Equal.
    Exact,
}

/// The input of a tool, a JSON text. It may be long, so it is parsed only when needed.
pub struct ToolInput<'a> {
    text: &'a str,
    value: OnceCell<Option<Value>>,
}

impl<'a> ToolInput<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            value: OnceCell::new(),
        }
    }

    /// Returns how well a preview matches; `None` if it doesn't.
    pub fn matches(&self, preview: &str) -> Option<MatchQuality> {
        if preview.trim().is_empty() || self.text.trim().is_empty() {
            return Some(MatchQuality::Unknown);
        }
        let Some(shown) = read(preview) else {
            return match_texts(preview, self.text);
        };
        match self.value() {
            Some(input) => match_values(&shown, input),
            None => match_texts(preview, self.text),
        }
    }

    fn value(&self) -> Option<&Value> {
        let read = || json::value(self.text).ok();
        self.value.get_or_init(read).as_ref()
    }
}

/// Parses a preview, also one with unescaped line breaks and tabs in its strings.
fn read(preview: &str) -> Option<Value> {
    let parsed = json::value(preview).ok();
    parsed.or_else(|| {
        let escaped = preview
            .replace('\n', "\\n")
            .replace('\r', "\\r")
            .replace('\t', "\\t");
        json::value(&escaped).ok()
    })
}

fn match_values(preview: &Value, input: &Value) -> Option<MatchQuality> {
    if preview == input {
        return Some(MatchQuality::Exact);
    }
    let (shown, given) = (preview.as_object()?, input.as_object()?);
    let alike = |(name, shown): (&String, &Value)| {
        let given = given.get(name);
        given.is_some_and(|given| shown == given || is_truncated(shown, given))
    };
    (shown.len() == given.len() && shown.iter().all(alike)).then_some(MatchQuality::Prefix)
}

/// Returns `true` if a field's text is a truncated form of the given one.
fn is_truncated(shown: &Value, given: &Value) -> bool {
    let (Some(shown), Some(given)) = (shown.as_str(), given.as_str()) else {
        return false;
    };
    let length = shown.chars().count();
    let common = shown.chars().zip(given.chars());
    let common = common.take_while(|(shown, given)| shown == given).count();
    length >= TRUNCATION_LENGTH
        && common + ELLIPSIS_MARGIN >= length
        && given.chars().nth(common).is_some()
}

/// Compares a preview that is no JSON, mostly because it is truncated.
fn match_texts(preview: &str, input: &str) -> Option<MatchQuality> {
    let (mut wanted, mut found) = (
        significant_chars(preview).peekable(),
        significant_chars(input).peekable(),
    );
    let mut common = 0;
    while wanted.peek().is_some() && wanted.peek() == found.peek() {
        wanted.next();
        found.next();
        common += 1;
    }
    if wanted.peek().is_none() && found.peek().is_none() {
        return Some(MatchQuality::Significant);
    }
    let may_be_truncated = preview.chars().nth(TRUNCATION_LENGTH).is_some() && common >= MIN_COMMON;
    let is_truncated = may_be_truncated && wanted.nth(ELLIPSIS_MARGIN).is_none();
    (is_truncated || common >= MAX_COMPARED).then_some(MatchQuality::Prefix)
}

/// Returns a text's characters without blanks, quotes and escapes: these differ with how it is
/// shown.
fn significant_chars(text: &str) -> impl Iterator<Item = char> {
    let mut chars = text.chars();
    std::iter::from_fn(move || {
        loop {
            match chars.next()? {
                '\\' => drop(chars.next()),
                '"' | '\'' => {}
                c if c.is_whitespace() => {}
                c => return Some(c),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    #[test]
    fn preview_matches_the_input_it_shows() {
        let long = "echo ".repeat(100);
        let cut = format!("{{ \"command\": \"{}…", &long[..180]);
        let whole = format!("{{\"command\":\"{long}\",\"timeout\":7}}");
        let field = format!("{{ \"command\": \"{}…\", \"timeout\": 7 }}", &long[..200]);
        let blank = format!("{{ \"command\": \"{}…", " ".repeat(200));
        let other = whole.replace('7', "8");
        let cases = [
            ("", r#"{"a":1}"#, Some(MatchQuality::Unknown)),
            (r#"{ "a": 1 }"#, "", Some(MatchQuality::Unknown)),
            (r#"{ "a": "x y", "b": 1 }"#, r#"{"b":1,"a":"x y"}"#, Some(MatchQuality::Exact)),
            ("{ \"a\": \"x\ny\" }", r#"{"a":"x\ny"}"#, Some(MatchQuality::Exact)),
            ("{ \"a\": \"x\n/y\" }", r#"{"a":"x/\ny"}"#, None),
            ("{ a: \"x y\" }", r#"{"a":"x y"}"#, Some(MatchQuality::Significant)),
            ("{ a: \"rm ./x/*\" }", r#"{"a":"rm x"}"#, None),
            (r#"{ "a": "rm -rf ./build/*" }"#, r#"{"a":"rm -rf build"}"#, None),
            (r#"{ "a": "rm -rf / tmp" }"#, r#"{"a":"rm -rf /tmp"}"#, None),
            (r#"{ "a": "x" }"#, r#"{"a":"xyz"}"#, None),
            (r#"{ "a": "x" }"#, r#"{"a":"x","b":1}"#, None),
            (r#"{ "a": "x" }"#, "x", None),
            (&cut, &whole, Some(MatchQuality::Prefix)),
            (&field, &whole, Some(MatchQuality::Prefix)),
            (&field, &other, None),
            (&cut, r#"{"command":"echo"}"#, None),
            (&blank, r#"{"command":"echo"}"#, None),
        ];
        for (preview, input, expected) in cases {
            assert_eq!(ToolInput::new(input).matches(preview), expected, "{preview} {input}");
        }
    }
}
