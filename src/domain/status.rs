//! What the guard knows now: of each volume, and of each tree on it.

use std::sync::Arc;
use std::time::Duration;

use super::canary::ProbeFault;
use super::clock_watch::Skew;
use super::deletion::{Cap, RunResult, SparedReason};
use super::ending::Ending;
use super::history::History;
use super::layout::Pick;
use super::limits::Allowance;
use super::names::{TreeId, VolumeId};
use super::orphan::OrphanTally;
use super::path_set::PathSet;
use super::plan::{Plan, Spared, TreeFacts, plan};
use super::pressure::{Deficit, Pressure};
use super::recording::{Inventory, Tally};
use super::retention::{Mode, TreePolicy};
use super::settings::Window;
use super::survey::Survey;
use super::units::{Bytes, Timestamp};
use super::volume::{FilesystemTraits, Marks, Reading, Unusable};

/// A volume as it was last seen.
#[derive(Debug, Clone)]
pub struct VolumeView {
    /// Its name: the mount point, unless configuration names it.
    pub name: VolumeId,
    /// What kind of filesystem it is.
    pub traits: FilesystemTraits,
    /// Its space, or why there is no reading.
    pub reading: Result<Reading, Unusable>,
    /// Its state against its marks.
    pub pressure: Pressure,
    /// The marks.
    pub marks: Marks,
    /// Its trees.
    pub trees: Vec<TreeView>,
    /// What a plan is made from; `None` while it is blind.
    pub basis: Option<PlanBasis>,
    /// What the last plan spared.
    pub spared: Arc<Vec<Spared>>,
    /// A run is being carried out since then.
    pub running: Option<Timestamp>,
    /// The last run.
    pub last_run: Option<RunSummary>,
    /// Deleted bytes did not come back, so that no run begins for pressure.
    pub stalled: Option<Stall>,
    /// What of the deficit others caused.
    pub foreign: Option<Foreign>,
    /// When the last probe file was written and deleted, and what was wrong.
    pub canary: Option<(Timestamp, Option<ProbeFault>)>,
    /// The clock is not trusted since then.
    pub clock_suspect: Option<Timestamp>,
}

/// What of a deficit is not ours to give back: it is shared by what grew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// So many bytes.
    pub bytes: Bytes,
    /// The largest directories that are no tree of ours, with their bytes, as far as they were found.
    pub largest: Vec<(String, Bytes)>,
    /// Every directory was looked at.
    pub complete: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// When.
    pub at: Timestamp,
    /// How.
    pub result: RunResult,
    /// Why.
    pub why: Ending,
    /// How long it took.
    pub took: Duration,
    /// What was verified as deleted.
    pub deleted: Tally,
    /// What came back.
    pub reclaimed: Bytes,
}

/// A stall: runs for pressure wait until space comes back, some hours have passed, or a person asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// Since when.
    pub since: Timestamp,
    /// Bytes that were available then.
    pub available: Bytes,
    /// Bytes that did not come back.
    pub missing: Bytes,
    /// Why.
    pub why: Ending,
}

/// How long a stall lasts at most before the guard tries again.
const STALL: Duration = Duration::from_secs(6 * 3600);

impl Stall {
    /// Space came back, or enough time has passed.
    #[must_use]
    pub fn over(&self, available: Bytes, now: Timestamp) -> bool {
        let risen = available.saturating_sub(self.available);
        risen > self.missing.scaled(1, 2).max(Bytes::MIB) || now.since(self.since) >= STALL
    }
}

/// A tree as it was last seen.
#[derive(Debug, Clone)]
pub struct TreeView {
    /// Its rules, with the layout that is used.
    pub policy: Arc<TreePolicy>,
    /// Its path.
    pub path: String,
    /// What `auto` made of it.
    pub pick: Option<Pick>,
    /// What the last scan found.
    pub inventory: Arc<Inventory>,
    /// The same at a glance.
    pub survey: Survey,
    /// What has gone since that scan.
    pub gone: Tally,
    /// The kernel gives this process no leases on its files, as far as it was asked.
    pub unleased: bool,
    /// Why the tree cannot be trusted now.
    pub fault: Option<Unusable>,
    /// What is known of its orphans.
    pub orphans: OrphanTally,
    /// Device and inode of its top, as the last scan found it.
    pub top: Option<(u64, u64)>,
    /// Recordings that persons want kept, once that is known.
    pub favourites: Option<Arc<PathSet>>,
}

impl TreeView {
    /// Unfinished files that nobody touches any more: as the last scan counts them by their names, or, where they are more, those that
    /// are proven, since no name tells of an empty file or of what a lost state left set aside.
    #[must_use]
    pub fn leftovers(&self) -> Tally {
        let (seen, proven) = (self.survey.leftovers, self.orphans.leftovers);
        if proven.files > seen.files { proven } else { seen }
    }

    /// Its recordings, less what has gone since the scan.
    #[must_use]
    pub fn recordings(&self) -> Tally {
        let all = self.survey.recordings;
        Tally { files: all.files.saturating_sub(self.gone.files), bytes: all.bytes.saturating_sub(self.gone.bytes) }
    }
}

impl VolumeView {
    /// What all its trees record in a second.
    #[must_use]
    pub fn inflow(&self) -> Bytes {
        self.trees.iter().map(|tree| tree.survey.inflow).sum()
    }

    /// What all its trees hold.
    #[must_use]
    pub fn held(&self) -> Bytes {
        self.trees.iter().map(|tree| tree.recordings().bytes).sum()
    }

    /// It was looked at whole: its trees were scanned, or it is known why not.
    #[must_use]
    pub fn seen(&self) -> bool {
        match &self.reading {
            Ok(_) => self.trees.iter().all(|tree| tree.inventory.directories > 0 || tree.fault.is_some()),
            Err(why) => *why != Unusable::NotYet,
        }
    }

    /// What would go now; `None` while it is blind.
    #[must_use]
    pub fn plan(&self, now: Timestamp) -> Option<Plan> {
        self.basis.as_ref().map(|basis| basis.plan(&self.name, now).0)
    }

    /// The same, with the caps that cut it.
    #[must_use]
    pub fn cut_plan(&self, now: Timestamp, history: &History) -> Option<(Plan, Vec<Cut>)> {
        let basis = self.basis.as_ref()?;
        let (plan, over) = basis.plan(&self.name, now);
        Some((plan, self.cuts(basis, over, history)))
    }

    /// The same of what the guard carries out by itself, which waits for windows.
    #[must_use]
    pub fn cut_plan_unasked(&self, now: Timestamp, history: &History) -> Option<(Plan, Vec<Cut>)> {
        let basis = self.basis.as_ref()?;
        let (plan, over) = basis.plan_unasked(&self.name, now);
        Some((plan, self.cuts(basis, over, history)))
    }

    fn cuts(&self, basis: &PlanBasis, over: Vec<(usize, Bytes)>, history: &History) -> Vec<Cut> {
        let cut = |(index, wanted): (usize, Bytes)| {
            let tree = basis.trees[index].policy.tree.clone();
            let tripped = history.caps.contains_key(&(tree.clone(), Cap::RunShare));
            Cut { tree, wanted, allowed: basis.allowances[index].pressure, tripped }
        };
        over.into_iter().map(cut).collect()
    }

    /// What a person should know before trusting a guard with it.
    #[must_use]
    pub fn traps(&self) -> Vec<String> {
        let mut out = self.traits.traps();
        let unleased = self.trees.iter().filter(|tree| tree.unleased && self.traits.leases);
        out.extend(unleased.map(|tree| {
            format!(
                "the kernel gives this process no leases in tree `{}`: whether a recording is open cannot be asked, so it goes only once it was seen unchanged twice, its `min_age` apart (files of other owners need CAP_LEASE)",
                tree.policy.tree
            )
        }));
        out
    }

    /// What the last plan spared for one reason.
    #[must_use]
    pub fn spared_as(&self, reason: SparedReason) -> Tally {
        Spared::sum(&self.spared, reason)
    }

    /// Whether any of its trees may be changed.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.trees.iter().any(|tree| tree.policy.mode == Mode::Enforce)
    }
}

/// The cap of a tree, where a plan goes beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The tree.
    pub tree: TreeId,
    /// Bytes that would go without it.
    pub wanted: Bytes,
    /// Bytes that it allows.
    pub allowed: Bytes,
    /// It tripped, and nobody has acknowledged it; else it trips when the plan is carried out.
    pub tripped: bool,
}

impl Cut {
    /// What it does, and what can be done about it.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { tree, wanted, allowed, tripped } = self;
        let acknowledge = format!("`storage-guard cap acknowledge {tree} {}`", Cap::RunShare);
        let what = format!("cap {} of tree {tree}: wanted {wanted}, allowed {allowed}", Cap::RunShare);
        if *tripped {
            format!("{what}; it tripped and waits for a person: if this plan is right, {acknowledge}")
        } else {
            format!("{what}; it trips when this plan is carried out, and then waits for {acknowledge}")
        }
    }
}

/// All that a plan is made from. The same basis gives the same plan, whoever asks.
#[derive(Debug, Clone)]
pub struct PlanBasis {
    /// The trees: those that may be changed, or, if there is none, all.
    pub trees: Vec<TreeFacts>,
    /// What is to be given back.
    pub target: Deficit,
    /// What the caps allow, by tree.
    pub allowances: Vec<Allowance>,
    /// How far the clock may be off.
    pub skew: Skew,
    /// Retention may be carried out: what persons want kept is known.
    pub retention: bool,
    /// Whether the guard may carry it out by itself now, by tree (`cleanup.window`).
    pub open: Vec<bool>,
    /// Runs that are not for pressure happen within it.
    pub window: Option<Window>,
}

impl PlanBasis {
    /// The plan as a person gets it, who waits for no window, and what was wanted beyond the caps, by index of the tree.
    #[must_use]
    pub fn plan(&self, volume: &VolumeId, now: Timestamp) -> (Plan, Vec<(usize, Bytes)>) {
        self.make(volume, now, &vec![true; self.trees.len()])
    }

    /// The plan that the guard carries out by itself: what retention chose in a tree waits for its window.
    #[must_use]
    pub fn plan_unasked(&self, volume: &VolumeId, now: Timestamp) -> (Plan, Vec<(usize, Bytes)>) {
        self.make(volume, now, &self.open)
    }

    fn make(&self, volume: &VolumeId, now: Timestamp, window: &[bool]) -> (Plan, Vec<(usize, Bytes)>) {
        let moment = self.skew.at(now);
        let mut plan = plan(volume, self.trees.clone(), self.target, &moment);
        // Where retention wants more than the cap allows, it gets nothing, and so do copies beyond what retention leaves of that; their
        // recordings are then as good for pressure as any.
        let wanted = plan.retention_bytes();
        let allowed = |tree: usize| self.allowances[tree].retention;
        let refused: Vec<(usize, bool)> = (0..wanted.len())
            .filter(|tree| wanted[*tree].0.saturating_add(wanted[*tree].1) > allowed(*tree))
            .map(|tree| (tree, wanted[tree].0 > allowed(tree)))
            .collect();
        if !refused.is_empty() {
            let mut trees = self.trees.clone();
            for (tree, retention) in &refused {
                let facts = &mut trees[*tree];
                facts.copies_stay = wanted[*tree].1
                    > if *retention { allowed(*tree) } else { allowed(*tree).saturating_sub(wanted[*tree].0) };
                if *retention {
                    let mut policy = facts.policy.as_ref().clone();
                    for rule in &mut policy.retention {
                        (rule.max_age, rule.max_bytes, rule.max_files) = (None, None, None);
                    }
                    facts.policy = Arc::new(policy);
                }
            }
            plan = self::plan(volume, trees, self.target, &moment);
        }
        plan.postpone_retention(|tree| !self.retention || !window[tree]);
        let mut over = plan.cap(&self.allowances);
        for (tree, retention) in refused {
            let copied = if plan.trees[tree].copies_stay { wanted[tree].1 } else { Bytes::ZERO };
            let refused = if retention { copied.saturating_add(wanted[tree].0) } else { copied };
            match over.iter_mut().find(|(known, _)| *known == tree) {
                Some((_, bytes)) => *bytes = bytes.saturating_add(refused),
                None => over.push((tree, refused)),
            }
        }
        (plan, over)
    }
}
