//! What may go under pressure, and in which order (`docs/decisions/0015-fairness-under-pressure.md`):
//! 1. what no `keep` covers before what one does;
//! 2. what has a copy in its tree's archive, or needs none, before what has not;
//! 3. lowest priority first;
//! 4. within a priority, what recordings that stay cover too;
//! 5. then the furthest beyond its stream's `keep` first, without `keep` the oldest.
//!
//! `stream_share` then decides whose recordings of a tree stand in the places that the tree has in this order. How many places
//! these are, and where, it leaves as it is: a tree with one stream only loses no more for having it.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::time::Duration;

use super::clock_watch::Moment;
use super::deletion::RuleKind;
use super::duplicates;
use super::plan::{ToArchive, TreeFacts};
use super::recording::{FileIndex, StreamIndex, Tally};
use super::units::{Bytes, Timestamp};

/// Recordings of several trees: the index of the tree, and the file.
pub(super) type Chosen = HashSet<(usize, FileIndex)>;

/// A recording that may go, with what its place in the order depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) tree: usize,
    pub(super) file: FileIndex,
    pub(super) stream: StreamIndex,
    pub(super) recorded: Timestamp,
    pub(super) held: Tally,
    /// What the volume gets back for it.
    pub(super) back: Bytes,
    pub(super) priority: i32,
    /// Its age less its stream's `keep`.
    pub(super) beyond: Duration,
    pub(super) below_keep: bool,
    /// It needs a copy in its tree's archive, and has none yet.
    pub(super) unarchived: bool,
    /// It is to be copied now, whether or not there is pressure.
    pub(super) due: bool,
    /// Recordings that go later, if at all, cover the same span.
    pub(super) duplicate: bool,
    /// It is of what its stream has beyond its share.
    pub(super) loud: bool,
}

impl Candidate {
    /// Deleting it would give nothing back.
    pub(super) fn useless(&self) -> bool {
        self.back == Bytes::ZERO && self.held.bytes > Bytes::ZERO
    }

    /// The rule that chooses it under pressure.
    pub(super) fn rule(&self) -> RuleKind {
        if self.below_keep {
            RuleKind::BelowKeep
        } else if self.unarchived {
            RuleKind::Unarchived
        } else if self.duplicate {
            RuleKind::Duplicate
        } else if self.loud {
            RuleKind::StreamShare
        } else {
            RuleKind::Pressure
        }
    }

    /// What decides before age does. Within equal ones a stream's share counts.
    fn rank(&self) -> (bool, bool, i32, bool) {
        (self.below_keep, self.unarchived, self.priority, !self.duplicate)
    }

    /// It as one that is to be copied first.
    pub(super) fn to_archive(self, urgent: bool) -> ToArchive {
        ToArchive { tree: self.tree, file: self.file, urgent }
    }

    /// The last two only make it total, so that a plan is the same twice.
    fn order(&self, other: &Self) -> Ordering {
        (self.rank().cmp(&other.rank()))
            .then(other.beyond.cmp(&self.beyond))
            .then(self.recorded.cmp(&other.recorded))
            .then((self.tree, self.file).cmp(&(other.tree, other.file)))
    }
}

/// Puts candidates into their order, where `going` goes before any of them.
pub(super) fn arrange(trees: &[TreeFacts], going: &Chosen, candidates: &mut [Candidate], moment: &Moment) {
    duplicates::mark(trees, going, candidates, moment);
    candidates.sort_unstable_by(Candidate::order);
    for (index, tree) in trees.iter().enumerate() {
        if tree.policy.retention.iter().any(|rule| rule.stream_share.is_some()) {
            bound_streams(index, tree, going, candidates);
        }
    }
}

/// Marks what streams of a tree have beyond their shares, and lets that go first in the places of its tree and rank.
fn bound_streams(index: usize, tree: &TreeFacts, going: &Chosen, candidates: &mut [Candidate]) {
    let mut excess = excess(index, tree, going);
    for candidate in candidates.iter_mut().filter(|c| c.tree == index) {
        let left = &mut excess[candidate.stream.0 as usize];
        // What `keep` covers is promised, however loud its stream is.
        candidate.loud = *left > Bytes::ZERO && !candidate.below_keep && !candidate.useless();
        if candidate.loud {
            *left = left.saturating_sub(candidate.held.bytes);
        }
    }
    for rank in candidates.chunk_by_mut(|one, next| one.rank() == next.rank()) {
        let places: Vec<usize> = (0..rank.len()).filter(|place| rank[*place].tree == index).collect();
        let mut own: Vec<Candidate> = places.iter().map(|place| rank[*place]).collect();
        own.sort_by_key(|candidate| !candidate.loud);
        for (place, candidate) in places.into_iter().zip(own) {
            rank[place] = candidate;
        }
    }
}

/// How many bytes each stream of a tree holds beyond its share of all that the tree holds.
fn excess(index: usize, tree: &TreeFacts, going: &Chosen) -> Vec<Bytes> {
    let inventory = &tree.inventory;
    let mut held = vec![Bytes::ZERO; inventory.streams().len()];
    for seen in inventory.files().filter(|r| !tree.gone.contains(r.index) && !going.contains(&(index, r.index))) {
        let stream = &mut held[seen.stream.0 as usize];
        *stream = stream.saturating_add(seen.bytes);
    }
    let all: Bytes = held.iter().copied().sum();
    let share = |stream| tree.policy.rule_of(stream).and_then(|(_, rule)| rule.stream_share);
    let beyond =
        |(held, stream): (&Bytes, _)| share(stream).map_or(Bytes::ZERO, |share| held.saturating_sub(share.of(all)));
    held.iter().zip(inventory.streams()).map(beyond).collect()
}
