//! Reads lines of bounded length.

use std::io::{self, BufRead};

/// The UTF-8 of U+FEFF. Programs that announce their encoding write it first, and some before each line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its end, and without a byte order mark.
    Complete(&'a [u8]),
    /// A line over the limit. Its bytes were skipped.
    TooLong,
}

/// Splits a stream into lines and never holds more than `max` bytes of one.
#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    line: Vec<u8>,
    max: usize,
}

impl<R: BufRead> LineReader<R> {
    /// The capacity that the buffer keeps between two lines, in bytes.
    const KEPT_CAPACITY: usize = 64 * 1024;

    /// Accepts lines of fewer than `max` bytes.
    pub fn new(input: R, max: usize) -> Self {
        Self {
            input,
            line: Vec::new(),
            max,
        }
    }

    /// Returns the next line that isn't blank; `None` at the end of the input. A last line
    /// needs no line end.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.line.clear();
            self.line.shrink_to(Self::KEPT_CAPACITY);
            let mut too_long = false;
            let mut ended = false;
            while !ended {
                let bytes = match self.input.fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    bytes => bytes?,
                };
                if bytes.is_empty() {
                    if self.line.is_empty() && !too_long {
                        return Ok(None);
                    }
                    break;
                }
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let part = &bytes[..end.unwrap_or(bytes.len())];
                ended = end.is_some();
                too_long |= self.line.len() + part.len() >= self.max;
                if too_long {
                    self.line = Vec::new();
                } else {
                    self.line.extend_from_slice(part);
                }
                let used = part.len() + usize::from(ended);
                self.input.consume(used);
            }
            if too_long {
                return Ok(Some(Line::TooLong));
            }
            let marked = self.line.strip_prefix(BYTE_ORDER_MARK);
            let start = self.line.len() - marked.map_or(self.line.len(), <[u8]>::len);
            if !self.line[start..].trim_ascii().is_empty() {
                return Ok(Some(Line::Complete(&self.line[start..])));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_the_same_for_every_buffer_size() {
        let input = b"\xef\xbb\xbfone\n\n  \r\ntwo\r\n123456789\n12345678\n\xef\xbb\xbf\n\xef\xbb\xbf\xef\xbb\xbf3\nlast";
        let expected = [
            "one",
            "two\r",
            "(too long)",
            "12345678",
            "\u{feff}3",
            "last",
        ];
        for buffer in [1, 2, 3, 7, 100] {
            let mut lines = LineReader::new(BufReader::with_capacity(buffer, &input[..]), 9);
            let mut seen = Vec::new();
            while let Some(line) = lines.next_line().expect("reading from memory cannot fail") {
                seen.push(match line {
                    Line::Complete(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    Line::TooLong => "(too long)".to_owned(),
                });
            }
            assert_eq!(seen, expected, "with a buffer of {buffer}");
        }
    }
}
