//! The files of a store: where they are, who may open them, who has them open.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::private_file::{Exposure, check_file, check_folder};

/// The most files of one port that are kept aside.
const MAX_ASIDE: u32 = 9;
/// How long it is waited for a lock: who has ended can have it for a moment longer, and so can a process between its fork
/// and its exec.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// Where the files of one port are.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
    port: u16,
}

/// Why the files can't be used.
#[derive(Debug)]
pub enum FileError {
    /// Other users could read or replace them.
    Exposed(PathBuf, Exposure),
    /// The system's error.
    Failed(PathBuf, io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exposed(path, exposure) => {
                write!(f, "the messages in {} ", path.display())?;
                exposure.fmt(f, path)
            }
            Self::Failed(path, error) => write!(
                f,
                "the messages in {} cannot be opened ({error}); make room there, or make the folder writable",
                path.display()
            ),
        }
    }
}

/// Tells a file from another that has its name now: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64, u64);

/// The lock of a store, held until it is dropped.
#[derive(Debug)]
pub struct Lock(File);

/// What trying to lock has brought.
#[derive(Debug)]
pub enum Locking {
    Locked(Lock),
    /// Another process has it: the number of that process, if it is known.
    Taken(Option<u32>),
}

impl Files {
    pub fn new(folder: PathBuf, port: u16) -> Self {
        Self { folder, port }
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.named(".db")
    }

    fn named(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}{end}", self.port))
    }

    /// Makes the folder if there is none, and checks that nobody else can open or replace what is in it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn check(&self) -> Result<(), FileError> {
        let database = self.database();
        let failed = |error| FileError::Failed(database.clone(), error);
        let exposed = |exposure| FileError::Exposed(database.clone(), exposure);
        // With `recursive`, it is no error if it is there.
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder);
        match fs::symlink_metadata(&self.folder) {
            Ok(folder) if !folder.is_dir() => return Err(exposed(Exposure::FolderSymlink)),
            Ok(_) => {}
            Err(error) => return Err(failed(made.err().unwrap_or(error))),
        }
        check_folder(&database).map_err(exposed)?;
        for end in [".db", ".db-wal", ".db-shm", ".lock"] {
            let path = self.named(end);
            match fs::symlink_metadata(&path) {
                Ok(metadata) => check_file(&metadata)
                    .map_err(|exposure| FileError::Exposed(path.clone(), exposure))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FileError::Failed(path, error)),
            }
        }
        Ok(())
    }

    /// Creates the database, empty, for this user alone. SQLite gives the files beside it the same mode. Returns `false`
    /// if there is one.
    ///
    /// # Errors
    /// [`FileError::Failed`].
    pub fn create(&self) -> Result<bool, FileError> {
        let path = self.database();
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match created {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(FileError::Failed(path, error)),
        }
    }

    /// Returns which file has the database's name; `None` if there is none.
    pub fn identity(&self) -> Option<Identity> {
        let metadata = fs::symlink_metadata(self.database()).ok()?;
        Some(Identity(metadata.dev(), metadata.ino()))
    }

    /// Locks the store for this process.
    ///
    /// # Errors
    /// [`FileError::Failed`].
    pub fn lock(&self) -> Result<Locking, FileError> {
        let path = self.named(".lock");
        let failed = |error| FileError::Failed(path.clone(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(failed)?;
        match lock_soon(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = (&mut file).take(16).read_to_string(&mut text);
                return Ok(Locking::Taken(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only for people; on a full disk, it goes without.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Locking::Locked(Lock(file)))
    }

    /// Returns `true` if a lock keeps others out: its file may have been removed, and they lock the next one.
    pub fn is_locked(&self, lock: &Lock) -> bool {
        let of_path = fs::symlink_metadata(self.named(".lock"));
        of_path.is_ok_and(|of_path| {
            let of_lock = lock.0.metadata();
            of_lock.is_ok_and(|of_lock| {
                (of_lock.dev(), of_lock.ino()) == (of_path.dev(), of_path.ino())
            })
        })
    }

    /// Gives the database another name, and what belongs to it. Returns that name. `why` is a part of it.
    ///
    /// # Errors
    /// The system's error.
    pub fn set_aside(&self, why: &str) -> io::Result<PathBuf> {
        let name = |number| self.named(&format!(".{why}-{number}.db"));
        let free = (1..MAX_ASIDE).find(|number| !name(*number).exists());
        let aside = name(free.unwrap_or(MAX_ASIDE));
        fs::rename(self.database(), &aside)?;
        // Without its log, the database lacks what was written last. The other file is only a cache.
        let log = with_end(&aside, "-wal");
        match fs::rename(self.named(".db-wal"), log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        remove(&self.named(".db-shm"))?;
        Ok(aside)
    }

    /// Removes what a database that is gone has left beside it.
    ///
    /// # Errors
    /// The system's error.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        remove(&self.named(".db-wal"))?;
        remove(&self.named(".db-shm"))
    }

    /// Returns the databases that were set aside.
    pub fn aside(&self) -> Vec<PathBuf> {
        let start = format!("{}.", self.port);
        let is_aside = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.and_then(|name| name.strip_prefix(&start))
                .and_then(|rest| rest.strip_suffix(".db"))
                .is_some()
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(is_aside)
            .collect();
        paths.sort();
        paths
    }

    /// Removes the databases that were set aside.
    ///
    /// # Errors
    /// The system's error.
    pub fn remove_aside(&self) -> io::Result<()> {
        self.aside().iter().try_for_each(|path| {
            remove(&with_end(path, "-wal"))?;
            remove(path)
        })
    }

    /// Returns the bytes of the database and of its log.
    pub fn bytes(&self) -> u64 {
        let len = |end| fs::metadata(self.named(end)).map_or(0, |metadata| metadata.len());
        len(".db") + len(".db-wal")
    }

    /// Returns `true` if the system says that the disk has no room for this user.
    pub fn is_disk_full(&self) -> bool {
        rustix::fs::statvfs(&self.folder).is_ok_and(|disk| disk.f_bavail == 0)
    }
}

/// Removes a file that may not be there.
///
/// # Errors
/// The system's error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the path with more text at its end.
pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}

/// Locks a file, if it is free soon.
fn lock_soon(file: &File) -> Result<(), TryLockError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(LOCK_INTERVAL);
            }
            result => return result,
        }
    }
}
