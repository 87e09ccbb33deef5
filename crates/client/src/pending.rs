//! A question to the server, and its answer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Error;
use crate::protocol::SessionItem;

/// A question to the server. Nobody need keep it: the answer comes as a message, too.
#[derive(Clone)]
pub struct Asked<T>(Arc<Shared<T>>);

struct Shared<T> {
    answer: Mutex<Option<Result<T, Error>>>,
    came: Condvar,
}

/// Which sessions there are, as far as this client may know of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sessions {
    /// 100 at most, those with somebody in them first.
    pub sessions: Vec<SessionItem>,
    /// How many there are.
    pub total: usize,
    /// How many permission requests wait for an operator.
    pub permissions: usize,
}

impl<T: Clone> Asked<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            answer: Mutex::new(None),
            came: Condvar::new(),
        }))
    }

    /// Waits for the answer. It can be asked for any number of times.
    ///
    /// # Errors
    /// [`Error::TimedOut`] or [`Error::Ended`].
    pub fn answer(&self, timeout: Duration) -> Result<T, Error> {
        // So far off that it never comes.
        let deadline = Instant::now().checked_add(timeout);
        let mut answer = self.0.answer.lock();
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            match deadline {
                None => self.0.came.wait(&mut answer),
                Some(deadline) => {
                    let waited = self.0.came.wait_until(&mut answer, deadline);
                    if waited.timed_out() && answer.is_none() {
                        return Err(Error::TimedOut);
                    }
                }
            }
        }
    }

    /// Takes the answer. The first one counts.
    pub(super) fn settle(&self, answer: Result<T, Error>) {
        self.0.answer.lock().get_or_insert(answer);
        self.0.came.notify_all();
    }
}

impl<T: fmt::Debug> fmt::Debug for Asked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asked")
            .field(&*self.0.answer.lock())
            .finish()
    }
}
