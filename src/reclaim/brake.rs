//! After a restart storm, batches are held back: what ends the guard may be what it does, and it must not do that at full speed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::batch::Stop;
use crate::system::Clock;

/// Between two batches.
const APART: Duration = Duration::from_secs(60);
/// A storm is remembered for so long.
const SPAN: Duration = Duration::from_secs(300);
/// Between two looks whether to stop.
const LOOK: Duration = Duration::from_millis(200);

/// Holds batches back; one for all volumes.
#[derive(Debug, Default)]
pub struct Brake {
    /// By the clock that does not jump.
    until: Duration,
    last: Mutex<Option<Duration>>,
}

impl Brake {
    /// On for the next five minutes.
    #[must_use]
    pub fn on(clock: &dyn Clock) -> Self {
        Self { until: clock.boottime().saturating_add(SPAN), last: Mutex::default() }
    }

    /// A batch begins.
    pub(super) fn began(&self, clock: &dyn Clock) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock.boottime());
    }

    /// When the next batch may begin, if not now.
    pub(super) fn due(&self, clock: &dyn Clock) -> Option<Duration> {
        let now = clock.boottime();
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last?.saturating_add(APART).min(self.until);
        (due > now).then_some(due)
    }

    /// Waits until the next batch may begin; whether it had to.
    pub(super) fn hold(&self, clock: &dyn Clock, stop: Stop<'_>) -> bool {
        let mut held = false;
        while self.due(clock).is_some() && !stop() {
            held = true;
            clock.sleep(LOOK);
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::Timestamp;
    use std::cell::Cell;

    /// A clock that only sleeps.
    #[derive(Default)]
    struct Asleep(Mutex<Duration>);

    impl Clock for Asleep {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn boottime(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, span: Duration) {
            *self.0.lock().unwrap() += span;
        }
    }

    /// Fault 81.
    #[test]
    fn a_storm_lets_one_batch_pass_a_minute_for_five_minutes() {
        let clock = Asleep::default();
        let brake = Brake::on(&clock);
        let mut begun = Vec::new();
        for _ in 0..8 {
            brake.hold(&clock, &|| false);
            brake.began(&clock);
            begun.push(clock.boottime().as_secs());
        }
        assert_eq!(begun, [0, 60, 120, 180, 240, 300, 300, 300]);
        let off = Brake::default();
        off.began(&clock);
        assert!(!off.hold(&clock, &|| false));
    }

    #[test]
    fn who_stops_does_not_wait() {
        let clock = Asleep::default();
        let brake = Brake::on(&clock);
        brake.began(&clock);
        let asked = Cell::new(0);
        brake.hold(&clock, &|| {
            asked.set(asked.get() + 1);
            asked.get() > 2
        });
        assert!(clock.boottime() < Duration::from_secs(1));
    }
}
