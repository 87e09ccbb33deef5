//! The permission requests that nobody has answered yet.
//!
//! Without hooks nobody tells the server that a dialog was answered in the terminal, so
//! a request that is never heard of again must go by itself: after a while, or when
//! there are too many.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use super::likeness::{Input, Likeness};

/// How many requests that clients have allowed are remembered.
const MAX_ALLOWED: usize = 64;

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

/// For the log, whose lines nothing in it can break.
impl fmt::Display for PermissionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tool, id) = (&self.tool_name, &self.request_id);
        write!(f, "{} ({})", tool.escape_debug(), id.escape_debug())
    }
}

/// All that wait, oldest first. There are few of them, so they are searched in line.
#[derive(Debug, Default)]
pub struct Permissions {
    open: VecDeque<(Instant, PermissionRequest)>,
    /// Those that a client has allowed, and whose tool has not run yet.
    allowed: VecDeque<PermissionRequest>,
}

/// The request that is most like what a tool was given.
#[derive(Clone, Copy)]
struct Best {
    likeness: Likeness,
    /// That of the oldest, if there are several.
    place: usize,
    /// No other one is as much like it.
    is_only: bool,
}

impl Best {
    /// Finds it among these, oldest first.
    fn of(likenesses: impl Iterator<Item = Option<Likeness>>) -> Option<Self> {
        let mut best: Option<Self> = None;
        for (place, likeness) in likenesses.enumerate() {
            let Some(likeness) = likeness else {
                continue;
            };
            match &mut best {
                Some(best) if best.likeness > likeness => {}
                Some(best) if best.likeness == likeness => best.is_only = false,
                _ => {
                    best = Some(Self {
                        likeness,
                        place,
                        is_only: true,
                    });
                }
            }
        }
        best
    }
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
        let input = Input::new(input);
        let likeness = |request: &PermissionRequest| {
            (request.tool_name == tool_name)
                .then(|| input.likeness(&request.input_preview))
                .flatten()
        };
        let allowed = Best::of(self.allowed.iter().map(likeness));
        let open = Best::of(self.open.iter().map(|(_, request)| likeness(request)));
        if let Some(allowed) = allowed
            && open.is_none_or(|open| open.likeness <= allowed.likeness)
        {
            self.allowed.remove(allowed.place);
            return None;
        }
        // If it may have been any of several, all of them stay open: the turn's end closes
        // those that were answered. Of those that ask the same, the oldest is answered first.
        let open = open.filter(|open| open.is_only || open.likeness == Likeness::Same)?;
        self.open.remove(open.place).map(|(_, request)| request)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_to_its_line_of_the_log() {
        let request = PermissionRequest {
            request_id: "ab\rde".into(),
            tool_name: "Ba\nsh\u{1b}[2J".into(),
            description: String::new(),
            input_preview: String::new(),
        };
        assert_eq!(request.to_string(), "Ba\\nsh\\u{1b}[2J (ab\\rde)");
    }
}
