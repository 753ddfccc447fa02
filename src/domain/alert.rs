//! The alerts that the guard raises itself.

use super::deletion::words;
use super::settings::Severity;

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
            | Self::OrphansGrowing => Severity::Warning,
        }
    }
}
