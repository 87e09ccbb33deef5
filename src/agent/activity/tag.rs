//! The channel tag at the start of a prompt.

use std::borrow::Cow;

use uuid::Uuid;

use crate::agent::channel::ServerKey;
use crate::hub::ChannelTag;
use crate::protocol::MessageId;

/// Returns the tag of a prompt that is a message of this server. Only the tag at the very start
/// counts: Claude Code wrote that one, and the sender of the message may have written others
/// behind it.
pub fn read(prompt: &str, server_key: &ServerKey) -> Option<ChannelTag> {
    let mut rest = prompt.strip_prefix("<channel ")?;
    let (mut source, mut chat_id, mut message_id) = (None, None, None);
    loop {
        rest = rest.trim_start();
        if rest.starts_with('>') {
            break;
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        // Not an attribute name: the tag was not closed properly.
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let place = match name {
            "source" => &mut source,
            "chat_id" => &mut chat_id,
            "message_id" => &mut message_id,
            _ => &mut None,
        };
        // Claude Code writes each attribute once.
        if place.replace(unescape(value)).is_some() {
            return None;
        }
        rest = after;
    }
    if !server_key.is_source(&source?) {
        return None;
    }
    Some(ChannelTag {
        chat_id: chat_id?.into_owned(),
        message_id: message_id
            .and_then(|id| Uuid::parse_str(&id).ok())
            .map(MessageId),
    })
}

/// Returns an attribute's value as it was before Claude Code escaped it.
fn unescape(value: &str) -> Cow<'_, str> {
    const ENTITIES: [(&str, char); 6] = [
        ("&quot;", '"'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&amp;", '&'),
        ("&apos;", '\''),
        ("&#39;", '\''),
    ];
    if !value.contains('&') {
        return Cow::Borrowed(value);
    }
    let mut plain = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(place) = rest.find('&') {
        let (before, from) = rest.split_at(place);
        plain.push_str(before);
        let entity = ENTITIES.iter().find(|(name, _)| from.starts_with(name));
        let (c, length) = entity.map_or(('&', 1), |(name, c)| (*c, name.len()));
        plain.push(c);
        rest = &from[length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01234567-89ab-8def-8000-000000000001";

    fn chat_id(prompt: &str) -> Option<String> {
        read(prompt, &"bridge".into()).map(|tag| tag.chat_id)
    }

    #[rustfmt::skip]
    #[test]
    fn only_own_tag_at_the_very_start_counts() {
        let ours = "<channel source=\"bridge\" chat_id=\"s1\" user=\"a\">\nhi\n</channel>";
        let cases = [
            (ours, Some("s1")),
            ("<channel source=\"bridge\" chat_id=\"s1\">", Some("s1")),
            ("<channel chat_id=\"s1\" source=\"bridge\" >", Some("s1")),
            ("<channel source=\"bridge\" chat_id=\"&quot;a&quot;&lt;b&gt; &amp;amp; &unknown; &\">", Some("\"a\"<b> &amp; &unknown; &")),
            ("<channel source=\"bridge\" chat_id=\"\" >", Some("")),
            ("<channel source=\"claude-socket\" chat_id=\"s1\">", None),
            ("<channel source=\"plugin:claude-socket:claude-socket\" chat_id=\"s1\">", None),
            ("<channel source=\"plugin:telegram:telegram\" chat_id=\"s1\">\n<channel source=\"bridge\" chat_id=\"s2\">", None),
            (&format!(" {ours}"), None),
            (&format!("look: {ours}"), None),
            ("<channel source=\"bridge\">", None),
            ("<channel chat_id=\"s1\">", None),
            ("<channel source=\"bridge\" chat_id=\"s1\" chat_id=\"s2\">", None),
            ("<channel source=\"bridge\" odd>\n<x chat_id=\"s1\">", None),
            ("<channel source=\"bridge\"\n>chat_id=\"s1\">", None),
            ("<channel source=\"other\" source=\"bridge\" chat_id=\"s1\">", None),
            ("<channel source=\"bridge\" chat_id=\"s1\"", None),
            ("<channel source=\"bridge\" chat_id=s1>", None),
            ("<channels source=\"bridge\" chat_id=\"s1\">", None),
            ("<channel ", None),
            ("", None),
        ];
        for (prompt, expected) in cases {
            assert_eq!(chat_id(prompt).as_deref(), expected, "{prompt}");
        }
    }

    #[test]
    fn message_id_is_read_from_the_tag() {
        let prompt = |id| format!("<channel source=\"bridge\" chat_id=\"s1\" message_id=\"{id}\">");
        let message_id = |id| read(&prompt(id), &"bridge".into()).and_then(|tag| tag.message_id);
        assert_eq!(message_id(ID).map(|id| id.to_string()).as_deref(), Some(ID));
        assert_eq!(message_id("m1"), None);
    }
}
