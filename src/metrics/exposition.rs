//! The text that `/metrics` answers.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{Encoder as _, TextEncoder};

use super::counters::Counters;
use super::gauges::Gauges;
use crate::domain::alert::AlertName;
use crate::domain::archive::ArchiveView;
use crate::domain::catalogue::CatalogueView;
use crate::domain::deletion::{Cap, SparedReason, Unreclaimed};
use crate::domain::history::History;
use crate::domain::live::{LiveStream, MediaServerView};
use crate::domain::names::TreeId;
use crate::domain::orphan::OrphanKind;
use crate::domain::promise::{standings, worst};
use crate::domain::recording::Tally;
use crate::domain::relay::RelayView;
use crate::domain::settings::Severity;
use crate::domain::status::{TreeView, VolumeView};
use crate::domain::survey::until_full;
use crate::domain::units::{Bytes, Timestamp};

/// What is known when somebody asks.
pub struct Known<'a> {
    /// The volumes.
    pub volumes: &'a [VolumeView],
    /// The catalogues.
    pub catalogues: &'a [CatalogueView],
    /// The archives.
    pub archives: &'a [ArchiveView],
    /// The media servers.
    pub media: &'a [MediaServerView],
    /// What the journal adds up to.
    pub history: &'a History,
    /// Alerts that are firing.
    pub firing: &'a [(AlertName, Severity)],
    /// What waits for the platforms of media servers.
    pub relays: &'a [RelayView],
    /// For each channel the age of the oldest message that waits.
    pub outbox: &'a [(String, Duration)],
    /// Now.
    pub now: Timestamp,
}

/// The exposition, in text format 0.0.4.
///
/// # Errors
/// If two metrics bear one name: never, since the names are constant.
pub fn render(counters: &Counters, known: &Known<'_>) -> prometheus::Result<String> {
    let mut families = counters.registry.gather();
    let mut gauges = Gauges::default();
    about(&mut gauges, known);
    for volume in known.volumes {
        of_volume(&mut gauges, volume);
        for tree in &volume.trees {
            of_tree(&mut gauges, tree, known);
        }
        spared(&mut gauges, volume);
    }
    for catalogue in known.catalogues {
        of_catalogue(&mut gauges, catalogue);
    }
    for server in known.media {
        of_media_server(&mut gauges, server, known.history);
    }
    for relay in known.relays {
        of_relay(&mut gauges, relay, known.now);
    }
    families.extend(gauges.gather());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut out = Vec::new();
    TextEncoder::new().encode(&families, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn about(gauges: &mut Gauges, known: &Known<'_>) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", option_env!("STORAGE_GUARD_REVISION").unwrap_or("unknown")),
    ];
    gauges.family("storage_guard_build_info", "Which program this is").set(&labels, 1.0);
    let enforcing = known.volumes.iter().any(VolumeView::enforces);
    gauges
        .family("storage_guard_enforcing", "1 if any tree may be changed, 0 if all are only observed")
        .set(&[], f64::from(u8::from(enforcing)));
    let mut alerts = gauges.family("storage_guard_alerts_firing", "Alerts of the guard itself that are firing");
    for alert in AlertName::ALL {
        let severity = alert.severity();
        let count = known.firing.iter().filter(|(name, _)| name == alert).count();
        alerts.set(&[("alert", alert.as_str()), ("severity", severity.as_str())], float(count as u64));
    }
    let mut outbox =
        gauges.family("storage_guard_outbox_oldest_seconds", "Age of the oldest message that waits, 0 if none does");
    for (channel, age) in known.outbox {
        outbox.set(&[("channel", channel)], age.as_secs_f64());
    }
    let least = |of: &dyn Fn(&VolumeView) -> Option<Timestamp>| {
        known.volumes.iter().map(|volume| of(volume).map_or(0, Timestamp::secs)).min().unwrap_or(0)
    };
    let probe = least(&|volume| volume.reading.as_ref().ok().map(|reading| reading.at));
    let scan = least(&|volume| volume.trees.iter().map(|tree| tree.inventory.finished).min());
    let reclaim = least(&|volume| volume.last_run.as_ref().map(|run| run.at));
    let read = known.catalogues.iter().map(|catalogue| catalogue.read_at.map_or(0, Timestamp::secs));
    let catalogue = read.min().unwrap_or(0);
    // Where nothing waits all is copied; where something does, since the last copy, or since it waits.
    let well = |archive: &ArchiveView| match archive.waiting.files {
        0 => Some(known.now),
        _ => archive.copied_at.max(archive.waiting_since),
    };
    let archive = known.archives.iter().map(|archive| well(archive).map_or(0, Timestamp::secs)).min().unwrap_or(0);
    let mut success = gauges.family(
        "storage_guard_last_success_timestamp_seconds",
        "When a task last succeeded: the least recent of all volumes, trees, catalogues and archives, 0 if never",
    );
    for (task, at) in
        [("probe", probe), ("scan", scan), ("reclaim", reclaim), ("catalogue", catalogue), ("archive", archive)]
    {
        success.set(&[("task", task)], signed(at));
    }
}

fn of_volume(gauges: &mut Gauges, volume: &VolumeView) {
    let name = volume.name.as_str();
    let label = [("volume", name)];
    if let Ok(reading) = &volume.reading {
        let space = &reading.space;
        for (metric, help, value) in [
            ("storage_guard_volume_size_bytes", "All bytes of the filesystem", space.size.0),
            ("storage_guard_volume_available_bytes", "What an unprivileged writer has", space.available.0),
            ("storage_guard_volume_free_bytes", "Free bytes, the reserve for root included", space.free.0),
            ("storage_guard_volume_inodes", "All inodes, 0 where their number is not fixed", space.inodes),
            ("storage_guard_volume_inodes_free", "Free inodes", space.inodes_free),
            ("storage_guard_volume_readonly", "1 if the filesystem is read-only", u64::from(reading.readonly)),
        ] {
            gauges.family(metric, help).set(&label, float(value));
        }
        let at = volume.marks.thresholds(space);
        let mut marks = gauges.family(
            "storage_guard_volume_watermark_bytes",
            "The mark is crossed when fewer bytes than this are available",
        );
        for (mark, value) in [("high", at.high), ("low", at.low), ("critical", at.critical)] {
            marks.set(&[("volume", name), ("mark", mark)], float(value.0));
        }
        let mut marks = gauges.family(
            "storage_guard_volume_watermark_inodes",
            "The mark is crossed when fewer inodes than this are free",
        );
        for (mark, value) in [("high", at.inodes_high), ("low", at.inodes_low)] {
            marks.set(&[("volume", name), ("mark", mark)], float(value));
        }
        let until = until_full(space.available, volume.inflow()).map_or(f64::INFINITY, |span| span.as_secs_f64());
        gauges
            .family("storage_guard_volume_seconds_until_full", "At the measured inflow; +Inf if never")
            .set(&label, until);
        let foreign = space.used().saturating_sub(volume.held());
        gauges
            .family("storage_guard_volume_foreign_bytes", "Used by what is a recording of no tree")
            .set(&label, float(foreign.0));
    }
    let mut pressure =
        gauges.family("storage_guard_volume_pressure", "The state of the volume, 1 for the one it is in");
    for state in ["normal", "reclaiming", "exhausted", "blind"] {
        let here = f64::from(u8::from(volume.pressure.as_str() == state));
        pressure.set(&[("volume", name), ("state", state)], here);
    }
}

fn of_tree(gauges: &mut Gauges, tree: &TreeView, known: &Known<'_>) {
    let id = &tree.policy.tree;
    let name = id.as_str();
    let label = [("tree", name)];
    let held = tree.recordings();
    gauges.family("storage_guard_tree_files", "Recordings").set(&label, float(held.files));
    gauges.family("storage_guard_tree_bytes", "Allocated bytes of recordings").set(&label, float(held.bytes.0));
    gauges
        .family("storage_guard_tree_oldest_timestamp_seconds", "Time of the oldest recording, 0 if there is none")
        .set(&label, signed(tree.survey.oldest.map_or(0, Timestamp::secs)));
    orphans(gauges, tree);
    gauges
        .family(
            "storage_guard_missing_files",
            "Catalogue entries without a file; those that were deleted here are not counted",
        )
        .set(&label, float(tree.orphans.missing));
    let waiting: Vec<_> = known.history.failures.values().filter(|failure| failure.target.tree == *id).collect();
    gauges
        .family("storage_guard_deletions_waiting", "Failed deletions that are tried again")
        .set(&label, float(waiting.len() as u64));
    let oldest = waiting.iter().map(|failure| failure.since.secs()).min().unwrap_or(0);
    gauges
        .family(
            "storage_guard_oldest_retry_timestamp_seconds",
            "Since when the oldest of them fails, 0 if there is none",
        )
        .set(&label, signed(oldest));
    let unreclaimed = unreclaimed(known.history, id);
    for cause in Unreclaimed::ALL {
        let tally = unreclaimed.get(cause).copied().unwrap_or_default();
        let labels = [("tree", name), ("cause", cause.as_str())];
        gauges
            .family("storage_guard_unreclaimed_files", "Chosen recordings whose space did not come back, by cause")
            .set(&labels, float(tally.files));
        gauges
            .family("storage_guard_unreclaimed_bytes", "Bytes that did not come back, by cause")
            .set(&labels, float(tally.bytes.0));
    }
    let mut caps = gauges.family("storage_guard_cap_tripped", "1 if the cap tripped and waits for a person");
    for cap in Cap::ALL {
        let tripped = known.history.caps.contains_key(&(id.clone(), *cap));
        caps.set(&[("tree", name), ("cap", cap.as_str())], f64::from(u8::from(tripped)));
    }
    retention(gauges, tree, known.history, known.now);
}

/// What should not be there. Without a catalogue nothing is said of what one would know; with one it is no number until a comparison
/// could prove it.
fn orphans(gauges: &mut Gauges, tree: &TreeView) {
    let shown = |tally: Option<Tally>| tally.map_or((f64::NAN, f64::NAN), |of| (float(of.files), float(of.bytes.0)));
    let kinds = [
        (OrphanKind::Uncatalogued, !tree.policy.catalogues.is_empty(), tree.orphans.uncatalogued),
        (OrphanKind::Leftover, true, Some(tree.leftovers())),
    ];
    for (kind, _, tally) in kinds.into_iter().filter(|(_, told, _)| *told) {
        let labels = [("tree", tree.policy.tree.as_str()), ("kind", kind.as_str())];
        let (files, bytes) = shown(tally);
        gauges.family("storage_guard_orphan_files", "Recordings that should not be there").set(&labels, files);
        gauges
            .family("storage_guard_orphan_bytes", "Allocated bytes of recordings that should not be there")
            .set(&labels, bytes);
    }
}

fn of_catalogue(gauges: &mut Gauges, catalogue: &CatalogueView) {
    let label = [("catalogue", catalogue.name.as_str())];
    gauges
        .family(
            "storage_guard_catalogue_trusted",
            "1 if the catalogue is believed, 0 if not, or if it was not read yet",
        )
        .set(&label, f64::from(u8::from(catalogue.distrust.is_none())));
    gauges
        .family("storage_guard_catalogue_rows", "Rows for trees of this guard, when it was last read and believed")
        .set(&label, float(catalogue.counts.rows));
}

fn of_media_server(gauges: &mut Gauges, server: &MediaServerView, history: &History) {
    let label = [("media_server", server.name.as_str())];
    gauges
        .family("storage_guard_media_server_up", "1 if the media server answers, 0 if not, or if it was not asked yet")
        .set(&label, f64::from(u8::from(server.up())));
    let recorded = |of: fn(&LiveStream) -> Option<bool>| {
        server.streams.iter().filter(|stream| of(stream) == Some(true)).count() as u64
    };
    let mut streams = gauges
        .family("storage_guard_media_server_recorded_streams", "Streams that it records, as it last said, by format");
    for (format, count) in [("mp4", recorded(|stream| stream.mp4)), ("hls", recorded(|stream| stream.hls))] {
        streams.set(&[label[0], ("format", format)], float(count));
    }
    let stopped = history.stopped.keys().filter(|(name, _)| *name == server.name).count();
    gauges
        .family("storage_guard_media_server_stopped_streams", "Streams that it does not record because of this guard")
        .set(&label, float(stopped as u64));
}

fn of_relay(gauges: &mut Gauges, relay: &RelayView, now: Timestamp) {
    let (label, status) = ([("media_server", relay.media_server.as_str())], &relay.status);
    gauges
        .family("storage_guard_hook_relay_waiting", "Hooks that wait for the platform")
        .set(&label, float(status.waiting));
    gauges
        .family("storage_guard_hook_relay_set_aside", "Those of them that the platform refuses while it takes others")
        .set(&label, float(status.aside));
    let age = status.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
    gauges
        .family("storage_guard_hook_relay_oldest_seconds", "Age of the oldest of them, 0 if none waits")
        .set(&label, age.as_secs_f64());
}

/// What the worst stream was promised, and what it has.
fn retention(gauges: &mut Gauges, tree: &TreeView, history: &History, now: Timestamp) {
    let (promised, achieved) = worst(&standings(&tree.policy, &tree.survey, history, now));
    let label = [("tree", tree.policy.tree.as_str())];
    gauges
        .family("storage_guard_retention_promised_seconds", "How long the worst stream is to be kept")
        .set(&label, promised.as_secs_f64());
    gauges
        .family("storage_guard_retention_achieved_seconds", "How far back the worst stream reaches")
        .set(&label, achieved.as_secs_f64());
}

/// Chosen recordings of a tree whose space did not come back.
fn unreclaimed(history: &History, tree: &TreeId) -> BTreeMap<Unreclaimed, Tally> {
    let mut out: BTreeMap<Unreclaimed, Tally> = BTreeMap::new();
    for failure in history.failures.values().filter(|failure| failure.target.tree == *tree) {
        out.entry(failure.cause.unreclaimed()).or_default().add(failure.target.bytes);
    }
    for held in history.held.values().filter(|held| held.target.tree == *tree) {
        out.entry(Unreclaimed::HeldOpen).or_default().add(held.bytes);
    }
    if let Some(shared) = history.shared.get(tree) {
        out.entry(Unreclaimed::Shared).or_default().merge(*shared);
    }
    out
}

fn spared(gauges: &mut Gauges, volume: &VolumeView) {
    let mut family = gauges.family("storage_guard_spared_bytes", "Bytes that no plan takes, by reason");
    for tree in &volume.trees {
        for reason in SparedReason::ALL {
            let planned = volume.spared.iter();
            let planned = planned.filter(|spared| spared.tree == tree.policy.tree && spared.reason == *reason);
            // What is set aside is in no inventory, so no plan knows of it.
            let bytes: Bytes = if *reason == SparedReason::Quarantined {
                tree.orphans.quarantined.bytes
            } else {
                planned.map(|spared| spared.tally.bytes).sum()
            };
            family.set(&[("tree", tree.policy.tree.as_str()), ("reason", reason.as_str())], float(bytes.0));
        }
    }
}

/// To show; above 2^53 the last digits are lost, as in every Prometheus value.
fn float(value: u64) -> f64 {
    value as f64
}

fn signed(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalogue::Distrust;
    use crate::domain::conditions::tests::{catalogue, catalogued, volume};
    use crate::domain::orphan::OrphanTally;

    fn shown(volume: VolumeView, catalogues: &[CatalogueView]) -> String {
        let history = History::default();
        let known = Known {
            volumes: &[volume],
            catalogues,
            archives: &[],
            media: &[],
            history: &history,
            firing: &[],
            relays: &[],
            outbox: &[],
            now: Timestamp::from_secs(100_000),
        };
        render(&Counters::new(Timestamp::default()), &known).unwrap()
    }

    /// Each line as it begins with the metric, without the common beginning of all names.
    fn check(shown: &str, metrics: &[&str], expected: &[&str]) {
        let lines = shown.lines().filter_map(|line| line.strip_prefix("storage_guard_"));
        let lines: Vec<&str> = lines.filter(|line| metrics.iter().any(|metric| line.starts_with(metric))).collect();
        assert_eq!(lines, expected);
    }

    fn tally(files: u64) -> Tally {
        Tally { files, bytes: Bytes(files * 10) }
    }

    /// Promise 7: what is not proven is no number, and what no catalogue could prove is not there at all.
    #[test]
    fn uncatalogued_is_absent_without_a_catalogue_no_number_until_compared_and_then_what_is_proven() {
        let leftover = r#"orphan_files{tree="live",kind="leftover"} 0"#;
        check(&shown(volume(), &[]), &["orphan_files"], &[leftover]);
        for (known, files, bytes) in [(None, "NaN", "NaN"), (Some(0), "0", "0"), (Some(1000), "1000", "10000")] {
            let mut volume = catalogued("wvp");
            // What is without proof is shown elsewhere.
            volume.trees[0].orphans =
                OrphanTally { uncatalogued: known.map(tally), unproven: tally(77), ..OrphanTally::default() };
            let expected = [
                r#"orphan_bytes{tree="live",kind="uncatalogued"} "#.to_owned() + bytes,
                r#"orphan_bytes{tree="live",kind="leftover"} 0"#.to_owned(),
                r#"orphan_files{tree="live",kind="uncatalogued"} "#.to_owned() + files,
                leftover.to_owned(),
            ];
            check(&shown(volume, &[]), &["orphan_"], &expected.each_ref().map(String::as_str));
        }
    }

    #[test]
    fn leftovers_are_those_of_the_scan_or_the_proven_ones_where_they_are_more() {
        for (seen, proven, expected) in [(0, 0, 0), (5, 0, 5), (5, 3, 5), (5, 8, 8)] {
            let mut volume = volume();
            volume.trees[0].survey.leftovers = tally(seen);
            volume.trees[0].orphans.leftovers = tally(proven);
            let expected = format!(r#"orphan_files{{tree="live",kind="leftover"}} {expected}"#);
            check(&shown(volume, &[]), &["orphan_files"], &[&expected]);
        }
    }

    #[test]
    fn missing_rows_and_what_is_in_quarantine_are_told() {
        let mut volume = volume();
        volume.trees[0].orphans = OrphanTally { missing: 12, quarantined: tally(4), ..OrphanTally::default() };
        let metrics = [
            "missing_files",
            r#"spared_bytes{tree="live",reason="quarantined""#,
            r#"spared_bytes{tree="live",reason="hold""#,
        ];
        let expected = [
            r#"missing_files{tree="live"} 12"#,
            r#"spared_bytes{tree="live",reason="hold"} 0"#,
            r#"spared_bytes{tree="live",reason="quarantined"} 40"#,
        ];
        check(&shown(volume, &[]), &metrics, &expected);
    }

    #[test]
    fn a_catalogue_is_trusted_or_not_from_the_start_and_the_least_recent_reading_counts() {
        let success = r#"last_success_timestamp_seconds{task="catalogue"}"#;
        let metrics = ["catalogue_", success];
        let none = format!("{success} 0");
        check(&shown(volume(), &[]), &metrics, &[&none]);
        let empty = Distrust::Empty { tree: TreeId::new("live"), files: 7 };
        let mut unread = catalogue("hooks", Some(Distrust::NotYet), None);
        unread.counts.rows = 0;
        let read = [catalogue("list", Some(empty), Some(900)), catalogue("wvp", None, Some(10))];
        let all = [read.to_vec(), vec![unread]].concat();
        let of = |name: &str, rows: u64, trusted: u8| {
            let rows = format!(r#"catalogue_rows{{catalogue="{name}"}} {rows}"#);
            (rows, format!(r#"catalogue_trusted{{catalogue="{name}"}} {trusted}"#))
        };
        let (list, wvp, hooks) = (of("list", 16_000, 0), of("wvp", 16_000, 1), of("hooks", 0, 0));
        let expected = [&list.0, &wvp.0, &hooks.0, &list.1, &wvp.1, &hooks.1, &none];
        check(&shown(volume(), &all), &metrics, &expected.map(String::as_str));
        let expected = [&list.0, &wvp.0, &list.1, &wvp.1, &format!("{success} 99100")];
        check(&shown(volume(), &read), &metrics, &expected.map(String::as_str));
    }
}
