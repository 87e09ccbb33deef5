//! Halves of characters in JSON.
//!
//! A string of JavaScript, and of Python by `surrogateescape`, can hold one half of a surrogate pair, such as when it
//! was cut within an emoji. It travels as an escape without its other half. RFC 8259, section 8.2, allows that and
//! leaves open what it means. Text in Rust cannot hold it, so `serde_json` takes it for an error.

/// The characters of an escape such as `\ud83d`.
const ESCAPE: usize = 6;

/// Returns a JSON text with `\ufffd` in place of each escaped surrogate that has no other half; `None` if there is none.
/// Nothing else of the text changes, and its length stays.
///
/// A frame is parsed as it is first, and once more with this if that fails: then those without such an escape cost
/// nothing.
pub fn replace_lone_surrogates(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let mut repaired = String::new();
    let (mut copied, mut next) = (0, 0);
    while let Some(length) = position_of_backslash(bytes, next) {
        let place = next + length;
        next = match (unit(bytes, place), unit(bytes, place + ESCAPE)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => place + 2 * ESCAPE,
            (Some(0xd800..=0xdfff), _) => {
                repaired.push_str(&json[copied..place]);
                repaired.push_str("\\ufffd");
                copied = place + ESCAPE;
                copied
            }
            // Another escape, such as `\\`, of which the second character begins none.
            _ => place + 2,
        };
    }
    if copied == 0 {
        return None;
    }
    repaired.push_str(&json[copied..]);
    Some(repaired)
}

fn position_of_backslash(bytes: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.iter().position(|byte| *byte == b'\\')
}

/// Returns the UTF-16 code unit that is escaped at this place, if one is.
fn unit(bytes: &[u8], place: usize) -> Option<u16> {
    let digits = bytes.get(place..place + ESCAPE)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | digit as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    #[test]
    fn only_surrogates_without_their_other_half_are_replaced() {
        let cases = [
            (r#""ab\ud83d""#, Some(r#""ab\ufffd""#)),
            (r#""\uDE00!""#, Some(r#""\ufffd!""#)),
            (r#""\ude00\ud83d""#, Some(r#""\ufffd\ufffd""#)),
            (r#""\ud83d\ud83d\ude00""#, Some(r#""\ufffd\ud83d\ude00""#)),
            (r#""\ud83d\ude00\ude00""#, Some(r#""\ud83d\ude00\ufffd""#)),
            (r#""\ud83d\n\ude00""#, Some(r#""\ufffd\n\ufffd""#)),
            (r#""\\\ud83d""#, Some(r#""\\\ufffd""#)),
            (r#"{"\ud83d":"é\udcff"}"#, Some(r#"{"\ufffd":"é\ufffd"}"#)),
            (r#""\ud83d\ude00""#, None),
            (r#""\\ud83d""#, None),
            (r#""\\\\ud83d""#, None),
            (r#""\u00e9\ud7ff\ue000""#, None),
            (r#""\ud83""#, None),
            (r#""\u+83d""#, None),
            (r#""\é\"#, None),
            ("", None),
        ];
        for (json, expected) in cases {
            assert_eq!(replace_lone_surrogates(json).as_deref(), expected, "{json}");
        }
    }
}
