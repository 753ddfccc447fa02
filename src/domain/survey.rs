//! What an inventory says at a glance: of a tree, and of each of its streams.

use std::time::Duration;

use super::names::StreamId;
use super::recording::{Inventory, Kind, Tally};
use super::units::{Bytes, Timestamp};

/// A tree at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Finished recordings.
    pub recordings: Tally,
    /// The time of the oldest recording.
    pub oldest: Option<Timestamp>,
    /// The time of the newest recording.
    pub newest: Option<Timestamp>,
    /// Bytes recorded in a second: of the last hour, or, if it brought nothing, of the last day.
    pub inflow: Bytes,
    /// Unfinished files that nobody touched for longer than the grace.
    pub leftovers: Tally,
    /// Unfinished files that may still be written.
    pub in_progress: Tally,
    /// Each stream, in the order of the inventory.
    pub streams: Vec<StreamSurvey>,
}

/// A stream at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSurvey {
    /// Its name.
    pub name: StreamId,
    /// Its finished recordings.
    pub recordings: Tally,
    /// The time of the oldest.
    pub oldest: Option<Timestamp>,
    /// The time of the newest.
    pub newest: Option<Timestamp>,
}

/// Surveys an inventory. An unfinished file untouched for longer than `grace` is a leftover.
#[must_use]
pub fn survey(inventory: &Inventory, grace: Duration, now: Timestamp) -> Survey {
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);
    let new =
        |name: &StreamId| StreamSurvey { name: name.clone(), recordings: Tally::default(), oldest: None, newest: None };
    let mut out = Survey { streams: inventory.streams().iter().map(new).collect(), ..Survey::default() };
    let (mut hour, mut day) = (Bytes::ZERO, Bytes::ZERO);
    for seen in inventory.files() {
        let quiet = now.since(seen.touched());
        match seen.kind {
            Kind::Unfinished if quiet > grace => out.leftovers.add(seen.bytes),
            Kind::Unfinished => out.in_progress.add(seen.bytes),
            Kind::Recording => {
                out.recordings.add(seen.bytes);
                let at = Some(seen.recorded());
                let stream = &mut out.streams[seen.stream.0 as usize];
                stream.recordings.add(seen.bytes);
                (stream.oldest, stream.newest) = (earlier(stream.oldest, at), stream.newest.max(at));
                (out.oldest, out.newest) = (earlier(out.oldest, at), out.newest.max(at));
                if quiet <= HOUR {
                    hour = hour.saturating_add(seen.bytes);
                }
                if quiet <= DAY {
                    day = day.saturating_add(seen.bytes);
                }
            }
        }
    }
    let (bytes, span) = if hour > Bytes::ZERO { (hour, HOUR) } else { (day, DAY) };
    out.inflow = Bytes(bytes.0 / span.as_secs());
    out
}

/// How long until `available` bytes are used up; `None` if never.
#[must_use]
pub fn until_full(available: Bytes, inflow: Bytes) -> Option<Duration> {
    available.0.checked_div(inflow.0).map(Duration::from_secs)
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::TreeId;
    use crate::domain::recording::{FileIdentity, InventoryBuilder, Sighting};

    /// Files as (age in seconds, unfinished), one MiB each.
    fn check(files: &[(i64, bool)], inflow: u64, leftovers: u64, in_progress: u64) {
        let now = Timestamp::from_secs(1_800_000_000);
        let mut builder = InventoryBuilder::new(TreeId::new("t"), now);
        for (age, unfinished) in files {
            let modified = (now.secs() - age) * 1_000_000_000;
            let identity = FileIdentity { modified, links: 1, allocated: Bytes::MIB, ..FileIdentity::default() };
            let kind = if *unfinished { Kind::Unfinished } else { Kind::Recording };
            let top = builder.top();
            builder.file(top, &Sighting { name: b"x", stream: "s", kind, named: None, identity: &identity });
        }
        let found = survey(&builder.finish(now), Duration::from_secs(86_400), now);
        assert_eq!((found.inflow.0, found.leftovers.files, found.in_progress.files), (inflow, leftovers, in_progress));
    }

    #[test]
    fn inflow_is_of_the_last_hour_or_else_of_the_last_day() {
        check(&[(60, false), (600, false), (7200, false)], 2 * (1 << 20) / 3600, 0, 0);
        check(&[(7200, false)], (1 << 20) / 86_400, 0, 0);
        check(&[(200_000, false)], 0, 0, 0);
    }

    #[test]
    fn unfinished_files_become_leftovers_with_time() {
        check(&[(60, true), (100_000, true)], 0, 1, 1);
    }

    #[test]
    fn a_volume_without_inflow_is_never_full() {
        assert_eq!(until_full(Bytes(100), Bytes::ZERO), None);
        assert_eq!(until_full(Bytes(100), Bytes(10)), Some(Duration::from_secs(10)));
    }
}
