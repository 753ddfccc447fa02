//! Which recordings of one volume go, in which order and why; what is spared and why; the shortfall.
//!
//! The order, as `docs/architecture.md` tells it:
//! 1. what is past its stream's retention (age, bytes, count);
//! 2. under pressure, or in a tree above its budget: everything beyond its stream's `keep`, lowest priority first, furthest
//!    beyond first (without `keep`: oldest first); `candidates` says more of this order;
//! 3. only when that is used up and the volume is critical: what is below `keep`, lowest priority first, oldest first.
//!
//! Never: unfinished, being written, protected, held, young, linked, unrecognised. From pressure also: the newest of a stream that is
//! live or wrote within a day, and what would give nothing back, because snapshots or copies share its blocks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::archive::{ArchivedOf, Cold};
use super::candidates::{Candidate, Chosen, arrange};
use super::clock_watch::Moment;
use super::deletion::{RuleKind, SparedReason, Target};
use super::hold::{Holds, reach_of};
use super::live::LiveStreams;
use super::names::{TreeId, VolumeId};
use super::path::RelPath;
use super::path_set::PathSet;
use super::pressure::Deficit;
use super::recording::{FileIndex, Gone, Inventory, Kind, Recording, Tally};
use super::retention::{Rule, TreePolicy};
use super::units::{Bytes, Percent, show_duration};

/// A stream that wrote within this span keeps its newest recording under pressure.
const LIVELY: Duration = Duration::from_secs(86_400);
/// How many candidates `next` names.
const NEXT: usize = 100;
/// A budget's low mark, of the budget.
const BUDGET_LOW: Percent = Percent::new(95);

/// One tree, as the planner needs it.
#[derive(Debug, Clone)]
pub struct TreeFacts {
    /// Its rules.
    pub policy: Arc<TreePolicy>,
    /// What the last scan found.
    pub inventory: Arc<Inventory>,
    /// What has gone since.
    pub gone: Gone,
    /// Persons' holds.
    pub holds: Arc<Holds>,
    /// Found open when last looked at; they are tried again by themselves.
    pub open: HashSet<FileIndex>,
    /// Left out of plans for now: their deletion failed and is tried again by itself, or the door kept them and the next scan
    /// will say why.
    pub waiting: HashSet<FileIndex>,
    /// Bytes that snapshots or reflink copies share, of the files that were asked and share any.
    pub shared: HashMap<FileIndex, Bytes>,
    /// What its platforms protect.
    pub favourites: Arc<PathSet>,
    /// Streams that are live, as media servers say.
    pub live: Arc<LiveStreams>,
    /// Which finished files may be being written for that.
    pub writing: Arc<HashSet<FileIndex>>,
    /// Which of its recordings have a verified copy.
    pub archived: Arc<ArchivedOf>,
    /// A cap does not let recordings go for having one.
    pub copies_stay: bool,
    /// Of a directory of copies: those whose recordings are still where they were copied from.
    pub awaited: Arc<HashSet<RelPath>>,
}

impl TreeFacts {
    /// What the volume gets back for a file. Less than a tenth is nothing: it is worth no recording.
    #[must_use]
    pub fn gives_back(&self, seen: &Recording) -> Bytes {
        let shared = self.shared.get(&seen.index).copied().unwrap_or_default();
        let back = seen.bytes.saturating_sub(shared);
        if back < seen.bytes.scaled(1, 10) { Bytes::ZERO } else { back }
    }

    /// How a recording stands to the tree's archive.
    #[must_use]
    pub fn cold(&self, seen: &Recording, moment: &Moment) -> Cold {
        self.policy.archive.as_ref().map_or(Cold::Unneeded, |terms| terms.stand(seen, &self.archived, moment))
    }
}

/// One recording that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanItem {
    /// Index of its tree in [`Plan::trees`].
    pub tree: usize,
    /// The file.
    pub file: FileIndex,
    /// The rule that chose it.
    pub rule: RuleKind,
}

/// A recording that is to be copied to its tree's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToArchive {
    /// Index of its tree in [`Plan::trees`].
    pub tree: usize,
    /// The file.
    pub file: FileIndex,
    /// Pressure, or retention, waits for the copy; else it is only old enough.
    pub urgent: bool,
}

/// What is spared for one reason in one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spared {
    /// The tree.
    pub tree: TreeId,
    /// The reason.
    pub reason: SparedReason,
    /// How much.
    pub tally: Tally,
}

impl Spared {
    /// What is spared for one reason in all trees.
    #[must_use]
    pub fn sum(all: &[Self], reason: SparedReason) -> Tally {
        let mut sum = Tally::default();
        all.iter().filter(|spared| spared.reason == reason).for_each(|spared| sum.merge(spared.tally));
        sum
    }
}

/// A plan for one volume.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The volume.
    pub volume: VolumeId,
    /// Names this exact list of items.
    pub id: String,
    /// When it was made.
    pub made: Moment,
    /// What was to be given back.
    pub target: Deficit,
    /// What goes, in this order.
    pub items: Vec<PlanItem>,
    /// What would go first, at any pressure.
    pub next: Vec<PlanItem>,
    /// What is to be copied first, in this order.
    pub to_archive: Vec<ToArchive>,
    /// What is spared, by tree and reason.
    pub spared: Vec<Spared>,
    /// What of the target cannot be given back.
    pub shortfall: Deficit,
    /// The trees that the items' indices speak of.
    pub trees: Vec<TreeFacts>,
}

/// Plans for one volume. While the clock is not trusted nothing goes because of its age, and what may be young is young.
#[must_use]
pub fn plan(volume: &VolumeId, trees: Vec<TreeFacts>, target: Deficit, moment: &Moment) -> Plan {
    let mut sorted = Sorted::default();
    for (index, tree) in trees.iter().enumerate() {
        consider(index, tree, moment, &mut sorted);
    }
    let Sorted { mut items, mut candidates, mut spared, mut to_archive } = sorted;
    let mut going: Chosen = items.iter().map(|item| (item.tree, item.file)).collect();
    arrange(&trees, &going, &mut candidates, moment);
    let item = |c: &Candidate, rule| PlanItem { tree: c.tree, file: c.file, rule };
    let next = candidates.iter().filter(|c| !c.useless()).take(NEXT).map(|c| item(c, c.rule())).collect();

    let mut still = target;
    for item in &items {
        let tree = &trees[item.tree];
        let seen = tree.inventory.get(item.file);
        still.bytes = still.bytes.saturating_sub(tree.gives_back(&seen));
        still.inodes = still.inodes.saturating_sub(seen.tally().files);
    }
    let mut take = |candidate: &Candidate, rule, still: &mut Deficit| {
        still.bytes = still.bytes.saturating_sub(candidate.back);
        still.inodes = still.inodes.saturating_sub(candidate.held.files);
        items.push(item(candidate, rule));
    };
    let for_retention = going.len();
    for (index, tree) in trees.iter().enumerate() {
        let mut over = over_budget(index, tree, &going);
        for candidate in candidates.iter().filter(|c| c.tree == index && !c.below_keep) {
            if over == Bytes::ZERO {
                break;
            }
            over = over.saturating_sub(candidate.held.bytes);
            if candidate.unarchived {
                to_archive.push(candidate.to_archive(true));
                continue;
            }
            take(candidate, RuleKind::Budget, &mut still);
            going.insert((index, candidate.file));
        }
    }
    // What copies have, and what streams hold, is less by what budgets take.
    if going.len() > for_retention {
        candidates.retain(|c| !going.contains(&(c.tree, c.file)));
        arrange(&trees, &going, &mut candidates, moment);
    }
    // What copies that are still to be made will give back.
    let mut promised = Deficit::default();
    for candidate in &candidates {
        let spare = |spared: &mut SparedTally, reason| spare(spared, &trees[candidate.tree], reason, candidate.held);
        // It is worth deleting for its inode alone.
        if candidate.useless() && still.inodes == 0 {
            spare(&mut spared, SparedReason::Shared);
        } else if still.is_zero() || ((candidate.below_keep || candidate.unarchived) && !target.critical) {
            let enough = promised.bytes >= still.bytes && promised.inodes >= still.inodes;
            if candidate.below_keep {
                spare(&mut spared, SparedReason::Keep);
            } else if candidate.unarchived && !enough {
                spare(&mut spared, SparedReason::ArchivePending);
                to_archive.push(candidate.to_archive(true));
                promised.bytes = promised.bytes.saturating_add(candidate.back);
                promised.inodes = promised.inodes.saturating_add(candidate.held.files);
            } else if candidate.due {
                spare(&mut spared, SparedReason::ArchivePending);
            }
        } else {
            take(candidate, candidate.rule(), &mut still);
        }
    }
    let id = identify(volume, &trees, &items);
    let to_archive = urgent_first(to_archive, &items);
    let spared = spared.into_iter().map(|((tree, reason), tally)| Spared { tree, reason, tally }).collect();
    Plan { volume: volume.clone(), id, made: *moment, target, items, next, to_archive, spared, shortfall: still, trees }
}

type SparedTally = BTreeMap<(TreeId, SparedReason), Tally>;

/// The recordings of all trees, sorted by what is to become of them.
#[derive(Default)]
struct Sorted {
    items: Vec<PlanItem>,
    candidates: Vec<Candidate>,
    spared: SparedTally,
    to_archive: Vec<ToArchive>,
}

/// What pressure or retention waits for is copied first; each once, and nothing that goes without a copy.
fn urgent_first(mut all: Vec<ToArchive>, items: &[PlanItem]) -> Vec<ToArchive> {
    all.sort_by_key(|one| !one.urgent);
    let mut seen: Chosen = items.iter().map(|item| (item.tree, item.file)).collect();
    all.retain(|one| seen.insert((one.tree, one.file)));
    all
}

fn spare(spared: &mut SparedTally, tree: &TreeFacts, reason: SparedReason, what: Tally) {
    spared.entry((tree.policy.tree.clone(), reason)).or_default().merge(what);
}

/// Sorts one tree's recordings into spared, past retention, to be copied, and candidates for pressure.
fn consider(index: usize, tree: &TreeFacts, moment: &Moment, sorted: &mut Sorted) {
    let inventory = &tree.inventory;
    let rules: Vec<Option<&Rule>> =
        inventory.streams().iter().map(|s| tree.policy.rule_of(s).map(|(_, rule)| rule)).collect();
    let newest = newest_of_each(tree, moment);
    let unrecognised = inventory.passed_over.unrecognised;
    if unrecognised.files > 0 {
        spare(&mut sorted.spared, tree, SparedReason::Unrecognised, unrecognised);
    }
    let mut by_stream: Vec<Vec<Recording>> = vec![Vec::new(); inventory.streams().len()];
    for seen in inventory.files().filter(|r| !tree.gone.contains(r.index) && !tree.waiting.contains(&r.index)) {
        match spared_because(tree, &seen, moment) {
            Some(reason) => spare(&mut sorted.spared, tree, reason, seen.tally()),
            None => by_stream[seen.stream.0 as usize].push(seen),
        }
    }
    for (stream, mut recordings) in by_stream.into_iter().enumerate() {
        recordings.sort_unstable_by_key(|r| (r.recorded(), r.index));
        let rule = rules[stream];
        // Who had something brought back wants to see it: only pressure takes it.
        let lately = |seen: &Recording| matches!(tree.cold(seen, moment), Cold::Restored | Cold::RestoredUnsure);
        let aged = recordings.iter().filter(|seen| !lately(seen));
        let past = rule.map(|rule| past_retention(rule, aged, moment)).unwrap_or_default();
        for seen in &recordings {
            let cold = tree.cold(seen, moment);
            let (past, newest) = (past.get(&seen.index), newest[stream] == Some(seen.index));
            match (past, cold) {
                (Some(_), Cold::Due | Cold::Young) => {
                    spare(&mut sorted.spared, tree, SparedReason::ArchivePending, seen.tally());
                    sorted.to_archive.push(ToArchive { tree: index, file: seen.index, urgent: true });
                }
                (_, Cold::Copied) if !newest && !tree.copies_stay => {
                    sorted.items.push(PlanItem { tree: index, file: seen.index, rule: RuleKind::Archived });
                    continue;
                }
                (Some(rule), Cold::Unneeded | Cold::Copied | Cold::Restored | Cold::RestoredUnsure) => {
                    sorted.items.push(PlanItem { tree: index, file: seen.index, rule: *rule });
                    continue;
                }
                (None, Cold::Due) if !newest => {
                    sorted.to_archive.push(ToArchive { tree: index, file: seen.index, urgent: false });
                }
                (
                    None,
                    Cold::Unneeded | Cold::Copied | Cold::Restored | Cold::RestoredUnsure | Cold::Due | Cold::Young,
                ) => {}
            }
            if newest {
                spare(&mut sorted.spared, tree, SparedReason::Newest, seen.tally());
                continue;
            }
            let age = moment.age(seen.recorded());
            let keep = rule.map_or(Duration::ZERO, |rule| rule.keep);
            sorted.candidates.push(Candidate {
                tree: index,
                file: seen.index,
                stream: seen.stream,
                recorded: seen.recorded(),
                held: seen.tally(),
                back: tree.gives_back(seen),
                priority: rule.map_or(0, |rule| rule.priority),
                beyond: age.saturating_sub(keep),
                below_keep: age < keep,
                unarchived: matches!(cold, Cold::Due | Cold::Young | Cold::RestoredUnsure),
                due: cold == Cold::Due && past.is_none(),
                duplicate: false,
                loud: false,
            });
        }
    }
}

/// Promise 3: why a recording may not go whatever the pressure, if so.
pub(super) fn spared_because(tree: &TreeFacts, seen: &Recording, moment: &Moment) -> Option<SparedReason> {
    let policy = &tree.policy;
    if seen.kind == Kind::Unfinished {
        return Some(SparedReason::Live);
    }
    // What lies in the future is as young as can be.
    if moment.age(seen.touched()) < policy.min_age || seen.touched() > moment.latest {
        return Some(SparedReason::Young);
    }
    if tree.writing.contains(&seen.index) {
        return Some(SparedReason::Live);
    }
    if seen.linked {
        return Some(SparedReason::Linked);
    }
    let unit = tree.inventory.unit(seen.index);
    // What could not be read may be anything.
    if unit.is_some_and(|unit| unit.partial) {
        return Some(SparedReason::Unrecognised);
    }
    if tree.open.contains(&seen.index) {
        return Some(SparedReason::Open);
    }
    if unit.is_some_and(|unit| unit.protected) {
        return Some(SparedReason::Protected);
    }
    if policy.protect.is_empty() && tree.favourites.is_empty() && tree.holds.is_empty() && tree.awaited.is_empty() {
        return None;
    }
    let path = tree.inventory.path(seen.index);
    // Its recording is about to go for having this copy.
    if tree.awaited.contains(&path) {
        return Some(SparedReason::ArchivePending);
    }
    if policy.protects(&path, &tree.favourites) {
        return Some(SparedReason::Protected);
    }
    held(tree, seen, &path, moment).then_some(SparedReason::Hold)
}

/// A person holds it, by its name, for a file in it, or for when it was recorded.
fn held(tree: &TreeFacts, seen: &Recording, path: &RelPath, moment: &Moment) -> bool {
    let holds = &tree.holds;
    let stream = tree.inventory.stream(seen.stream);
    let reach = reach_of(&tree.inventory, seen);
    holds.naming(path).chain(holds.spanning(stream, reach)).any(|hold| hold.in_effect(moment.earliest))
}

/// Which of these files of the tree, by inode and fingerprint, today's rules spare though they were chosen before, and why, as far as the
/// last scan knows them; that one is open or waits is no reason here. A segment is spared with its day. One pass for all of them.
#[must_use]
pub fn spared_now(tree: &TreeFacts, targets: &[&Target], moment: &Moment) -> HashMap<(u64, u64), SparedReason> {
    let key = |target: &Target| (target.inode, target.fingerprint);
    let files: HashSet<(u64, u64)> = targets.iter().map(|target| key(target)).collect();
    let spared = |seen: &Recording| match spared_because(tree, seen, moment)? {
        SparedReason::Open | SparedReason::Linked => None,
        why @ (SparedReason::Protected
        | SparedReason::Hold
        | SparedReason::Young
        | SparedReason::Live
        | SparedReason::Newest
        | SparedReason::Keep
        | SparedReason::Unrecognised
        | SparedReason::Quarantined
        | SparedReason::Shared
        | SparedReason::ArchivePending) => Some(why),
    };
    let known = tree.inventory.files().filter(|seen| files.contains(&(seen.inode, seen.fingerprint)));
    let mut out: HashMap<_, _> =
        known.filter_map(|seen| Some(((seen.inode, seen.fingerprint), spared(&seen)?))).collect();
    let units = tree.inventory.units().map(|unit| tree.inventory.get(unit));
    let units: HashMap<RelPath, SparedReason> =
        units.filter_map(|unit| Some((tree.inventory.path(unit.index), spared(&unit)?))).collect();
    if !units.is_empty() {
        let of_unit = |target: &Target| units.get(&tree.policy.layout.unit_of(&target.path)?).copied();
        out.extend(targets.iter().filter_map(|target| Some((key(target), of_unit(target)?))));
    }
    out
}

/// The newest recording of each stream that is live or wrote within a day.
pub(super) fn newest_of_each(tree: &TreeFacts, moment: &Moment) -> Vec<Option<FileIndex>> {
    let mut newest: Vec<Option<Recording>> = vec![None; tree.inventory.streams().len()];
    for seen in tree.inventory.files().filter(|r| !tree.gone.contains(r.index)) {
        let best = &mut newest[seen.stream.0 as usize];
        if seen.kind == Kind::Recording && best.is_none_or(|b| (b.recorded(), b.index) < (seen.recorded(), seen.index))
        {
            *best = Some(seen);
        }
    }
    let live = |seen: &Recording| {
        moment.age(seen.touched()) <= LIVELY || tree.live.of_stream(tree.inventory.stream(seen.stream)).is_some()
    };
    newest.into_iter().map(|best| best.filter(live).map(|b| b.index)).collect()
}

/// What of a stream's recordings, the oldest first, is past the rule's retention, and for which of its limits.
fn past_retention<'a>(
    rule: &Rule,
    recordings: impl Iterator<Item = &'a Recording> + Clone,
    moment: &Moment,
) -> HashMap<FileIndex, RuleKind> {
    let mut out = HashMap::new();
    let mut bytes: Bytes = recordings.clone().map(|r| r.bytes).sum();
    let mut files: u64 = recordings.clone().map(|r| u64::from(r.files)).sum();
    for seen in recordings {
        let old = rule.max_age.is_some_and(|max| moment.now.since(seen.recorded()) > max);
        let kind = if moment.trusted && old && !seen.ages_disagree() {
            RuleKind::MaxAge
        } else if rule.max_bytes.is_some_and(|max| bytes > max) {
            RuleKind::MaxBytes
        } else if rule.max_files.is_some_and(|max| files > max) {
            RuleKind::MaxFiles
        } else {
            break;
        };
        out.insert(seen.index, kind);
        bytes = bytes.saturating_sub(seen.bytes);
        files = files.saturating_sub(u64::from(seen.files));
    }
    out
}

/// By how much a tree exceeds its budget's low mark, once it exceeds the budget.
fn over_budget(index: usize, tree: &TreeFacts, going: &Chosen) -> Bytes {
    let Some(budget) = tree.policy.budget else { return Bytes::ZERO };
    let stays = |seen: &Recording| !tree.gone.contains(seen.index) && !going.contains(&(index, seen.index));
    let held: Bytes = tree.inventory.files().filter(stays).map(|seen| seen.bytes).sum();
    if held > budget { held.saturating_sub(BUDGET_LOW.of(budget)) } else { Bytes::ZERO }
}

/// A name for exactly these items, in this order.
pub(super) fn identify(volume: &VolumeId, trees: &[TreeFacts], items: &[PlanItem]) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |value: u64| {
        state = (state ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        state ^= state >> 29;
    };
    volume.as_str().bytes().for_each(|byte| mix(u64::from(byte)));
    for item in items {
        let seen = trees[item.tree].inventory.get(item.file);
        for value in [item.tree as u64, seen.inode, seen.fingerprint, item.rule as u64] {
            mix(value);
        }
    }
    mix(items.len() as u64);
    format!("{state:016x}")
}

impl Plan {
    /// Leaves only the first of its items.
    pub fn keep_first(&mut self, count: usize) {
        if count < self.items.len() {
            self.items.truncate(count);
            self.id = identify(&self.volume, &self.trees, &self.items);
        }
    }

    /// The target of an item, as the door needs it.
    #[must_use]
    pub fn target_of(&self, item: &PlanItem) -> Target {
        let tree = &self.trees[item.tree];
        let seen = self.recording(item);
        let stream = tree.inventory.stream(seen.stream).as_str();
        Target::of(&tree.policy.tree, self.path(item), stream, &seen, item.rule, self.reason(item))
    }

    /// Allocated bytes of all items.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.items.iter().map(|item| self.recording(item).bytes).sum()
    }

    /// The recording that an item speaks of.
    #[must_use]
    pub fn recording(&self, item: &PlanItem) -> Recording {
        self.trees[item.tree].inventory.get(item.file)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self, item: &PlanItem) -> RelPath {
        self.trees[item.tree].inventory.path(item.file)
    }

    /// Why it goes, in words and numbers.
    #[must_use]
    pub fn reason(&self, item: &PlanItem) -> String {
        let tree = &self.trees[item.tree];
        let seen = self.recording(item);
        let stream = tree.inventory.stream(seen.stream);
        let age = show_duration(self.made.now.since(seen.recorded()));
        let rule = tree.policy.rule_of(stream);
        let pattern = rule.map_or("none", |(_, rule)| rule.stream.as_str());
        match item.rule {
            RuleKind::MaxAge => {
                let max = rule.and_then(|(_, r)| r.max_age).map(show_duration).unwrap_or_default();
                format!("{age} old; rule `{pattern}` keeps {max}")
            }
            RuleKind::MaxBytes => {
                let max = rule.and_then(|(_, r)| r.max_bytes).unwrap_or_default();
                format!("{age} old; rule `{pattern}` allows {max} a stream")
            }
            RuleKind::MaxFiles => {
                let max = rule.and_then(|(_, r)| r.max_files).unwrap_or_default();
                format!("{age} old; rule `{pattern}` allows {max} files a stream")
            }
            RuleKind::Budget => format!("{age} old; the tree is above its budget"),
            RuleKind::Pressure => match rule.map(|(_, r)| r.keep).filter(|keep| !keep.is_zero()) {
                Some(keep) => format!("{age} old, beyond the {} that rule `{pattern}` keeps", show_duration(keep)),
                None => format!("{age} old; nothing keeps its stream"),
            },
            RuleKind::StreamShare => {
                let share = rule.and_then(|(_, r)| r.stream_share).unwrap_or_default();
                format!("{age} old; its stream holds more than the {share} of its tree that rule `{pattern}` gives it")
            }
            RuleKind::Duplicate => format!("{age} old; MP4 recordings that go later, if at all, cover the same span"),
            RuleKind::Archived => match tree.archived.of(&seen) {
                Some(copy) => format!(
                    "{age} old; copied to archive `{}`, {} bytes, SHA-256 {}, verified {}",
                    copy.archive, copy.size, copy.digest, copy.verified
                ),
                None => format!("{age} old; copied to its archive"),
            },
            RuleKind::Unarchived if !self.target.critical => {
                format!("{age} old, and in no archive yet; it goes without a copy only beyond the critical mark")
            }
            RuleKind::Unarchived => {
                format!("{age} old and in no archive; the volume is critical and nothing that has a copy is left")
            }
            RuleKind::BelowKeep if !self.target.critical => {
                format!("{age} old, within what rule `{pattern}` keeps; it goes only beyond the critical mark")
            }
            RuleKind::BelowKeep => format!("{age} old; the volume is critical and nothing beyond `keep` is left"),
            // No plan chooses by these: they are verdicts and requests of their own.
            RuleKind::Requested | RuleKind::Orphan | RuleKind::Leftover | RuleKind::Quarantine => {
                "asked for".to_owned()
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_archive_tests.rs"]
mod archive_tests;
#[cfg(test)]
#[path = "plan_fairness_tests.rs"]
mod fairness_tests;
#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
#[cfg(test)]
#[path = "plan_units_tests.rs"]
mod units_tests;
