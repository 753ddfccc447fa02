//! The rules of a tree: what its streams are promised, and what the guard may do.

use std::time::Duration;

use super::archive::ArchiveTerms;
use super::layout::Layout;
use super::names::{CatalogueId, StreamId, TreeId};
use super::orphan::{LeftoverPolicy, OrphanPolicy};
use super::path::RelPath;
use super::path_set::PathSet;
use super::protection::Pattern;
use super::units::{Bytes, Percent};

/// Whether the guard may change a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// It plans and tells, and writes nothing into a tree.
    Observe,
    /// It carries its plans out.
    Enforce,
}

impl Mode {
    /// As it is written in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// What happens to a file that others have open for reading. Files open for writing always wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenOpen {
    /// It waits.
    Wait,
    /// It is deleted; its space comes back when the last reader closes it.
    Delete,
}

/// One rule of `retention`; the first whose pattern matches a stream is that stream's.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Over stream names.
    pub stream: Pattern,
    /// Older ones go.
    pub max_age: Option<Duration>,
    /// The oldest go while the stream has more.
    pub max_bytes: Option<Bytes>,
    /// The oldest go while the stream has more.
    pub max_files: Option<u64>,
    /// Counted back from now: pressure does not touch it before the volume is critical.
    pub keep: Duration,
    /// Higher lives longer.
    pub priority: i32,
    /// Of its tree's bytes: what a stream holds beyond it goes under pressure before the rest of the same priority in the tree.
    pub stream_share: Option<Percent>,
}

/// All that decides about the recordings of one tree.
#[derive(Debug, Clone, PartialEq)]
pub struct TreePolicy {
    /// The tree.
    pub tree: TreeId,
    /// Whether it may be changed.
    pub mode: Mode,
    /// How its names are read.
    pub layout: Layout,
    /// Nothing younger is deleted by the guard's own decision.
    pub min_age: Duration,
    /// What happens to files open for reading.
    pub when_open: WhenOpen,
    /// Never deleted.
    pub protect: Vec<Pattern>,
    /// First match wins.
    pub retention: Vec<Rule>,
    /// This tree's share of its volume.
    pub budget: Option<Bytes>,
    /// Largest share of the tree's bytes that the guard deletes by itself in a day.
    pub max_share: Percent,
    /// Who knows its recordings: a file is known if any of them knows it.
    pub catalogues: Vec<CatalogueId>,
    /// What becomes of recordings that none of them knows.
    pub orphans: OrphanPolicy,
    /// What becomes of unfinished files that nobody holds any more.
    pub leftovers: LeftoverPolicy,
    /// Where its recordings are copied before they go.
    pub archive: Option<ArchiveTerms>,
}

impl TreePolicy {
    /// The rule of a stream, and its place in the list.
    #[must_use]
    pub fn rule_of(&self, stream: &StreamId) -> Option<(usize, &Rule)> {
        self.retention.iter().enumerate().find(|(_, rule)| rule.stream.matches_stream(stream))
    }

    /// It stays whatever is wanted: a pattern of the configuration covers it, or a person wants it kept, as the platform says.
    #[must_use]
    pub fn protects(&self, path: &RelPath, favourites: &PathSet) -> bool {
        self.protect.iter().any(|pattern| pattern.matches_path(path)) || favourites.contains(path)
    }
}
