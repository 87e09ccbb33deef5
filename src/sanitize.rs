//! Text of others, made fit to be shown: nothing in it may move a terminal's cursor, change colors,
//! or pass for something else.

mod channel_tags;

use std::fmt::Write;
use std::ops::RangeInclusive;

pub use channel_tags::escape_channel_tags;

/// Characters that show nothing, or show the text in another order (UAX #9): those of the Unicode
/// category Cf, those that are `Default_Ignorable_Code_Point`, the separators of lines and
/// paragraphs, and the blank Braille pattern. Variation selector 16 is none of them, as it only
/// makes an emoji of a character. Control characters are not listed, [`char::is_control`] knows
/// them. The chat page has the same in `examples/basic`, and a test compares the two.
pub const INVISIBLE: [RangeInclusive<char>; 26] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0e}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];
/// Join letters of some scripts, and the parts of emoji.
const JOINERS: RangeInclusive<char> = '\u{200c}'..='\u{200d}';

/// Returns `true` for a character that shows nothing, or shows the text in another order.
pub fn is_invisible(c: char) -> bool {
    let next = INVISIBLE.partition_point(|range| *range.end() < c);
    !c.is_ascii() && INVISIBLE.get(next).is_some_and(|range| range.contains(&c))
}

/// Returns the text with all characters written out that could steer a terminal or deceive its
/// reader. Ends of lines and tabs stay.
pub fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// Returns the text in one line, with ends of lines and tabs written out too.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// Returns the text in one line, cut to 128 characters: for a place where a stranger's text is one
/// word of a sentence.
pub fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 128;
    let text = text.trim();
    match text.char_indices().nth(MAX_CHARS) {
        None => line(text),
        Some((end, _)) => line(text.get(..end).unwrap_or_default()) + "…",
    }
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if stays(c) => safe.push(c),
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            // Writing to a string cannot fail.
            c if is_deceptive(c) => drop(write!(safe, "\\u{{{:x}}}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe
}

/// Returns `true` for characters with which shown and real text differ. Joiners are kept for
/// scripts and emoji.
fn is_deceptive(c: char) -> bool {
    c.is_control() || (is_invisible(c) && !JOINERS.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steering_characters_are_written_out() {
        let cases = [
            ("plain – ü", "plain – ü", "plain – ü"),
            ("a\nb\tc", "a\nb\tc", "a\\nb\\tc"),
            (
                "\x1b[31mred\x07",
                "\\u{1b}[31mred\\u{7}",
                "\\u{1b}[31mred\\u{7}",
            ),
            ("over\rwritten", "over\\rwritten", "over\\rwritten"),
            (
                "\u{9b}2J\u{202e}x",
                "\\u{9b}2J\\u{202e}x",
                "\\u{9b}2J\\u{202e}x",
            ),
        ];
        for (text, several, one) in cases {
            assert_eq!((&*lines(text), &*line(text)), (several, one));
        }
    }

    #[test]
    fn invisible_characters_are_in_order_and_leave_text_alone() {
        assert!(INVISIBLE.is_sorted_by(|a, b| a.end() < b.start()));
        assert!(INVISIBLE.iter().all(|range| !range.is_empty()));
        let text = "plain – ü e\u{301} الْعَرَبِيَّة हिन्दी 中文 👩 ☀\u{fe0f} 🇨🇭\n\t";
        assert_eq!(text.find(is_invisible), None);
        for c in "\u{ad}\u{61c}\u{180e}\u{200d}\u{2028}\u{2066}\u{feff}\u{fffb}\u{e0041}".chars() {
            assert!(is_invisible(c), "{c:?}");
        }
    }

    #[test]
    fn excerpt_stays_on_one_line_and_is_cut() {
        let cases = [
            ("2.1.330 (Claude Code)\n", "2.1.330 (Claude Code)"),
            ("Ünïté 中 👩‍🚀", "Ünïté 中 👩‍🚀"),
            ("it's \"so\"", "it's \"so\""),
            ("1\n\nNext:\n  rm", "1\\n\\nNext:\\n  rm"),
            ("\u{1b}[2J\u{9b}1A\r", "\\u{1b}[2J\\u{9b}1A"),
            (
                "a\u{202e}b\u{2066}c\u{2028}d\u{200b}e\u{feff}f\u{e0041}g",
                "a\\u{202e}b\\u{2066}c\\u{2028}d\\u{200b}e\\u{feff}f\\u{e0041}g",
            ),
        ];
        for (text, shown) in cases {
            assert_eq!(excerpt(text), shown);
        }
        let long = excerpt(&"\n.".repeat(10_000));
        assert!(long.ends_with('…') && long.chars().count() < 1_000);
    }
}
