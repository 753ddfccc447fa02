//! How much of a deficit is ours to give back, and how much the caps let the guard delete by itself.

use super::recording::Tally;
use super::units::{Bytes, Percent};

/// What grew on a volume since its last normal reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// In our trees.
    pub ours: Bytes,
    /// On the whole volume.
    pub all: Bytes,
}

/// Our share of a deficit: in proportion to what grew, or, without a normal reading to compare with, to what our trees hold of
/// what is used; rounded up to whole batches, and never zero above the critical mark.
#[must_use]
pub fn our_share(
    deficit: Bytes,
    growth: Option<Growth>,
    trees: Bytes,
    used: Bytes,
    batch: Bytes,
    critical: bool,
) -> Bytes {
    if deficit == Bytes::ZERO {
        return Bytes::ZERO;
    }
    let share = match growth {
        // A growth much smaller than the deficit does not tell where the deficit comes from.
        Some(Growth { ours, all }) if all >= deficit.scaled(1, 10) => part(deficit, ours, all),
        Some(_) | None => part(deficit, trees, used),
    };
    let share = if critical { share.max(Bytes(1)) } else { share };
    let batch = batch.0.max(1);
    Bytes(share.0.div_ceil(batch).saturating_mul(batch)).min(deficit)
}

/// The part of a deficit that `ours` of `all` makes; the whole, where what is not ours is no more than the metadata, logs and rounding
/// that every filesystem has.
fn part(deficit: Bytes, ours: Bytes, all: Bytes) -> Bytes {
    if ours >= all.scaled(4, 5) { deficit } else { deficit.scaled(ours.0, all.0) }
}

/// What was ours to give back of a deficit when pressure began, and what our trees held then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Bytes that were ours to give back.
    pub bytes: Bytes,
    /// Bytes that the trees held.
    pub held: Bytes,
    /// Inodes that were ours to give back.
    pub inodes: u64,
    /// Files that the trees held.
    pub files: u64,
}

/// The text of the note that a grant has ended.
pub const ENDED: &str = "ended";

impl Grant {
    /// The text of the note that keeps it.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {} {} {}", self.bytes.0, self.held.0, self.inodes, self.files)
    }

    /// What a note's text says; `None` if it says that pressure ended.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(|word| word.parse().ok());
        let mut next = || words.next().flatten();
        Some(Self { bytes: Bytes(next()?), held: Bytes(next()?), inodes: next()?, files: next()? })
    }
}

/// What the cap of a tree stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapFacts {
    /// The cap: a share of the tree's bytes in 24 h.
    pub max_share: Percent,
    /// Bytes that the tree holds.
    pub held: Bytes,
    /// Bytes that the guard deleted by itself in the last 24 h.
    pub deleted: Bytes,
    /// What a person permitted.
    pub permitted: Option<Bytes>,
    /// It tripped, and nobody has acknowledged it.
    pub tripped: Option<Line>,
    /// Bytes available now.
    pub available: Bytes,
}

/// Where a volume and a tree stood when a cap tripped, less what it allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Bytes available on the volume.
    pub available: Bytes,
    /// Bytes that the tree held.
    pub held: Bytes,
}

/// How much may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Because of retention.
    pub retention: Bytes,
    /// Under pressure.
    pub pressure: Bytes,
}

impl CapFacts {
    /// How many bytes of the tree the guard may delete by itself now. While a tripped cap waits for a person, pressure may take
    /// back what has flowed into the tree since, so that it does not fill the disk meanwhile.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        if self.max_share >= Percent::WHOLE {
            return Allowance { retention: Bytes(u64::MAX), pressure: Bytes(u64::MAX) };
        }
        if let Some(line) = self.tripped {
            let fallen = line.available.saturating_sub(self.available);
            let flowed_in = self.held.saturating_sub(line.held);
            return Allowance { retention: Bytes::ZERO, pressure: fallen.min(flowed_in) };
        }
        let all = self.held.saturating_add(self.deleted);
        let left = self.max_share.of(all).saturating_sub(self.deleted).max(self.permitted.unwrap_or_default());
        Allowance { retention: left, pressure: left }
    }
}

/// Whether a run may delete or set aside what it wants as orphans of a tree: all of it, or nothing. Too many orphans mean that the
/// catalogue is wrong rather than the tree, so a part of them would be as wrong. `tree` holds what is wanted too; `permitted` is what a
/// person permitted, in bytes.
///
/// # Errors
/// What the cap allows, if more is wanted, by files or by bytes.
pub fn orphan_cap(max_share: Percent, tree: Tally, wanted: Tally, permitted: Option<Bytes>) -> Result<(), Bytes> {
    let allowed = max_share.of(tree.bytes);
    let fits = wanted.bytes <= allowed && wanted.files <= max_share.of_count(tree.files);
    let permitted = permitted.is_some_and(|bytes| wanted.bytes <= bytes);
    if max_share >= Percent::WHOLE || fits || permitted { Ok(()) } else { Err(allowed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deficit_is_shared_by_growth_and_rounded_up_to_a_batch() {
        let check = |growth: Option<(u64, u64)>, trees, used, critical, expected| {
            let growth = growth.map(|(ours, all)| Growth { ours: Bytes(ours), all: Bytes(all) });
            let share = our_share(Bytes(100), growth, Bytes(trees), Bytes(used), Bytes(10), critical);
            assert_eq!(share, Bytes(expected), "{growth:?} {trees} {used}");
        };
        check(Some((50, 100)), 0, 0, false, 50);
        check(Some((51, 100)), 0, 0, false, 60);
        check(Some((200, 100)), 0, 0, false, 100);
        check(Some((0, 0)), 0, 0, false, 100);
        check(Some((0, 9)), 50, 100, false, 50);
        check(Some((0, 100)), 0, 0, false, 0);
        check(Some((0, 100)), 0, 0, true, 10);
        check(None, 70, 100, false, 70);
        check(None, 80, 100, false, 100);
        check(None, 0, 0, false, 100);
        assert_eq!(our_share(Bytes::ZERO, None, Bytes(1), Bytes(1), Bytes(10), true), Bytes::ZERO);
        assert_eq!(our_share(Bytes(u64::MAX), None, Bytes(1), Bytes(1), Bytes(u64::MAX), true), Bytes(u64::MAX));
    }

    #[test]
    fn orphans_go_whole_or_not_at_all() {
        let tally = |files, bytes| Tally { files, bytes: Bytes(bytes) };
        let tree = tally(100, 1000);
        let check = |share, wanted, permitted: Option<u64>, expected: Result<(), u64>| {
            let found = orphan_cap(Percent::new(share), tree, wanted, permitted.map(Bytes));
            assert_eq!(found, expected.map_err(Bytes), "{share} {wanted:?} {permitted:?}");
        };
        check(10, Tally::default(), None, Ok(()));
        check(10, tally(10, 100), None, Ok(()));
        // Few large ones, and many small ones.
        check(10, tally(1, 101), None, Err(100));
        check(10, tally(11, 0), None, Err(100));
        check(0, tally(1, 0), None, Err(0));
        // A permit is for the size that was wanted, and for no more.
        check(10, tally(40, 400), Some(400), Ok(()));
        check(10, tally(40, 401), Some(400), Err(100));
        // Empty files are wanted, and permitted, with no bytes at all.
        check(10, tally(40, 0), Some(0), Ok(()));
        check(100, tally(100, 1000), None, Ok(()));
        let empty = orphan_cap(Percent::new(10), Tally::default(), tally(1, 0), None);
        assert_eq!(empty, Err(Bytes::ZERO), "what is wanted of nothing is beyond any share");
    }

    #[test]
    fn a_grant_survives_being_written_down() {
        let grant = Grant { bytes: Bytes(1), held: Bytes(u64::MAX), inodes: 0, files: 4 };
        assert_eq!(Grant::parse(&grant.text()), Some(grant));
        assert_eq!(Grant::parse(ENDED), None);
    }

    #[test]
    fn a_cap_counts_the_day_and_a_tripped_one_holds_the_line() {
        let base = CapFacts {
            max_share: Percent::new(20),
            held: Bytes(900),
            deleted: Bytes(100),
            permitted: None,
            tripped: None,
            available: Bytes(40),
        };
        let check = |facts: CapFacts, retention, pressure| {
            assert_eq!(
                facts.allowance(),
                Allowance { retention: Bytes(retention), pressure: Bytes(pressure) },
                "{facts:?}"
            );
        };
        check(base, 100, 100);
        check(CapFacts { deleted: Bytes(800), held: Bytes(200), ..base }, 0, 0);
        check(CapFacts { permitted: Some(Bytes(500)), ..base }, 500, 500);
        let line = |available, held| Some(Line { available: Bytes(available), held: Bytes(held) });
        check(CapFacts { tripped: line(50, 800), ..base }, 0, 10);
        check(CapFacts { tripped: line(50, 895), ..base }, 0, 5);
        // What others wrote is not ours to make up for.
        check(CapFacts { tripped: line(50, 900), ..base }, 0, 0);
        check(CapFacts { tripped: line(30, 800), ..base }, 0, 0);
        check(CapFacts { max_share: Percent::new(100), ..base }, u64::MAX, u64::MAX);
    }
}
