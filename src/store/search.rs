//! What somebody searches for, as FTS5 asks for it.

/// Returns the expression for messages with all of these words, the last of which may be the beginning of one; `None` if
/// there is no word. Each is a string of FTS5's, in which nothing but a quotation mark has a meaning, and that is doubled
/// (SQLite, "FTS5 Strings").
pub fn expression(text: &str) -> Option<String> {
    let mut words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| word.contains(char::is_alphanumeric))
        .peekable();
    words.peek()?;
    let mut expression = String::with_capacity(text.len() + 8);
    for word in words {
        if !expression.is_empty() {
            expression.push(' ');
        }
        expression.push('"');
        for c in word.chars() {
            if c == '"' {
                expression.push('"');
            }
            expression.push(c);
        }
        expression.push('"');
    }
    expression.push('*');
    Some(expression)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted() {
        let cases = [
            ("hello", Some("\"hello\"*")),
            (" two  words ", Some("\"two\" \"words\"*")),
            ("a OR b*", Some("\"a\" \"OR\" \"b*\"*")),
            ("say \"hi\" - x", Some("\"say\" \"\"\"hi\"\"\" \"x\"*")),
            ("nul\0byte", Some("\"nul\" \"byte\"*")),
            ("- ! \"", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(expression(text).as_deref(), expected, "{text:?}");
        }
    }
}
