//! The alerts that the guard raises itself.

use super::deletion::{Cause, Unreclaimed, words};
use super::fact::Facts;
use super::names::{CatalogueId, MediaServerId, TreeId, VolumeId};
use super::path::RelPath;
use super::recording::Tally;
use super::settings::Severity;
use super::units::Bytes;

words! {
    /// Names of the alerts.
    AlertName {
        /// A run does not reach its low mark in time.
        VolumePressure = "VolumePressure",
        /// Above the low mark, and nothing eligible remains.
        VolumeExhausted = "VolumeExhausted",
        /// No reading, so no deletion.
        VolumeBlind = "VolumeBlind",
        /// The filesystem is read-only.
        VolumeReadOnly = "VolumeReadOnly",
        /// Deleted bytes did not come back.
        SpaceNotReclaimed = "SpaceNotReclaimed",
        /// Deletions fail.
        DeletionFailing = "DeletionFailing",
        /// Chosen recordings are locked or in use.
        RecordingLocked = "RecordingLocked",
        /// Orphans grow.
        OrphansGrowing = "OrphansGrowing",
        /// A catalogue is not trusted.
        CatalogueUntrusted = "CatalogueUntrusted",
        /// A cap tripped.
        CapTripped = "CapTripped",
        /// The clock went backwards or jumped.
        ClockSuspect = "ClockSuspect",
        /// A stream's promise is not kept.
        RetentionBroken = "RetentionBroken",
        /// Copies to the cold tier fail.
        ArchiveFailing = "ArchiveFailing",
        /// The media server does not answer.
        MediaServerUnreachable = "MediaServerUnreachable",
        /// Recordings are stopped so that the disk does not fill.
        RecordingStopped = "RecordingStopped",
        /// No channel delivers.
        DeliveryFailing = "DeliveryFailing",
    }
}

impl AlertName {
    /// Its severity unless the configuration says otherwise.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::VolumeExhausted | Self::VolumeBlind | Self::VolumeReadOnly | Self::DeliveryFailing => {
                Severity::Critical
            }
            Self::VolumePressure
            | Self::SpaceNotReclaimed
            | Self::DeletionFailing
            | Self::RecordingLocked
            | Self::CatalogueUntrusted
            | Self::CapTripped
            | Self::ClockSuspect
            | Self::RetentionBroken
            | Self::ArchiveFailing
            | Self::MediaServerUnreachable
            | Self::RecordingStopped
            | Self::OrphansGrowing => Severity::Warning,
        }
    }
}

words! {
    /// Which of an alert's situations it is.
    Case {
        /// The alert has one only.
        Only = "only",
        /// `VolumePressure`: above the high mark, and every tree is only observed.
        Observed = "observed",
        /// `VolumePressure`: others caused at least half of what is missing.
        Foreign = "foreign",
        /// `VolumePressure`: the low mark is not reached in time.
        Late = "late",
        /// `VolumeBlind`: the whole volume.
        Volume = "volume",
        /// `VolumeBlind`: one tree of it.
        Tree = "tree",
        /// `SpaceNotReclaimed`: a run stalled.
        Stalled = "stalled",
        /// `SpaceNotReclaimed`: a probe file showed that deleting gives nothing back.
        Probe = "probe",
        /// `SpaceNotReclaimed`: deleted recordings are still open.
        Open = "open",
        /// `ArchiveFailing`: recordings wait, and none is copied.
        Waiting = "waiting",
        /// `ArchiveFailing`: recordings went without a copy.
        Lost = "lost",
    }
}

/// What an alert is about: one tree, one volume, one catalogue, one media server, or the guard itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The guard as a whole.
    Guard,
    /// A volume.
    Volume(VolumeId),
    /// A tree.
    Tree(TreeId),
    /// A catalogue.
    Catalogue(CatalogueId),
    /// A media server.
    MediaServer(MediaServerId),
}

impl Subject {
    /// Its label and the value of that; the guard as a whole has none.
    #[must_use]
    pub fn label(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Guard => None,
            Self::Volume(name) => Some(("volume", name.as_str())),
            Self::Tree(name) => Some(("tree", name.as_str())),
            Self::Catalogue(name) => Some(("catalogue", name.as_str())),
            Self::MediaServer(name) => Some(("media_server", name.as_str())),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.label() {
            None => f.write_str("the guard"),
            Some((label, name)) => write!(f, "{} {name}", label.replace('_', " ")),
        }
    }
}

/// One file of an alert: chosen, and its space did not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreclaimedItem {
    /// Its tree.
    pub tree: TreeId,
    /// Its path below it.
    pub path: RelPath,
    /// Its allocated bytes.
    pub bytes: Bytes,
    /// Under which word its bytes are counted.
    pub cause: Unreclaimed,
    /// Why its deletion failed; nothing if it is deleted.
    pub failure: Option<Cause>,
    /// What the system said, where that says more than the cause.
    pub detail: String,
    /// Who has it open: process name and id.
    pub holder: Option<String>,
}

impl UnreclaimedItem {
    /// The word for why: that of the failure, if there is one.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.failure.map_or(self.cause.as_str(), Cause::as_str)
    }
}

/// Something that is wrong now. It becomes an alert once it has lasted long enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which alert it makes.
    pub alert: AlertName,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// Which of the alert's situations.
    pub case: Case,
    /// What is known of it, for whoever makes sentences of it.
    pub facts: Facts,
    /// All files and bytes that it is about.
    pub unreclaimed: Tally,
    /// The first twenty of them.
    pub items: Vec<UnreclaimedItem>,
}

/// What an alert says, in one language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wording {
    /// A sentence without numbers that change, so that it groups.
    pub summary: String,
    /// With numbers, causes, holders, and what to do.
    pub description: String,
}

/// How many files a message names.
pub const ITEMS: usize = 20;
