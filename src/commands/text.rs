//! Text from the network on a terminal: nothing in it may move the cursor, change colours, or
//! pass for something else.

use std::fmt::Write;

/// The same text, in which what could steer a terminal is written out. Ends of lines and
/// tabs stay.
pub fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// The same in one line.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
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
            c if c.is_control() || misleads(c) => drop(write!(safe, "\\u{{{:x}}}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe
}

/// Whether it is unseen and says something else than what is seen: by another order or other
/// lines (Unicode, UAX #9), or by words between the letters. What joins letters and emoji stays.
fn misleads(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// The same in one line, cut if it is long: for a place where a stranger's text is one word
/// of a sentence.
pub fn excerpt(text: &str) -> String {
    /// In characters.
    const LONGEST: usize = 128;
    let text = text.trim();
    match text.char_indices().nth(LONGEST) {
        None => line(text),
        Some((end, _)) => line(text.get(..end).unwrap_or_default()) + "…",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
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
    fn an_excerpt_stays_on_its_line() {
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
