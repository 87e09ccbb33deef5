//! Detects that a file has changed, without opening it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The coarsest resolution of mtime and ctime: two changes within this time may have the same.
const MTIME_GRANULARITY: Duration = Duration::from_secs(2);

/// The results of stat(2) for a file and its folder. If they differ, the content may, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// `None` if there is no file.
    file: Option<Stat>,
    /// The folder that the file is in.
    folder: Option<Stat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// Device and inode.
    id: (u64, u64),
    /// User and mode.
    access: (u32, u32),
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl FileStamp {
    /// Returns the stamp of a file, or `None` if stat(2) fails.
    pub fn of(path: &Path) -> Option<Self> {
        let folder = path.parent().unwrap_or(path);
        let stat = |metadata: io::Result<fs::Metadata>| match metadata {
            Ok(metadata) => Some(Some(Stat::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
            Err(_) => None,
        };
        Some(Self {
            file: stat(fs::symlink_metadata(path))?,
            folder: stat(fs::metadata(folder))?,
        })
    }

    /// Returns `true` if something is at the path, even if it is no file.
    pub fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Returns `true` if the ctime is old enough that a further change must alter it.
    pub fn is_stable(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs().cast_signed());
        let granularity = MTIME_GRANULARITY.as_secs().cast_signed();
        let is_old = |stat: &Stat| (now - stat.ctime.0).abs() > granularity;
        self.file.iter().chain(&self.folder).all(is_old)
    }
}

impl Stat {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            id: (metadata.dev(), metadata.ino()),
            access: (metadata.uid(), metadata.mode()),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
