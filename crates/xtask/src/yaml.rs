//! Writes YAML.

use crate::wrap;

/// The longest line, in characters.
const WIDTH: usize = 118;

/// A value, with its keys in order.
#[derive(Clone)]
pub enum Yaml {
    Text(String),
    /// Written as it is.
    Plain(String),
    Map(Vec<(String, Yaml)>),
    List(Vec<Yaml>),
}

/// Makes a map.
pub fn map<const N: usize>(entries: [(&str, Yaml); N]) -> Yaml {
    let entries = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    Yaml::Map(entries.collect())
}

pub fn text(text: impl Into<String>) -> Yaml {
    Yaml::Text(text.into())
}

pub fn plain(value: impl ToString) -> Yaml {
    Yaml::Plain(value.to_string())
}

/// A list on one line.
pub fn names<'n>(names: impl Iterator<Item = &'n str>) -> Yaml {
    Yaml::Plain(format!("[{}]", names.collect::<Vec<_>>().join(", ")))
}

impl Yaml {
    /// Adds an entry to a map.
    pub fn with(self, key: &str, value: Yaml) -> Self {
        let Self::Map(mut entries) = self else {
            panic!("only a map has entries");
        };
        entries.push((key.to_owned(), value));
        Self::Map(entries)
    }

    /// Appends the value behind its key or dash, which has that indent.
    fn write(&self, out: &mut String, indent: usize) {
        match self {
            Self::Plain(value) => {
                out.push(' ');
                out.push_str(value);
                out.push('\n');
            }
            Self::Text(text) => write_text(out, text, indent),
            Self::Map(entries) => {
                out.push('\n');
                write_entries(out, entries, indent + 2);
            }
            Self::List(items) => {
                out.push('\n');
                for item in items {
                    out.push_str(&" ".repeat(indent + 2));
                    out.push('-');
                    if let Self::Map(entries) = item {
                        // The first entry follows the dash.
                        let mut written = String::new();
                        write_entries(&mut written, entries, indent + 4);
                        out.push_str(&written[indent + 3..]);
                    } else {
                        item.write(out, indent + 2);
                    }
                }
            }
        }
    }
}

/// Appends the entries of a map with that indent.
pub fn write_entries(out: &mut String, entries: &[(String, Yaml)], indent: usize) {
    for (key, value) in entries {
        out.push_str(&" ".repeat(indent));
        out.push_str(key);
        out.push(':');
        value.write(out, indent);
    }
}

fn write_text(out: &mut String, text: &str, indent: usize) {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !["true", "false", "null"].contains(&text)
        && text.parse::<f64>().is_err();
    if text.len() > 80 && text.contains(' ') {
        out.push_str(" >-\n");
        for line in wrap(text, WIDTH - indent - 2) {
            out.push_str(&" ".repeat(indent + 2));
            out.push_str(&line);
            out.push('\n');
        }
    } else if is_plain {
        out.push_str(&format!(" {text}\n"));
    } else {
        out.push_str(&format!(" '{}'\n", text.replace('\'', "''")));
    }
}
