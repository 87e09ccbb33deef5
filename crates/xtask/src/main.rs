//! The repository's own commands.
//!
//! ```text
//! cargo xtask codegen            writes what is made from the protocol's Rust types
//! cargo xtask codegen --check    fails if something of it is not current
//! ```

mod jsdoc;
mod markdown;
mod model;
mod schema;
mod yaml;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use model::Protocol;

/// Ends a block of generated text; it begins with a line that has `codegen: NAME`.
const END: &str = "codegen: end";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let check = match arguments[..] {
        ["codegen"] => false,
        ["codegen", "--check"] => true,
        _ => {
            eprintln!("usage: cargo xtask codegen [--check]");
            return ExitCode::from(2);
        }
    };
    let mut stale = false;
    for file in generate() {
        if file.is_current() {
            continue;
        }
        let path = file.path.display();
        if check {
            eprintln!("{path} is not current; run: cargo xtask codegen");
            stale = true;
        } else {
            fs::write(&file.path, file.text).unwrap_or_else(|error| panic!("{path}: {error}"));
            println!("{path} written");
        }
    }
    if stale {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// A file, as it must be.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn is_current(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }
}

/// Makes every file that has generated blocks.
fn generate() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().expect("the repository is there");
    let protocol = Protocol::read(&root.join("crates/client/src/protocol"));
    protocol.check_examples();
    let file = |path: &str, blocks: Vec<(&str, String)>| {
        let path = root.join(path);
        let text = fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let text = blocks.into_iter().fold(text, |text, (name, body)| {
            with_block(&text, name, &body).unwrap_or_else(|| {
                panic!("{} has no block \"codegen: {name}\"", path.display());
            })
        });
        File { path, text }
    };
    vec![
        file("src/protocol/asyncapi.yaml", schema::blocks(&protocol)),
        file("client/claude-socket.js", jsdoc::blocks(&protocol)),
        file("docs/protocol.md", markdown::blocks(&protocol)),
    ]
}

/// Returns the text with another body between the lines that mark the block.
fn with_block(text: &str, name: &str, body: &str) -> Option<String> {
    let marker = format!("codegen: {name}");
    let is_marker = |line: &&str| {
        let line = line.trim_end_matches("-->").trim_end();
        line.ends_with(&marker)
    };
    let begin = text
        .split_inclusive('\n')
        .find(|line| is_marker(&line.trim_end()))?;
    let begin = begin.as_ptr() as usize - text.as_ptr() as usize + begin.len();
    let rest = &text[begin..];
    let end = rest.split_inclusive('\n').find(|line| line.contains(END))?;
    let end = begin + (end.as_ptr() as usize - rest.as_ptr() as usize);
    Some([&text[..begin], body, &text[end..]].concat())
}

/// Breaks a text into lines of at most that many characters; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_are_current() {
        for file in generate() {
            assert!(
                file.is_current(),
                "{} is not current; run: cargo xtask codegen",
                file.path.display()
            );
        }
    }

    #[test]
    fn block_is_replaced_between_its_markers() {
        let text = "a\n# codegen: x\nold\n# codegen: end\nb\n";
        let expected = "a\n# codegen: x\nnew\n# codegen: end\nb\n";
        assert_eq!(with_block(text, "x", "new\n").as_deref(), Some(expected));
        assert_eq!(with_block(text, "y", "new\n"), None);
    }
}
