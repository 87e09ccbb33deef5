//! Where the control socket is: `run/PORT.sock` in the state folder. A socket's path has room for some 100 bytes, so with a
//! long one it is in the folder for the user's sockets, or in one of its own in `/tmp`, under a name made from the state folder.

use std::env;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};

/// The longest path of a socket, in bytes (unix(7)).
#[cfg(not(target_os = "macos"))]
const MAX_PATH: usize = 107;
/// The longest path of a socket, in bytes (unix(4) of macOS).
#[cfg(target_os = "macos")]
const MAX_PATH: usize = 103;

/// A place for the socket of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    /// The socket's name without its end.
    name: String,
}

/// Why a place can't be used. Its `Display` is a sentence that says what to do.
#[derive(Debug)]
pub enum PlaceError {
    Failed(PathBuf, io::Error),
    NotAFolder(PathBuf),
    ForeignOwner(PathBuf),
    OpenToOthers(PathBuf),
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(folder, error) => {
                write!(f, "{} cannot be used ({error})", folder.display())
            }
            Self::NotAFolder(folder) => write!(
                f,
                "{} is a symbolic link or no folder; remove it",
                folder.display()
            ),
            Self::ForeignOwner(folder) => write!(
                f,
                "{} belongs to somebody else; give it to the user who runs claude-socket",
                folder.display()
            ),
            Self::OpenToOthers(folder) => write!(
                f,
                "other users may open {0}; run: chmod 700 \"{0}\"",
                folder.display()
            ),
        }
    }
}

/// Returns where the socket of a server may be, by its state folder and its port: the server takes the first one that it
/// can use, and a client tries all of them.
pub fn places(state: &Path, port: u16) -> Vec<Place> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|folder| folder.is_absolute());
    places_in(state, port, runtime)
}

fn places_in(state: &Path, port: u16, runtime: Option<PathBuf>) -> Vec<Place> {
    let own = Place {
        folder: state.join("run"),
        name: port.to_string(),
    };
    let name = format!("{}-{port}", short_name(state));
    let user = geteuid().as_raw();
    let elsewhere = [
        runtime.map(|runtime| runtime.join("claude-socket")),
        Some(PathBuf::from(format!("/tmp/claude-socket-{user}"))),
    ];
    let elsewhere = elsewhere.into_iter().flatten().map(|folder| Place {
        folder,
        name: name.clone(),
    });
    let all = [own].into_iter().chain(elsewhere);
    all.filter(|place| place.socket().as_os_str().len() <= MAX_PATH)
        .collect()
}

/// Returns 16 characters that stand for a folder, whichever way it is written.
fn short_name(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let hash = Sha256::digest(folder.as_os_str().as_bytes());
    HEXLOWER.encode(&hash[..8])
}

impl Place {
    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.name))
    }

    /// The file that a server has locked as long as the socket is its own.
    pub fn lock(&self) -> PathBuf {
        self.folder.join(format!("{}.lock", self.name))
    }

    /// Makes the folder if there is none, and checks that it is for this user alone.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn make(&self) -> Result<(), PlaceError> {
        let mut folder = DirBuilder::new();
        // With `recursive`, it is no error if it is there.
        let made = folder.recursive(true).mode(0o700).create(&self.folder);
        match self.check() {
            Ok(true) => Ok(()),
            Ok(false) => {
                let gone = || io::Error::from(io::ErrorKind::NotFound);
                let error = made.err().unwrap_or_else(gone);
                Err(PlaceError::Failed(self.folder.clone(), error))
            }
            Err(error) => Err(error),
        }
    }

    /// Checks that the folder is for this user alone. Returns `false` if there is none.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn check(&self) -> Result<bool, PlaceError> {
        let folder = || self.folder.clone();
        let metadata = match fs::symlink_metadata(&self.folder) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(PlaceError::Failed(folder(), error)),
        };
        if !metadata.is_dir() {
            return Err(PlaceError::NotAFolder(folder()));
        }
        if metadata.uid() != geteuid().as_raw() {
            return Err(PlaceError::ForeignOwner(folder()));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(PlaceError::OpenToOthers(folder()));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn socket_with_long_path_is_elsewhere() {
        let state = PathBuf::from("/home/ann/state");
        let runtime = Some(PathBuf::from("/run/user/1000"));
        let [own, in_runtime, in_tmp] = &places_in(&state, 3100, runtime.clone())[..] else {
            panic!("all of them are short");
        };
        assert_eq!(own.socket(), Path::new("/home/ann/state/run/3100.sock"));
        assert!(
            in_runtime
                .socket()
                .starts_with("/run/user/1000/claude-socket")
        );
        assert!(in_tmp.socket().starts_with("/tmp"));
        let long = PathBuf::from(format!("/home/{}", "a".repeat(100)));
        let elsewhere = places_in(&long, 3100, runtime.clone());
        assert_eq!(elsewhere.len(), 2);
        assert_ne!(elsewhere, places_in(&state, 3100, runtime)[1..]);
        assert_ne!(elsewhere[1..], places_in(&long, 3101, None));
        assert_eq!(places_in(&long, 3100, Some(long.clone())).len(), 1);
    }

    #[test]
    fn folder_that_others_can_open_is_not_used() {
        let state = env::temp_dir().join(format!("claude-socket-place-{}", std::process::id()));
        let place = &places_in(&state, 1, None)[0];
        assert!(matches!(place.check(), Ok(false)));
        place.make().expect("the folder is made");
        place.make().expect("it is there");
        let mode = |mode| fs::set_permissions(state.join("run"), fs::Permissions::from_mode(mode));
        mode(0o750).expect("the folder is ours");
        let error = place.make().expect_err("others can open it");
        assert!(error.to_string().contains("chmod 700"), "{error}");
        mode(0o700).expect("the folder is ours");
        fs::rename(state.join("run"), state.join("elsewhere")).expect("the folder is ours");
        symlink(state.join("elsewhere"), state.join("run")).expect("the folder is ours");
        let error = place.check().expect_err("it is a link");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        fs::remove_dir_all(&state).expect("the folder is ours");
    }
}
