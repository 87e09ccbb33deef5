//! A message that was sent, and what became of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::Error;
use crate::protocol::{DeliveryState, ErrorCode, MessageId};

/// A message that was sent. It may be dropped: the message is delivered all the same.
#[derive(Clone, Debug)]
pub struct SentMessage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: String,
    state: Mutex<SentState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SentState {
    receipt: Option<Receipt>,
    reached: Stage,
    failed: Option<Error>,
}

/// How far a message has come. Each stage includes the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Sent,
    Queued,
    Accepted,
    Seen,
    Answered,
}

/// The server's receipt of a message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Receipt {
    /// How far it has come.
    pub state: DeliveryState,
    /// The server's id of it.
    pub message_id: Option<MessageId>,
    /// Its place in the session, from 1.
    pub seq: Option<u64>,
    /// What may be wrong, for people. Only if it is [unseen](DeliveryState::Unseen).
    pub hint: Option<String>,
}

/// Why the server has rejected a message, for programs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refusal {
    /// The kind.
    pub code: Option<ErrorCode>,
    /// In how many seconds the server can take it.
    pub retry_after: Option<u64>,
}

impl SentMessage {
    pub(crate) fn new(id: String) -> Self {
        Self(Arc::new(Shared {
            id,
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Returns its id, as in the `delivery` messages about it.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Returns the last receipt.
    pub fn receipt(&self) -> Option<Receipt> {
        self.0.state.lock().receipt.clone()
    }

    /// Waits until it can't be lost any more: it waits on the server's disk for Claude Code, or Claude Code has got it.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Lost`], [`Error::TimedOut`], [`Error::Refused`] or [`Error::Ended`].
    pub fn queued(&self, timeout: Duration) -> Result<Receipt, Error> {
        self.wait(Stage::Queued, timeout)
    }

    /// Waits until Claude Code has got it.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Lost`], [`Error::TimedOut`], [`Error::Refused`] or [`Error::Ended`].
    pub fn accepted(&self, timeout: Duration) -> Result<Receipt, Error> {
        self.wait(Stage::Accepted, timeout)
    }

    /// Waits until it is in Claude's conversation. Without the plugin's hooks the server cannot tell, and this waits for
    /// the answer.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Lost`], [`Error::TimedOut`], [`Error::Refused`] or [`Error::Ended`].
    pub fn seen(&self, timeout: Duration) -> Result<Receipt, Error> {
        self.wait(Stage::Seen, timeout)
    }

    /// Waits until Claude has answered it.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Lost`], [`Error::TimedOut`], [`Error::Refused`] or [`Error::Ended`].
    pub fn answered(&self, timeout: Duration) -> Result<Receipt, Error> {
        self.wait(Stage::Answered, timeout)
    }

    fn wait(&self, stage: Stage, timeout: Duration) -> Result<Receipt, Error> {
        // `None` is so far off that it never comes.
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.0.state.lock();
        loop {
            if state.reached >= stage
                && let Some(receipt) = &state.receipt
            {
                return Ok(receipt.clone());
            }
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            match deadline {
                None => self.0.changed.wait(&mut state),
                Some(deadline) if Instant::now() >= deadline => return Err(Error::TimedOut),
                Some(deadline) => drop(self.0.changed.wait_until(&mut state, deadline)),
            }
        }
    }

    /// Stores a receipt. A later state includes the earlier ones.
    pub(crate) fn settle(&self, receipt: Receipt, refusal: Refusal) {
        let stage = match receipt.state {
            DeliveryState::Accepted | DeliveryState::Unseen => Stage::Accepted,
            DeliveryState::Seen => Stage::Seen,
            DeliveryState::Answered => Stage::Answered,
            DeliveryState::Queued => Stage::Queued,
            DeliveryState::Other => return,
            DeliveryState::Lost => {
                let hint = receipt.hint.clone();
                let why = hint.unwrap_or_else(|| "whether Claude has it is unknown".to_owned());
                return self.fail(Error::Lost(why));
            }
            DeliveryState::Rejected => {
                return self.fail(refusal.into());
            }
        };
        let mut state = self.0.state.lock();
        state.reached = match state.reached {
            // Claude Code has ended before the message was seen, and the next one gets it.
            Stage::Accepted if stage == Stage::Queued => stage,
            reached => reached.max(stage),
        };
        state.receipt = Some(receipt);
        self.0.changed.notify_all();
    }

    /// Stores that no further stage will be reached. What was reached stays.
    pub(crate) fn fail(&self, error: Error) {
        self.0.state.lock().failed.get_or_insert(error);
        self.0.changed.notify_all();
    }
}

impl From<Refusal> for Error {
    fn from(Refusal { code, retry_after }: Refusal) -> Self {
        let mut why = "the server has not taken the message".to_owned();
        if let Some(code) = code {
            why += &format!(" ({})", code.as_str());
        }
        if let Some(seconds) = retry_after {
            why += &format!("; it can in {seconds} s");
        }
        let retry_after = retry_after.map(Duration::from_secs);
        Self::Rejected {
            code,
            why,
            retry_after,
        }
    }
}
