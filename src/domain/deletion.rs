//! A deletion from the plan to the proof, and the words that journal, metrics and pages use for it.

use super::names::TreeId;
use super::path::RelPath;
use super::recording::Recording;
use super::units::{Bytes, Timestamp};

/// Makes a closed list of words: the enum, all its values, and how each is written.
macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$vdoc])* $variant,)+ }

        impl $type {
            /// All of them, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// All of them, by their words.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];

            /// The word for it in labels, JSON and the journal.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value that a word stands for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Who or what wanted a deletion.
    Trigger {
        /// A volume above its mark, or a tree above its budget.
        Pressure = "pressure",
        /// A stream's retention.
        Retention = "retention",
        /// A proven orphan.
        Orphan = "orphan",
        /// A leftover.
        Leftover = "leftover",
        /// A person.
        Operator = "operator",
        /// The media server's gateway.
        Gateway = "gateway",
        /// The source of a verified copy.
        Archive = "archive",
    }
}

words! {
    /// How an attempt ended.
    Outcome {
        /// Looked for and not found.
        Verified = "verified",
        /// It was gone before we came.
        AlreadyGone = "already_gone",
        /// It is still there; it will be tried again.
        Failed = "failed",
        /// It may not go, or is no longer the file that was planned.
        Kept = "kept",
    }
}

words! {
    /// Why a deletion failed.
    Cause {
        /// Somebody has it open.
        InUse = "in_use",
        /// Immutable or append-only.
        Locked = "locked",
        /// We lack the permission.
        Permission = "permission",
        /// The filesystem is read-only.
        ReadOnly = "read_only",
        /// The device failed.
        Io = "io",
        /// The kernel says busy.
        Busy = "busy",
        /// It is no longer the file that was planned.
        Changed = "changed",
        /// No descriptors left.
        TooManyFiles = "too_many_files",
        /// None of these.
        Unknown = "unknown",
    }
}

words! {
    /// Why deleted bytes did not come back.
    Unreclaimed {
        /// A process holds the deleted file open.
        HeldOpen = "held_open",
        /// The deletion waits because the file is locked or in use.
        Locked = "locked",
        /// The deletion failed otherwise.
        Failed = "failed",
        /// Another name, a snapshot or a reflink shares the blocks.
        Shared = "shared",
    }
}

/// How the error of a file begins that itself may not be opened: its neighbours may be.
pub const UNREADABLE: &str = "it cannot be opened: ";

impl Cause {
    /// Other files of the same place very likely fail for it too, so that trying them makes no sense.
    #[must_use]
    pub fn is_shared(self, error: &str) -> bool {
        match self {
            Self::Permission if error.starts_with(UNREADABLE) => false,
            Self::Permission | Self::ReadOnly | Self::TooManyFiles => true,
            Self::InUse | Self::Locked | Self::Io | Self::Busy | Self::Changed | Self::Unknown => false,
        }
    }

    /// Under which word its bytes are counted as unreclaimed.
    #[must_use]
    pub fn unreclaimed(self) -> Unreclaimed {
        match self {
            Self::InUse | Self::Locked => Unreclaimed::Locked,
            Self::Permission
            | Self::ReadOnly
            | Self::Io
            | Self::Busy
            | Self::Changed
            | Self::TooManyFiles
            | Self::Unknown => Unreclaimed::Failed,
        }
    }
}

words! {
    /// Which rule chose a recording.
    RuleKind {
        /// Older than its stream's `max_age`.
        MaxAge = "max_age",
        /// Its stream holds more than `max_bytes`.
        MaxBytes = "max_bytes",
        /// Its stream holds more than `max_files`.
        MaxFiles = "max_files",
        /// Its tree holds more than `budget`.
        Budget = "budget",
        /// The volume is above its mark, and this is beyond its stream's `keep`.
        Pressure = "pressure",
        /// Likewise, and its stream holds more than its `stream_share`.
        StreamShare = "stream_share",
        /// Likewise, and recordings that stay cover the same span.
        Duplicate = "duplicate",
        /// A verified copy of it is in its tree's archive.
        Archived = "archived",
        /// The volume is critical, and nothing is left that has a copy in its tree's archive or needs none.
        Unarchived = "unarchived",
        /// The volume is critical, and nothing beyond `keep` is left.
        BelowKeep = "below_keep",
        /// Somebody asked for it.
        Requested = "requested",
        /// It is proven that no catalogue knows it.
        Orphan = "orphan",
        /// It is a proven leftover.
        Leftover = "leftover",
        /// It is set aside as an orphan, to be deleted later.
        Quarantine = "quarantine",
    }
}

impl RuleKind {
    /// It asks for no space: its runs wait for their window, and go whole or, where a cap does not allow that, not at all.
    #[must_use]
    pub fn waits_for_window(self) -> bool {
        matches!(self.trigger(), Trigger::Retention | Trigger::Archive)
    }

    /// The trigger that the rule's deletions are counted under.
    #[must_use]
    pub fn trigger(self) -> Trigger {
        match self {
            Self::MaxAge | Self::MaxBytes | Self::MaxFiles => Trigger::Retention,
            Self::Budget
            | Self::Pressure
            | Self::StreamShare
            | Self::Duplicate
            | Self::Unarchived
            | Self::BelowKeep => Trigger::Pressure,
            Self::Archived => Trigger::Archive,
            Self::Requested => Trigger::Operator,
            Self::Orphan | Self::Quarantine => Trigger::Orphan,
            Self::Leftover => Trigger::Leftover,
        }
    }
}

words! {
    /// Why a recording is spared.
    SparedReason {
        /// A glob of the configuration, or the platform's favourite.
        Protected = "protected",
        /// A person's hold.
        Hold = "hold",
        /// Younger than `min_age`.
        Young = "young",
        /// Open when it was last looked at.
        Open = "open",
        /// Being written, or of a stream that is.
        Live = "live",
        /// The newest of a stream that is live or wrote within a day.
        Newest = "newest",
        /// Within its stream's `keep`.
        Keep = "keep",
        /// It has other names.
        Linked = "linked",
        /// The layout does not know it.
        Unrecognised = "unrecognised",
        /// It is in quarantine.
        Quarantined = "quarantined",
        /// Its blocks are shared.
        Shared = "shared",
        /// It is not archived yet.
        ArchivePending = "archive_pending",
    }
}

words! {
    /// What stops the guard's own deletions from going too far.
    Cap {
        /// Share of a tree's bytes in 24 h.
        RunShare = "run_share",
        /// Share of a tree that may be deleted or set aside as orphans in one run.
        OrphanShare = "orphan_share",
    }
}

words! {
    /// How a run ended.
    RunResult {
        /// The volume is at its low mark, or what was asked for is done.
        ReachedLow = "reached_low",
        /// Nothing eligible is left.
        Exhausted = "exhausted",
        /// What was deleted did not come back.
        Stalled = "stalled",
        /// The guard was stopped, or a person cancelled it.
        Cancelled = "cancelled",
        /// The volume or the journal failed.
        Failed = "failed",
    }
}

/// Number of an entry in the journal; they rise without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// A recording that was chosen, with all that the door needs to know it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The tree.
    pub tree: TreeId,
    /// Its path below it.
    pub path: RelPath,
    /// Its stream.
    pub stream: String,
    /// The time that retention goes by; `None` where it was asked for by name, and in journals of before it was kept.
    pub recorded: Option<Timestamp>,
    /// Allocated bytes that are expected back.
    pub bytes: Bytes,
    /// Inode number as scanned.
    pub inode: u64,
    /// Fingerprint as scanned.
    pub fingerprint: u64,
    /// The rule that chose it.
    pub rule: RuleKind,
    /// What is counted.
    pub trigger: Trigger,
    /// Why, in words: rule and numbers.
    pub reason: String,
}

impl Target {
    /// A target for a recording of an inventory.
    #[must_use]
    pub fn of(tree: &TreeId, path: RelPath, stream: &str, seen: &Recording, rule: RuleKind, reason: String) -> Self {
        Self {
            tree: tree.clone(),
            path,
            stream: stream.to_owned(),
            recorded: Some(seen.recorded()),
            bytes: seen.bytes,
            inode: seen.inode,
            fingerprint: seen.fingerprint,
            rule,
            trigger: rule.trigger(),
            reason,
        }
    }
}

/// Who holds a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its command name.
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// What became of one target, as the door and the look afterwards saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// Looked for and not found. `freed` is what its blocks were; `open` says that a reader still holds them.
    Verified {
        /// Allocated bytes at the moment of deletion.
        freed: Bytes,
        /// Of these, bytes that a snapshot or a reflink shares, so that they do not come back.
        shared: Bytes,
        /// Somebody still has the deleted file open, so the bytes come back later.
        open: bool,
    },
    /// It was not there.
    AlreadyGone,
    /// It may not go: `why` is one word of [`SparedReason`] or a sentence, for the journal.
    Kept {
        /// The reason.
        why: String,
    },
    /// It is still there.
    Failed {
        /// The class of the failure.
        cause: Cause,
        /// What the system said.
        error: String,
        /// Who has it open, if that is known.
        holder: Option<Holder>,
    },
}

/// Why a recording was kept though nothing speaks against its deletion: the attempt was not made.
pub const NOT_BEGUN: &str = "the guard was stopped before it began";
/// Its directory refused another deletion a moment before.
pub const REFUSED: &str = "its directory refuses deletions";
/// It is in quarantine by the journal, or is to be set aside while its deletion is not ended.
pub const UNSETTLED: &str = "what was begun with it before is not settled yet";
/// How the reason begins for which a recording stays that was to go for having a copy.
pub const NO_COPY: &str = "its copy cannot be found now: ";
/// Its tree is not to be changed.
pub const OBSERVED: &str = "the tree is only observed";

impl Attempt {
    /// It is set aside, and stays there: what quarantine is.
    #[must_use]
    pub fn quarantined() -> Self {
        Self::Kept { why: SparedReason::Quarantined.as_str().to_owned() }
    }

    /// Whether this is [`Attempt::quarantined`].
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        match self {
            Self::Kept { why } => why == SparedReason::Quarantined.as_str(),
            Self::Verified { .. } | Self::AlreadyGone | Self::Failed { .. } => false,
        }
    }

    /// Another attempt makes no sense: it is gone, or it may not go.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Verified { .. } | Self::AlreadyGone => true,
            Self::Kept { why } => ![NOT_BEGUN, OBSERVED, REFUSED, UNSETTLED].contains(&why.as_str()),
            Self::Failed { .. } => false,
        }
    }

    /// The word of the contract for it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Verified { .. } => Outcome::Verified,
            Self::AlreadyGone => Outcome::AlreadyGone,
            Self::Kept { .. } => Outcome::Kept,
            Self::Failed { .. } => Outcome::Failed,
        }
    }
}

/// A deletion that did not succeed and is tried again until it does, or until a person closes it (promise 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its number: the journal entry of the first intent.
    pub id: u64,
    /// What was to go.
    pub target: Target,
    /// Why it failed last.
    pub cause: Cause,
    /// What the system said last.
    pub error: String,
    /// Who had it open last.
    pub holder: Option<Holder>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub next_attempt: Timestamp,
    /// When it first failed.
    pub since: Timestamp,
}
