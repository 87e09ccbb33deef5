//! The pending permission requests of one agent.
//!
//! Without hooks nothing reports that a dialog was answered in the terminal, so a request
//! also closes when it expires, or is evicted when there are too many.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use super::input_match::{MatchQuality, ToolInput};
use crate::protocol::{ServerMessage, SessionId};

/// The most requests that were allowed by clients and are remembered.
const MAX_ALLOWED: usize = 64;

/// The id of a permission request, as the agent gave it: five letters. Two agents can use the
/// same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for RequestId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

/// A tool call that waits for a verdict. The texts are from Claude Code, and untrusted.
#[derive(Clone, Debug, PartialEq)]
pub struct PermissionRequest {
    pub request_id: RequestId,
    /// The name of the tool.
    pub tool_name: String,
    /// What the tool is about to do.
    pub description: String,
    /// Its input, as display text.
    pub input_preview: String,
}

impl PermissionRequest {
    /// The frame for an operator in this session.
    pub(super) fn frame<'a>(&'a self, session: &'a SessionId) -> ServerMessage<&'a str> {
        ServerMessage::PermissionRequest {
            session_id: session.as_str(),
            request_id: self.request_id.as_str(),
            tool_name: &self.tool_name,
            description: &self.description,
            input_preview: &self.input_preview,
        }
    }
}

/// For the log: escaped, so that it stays on its line.
impl fmt::Display for PermissionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tool, id) = (&self.tool_name, self.request_id.as_str());
        write!(f, "{} ({})", tool.escape_debug(), id.escape_debug())
    }
}

/// All pending requests, oldest first. There are few, so lookups are linear.
#[derive(Debug, Default)]
pub struct Permissions {
    open: VecDeque<(Instant, PermissionRequest)>,
    /// Those that a client has allowed and whose tool has not run yet.
    allowed: VecDeque<PermissionRequest>,
}

/// The request that best matches the input of a tool.
#[derive(Clone, Copy)]
struct BestMatch {
    quality: MatchQuality,
    /// The index of the oldest, if there are several.
    index: usize,
    /// No other request matches as well.
    is_only: bool,
}

impl BestMatch {
    /// Returns the best of these, which are in the order of the requests.
    fn of(qualities: impl Iterator<Item = Option<MatchQuality>>) -> Option<Self> {
        let mut best: Option<Self> = None;
        for (index, quality) in qualities.enumerate() {
            let Some(quality) = quality else {
                continue;
            };
            match &mut best {
                Some(best) if best.quality > quality => {}
                Some(best) if best.quality == quality => best.is_only = false,
                _ => {
                    best = Some(Self {
                        quality,
                        index,
                        is_only: true,
                    });
                }
            }
        }
        best
    }
}

impl Permissions {
    /// Opens a request until `expires`. Returns the request that is evicted: one under the
    /// same id, or the oldest if there are already `max`.
    pub fn open(
        &mut self,
        request: PermissionRequest,
        expires: Instant,
        max: usize,
    ) -> Option<PermissionRequest> {
        let evicted = self.close(request.request_id.as_str()).or_else(|| {
            let full = self.open.len() >= max;
            full.then(|| self.open.pop_front())
                .flatten()
                .map(|(_, oldest)| oldest)
        });
        self.open.push_back((expires, request));
        evicted
    }

    /// Closes and returns a request, if it is open.
    pub fn close(&mut self, request_id: &str) -> Option<PermissionRequest> {
        let place = self
            .open
            .iter()
            .position(|(_, request)| request.request_id.as_str() == request_id)?;
        self.open.remove(place).map(|(_, request)| request)
    }

    /// Remembers a request that a client allowed, so that its tool run is not taken for a
    /// decision in the terminal.
    pub fn remember_allowed(&mut self, request: PermissionRequest) {
        if self.allowed.len() == MAX_ALLOWED {
            self.allowed.pop_front();
        }
        self.allowed.push_back(request);
    }

    /// Closes and returns the request that was open for a tool that has run with this input, a
    /// JSON text: it was answered in the terminal. A tool that needs no permission runs while
    /// others ask, so the input must match.
    pub fn resolve_by_tool_use(
        &mut self,
        tool_name: &str,
        input: &str,
    ) -> Option<PermissionRequest> {
        let input = ToolInput::new(input);
        let quality = |request: &PermissionRequest| {
            (request.tool_name == tool_name)
                .then(|| input.matches(&request.input_preview))
                .flatten()
        };
        let allowed = BestMatch::of(self.allowed.iter().map(quality));
        let open = BestMatch::of(self.open.iter().map(|(_, request)| quality(request)));
        if let Some(allowed) = allowed
            && open.is_none_or(|open| open.quality <= allowed.quality)
        {
            self.allowed.remove(allowed.index);
            return None;
        }
        // If it may be any of several, all stay open: the end of the turn closes those that were
        // answered. Of those that ask the same, the oldest is answered first.
        let open = open.filter(|open| open.is_only || open.quality == MatchQuality::Exact)?;
        self.open.remove(open.index).map(|(_, request)| request)
    }

    /// Closes and returns all requests, oldest first.
    pub fn drain(&mut self) -> Vec<PermissionRequest> {
        self.allowed.clear();
        self.open.drain(..).map(|(_, request)| request).collect()
    }

    /// Closes and returns the oldest request if it has expired.
    pub fn expire(&mut self, now: Instant) -> Option<PermissionRequest> {
        self.open
            .pop_front_if(|(expires, _)| *expires <= now)
            .map(|(_, request)| request)
    }

    /// Returns when the next request expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open.front().map(|(expires, _)| *expires)
    }

    /// The number of pending requests.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// All pending requests, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &PermissionRequest> {
        self.open.iter().map(|(_, request)| request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_in_log_stays_on_its_line() {
        let request = PermissionRequest {
            request_id: "ab\rde".to_owned().into(),
            tool_name: "Ba\nsh\u{1b}[2J".into(),
            description: String::new(),
            input_preview: String::new(),
        };
        assert_eq!(request.to_string(), "Ba\\nsh\\u{1b}[2J (ab\\rde)");
    }
}
