//! Wrong tokens, counted by the address they came from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How many wrong tokens an address may show within [`WINDOW`].
const MOST: u32 = 10;
/// How long a wrong token counts.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses are remembered.
const ADDRESSES: usize = 4_096;

/// Wrong tokens of the last minute.
#[derive(Debug, Default)]
pub struct Attempts {
    by_address: HashMap<IpAddr, Wrong>,
}

/// Wrong tokens from one address.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    since: Instant,
    count: u32,
}

impl Wrong {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

impl Attempts {
    /// Whether an address has shown too many.
    pub fn are_too_many(&self, peer: IpAddr, now: Instant) -> bool {
        let wrong = self.by_address.get(&network(peer));
        wrong.is_some_and(|wrong| wrong.count >= MOST && !wrong.is_over(now))
    }

    /// An address has shown another one.
    pub fn count(&mut self, peer: IpAddr, now: Instant) {
        let network = network(peer);
        if self.by_address.len() >= ADDRESSES && !self.by_address.contains_key(&network) {
            self.make_room(now);
        }
        let first = Wrong {
            since: now,
            count: 0,
        };
        let wrong = self.by_address.entry(network).or_insert(first);
        if wrong.is_over(now) {
            *wrong = first;
        }
        wrong.count = wrong.count.saturating_add(1);
    }

    /// Forgets what is over, or else the oldest.
    fn make_room(&mut self, now: Instant) {
        self.by_address.retain(|_, wrong| !wrong.is_over(now));
        if self.by_address.len() >= ADDRESSES {
            let oldest = self.by_address.iter().min_by_key(|(_, wrong)| wrong.since);
            if let Some(oldest) = oldest.map(|(network, _)| *network) {
                self.by_address.remove(&oldest);
            }
        }
    }
}

/// Who has one IPv6 address has the 2^64 beside it too.
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
    fn an_ipv6_network_is_one_address_and_memory_is_bounded() {
        let now = Instant::now();
        let ip = |ip: &str| ip.parse::<IpAddr>().expect("an address");
        let mut attempts = Attempts::default();
        for last in 0..MOST {
            attempts.count(ip(&format!("2001:db8::{last}")), now);
        }
        assert!(attempts.are_too_many(ip("2001:db8::ffff"), now));
        assert!(!attempts.are_too_many(ip("2001:db8:0:1::1"), now));
        for _ in 0..MOST {
            attempts.count(ip("::ffff:10.0.0.7"), now);
        }
        assert!(attempts.are_too_many(ip("10.0.0.7"), now));
        for address in 0..5_000 {
            attempts.count(std::net::Ipv4Addr::from_bits(address).into(), now);
        }
        assert_eq!(attempts.by_address.len(), ADDRESSES);
    }
}
