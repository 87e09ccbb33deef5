//! Files that no other user may open or replace: the [tokens](crate::access::file), and the [store](crate::store).

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::geteuid;

/// Why a file can't be trusted.
#[derive(Debug)]
pub enum Exposure {
    /// It is a symbolic link.
    Symlink,
    /// It is a folder, a pipe or the like.
    NotAFile,
    /// It belongs to another user.
    ForeignOwner,
    /// Other users may read or write it.
    OpenToOthers,
    /// The folder can't be read.
    FolderUnreadable(io::Error),
    /// The folder is a symbolic link, or no folder at all.
    FolderSymlink,
    /// The folder belongs to another user, who could replace the file.
    FolderForeignOwner,
    /// Other users may write to the folder, and could replace the file.
    FolderOpenToOthers,
}

impl Exposure {
    /// Writes what is wrong with what is in the file, and what to do. The subject, before it, is in the plural.
    pub fn fmt(&self, f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
        match self {
            Self::Symlink => {
                f.write_str("are not used: that is a symbolic link; put the file itself there")
            }
            Self::NotAFile => {
                f.write_str("are not used: that is no plain file; remove what is there")
            }
            Self::ForeignOwner => f.write_str(
                "are not used: the file belongs to somebody else; give it to the user who runs claude-socket",
            ),
            Self::OpenToOthers => write!(
                f,
                "are not used: other users may open the file; run: chmod 600 \"{}\"",
                path.display()
            ),
            Self::FolderUnreadable(error) => write!(f, "cannot be read ({error})"),
            Self::FolderSymlink => f.write_str(
                "are not used: what they are in is a symbolic link or no folder; put a folder there",
            ),
            Self::FolderForeignOwner => f.write_str(
                "are not used: the folder belongs to somebody else; use one of your own",
            ),
            Self::FolderOpenToOthers => write!(
                f,
                "are not used: other users may write to the folder; run: chmod 700 \"{}\"",
                folder_of(path).display()
            ),
        }
    }

    /// The system's error, if it is one.
    pub fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::FolderUnreadable(error) => Some(error),
            _ => None,
        }
    }
}

/// Returns the folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Checks that only this user can open the file.
///
/// # Errors
/// If another can, or it is no file.
pub fn check_file(metadata: &fs::Metadata) -> Result<(), Exposure> {
    if metadata.is_symlink() {
        return Err(Exposure::Symlink);
    }
    if !metadata.is_file() {
        return Err(Exposure::NotAFile);
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(Exposure::ForeignOwner);
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Exposure::OpenToOthers);
    }
    Ok(())
}

/// Checks that no other user can write to a file's folder: that is enough to replace the file, or to take it away.
///
/// # Errors
/// If another can, or the folder can't be read.
pub fn check_folder(path: &Path) -> Result<(), Exposure> {
    let metadata = fs::metadata(folder_of(path)).map_err(Exposure::FolderUnreadable)?;
    let owners = [geteuid().as_raw(), 0];
    if !owners.contains(&metadata.uid()) {
        return Err(Exposure::FolderForeignOwner);
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Exposure::FolderOpenToOthers);
    }
    Ok(())
}
