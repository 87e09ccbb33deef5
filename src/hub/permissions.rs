//! The permission requests that nobody has answered yet.
//!
//! Nobody tells the server that a dialog was answered in the terminal, so a
//! request that is never heard of again must go by itself: after a while, or when
//! there are too many.

use std::collections::VecDeque;
use std::time::Instant;

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
