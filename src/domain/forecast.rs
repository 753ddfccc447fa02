//! Whether a volume has room for what its streams are promised, and how many days it has room for if not.
//!
//! The room is what lies below the low mark, less what is used by others: a run ends only there, so that a volume which promises take
//! beyond it is exhausted, and sooner or later critical. What a stream needs is its `keep` times what flows into it in a second, over the
//! last day. Streams that nothing flows into need nothing: what they have goes by and by.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retention::TreePolicy;
use super::status::{TreeView, VolumeView};
use super::survey::Survey;
use super::units::{Bytes, show_duration};
use super::volume::{Marks, Space};

/// What one stream, or several of the same `keep`, are promised and need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// How long they are to be kept.
    pub keep: Duration,
    /// Bytes recorded in a second.
    pub inflow: Bytes,
}

/// What is promised on a volume, and what of it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promises {
    /// The longest `keep` of a stream that flows.
    pub promised: Duration,
    /// The longest span that fits: every stream can be kept for it, or for its own `keep` where that is shorter.
    pub fits: Duration,
    /// Bytes that all promises need.
    pub needed: Bytes,
    /// Bytes that there is room for.
    pub room: Bytes,
}

impl Promises {
    /// All of it fits.
    #[must_use]
    pub fn fit(&self) -> bool {
        self.fits >= self.promised
    }

    /// What is promised, and what of it fits, as a sentence about a volume.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (promised, fits) = (show_duration(self.promised), show_duration(self.fits));
        let (needed, room) = (self.needed, self.room);
        if self.fit() {
            return format!(
                "what `keep` promises fits: up to {promised} at the inflow of the last day need {needed}, and there is room for {room}"
            );
        }
        format!(
            "what `keep` promises does not fit: up to {promised} at the inflow of the last day need {needed}, and there is room for {room}; {fits} fit"
        )
    }
}

/// Whether `room` is enough for what is promised; `None` where nothing that flows is promised anything.
#[must_use]
pub fn promises(room: Bytes, needs: &[Need]) -> Option<Promises> {
    let mut by_keep: BTreeMap<u64, u128> = BTreeMap::new();
    for need in needs.iter().filter(|need| !need.keep.is_zero() && need.inflow > Bytes::ZERO) {
        *by_keep.entry(need.keep.as_secs()).or_default() += u128::from(need.inflow.0);
    }
    let promised = *by_keep.keys().next_back()?;
    let needed: u128 = by_keep.iter().map(|(keep, inflow)| u128::from(*keep) * inflow).sum();
    // All grow together, each until its own `keep`.
    let mut inflow: u128 = by_keep.values().sum();
    let (mut left, mut fits) = (u128::from(room.0), 0_u64);
    for (keep, of_these) in &by_keep {
        let span = u128::from(keep - fits);
        if left < span * inflow {
            fits += u64::try_from(left / inflow).unwrap_or(u64::MAX);
            break;
        }
        left -= span * inflow;
        fits = *keep;
        inflow -= of_these;
    }
    Some(Promises {
        promised: Duration::from_secs(promised),
        fits: Duration::from_secs(fits),
        needed: Bytes(u64::try_from(needed).unwrap_or(u64::MAX)),
        room,
    })
}

/// The same for a volume with these trees, each with what it holds; `None` also where nothing is promised.
#[must_use]
pub fn promises_on<'a>(
    space: &Space,
    marks: &Marks,
    trees: impl IntoIterator<Item = (&'a TreePolicy, &'a Survey, Bytes)>,
) -> Option<Promises> {
    let (mut held, mut needs) = (Bytes::ZERO, Vec::new());
    for (policy, survey, holds) in trees {
        held = held.saturating_add(holds);
        needs.extend(survey.streams.iter().filter_map(|stream| {
            let (_, rule) = policy.rule_of(&stream.name)?;
            Some(Need { keep: rule.keep, inflow: stream.inflow() })
        }));
    }
    let foreign = space.used().saturating_sub(held);
    let room = space.usable().saturating_sub(marks.thresholds(space).low).saturating_sub(foreign);
    promises(room, &needs)
}

impl VolumeView {
    /// What is promised on it, and what of that fits; `None` while it was not looked at whole, and where nothing is promised.
    #[must_use]
    pub fn promises(&self) -> Option<Promises> {
        let reading = self.reading.as_ref().ok()?;
        let whole = |tree: &TreeView| tree.inventory.directories > 0 && tree.fault.is_none();
        let trees = self.trees.iter().map(|tree| (tree.policy.as_ref(), &tree.survey, tree.recordings().bytes));
        promises_on(&reading.space, &self.marks, trees).filter(|_| self.trees.iter().all(whole))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs(of: &[(u64, u64)]) -> Vec<Need> {
        of.iter().map(|(keep, inflow)| Need { keep: Duration::from_secs(*keep), inflow: Bytes(*inflow) }).collect()
    }

    /// Streams as `keep` in seconds and bytes in a second; what is needed, and for how many seconds there is room.
    fn check(room: u64, of: &[(u64, u64)], expected: Option<(u64, u64)>) {
        let found = promises(Bytes(room), &needs(of));
        let numbers = found.map(|found| (found.needed.0, found.fits.as_secs()));
        assert_eq!(numbers, expected, "{room} {of:?}");
        assert!(found.is_none_or(|found| found.fit() == (found.needed.0 <= room)), "{found:?}");
    }

    #[test]
    fn all_are_kept_for_as_long_as_there_is_room_and_nobody_longer_than_promised() {
        check(100, &[(10, 10)], Some((100, 10)));
        check(99, &[(10, 10)], Some((100, 9)));
        check(1000, &[(10, 10)], Some((100, 10)));
        check(0, &[(10, 10)], Some((100, 0)));
        // 4 s of both are 80, and what is left keeps the second for 2 s more.
        check(100, &[(4, 10), (9, 10)], Some((130, 6)));
        check(130, &[(4, 10), (9, 10)], Some((130, 9)));
        check(70, &[(4, 10), (9, 10)], Some((130, 3)));
        check(u64::MAX - 1, &[(u64::MAX, u64::MAX)], Some((u64::MAX, 0)));
    }

    #[test]
    fn what_is_promised_nothing_or_does_not_flow_needs_nothing() {
        check(0, &[], None);
        check(0, &[(0, 10), (10, 0)], None);
        check(50, &[(5, 10), (0, 1000), (1000, 0)], Some((50, 5)));
    }

    proptest! {
        /// What is said to fit does, and a second more does not.
        #[test]
        fn the_span_is_the_longest_that_fits(
            room in 0_u64..100_000,
            of in prop::collection::vec((0_u64..200, 0_u64..100), 1..20),
        ) {
            let Some(found) = promises(Bytes(room), &needs(&of)) else { return Ok(()) };
            let takes = |span: u64| of.iter().map(|(keep, inflow)| span.min(*keep) * inflow).sum::<u64>();
            let fits = found.fits.as_secs();
            prop_assert!(takes(fits) <= room);
            prop_assert!(found.fit() || takes(fits + 1) > room);
            prop_assert_eq!(found.fit(), takes(u64::MAX) <= room);
        }
    }
}
