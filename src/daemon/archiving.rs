//! What a volume's worker does for archives: it offers what is to be copied, and forgets copies whose recordings are gone.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::tree::{TreeWatch, marker_fault};
use super::volume::VolumeWorker;
use crate::archive::Wanted;
use crate::domain::archive::{ArchivedCopy, key_of};
use crate::domain::cause::chain;
use crate::domain::deletion::{Attempt, NO_COPY, RuleKind, Target};
use crate::domain::event::Event;
use crate::domain::layout::LayoutKind;
use crate::domain::names::{ArchiveId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::plan::Plan;
use crate::domain::recording::Tally;
use crate::domain::retention::{Mode, TreePolicy};
use crate::reclaim::{Proven, Settled};
use crate::store::ArchiveBook;
use crate::system::{Volumes, WritableDir};

/// So many recordings of a volume are offered to an archive at once; more follow once these are through.
const OFFERED: usize = 5000;
/// Verified copies let their sources go so often, where no pressure asks for it sooner.
const EVERY: Duration = Duration::from_secs(30);

/// What looks for copies right before their sources go.
pub(super) struct Proof {
    pub(super) machine: Arc<dyn Volumes>,
    /// Id of the state, as markers bear it.
    pub(super) state: Arc<str>,
}

impl Proof {
    /// Says of a target of a tree whether the copy that it goes for is there: in the directory of copies, which bears our marker, under its
    /// name, and as long as the source. Of what goes for another reason nothing is asked; a bucket was asked an hour ago at most.
    pub(super) fn of(&self, policy: &Arc<TreePolicy>, dir: &Arc<dyn WritableDir>, book: &Arc<ArchiveBook>) -> Proven {
        let Some((terms, path)) = policy.archive.as_ref().and_then(|terms| Some((terms, terms.directory.clone()?)))
        else {
            return Arc::new(|_| Ok(()));
        };
        let archive = TreeId::new(terms.archive.as_str());
        let (policy, dir, book) = (policy.clone(), dir.clone(), book.clone());
        let (machine, state) = (self.machine.clone(), self.state.to_string());
        Arc::new(move |target: &Target| {
            let relies = match target.rule {
                // What only speaks of a stream's days is no part of any, and has no copy.
                RuleKind::Archived => {
                    let layout = &policy.layout;
                    layout.unit_of(&target.path).is_some() || layout.recognise(&target.path, 1).is_some()
                }
                RuleKind::Pressure
                | RuleKind::StreamShare
                | RuleKind::Duplicate
                | RuleKind::Budget
                | RuleKind::MaxAge
                | RuleKind::MaxBytes
                | RuleKind::MaxFiles => book.of(&policy.tree).get((target.inode, target.fingerprint)).is_some(),
                RuleKind::Unarchived
                | RuleKind::BelowKeep
                | RuleKind::Requested
                | RuleKind::Orphan
                | RuleKind::Leftover
                | RuleKind::Quarantine => false,
            };
            if !relies {
                return Ok(());
            }
            let failed = |error: std::io::Error| format!("archive `{archive}`: {error}");
            let cold = machine.open_tree(&path).map_err(failed)?;
            if let Some(fault) = marker_fault(cold.as_ref(), &archive, &state).map_err(failed)? {
                return Err(format!("the identity marker of archive `{archive}` {fault}"));
            }
            let key = key_of(&policy.tree, &target.path);
            let Some(copy) = cold.look(&key).map_err(failed)? else {
                return Err(format!("archive `{archive}` has nothing under `{key}`"));
            };
            match dir.look(&target.path).map_err(failed)? {
                Some(source) if source.size != copy.size => {
                    Err(format!("`{key}` has {} bytes, and the recording {}", copy.size, source.size))
                }
                Some(_) | None => Ok(()),
            }
        })
    }
}

impl VolumeWorker {
    /// Offers the archives what the plan wants copied, the first ones first. What does not hurry waits for its window.
    pub(super) fn offer_copies(&self, plan: &Plan) {
        let Some(desk) = &self.desk else { return };
        let now = self.now();
        let mut offers: BTreeMap<ArchiveId, (Vec<Wanted>, Tally)> = BTreeMap::new();
        for tree in self.trees.iter().filter_map(|tree| tree.policy.archive.as_ref()) {
            offers.entry(tree.archive.clone()).or_default();
        }
        for item in &plan.to_archive {
            let facts = &plan.trees[item.tree];
            let Some(terms) = &facts.policy.archive else { continue };
            let Some(watch) = self.trees.iter().find(|tree| tree.policy.tree == facts.policy.tree) else { continue };
            if facts.policy.mode != Mode::Enforce || (item.urgent && self.holds_archive(&terms.archive)) {
                continue;
            }
            let seen = facts.inventory.get(item.file);
            if !(item.urgent || self.in_window(watch)) {
                continue;
            }
            let (wanted, all) = offers.entry(terms.archive.clone()).or_default();
            all.add(seen.bytes);
            if wanted.len() >= OFFERED {
                continue;
            }
            wanted.push(Wanted {
                dir: watch.dir.clone(),
                policy: facts.policy.clone(),
                path: facts.inventory.path(item.file),
                stream: facts.inventory.stream(seen.stream).to_string(),
                recorded: seen.recorded(),
                bytes: seen.bytes,
                source: (seen.inode, seen.fingerprint),
                unit: seen.unit,
                urgent: item.urgent,
            });
        }
        for (archive, (wanted, all)) in offers {
            desk.hub.cold.offer(&archive, &self.name, wanted, all, now);
        }
    }

    /// Says so where a plan takes what no archive holds.
    pub(super) fn tell_unarchived(&self, plan: &Plan) {
        let mut all = Tally::default();
        let items = plan.items.iter().filter(|item| item.rule == RuleKind::Unarchived);
        items.for_each(|item| all.merge(plan.recording(item).tally()));
        if all.files > 0 {
            let text = format!(
                "volume {} is beyond its critical mark, and nothing that has a copy is left: {} recordings ({}) go that no archive holds",
                self.name, all.files, all.bytes
            );
            self.emit(Event::Remark { text, urgent: true });
        }
    }

    /// The archive lies on this very volume: a copy there gives it no space.
    fn holds_archive(&self, archive: &ArchiveId) -> bool {
        let is = |tree: &TreeWatch| {
            tree.policy.layout.kind() == LayoutKind::Archive && tree.policy.tree.as_str() == archive.as_str()
        };
        self.trees.iter().any(is)
    }

    /// Verified copies wait for their sources to go, and it is time.
    pub(super) fn copies_wait(&mut self) -> bool {
        let boot = self.engine.clock.boottime();
        let waiting = |tree: &TreeWatch| self.catalogues.archived.of(&tree.policy.tree).waiting() > 0;
        let due = boot.saturating_sub(self.moved_at) >= EVERY && self.trees.iter().any(waiting);
        if due {
            self.moved_at = boot;
        }
        due
    }

    /// A copy that went from a directory of copies, or could not be found, is none any more: its source needs another.
    pub(super) fn forget_expired_copies(&self, settled: &[Settled]) {
        let of_archive = |tree: &TreeId| {
            self.trees.iter().any(|one| one.policy.tree == *tree && one.policy.layout.kind() == LayoutKind::Archive)
        };
        let mut gone: BTreeMap<TreeId, HashSet<&RelPath>> = BTreeMap::new();
        for one in settled {
            let target = &one.intent.target;
            let unproven = matches!(&one.attempt, Attempt::Kept { why } if why.starts_with(NO_COPY));
            if unproven {
                let unit = self.trees.iter().find(|tree| tree.policy.tree == target.tree);
                let unit = unit.and_then(|tree| tree.policy.layout.unit_of(&target.path));
                let kept = |copy: &ArchivedCopy| copy.path != target.path && Some(&copy.path) != unit.as_ref();
                let _ = self.catalogues.archived.forget(&target.tree, kept);
            }
        }
        for one in settled.iter().filter(|one| of_archive(&one.intent.target.tree)) {
            let key = &one.intent.target.path;
            let tree = key.components().next().and_then(|name| std::str::from_utf8(name).ok()).map(TreeId::new);
            if let (Some(tree), Attempt::Verified { .. } | Attempt::AlreadyGone) = (tree, &one.attempt) {
                gone.entry(tree).or_default().insert(key);
            }
        }
        for (tree, keys) in gone {
            let kept = |copy: &ArchivedCopy| {
                let key = key_of(&copy.tree, &copy.path);
                !keys.iter().any(|gone| **gone == key || gone.lies_in(&key))
            };
            if let Err(error) = self.catalogues.archived.forget(&tree, kept) {
                self.emit(Event::Remark { text: chain(&error), urgent: false });
            }
        }
    }

    /// Forgets the copies whose recordings a new scan did not find any more, or found changed.
    pub(super) fn forget_copies(&self) {
        let book = &self.catalogues.archived;
        for tree in &self.trees {
            let name = &tree.policy.tree;
            if book.of(name).is_empty() || !tree.inventory().complete() || tree.fault.is_some() {
                continue;
            }
            let there: HashSet<(u64, u64)> = tree
                .inventory()
                .files()
                .filter(|seen| !tree.gone().contains(seen.index))
                .map(|seen| (seen.inode, seen.fingerprint))
                .collect();
            // What was brought back since the scan began is not in it yet.
            let began = tree.inventory().started;
            let kept =
                |copy: &crate::domain::archive::ArchivedCopy| copy.verified >= began || there.contains(&copy.source);
            if let Err(error) = book.forget(name, kept) {
                self.emit(Event::Remark { text: chain(&error), urgent: false });
            }
        }
    }
}
