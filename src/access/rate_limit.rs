//! Limits wrong tokens by where they come from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The most wrong tokens of a guesser within [`WINDOW`].
const MAX_FAILURES: u32 = 10;
/// How long a wrong token counts.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The most guessers that are remembered.
const MAX_GUESSERS: usize = 4_096;

/// Where a token comes from. What one guesser shows doesn't count for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guesser {
    /// For IPv6 the /64 network, as its holder has all 2^64 addresses of it. One address for all
    /// of this machine: every program has all of 127.0.0.0/8.
    network: IpAddr,
    /// A website may have made a browser at this address send it, whose owner must not pay for that.
    is_website: bool,
}

impl Guesser {
    pub fn new(peer: IpAddr, is_website: bool) -> Self {
        let network = match peer.to_canonical() {
            ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
            ip @ IpAddr::V4(_) => ip,
        };
        Self {
            network,
            is_website,
        }
    }
}

/// The wrong tokens of the last minute.
#[derive(Debug, Default)]
pub struct RateLimit {
    by_guesser: HashMap<Guesser, Failures>,
}

/// The wrong tokens of one guesser.
#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Failures {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

impl RateLimit {
    /// Returns `true` if a guesser may show no further wrong token now.
    pub fn is_exceeded(&self, guesser: Guesser, now: Instant) -> bool {
        let failures = self.by_guesser.get(&guesser);
        failures.is_some_and(|failures| failures.count >= MAX_FAILURES && !failures.is_over(now))
    }

    /// Counts a wrong token of a guesser.
    pub fn count(&mut self, guesser: Guesser, now: Instant) {
        if self.by_guesser.len() >= MAX_GUESSERS && !self.by_guesser.contains_key(&guesser) {
            self.make_room(now);
        }
        let none = Failures {
            since: now,
            count: 0,
        };
        let failures = self.by_guesser.entry(guesser).or_insert(none);
        if failures.is_over(now) {
            *failures = none;
        }
        failures.count = failures.count.saturating_add(1);
    }

    /// Removes the guessers whose wrong tokens count no longer, or else the oldest.
    fn make_room(&mut self, now: Instant) {
        self.by_guesser.retain(|_, failures| !failures.is_over(now));
        if self.by_guesser.len() >= MAX_GUESSERS {
            let oldest = self
                .by_guesser
                .iter()
                .min_by_key(|(_, failures)| failures.since);
            if let Some(oldest) = oldest.map(|(guesser, _)| *guesser) {
                self.by_guesser.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesser(ip: &str) -> Guesser {
        Guesser::new(ip.parse().expect("the address parses"), false)
    }

    #[test]
    fn holder_of_many_addresses_is_one_guesser() {
        let same = [
            ("127.0.0.1", "127.8.9.10"),
            ("127.0.0.1", "::ffff:127.255.255.254"),
            ("127.0.0.1", "::1"),
            ("2001:db8::1", "2001:db8::ffff:1:2:3"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
        ];
        for (one, other) in same {
            assert_eq!(guesser(one), guesser(other), "{one} {other}");
        }
        let different = [
            ("127.0.0.1", "128.0.0.1"),
            ("10.0.0.7", "10.0.0.8"),
            ("::ffff:10.0.0.7", "::ffff:10.0.0.8"),
            ("2001:db8::1", "2001:db8:0:1::1"),
            ("::1", "2001:db8::1"),
        ];
        for (one, other) in different {
            assert_ne!(guesser(one), guesser(other), "{one} {other}");
        }
    }

    #[test]
    fn guesses_of_websites_count_apart() {
        let now = Instant::now();
        let here = IpAddr::from([127, 0, 0, 1]);
        let mut limit = RateLimit::default();
        for _ in 0..MAX_FAILURES {
            limit.count(Guesser::new(here, true), now);
        }
        assert!(limit.is_exceeded(Guesser::new(here, true), now));
        assert!(!limit.is_exceeded(Guesser::new(here, false), now));
    }

    #[test]
    fn memory_of_guessers_is_bounded() {
        let now = Instant::now();
        let mut limit = RateLimit::default();
        for address in 0..5_000 {
            let ip = Ipv4Addr::from_bits(address << 8).into();
            limit.count(Guesser::new(ip, false), now);
        }
        assert_eq!(limit.by_guesser.len(), MAX_GUESSERS);
    }
}
