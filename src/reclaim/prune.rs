//! Removes directories that became empty: by `rmdir` alone, upwards, never the top, never one dated within 48 h.

use jiff::tz::TimeZone;

use super::handle::TreeHandle;
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;

/// Removes `dir` and what is above it as far as it is empty; returns what was removed.
pub(super) fn empty_directories(tree: &TreeHandle, dir: &RelPath, now: Timestamp) -> Vec<RelPath> {
    let mut out = Vec::new();
    let mut next = Some(dir.clone());
    while let Some(dir) = next {
        // A recorder may be about to write into it: it made the directory a moment ago, or will use it at midnight.
        if recent(tree, &dir, now) || tree.dir.remove_dir(&dir).is_err() {
            break;
        }
        next = dir.split().0;
        out.push(dir);
    }
    out
}

/// The directory bears a date within two days of now, in whatever zone its recorder lives.
fn recent(tree: &TreeHandle, dir: &RelPath, now: Timestamp) -> bool {
    let Some(date) = tree.policy.layout.date_of(dir) else { return false };
    let Ok(start) = date.to_zoned(TimeZone::UTC) else { return true };
    let away = start.timestamp().as_second().abs_diff(now.secs());
    // 48 h, the length of the day, and the widest zone.
    away <= (48 + 24 + 14) * 3600
}
