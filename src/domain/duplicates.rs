//! Recordings whose span others cover: HLS beside MP4 of the same stream. Which of two copies goes first is all that follows from this;
//! `keep` covers both, since that two trees name a stream alike is a sign and no proof (`docs/decisions/0015-fairness-under-pressure.md`).
//!
//! When unsure, a recording is no duplicate.

use std::collections::HashMap;
use std::time::Duration;

use super::candidates::{Candidate, Chosen};
use super::clock_watch::Moment;
use super::deletion::SparedReason;
use super::layout::LayoutKind;
use super::names::StreamId;
use super::plan::{TreeFacts, spared_because};
use super::recording::{Kind, Recording};
use super::units::{Bytes, Timestamp};

/// Between two slices, and at either end, so much may be missing: a recorder begins with the next key frame, and names bear whole seconds.
const GAP: Duration = Duration::from_secs(10);
/// A longer slice is not believed: whoever copied or touched the file set its time.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// What one MP4 recording covers.
#[derive(Debug, Clone, Copy)]
struct Slice {
    from: Timestamp,
    to: Timestamp,
    bytes: Bytes,
    below_keep: bool,
    priority: i32,
    /// It is finished, and nothing is known that takes it away before its copies.
    stays: bool,
}

impl Slice {
    /// What of it lies in a span, as if its bytes were spread evenly.
    fn within(&self, from: Timestamp, to: Timestamp) -> Bytes {
        let millis = |from: Timestamp, to: Timestamp| u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX);
        let part = millis(self.from.max(from), self.to.min(to));
        self.bytes.scaled(part, millis(self.from, self.to))
    }
}

/// Where the MP4 recordings are that may cover those of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the tree itself.
    Same,
    /// In this one.
    Other(usize),
}

/// Marks the candidates whose whole span is covered by MP4 recordings of the same stream that go later, or not at all.
pub(super) fn mark(trees: &[TreeFacts], going: &Chosen, candidates: &mut [Candidate], moment: &Moment) {
    candidates.iter_mut().for_each(|candidate| candidate.duplicate = false);
    for index in 0..trees.len() {
        let Some(place) = place(trees, index) else { continue };
        let mut copies: Vec<(&mut Candidate, Recording)> = candidates
            .iter_mut()
            .filter(|candidate| candidate.tree == index)
            .filter_map(|candidate| {
                let seen = trees[index].inventory.get(candidate.file);
                is_segments(&trees[index], &seen).then_some((candidate, seen))
            })
            .collect();
        if copies.is_empty() {
            continue;
        }
        let from = match place {
            Place::Same => index,
            Place::Other(other) => other,
        };
        let slices = slices(from, &trees[from], going, moment);
        for (candidate, seen) in &mut copies {
            let stream = trees[index].inventory.stream(seen.stream);
            let span = span(&trees[index], seen);
            candidate.duplicate =
                slices.get(stream).zip(span).is_some_and(|(slices, span)| covered(candidate, span, slices));
        }
    }
}

/// Where MP4 recordings of the streams of a tree would be; `None` where its layout tells of none. ZLMediaKit writes HLS and MP4 into two
/// trees, of which a volume must have one each, lest cameras of two servers are taken for one.
fn place(trees: &[TreeFacts], index: usize) -> Option<Place> {
    let only = |kind| {
        let mut all = (0..trees.len()).filter(|tree| trees[*tree].policy.layout.kind() == kind);
        all.next().filter(|_| all.next().is_none())
    };
    match trees[index].policy.layout.kind() {
        LayoutKind::Hls => {
            only(LayoutKind::Hls)?;
            only(LayoutKind::Zlmediakit).map(Place::Other)
        }
        LayoutKind::Dated | LayoutKind::Template => Some(Place::Same),
        // One form only, or names without a time.
        LayoutKind::Zlmediakit
        | LayoutKind::Frigate
        | LayoutKind::Mediamtx
        | LayoutKind::Plain
        | LayoutKind::Auto
        | LayoutKind::Archive => None,
    }
}

/// It is a day of HLS, or one of its segments.
fn is_segments(tree: &TreeFacts, seen: &Recording) -> bool {
    seen.unit || ends_with(tree, seen, &[b".ts", b".m4s"])
}

fn ends_with(tree: &TreeFacts, seen: &Recording, endings: &[&[u8]]) -> bool {
    let mut name = Vec::new();
    tree.inventory.write_name(seen.index, &mut name);
    name.make_ascii_lowercase();
    endings.iter().any(|ending| name.ends_with(ending))
}

/// From when to when it was recorded: the time in its name, and its last change.
fn span(tree: &TreeFacts, seen: &Recording) -> Option<(Timestamp, Timestamp)> {
    let from = match tree.inventory.unit(seen.index) {
        Some(unit) => unit.oldest,
        None => seen.named.filter(|_| !seen.ages_disagree()),
    };
    from.map(|from| (from, seen.touched()))
}

/// The MP4 recordings of each stream of a tree, by their beginnings; none overlaps the next.
fn slices(index: usize, tree: &TreeFacts, going: &Chosen, moment: &Moment) -> HashMap<StreamId, Vec<Slice>> {
    let inventory = &tree.inventory;
    let rules: Vec<_> =
        inventory.streams().iter().map(|stream| tree.policy.rule_of(stream).map(|(_, rule)| rule)).collect();
    let mut by_stream: Vec<Vec<Slice>> = vec![Vec::new(); inventory.streams().len()];
    let all_mp4 = tree.policy.layout.kind() == LayoutKind::Zlmediakit;
    let mp4 = |seen: &Recording| seen.kind == Kind::Recording && (all_mp4 || ends_with(tree, seen, &[b".mp4"]));
    for seen in inventory.files().filter(|seen| !tree.gone.contains(seen.index)).filter(mp4) {
        let Some(from) = seen.named else { continue };
        let rule = rules[seen.stream.0 as usize];
        let leaves = going.contains(&(index, seen.index)) || tree.waiting.contains(&seen.index);
        // What is young or open may still be written.
        let finished = matches!(
            spared_because(tree, &seen, moment),
            None | Some(SparedReason::Protected | SparedReason::Hold | SparedReason::Linked)
        );
        by_stream[seen.stream.0 as usize].push(Slice {
            from,
            to: seen.modified.max(from),
            bytes: seen.bytes,
            below_keep: rule.is_some_and(|rule| moment.age(from) < rule.keep),
            priority: rule.map_or(0, |rule| rule.priority),
            stays: finished && !leaves && seen.modified.since(from) <= LONGEST,
        });
    }
    for slices in &mut by_stream {
        slices.sort_unstable_by_key(|slice| (slice.from, slice.to));
        // A file that was touched later covers no more than until the next one begins, whether or not that one stays.
        for at in 1..slices.len() {
            let next = slices[at].from;
            let slice = &mut slices[at - 1];
            slice.to = slice.to.min(next);
        }
    }
    inventory.streams().iter().cloned().zip(by_stream).collect()
}

/// Slices that come later in the order, or in none, cover a copy from its beginning to its end, and hold at least half as much for it: the
/// same pictures take about the same room in either form.
fn covered(copy: &Candidate, (from, to): (Timestamp, Timestamp), slices: &[Slice]) -> bool {
    let outlives =
        |slice: &&Slice| slice.stays && (slice.below_keep, slice.priority) >= (copy.below_keep, copy.priority);
    let first = slices.partition_point(|slice| slice.to < from);
    let (mut reached, mut bytes) = (from, Bytes::ZERO);
    for slice in slices[first..].iter().filter(outlives) {
        if slice.from > reached.plus(GAP) {
            return false;
        }
        reached = reached.max(slice.to);
        bytes = bytes.saturating_add(slice.within(from, to));
        if reached.plus(GAP) >= to {
            return bytes >= copy.held.bytes.scaled(1, 2);
        }
    }
    false
}

#[cfg(test)]
#[path = "duplicates_tests.rs"]
mod tests;
