//! When a failed deletion is tried again.

use std::time::Duration;

use super::settings::RetryPolicy;

/// The pause after `attempts` failures, the first `failing_for` ago. `jitter` is a random number from 0 to 1000: the pause is
/// spread over its upper half, so that failures of one moment do not come back at one moment.
#[must_use]
pub fn pause(policy: &RetryPolicy, attempts: u32, failing_for: Duration, jitter: u32) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    let full = if failing_for >= DAY {
        policy.after_a_day
    } else {
        policy.first.saturating_mul(2u32.saturating_pow(attempts.saturating_sub(1).min(30))).min(policy.max)
    };
    let half = full / 2;
    half + half * jitter.min(1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_limit_and_slows_down_after_a_day() {
        let policy = RetryPolicy::default();
        for (attempts, hours, secs) in
            [(0, 0, 5), (1, 0, 5), (2, 0, 10), (3, 0, 20), (20, 0, 900), (u32::MAX, 0, 900), (3, 25, 21_600)]
        {
            let failing_for = Duration::from_secs(hours * 3600);
            assert_eq!(pause(&policy, attempts, failing_for, 1000), Duration::from_secs(secs));
            assert_eq!(pause(&policy, attempts, failing_for, 0), Duration::from_secs(secs) / 2);
        }
    }
}
