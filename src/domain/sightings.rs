//! Which files were seen as they are, and how long ago: where no lease tells who has a file open, time and two unchanged sightings stand in,
//! an earlier scan's and the one right before the deletion.

use std::sync::Arc;
use std::time::Duration;

/// What two scans saw that lie apart. Each costs 8 bytes a file.
#[derive(Debug, Clone, Default)]
pub struct Sightings {
    older: Option<Arc<Seen>>,
    newer: Option<Arc<Seen>>,
}

/// What one scan saw: a digest of each file, in order.
#[derive(Debug)]
struct Seen {
    ended: Duration,
    files: Vec<u64>,
}

impl Seen {
    fn holds(&self, file: (u64, u64)) -> bool {
        self.files.binary_search(&digest(file)).is_ok()
    }
}

impl Sightings {
    /// A scan has ended, by the clock that does not jump, and saw these files, by inode and fingerprint. It counts from `apart` later on.
    pub fn scanned(&mut self, files: impl Iterator<Item = (u64, u64)>, ended: Duration, apart: Duration) {
        // The last one that counts is kept until another does.
        if self.newer.as_ref().is_some_and(|newer| ended.saturating_sub(newer.ended) < apart) {
            return;
        }
        let mut files: Vec<u64> = files.map(digest).collect();
        files.sort_unstable();
        self.older = self.newer.take();
        self.newer = Some(Arc::new(Seen { ended, files }));
    }

    /// Whether a file was seen as it is, at least `apart` before now.
    #[must_use]
    pub fn hold(&self, file: (u64, u64), now: Duration, apart: Duration) -> bool {
        let counts = |seen: &&Arc<Seen>| now.saturating_sub(seen.ended) >= apart;
        [&self.older, &self.newer].into_iter().flatten().filter(counts).any(|seen| seen.holds(file))
    }
}

/// Fingerprints are digests already, and hold the inode; that of a directory does not.
fn digest((inode, fingerprint): (u64, u64)) -> u64 {
    fingerprint ^ inode.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: Duration = Duration::from_secs(600);

    fn at(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    /// Scans of every five minutes, as is usual, and a file that is seen from the minute `since` on.
    fn check(since: u64, scans: &[u64], now: u64, expected: bool) {
        let mut sightings = Sightings::default();
        for minute in scans {
            let files = [(1, 7)].into_iter().filter(|_| *minute >= since).chain([(2, *minute)]);
            sightings.scanned(files, at(*minute), APART);
        }
        assert_eq!(sightings.hold((1, 7), at(now), APART), expected, "{since} {scans:?} {now}");
        assert!(!sightings.hold((1, 8), at(now), APART), "another file of that inode");
    }

    #[test]
    fn a_file_counts_once_a_scan_saw_it_long_enough_ago_however_often_it_is_scanned_since() {
        check(0, &[], 100, false);
        check(0, &[0], 9, false);
        check(0, &[0], 10, true);
        check(0, &[0, 5], 9, false);
        check(0, &[0, 5, 10, 15], 15, true);
        check(0, &[0, 5, 10, 15, 20, 25], 26, true);
        // One that came since waits for the next scan that counts.
        check(3, &[0, 5, 10], 15, false);
        check(3, &[0, 5, 10], 20, true);
        check(3, &[0, 5, 10, 15, 20], 20, true);
        check(3, &[0, 60], 65, false);
        check(3, &[0, 60], 70, true);
    }
}
