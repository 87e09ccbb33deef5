//! What others say, made fit for the screen: whoever has the port may say anything, also
//! what moves a terminal's cursor or looks like a line of the report.

use crate::hub::CHANNEL_OFF;
use crate::socket::probe::Answer;

/// How long a text of somebody else's may be, in characters.
const LONGEST: usize = 128;

/// A text on one line: control and format characters escaped, and cut if it is long.
pub fn line(text: &str) -> String {
    let mut line = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == LONGEST {
            line.push('…');
            break;
        }
        match c {
            // `escape_debug` would escape these too, and they do no harm.
            '"' | '\'' => line.push(c),
            _ => line.extend(c.escape_debug()),
        }
    }
    line
}

/// An answer with no text but such lines, and our own.
pub fn answer(answer: Answer) -> Answer {
    let Answer::Health(mut health) = answer else {
        return answer;
    };
    health.version = line(&health.version);
    health.host.name = health.host.name.as_deref().map(line);
    health.host.version = health.host.version.as_deref().map(line);
    // A sentence that tells people what to do is no stranger's to write.
    health.channel.hint = (health.channel.proven == Some(false)).then_some(CHANNEL_OFF.into());
    Answer::Health(health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_stays_on_its_line() {
        let cases = [
            ("2.1.330 (Claude Code)\n", "2.1.330 (Claude Code)"),
            ("Ünïté 中", "Ünïté 中"),
            ("it's \"so\"", "it's \"so\""),
            ("1\n\nNext:\n  rm", "1\\n\\nNext:\\n  rm"),
            ("\u{1b}[2J\u{9b}1A\r", "\\u{1b}[2J\\u{9b}1A"),
            (
                "a\u{202e}b\u{2066}c\u{2028}d\u{200b}e\u{feff}f",
                "a\\u{202e}b\\u{2066}c\\u{2028}d\\u{200b}e\\u{feff}f",
            ),
            ("a\\n", "a\\\\n"),
        ];
        for (text, shown) in cases {
            assert_eq!(line(text), shown);
        }
        let long = line(&"\n.".repeat(10_000));
        assert!(long.ends_with('…') && long.chars().count() < 1_000);
    }
}
