//! Limits wrong tokens by the address that they come from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The most wrong tokens of an address within [`WINDOW`].
const MAX_FAILURES: u32 = 10;
/// How long a wrong token counts.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The most addresses that are remembered.
const MAX_ADDRESSES: usize = 4_096;

/// The wrong tokens of the last minute.
#[derive(Debug, Default)]
pub struct RateLimit {
    by_address: HashMap<IpAddr, Failures>,
}

/// The wrong tokens from one address.
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
    /// Returns `true` if an address may show no further wrong token now.
    pub fn is_exceeded(&self, peer: IpAddr, now: Instant) -> bool {
        let failures = self.by_address.get(&network(peer));
        failures.is_some_and(|failures| failures.count >= MAX_FAILURES && !failures.is_over(now))
    }

    /// Counts a wrong token from an address.
    pub fn count(&mut self, peer: IpAddr, now: Instant) {
        let network = network(peer);
        if self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(&network) {
            self.make_room(now);
        }
        let none = Failures {
            since: now,
            count: 0,
        };
        let failures = self.by_address.entry(network).or_insert(none);
        if failures.is_over(now) {
            *failures = none;
        }
        failures.count = failures.count.saturating_add(1);
    }

    /// Removes the addresses whose wrong tokens count no longer, or else the oldest.
    fn make_room(&mut self, now: Instant) {
        self.by_address.retain(|_, failures| !failures.is_over(now));
        if self.by_address.len() >= MAX_ADDRESSES {
            let oldest = self
                .by_address
                .iter()
                .min_by_key(|(_, failures)| failures.since);
            if let Some(oldest) = oldest.map(|(network, _)| *network) {
                self.by_address.remove(&oldest);
            }
        }
    }
}

/// Returns what counts as one address: for IPv6 the /64 network, as its holder has all 2^64
/// addresses of it.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_network_counts_as_one_address_and_memory_is_bounded() {
        let now = Instant::now();
        let ip = |ip: &str| ip.parse::<IpAddr>().expect("the address parses");
        let mut limit = RateLimit::default();
        for last in 0..MAX_FAILURES {
            limit.count(ip(&format!("2001:db8::{last}")), now);
        }
        assert!(limit.is_exceeded(ip("2001:db8::ffff"), now));
        assert!(!limit.is_exceeded(ip("2001:db8:0:1::1"), now));
        for _ in 0..MAX_FAILURES {
            limit.count(ip("::ffff:10.0.0.7"), now);
        }
        assert!(limit.is_exceeded(ip("10.0.0.7"), now));
        for address in 0..5_000 {
            limit.count(std::net::Ipv4Addr::from_bits(address).into(), now);
        }
        assert_eq!(limit.by_address.len(), MAX_ADDRESSES);
    }
}
