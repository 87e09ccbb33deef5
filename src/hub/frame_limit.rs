//! What fits into a frame for a client. Common clients close the connection on a longer one: Python's `websockets`
//! takes 1 MiB.
//!
//! Seven eighths of a frame are for text, one for everything else in it: names, ids, times, keys. What people send is
//! bounded when it comes in, by [`Limits::max_message`]; Claude's own replies are refused beyond [`Limits::max_text`]; text
//! that nobody can be asked to shorten is cut, and says so.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Limits, PermissionRequest};
use crate::json;
use crate::protocol::MAX_NAME;

/// The most characters in the detail of a status.
const MAX_DETAIL: usize = 500;
/// The longest name of a tool in a permission request, in bytes as JSON.
const MAX_TOOL_NAME: usize = 1024;
/// The longest description in a permission request, in bytes as JSON.
const MAX_DESCRIPTION: usize = 8 * 1024;
/// The longest preview of a tool's input, in bytes as JSON. Claude Code cuts each field at 3,500 characters.
const MAX_PREVIEW: usize = 32 * 1024;

/// Returns the longest text that fits into a frame, in bytes as JSON.
pub const fn max_text(max_frame: usize) -> usize {
    max_frame - max_frame / 8
}

/// Returns the shortest [`Limits::max_frame`] with names of at most `max_name` characters. In a frame there are two of
/// them, with 4 bytes a character at most, and less than a kibibyte of everything else but texts.
pub fn min_frame(max_name: usize) -> usize {
    let names = max_name.max(MAX_NAME).saturating_mul(2 * 4);
    names.saturating_add(1024).saturating_mul(8)
}

impl Limits {
    /// The longest text that fits into a frame, in bytes as JSON.
    pub fn max_text(&self) -> usize {
        max_text(self.max_frame)
    }
}

/// Returns a text with at most `max` bytes as JSON. The end of one that had to be cut says so.
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if json::fits(text, max) {
        return text.into();
    }
    let note = format!(
        "\n[cut off: {} bytes in all; the terminal has the rest]",
        text.len()
    );
    let room = max.saturating_sub(json::text_len(&note));
    [json::start(text, room), &note].concat().into()
}

/// The same for a text that is shared.
pub fn cut_shared(text: Arc<str>, max: usize) -> Arc<str> {
    match cut(&text, max) {
        Cow::Borrowed(_) => text,
        Cow::Owned(cut) => cut.into(),
    }
}

/// Returns a status's detail with at most [`MAX_DETAIL`] characters; one that had to be cut ends with `…`.
pub fn cut_detail(detail: &str) -> Cow<'_, str> {
    if detail.chars().nth(MAX_DETAIL).is_none() {
        return detail.into();
    }
    detail.chars().take(MAX_DETAIL - 1).chain(['…']).collect()
}

impl PermissionRequest {
    /// Cuts the texts to what fits into a frame. A longer one may be stored for as long as nobody answers.
    pub(super) fn cut(self, limits: &Limits) -> Self {
        let shorten = |text: String, usual: usize, share: usize| {
            cut(&text, usual.min(limits.max_text() / share)).into_owned()
        };
        Self {
            request_id: self.request_id,
            tool_name: shorten(self.tool_name, MAX_TOOL_NAME, 8),
            description: shorten(self.description, MAX_DESCRIPTION, 4),
            input_preview: shorten(self.input_preview, MAX_PREVIEW, 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(cut("short", 5), "short");
        for (text, max) in [
            ("x".repeat(1_000), 200),
            ("\u{1}".repeat(1_000), 1_024),
            ("🤖".repeat(1_000), 999),
        ] {
            let cut = cut(&text, max);
            assert!(json::text_len(&cut) <= max);
            assert!(json::text_len(&cut) > max - 6, "{cut} uses its room");
            let note = format!("{} bytes in all; the terminal has the rest]", text.len());
            assert!(cut.ends_with(&note), "{cut}");
        }
        assert_eq!(cut_detail(&"é".repeat(MAX_DETAIL)), "é".repeat(MAX_DETAIL));
        let cut = cut_detail(&"é".repeat(MAX_DETAIL + 1)).into_owned();
        assert_eq!(cut.chars().count(), MAX_DETAIL);
        assert!(cut.ends_with("é…"));
    }
}
