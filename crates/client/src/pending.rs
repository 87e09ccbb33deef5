//! A request to the server, and its answer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::Error;
use crate::protocol::{HistoryItem, SessionItem};

/// An answer that the server has yet to give. It may be dropped: the answer comes as a message, too.
#[derive(Clone)]
pub struct Pending<T>(Arc<Shared<T>>);

struct Shared<T> {
    answer: Mutex<Option<Result<T, Error>>>,
    settled: Condvar,
}

/// The sessions that this client may read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sessions {
    /// At most [`MAX_SESSIONS_LISTED`](crate::protocol::MAX_SESSIONS_LISTED): those with a client in them first,
    /// then by name.
    pub sessions: Vec<SessionItem>,
    /// The number of sessions, listed or not.
    pub total: usize,
    /// The number of permission requests that wait for an operator.
    pub permissions: usize,
}

/// The messages of a session in which words were found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// The session.
    pub session_id: String,
    /// The messages, oldest first.
    pub messages: Vec<HistoryItem>,
}

impl<T: Clone> Pending<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            answer: Mutex::new(None),
            settled: Condvar::new(),
        }))
    }

    /// Waits for the answer. Returns the same one each time.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the server has not taken the request; [`Error::TimedOut`]; [`Error::Refused`] or
    /// [`Error::Ended`] if there will be no answer.
    pub fn answer(&self, timeout: Duration) -> Result<T, Error> {
        // `None` is so far off that it never comes.
        let deadline = Instant::now().checked_add(timeout);
        let mut answer = self.0.answer.lock();
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            match deadline {
                None => self.0.settled.wait(&mut answer),
                Some(deadline) => {
                    let waited = self.0.settled.wait_until(&mut answer, deadline);
                    if waited.timed_out() && answer.is_none() {
                        return Err(Error::TimedOut);
                    }
                }
            }
        }
    }

    /// Stores the answer. Only the first one counts.
    pub(crate) fn settle(&self, answer: Result<T, Error>) {
        self.0.answer.lock().get_or_insert(answer);
        self.0.settled.notify_all();
    }
}

impl<T: fmt::Debug> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending")
            .field(&*self.0.answer.lock())
            .finish()
    }
}
