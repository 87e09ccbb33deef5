//! The permission requests that nobody has answered yet.
//!
//! Without hooks nobody tells the server that a dialog was answered in the terminal, so
//! a request that is never heard of again must go by itself: after a while, or when
//! there are too many.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Instant;

/// How many requests that clients have allowed are remembered.
const MAX_ALLOWED: usize = 64;
/// From how many characters on a preview may have been cut; older hosts cut at 200.
const MAY_BE_CUT: usize = 190;
/// How many letters at the end of such a preview may be its mark of the cut.
const CUT_MARK: usize = 20;
/// With this many equal letters, nobody asks for the rest.
const PLENTY: usize = 2_000;

/// A tool call that waits for a verdict. The texts are Claude Code's, untrusted.
#[derive(Clone, Debug, PartialEq)]
pub struct PermissionRequest {
    /// Five letters, Claude Code's own.
    pub request_id: String,
    /// The tool.
    pub tool_name: String,
    /// What it is about to do.
    pub description: String,
    /// Its input, as display text.
    pub input_preview: String,
}

/// All that wait, oldest first. There are few of them, so they are searched in line.
#[derive(Debug, Default)]
pub struct Permissions {
    open: VecDeque<(Instant, PermissionRequest)>,
    /// Those that a client has allowed, and whose tool has not run yet.
    allowed: VecDeque<PermissionRequest>,
}

/// How sure it is that a tool ran with the input of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// The request doesn't say.
    Unknown,
    /// The same, as far as the preview goes.
    Beginning,
    /// The same letters.
    Letters,
    /// The same.
    Same,
}

impl Permissions {
    /// Opens a request until `expires`. What has to make room for it is returned:
    /// one under the same id, or the oldest if there are already `max`.
    pub fn open(
        &mut self,
        request: PermissionRequest,
        expires: Instant,
        max: usize,
    ) -> Option<PermissionRequest> {
        let crowded_out = self.close(&request.request_id).or_else(|| {
            let full = self.open.len() >= max;
            full.then(|| self.open.pop_front())
                .flatten()
                .map(|(_, oldest)| oldest)
        });
        self.open.push_back((expires, request));
        crowded_out
    }

    /// Closes a request, if it is open.
    pub fn close(&mut self, request_id: &str) -> Option<PermissionRequest> {
        let place = self
            .open
            .iter()
            .position(|(_, request)| request.request_id == request_id)?;
        self.open.remove(place).map(|(_, request)| request)
    }

    /// A client has allowed this one. When its tool has run, that is no news.
    pub fn allowed(&mut self, request: PermissionRequest) {
        if self.allowed.len() == MAX_ALLOWED {
            self.allowed.pop_front();
        }
        self.allowed.push_back(request);
    }

    /// A tool has run with this input, as JSON. Closes and returns the request that was
    /// open for it: then it was answered elsewhere. A tool that needs no permission runs
    /// while others ask, so the input must fit.
    pub fn ran(&mut self, tool_name: &str, input: &str) -> Option<PermissionRequest> {
        let likeness = |request: &PermissionRequest| {
            (request.tool_name == tool_name)
                .then(|| likeness(&request.input_preview, input))
                .flatten()
        };
        // Of equals, the oldest.
        let best = |likenesses: &mut dyn Iterator<Item = Option<Likeness>>| {
            let places = likenesses.enumerate();
            let found = places.filter_map(|(place, likeness)| Some((likeness?, Reverse(place))));
            found
                .max()
                .map(|(likeness, Reverse(place))| (likeness, place))
        };
        let allowed = best(&mut self.allowed.iter().map(likeness));
        let open = best(&mut self.open.iter().map(|(_, request)| likeness(request)));
        match (allowed, open) {
            (Some((known, place)), open) if open.is_none_or(|(open, _)| open <= known) => {
                self.allowed.remove(place);
                None
            }
            (_, Some((_, place))) => self.open.remove(place).map(|(_, request)| request),
            (_, None) => None,
        }
    }

    /// Closes and returns all of them, oldest first.
    pub fn settle(&mut self) -> Vec<PermissionRequest> {
        self.allowed.clear();
        self.open.drain(..).map(|(_, request)| request).collect()
    }

    /// Closes and returns the oldest request if its time is over.
    pub fn expire(&mut self, now: Instant) -> Option<PermissionRequest> {
        self.open
            .pop_front_if(|(expires, _)| *expires <= now)
            .map(|(_, request)| request)
    }

    /// When the next one expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.open.front().map(|(expires, _)| *expires)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &PermissionRequest> {
        self.open.iter().map(|(_, request)| request)
    }
}

/// Compares a request's preview with the input of a tool that has run; `None` if they
/// differ. The preview is display text that resembles JSON, and may be cut.
fn likeness(preview: &str, input: &str) -> Option<Likeness> {
    let solid = |text| str::chars(text).filter(|c| !c.is_whitespace());
    if preview.trim().is_empty() || input.trim().is_empty() {
        return Some(Likeness::Unknown);
    }
    if solid(preview).eq(solid(input)) {
        return Some(Likeness::Same);
    }
    let (mut wanted, mut found) = (letters(preview).peekable(), letters(input).peekable());
    let mut common = 0;
    while wanted.peek().is_some() && wanted.peek() == found.peek() {
        wanted.next();
        found.next();
        common += 1;
    }
    if wanted.peek().is_none() && found.peek().is_none() {
        return Some(Likeness::Letters);
    }
    let is_cut = preview.chars().nth(MAY_BE_CUT).is_some() && wanted.nth(CUT_MARK).is_none();
    (is_cut || common >= PLENTY).then_some(Likeness::Beginning)
}

/// The letters and digits of a text, whichever way the rest of it is escaped.
fn letters(text: &str) -> impl Iterator<Item = char> {
    let mut chars = text.chars();
    std::iter::from_fn(move || {
        loop {
            match chars.next()? {
                '\\' => drop(chars.next()),
                c if c.is_alphanumeric() => return Some(c),
                _ => {}
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
        let whole = format!("{{\"command\":\"{long}\"}}");
        let cases = [
            ("", r#"{"a":1}"#, Some(Likeness::Unknown)),
            (r#"{ "a": 1 }"#, "", Some(Likeness::Unknown)),
            (r#"{ "a": "x y" }"#, r#"{"a":"x y"}"#, Some(Likeness::Same)),
            ("{ \"a\": \"x\ny\" }", r#"{"a":"x\ny"}"#, Some(Likeness::Letters)),
            (r#"{ "a": "x" }"#, r#"{"a":"y"}"#, None),
            (r#"{ "a": "x" }"#, r#"{"a":"xyz"}"#, None),
            (&cut, &whole, Some(Likeness::Beginning)),
            (&cut, r#"{"command":"echo"}"#, None),
        ];
        for (preview, input, expected) in cases {
            assert_eq!(likeness(preview, input), expected, "{preview} {input}");
        }
    }
}
