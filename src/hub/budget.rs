//! Budgets: how much the holders of a token with a rate may still say. One is shared by all
//! connections with that token, and kept while nobody is connected.
//!
//! It is a token bucket (GCRA): a rate of 30/m allows 30 messages at once, and then one each
//! two seconds. What is rejected costs nothing, and neither does a message that is sent again.

use std::time::{Duration, Instant};

use log::info;
use rustc_hash::FxHashMap;

use super::{Hub, Now};
use crate::protocol::{ConnId, ErrorCode, NewMessage, Rate, Rejection, SessionId};

/// For each started 4 KiB of its text, a message counts as one.
const UNIT_BYTES: usize = 4 * 1024;

/// The budgets of all tokens with a rate that have been used, by [`crate::protocol::Grant::id`].
#[derive(Debug, Default)]
pub struct Budgets(FxHashMap<u64, Budget>);

impl Budgets {
    /// Forgets those of grants that aren't valid any more.
    pub fn retain(&mut self, is_valid: impl Fn(u64) -> bool) {
        self.0.retain(|grant_id, _| is_valid(*grant_id));
    }
}

/// The budget of one token.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// When all of it is there again.
    full_at: Instant,
    /// Since it was full, a message was rejected.
    was_exceeded: bool,
}

/// Why a message does not fit into a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BudgetError {
    /// It can be taken after this time.
    UsedUp(Duration),
    /// It takes more than all of the budget.
    NeverFits,
}

impl Budget {
    fn full(now: Instant) -> Self {
        Self {
            full_at: now,
            was_exceeded: false,
        }
    }

    /// Takes what a message counts as.
    ///
    /// # Errors
    /// [`BudgetError`]. Nothing is taken then.
    fn take(&mut self, now: Instant, rate: Rate, units: u32) -> Result<(), BudgetError> {
        if units > rate.burst() {
            return Err(BudgetError::NeverFits);
        }
        if self.full_at <= now {
            *self = Self::full(now);
        }
        let full_at = self.full_at + rate.period() * units / rate.burst();
        let latest = now + rate.period();
        if full_at > latest {
            return Err(BudgetError::UsedUp(full_at - latest));
        }
        self.full_at = full_at;
        Ok(())
    }
}

impl Hub {
    /// Takes a message from the budget of its sender's token. One whose id is known in the session
    /// counts no second time.
    ///
    /// # Errors
    /// The rejection, if there is too little left.
    pub(super) fn take_from_budget(
        &mut self,
        now: Now,
        client: ConnId,
        rate: Rate,
        session: &SessionId,
        message: &NewMessage,
    ) -> Result<(), Rejection> {
        let known = self.sessions.get(session).zip(message.id.as_ref());
        if known.is_some_and(|(session, key)| session.receipts.get(key).is_some()) {
            return Ok(());
        }
        let (now, length) = (now.instant, message.content.len());
        let units = length.div_ceil(UNIT_BYTES).max(1);
        let units = units.try_into().unwrap_or(u32::MAX);
        let grant = &self.clients[&client].grant;
        let budget = self.budgets.0.entry(grant.id);
        let budget = budget.or_insert_with(|| Budget::full(now));
        let Err(error) = budget.take(now, rate, units) else {
            return Ok(());
        };
        if !std::mem::replace(&mut budget.was_exceeded, true) {
            info!("{client} ({grant}) sends more than {rate}; what is too much is rejected");
        }
        Err(Rejection {
            session_id: session.to_string(),
            id: message.id.as_ref().map(ToString::to_string),
            ..rejection(error, rate, units, length)
        })
    }
}

fn rejection(error: BudgetError, rate: Rate, units: u32, length: usize) -> Rejection {
    match error {
        BudgetError::UsedUp(time) => {
            let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
            let why = match units {
                1 => format!(
                    "this token's rate of {rate} is used up; send the message again in {seconds} s"
                ),
                _ => format!(
                    "this token's rate is {rate}, and this message of {length} bytes counts as {units}; send it again in {seconds} s"
                ),
            };
            Rejection {
                retry_after: Some(seconds),
                ..Rejection::new(ErrorCode::Busy, why)
            }
        }
        BudgetError::NeverFits => {
            let max = u64::from(rate.burst()) * UNIT_BYTES as u64;
            let why = format!(
                "the message has {length} bytes, and this token's rate of {rate} never allows more than {max} at once; send less at once"
            );
            Rejection::new(ErrorCode::TooLarge, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RateLimit;

    fn rate(text: &str) -> Rate {
        let limit = RateLimit::parse(text).expect("the rate is valid");
        limit.rate().expect("there is a limit")
    }

    #[test]
    fn budget_allows_its_burst_and_then_refills_evenly() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut budget = Budget::full(start);
        let rate = rate("30/m");
        let used_up = |millis| Err(BudgetError::UsedUp(Duration::from_millis(millis)));
        for _ in 0..30 {
            assert_eq!(budget.take(start, rate, 1), Ok(()));
        }
        assert_eq!(budget.take(start, rate, 1), used_up(2_000));
        assert_eq!(budget.take(after(1_999), rate, 1), used_up(1));
        assert_eq!(budget.take(after(2_000), rate, 1), Ok(()));
        assert_eq!(budget.take(after(2_000), rate, 3), used_up(6_000));
        assert_eq!(budget.take(after(8_000), rate, 3), Ok(()));
        // It never holds more than the burst.
        let later = after(3_600_000);
        assert_eq!(budget.take(later, rate, 31), Err(BudgetError::NeverFits));
        assert_eq!(budget.take(later, rate, 30), Ok(()));
        assert_eq!(budget.take(later, rate, 1), used_up(2_000));
    }

    /// However it is used, no more is taken than the burst and what comes back meanwhile.
    #[test]
    fn budget_is_never_exceeded() {
        for text in ["7/s", "60/m", "1000/h", "4294967295/d"] {
            let (rate, start) = (rate(text), Instant::now());
            let mut budget = Budget::full(start);
            let (mut taken, mut now, mut random) = (0_u64, start, 1_u64);
            for _ in 0..10_000 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                now += rate.period() / 64 * (random >> 60) as u32;
                let units = 1 + (random >> 32) as u32 % rate.burst();
                if budget.take(now, rate, units).is_ok() {
                    taken += u64::from(units);
                }
            }
            let periods = (now - start).as_secs_f64() / rate.period().as_secs_f64();
            // Each message may be rounded down by a nanosecond.
            let allowed = f64::from(rate.burst()) * (1.0 + periods) * 1.000_1;
            assert!(taken as f64 <= allowed, "{text}: {taken} > {allowed}");
        }
    }
}
