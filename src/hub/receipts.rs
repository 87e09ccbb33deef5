//! What became of the messages that had an `id`: the key to receipts, and to
//! taking a resent message only once.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::protocol::{ConnId, DeliveryState, MessageId};

/// How many ids a session remembers. A client that resends a message does so
/// right after it has reconnected, so only the latest can come again.
const KEPT: usize = 1_000;

/// What tells two messages under one id apart.
pub fn fingerprint(content: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// What is known of one message.
#[derive(Debug)]
pub struct Receipt {
    /// The server's id of the message.
    pub message_id: MessageId,
    /// The [`fingerprint`] of its content.
    pub content: u64,
    /// How far it has come; `None` while it is still on its way to Claude Code.
    pub state: Option<DeliveryState>,
    /// The connection that sent it last, and wants to know.
    pub client: ConnId,
}

/// The receipts of one session.
#[derive(Debug, Default)]
pub struct Receipts {
    by_id: HashMap<Arc<str>, Receipt>,
    /// Oldest first.
    order: VecDeque<Arc<str>>,
    /// Accepted, and waiting for an answer.
    unanswered: Vec<Arc<str>>,
}

impl Receipts {
    /// The receipt of a message that is already known under this id.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Receipt> {
        self.by_id.get_mut(id)
    }

    /// A message under a new id is on its way.
    pub fn start(&mut self, id: Arc<str>, message_id: MessageId, content: u64, client: ConnId) {
        if self.order.len() == KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
            self.unanswered.retain(|id| *id != oldest);
        }
        self.order.push_back(id.clone());
        let receipt = Receipt {
            message_id,
            content,
            state: None,
            client,
        };
        self.by_id.insert(id, receipt);
    }

    /// Claude Code has it. Returns its receipt if it is still remembered.
    pub fn accept(&mut self, id: &Arc<str>) -> Option<&Receipt> {
        let receipt = self.by_id.get_mut(id)?;
        receipt.state = Some(DeliveryState::Accepted);
        self.unanswered.push(id.clone());
        Some(receipt)
    }

    /// Claude has replied: everything accepted so far is answered.
    pub fn answer(&mut self) -> Vec<(Arc<str>, &Receipt)> {
        let answered = std::mem::take(&mut self.unanswered);
        for id in &answered {
            if let Some(receipt) = self.by_id.get_mut(id) {
                receipt.state = Some(DeliveryState::Answered);
            }
        }
        let receipt = |id| self.by_id.get(&id).map(|receipt| (id, receipt));
        answered.into_iter().filter_map(receipt).collect()
    }
}
