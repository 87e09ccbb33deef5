//! What the two programs can be asked to do, and how a command ends that fails.

pub mod data;
pub mod demo;
pub mod doctor;
pub mod exec_cli;
pub mod serve;
pub mod shell;
pub mod terminal;
pub mod token;

use std::process::ExitCode;
use std::{fmt, io};

use crate::sanitize;

/// The program's name, whichever of the two speaks.
pub const PROGRAM: &str = "claude-socket";

/// Why a command ended without success.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The arguments are wrong, or they ask for the help, which clap prints.
    Arguments(clap::Error),
    /// A sentence for people, with the exit code that is for programs.
    Failed(Failure, String),
    /// The system refused something.
    Io(io::Error),
}

/// The kinds of failure that programs can tell apart; each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The server, or what it is asked, says no.
    Refused,
    /// The command line is wrong.
    Usage,
    /// Nobody answered in time.
    TimedOut,
    /// There is no server.
    NoServer,
    /// Claude Code has ended, and nobody knows whether it has seen the message.
    Lost,
}

impl Failure {
    /// Returns the exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Usage => 2,
            Self::TimedOut => 3,
            Self::NoServer => 4,
            Self::Lost => 5,
        }
    }

    /// Returns its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Usage => "usage",
            Self::TimedOut => "timed_out",
            Self::NoServer => "no_server",
            Self::Lost => "lost",
        }
    }
}

impl Error {
    /// Returns a refusal with this sentence.
    pub fn refused(why: impl fmt::Display) -> Self {
        Self::Failed(Failure::Refused, why.to_string())
    }

    /// Returns a wrong command line with this sentence.
    pub fn usage(why: impl fmt::Display) -> Self {
        Self::Failed(Failure::Usage, why.to_string())
    }

    /// Prints the error to stderr, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            // The help is no error: it goes to stdout, and the code is 0.
            Self::Arguments(error) => {
                // Nobody may be reading it.
                let _ = error.print();
                u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
            }
            Self::Failed(failure, _) => {
                self.print();
                ExitCode::from(failure.code())
            }
            Self::Io(_) => {
                self.print();
                ExitCode::FAILURE
            }
        }
    }

    fn print(&self) {
        eprintln!("{PROGRAM}: {}", sanitize::lines(&self.to_string()));
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments(error) => error.fmt(f),
            Self::Failed(_, why) => f.write_str(why),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Arguments(error) => Some(error),
            Self::Failed(..) => None,
            Self::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
