//! How long copies in a bucket are kept: which go, and which stay whatever their age. Copies in a directory go as the recordings of any tree do.
//!
//! A bucket may hold millions of copies. They are judged one after the other, as it lists them, and only the oldest of those that may go
//! are remembered: what is beyond them is found when the bucket is listed again.

use std::collections::{BinaryHeap, HashSet};
use std::time::Duration;

use super::clock_watch::Moment;
use super::deletion::words;
use super::hold::{Holds, Reach};
use super::names::{StreamId, TreeId};
use super::path::RelPath;
use super::path_set::PathSet;
use super::retention::{Mode, TreePolicy};
use super::units::{Bytes, Timestamp};

/// The time in a name and the last change may differ by so much: else one of them is wrong, and nobody knows how old the copy is.
const DISAGREE: Duration = Duration::from_secs(86_400);

words! {
    /// Why a copy goes.
    ColdRule {
        /// It is older than the archive keeps copies.
        MaxAge = "max_age",
        /// It is the oldest, and there is more than the archive may hold.
        MaxBytes = "max_bytes",
    }
}

words! {
    /// Why a copy stays, whatever its age.
    Stays {
        /// The layout of its tree does not know its name, so that nobody knows how old it is.
        Unrecognised = "unrecognised",
        /// Its tree is only observed.
        Observed = "observed",
        /// Its source is still in the tree, and goes because there is this copy.
        SourceThere = "source_there",
        /// A pattern of the configuration covers it, or a person wants it kept, as the platform says.
        Protected = "protected",
        /// A person holds it, or may.
        Held = "held",
        /// The time in its name is not that of its content.
        Doubtful = "doubtful",
    }
}

/// A copy that may go once it is old enough. The oldest is the least.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ColdCopy {
    /// When it was recorded, or, where its name does not say that, when it was copied.
    pub recorded: Timestamp,
    /// The tree that it was copied from.
    pub tree: TreeId,
    /// Its path there.
    pub path: RelPath,
    /// Its length.
    pub size: Bytes,
    /// How the bucket tells this content from any other.
    pub tag: Option<String>,
}

/// What decides about the copies of one tree.
#[derive(Debug, Clone, Copy)]
pub struct ColdTree<'a> {
    /// Its policy.
    pub policy: &'a TreePolicy,
    /// What persons want kept, as the platform says.
    pub favourites: &'a PathSet,
    /// What persons hold.
    pub holds: &'a Holds,
    /// The paths of recordings that have a verified copy and are still in the tree.
    pub sources: &'a HashSet<RelPath>,
}

impl ColdTree<'_> {
    /// When a copy was recorded, if it may go once that is long enough ago. `copied` is when it was made; `changed`, when its source last
    /// changed, which a list does not tell.
    ///
    /// # Errors
    /// Why it stays.
    pub fn judge(
        &self,
        path: &RelPath,
        size: Bytes,
        copied: Timestamp,
        changed: Option<Timestamp>,
    ) -> Result<Timestamp, Stays> {
        let layout = &self.policy.layout;
        let found = layout.recognise(path, size.0.max(1));
        // What speaks of the segments of a directory that goes as one belongs to it.
        let unit = layout.unit_of(path);
        let stream = match (&found, &unit) {
            (Some(found), _) => Some(found.stream.clone()),
            (None, Some(unit)) => layout.stream_of_unit(unit),
            (None, None) => None,
        };
        let Some(stream) = stream else { return Err(Stays::Unrecognised) };
        if self.policy.mode != Mode::Enforce {
            return Err(Stays::Observed);
        }
        if self.sources.contains(path) {
            return Err(Stays::SourceThere);
        }
        let whole = || [Some(path), unit.as_ref()].into_iter().flatten();
        if whole().any(|path| self.policy.protects(path, self.favourites)) {
            return Err(Stays::Protected);
        }
        let named = found.and_then(|found| found.named);
        // How long it is nobody knows without its content, so that it may reach as far as any.
        let reach = Reach::of(named, None);
        let naming = whole().any(|path| self.holds.naming(path).next().is_some());
        if naming || self.holds.spanning(&StreamId::new(&stream), reach).next().is_some() {
            return Err(Stays::Held);
        }
        let apart = |named: Timestamp, other: Timestamp| named.since(other).max(other.since(named)) > DISAGREE;
        match (named, changed) {
            (Some(named), Some(changed)) if apart(named, changed) => Err(Stays::Doubtful),
            (Some(named), _) => Ok(named),
            (None, Some(changed)) => Ok(changed.max(copied)),
            (None, None) => Ok(copied),
        }
    }
}

/// What a bucket holds, and the oldest copies that may go.
#[derive(Debug)]
pub struct Oldest {
    most: usize,
    kept: BinaryHeap<ColdCopy>,
    all: Bytes,
}

impl Oldest {
    /// Nothing was listed yet; at most so many copies are remembered.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::new(), all: Bytes::ZERO }
    }

    /// A copy may go.
    pub fn goes(&mut self, copy: ColdCopy) {
        self.all = self.all.saturating_add(copy.size);
        self.kept.push(copy);
        if self.kept.len() > self.most {
            // The youngest.
            self.kept.pop();
        }
    }

    /// A copy stays, and takes its room.
    pub fn stays(&mut self, size: Bytes) {
        self.all = self.all.saturating_add(size);
    }

    /// The bytes of all that was listed.
    #[must_use]
    pub fn all(&self) -> Bytes {
        self.all
    }

    /// Those that go now, the oldest first: what is older than `max_age`, and the oldest while there is more than `max_bytes`. By a clock
    /// that is not trusted none does.
    #[must_use]
    pub fn past(
        self,
        max_age: Option<Duration>,
        max_bytes: Option<Bytes>,
        moment: &Moment,
    ) -> Vec<(ColdCopy, ColdRule)> {
        if !moment.trusted {
            return Vec::new();
        }
        let mut left = self.all;
        let mut out = Vec::new();
        for copy in self.kept.into_sorted_vec() {
            let rule = if max_age.is_some_and(|most| moment.now.since(copy.recorded) > most) {
                ColdRule::MaxAge
            } else if max_bytes.is_some_and(|most| left > most) {
                ColdRule::MaxBytes
            } else {
                break;
            };
            left = left.saturating_sub(copy.size);
            out.push((copy, rule));
        }
        out
    }
}

#[cfg(test)]
#[path = "cold_retention_tests.rs"]
mod tests;
