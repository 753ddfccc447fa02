//! How full a volume is, against its marks.

use super::units::{Bytes, Timestamp};
use super::volume::{Marks, Reading, Unusable};

/// What is to be given back, in bytes and in inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deficit {
    /// Bytes until the low mark.
    pub bytes: Bytes,
    /// Inodes until the low mark.
    pub inodes: u64,
    /// The volume is beyond its critical mark, so the next steps of the ladder are allowed.
    pub critical: bool,
}

impl Deficit {
    /// Nothing is to be given back.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.bytes == Bytes::ZERO && self.inodes == 0
    }
}

/// The state of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pressure {
    /// Below its high mark.
    Normal,
    /// It crossed its high mark and has not reached its low mark yet.
    Reclaiming {
        /// When it crossed.
        since: Timestamp,
        /// What is still to be given back.
        deficit: Deficit,
    },
    /// Above its low mark, and nothing eligible remains.
    Exhausted {
        /// Since when nothing is left.
        since: Timestamp,
        /// What cannot be given back.
        deficit: Deficit,
    },
    /// Without a reading; nothing is planned (promise 6).
    Blind {
        /// Since when.
        since: Timestamp,
        /// Why.
        why: Unusable,
    },
}

impl Pressure {
    /// The word for it in labels and JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Reclaiming { .. } => "reclaiming",
            Self::Exhausted { .. } => "exhausted",
            Self::Blind { .. } => "blind",
        }
    }

    /// The state after a new reading. `inflow` is what is recorded in a second; `eligible` says whether the last plan found
    /// anything that may go.
    #[must_use]
    pub fn next(
        self,
        reading: &Result<Reading, Unusable>,
        marks: &Marks,
        inflow: Bytes,
        eligible: bool,
        now: Timestamp,
    ) -> Self {
        let reading = match reading {
            Ok(reading) => reading,
            Err(why) => {
                let since = match self {
                    Self::Blind { since, .. } => since,
                    Self::Normal | Self::Reclaiming { .. } | Self::Exhausted { .. } => now,
                };
                return Self::Blind { since, why: why.clone() };
            }
        };
        if reading.readonly {
            return Self::Blind { since: self.since().unwrap_or(now), why: Unusable::ReadOnly };
        }
        let (above_high, deficit) = assess(reading, marks, inflow);
        if deficit.is_zero() {
            return Self::Normal;
        }
        match self {
            Self::Normal | Self::Blind { .. } if !above_high => Self::Normal,
            Self::Normal | Self::Blind { .. } if eligible => Self::Reclaiming { since: now, deficit },
            Self::Normal | Self::Blind { .. } => Self::Exhausted { since: now, deficit },
            Self::Reclaiming { since, .. } if eligible => Self::Reclaiming { since, deficit },
            Self::Exhausted { .. } if eligible => Self::Reclaiming { since: now, deficit },
            Self::Reclaiming { .. } => Self::Exhausted { since: now, deficit },
            Self::Exhausted { since, .. } => Self::Exhausted { since, deficit },
        }
    }

    /// Since when it is as it is; `None` when normal.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        match self {
            Self::Normal => None,
            Self::Reclaiming { since, .. } | Self::Exhausted { since, .. } | Self::Blind { since, .. } => Some(*since),
        }
    }

    /// What is to be given back now.
    #[must_use]
    pub fn deficit(&self) -> Deficit {
        match self {
            Self::Normal | Self::Blind { .. } => Deficit::default(),
            Self::Reclaiming { deficit, .. } | Self::Exhausted { deficit, .. } => *deficit,
        }
    }
}

/// Whether reclaiming should start at this reading, and what would be missing to the low mark.
#[must_use]
pub fn assess(reading: &Reading, marks: &Marks, inflow: Bytes) -> (bool, Deficit) {
    let space = &reading.space;
    let at = marks.thresholds(space);
    let deficit = Deficit {
        bytes: at.low.saturating_sub(space.available),
        inodes: if space.inodes == 0 { 0 } else { at.inodes_low.saturating_sub(space.inodes_free) },
        // Of inodes, a recorder needs one for each file: few are as bad as few bytes.
        critical: space.available < at.critical || (space.inodes != 0 && space.inodes_free < at.inodes_high / 4),
    };
    let early = !marks.full_within.is_zero() && inflow.saturating_mul(marks.full_within.as_secs()) > space.available;
    let inodes = space.inodes != 0 && space.inodes_free < at.inodes_high;
    // `full_within` only starts earlier what ends at the low mark anyway: above that, a burst of recordings deletes nothing.
    let above = space.available < at.high || inodes || (early && deficit.bytes > Bytes::ZERO);
    (above, deficit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::Percent;
    use crate::domain::volume::{Mark, Space};
    use std::time::Duration;

    fn marks() -> Marks {
        Marks {
            high: vec![Mark::Used(Percent::new(90))],
            low: vec![Mark::Used(Percent::new(80))],
            critical: vec![Mark::Used(Percent::new(97))],
            full_within: Duration::from_secs(3600),
            ..Marks::default()
        }
    }

    fn reading(size: u64, available: u64, inodes_free: u64) -> Result<Reading, Unusable> {
        let space =
            Space { size: Bytes(size), free: Bytes(available), available: Bytes(available), inodes: 100, inodes_free };
        Ok(Reading { at: Timestamp::default(), space, readonly: false, written: None })
    }

    fn check(
        before: Pressure,
        available: u64,
        inodes_free: u64,
        inflow: u64,
        eligible: bool,
        after: &str,
        missing: u64,
    ) {
        let now = Timestamp::from_secs(9);
        let next = before.next(&reading(1000, available, inodes_free), &marks(), Bytes(inflow), eligible, now);
        assert_eq!((next.as_str(), next.deficit().bytes), (after, Bytes(missing)), "{available} available");
    }

    #[test]
    fn starts_at_high_ends_at_low_and_nowhere_between() {
        let reclaiming = || Pressure::Reclaiming { since: Timestamp::default(), deficit: Deficit::default() };
        check(Pressure::Normal, 500, 50, 0, true, "normal", 0);
        check(Pressure::Normal, 100, 50, 0, true, "normal", 0);
        check(Pressure::Normal, 99, 50, 0, true, "reclaiming", 101);
        check(reclaiming(), 199, 50, 0, true, "reclaiming", 1);
        check(reclaiming(), 200, 50, 0, true, "normal", 0);
        check(reclaiming(), 150, 50, 0, false, "exhausted", 50);
        check(Pressure::Normal, 0, 50, 0, false, "exhausted", 200);
    }

    #[test]
    fn few_free_inodes_are_pressure_too() {
        check(Pressure::Normal, 500, 9, 0, true, "reclaiming", 0);
        check(Pressure::Normal, 500, 10, 0, true, "normal", 0);
    }

    #[test]
    fn fast_inflow_starts_a_run_early_but_never_above_low() {
        check(Pressure::Normal, 150, 50, 1, true, "reclaiming", 50);
        check(Pressure::Normal, 500, 50, 1000, true, "normal", 0);
    }

    #[test]
    fn without_a_reading_it_is_blind_and_wants_nothing() {
        let now = Timestamp::from_secs(9);
        for bad in [Err(Unusable::NoSize), reading(1000, 0, 50).map(|r| Reading { readonly: true, ..r })] {
            let next = Pressure::Normal.next(&bad, &marks(), Bytes::ZERO, true, now);
            assert_eq!((next.as_str(), next.deficit()), ("blind", Deficit::default()));
        }
    }

    #[test]
    fn lists_are_crossed_when_all_entries_are_and_low_is_met_when_any_is() {
        let space = Space {
            size: Bytes::gib(150_000),
            available: Bytes::gib(5_000),
            free: Bytes::gib(5_000),
            ..Space::default()
        };
        let at = Marks::default().thresholds(&space);
        assert_eq!((at.high, at.low, at.critical), (Bytes::gib(300), Bytes::gib(400), Bytes::gib(100)));
        let small =
            Space { size: Bytes::gib(100), free: Bytes::gib(50), available: Bytes::gib(50), ..Space::default() };
        let at = Marks::default().thresholds(&small);
        assert_eq!((at.high, at.low, at.critical), (Bytes::gib(10), Bytes::gib(12), Bytes::gib(3)));
    }
}
