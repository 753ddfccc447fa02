//! Which recordings are stopped so that the disk does not fill, and begun again once there is room.
//!
//! A volume is *engaged* from its critical mark until it is back below its low mark. While it is critical, streams are stopped, those of
//! the lowest priority first, a few at each new reading; while it is engaged, none below the given priority is begun; after that all are
//! begun again, those of the highest priority first. Of what nobody knows where it is recorded, nothing is stopped (promise 14).

use super::deletion::words;
use super::names::{TreeId, VolumeId};
use super::pressure::assess;
use super::retention::Mode;
use super::status::VolumeView;
use super::units::{Bytes, Timestamp};

/// So many are stopped or begun at once: what that does is measured before more follow.
pub const AT_ONCE: usize = 4;

words! {
    /// What was done to a stream's recording.
    SwitchStep {
        /// It was stopped.
        Stopped = "stopped",
        /// It was not begun, since the volume is about to fill.
        Withheld = "withheld",
        /// It was begun again.
        Started = "started",
        /// It is not stopped because of us any more: its stream has ended, or somebody else began it.
        Released = "released",
        /// It could not be stopped or begun.
        Failed = "failed",
    }
}

/// How full a volume is, as far as the switch is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fullness {
    /// Beyond its critical mark, at this reading.
    Critical(Timestamp),
    /// Between the marks.
    Between,
    /// Below its low mark.
    Relieved,
    /// Nobody can tell: nothing is changed.
    Unknown,
}

impl Fullness {
    /// How full a volume is.
    #[must_use]
    pub fn of(volume: &VolumeView) -> Self {
        let Ok(reading) = &volume.reading else { return Self::Unknown };
        let (above, deficit) = assess(reading, &volume.marks, Bytes::ZERO);
        match (deficit.critical, deficit.is_zero() && !above) {
            (true, _) => Self::Critical(reading.at),
            (false, true) => Self::Relieved,
            (false, false) => Self::Between,
        }
    }
}

/// Where a stream is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The tree.
    pub tree: TreeId,
    /// Its volume.
    pub volume: VolumeId,
    /// Whether anything may be changed there.
    pub mode: Mode,
    /// The stream's priority there.
    pub priority: i32,
}

/// A stream that is being recorded, or is not because of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switchable<S> {
    /// The stream.
    pub stream: S,
    /// Where it is recorded.
    pub home: Home,
    /// How full that is.
    pub fullness: Fullness,
}

/// Which streams, of those that are being recorded, are stopped now. `asked` says at which reading streams of a volume were stopped last:
/// only a newer one lets the next be stopped.
#[must_use]
pub fn to_stop<S: Ord + Clone>(
    recorded: &[Switchable<S>],
    below: i32,
    asked: &dyn Fn(&VolumeId) -> Option<Timestamp>,
) -> Vec<Switchable<S>> {
    let due = |one: &&Switchable<S>| match one.fullness {
        Fullness::Critical(at) => asked(&one.home.volume).is_none_or(|before| before < at),
        Fullness::Between | Fullness::Relieved | Fullness::Unknown => false,
    };
    let stoppable = |one: &&Switchable<S>| one.home.mode == Mode::Enforce && one.home.priority < below;
    let mut out: Vec<_> = recorded.iter().filter(stoppable).filter(due).cloned().collect();
    out.sort_by(|a, b| (a.home.priority, &a.stream).cmp(&(b.home.priority, &b.stream)));
    out.truncate(AT_ONCE);
    out
}

/// Which streams that are not recorded because of us are begun again now.
#[must_use]
pub fn to_start<S: Ord + Clone>(stopped: &[Switchable<S>]) -> Vec<Switchable<S>> {
    let mut out: Vec<_> = stopped.iter().filter(|one| one.fullness == Fullness::Relieved).cloned().collect();
    out.sort_by(|a, b| (b.home.priority, &a.stream).cmp(&(a.home.priority, &b.stream)));
    out.truncate(AT_ONCE);
    out
}

/// Whether a volume is engaged, given whether it was: once critical, until it is below its low mark.
#[must_use]
pub fn engaged(before: bool, fullness: Fullness) -> bool {
    match fullness {
        Fullness::Critical(_) => true,
        Fullness::Between | Fullness::Unknown => before,
        Fullness::Relieved => false,
    }
}

/// Whether a stream that is about to begin may be recorded.
#[must_use]
pub fn may_begin(home: &Home, below: i32, engaged: bool) -> bool {
    !engaged || home.mode != Mode::Enforce || home.priority >= below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conditions::tests::volume;
    use crate::domain::volume::{Marks, Unusable};

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn one(stream: u32, priority: i32, fullness: Fullness) -> Switchable<u32> {
        let home = Home { tree: TreeId::new("live"), volume: VolumeId::new("data"), mode: Mode::Enforce, priority };
        Switchable { stream, home, fullness }
    }

    fn names(all: &[Switchable<u32>]) -> Vec<u32> {
        all.iter().map(|one| one.stream).collect()
    }

    #[test]
    fn the_lowest_priorities_are_stopped_first_a_few_at_each_reading() {
        let critical = Fullness::Critical(at(100));
        let check = |all: &[Switchable<u32>], below, asked: Option<i64>, expected: &[u32]| {
            assert_eq!(names(&to_stop(all, below, &|_| asked.map(at))), expected, "{all:?}");
        };
        let all: Vec<_> = [(1, 3), (2, 0), (3, -5), (4, 4), (5, 0), (6, 5), (7, 9), (8, 3)]
            .map(|(stream, priority)| one(stream, priority, critical))
            .to_vec();
        check(&all, 5, None, &[3, 2, 5, 1]);
        check(&all, 5, Some(99), &[3, 2, 5, 1]);
        check(&all, 5, Some(100), &[]);
        check(&all[3..], 5, None, &[5, 8, 4]);
        check(&all, -5, None, &[]);
        for fullness in [Fullness::Between, Fullness::Relieved, Fullness::Unknown] {
            check(&[one(1, 0, fullness)], 5, None, &[]);
        }
        let mut observed = one(1, 0, critical);
        observed.home.mode = Mode::Observe;
        check(&[observed], 5, None, &[]);
    }

    #[test]
    fn all_are_begun_again_below_the_low_mark_the_highest_priority_first() {
        let all: Vec<_> = [(1, 3), (2, 0), (3, -5), (4, 4), (5, 0)]
            .map(|(stream, priority)| one(stream, priority, Fullness::Relieved))
            .to_vec();
        assert_eq!(names(&to_start(&all)), [4, 1, 2, 5]);
        for fullness in [Fullness::Critical(at(1)), Fullness::Between, Fullness::Unknown] {
            assert_eq!(names(&to_start(&[one(1, 0, fullness)])), [0; 0]);
        }
    }

    #[test]
    fn a_volume_is_engaged_from_its_critical_mark_to_its_low_mark() {
        for (before, fullness, expected) in [
            (false, Fullness::Critical(at(1)), true),
            (false, Fullness::Between, false),
            (true, Fullness::Between, true),
            (true, Fullness::Unknown, true),
            (false, Fullness::Unknown, false),
            (true, Fullness::Relieved, false),
        ] {
            assert_eq!(engaged(before, fullness), expected, "{before} {fullness:?}");
        }
        let home = one(1, 3, Fullness::Between).home;
        assert!(may_begin(&home, 5, false) && !may_begin(&home, 4, true) && may_begin(&home, 3, true));
        assert!(may_begin(&Home { mode: Mode::Observe, ..home }, 5, true));
    }

    /// Promise 6: without a reading nothing is judged, so nothing is stopped either.
    #[test]
    fn how_full_a_volume_is_follows_from_its_reading() {
        let mut volume = volume();
        let check = |volume: &VolumeView, expected| assert_eq!(Fullness::of(volume), expected);
        volume.marks = Marks::default();
        let size = Bytes::gib(100_000);
        let reading = |available| {
            let mut reading = *volume.reading.as_ref().unwrap();
            (reading.space.size, reading.space.free, reading.space.available) = (size, available, available);
            reading
        };
        let at = volume.marks.thresholds(&reading(size).space);
        let readings =
            [at.critical.saturating_sub(Bytes(1)), at.critical, at.low.saturating_sub(Bytes(1)), at.low].map(reading);
        let [critical, above, between, low] = readings;
        let when = critical.at;
        for (reading, expected) in [
            (Ok(critical), Fullness::Critical(when)),
            (Ok(above), Fullness::Between),
            (Ok(between), Fullness::Between),
            (Ok(low), Fullness::Relieved),
            (Err(Unusable::NotYet), Fullness::Unknown),
        ] {
            volume.reading = reading;
            check(&volume, expected);
        }
    }
}
