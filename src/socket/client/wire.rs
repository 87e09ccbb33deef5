//! What tungstenite reads from and writes to: the socket, and the outbox, so that its pongs and
//! closes don't interleave with other frames.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::socket::frame;
use crate::socket::outbox::Outbox;

/// How long a client may go on sending after it was closed. One that is silent is
/// looked at when it is to be pinged.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, as tungstenite sees it.
pub struct Wire {
    outbox: Arc<Outbox>,
    /// When reading first found the connection closed.
    closed: Option<Instant>,
    /// Something was read since this was looked at.
    pub has_read: bool,
}

impl Wire {
    /// The one that has this outbox.
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            closed: None,
            has_read: false,
        }
    }
}

impl Read for Wire {
    /// After the close there is an end, also to a message that never ends.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.outbox.is_closed() {
            let since = *self.closed.get_or_insert_with(Instant::now);
            if since.elapsed() >= CLOSE_TIMEOUT {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.has_read = true;
        loop {
            match self.outbox.stream().read(bytes) {
                // A read with a timeout isn't restarted by the system (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        let bytes = Bytes::copy_from_slice(frame);
        if frame::is_close(frame) {
            self.outbox.send_last(bytes);
        } else {
            self.outbox.send_frame(bytes);
        }
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
