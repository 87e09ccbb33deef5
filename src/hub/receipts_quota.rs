//! The quota of the receipts of all sessions together. It is shared as [`super::history_quota`] shares that of the
//! histories: whoever uses many ids loses their own oldest, and nobody else's.

use super::Hub;
use super::history_quota::fair_share;

impl Hub {
    /// Enforces the limit when the receipt of a message has exceeded it. An eighth of it is freed at once. Receipts of
    /// messages that no agent has yet stay: sent again, such a message would be there twice. They are as many as an inbox
    /// holds.
    pub(super) fn enforce_receipts_quota(&mut self) {
        let limit = self.limits.receipts_total;
        let bytes = |session: &super::Session| session.receipts.bytes();
        let share = fair_share(
            self.sessions.values().map(bytes).collect(),
            limit - limit / 8,
        );
        for session in self.sessions.values_mut() {
            let stored = session.number.map(|_| self.journal.stored());
            session.receipts.truncate(share, stored);
        }
        self.receipts_total = self.sessions.values().map(bytes).sum();
    }
}
