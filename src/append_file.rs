//! A file that lines are appended to: that of the [log](crate::logging), and that of the
//! [audit](crate::audit).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::error;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// An open file. Writing to it may block.
#[derive(Debug)]
pub struct AppendFile {
    path: PathBuf,
    file: File,
}

impl AppendFile {
    /// Opens the file that a setting names, or creates it for this user alone. Never blocks. It
    /// may be a device such as `/dev/null`, or a pipe that somebody reads.
    ///
    /// # Errors
    /// One sentence that begins with the setting.
    pub fn open(setting: &str, path: &Path) -> io::Result<Self> {
        match open(path) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
            }),
            Err(error) => {
                let why = format!("{setting} cannot be {path:?}: {}", explain(path, &error));
                Err(io::Error::new(error.kind(), why))
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `true` if it has no bytes, as a new file.
    pub fn is_empty(&self) -> bool {
        self.file
            .metadata()
            .is_ok_and(|metadata| metadata.len() == 0)
    }

    /// Opens the file again by its name, under which there is none after it was rotated. If that
    /// fails, the open file stays, so that no line is lost.
    pub fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => {
                let path = self.path.display();
                error!(
                    "{path} cannot be opened again ({error}), so the file that is open goes on; make room for it there, and send SIGHUP again"
                );
            }
        }
    }
}

impl Write for AppendFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, a pipe waits for a reader and a serial line for a carrier. Without
    // O_NOCTTY, a terminal can become that of this process (open(2)).
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    // The thread that writes may wait.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Returns why a file cannot be opened, and what to do.
fn explain(path: &Path, error: &io::Error) -> String {
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    match kind {
        // Only opening a pipe without a reader, or a socket, fails so (open(2)).
        Ok(kind) if Errno::from_io_error(error) == Some(Errno::NXIO) && kind.is_fifo() => {
            "nobody reads from that pipe; start its reader first, or name another file".to_owned()
        }
        Ok(kind) if kind.is_socket() => "that is a socket; name another file".to_owned(),
        _ => format!("it cannot be opened ({error}); name another file"),
    }
}
