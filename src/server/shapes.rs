//! Shapes of the API's answers. Names and units are those of the contract; a `domain` type is never serialized itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::media::{MediaServer, NotRecorded};
pub use super::plans::{Plan, PlanItem, Spared};
pub use super::streams::{Promises, Stream as StreamStanding};

use super::archive::Archive;
use super::relays::Relay;
use crate::domain::catalogue::{CatalogueView, Distrust};
use crate::domain::history::History;
use crate::domain::live::MediaServerView;
use crate::domain::path::RelPath;
use crate::domain::pressure::Pressure;
use crate::domain::recording::{ScanProblem, Tally as DomainTally};
use crate::domain::retention::Mode;
use crate::domain::status::{TreeView, VolumeView};
use crate::domain::survey::until_full;

/// `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `observe` or `enforce`.
    pub mode: String,
    /// Since when no channel delivers what is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_failing_since: Option<String>,
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// The trees.
    pub trees: Vec<Tree>,
    /// The catalogues.
    #[serde(default)]
    pub catalogues: Vec<Catalogue>,
    /// The archives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<Archive>,
    /// The media servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media_servers: Vec<MediaServer>,
    /// What waits for the platforms behind media servers; none where no guard runs.
    #[serde(default)]
    pub relays: Vec<Relay>,
    /// How many alerts there are; absent where no guard runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertCounts>,
}

/// How many alerts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertCounts {
    /// Alerts that fire.
    pub firing: usize,
    /// Those of them that nobody is told of.
    pub muted: usize,
    /// Silences that are in effect.
    pub silences: usize,
}

/// A catalogue, as it was last read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Its name.
    pub name: String,
    /// Its kind, in the configuration's words.
    pub kind: String,
    /// It is believed.
    pub trusted: bool,
    /// Why it is not, and what to do.
    pub reason: Option<String>,
    /// Since when it is not.
    pub since: Option<String>,
    /// A person can accept its new state.
    pub can_accept: bool,
    /// Its rows for trees of this guard, at the last reading that was believed; so are the next three.
    pub rows: u64,
    /// Rows of no tree of this guard, or of other media servers.
    pub foreign_rows: u64,
    /// Rows without a usable path.
    pub bad_rows: u64,
    /// Rows whose recordings a person wants kept.
    pub collect: u64,
    /// When it was last read and believed; `null` before the first time.
    pub read_at: Option<String>,
    /// Something else that a person should know.
    pub remark: Option<String>,
}

impl From<&CatalogueView> for Catalogue {
    fn from(view: &CatalogueView) -> Self {
        Self {
            name: view.name.to_string(),
            kind: view.kind.to_string(),
            trusted: view.distrust.is_none(),
            reason: view.distrust.as_ref().map(|why| why.sentence(&view.name)),
            since: view.since.filter(|_| view.distrust.is_some()).map(|at| at.to_string()),
            can_accept: view.distrust.as_ref().is_some_and(Distrust::acceptable),
            rows: view.counts.rows,
            foreign_rows: view.counts.foreign,
            bad_rows: view.counts.bad,
            collect: view.counts.collect,
            read_at: view.read_at.map(|at| at.to_string()),
            remark: view.remark.clone(),
        }
    }
}

/// One of `GET /api/v1/channels`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Its kind, in the configuration's words.
    pub kind: String,
    /// `working`, `failing`, or `unknown` while nothing was sent.
    pub state: String,
    /// Since when it works or fails.
    pub since: Option<String>,
    /// Messages that wait.
    pub queued: usize,
    /// How long the oldest of them has been waiting.
    pub oldest_seconds: u64,
    /// Why the last send failed, if it did.
    pub last_error: Option<String>,
    /// Messages that were given up since the guard was started.
    pub dropped: u64,
    /// The last five of them, the newest first; also those of before.
    pub last_dropped: Vec<DroppedMessage>,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DroppedMessage {
    /// When it was made.
    pub time: String,
    /// Of which alert.
    pub alert: String,
    /// The tree, volume or catalogue that it is about.
    pub labels: BTreeMap<String, String>,
    /// `firing` or `resolved`.
    pub state: String,
    /// Why it was given up.
    pub error: String,
}

/// One volume of a status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its mount point.
    pub path: String,
    /// Filesystem type.
    pub filesystem: String,
    /// All bytes; `null` while it is blind.
    pub size_bytes: Option<u64>,
    /// What an unprivileged writer has.
    pub available_bytes: Option<u64>,
    /// Used, as `df` shows it: a ratio from 0 to 1.
    pub used_ratio: Option<f64>,
    /// Inodes in all.
    pub inodes: Option<u64>,
    /// Free inodes.
    pub inodes_free: Option<u64>,
    /// `normal`, `reclaiming`, `exhausted` or `blind`.
    pub pressure: String,
    /// Since when; `null` when normal.
    pub since: Option<String>,
    /// Why it is blind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind_because: Option<String>,
    /// Reclaiming starts below so many available bytes.
    pub high_bytes: Option<u64>,
    /// It ends there.
    pub low_bytes: Option<u64>,
    /// The next steps are allowed below.
    pub critical_bytes: Option<u64>,
    /// What its trees record in a second.
    pub inflow_bytes_per_second: u64,
    /// From the inflow; `null` if never.
    pub seconds_until_full: Option<u64>,
    /// What its streams are promised, and what of that fits; absent where nothing is promised, and until that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promises: Option<Promises>,
    /// A run is being carried out since.
    pub running_since: Option<String>,
    /// The last run.
    pub last_run: Option<Run>,
    /// Why no run begins for pressure, though one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_because: Option<String>,
    /// What of the deficit is not ours to give back, because others filled the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_deficit_bytes: Option<u64>,
    /// The largest directories that are in no tree, as far as they were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_directories: Vec<Directory>,
    /// When a probe file was last written and deleted, to see whether deleting gives space back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_at: Option<String>,
    /// What was wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_problem: Option<String>,
    /// What a person should know before trusting this filesystem.
    pub traps: Vec<String>,
    /// Calls that the kernel lacks, and that others stand in for: `openat2`, `statx`, `renameat2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
}

/// A directory and what it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    /// Its path.
    pub path: String,
    /// Allocated bytes in it and below.
    pub bytes: u64,
}

impl Directory {
    fn of((path, bytes): &(String, crate::domain::units::Bytes)) -> Self {
        Self { path: path.clone(), bytes: bytes.0 }
    }
}

/// The last run of a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When it ended.
    pub finished: String,
    /// How.
    pub result: String,
    /// Why, in words.
    pub why: String,
    /// How long it took.
    pub seconds: u64,
    /// What was verified as deleted.
    pub deleted: Tally,
    /// What came back, as measured.
    pub reclaimed_bytes: u64,
}

/// One tree of a status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Its name.
    pub name: String,
    /// Its volume's name.
    pub volume: String,
    /// Its path.
    pub path: String,
    /// `observe` or `enforce`.
    pub mode: String,
    /// The layout that is used.
    pub layout: String,
    /// Why, if `auto` picked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout_because: Option<String>,
    /// Recordings.
    pub files: u64,
    /// Their allocated bytes.
    pub bytes: u64,
    /// How many streams they belong to.
    pub streams: usize,
    /// The largest ten of them.
    pub largest_streams: Vec<Stream>,
    /// The catalogues that it names.
    #[serde(default)]
    pub catalogues: Vec<String>,
    /// Recordings that are proven to be in no catalogue; `null` without a catalogue, and until one that can prove it was compared.
    pub orphans: Option<Tally>,
    /// Recordings that no catalogue knows, without proof.
    #[serde(default)]
    pub unproven: Tally,
    /// Files that are set aside as orphans.
    #[serde(default)]
    pub quarantined: Tally,
    /// Unfinished files that nobody touches any more.
    pub leftovers: Tally,
    /// Unfinished files that may still be written.
    pub in_progress: Tally,
    /// Catalogue entries without a file, those that were deleted here not counted.
    pub missing: u64,
    /// Chosen recordings whose space did not come back.
    pub unreclaimed: Tally,
    /// What the layout does not know and nobody touches.
    pub unrecognised: Tally,
    /// What is set aside and waits to be settled.
    pub set_aside: Tally,
    /// Directories on which something else is mounted; never entered.
    pub mounts: Vec<String>,
    /// Symbolic links; never followed.
    pub symlinks: u64,
    /// Pipes, sockets, devices.
    pub special: u64,
    /// Recorded in a second.
    pub inflow_bytes_per_second: u64,
    /// The oldest recording.
    pub oldest: Option<String>,
    /// The newest recording.
    pub newest: Option<String>,
    /// End of the last scan; `null` before the first.
    pub last_scan: Option<String>,
    /// Everything could be read.
    pub complete: bool,
    /// What could not, the first twenty.
    pub problems: Vec<String>,
    /// Why nothing is deleted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// One stream of a tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name.
    pub stream: String,
    /// Its recordings.
    pub files: u64,
    /// Their allocated bytes.
    pub bytes: u64,
}

/// Files and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub files: u64,
    /// Allocated bytes.
    pub bytes: u64,
}

impl From<DomainTally> for Tally {
    fn from(tally: DomainTally) -> Self {
        Self { files: tally.files, bytes: tally.bytes.0 }
    }
}

impl Status {
    /// The status of these volumes, catalogues and media servers.
    #[must_use]
    pub fn of(
        volumes: &[VolumeView],
        catalogues: &[CatalogueView],
        media: &[MediaServerView],
        history: &History,
    ) -> Self {
        let mode = if volumes.iter().any(VolumeView::enforces) { Mode::Enforce } else { Mode::Observe };
        let trees = volumes
            .iter()
            .flat_map(|volume| volume.trees.iter().map(|tree| Tree::of(&volume.name.to_string(), tree, history)));
        Self {
            mode: mode.as_str().to_owned(),
            delivery_failing_since: None,
            volumes: volumes.iter().map(Volume::of).collect(),
            trees: trees.collect(),
            catalogues: catalogues.iter().map(Catalogue::from).collect(),
            archives: Vec::new(),
            media_servers: media.iter().map(|server| MediaServer::of(server, history)).collect(),
            relays: Vec::new(),
            alerts: None,
        }
    }
}

impl Volume {
    fn of(volume: &VolumeView) -> Self {
        let space = volume.reading.as_ref().ok().map(|reading| reading.space);
        let marks = space.map(|space| volume.marks.thresholds(&space));
        let until = space.and_then(|space| until_full(space.available, volume.inflow()));
        Self {
            name: volume.name.to_string(),
            path: volume.traits.mount_point.clone(),
            filesystem: volume.traits.kind.clone(),
            size_bytes: space.map(|s| s.size.0),
            available_bytes: space.map(|s| s.available.0),
            used_ratio: space.map(|s| ratio(s.used().0, s.usable().0)),
            inodes: space.map(|s| s.inodes),
            inodes_free: space.map(|s| s.inodes_free),
            pressure: volume.pressure.as_str().to_owned(),
            since: volume.pressure.since().map(|at| at.to_string()),
            blind_because: match &volume.pressure {
                Pressure::Blind { why, .. } => Some(why.to_string()),
                Pressure::Normal | Pressure::Reclaiming { .. } | Pressure::Exhausted { .. } => None,
            },
            high_bytes: marks.map(|m| m.high.0),
            low_bytes: marks.map(|m| m.low.0),
            critical_bytes: marks.map(|m| m.critical.0),
            inflow_bytes_per_second: volume.inflow().0,
            seconds_until_full: until.map(|span| span.as_secs()),
            promises: volume.promises().map(Into::into),
            running_since: volume.running.map(|at| at.to_string()),
            last_run: volume.last_run.as_ref().map(|run| Run {
                finished: run.at.to_string(),
                result: run.result.to_string(),
                why: run.why.to_string(),
                seconds: run.took.as_secs(),
                deleted: run.deleted.into(),
                reclaimed_bytes: run.reclaimed.0,
            }),
            stalled_because: volume.stalled.as_ref().map(|stall| stall.why.to_string()),
            fallbacks: volume.traits.fallbacks.iter().map(|call| (*call).to_owned()).collect(),
            foreign_deficit_bytes: volume.foreign.as_ref().map(|foreign| foreign.bytes.0),
            foreign_directories: volume
                .foreign
                .iter()
                .flat_map(|foreign| &foreign.largest)
                .map(Directory::of)
                .collect(),
            canary_at: volume.canary.as_ref().map(|(at, _)| at.to_string()),
            canary_problem: volume.canary.as_ref().and_then(|(_, wrong)| wrong.as_ref().map(ToString::to_string)),
            traps: volume.traps(),
        }
    }
}

impl Tree {
    fn of(volume: &str, tree: &TreeView, history: &History) -> Self {
        let survey = &tree.survey;
        let over = &tree.inventory.passed_over;
        let held = tree.recordings();
        let mut streams: Vec<_> = survey.streams.iter().collect();
        streams.sort_by_key(|stream| std::cmp::Reverse(stream.recordings.bytes));
        let largest = streams.iter().take(LARGEST).map(|stream| Stream {
            stream: stream.name.to_string(),
            files: stream.recordings.files,
            bytes: stream.recordings.bytes.0,
        });
        let mut unreclaimed = DomainTally::default();
        let name = &tree.policy.tree;
        history.failures.values().filter(|f| f.target.tree == *name).for_each(|f| unreclaimed.add(f.target.bytes));
        history.held.values().filter(|h| h.target.tree == *name).for_each(|h| unreclaimed.add(h.bytes));
        history.shared.get(name).into_iter().for_each(|shared| unreclaimed.merge(*shared));
        Self {
            name: name.to_string(),
            volume: volume.to_owned(),
            path: tree.path.clone(),
            mode: tree.policy.mode.as_str().to_owned(),
            layout: tree.policy.layout.name().to_owned(),
            layout_because: tree.pick.as_ref().map(|pick| pick.why.clone()),
            files: held.files,
            bytes: held.bytes.0,
            streams: survey.streams.len(),
            largest_streams: largest.collect(),
            catalogues: tree.policy.catalogues.iter().map(ToString::to_string).collect(),
            orphans: tree.orphans.uncatalogued.map(Into::into),
            unproven: tree.orphans.unproven.into(),
            quarantined: tree.orphans.quarantined.into(),
            leftovers: tree.leftovers().into(),
            in_progress: survey.in_progress.into(),
            missing: tree.orphans.missing,
            unreclaimed: unreclaimed.into(),
            unrecognised: over.unrecognised.into(),
            set_aside: unsettled(over.set_aside, tree.orphans.quarantined).into(),
            mounts: over.mounts.iter().map(|mount| mount.show().0).collect(),
            symlinks: over.symlinks,
            special: over.special,
            inflow_bytes_per_second: survey.inflow.0,
            oldest: survey.oldest.map(|at| at.to_string()),
            newest: survey.newest.map(|at| at.to_string()),
            last_scan: (tree.inventory.directories > 0).then(|| tree.inventory.finished.to_string()),
            complete: tree.inventory.complete(),
            problems: tree.inventory.problems.iter().map(problem).collect(),
            fault: tree.fault.as_ref().map(ToString::to_string),
        }
    }
}

/// How many streams of a tree are named.
const LARGEST: usize = 10;

/// What is set aside and not in quarantine. A directory entry may cost more than the file's own blocks, so files decide.
fn unsettled(all: DomainTally, quarantined: DomainTally) -> DomainTally {
    match all.files.saturating_sub(quarantined.files) {
        0 => DomainTally::default(),
        files => DomainTally { files, bytes: all.bytes.saturating_sub(quarantined.bytes) },
    }
}

/// One place that could not be read, in words.
fn problem(problem: &ScanProblem) -> String {
    match &problem.path {
        Some(path) => format!("`{}`: {}", path.show().0, problem.error),
        None => format!("the top: {}", problem.error),
    }
}

/// To show.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// A path, and whether `%XX` stands in it for what JSON cannot hold or a terminal should not see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The path.
    pub path: String,
    /// Present and true if it is encoded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encoded: bool,
}

impl From<&RelPath> for Path {
    fn from(path: &RelPath) -> Self {
        let (path, encoded) = path.show();
        Self { path, encoded }
    }
}

#[cfg(test)]
#[path = "shapes_tests.rs"]
mod tests;
