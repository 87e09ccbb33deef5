//! The side of a command that talks to a running server.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{
    Answer, Hello, LineError, Lines, Place, PlaceError, Removal, Request, is_own_peer, places,
};

/// How long the server may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take to do what it is asked for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to a running server.
#[derive(Debug)]
pub struct Client {
    lines: Lines,
    /// Who it is.
    pub server: Hello,
}

/// Why the running server can't be asked, or has not done it. Its `Display` is a sentence that says what to do.
#[derive(Debug)]
pub enum ClientError {
    Place(PlaceError),
    /// The socket is there, and can't be connected to.
    Unreachable(io::Error),
    /// Somebody else's program listens.
    ForeignServer,
    /// The server speaks another version of the control socket.
    Version(Hello),
    Line(LineError),
    /// The server says why.
    Refused(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = "end Claude Code, and run this command again";
        match self {
            Self::Place(error) => write!(f, "the running server cannot be asked: {error}"),
            Self::Unreachable(error) => {
                write!(f, "the running server cannot be asked ({error}); {again}")
            }
            Self::ForeignServer => f.write_str(
                "the running server belongs to somebody else; run this command as the user who runs it",
            ),
            Self::Version(hello) => write!(
                f,
                "the running server (process {}) is of version {}, and this command of {}; run the claude-socket of that version, or {again}",
                hello.pid,
                hello.version,
                env!("CARGO_PKG_VERSION")
            ),
            Self::Line(error) => write!(f, "the running server is asked in vain: {error}; {again}"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl From<LineError> for ClientError {
    fn from(error: LineError) -> Self {
        Self::Line(error)
    }
}

impl Client {
    /// Connects to the server with this state folder and port. Returns `None` if none runs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(state: &Path, port: u16) -> Result<Option<Self>, ClientError> {
        for place in places(state, port) {
            if let Some(stream) = open(&place)? {
                return Self::greet(stream).map(Some);
            }
        }
        Ok(None)
    }

    fn greet(stream: UnixStream) -> Result<Self, ClientError> {
        if !is_own_peer(&stream) {
            return Err(ClientError::ForeignServer);
        }
        let deadline = Instant::now() + HELLO_TIMEOUT;
        let mut lines = Lines::new(stream);
        lines.write(&Hello::own(), deadline)?;
        let server: Hello = lines.read(deadline)?;
        if !server.is_understood() {
            return Err(ClientError::Version(server));
        }
        Ok(Self { lines, server })
    }

    /// Has the server forget sessions. Returns `true` if they are gone from the disk too.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn remove(mut self, removal: Removal) -> Result<bool, ClientError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        self.lines.write(&Request::Remove(removal), deadline)?;
        match self.lines.read(deadline)? {
            Answer::Removed { on_disk, .. } => Ok(on_disk),
            Answer::Error { message, .. } => Err(ClientError::Refused(message)),
        }
    }
}

/// Connects to the socket in a place; `None` if nobody listens there.
fn open(place: &Place) -> Result<Option<UnixStream>, ClientError> {
    if !place.check().map_err(ClientError::Place)? {
        return Ok(None);
    }
    match UnixStream::connect(place.socket()) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(ClientError::Unreachable(error)),
        },
    }
}
