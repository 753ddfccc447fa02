//! What an inventory says at a glance: of a tree, and of each of its streams.

use std::time::Duration;

use super::directory_unit::DirectoryUnit;
use super::names::StreamId;
use super::recording::{Inventory, Kind, Recording, Tally};
use super::units::{Bytes, Timestamp};
use super::verdict::MARGIN;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

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
    /// The longest slice that a recorder makes here, as far as its finished recordings tell; a day at most, zero where none tells.
    pub longest_slice: Duration,
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
    /// What of them was recorded within the last day.
    pub lately: Tally,
    /// How long it took to record that: a day, or, where the stream is younger, since its oldest recording, and an hour at least.
    pub over: Duration,
    /// The time of the oldest.
    pub oldest: Option<Timestamp>,
    /// The time of the newest.
    pub newest: Option<Timestamp>,
    /// When any of its files was last touched, finished or not; what the future touched does not count.
    pub touched: Option<Timestamp>,
    /// It writes now: one of its files was touched within the longest slice and ten minutes.
    pub live: bool,
}

impl StreamSurvey {
    /// Bytes recorded in a second, over the last day: what retention is reckoned with. The last hour is too short for that, since a slice
    /// may be longer, and night is not day.
    #[must_use]
    pub fn inflow(&self) -> Bytes {
        Bytes(self.lately.bytes.0 / self.over.as_secs().max(1))
    }
}

/// Surveys an inventory. An unfinished file untouched for longer than `grace` is a leftover.
#[must_use]
pub fn survey(inventory: &Inventory, grace: Duration, now: Timestamp) -> Survey {
    let new = |name: &StreamId| StreamSurvey {
        name: name.clone(),
        recordings: Tally::default(),
        lately: Tally::default(),
        over: DAY,
        oldest: None,
        newest: None,
        touched: None,
        live: false,
    };
    let mut lengths = vec![Lengths::default(); inventory.streams().len()];
    let mut out = Survey { streams: inventory.streams().iter().map(new).collect(), ..Survey::default() };
    let (mut hour, mut day) = (Bytes::ZERO, Bytes::ZERO);
    for seen in inventory.files() {
        let touched = seen.touched();
        let quiet = now.since(touched);
        let stream = &mut out.streams[seen.stream.0 as usize];
        if touched <= now {
            stream.touched = stream.touched.max(Some(touched));
        } else {
            stream.live = true;
        }
        match seen.kind {
            Kind::Unfinished if quiet > grace => out.leftovers.add(seen.bytes),
            Kind::Unfinished => out.in_progress.add(seen.bytes),
            Kind::Recording => {
                out.recordings.merge(seen.tally());
                let at = Some(seen.recorded());
                let unit = inventory.unit(seen.index);
                let oldest = unit.map_or(at, |unit| unit.oldest);
                stream.recordings.merge(seen.tally());
                lengths[seen.stream.0 as usize].add(&seen);
                (stream.oldest, stream.newest) = (earlier(stream.oldest, oldest), stream.newest.max(at));
                (out.oldest, out.newest) = (earlier(out.oldest, oldest), out.newest.max(at));
                let within = |span| if quiet <= span { seen.bytes } else { Bytes::ZERO };
                let (last_hour, last_day) =
                    unit.map_or((within(HOUR), within(DAY)), |unit| (unit.last_hour, unit.last_day));
                (hour, day) = (hour.saturating_add(last_hour), day.saturating_add(last_day));
                stream.lately.merge(recorded_lately(&seen, unit, now));
            }
        }
    }
    let (bytes, span) = if hour > Bytes::ZERO { (hour, HOUR) } else { (day, DAY) };
    out.inflow = Bytes(bytes.0 / span.as_secs());
    out.longest_slice = lengths.iter().map(Lengths::longest).max().unwrap_or_default();
    for stream in &mut out.streams {
        stream.over = stream.oldest.map_or(DAY, |oldest| now.since(oldest).clamp(HOUR, DAY));
    }
    let lately = now.minus(out.longest_slice.saturating_add(MARGIN));
    out.streams.iter_mut().for_each(|stream| stream.live |= stream.touched.is_some_and(|touched| touched >= lately));
    out
}

/// What of a recording was recorded within a day: all of it or nothing, and of a directory its part. What was copied or put back today
/// bears its own time, and no camera records it again tomorrow.
fn recorded_lately(seen: &Recording, unit: Option<&DirectoryUnit>, now: Timestamp) -> Tally {
    match unit {
        Some(unit) => {
            let files = Bytes(unit.segments.files).scaled(unit.last_day.0, unit.segments.bytes.0);
            Tally { files: files.0, bytes: unit.last_day }
        }
        None if seen.recorded() <= now && now.since(seen.recorded()) <= DAY => seen.tally(),
        None => Tally::default(),
    }
}

/// How long the slices of a stream are: from the time in the name to the file's, where the two are of one day.
///
/// A copied or touched file looks longer than it is, so of every twenty recordings the longest is left out, up to three. That can be too
/// little for a stream whose slices have just become longer; but what is still written is touched again and again, and held open, and so
/// it stays no leftover all the same. Where a whole tree was copied, the day bounds what comes of it: things take a day longer.
#[derive(Debug, Clone, Copy, Default)]
struct Lengths {
    count: u32,
    /// In seconds, the longest first.
    longest: [u32; Lengths::LEFT_OUT + 1],
}

impl Lengths {
    const LEFT_OUT: usize = 3;
    const ONE_OF: u32 = 20;

    fn add(&mut self, seen: &Recording) {
        let Some(named) = seen.named.filter(|_| !seen.ages_disagree()) else { return };
        self.count = self.count.saturating_add(1);
        let mut length = u32::try_from(seen.modified.since(named).as_secs()).unwrap_or(u32::MAX);
        for kept in &mut self.longest {
            if length > *kept {
                std::mem::swap(kept, &mut length);
            }
        }
    }

    fn longest(&self) -> Duration {
        let left_out = Self::LEFT_OUT.min((self.count / Self::ONE_OF) as usize);
        Duration::from_secs(u64::from(self.longest[left_out]))
    }
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
    fn a_stream_flows_in_at_the_rate_of_its_last_day_or_of_its_life() {
        let now = Timestamp::from_secs(1_800_000_000);
        // Recordings as (age of the name, age of the file) in seconds, one MiB each; what flows in, and over how long.
        let check = |files: &[(i64, i64)], lately: u64, over: u64| {
            let mut builder = InventoryBuilder::new(TreeId::new("t"), now);
            for (named, modified) in files {
                let nanos = (now.secs() - modified) * 1_000_000_000;
                let identity =
                    FileIdentity { modified: nanos, links: 1, allocated: Bytes::MIB, ..FileIdentity::default() };
                let named = Some(Timestamp::from_secs(now.secs() - named));
                let top = builder.top();
                builder.file(
                    top,
                    &Sighting { name: b"x", stream: "s", kind: Kind::Recording, named, identity: &identity },
                );
            }
            let found = survey(&builder.finish(now), Duration::from_secs(86_400), now).streams.swap_remove(0);
            let expected = Tally { files: lately, bytes: Bytes::mib(lately) };
            assert_eq!((found.lately, found.over.as_secs()), (expected, over), "{files:?}");
            assert_eq!(found.inflow(), Bytes((lately << 20) / over));
        };
        check(&[(200_000, 199_000), (86_400, 86_000), (60, 0)], 2, 86_400);
        check(&[(200_000, 199_000)], 0, 86_400);
        // A young camera, and a very young one.
        check(&[(7200, 3600), (3600, 0)], 2, 7200);
        check(&[(300, 0)], 1, 3600);
        // Restored from a backup today: not recorded today. What lies in the future is not recorded yet.
        check(&[(900_000, 60), (300, 0)], 1, 86_400);
        check(&[(-900, 0), (300, 0)], 1, 3600);
    }

    #[test]
    fn unfinished_files_become_leftovers_with_time() {
        check(&[(60, true), (100_000, true)], 0, 1, 1);
    }

    /// What is said of files given as stream, age of the name and age of the file in seconds, and whether unfinished.
    fn look(files: &[(&str, i64, i64, bool)]) -> Survey {
        let now = Timestamp::from_secs(1_800_000_000);
        let mut builder = InventoryBuilder::new(TreeId::new("t"), now);
        for (stream, named, modified, unfinished) in files {
            let nanos = (now.secs() - modified) * 1_000_000_000;
            let identity = FileIdentity { modified: nanos, links: 1, ..FileIdentity::default() };
            let kind = if *unfinished { Kind::Unfinished } else { Kind::Recording };
            let named = Some(Timestamp::from_secs(now.secs() - named));
            let top = builder.top();
            builder.file(top, &Sighting { name: b"x", stream, kind, named, identity: &identity });
        }
        survey(&builder.finish(now), Duration::from_secs(86_400), now)
    }

    #[test]
    fn the_longest_slice_is_that_of_recordings_whose_times_agree() {
        const DAY: i64 = 86_400;
        let check = |files: &[(&str, i64, i64, bool)], secs| {
            assert_eq!(look(files).longest_slice, Duration::from_secs(secs), "{files:?}");
        };
        check(&[], 0);
        check(&[("a", 9000, 8700, false), ("b", 9000, 8000, false), ("b", 8000, 7990, false)], 1000);
        // What is not finished, was made before its own time, or is not of one day says nothing.
        check(&[("a", 9000, 10, true), ("a", 9000, 9300, false), ("a", 3 * DAY, DAY, false)], 0);
        check(&[("a", DAY + 5, 5, false)], 86_400);
    }

    #[test]
    fn a_few_copied_files_make_no_slice_long() {
        let slices = |count: i64| (0..count).map(|n| ("a", 300 * (n + 1) + 50_000, 300 * n + 50_000, false));
        for (count, copied, secs) in
            [(19, 0, 300), (18, 1, 50_300), (19, 1, 300), (37, 2, 50_300), (38, 2, 300), (57, 3, 300), (900, 4, 50_300)]
        {
            let copies = std::iter::repeat_n(("a", 50_300, 0, false), copied);
            let files: Vec<_> = slices(count).chain(copies).collect();
            assert_eq!(look(&files).longest_slice, Duration::from_secs(secs), "{count} and {copied}");
        }
        // Each stream for itself.
        let files: Vec<_> = slices(100).chain([("b", 9000, 8000, false)]).collect();
        assert_eq!(look(&files).longest_slice, Duration::from_secs(1000));
    }

    #[test]
    fn a_stream_is_live_while_it_is_touched() {
        let check = |files: &[(&'static str, i64, i64, bool)], touched: Option<i64>, live| {
            let files = [&[("long", 9000, 6000, false)], files].concat();
            let found = look(&files).streams.swap_remove(1);
            let age = |at: Timestamp| 1_800_000_000 - at.secs();
            assert_eq!((found.touched.map(age), found.live), (touched, live), "{files:?}");
        };
        check(&[("a", 4000, 3600, false)], Some(3600), true);
        check(&[("a", 4000, 3601, false)], Some(3601), false);
        check(&[("a", 4000, 3700, false), ("a", 3700, 60, true)], Some(60), true);
        check(&[("a", 9000, 8000, false), ("a", 8000, 7000, true)], Some(7000), false);
        // A file of the future makes its stream live, and nothing else old.
        check(&[("a", 9000, 8000, false), ("a", -9000, 7000, false)], Some(8000), true);
        check(&[("a", -9000, 7000, true)], None, true);
    }

    #[test]
    fn a_volume_without_inflow_is_never_full() {
        assert_eq!(until_full(Bytes(100), Bytes::ZERO), None);
        assert_eq!(until_full(Bytes(100), Bytes(10)), Some(Duration::from_secs(10)));
    }
}
