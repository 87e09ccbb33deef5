//! The stream that tungstenite reads and writes: it reads the socket, and writes through the
//! outbox, so that pongs and closes don't interleave with other frames.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Outbox;
use crate::socket::frame;

/// How long a client may go on sending after it was closed. A silent one is noticed when it
/// would be pinged.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, as tungstenite sees it.
pub struct OutboxStream {
    outbox: Arc<Outbox>,
    /// When reading first found the connection closed.
    closed: Option<Instant>,
    /// Something was read since this was reset.
    pub has_read: bool,
}

impl OutboxStream {
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            closed: None,
            has_read: false,
        }
    }
}

impl Read for OutboxStream {
    /// Fails [`CLOSE_TIMEOUT`] after the close, also in the middle of a message.
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

impl Write for OutboxStream {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        let bytes = Bytes::copy_from_slice(frame);
        if frame::is_close(frame) {
            self.outbox.send_close(bytes);
        } else {
            self.outbox.send_frame(bytes);
        }
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
