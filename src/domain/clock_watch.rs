//! Whether the time of day can be trusted: it must move as the time since boot does.

use std::time::Duration;

use super::units::{Timestamp, show_duration};

/// A larger difference is a jump. Corrections of a running clock are smaller.
const JUMP: Duration = Duration::from_secs(300);
/// After a jump no age is judged for so long.
const FROZEN: Duration = Duration::from_secs(3600);

/// How far the clock is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClockTrust {
    /// It moves as it should.
    Good,
    /// It jumped a moment ago: nothing is deleted.
    Blind(String),
    /// It jumped: nothing is deleted because of its age.
    AgesFrozen,
}

/// Watches the clock.
#[derive(Debug, Clone)]
pub struct ClockWatch {
    /// After a jump nothing is deleted for so long: every file is then seen for its `min_age` by a clock that does not jump.
    blind: Duration,
    last: Option<(Timestamp, Duration)>,
    suspect: Option<Suspect>,
}

#[derive(Debug, Clone)]
struct Suspect {
    since: Timestamp,
    at: Duration,
    text: String,
}

impl ClockWatch {
    /// Watches a clock for trees of which none has a longer `min_age`.
    #[must_use]
    pub fn new(min_age: Duration) -> Self {
        Self { blind: min_age, last: None, suspect: None }
    }

    /// The longest `min_age` is another now.
    pub fn set_min_age(&mut self, min_age: Duration) {
        self.blind = min_age;
    }

    /// Compares the time of day with the time since boot. `recorded` is the last time in the journal: before it is no now.
    pub fn observe(&mut self, now: Timestamp, boot: Duration, recorded: Option<Timestamp>) -> ClockTrust {
        let (expected, since) = match self.last {
            Some((then, at)) => (then.plus(boot.saturating_sub(at)), "the last look"),
            None => (recorded.filter(|recorded| *recorded > now).unwrap_or(now), "the journal's last entry"),
        };
        self.last = Some((now, boot));
        let (back, forward) = (expected.since(now), now.since(expected));
        if back > JUMP || forward > JUMP {
            let text = if back > JUMP {
                format!("went back by {} against {since}", show_duration(back))
            } else {
                format!("jumped forward by {} against {since}", show_duration(forward))
            };
            self.suspect = Some(Suspect { since: now, at: boot, text });
        }
        let Some(suspect) = &self.suspect else { return ClockTrust::Good };
        let age = boot.saturating_sub(suspect.at);
        if age < self.blind {
            ClockTrust::Blind(suspect.text.clone())
        } else if age < FROZEN.max(self.blind) {
            ClockTrust::AgesFrozen
        } else {
            self.suspect = None;
            ClockTrust::Good
        }
    }

    /// Since when it is not trusted, and why.
    #[must_use]
    pub fn suspect(&self) -> Option<(Timestamp, &str)> {
        self.suspect.as_ref().map(|suspect| (suspect.since, suspect.text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks as (time of day, time since boot) in seconds; the trust after the last.
    fn check(recorded: Option<i64>, looks: &[(i64, u64)], expected: &str) {
        let mut watch = ClockWatch::new(Duration::from_secs(600));
        let mut trust = ClockTrust::Good;
        for (now, boot) in looks {
            let recorded = recorded.map(Timestamp::from_secs);
            trust = watch.observe(Timestamp::from_secs(*now), Duration::from_secs(*boot), recorded);
        }
        let found = match trust {
            ClockTrust::Good => "good".to_owned(),
            ClockTrust::Blind(text) => format!("blind: {text}"),
            ClockTrust::AgesFrozen => "frozen".to_owned(),
        };
        assert!(found.starts_with(expected), "{found}");
    }

    #[test]
    fn a_jump_is_seen_in_either_direction_and_forgotten_after_an_hour() {
        check(None, &[(1000, 10), (1010, 20)], "good");
        check(None, &[(1000, 10), (1010 + 200, 20)], "good");
        check(None, &[(1000, 10), (9000, 20)], "blind: jumped forward");
        check(None, &[(10_000, 10), (1000, 20)], "blind: went back");
        check(None, &[(1000, 10), (9000, 20), (9700, 720)], "frozen");
        check(None, &[(1000, 10), (9000, 20), (12_700, 3720)], "good");
    }

    #[test]
    fn a_suspended_machine_is_no_jump() {
        check(None, &[(1000, 10), (8200, 7210)], "good");
    }

    #[test]
    fn a_time_before_the_journals_last_entry_is_a_clock_that_went_back() {
        check(Some(9000), &[(1000, 10)], "blind: went back");
        check(Some(1100), &[(1000, 10)], "good");
        check(Some(900), &[(1000, 10)], "good");
    }
}
