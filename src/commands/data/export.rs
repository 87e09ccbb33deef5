//! All messages of a session, as JSON lines.

use std::io::{self, BufWriter, Write};

use clap::Args;

use super::{Place, find};
use crate::commands::Error;
use crate::protocol::SessionId;
use crate::store::data::DataError;

/// What to print.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The session
    #[arg(long, value_name = "ID")]
    session: String,
    /// Its agent; all that have such a session if left out
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

/// Prints the messages, oldest first: the items of a `history`, with `agent` and `session_id`.
///
/// # Errors
/// If there is no such session, or it can't be read or printed.
pub fn run(place: &Place, args: &ExportArgs) -> Result<(), Error> {
    let session = SessionId::parse("session", &args.session, usize::MAX).map_err(Error::usage)?;
    let agent = args.agent.as_deref();
    find(&place.sizes()?, agent, Some(session.as_str()))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let exported = place.data.export(agent, &session, &mut out);
    match exported.and_then(|_| out.flush().map_err(DataError::Output)) {
        // Whoever reads it has seen enough.
        Err(DataError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        exported => exported.map_err(Error::refused),
    }
}
