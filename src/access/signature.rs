//! Whether a file has changed, without opening it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Two changes within this time may look like one: so coarse can a file's time be.
const COARSE: Duration = Duration::from_secs(2);

/// What a file looks like from outside. Another look means another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The file; none if it isn't there.
    file: Option<Look>,
    /// The folder it is in.
    folder: Option<Look>,
}

/// What stat(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    place: (u64, u64),
    access: (u32, u32),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    /// Looks at a file; none if that isn't possible.
    pub fn of(path: &Path) -> Option<Self> {
        let folder = path.parent().unwrap_or(path);
        let look = |metadata: io::Result<fs::Metadata>| match metadata {
            Ok(metadata) => Some(Some(Look::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
            Err(_) => None,
        };
        Some(Self {
            file: look(fs::symlink_metadata(path))?,
            folder: look(fs::metadata(folder))?,
        })
    }

    /// Whether there is a file, or whatever has its name.
    pub fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// Whether another change would show.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs().cast_signed());
        let coarse = COARSE.as_secs().cast_signed();
        let settled = |look: &Look| (now - look.changed.0).abs() > coarse;
        self.file.iter().chain(&self.folder).all(settled)
    }
}

impl Look {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            place: (metadata.dev(), metadata.ino()),
            access: (metadata.uid(), metadata.mode()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
