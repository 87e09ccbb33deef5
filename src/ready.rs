//! Tells the program that started a server whether it listens, and where: a JSON line for each
//! change in the file or pipe of `--ready-file`. The log says the same to people.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use log::warn;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// It listens on this address.
    Listening(SocketAddr),
    /// It does not listen on this address, and tries again.
    Failed(SocketAddr),
}

impl Ready {
    /// Reads a line; `None` if it is none of these.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// Appends a line to the file.
    pub fn write(self, path: &Path) {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        // A named pipe without a reader would block.
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let line = serde_json::to_string(&self).unwrap_or_default() + "\n";
        let written = options
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            warn!("{} cannot be written ({error})", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_read_as_it_was_written() {
        let path = std::env::temp_dir().join(format!("claude-socket-ready-{}", std::process::id()));
        let address = SocketAddr::from(([127, 0, 0, 1], 3100));
        let expected = [Ready::Failed(address), Ready::Listening(address)];
        for ready in expected {
            ready.write(&path);
        }
        let text = std::fs::read_to_string(&path).expect("the lines are there");
        std::fs::remove_file(&path).expect("the file is ours");
        let read: Vec<_> = text.lines().filter_map(Ready::parse).collect();
        assert_eq!(read, expected);
        assert_eq!(text.lines().next(), Some(r#"{"failed":"127.0.0.1:3100"}"#));
        assert_eq!(Ready::parse("listening"), None);
    }
}
