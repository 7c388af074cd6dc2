//! When failed tries become too many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use jiff::Timestamp;

use super::session::later;

/// So many failures within so long, then a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Failures after which no further try is let through; at least 1.
    pub failures: u32,
    /// How long a failure counts, and how long the pause lasts.
    pub window: Duration,
}

/// The failures of one subject, as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Failures counted since `first_at`.
    pub failures: u32,
    /// The first of them.
    pub first_at: Timestamp,
    /// The last of them.
    pub last_at: Timestamp,
}

impl Allowance {
    /// How long the subject must still wait; `None` when a try may go on.
    pub fn pause(&self, counter: Option<&Counter>, now: Timestamp) -> Option<Duration> {
        let counter = counter.filter(|c| c.failures >= self.failures)?;
        let left = later(counter.last_at, self.window).duration_since(now);
        left.is_positive().then(|| left.unsigned_abs())
    }

    /// The counter after one more failure.
    pub fn count(&self, counter: Option<&Counter>, now: Timestamp) -> Counter {
        match counter {
            Some(old) if old.failures < self.failures && now < later(old.first_at, self.window) => {
                Counter {
                    failures: old.failures.saturating_add(1),
                    last_at: now,
                    ..*old
                }
            }
            _ => Counter {
                failures: 1,
                first_at: now,
                last_at: now,
            },
        }
    }
}

/// The addresses that one client can be expected to hold: an IPv4 address, or the /64 of an IPv6 address.
/// What cannot be read shares one block, so that a broken address never escapes the count.
pub fn address(ip: &str) -> String {
    block(ip, 32, 64)
}

/// The addresses that one site can be expected to hold: the /24 of an IPv4 address, the /48 of an IPv6 address.
pub fn address_block(ip: &str) -> String {
    block(ip, 24, 48)
}

fn block(ip: &str, v4_bits: u32, v6_bits: u32) -> String {
    let of_v4 = |v4: Ipv4Addr| {
        format!(
            "{}/{v4_bits}",
            Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << (32 - v4_bits)))
        )
    };
    match ip.trim().parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => of_v4(v4),
        Ok(IpAddr::V6(v6)) => v6.to_ipv4_mapped().map_or_else(
            || {
                let network = v6.to_bits() & (u128::MAX << (128 - v6_bits));
                format!("{}/{v6_bits}", Ipv6Addr::from_bits(network))
            },
            of_v4,
        ),
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Allowance = Allowance {
        failures: 5,
        window: Duration::from_secs(900),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn the_sixth_try_waits_for_the_fifth_failure_to_age() {
        let mut counter = None;
        for second in 0..5 {
            assert_eq!(FIVE.pause(counter.as_ref(), at(second)), None);
            counter = Some(FIVE.count(counter.as_ref(), at(second)));
        }
        assert_eq!(
            FIVE.pause(counter.as_ref(), at(5)),
            Some(Duration::from_secs(899))
        );
        assert_eq!(FIVE.pause(counter.as_ref(), at(904)), None);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let four = Counter {
            failures: 4,
            first_at: at(0),
            last_at: at(800),
        };
        assert_eq!(FIVE.count(Some(&four), at(899)).failures, 5);
        assert_eq!(FIVE.count(Some(&four), at(900)).failures, 1);
        let five = Counter {
            failures: 5,
            ..four
        };
        assert_eq!(FIVE.count(Some(&five), at(1800)).failures, 1);
    }

    #[test]
    fn addresses_of_one_client_count_as_one() {
        assert_eq!(address("203.0.113.9"), "203.0.113.9/32");
        assert_eq!(address("::ffff:203.0.113.9"), address("203.0.113.9"));
        assert_eq!(address("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(address("2001:db8:1:2::99"), address("2001:db8:1:2:ffff::1"));
        assert_eq!(address("nonsense"), address(""));
    }

    #[test]
    fn addresses_of_one_site_count_as_one_block() {
        assert_eq!(address_block("203.0.113.9"), "203.0.113.0/24");
        assert_eq!(address_block("2001:db8:1:2::99"), "2001:db8:1::/48");
    }
}
