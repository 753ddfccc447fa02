//! Alarms as GB/T 28181 has them: what platforms above another one understand of our alerts. They have a beginning and no end.

use super::alert::{AlertName, Case, Condition};
use super::deletion::Cause;
use super::fact::{Fact, FactName};

/// An alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// A device's storage is full.
    StorageFull,
    /// A device's disk is faulty.
    DiskFault,
    /// Something else; tries a channel.
    Other,
}

impl Alarm {
    /// The alarm that an alert is, if it is one.
    #[must_use]
    pub fn of(alert: AlertName) -> Option<Self> {
        match alert {
            AlertName::VolumePressure | AlertName::VolumeExhausted | AlertName::SpaceNotReclaimed => {
                Some(Self::StorageFull)
            }
            AlertName::VolumeBlind | AlertName::VolumeReadOnly | AlertName::DeletionFailing => Some(Self::DiskFault),
            AlertName::RecordingLocked
            | AlertName::OrphansGrowing
            | AlertName::CatalogueUntrusted
            | AlertName::CapTripped
            | AlertName::ClockSuspect
            | AlertName::RetentionBroken
            | AlertName::ArchiveFailing
            | AlertName::MediaServerUnreachable
            | AlertName::RecordingStopped
            | AlertName::DeliveryFailing => None,
        }
    }

    /// The same for what is known of it now. A deletion that fails is the disk's fault only if the disk says so, and a recording that
    /// somebody still has open does not fill the disk.
    #[must_use]
    pub fn found(condition: &Condition) -> Option<Self> {
        let by_disk = || match condition.facts.get(&FactName::Causes) {
            Some(Fact::Counts(counts)) => counts.iter().any(|(cause, _)| cause == Cause::Io.as_str()),
            Some(_) | None => false,
        };
        Self::of(condition.alert).filter(|_| match condition.alert {
            AlertName::DeletionFailing => by_disk(),
            AlertName::SpaceNotReclaimed => condition.case != Case::Open,
            AlertName::VolumePressure
            | AlertName::VolumeExhausted
            | AlertName::VolumeBlind
            | AlertName::VolumeReadOnly
            | AlertName::RecordingLocked
            | AlertName::OrphansGrowing
            | AlertName::CatalogueUntrusted
            | AlertName::CapTripped
            | AlertName::ClockSuspect
            | AlertName::RetentionBroken
            | AlertName::ArchiveFailing
            | AlertName::MediaServerUnreachable
            | AlertName::RecordingStopped
            | AlertName::DeliveryFailing => true,
        })
    }

    /// How it is raised: 2 by a device, 6 by its failure, 7 otherwise.
    #[must_use]
    pub fn method(self) -> u32 {
        match self {
            Self::StorageFull => 2,
            Self::DiskFault => 6,
            Self::Other => 7,
        }
    }

    /// Which one of its method it is.
    #[must_use]
    pub fn kind(self) -> u32 {
        match self {
            Self::StorageFull => 3,
            Self::DiskFault => 1,
            Self::Other => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Subject;
    use crate::domain::conditions::condition;

    fn check(alert: AlertName, case: Case, causes: &[(&str, u64)], expected: Option<(u32, u32)>) {
        let causes = causes.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect();
        let found = condition(alert, Subject::Guard, case, [(FactName::Causes, Fact::Counts(causes))]);
        let alarm = Alarm::found(&found).map(|alarm| (alarm.method(), alarm.kind()));
        assert_eq!(alarm, expected, "{alert} {case}");
    }

    #[test]
    fn a_full_storage_and_a_faulty_disk_are_alarms_and_nothing_else_is() {
        let (full, fault) = (Some((2, 3)), Some((6, 1)));
        for case in [Case::Observed, Case::Foreign, Case::Late] {
            check(AlertName::VolumePressure, case, &[], full);
        }
        check(AlertName::VolumeExhausted, Case::Only, &[], full);
        check(AlertName::SpaceNotReclaimed, Case::Stalled, &[], full);
        check(AlertName::SpaceNotReclaimed, Case::Probe, &[], full);
        check(AlertName::SpaceNotReclaimed, Case::Open, &[], None);
        check(AlertName::VolumeBlind, Case::Volume, &[], fault);
        check(AlertName::VolumeBlind, Case::Tree, &[], fault);
        check(AlertName::VolumeReadOnly, Case::Only, &[], fault);
        check(AlertName::DeletionFailing, Case::Only, &[("permission", 7), ("io", 1)], fault);
        check(AlertName::DeletionFailing, Case::Only, &[("permission", 7)], None);
        for alert in [
            AlertName::RecordingLocked,
            AlertName::OrphansGrowing,
            AlertName::CatalogueUntrusted,
            AlertName::CapTripped,
            AlertName::ClockSuspect,
            AlertName::RetentionBroken,
            AlertName::ArchiveFailing,
            AlertName::MediaServerUnreachable,
            AlertName::DeliveryFailing,
        ] {
            check(alert, Case::Only, &[("io", 1)], None);
        }
    }
}
