//! Volumes: what a probe reads, and the marks it is held against.

use std::time::Duration;

use super::deletion::words;
use super::marker::MarkerFault;
use super::recording::FileIdentity;
use super::units::{Bytes, Percent, Timestamp};

/// Space of a filesystem, as `statvfs` tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// All blocks.
    pub size: Bytes,
    /// Free blocks, the reserve for privileged writers included (`f_bfree`).
    pub free: Bytes,
    /// What an unprivileged writer has (`f_bavail`); every decision goes by this.
    pub available: Bytes,
    /// Inodes in all; 0 where the filesystem has no fixed number.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
}

impl Space {
    /// Used bytes: all less the free ones.
    #[must_use]
    pub fn used(&self) -> Bytes {
        self.size.saturating_sub(self.free)
    }

    /// What percentages are of, as in `df`: used and available, the reserve left out.
    #[must_use]
    pub fn usable(&self) -> Bytes {
        self.used().saturating_add(self.available)
    }
}

/// A usable reading of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// When it was taken.
    pub at: Timestamp,
    /// The space.
    pub space: Space,
    /// The filesystem itself is read-only (super options, not the flags of one mount).
    pub readonly: bool,
    /// Bytes written to the device since it was attached; `None` where no device counter can be found.
    pub written: Option<Bytes>,
}

/// Why a volume cannot be judged. Without a reading there is no deletion (promise 6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nothing was read yet.
    #[error("it has not been read yet")]
    NotYet,
    /// `statvfs` failed, or the path cannot be opened.
    #[error("it cannot be read: {0}")]
    Failed(String),
    /// No answer within the deadline.
    #[error("it did not answer within {}; the mount hangs", super::units::show_duration(*.0))]
    TimedOut(Duration),
    /// It says that it has no blocks at all.
    #[error("it reports a size of zero")]
    NoSize,
    /// A tree's top is another directory than at start: unmounted, remounted or replaced.
    #[error("`{path}` is not the directory it was: {}", difference.clause())]
    Replaced {
        /// Path of the tree.
        path: String,
        /// What differs.
        difference: Difference,
    },
    /// The tree's identity marker is missing, or is that of another tree, state or filesystem.
    #[error("the identity marker of tree `{tree}` {fault}; if this is right, run `storage-guard init --accept {tree}`")]
    Marker {
        /// The tree.
        tree: String,
        /// What is wrong with it.
        fault: MarkerFault,
    },
    /// The filesystem is read-only.
    #[error("it is mounted read-only")]
    ReadOnly,
}

words! {
    /// What tells a directory from the one that stood at its path before.
    Difference {
        /// It is on another device.
        Device = "device",
        /// It has another inode.
        Inode = "inode",
        /// It was mounted again.
        Mount = "mount",
    }
}

impl Difference {
    /// What differs between a directory that is held open and the one that its path leads to now.
    #[must_use]
    pub fn between(held: &FileIdentity, now: &FileIdentity) -> Option<Self> {
        let differs = [
            (held.device != now.device, Self::Device),
            (held.inode != now.inode, Self::Inode),
            (held.mount != now.mount, Self::Mount),
        ];
        differs.into_iter().find(|(differs, _)| *differs).map(|(_, difference)| difference)
    }

    /// The same as a clause.
    #[must_use]
    pub fn clause(self) -> &'static str {
        match self {
            Self::Device => "it is on another device",
            Self::Inode => "it has another inode",
            Self::Mount => "it was mounted again",
        }
    }
}

/// One entry of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Crossed when at least this share of the usable space is used.
    Used(Percent),
    /// Crossed when fewer than these bytes are available.
    Free(Bytes),
}

impl Mark {
    /// The mark is crossed when fewer bytes than this are available.
    #[must_use]
    pub fn threshold(self, space: &Space) -> Bytes {
        match self {
            Self::Used(share) => space.usable().saturating_sub(share.of(space.usable())),
            Self::Free(bytes) => bytes,
        }
    }
}

/// The marks of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Starts reclaiming when every entry is crossed.
    pub high: Vec<Mark>,
    /// Ends it when any entry is met.
    pub low: Vec<Mark>,
    /// Allows the next steps of the ladder when every entry is crossed.
    pub critical: Vec<Mark>,
    /// Share of inodes in use that starts reclaiming.
    pub inodes_high: Percent,
    /// Share of inodes in use that ends it.
    pub inodes_low: Percent,
    /// Start early when the inflow fills the volume sooner than this; zero never.
    pub full_within: Duration,
}

impl Default for Marks {
    /// The defaults of the contract.
    fn default() -> Self {
        Self {
            high: vec![Mark::Used(Percent::new(90)), Mark::Free(Bytes::gib(300))],
            low: vec![Mark::Used(Percent::new(88)), Mark::Free(Bytes::gib(400))],
            critical: vec![Mark::Used(Percent::new(97)), Mark::Free(Bytes::gib(100))],
            inodes_high: Percent::new(90),
            inodes_low: Percent::new(88),
            full_within: Duration::from_secs(3600),
        }
    }
}

/// The marks as numbers for one volume: each is crossed when fewer than this are available.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Bytes below which reclaiming starts.
    pub high: Bytes,
    /// Bytes from which on reclaiming ends.
    pub low: Bytes,
    /// Bytes below which the next steps are allowed.
    pub critical: Bytes,
    /// Free inodes below which reclaiming starts.
    pub inodes_high: u64,
    /// Free inodes from which on it ends.
    pub inodes_low: u64,
}

impl Marks {
    /// The marks as numbers for a volume of this size. A list counts as crossed when all its entries are, so its number is
    /// the smallest of theirs.
    #[must_use]
    pub fn thresholds(&self, space: &Space) -> Thresholds {
        let of = |list: &[Mark]| list.iter().map(|m| m.threshold(space)).min().unwrap_or(Bytes::ZERO);
        let free = |share: Percent| space.inodes.saturating_sub(share.of_count(space.inodes));
        let high = of(&self.high);
        let inodes_high = free(self.inodes_high);
        Thresholds {
            high,
            // A run must have something to reach: `low` never lies below `high`.
            low: of(&self.low).max(high),
            critical: of(&self.critical).min(high),
            inodes_high,
            inodes_low: free(self.inodes_low).max(inodes_high),
        }
    }
}

/// The type of a volume that stands for a tree which cannot be opened.
pub const ABSENT: &str = "absent";

/// What kind of filesystem a volume is, as far as it matters for trust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesystemTraits {
    /// Its type as mountinfo says: `ext4`, `xfs`, `btrfs`, `nfs4`…
    pub kind: String,
    /// Mount point.
    pub mount_point: String,
    /// Its source: a device, or a remote path.
    pub source: String,
    /// Kind of disk: `SSD`, `HDD`, or empty where that is not known.
    pub disk: String,
    /// Other machines may change it behind our back, so that leases prove nothing.
    pub network: bool,
    /// Several layers: deleting a lower file gives nothing back.
    pub union_mount: bool,
    /// Space comes back with the next commit only, and snapshots keep it.
    pub copy_on_write: bool,
    /// Leases work here.
    pub leases: bool,
    /// Calls that the kernel lacks, and that others stand in for: `openat2`, `statx`, `renameat2`.
    pub fallbacks: Vec<&'static str>,
}

impl FilesystemTraits {
    /// Files may share their blocks with others or with a snapshot.
    #[must_use]
    pub fn may_share(&self) -> bool {
        self.copy_on_write || self.kind == "xfs" || self.kind == "ocfs2"
    }

    /// What a person should know before trusting a guard with this filesystem.
    #[must_use]
    pub fn traps(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.network {
            out.push(format!(
                "`{}` is a network filesystem ({}): files opened on other machines cannot be seen, so time and two unchanged sightings stand in",
                self.mount_point, self.kind
            ));
        }
        if self.union_mount {
            out.push(format!(
                "`{}` is a union mount ({}): deleting a file of a lower layer gives nothing back",
                self.mount_point, self.kind
            ));
        }
        if self.copy_on_write {
            out.push(format!(
                "`{}` is {}: space comes back only with a commit, and not at all while a snapshot or a reflink shares it",
                self.mount_point, self.kind
            ));
        }
        if !self.leases && !self.network {
            out.push(format!(
                "`{}` ({}) gives no leases to this process: whether a file is open cannot be asked of the kernel, so time and two unchanged sightings stand in (CAP_LEASE is needed for files of other owners)",
                self.mount_point, self.kind
            ));
        }
        if !self.fallbacks.is_empty() {
            out.push(format!(
                "the kernel has no {}: slower calls stand in (paths are opened component by component, and each is compared with the tree's mount)",
                self.fallbacks.join(", ")
            ));
        }
        out
    }
}
