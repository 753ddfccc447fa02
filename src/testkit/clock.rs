//! A clock that tests move.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Power;
use crate::domain::units::Timestamp;
use crate::system::Clock;

/// Time in memory: asking for the time of day moves it by a millisecond, so that no two moments are the same, and sleeping moves it by
/// what was slept.
#[derive(Debug)]
pub struct FakeClock {
    times: Mutex<(Timestamp, Duration)>,
    power: Arc<Power>,
}

impl FakeClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp, power: Arc<Power>) -> Self {
        Self { times: Mutex::new((now, Duration::from_secs(1))), power }
    }

    /// The time of day jumps; the time since the start does not.
    pub fn jump(&self, to: Timestamp) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).0 = to;
    }

    /// The time of day, without being asked by the guard.
    pub fn shows(&self) -> Timestamp {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn pass(&self, span: Duration) -> (Timestamp, Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        *times = (times.0.plus(span), times.1.saturating_add(span));
        *times
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        // The time cannot fail; only the power can.
        let _ = self.power.step("now", || Ok(()));
        self.pass(Duration::from_millis(1)).0
    }

    fn boottime(&self) -> Duration {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn sleep(&self, span: Duration) {
        self.pass(span);
    }
}
