//! Whether the time of day can be trusted: it must move as the time since boot does.

use std::time::Duration;

use super::units::{Timestamp, show_duration};

/// A larger difference is a jump. Corrections of a running clock are smaller.
const JUMP: Duration = Duration::from_secs(300);
/// After a jump nothing goes because of its age for so long.
const FROZEN: Duration = Duration::from_secs(3600);

/// The time of day, as far as it is known: after a jump, files are dated by either of the two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What the clock shows.
    pub now: Timestamp,
    /// The earliest that it may be.
    pub earliest: Timestamp,
    /// The latest that it may be.
    pub latest: Timestamp,
    /// The clock is trusted. While it is not, nothing goes because of its age.
    pub trusted: bool,
}

impl Moment {
    /// By a clock that is trusted.
    #[must_use]
    pub fn trusted(now: Timestamp) -> Self {
        Skew::NONE.at(now)
    }

    /// The least age of what bears the date `at`, whichever clock dated it: what is dated later than the slower clock shows was dated
    /// by the faster one, and all else may have been dated by the slower.
    #[must_use]
    pub fn age(&self, at: Timestamp) -> Duration {
        if at > self.earliest { self.latest.since(at) } else { self.earliest.since(at) }
    }
}

/// How far the clock may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// It may be so much earlier than the clock shows.
    earlier: Duration,
    /// It may be so much later.
    later: Duration,
    trusted: bool,
}

impl Skew {
    /// The clock is trusted.
    pub const NONE: Self = Self { earlier: Duration::ZERO, later: Duration::ZERO, trusted: true };

    /// The moment at which the clock shows `now`.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Moment {
        Moment { now, earliest: now.minus(self.earlier), latest: now.plus(self.later), trusted: self.trusted }
    }
}

/// Watches the clock.
#[derive(Debug, Clone)]
pub struct ClockWatch {
    /// The longest `min_age` of a tree: a jump is not forgotten before every file of that time was seen for so long.
    min_age: Duration,
    last: Option<(Timestamp, Duration)>,
    suspect: Option<Suspect>,
}

#[derive(Debug, Clone)]
struct Suspect {
    since: Timestamp,
    at: Duration,
    text: String,
    /// What the slowest and the fastest of its clocks would show at the last look.
    earliest: Timestamp,
    latest: Timestamp,
}

impl ClockWatch {
    /// Watches a clock for trees of which none has a longer `min_age`.
    #[must_use]
    pub fn new(min_age: Duration) -> Self {
        Self { min_age, last: None, suspect: None }
    }

    /// The longest `min_age` is another now.
    pub fn set_min_age(&mut self, min_age: Duration) {
        self.min_age = min_age;
    }

    /// Compares the time of day with the time since boot. `recorded` is the last time in the journal: before it is no now.
    pub fn observe(&mut self, now: Timestamp, boot: Duration, recorded: Option<Timestamp>) {
        let elapsed = self.last.map_or(Duration::ZERO, |(_, at)| boot.saturating_sub(at));
        let (expected, since) = match self.last {
            Some((then, _)) => (then.plus(elapsed), "the last look"),
            None => (recorded.filter(|recorded| *recorded > now).unwrap_or(now), "the journal's last entry"),
        };
        self.last = Some((now, boot));
        if let Some(suspect) = &mut self.suspect {
            suspect.earliest = suspect.earliest.plus(elapsed).min(now);
            suspect.latest = suspect.latest.plus(elapsed).max(now);
        }
        let (back, forward) = (expected.since(now), now.since(expected));
        if back > JUMP || forward > JUMP {
            let text = if back > JUMP {
                format!("went back by {} against {since}", show_duration(back))
            } else {
                format!("jumped forward by {} against {since}", show_duration(forward))
            };
            let known = self.suspect.as_ref();
            let earliest = known.map_or(expected.min(now), |known| known.earliest);
            let latest = known.map_or(expected.max(now), |known| known.latest);
            self.suspect = Some(Suspect { since: now, at: boot, text, earliest, latest });
        }
        let span = FROZEN.max(self.min_age);
        if self.suspect.as_ref().is_some_and(|suspect| boot.saturating_sub(suspect.at) >= span) {
            self.suspect = None;
        }
    }

    /// Since when it is not trusted, and why.
    #[must_use]
    pub fn suspect(&self) -> Option<(Timestamp, &str)> {
        self.suspect.as_ref().map(|suspect| (suspect.since, suspect.text.as_str()))
    }

    /// How far it may be off.
    #[must_use]
    pub fn skew(&self) -> Skew {
        match (&self.suspect, self.last) {
            (Some(suspect), Some((now, _))) => {
                Skew { earlier: now.since(suspect.earliest), later: suspect.latest.since(now), trusted: false }
            }
            (Some(_) | None, _) => Skew::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks as (time of day, time since boot) in seconds; what is suspected after the last, and the moment then.
    fn check(recorded: Option<i64>, looks: &[(i64, u64)], text: Option<&str>, span: (i64, i64)) {
        let mut watch = ClockWatch::new(Duration::from_secs(600));
        for (now, boot) in looks {
            let recorded = recorded.map(Timestamp::from_secs);
            watch.observe(Timestamp::from_secs(*now), Duration::from_secs(*boot), recorded);
        }
        let now = Timestamp::from_secs(looks.last().unwrap().0);
        let moment = watch.skew().at(now);
        assert_eq!((moment.earliest.secs(), moment.latest.secs(), moment.trusted), (span.0, span.1, text.is_none()));
        match (watch.suspect(), text) {
            (None, None) => {}
            (found, wanted) => assert!(found.unwrap().1.starts_with(wanted.unwrap()), "{found:?}"),
        }
    }

    #[test]
    fn a_jump_is_seen_in_either_direction_and_forgotten_after_an_hour() {
        check(None, &[(1000, 10), (1010, 20)], None, (1010, 1010));
        check(None, &[(1000, 10), (1010 + 200, 20)], None, (1210, 1210));
        check(None, &[(1000, 10), (9000, 20)], Some("jumped forward"), (1010, 9000));
        check(None, &[(10_000, 10), (1000, 20)], Some("went back"), (1000, 10_010));
        check(None, &[(1000, 10), (9000, 20), (9700, 720)], Some("jumped forward"), (1710, 9700));
        check(None, &[(1000, 10), (9000, 20), (12_700, 3720)], None, (12_700, 12_700));
    }

    #[test]
    fn a_jump_that_is_taken_back_leaves_both_clocks_possible() {
        check(None, &[(1000, 10), (9000, 20), (1110, 120)], Some("went back"), (1110, 9100));
    }

    /// Faults 91, 93.
    #[test]
    fn a_suspended_machine_is_no_jump() {
        check(None, &[(1000, 10), (8200, 7210)], None, (8200, 8200));
    }

    /// Fault 91: 1970 at boot.
    #[test]
    fn a_time_before_the_journals_last_entry_is_a_clock_that_went_back() {
        check(Some(9000), &[(1000, 10)], Some("went back"), (1000, 9000));
        check(Some(1100), &[(1000, 10)], None, (1000, 1000));
        check(Some(900), &[(1000, 10)], None, (1000, 1000));
    }

    #[test]
    fn an_age_is_the_least_that_either_clock_allows() {
        let moment = |earliest, latest| Moment {
            now: Timestamp::from_secs(earliest),
            earliest: Timestamp::from_secs(earliest),
            latest: Timestamp::from_secs(latest),
            trusted: false,
        };
        let age = |moment: Moment, at| moment.age(Timestamp::from_secs(at)).as_secs();
        let both = moment(1000, 9000);
        assert_eq!(age(both, 400), 600, "dated by the slower clock, or long ago by the faster");
        assert_eq!(age(both, 8000), 1000, "the slower clock never showed this");
        assert_eq!(age(both, 9500), 0);
        assert_eq!(age(moment(1000, 1000), 400), 600);
    }
}
