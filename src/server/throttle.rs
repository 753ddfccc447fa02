//! So many in a minute for each address, and no more.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many are admitted in a window.
const ADMITTED: usize = 10;
/// The window.
const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses are remembered; beyond that the half that was quiet longest is forgotten.
const ADDRESSES: usize = 4096;

/// Counts for each address. An IPv6 network of 64 bits is one address, since one machine has all of it.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    admitted: Mutex<HashMap<IpAddr, VecDeque<Duration>>>,
}

impl Throttle {
    /// Whether one more from `address` is admitted at `now`; if it is, it is counted.
    pub(super) fn admit(&self, address: IpAddr, now: Duration) -> bool {
        let address = network(address);
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if !admitted.contains_key(&address) && admitted.len() >= ADDRESSES {
            admitted.retain(|_, times| times.back().is_some_and(|last| now.saturating_sub(*last) < WINDOW));
            if admitted.len() >= ADDRESSES {
                // Half of them at once, so that a flood of addresses costs little for each.
                let mut latest: Vec<Duration> = admitted.values().filter_map(|times| times.back().copied()).collect();
                let (_, middle, _) = latest.select_nth_unstable(ADDRESSES / 2);
                let middle = *middle;
                admitted.retain(|_, times| times.back().is_some_and(|last| *last > middle));
            }
        }
        let times = admitted.entry(address).or_default();
        while times.front().is_some_and(|first| now.saturating_sub(*first) >= WINDOW) {
            times.pop_front();
        }
        if times.len() >= ADMITTED {
            return false;
        }
        times.push_back(now);
        true
    }
}

/// The address, or the network, that is counted as one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) if v6.is_loopback() => IpAddr::V6(v6),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(events: &[(&str, u64)], admitted: usize) {
        let throttle = Throttle::default();
        let count = events.iter().filter(|(ip, at)| throttle.admit(ip.parse().unwrap(), Duration::from_secs(*at)));
        assert_eq!(count.count(), admitted);
    }

    #[test]
    fn ten_in_a_minute_pass_for_each_address() {
        check(&[("10.0.0.1", 5); 15], 10);
        check(&[[("10.0.0.1", 5); 12], [("10.0.0.2", 5); 12]].concat(), 20);
        check(&[[("10.0.0.1", 5); 12], [("10.0.0.1", 64); 12]].concat(), 10);
        check(&[[("10.0.0.1", 5); 12], [("10.0.0.1", 65); 12]].concat(), 20);
        check(&[[("2001:db8::1", 5); 8], [("2001:db8::2", 5); 8]].concat(), 10);
        check(&[[("::ffff:10.0.0.1", 5); 8], [("10.0.0.1", 5); 8]].concat(), 10);
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for n in 0..10_000_u32 {
            assert!(throttle.admit(IpAddr::V4(n.into()), Duration::from_secs(1)));
        }
        assert!(throttle.admitted.lock().unwrap().len() <= ADDRESSES);
    }
}
