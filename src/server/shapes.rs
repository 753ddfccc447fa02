//! Shapes of the API's answers. Names and units are those of the contract; a `domain` type is never serialized itself.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::path::RelPath;
use crate::domain::plan::{Plan as DomainPlan, PlanItem as DomainItem};
use crate::domain::recording::Tally as DomainTally;

/// `GET /api/v1/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// `observe` or `enforce`.
    pub mode: &'static str,
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// The trees.
    pub trees: Vec<Tree>,
}

/// One volume of a status.
#[derive(Debug, Serialize)]
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
    /// Inodes in all.
    pub inodes: Option<u64>,
    /// Free inodes.
    pub inodes_free: Option<u64>,
    /// `normal`, `reclaiming`, `exhausted` or `blind`.
    pub pressure: &'static str,
    /// Why it is blind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind_because: Option<String>,
    /// From the inflow; `null` if never.
    pub seconds_until_full: Option<u64>,
    /// What a person should know before trusting this filesystem.
    pub traps: Vec<String>,
}

/// One tree of a status.
#[derive(Debug, Serialize)]
pub struct Tree {
    /// Its name.
    pub name: String,
    /// Its volume's name.
    pub volume: String,
    /// Its path.
    pub path: String,
    /// The layout that is used.
    pub layout: String,
    /// Recordings.
    pub files: u64,
    /// Their allocated bytes.
    pub bytes: u64,
    /// How many streams they belong to.
    pub streams: usize,
    /// Unfinished files that nobody touches any more.
    pub leftovers: Tally,
    /// What the layout does not know and nobody touches.
    pub unrecognised: Tally,
    /// Recorded in a second.
    pub inflow_bytes_per_second: u64,
    /// The oldest recording.
    pub oldest: Option<String>,
    /// The newest recording.
    pub newest: Option<String>,
    /// End of the last scan.
    pub last_scan: String,
    /// Everything could be read.
    pub complete: bool,
    /// What could not, the first twenty.
    pub problems: Vec<String>,
}

/// Files and bytes.
#[derive(Debug, Serialize)]
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

/// A list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// `GET /api/v1/plan?volume=`.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// Names this exact list.
    pub id: String,
    /// The volume.
    pub volume: String,
    /// What would go first, at any pressure.
    pub next: Vec<PlanItem>,
    /// What was to be given back.
    pub target_bytes: u64,
    /// What goes now.
    pub items: Vec<PlanItem>,
    /// What is spared.
    pub spared: Vec<Spared>,
    /// What of the target cannot be given back.
    pub shortfall_bytes: u64,
}

/// One recording of a plan.
#[derive(Debug, Serialize)]
pub struct PlanItem {
    /// Its tree.
    pub tree: String,
    /// Its path below the tree.
    #[serde(flatten)]
    pub path: Path,
    /// Its stream.
    pub stream: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// The rule that chose it.
    pub rule: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// A path, and whether `%XX` stands in it for what JSON cannot hold or a terminal should not see.
#[derive(Debug, Serialize)]
pub struct Path {
    /// The path.
    pub path: String,
    /// Present and true if it is encoded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub encoded: bool,
}

impl From<&RelPath> for Path {
    fn from(path: &RelPath) -> Self {
        let (path, encoded) = path.show();
        Self { path, encoded }
    }
}

/// What is spared for one reason.
#[derive(Debug, Serialize)]
pub struct Spared {
    /// The reason.
    pub reason: &'static str,
    /// How many.
    pub files: u64,
    /// Allocated bytes.
    pub bytes: u64,
}

impl From<&DomainPlan> for Plan {
    fn from(plan: &DomainPlan) -> Self {
        let item = |item: &DomainItem| {
            let seen = plan.recording(item);
            let tree = &plan.trees[item.tree];
            PlanItem {
                tree: tree.policy.tree.to_string(),
                path: Path::from(&plan.path(item)),
                stream: tree.inventory.stream(seen.stream).to_string(),
                bytes: seen.bytes.0,
                rule: item.rule.as_str(),
                reason: plan.reason(item),
            }
        };
        let mut spared: BTreeMap<_, DomainTally> = BTreeMap::new();
        for entry in &plan.spared {
            spared.entry(entry.reason).or_default().merge(entry.tally);
        }
        Self {
            id: plan.id.clone(),
            volume: plan.volume.to_string(),
            next: plan.next.iter().map(item).collect(),
            target_bytes: plan.target.bytes.0,
            items: plan.items.iter().map(item).collect(),
            spared: spared
                .into_iter()
                .map(|(reason, tally)| Spared { reason: reason.as_str(), files: tally.files, bytes: tally.bytes.0 })
                .collect(),
            shortfall_bytes: plan.shortfall.bytes.0,
        }
    }
}
