//! Whether a tool has run with the input that a permission request has shown.
//!
//! A request shows its input as text that resembles JSON, and may cut it: older hosts at
//! 200 characters, newer ones each field at 3,500. A request that stays open too long
//! does less harm than one that another command closes, so what isn't alike is different.

use std::cell::OnceCell;

use serde_json::Value;

/// From how many characters on a text may have been cut; older hosts cut at 200.
const MAY_BE_CUT: usize = 190;
/// How many characters at the end of such a text may be its mark of the cut.
const CUT_MARK: usize = 20;
/// What is cut must have this many signs in common with the input: blanks don't count.
const ENOUGH: usize = 50;
/// With this many equal signs, nobody asks for the rest.
const PLENTY: usize = 2_000;

/// How sure it is that a tool ran with the input of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// The request doesn't say.
    Unknown,
    /// The same, as far as the preview goes.
    Beginning,
    /// The same signs.
    Signs,
    /// The same.
    Same,
}

/// What a tool was given, as JSON. It may be long, so it is read only if that is of use.
pub struct Input<'a> {
    text: &'a str,
    value: OnceCell<Option<Value>>,
}

impl<'a> Input<'a> {
    /// Takes the text of an input.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            value: OnceCell::new(),
        }
    }

    /// Compares a request's preview with it; `None` if they differ.
    pub fn likeness(&self, preview: &str) -> Option<Likeness> {
        if preview.trim().is_empty() || self.text.trim().is_empty() {
            return Some(Likeness::Unknown);
        }
        let Some(shown) = read(preview) else {
            return of_texts(preview, self.text);
        };
        match self.value() {
            Some(input) => of_values(&shown, input),
            None => of_texts(preview, self.text),
        }
    }

    fn value(&self) -> Option<&Value> {
        let read = || serde_json::from_str(self.text).ok();
        self.value.get_or_init(read).as_ref()
    }
}

/// Reads a preview, also one that shows line breaks and tabs in its strings as they are.
fn read(preview: &str) -> Option<Value> {
    let parsed = serde_json::from_str(preview).ok();
    parsed.or_else(|| {
        let escaped = preview
            .replace('\n', "\\n")
            .replace('\r', "\\r")
            .replace('\t', "\\t");
        serde_json::from_str(&escaped).ok()
    })
}

fn of_values(preview: &Value, input: &Value) -> Option<Likeness> {
    if preview == input {
        return Some(Likeness::Same);
    }
    let (shown, given) = (preview.as_object()?, input.as_object()?);
    let alike = |(name, shown): (&String, &Value)| {
        let given = given.get(name);
        given.is_some_and(|given| shown == given || is_cut(shown, given))
    };
    (shown.len() == given.len() && shown.iter().all(alike)).then_some(Likeness::Beginning)
}

/// Whether a field's text is the beginning of another, but for the mark of the cut.
fn is_cut(shown: &Value, given: &Value) -> bool {
    let (Some(shown), Some(given)) = (shown.as_str(), given.as_str()) else {
        return false;
    };
    let length = shown.chars().count();
    let common = shown.chars().zip(given.chars());
    let common = common.take_while(|(shown, given)| shown == given).count();
    length >= MAY_BE_CUT && common + CUT_MARK >= length && given.chars().nth(common).is_some()
}

/// Compares a preview that is no JSON, mostly as it was cut.
fn of_texts(preview: &str, input: &str) -> Option<Likeness> {
    let (mut wanted, mut found) = (signs(preview).peekable(), signs(input).peekable());
    let mut common = 0;
    while wanted.peek().is_some() && wanted.peek() == found.peek() {
        wanted.next();
        found.next();
        common += 1;
    }
    if wanted.peek().is_none() && found.peek().is_none() {
        return Some(Likeness::Signs);
    }
    let may_be_cut = preview.chars().nth(MAY_BE_CUT).is_some() && common >= ENOUGH;
    let is_cut = may_be_cut && wanted.nth(CUT_MARK).is_none();
    (is_cut || common >= PLENTY).then_some(Likeness::Beginning)
}

/// A text without its blanks, quotes and escapes, which are a matter of how it is shown.
fn signs(text: &str) -> impl Iterator<Item = char> {
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
    fn a_preview_is_recognised_in_the_input() {
        let long = "echo ".repeat(100);
        let cut = format!("{{ \"command\": \"{}…", &long[..180]);
        let whole = format!("{{\"command\":\"{long}\",\"timeout\":7}}");
        let field = format!("{{ \"command\": \"{}…\", \"timeout\": 7 }}", &long[..200]);
        let blank = format!("{{ \"command\": \"{}…", " ".repeat(200));
        let other = whole.replace('7', "8");
        let cases = [
            ("", r#"{"a":1}"#, Some(Likeness::Unknown)),
            (r#"{ "a": 1 }"#, "", Some(Likeness::Unknown)),
            (r#"{ "a": "x y", "b": 1 }"#, r#"{"b":1,"a":"x y"}"#, Some(Likeness::Same)),
            ("{ \"a\": \"x\ny\" }", r#"{"a":"x\ny"}"#, Some(Likeness::Same)),
            ("{ \"a\": \"x\n/y\" }", r#"{"a":"x/\ny"}"#, None),
            ("{ a: \"x y\" }", r#"{"a":"x y"}"#, Some(Likeness::Signs)),
            ("{ a: \"rm ./x/*\" }", r#"{"a":"rm x"}"#, None),
            (r#"{ "a": "rm -rf ./build/*" }"#, r#"{"a":"rm -rf build"}"#, None),
            (r#"{ "a": "rm -rf / tmp" }"#, r#"{"a":"rm -rf /tmp"}"#, None),
            (r#"{ "a": "x" }"#, r#"{"a":"xyz"}"#, None),
            (r#"{ "a": "x" }"#, r#"{"a":"x","b":1}"#, None),
            (r#"{ "a": "x" }"#, "x", None),
            (&cut, &whole, Some(Likeness::Beginning)),
            (&field, &whole, Some(Likeness::Beginning)),
            (&field, &other, None),
            (&cut, r#"{"command":"echo"}"#, None),
            (&blank, r#"{"command":"echo"}"#, None),
        ];
        for (preview, input, expected) in cases {
            assert_eq!(Input::new(input).likeness(preview), expected, "{preview} {input}");
        }
    }
}
