//! Why a run ended.

use super::names::TreeId;
use super::units::Bytes;
use super::volume::Unusable;

/// Why a run ended, with its numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// It has not been carried on yet.
    #[error("nothing was done yet")]
    Unbegun,
    /// The volume is at its low mark, as measured.
    #[error("the low mark is reached")]
    ReachedLow,
    /// What was asked for is through, whatever the marks say.
    #[error("what was asked for is through")]
    Asked,
    /// Without a reading there is no deletion (promise 6).
    #[error("{0}")]
    Unusable(Unusable),
    /// The guard was stopped, or a person cancelled it.
    #[error("it was stopped with {left} recordings left")]
    Stopped {
        /// Recordings that were not begun.
        left: u64,
    },
    /// What it had open must be settled before anything is chosen again.
    #[error("the process that works tree `{tree}` was lost")]
    ProcessLost {
        /// The tree.
        tree: TreeId,
    },
    /// Nearly all of the last batch is shared.
    #[error(
        "{shared} of {deleted} that the last batch deleted are shared with a snapshot or with reflink copies, and do not come back before those are removed"
    )]
    AllShared {
        /// Bytes that are shared.
        shared: Bytes,
        /// Bytes that the batch deleted.
        deleted: Bytes,
    },
    /// The ledger stalled, and sharing explains a part.
    #[error(
        "{missing} did not come back of what the last batches deleted; {shared} of this run are shared with a snapshot or with reflink copies"
    )]
    PartlyShared {
        /// Bytes that did not come back.
        missing: Bytes,
        /// Bytes of the run that are shared.
        shared: Bytes,
    },
    /// The ledger stalled.
    #[error("{missing} did not come back of what the last batches deleted, and nothing explains it")]
    Unexplained {
        /// Bytes that did not come back.
        missing: Bytes,
    },
    /// What is missing is promised.
    #[error(
        "processes still have {open} of deleted recordings open; they come back when they are closed, and nothing more is deleted to make up for it"
    )]
    HeldOpen {
        /// Bytes that are still open.
        open: Bytes,
    },
    /// All that was chosen is through.
    #[error(
        "{missing} and {inodes} inodes are missing to the low mark; of what was chosen, {failed} recordings could not be deleted"
    )]
    Short {
        /// Bytes to the low mark.
        missing: Bytes,
        /// Inodes to it.
        inodes: u64,
        /// Recordings that could not be deleted.
        failed: u64,
    },
}
