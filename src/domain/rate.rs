//! How many messages a minute: a token bucket.
//!
//! A bucket that holds some tokens, and gets one more after each span, lets all that it holds through at once, and then one in each
//! span. Both are chosen so that a minute never sees more than its limit, wherever it begins.

use std::time::Duration;

/// The span that the limit is about.
const MINUTE: Duration = Duration::from_secs(60);

/// A limit, as a bucket keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many tokens it holds.
    capacity: u32,
    /// After each such span it gets one more.
    every: Duration,
}

impl Rate {
    /// At most so many in any minute; at least one. A third of them may go at once.
    #[must_use]
    pub fn per_minute(limit: u32) -> Self {
        let limit = limit.max(1);
        let capacity = limit.div_ceil(3);
        // In a minute that begins with a full bucket as many come after as whole spans fit: one too many, were they not a little longer.
        let every = MINUTE / (limit - capacity + 1) + Duration::from_millis(1);
        Self { capacity, every }
    }

    fn filling(self) -> Duration {
        self.every.saturating_mul(self.capacity)
    }
}

/// The tokens that are left. Times are those of a clock that only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// When it will be full.
    full_at: Duration,
    /// Nothing was taken yet.
    untouched: bool,
}

impl TokenBucket {
    /// A bucket without tokens: what a start begins with, since nobody knows what was sent just before.
    #[must_use]
    pub fn empty(rate: Rate, now: Duration) -> Self {
        Self { full_at: now.saturating_add(rate.filling()), untouched: true }
    }

    /// How long until there is a token; zero if there is one.
    #[must_use]
    pub fn wait(&mut self, rate: Rate, now: Duration) -> Duration {
        // A limit that was changed makes nobody wait for longer than an empty bucket would.
        self.full_at = self.full_at.min(now.saturating_add(rate.filling()));
        let others = rate.filling().saturating_sub(rate.every);
        self.full_at.saturating_sub(now).saturating_sub(others)
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let there = self.wait(rate, now).is_zero();
        if there {
            self.full_at = self.full_at.max(now).saturating_add(rate.every);
            self.untouched = false;
        }
        there
    }

    /// Takes a token for a message that somebody sends by hand: the first of all is there at once, since one is no burst. Then the
    /// bucket fills from the beginning.
    pub fn take_by_hand(&mut self, rate: Rate, now: Duration) -> bool {
        if self.untouched && !self.wait(rate, now).is_zero() {
            *self = Self { untouched: false, ..Self::empty(rate, now) };
            return true;
        }
        self.take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Sends as soon as it may for `minutes`, after a rest; gives when.
    fn greedy(limit: u32, minutes: u64) -> Vec<u64> {
        let (rate, mut bucket) = (Rate::per_minute(limit), TokenBucket::empty(Rate::per_minute(limit), Duration::ZERO));
        let from = 3_600_000;
        let mut now = from;
        let mut sent = Vec::new();
        while now < from + minutes * 60_000 {
            let wait = bucket.wait(rate, millis(now));
            if bucket.take(rate, millis(now)) {
                sent.push(now - from);
            } else {
                now += u64::try_from(wait.as_micros().div_ceil(1000)).unwrap();
            }
        }
        sent
    }

    fn most_in_a_minute(sent: &[u64]) -> usize {
        let within = |from: &u64| sent.iter().filter(|at| **at >= *from && **at <= from + 60_000).count();
        sent.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn some_go_at_once_and_a_minute_never_sees_more_than_its_limit() {
        // Limit, at once, in the first minute, in ten minutes.
        for (limit, at_once, first, ten) in [(1, 1, 1, 10), (2, 1, 2, 20), (18, 6, 18, 135), (60, 20, 60, 429)] {
            let sent = greedy(limit, 10);
            let burst = sent.iter().filter(|at| **at == 0).count();
            let first_minute = sent.iter().filter(|at| **at <= 60_000).count();
            assert_eq!((burst, first_minute, sent.len()), (at_once, first, ten), "{limit} a minute");
            assert!(most_in_a_minute(&sent) <= limit as usize);
        }
    }

    #[test]
    fn a_start_has_no_token_and_waits_for_one_only() {
        let rate = Rate::per_minute(18);
        let mut bucket = TokenBucket::empty(rate, millis(1000));
        assert!(!bucket.take(rate, millis(1000)));
        let wait = bucket.wait(rate, millis(1000));
        assert!(wait > millis(4000) && wait < millis(5000), "{wait:?}");
        assert!(bucket.take(rate, millis(1000) + wait));
        assert!(!bucket.take(rate, millis(1000) + wait));
    }

    #[test]
    fn one_by_hand_goes_at_once_and_no_second_one() {
        let rate = Rate::per_minute(6);
        let mut bucket = TokenBucket::empty(rate, millis(1000));
        assert!(bucket.take_by_hand(rate, millis(2000)) && !bucket.take_by_hand(rate, millis(2000)));
        assert_eq!(bucket.wait(rate, millis(2000)), rate.every);
        assert!(bucket.take(rate, millis(2000) + rate.every));
        // After something was sent it waits as all do.
        let mut bucket = TokenBucket::empty(rate, millis(0));
        assert!(bucket.take(rate, rate.every) && !bucket.take_by_hand(rate, rate.every));
        // A token that is there is taken, and no more.
        let mut bucket = TokenBucket::empty(rate, millis(0));
        assert!(bucket.take_by_hand(rate, rate.filling()) && bucket.take(rate, rate.filling()));
    }

    #[test]
    fn another_limit_holds_at_once() {
        let (slow, fast) = (Rate::per_minute(1), Rate::per_minute(600));
        let mut bucket = TokenBucket::empty(slow, Duration::ZERO);
        let wait = bucket.wait(fast, Duration::ZERO);
        assert!(wait <= millis(200) && bucket.take(fast, wait), "{wait:?}");
        assert!(!bucket.take(slow, wait) && bucket.take(slow, Duration::from_secs(61)));
    }

    proptest! {
        /// Whatever comes when, also by hand, and however often the guard is started anew.
        #[test]
        fn no_minute_sees_more_than_its_limit(
            limit in 1_u32..80,
            by_hand in prop::option::of(0_u64..90_000),
            steps in prop::collection::vec((prop_oneof![Just(0_u64), 0_u64..50, 0_u64..5_000, 0_u64..90_000], prop::bool::weighted(0.03)), 1..600),
        ) {
            let rate = Rate::per_minute(limit);
            let mut bucket = TokenBucket::empty(rate, Duration::ZERO);
            let mut now = by_hand.unwrap_or(0);
            let mut sent = Vec::new();
            if by_hand.is_some() && bucket.take_by_hand(rate, millis(now)) {
                sent.push(now);
            }
            for (gap, restart) in steps {
                now += gap;
                if restart {
                    bucket = TokenBucket::empty(rate, millis(now));
                }
                if bucket.take(rate, millis(now)) {
                    sent.push(now);
                }
            }
            prop_assert!(most_in_a_minute(&sent) <= limit as usize);
        }
    }
}
