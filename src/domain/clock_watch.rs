//! Whether the time of day can be trusted: it must move as the time since boot does.

use std::time::Duration;

use super::units::{Timestamp, show_duration};

/// A larger difference is a jump. Corrections of a running clock are smaller.
const JUMP: Duration = Duration::from_secs(300);
/// Clocks that differ by less are one: a clock that was set twice, and ran a little apart in between.
const SAME: Duration = Duration::from_secs(1);
/// After a jump nothing goes because of its age for so long.
const FROZEN: Duration = Duration::from_secs(3600);

/// Clocks that are told apart; of more, the least of all ages counts.
const CLOCKS: usize = 8;

/// The time of day, as far as it is known: after a jump, files are dated by any of the clocks that were seen.
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
    /// What each clock would show; `None` where there is no other, or they are too many to tell apart.
    clocks: Option<[Timestamp; CLOCKS]>,
}

impl Moment {
    /// By a clock that is trusted.
    #[must_use]
    pub fn trusted(now: Timestamp) -> Self {
        Skew::NONE.at(now)
    }

    /// The least age of what bears the date `at`, whichever clock dated it: no clock dates into its own future.
    #[must_use]
    pub fn age(&self, at: Timestamp) -> Duration {
        match self.clocks {
            Some(clocks) => {
                clocks.iter().filter(|clock| **clock >= at).map(|clock| clock.since(at)).min().unwrap_or_default()
            }
            None if self.trusted => self.now.since(at),
            None => Duration::ZERO,
        }
    }
}

/// How far the clock may be off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skew {
    /// What the clocks would show, less what the clock shows, in milliseconds.
    offsets: Vec<i64>,
    trusted: bool,
}

impl Skew {
    /// The clock is trusted.
    pub const NONE: Self = Self { offsets: Vec::new(), trusted: true };

    /// The moment at which the clock shows `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Moment {
        let shows = |offset: &i64| Timestamp::from_millis(now.millis().saturating_add(*offset));
        let all = || self.offsets.iter().map(shows).chain([now]);
        let mut clocks = [now; CLOCKS];
        for (place, clock) in clocks.iter_mut().zip(all()) {
            *place = clock;
        }
        Moment {
            now,
            earliest: all().min().unwrap_or(now),
            latest: all().max().unwrap_or(now),
            trusted: self.trusted,
            clocks: (!self.trusted && self.offsets.len() < CLOCKS).then_some(clocks),
        }
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
    /// What each clock that was seen would show at the last look.
    clocks: Vec<Timestamp>,
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
            suspect.clocks.iter_mut().for_each(|clock| *clock = clock.plus(elapsed));
        }
        let (back, forward) = (expected.since(now), now.since(expected));
        if back > JUMP || forward > JUMP {
            let text = if back > JUMP {
                format!("went back by {} against {since}", show_duration(back))
            } else {
                format!("jumped forward by {} against {since}", show_duration(forward))
            };
            let mut clocks = self.suspect.take().map_or_else(Vec::new, |known| known.clocks);
            for clock in [expected, now] {
                let known = clocks.iter().any(|other| other.since(clock).max(clock.since(*other)) <= SAME);
                if !known && clocks.len() <= CLOCKS {
                    clocks.push(clock);
                }
            }
            self.suspect = Some(Suspect { since: now, at: boot, text, clocks });
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

    /// It has not looked yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.last.is_none()
    }

    /// Goes on with the suspicion that an earlier process left: a restart makes no clock right.
    pub fn remember(&mut self, text: &str, offsets: &[i64], now: Timestamp, boot: Duration) {
        let clocks = offsets.iter().map(|offset| Timestamp::from_millis(now.millis().saturating_add(*offset)));
        let clocks = clocks.chain([now]).collect();
        self.suspect = Some(Suspect { since: now, at: boot, text: text.to_owned(), clocks });
        self.last = Some((now, boot));
    }

    /// How far it may be off.
    #[must_use]
    pub fn skew(&self) -> Skew {
        match (&self.suspect, self.last) {
            (Some(suspect), Some((now, _))) => {
                let offset = |clock: &Timestamp| clock.millis().saturating_sub(now.millis());
                Skew { offsets: suspect.clocks.iter().map(offset).collect(), trusted: false }
            }
            (Some(_) | None, _) => Skew::NONE,
        }
    }

    /// What each clock would show, less what the clock shows, in milliseconds: what outlives this process.
    #[must_use]
    pub fn offsets(&self) -> Vec<i64> {
        self.skew().offsets
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

    /// Fault 91.
    #[test]
    fn a_restart_makes_no_clock_right() {
        let mut before = ClockWatch::new(Duration::ZERO);
        let at = Timestamp::from_secs;
        before.observe(at(1000), Duration::from_secs(10), None);
        before.observe(at(9000), Duration::from_secs(20), None);
        let mut after = ClockWatch::new(Duration::ZERO);
        assert!(after.is_new());
        after.remember("jumped forward", &before.offsets(), at(9100), Duration::from_secs(120));
        after.observe(at(9110), Duration::from_secs(130), Some(at(9050)));
        let moment = after.skew().at(at(9110));
        assert!(!moment.trusted);
        assert_eq!((moment.earliest.secs(), moment.latest.secs()), (1120, 9110));
        after.observe(at(12_710), Duration::from_secs(3730), None);
        assert!(after.suspect().is_none());
    }

    #[test]
    fn an_age_is_the_least_that_either_clock_allows() {
        let moment = |now: i64, others: &[i64]| {
            let offsets = others.iter().map(|other| (other - now) * 1000).collect();
            Skew { offsets, trusted: others.is_empty() }.at(Timestamp::from_secs(now))
        };
        let age = |moment: Moment, at| moment.age(Timestamp::from_secs(at)).as_secs();
        let both = moment(1000, &[9000]);
        assert_eq!(age(both, 400), 600, "dated by the slower clock, or long ago by the faster");
        assert_eq!(age(both, 8000), 1000, "the slower clock never showed this");
        assert_eq!(age(both, 9500), 0);
        assert_eq!(age(moment(1000, &[]), 400), 600);
        let three = moment(5000, &[1000, 9000]);
        assert_eq!(
            (age(three, 4900), age(three, 8900), age(three, 900)),
            (100, 100, 100),
            "a clock between the two dates files too"
        );
        let many: Vec<i64> = (2..20).map(|at| at * 1000).collect();
        assert_eq!(age(moment(1000, &many), 10), 0, "too many to tell apart");
    }
}
