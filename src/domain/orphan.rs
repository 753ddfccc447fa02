//! Orphans: recordings on disk that should not be there, and the witnesses that a verdict needs.

use std::time::Duration;

use super::catalogue::RowId;
use super::deletion::words;
use super::names::{CatalogueId, TreeId};
use super::path::RelPath;
use super::recording::Tally;
use super::units::{Bytes, Percent, Timestamp};

words! {
    /// Why a file should not be there.
    OrphanKind {
        /// A trusted catalogue does not know it.
        Uncatalogued = "uncatalogued",
        /// Unfinished or empty, and nobody holds it any more.
        Leftover = "leftover",
    }
}

words! {
    /// Where an orphan stands.
    OrphanState {
        /// It lies where it lay.
        Reported = "reported",
        /// It is set aside, and will be deleted.
        Quarantined = "quarantined",
    }
}

words! {
    /// What is done with proven orphans by itself.
    OrphanAction {
        /// Nothing: they are told of.
        Report = "report",
        /// The row that the platform should have had is inserted.
        Adopt = "adopt",
        /// They are set aside, and deleted later.
        Quarantine = "quarantine",
        /// They are deleted.
        Delete = "delete",
    }
}

words! {
    /// What is done with proven leftovers by itself.
    LeftoverAction {
        /// Nothing: they are told of.
        Report = "report",
        /// They are deleted, if they cannot be played.
        Delete = "delete",
    }
}

/// What a tree wants done with orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrphanPolicy {
    /// What is done.
    pub action: OrphanAction,
    /// So long before the catalogue's reading a recording must have been made, and so far apart it must have been seen twice.
    pub grace: Duration,
    /// The largest share of the tree that may be deleted or set aside as orphans in one run.
    pub max_share: Percent,
    /// How long orphans are set aside before they are deleted.
    pub quarantine: Duration,
}

impl Default for OrphanPolicy {
    fn default() -> Self {
        Self {
            action: OrphanAction::Report,
            grace: Duration::from_secs(86_400),
            max_share: Percent::new(10),
            quarantine: Duration::from_secs(7 * 86_400),
        }
    }
}

/// What a tree wants done with leftovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftoverPolicy {
    /// What is done.
    pub action: LeftoverAction,
    /// Younger ones are not told of.
    pub grace: Duration,
}

impl Default for LeftoverPolicy {
    fn default() -> Self {
        Self { action: LeftoverAction::Report, grace: Duration::from_secs(86_400) }
    }
}

words! {
    /// What must speak for it before a file is called an orphan. `docs/decisions/0008-orphans.md` tells why each.
    Witness {
        /// A catalogue that can prove absence answered whole and is trusted, and so are all others of the tree.
        Catalogue = "catalogue",
        /// It is older than the catalogue's reading less the grace; a leftover: older than the longest slice, ten minutes, and the grace.
        Age = "age",
        /// Absent in two scans at least the grace apart; a leftover: seen unchanged in two scans.
        TwoScans = "two_scans",
        /// Nobody has it open.
        Unopened = "unopened",
        /// No hook record of its stream waits to be read.
        HooksDrained = "hooks_drained",
        /// Its stream is not live, or went on for a day since.
        StreamIdle = "stream_idle",
        /// Its name is of the layout's grammar.
        Grammar = "grammar",
        /// The clock is trusted.
        Clock = "clock",
    }
}

/// Whether a file is proven to be an orphan, and by what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What speaks for it.
    pub witnesses: Vec<Witness>,
    /// What is still wanted.
    pub wanted: Vec<Witness>,
}

impl Verdict {
    /// Nothing is wanted any more.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.wanted.is_empty() && !self.witnesses.is_empty()
    }
}

/// Whether a file can be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Playable {
    /// It has an index (`moov`), or is fragmented.
    Yes,
    /// It has neither.
    No,
    /// It is no MP4, or could not be read.
    Unknown,
}

/// A file that is or may be an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its tree.
    pub tree: TreeId,
    /// Its path below it.
    pub path: RelPath,
    /// Its stream.
    pub stream: String,
    /// Why it should not be there.
    pub kind: OrphanKind,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Inode number as scanned.
    pub inode: u64,
    /// Fingerprint as scanned.
    pub fingerprint: u64,
    /// The later of the time in its name and the file's.
    pub touched: Timestamp,
    /// The scan that first missed it in the catalogue, or first saw it as it is.
    pub first_seen: Timestamp,
    /// What speaks for it.
    pub verdict: Verdict,
    /// Whether it can be played.
    pub playable: Playable,
}

/// A catalogue entry whose file is not on disk, and not because we deleted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The tree.
    pub tree: TreeId,
    /// The path below it.
    pub path: RelPath,
    /// The catalogue.
    pub catalogue: CatalogueId,
    /// The row.
    pub row: RowId,
}

/// What is known of a tree's orphans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrphanTally {
    /// Recordings that are proven to be uncatalogued; `None` until a trusted catalogue that can prove it was compared.
    pub uncatalogued: Option<Tally>,
    /// Recordings that no catalogue knows, without proof.
    pub unproven: Tally,
    /// Proven leftovers.
    pub leftovers: Tally,
    /// Files that are set aside as orphans.
    pub quarantined: Tally,
    /// Catalogue entries without a file that we did not delete.
    pub missing: u64,
    /// By how many bytes proven orphans have grown since a day ago, and what was recorded meanwhile; `None` where nothing is known of a day ago.
    pub growth: Option<(Bytes, Bytes)>,
}
