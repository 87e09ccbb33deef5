//! Frames of clients.

#![no_main]

use claude_socket::protocol::{self, ClientMessage, ClientRequest, MAX_LIMIT};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

/// The longest name here, in characters.
const MAX_NAME: usize = 16;

fuzz_target!(|text: &str| {
    match protocol::parse(text, MAX_NAME) {
        Ok(ClientMessage::Message(message)) => {
            assert!(!message.content.is_empty());
            for name in [
                message.session.as_ref().map(|id| id.as_str()),
                message.user.as_deref(),
            ] {
                assert!(name.is_none_or(is_name), "{name:?}");
            }
            // What is taken is JSON for everybody else, too, but for a byte order mark.
            let json = text.strip_prefix('\u{feff}').unwrap_or(text);
            let object = serde_json::from_str::<&RawValue>(json);
            assert!(object.is_ok_and(|object| object.get().starts_with('{')));
        }
        Ok(ClientMessage::Request(ClientRequest::FetchHistory { limit, .. })) => {
            assert!((1..=MAX_LIMIT).contains(&limit));
        }
        Ok(ClientMessage::Request(_)) => {}
        Err(rejection) => {
            assert!(!rejection.message.is_empty());
            serde_json::to_string(&rejection.error()).expect("it can be told");
        }
    }
});

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control)
}
