//! A message that was sent, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Error;
use crate::protocol::{DeliveryState, ErrorCode, MessageId};

/// A message that was sent. Nobody need keep it: the message goes its way all the same.
#[derive(Clone, Debug)]
pub struct Sent(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: String,
    fate: Mutex<Fate>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Fate {
    receipt: Option<Receipt>,
    reached: Stage,
    failed: Option<Error>,
}

/// How far a message has come, where each stage includes the ones before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Sent,
    Accepted,
    Seen,
    Answered,
}

/// What the server says of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// How far it has come.
    pub state: DeliveryState,
    /// The server's id of it.
    pub message_id: Option<MessageId>,
    /// Its place in the session.
    pub seq: Option<u64>,
    /// What may be wrong, if it is unseen.
    pub hint: Option<String>,
}

impl Sent {
    pub(super) fn new(id: String) -> Self {
        Self(Arc::new(Shared {
            id,
            fate: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Its id, as in the `delivery` messages about it.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What the server has said of it last.
    pub fn receipt(&self) -> Option<Receipt> {
        self.0.fate.lock().receipt.clone()
    }

    /// Waits until Claude Code has got it.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::TimedOut`] or [`Error::Ended`].
    pub fn accepted(&self, timeout: Duration) -> Result<Receipt, Error> {
        self.wait(Stage::Accepted, timeout)
    }

    /// Waits until it is in Claude's conversation. That can be told only where the plugin's
    /// hooks are at work; elsewhere this waits for the answer.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::TimedOut`] or [`Error::Ended`].
    pub fn seen(&self, timeout: Duration) -> Result<Receipt, Error> {
        self.wait(Stage::Seen, timeout)
    }

    /// Waits until Claude has replied to the session since.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::TimedOut`] or [`Error::Ended`].
    pub fn answered(&self, timeout: Duration) -> Result<Receipt, Error> {
        self.wait(Stage::Answered, timeout)
    }

    fn wait(&self, stage: Stage, timeout: Duration) -> Result<Receipt, Error> {
        // So far off that it never comes.
        let deadline = Instant::now().checked_add(timeout);
        let mut fate = self.0.fate.lock();
        loop {
            if fate.reached >= stage
                && let Some(receipt) = &fate.receipt
            {
                return Ok(receipt.clone());
            }
            if let Some(error) = &fate.failed {
                return Err(error.clone());
            }
            match deadline {
                None => self.0.changed.wait(&mut fate),
                Some(deadline) if Instant::now() >= deadline => return Err(Error::TimedOut),
                Some(deadline) => drop(self.0.changed.wait_until(&mut fate, deadline)),
            }
        }
    }

    /// Takes a receipt: a later state includes the earlier ones.
    pub(super) fn settle(&self, receipt: Receipt, code: Option<ErrorCode>) {
        let stage = match receipt.state {
            DeliveryState::Accepted | DeliveryState::Unseen => Stage::Accepted,
            DeliveryState::Seen => Stage::Seen,
            DeliveryState::Answered => Stage::Answered,
            DeliveryState::Rejected => {
                let kind = code.map_or_else(String::new, |code| format!(" ({})", code.as_str()));
                let why = format!("the server has not taken the message{kind}");
                return self.fail(Error::Rejected { code, why });
            }
        };
        let mut fate = self.0.fate.lock();
        fate.reached = fate.reached.max(stage);
        fate.receipt = Some(receipt);
        self.0.changed.notify_all();
    }

    /// Nothing more will become of it. What it has reached stays.
    pub(super) fn fail(&self, error: Error) {
        self.0.fate.lock().failed.get_or_insert(error);
        self.0.changed.notify_all();
    }
}
