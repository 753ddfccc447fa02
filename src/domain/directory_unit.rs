//! A recording that is a directory: what its files add up to, in little memory however many they are.

use std::time::Duration;

use super::recording::{FileIdentity, Kind, Tally};
use super::units::{Bytes, Timestamp};

/// What the files of a directory-shaped recording add up to. A scan makes one, and so does the look before anything of it goes: where
/// the two have the same fingerprint, the files are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectoryUnit {
    /// Its finished segments.
    pub segments: Tally,
    /// The time of the oldest of them.
    pub oldest: Option<Timestamp>,
    /// Bytes of those that were touched within the last hour.
    pub last_hour: Bytes,
    /// Bytes of those that were touched within the last day.
    pub last_day: Bytes,
    /// One of them has other names too.
    pub linked: bool,
    /// A pattern of the configuration covers one of them.
    pub protected: bool,
    /// A part of it could not be read.
    pub partial: bool,
    named: Option<Timestamp>,
    modified: Option<Timestamp>,
    names: u64,
    digest: u64,
}

impl DirectoryUnit {
    /// Counts one more file, as it is at `now`. One that is not finished is no segment yet; but that it is there, and how young it is,
    /// counts.
    pub fn add(&mut self, kind: Kind, named: Option<Timestamp>, identity: &FileIdentity, now: Timestamp) {
        const HOUR: Duration = Duration::from_secs(3600);
        const DAY: Duration = Duration::from_secs(86_400);
        // A file that does not know how old it is, is as young as can be: when unsure, it is kept.
        let modified = identity.modified_at().unwrap_or(now);
        self.names = self.names.wrapping_add(1);
        self.digest = self.digest.wrapping_add(identity.fingerprint());
        self.modified = self.modified.max(Some(modified));
        self.named = self.named.max(named);
        self.linked |= identity.links > 1;
        match kind {
            Kind::Unfinished => {}
            Kind::Recording => {
                self.segments.add(identity.allocated);
                let recorded = named.unwrap_or(modified);
                self.oldest = Some(self.oldest.map_or(recorded, |oldest| oldest.min(recorded)));
                let quiet = now.since(modified.max(recorded));
                if quiet <= HOUR {
                    self.last_hour = self.last_hour.saturating_add(identity.allocated);
                }
                if quiet <= DAY {
                    self.last_day = self.last_day.saturating_add(identity.allocated);
                }
            }
        }
    }

    /// Counts all that another counted: a part of the same directory.
    pub fn merge(&mut self, other: &Self) {
        self.segments.merge(other.segments);
        self.oldest = match (self.oldest, other.oldest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.last_hour = self.last_hour.saturating_add(other.last_hour);
        self.last_day = self.last_day.saturating_add(other.last_day);
        self.linked |= other.linked;
        self.protected |= other.protected;
        self.partial |= other.partial;
        self.named = self.named.max(other.named);
        self.modified = self.modified.max(other.modified);
        self.names = self.names.wrapping_add(other.names);
        self.digest = self.digest.wrapping_add(other.digest);
    }

    /// The latest time in a name.
    #[must_use]
    pub fn named(&self) -> Option<Timestamp> {
        self.named
    }

    /// When the content of any of its files last changed.
    #[must_use]
    pub fn modified(&self) -> Option<Timestamp> {
        self.modified
    }

    /// A digest of what must not have changed since the scan: how many files there are, finished or not, and the fingerprint of each.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.digest ^ self.names.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64, modified: i64) -> FileIdentity {
        let nanos = modified * 1_000_000_000;
        FileIdentity { inode, modified: nanos, links: 1, size: 9, allocated: Bytes(4096), ..FileIdentity::default() }
    }

    fn unit(files: &[FileIdentity]) -> DirectoryUnit {
        let mut unit = DirectoryUnit::default();
        files.iter().for_each(|one| unit.add(Kind::Recording, None, one, Timestamp::from_secs(1_800_000_000)));
        unit
    }

    #[test]
    fn a_file_more_or_less_or_changed_is_another_unit_and_another_order_is_not() {
        let (a, b, c) = (file(1, 1_799_000_000), file(2, 1_799_000_010), file(3, 1_799_000_020));
        let whole = unit(&[a, b, c]);
        assert_eq!(whole.fingerprint(), unit(&[c, a, b]).fingerprint());
        for other in
            [vec![a, b], vec![a, b, c, c], vec![a, b, file(3, 1_799_000_021)], vec![a, b, file(4, 1_799_000_020)]]
        {
            assert_ne!(whole.fingerprint(), unit(&other).fingerprint());
        }
        let mut begun = whole;
        begun.add(
            Kind::Unfinished,
            None,
            &FileIdentity { allocated: Bytes::ZERO, ..file(4, 1_799_999_999) },
            Timestamp::from_secs(1_800_000_000),
        );
        assert_ne!(whole.fingerprint(), begun.fingerprint());
        assert_eq!((begun.segments, begun.modified()), (whole.segments, Some(Timestamp::from_secs(1_799_999_999))));
    }

    #[test]
    fn its_parts_add_up_to_the_whole() {
        let files =
            [file(1, 1_799_000_000), file(2, 1_799_999_990), FileIdentity { links: 2, ..file(3, 1_799_000_020) }];
        let mut sum = unit(&files[..1]);
        sum.merge(&unit(&files[1..]));
        assert_eq!(sum, unit(&files));
        let mut from_nothing = DirectoryUnit::default();
        from_nothing.merge(&unit(&files));
        assert_eq!(from_nothing, unit(&files));
    }

    #[test]
    fn the_newest_and_the_oldest_count_and_what_was_written_of_late() {
        let now = Timestamp::from_secs(1_800_000_000);
        let found = unit(&[file(1, now.secs() - 200_000), file(2, now.secs() - 50_000), file(3, now.secs() - 60)]);
        assert_eq!(found.modified(), Some(Timestamp::from_secs(now.secs() - 60)));
        assert_eq!(found.oldest, Some(Timestamp::from_secs(now.secs() - 200_000)));
        assert_eq!((found.last_hour, found.last_day), (Bytes(4096), Bytes(8192)));
        let unknown = unit(&[FileIdentity { modified: 0, ..file(1, 0) }]);
        assert_eq!(unknown.modified(), Some(now), "as young as can be");
    }
}
