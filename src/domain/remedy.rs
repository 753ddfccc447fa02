//! What a person, or a tree's policy, wants done with orphans and with rows without a file.

use super::deletion::words;
use super::names::TreeId;
use super::orphan::OrphanKind;
use super::path::RelPath;

words! {
    /// What is done.
    RemedyKind {
        /// The row that the platform should have had is inserted.
        Adopt = "adopt",
        /// Set aside, to be deleted later.
        Quarantine = "quarantine",
        /// Deleted, through the door.
        Delete = "delete",
        /// Put back from quarantine.
        Restore = "restore",
        /// Rows without a file are removed.
        RemoveRows = "remove_rows",
    }
}

/// Which files or rows of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// These.
    Paths(Vec<RelPath>),
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// What is done.
    pub kind: RemedyKind,
    /// With which kind of orphans; rows without a file are of no kind, and this is `uncatalogued`.
    pub orphans: OrphanKind,
    /// Of which tree.
    pub tree: TreeId,
    /// Which of them.
    pub which: Which,
}
