//! The folder of the store, as this program finds it: what a server says of it is shown to nobody word for word.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};
use rustix::process::geteuid;

/// With less room, in bytes, a disk counts as full.
const MIN_FREE: u64 = 1024 * 1024;

/// The folder of the store.
#[derive(Debug)]
pub struct StoreFolder {
    pub path: PathBuf,
    /// What its files take on disk; `None` if it isn't there.
    pub bytes: Option<u64>,
    /// What keeps a server from writing there, and what to do; a sentence whose subject is the folder.
    problem: Option<String>,
}

impl StoreFolder {
    pub fn inspect(path: PathBuf) -> Self {
        let (bytes, problem) = match fs::symlink_metadata(&path) {
            Ok(metadata) => (Some(bytes_in(&path)), problem(&path, &metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => (
                None,
                Some(format!("cannot be read ({error}); check who owns it")),
            ),
        };
        Self {
            path,
            bytes,
            problem,
        }
    }

    /// Returns what keeps a server from writing there, and what to do.
    pub fn explanation(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(format!("{} {problem}", self.path.display()))
    }
}

/// Returns what the files in a folder take.
fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    sizes.sum()
}

fn problem(folder: &Path, metadata: &Metadata) -> Option<String> {
    let shown = folder.display();
    if metadata.is_symlink() {
        return Some("is a symbolic link; put the folder itself there".to_owned());
    }
    if !metadata.is_dir() {
        return Some("is no folder; remove what is there".to_owned());
    }
    if metadata.uid() != geteuid().as_raw() {
        return Some(
            "belongs to somebody else; give it to the user who runs claude-socket".to_owned(),
        );
    }
    if metadata.mode() & 0o022 != 0 {
        return Some(format!(
            "can be written by other users; run: chmod 700 \"{shown}\""
        ));
    }
    if let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        return Some(format!(
            "cannot be written ({}); run: chmod 700 \"{shown}\"",
            io::Error::from(error)
        ));
    }
    let disk = statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    (free < MIN_FREE).then(|| "is on a disk that is full; make room there".to_owned())
}
