//! What is done with orphans and leftovers on disk: by request, or because the tree's policy says so. All of it goes through the door.
//!
//! Only what is proven goes, and only while every catalogue of its tree is believed and still does not know it: that is asked again, file by
//! file, at that moment. Beyond `orphans.max_share` of the tree nothing goes at all until a person says so (promise 9).

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::catalogues::{RowWish, RowWork};
use super::hub::Hub;
use super::job_items::ItemDone;
use super::moment::{Now, hindered};
use super::reading::Disk;
use super::rows::Hand;
use super::runs::Wish;
use super::volume::VolumeWorker;
use crate::catalogue::Known;
use crate::domain::cause::chain;
use crate::domain::deletion::{Cap, Outcome, RuleKind, Seq, SparedReason, Target};
use crate::domain::event::Event;
use crate::domain::journal::{GUARD, Intent};
use crate::domain::names::TreeId;
use crate::domain::orphan::{LeftoverAction, Orphan, OrphanAction, OrphanKind};
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::remedy::{Remedy, RemedyKind, Which};
use crate::domain::retention::Mode;
use crate::domain::units::Bytes;
use crate::domain::verdict::MARGIN;
use crate::reclaim::{OrphanWish, Settled, Stop};
use crate::server::orphans::Rehearsal;
use crate::server::records::Problem;
use crate::store::JournalError;

/// So many files are put back before somebody is asked whether to go on: each costs several syncs.
const RESTORED: usize = 100;
/// So many orphans are chosen at once.
const CHUNK: usize = 10_000;

/// How a remedy ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Relief {
    /// What came back, as measured.
    pub(super) reclaimed: Bytes,
    /// Why it ended before all was done.
    pub(super) problem: Option<Problem>,
}

impl Relief {
    /// It was not begun, or ended early.
    pub(super) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self { reclaimed: Bytes::ZERO, problem: Some(Problem { code, message: message.into() }) }
    }

    /// It was refused for how things stand at the moment.
    pub(super) fn may_pass(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| matches!(problem.code, "blind" | "untrusted"))
    }
}

/// Carries a remedy out for a job that has begun, and ends the job, however that goes. `looked` is how the look before it went.
///
/// # Errors
/// If the journal cannot be written.
pub(super) fn carry(
    volume: &mut VolumeWorker,
    hub: &Hub,
    job: u64,
    remedy: &Remedy,
    who: &str,
    stop: Stop<'_>,
    looked: Result<(), JournalError>,
) -> Result<(), JournalError> {
    let result = looked.and_then(|()| volume.remedy(hub, job, remedy, who, stop));
    let (relief, failed) = match result {
        Ok(relief) => (relief, None),
        Err(error) => (Relief::refused("journal", format!("{}; nothing more is changed", chain(&error))), Some(error)),
    };
    hub.with_jobs(|jobs| jobs.end_remedy(job, relief.reclaimed, relief.problem, hub.now()));
    failed.map_or(Ok(()), Err)
}

impl VolumeWorker {
    /// Carries a remedy out, and tells the job of each item.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn remedy(
        &mut self,
        hub: &Hub,
        job: u64,
        remedy: &Remedy,
        who: &str,
        stop: Stop<'_>,
    ) -> Result<Relief, JournalError> {
        let Some(index) = self.trees.iter().position(|tree| tree.policy.tree == remedy.tree) else {
            return Ok(Relief::refused("gone", "its tree is not guarded any more"));
        };
        let tree = &self.trees[index];
        if tree.policy.mode != Mode::Enforce {
            return Ok(Relief::refused("observe", "the tree is only observed: nothing is changed"));
        }
        if self.reading.is_err() || tree.fault.is_some() || !self.steady()? {
            return Ok(Relief::refused("blind", "the tree cannot be trusted now, so nothing in it is touched"));
        }
        let wish = Wish { who, run: job, job: Some(job), exactly: true };
        match remedy.kind {
            RemedyKind::Restore => self.restore(hub, &wish, remedy, stop).map(|()| Relief::default()),
            RemedyKind::Adopt | RemedyKind::RemoveRows => {
                let disk = Disk::of(self, hub);
                let Some(keeper) = self.catalogues.writable(&remedy.tree) else {
                    return Ok(Relief::refused("read_only", "its catalogue has no rows that could be changed"));
                };
                let hand = Hand { keeper: &keeper, catalogues: &self.catalogues, hub, disk: &disk };
                Ok(hand.change(remedy, Some(job), who, stop))
            }
            RemedyKind::Quarantine | RemedyKind::Delete => {
                if let Err(text) = self.within_cap(index, remedy)? {
                    return Ok(Relief::refused("cap", text));
                }
                let reclaimed = Cell::new(Bytes::ZERO);
                let tell = |change| match change {
                    Change::Chosen(count, bytes) => {
                        hub.with_jobs(|jobs| jobs.expand(job, Tally { files: count as u64, bytes }))
                    }
                    Change::Kept(tree, path, bytes, why) => {
                        hub.with_jobs(|jobs| jobs.item(job, kept(tree, path, bytes, why)));
                    }
                    Change::Settled(settled) => hub.settled(job, settled),
                    Change::Reclaimed(bytes) => reclaimed.set(reclaimed.get().saturating_add(bytes)),
                };
                self.clear(index, remedy, &wish, stop, &|_| (), &tell)?;
                Ok(Relief { reclaimed: reclaimed.get(), problem: None })
            }
        }
    }

    /// Says what an adoption would do; nothing is written.
    ///
    /// # Errors
    /// A sentence that says why that cannot be told.
    pub(super) fn rehearse(&self, hub: &Hub, remedy: &Remedy) -> Result<Rehearsal, String> {
        let keeper = self.catalogues.writable(&remedy.tree).ok_or("its catalogue has no rows that could be changed")?;
        let disk = Disk::of(self, hub);
        Hand { keeper: &keeper, catalogues: &self.catalogues, hub, disk: &disk }.rehearse(remedy)
    }

    /// What the policies of its trees want done with orphans and leftovers, once after each comparison, and what was in quarantine for long
    /// enough.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn clear_orphans(&mut self, stop: Stop<'_>, publish: &dyn Fn(&Self)) -> Result<(), JournalError> {
        if self.clock.suspect().is_some() || !self.favourites_known() {
            return Ok(());
        }
        let pressed = self.basis().is_some_and(|basis| !basis.target.is_zero());
        self.expire(pressed, stop, publish)?;
        let moment = self.clock.skew().at(self.now());
        for index in 0..self.trees.len() {
            let open = pressed || self.in_window(&self.trees[index]);
            let tree = &mut self.trees[index];
            let policy = tree.policy.clone();
            // Whom a person permits something need not wait for the window, or for another comparison.
            let permitted = self
                .engine
                .journal
                .with_history(|history| history.permitted(&policy.tree, Cap::OrphanShare, moment.latest).is_some());
            let news = tree.compared.is_some() && (permitted || (open && tree.cleared != tree.compared));
            if policy.mode != Mode::Enforce || tree.fault.is_some() || !news {
                continue;
            }
            tree.cleared.clone_from(&tree.compared);
            let wishes = [
                match policy.orphans.action {
                    OrphanAction::Delete => Some((OrphanKind::Uncatalogued, RemedyKind::Delete)),
                    OrphanAction::Quarantine => Some((OrphanKind::Uncatalogued, RemedyKind::Quarantine)),
                    OrphanAction::Adopt | OrphanAction::Report => None,
                },
                // A permit is for orphans only.
                match policy.leftovers.action {
                    LeftoverAction::Delete if !open => None,
                    LeftoverAction::Delete => Some((OrphanKind::Leftover, RemedyKind::Delete)),
                    LeftoverAction::Report => None,
                },
            ];
            for (orphans, kind) in wishes.into_iter().flatten() {
                let remedy = Remedy { kind, orphans, tree: policy.tree.clone(), which: Which::All };
                if orphans == OrphanKind::Uncatalogued && self.catalogues.known(&policy.tree).is_err() {
                    continue;
                }
                let wanted = self.wanted(index, &remedy);
                let fits = wanted.files > 0 && self.within_cap(index, &remedy)?.is_ok();
                // What is deleted by itself counts against the day's share too; what is set aside counts once it is deleted.
                if fits && (kind == RemedyKind::Quarantine || self.within_day(index, wanted.bytes)?) {
                    let wish = Wish { who: GUARD, run: self.next_run(), job: None, exactly: true };
                    self.clear(index, &remedy, &wish, stop, publish, &|_| ())?;
                }
            }
            if policy.orphans.action == OrphanAction::Adopt {
                self.ask_adoption(index);
            }
        }
        Ok(())
    }

    /// Carries a remedy out, some thousands of files at a time.
    fn clear(
        &mut self,
        index: usize,
        remedy: &Remedy,
        wish: &Wish<'_>,
        stop: Stop<'_>,
        publish: &dyn Fn(&Self),
        tell: &dyn Fn(Change),
    ) -> Result<(), JournalError> {
        let mut after = None;
        loop {
            let chosen = self.choose(index, remedy, after.as_ref());
            let Some(last) = chosen.last() else { break };
            after = Some((last.tree.clone(), last.kind, last.path.clone()));
            let count = chosen.len();
            let by_policy = wish.job.is_none();
            let targets = self.targets(index, remedy, chosen, by_policy, tell);
            let expected = match remedy.kind {
                RemedyKind::Delete => targets.iter().map(|target| target.bytes).sum(),
                RemedyKind::Adopt | RemedyKind::Quarantine | RemedyKind::Restore | RemedyKind::RemoveRows => {
                    Bytes::ZERO
                }
            };
            tell(Change::Chosen(count, expected));
            let settled = match remedy.kind {
                RemedyKind::Quarantine => self.set_aside(targets, wish, stop)?,
                RemedyKind::Delete => self.delete(targets, wish, stop, publish, tell)?,
                RemedyKind::Adopt | RemedyKind::Restore | RemedyKind::RemoveRows => Vec::new(),
            };
            if by_policy {
                let boot = self.engine.clock.boottime();
                self.trees[index].remember_kept(&settled, boot);
            }
            tell(Change::Settled(settled));
            if stop() || matches!(remedy.which, Which::Paths(_)) {
                break;
            }
        }
        self.trees[index].recount(&self.catalogues);
        publish(self);
        Ok(())
    }

    /// What can be said of a tree at this moment.
    fn of_now(&self, index: usize) -> Now {
        let tree = &self.trees[index];
        let name = &tree.policy.tree;
        // A hook database that does not answer makes its catalogue distrusted, so it is asked first.
        let undrained = self.catalogues.undrained(name);
        Now {
            known: self.catalogues.known(name),
            undrained,
            clock_trusted: self.clock.suspect().is_none(),
            compared: tree.compared.is_some(),
            finished: tree.inventory().started.minus(tree.survey().longest_slice.saturating_add(MARGIN)),
        }
    }

    /// Why a deletion that once was that of an orphan may not be made now: a retry is a new decision. `Ok` says that it never will be,
    /// since it is no orphan any more.
    pub(super) fn no_orphan(&self, target: &Target) -> Option<Result<String, String>> {
        let index = self.trees.iter().position(|tree| tree.policy.tree == target.tree)?;
        let now = self.of_now(index);
        let why = now.catalogued(&target.tree, &target.path, &target.stream)?;
        let known = now.known.is_ok_and(|known| {
            known.iter().any(|one| one.index.rows_of(&target.tree, &target.path).is_ok_and(|rows| !rows.is_empty()))
        });
        Some(if known { Ok(why) } else { Err(why) })
    }

    /// The next orphans that a remedy is about.
    fn choose(&self, index: usize, remedy: &Remedy, after: Option<&(TreeId, OrphanKind, RelPath)>) -> Vec<Orphan> {
        let tree = &self.trees[index].policy.tree;
        let found = self.catalogues.chosen(remedy, after.cloned(), CHUNK);
        found.unwrap_or_else(|error| {
            self.emit(Event::Remark { text: format!("orphans of tree {tree}: {error}"), urgent: false });
            Vec::new()
        })
    }

    /// How much a remedy is about.
    fn wanted(&self, index: usize, remedy: &Remedy) -> Tally {
        match &remedy.which {
            Which::All => {
                let tree = &self.trees[index].policy.tree;
                self.catalogues.findings.found(tree, remedy.orphans).unwrap_or_default().proven
            }
            Which::Paths(_) => {
                let mut all = Tally::default();
                self.choose(index, remedy, None).iter().for_each(|orphan| all.add(orphan.bytes));
                all
            }
        }
    }

    /// Those that may go at this moment, as targets; of the others `tell` hears why not. What the door kept is not wanted again soon by
    /// policy.
    fn targets(
        &self,
        index: usize,
        remedy: &Remedy,
        chosen: Vec<Orphan>,
        by_policy: bool,
        tell: &dyn Fn(Change),
    ) -> Vec<Target> {
        let (watch, boot) = (&self.trees[index], self.engine.clock.boottime());
        let tree = &self.trees[index].policy.tree;
        let now = self.of_now(index);
        let failing: HashSet<RelPath> = self.journal().with_history(|history| {
            let failing = history.failures.values().map(|failure| &failure.target);
            let open = history.open.values().map(|open| &open.intent.target);
            failing.chain(open).filter(|target| target.tree == *tree).map(|target| target.path.clone()).collect()
        });
        let rule = match (remedy.kind, remedy.orphans) {
            (RemedyKind::Quarantine, _) => RuleKind::Quarantine,
            (_, OrphanKind::Uncatalogued) => RuleKind::Orphan,
            (_, OrphanKind::Leftover) => RuleKind::Leftover,
        };
        let mut out = Vec::with_capacity(chosen.len());
        for orphan in chosen {
            let hindered = if failing.contains(&orphan.path) {
                Some("its deletion failed before, and is tried again by itself".to_owned())
            } else if watch.protects(&orphan.path) {
                Some("it is protected".to_owned())
            } else if watch.holds(&orphan.path) {
                Some(SparedReason::Hold.as_str().to_owned())
            } else if by_policy && watch.was_kept(&orphan, boot) {
                Some("it was kept within the last day".to_owned())
            } else {
                hindered(&orphan, remedy.kind, &now)
            };
            match hindered {
                Some(why) => tell(Change::Kept(orphan.tree, orphan.path, orphan.bytes, why)),
                None => out.push(target(&orphan, rule, now.known.as_deref().unwrap_or_default())),
            }
        }
        out
    }

    fn delete(
        &mut self,
        targets: Vec<Target>,
        wish: &Wish<'_>,
        stop: Stop<'_>,
        publish: &dyn Fn(&Self),
        tell: &dyn Fn(Change),
    ) -> Result<Vec<Settled>, JournalError> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let order = self.order(targets, Vec::new(), wish);
        let mut settled = Vec::new();
        let report = self.carry(order, wish.exactly, (stop, publish), &mut |more| settled.extend(more))?;
        tell(Change::Reclaimed(report.reclaimed));
        Ok(settled)
    }

    /// Sets files aside. Nothing is freed, so no ledger judges.
    fn set_aside(
        &mut self,
        targets: Vec<Target>,
        wish: &Wish<'_>,
        stop: Stop<'_>,
    ) -> Result<Vec<Settled>, JournalError> {
        let mut out = Vec::new();
        for some in targets.chunks(self.engine.cleanup.batch_files.max(1)) {
            if stop() {
                break;
            }
            let intent = |target: &Target| Intent {
                target: target.clone(),
                who: wish.who.to_owned(),
                job: wish.job,
                run: wish.run,
                retry_of: None,
            };
            let settled = self.engine.batch(&self.handles(), some.iter().map(intent).collect(), stop)?;
            self.note_settled(&settled);
            out.extend(settled);
        }
        Ok(out)
    }

    /// Deletes what was in quarantine for long enough, of each tree in its window, or at any time if the volume is pressed.
    fn expire(&mut self, pressed: bool, stop: Stop<'_>, publish: &dyn Fn(&Self)) -> Result<(), JournalError> {
        let now = self.now();
        for index in 0..self.trees.len() {
            let policy = self.trees[index].policy.clone();
            let open = pressed || self.in_window(&self.trees[index]);
            if policy.mode != Mode::Enforce || self.trees[index].fault.is_some() || !open {
                continue;
            }
            let moment = self.clock.skew().at(now);
            let over: Vec<(Seq, Target)> = self.journal().with_history(|history| {
                let over = history.past_quarantine(&policy.tree, policy.orphans.quarantine, &moment);
                let target = |seq| history.quarantined.get(&seq).map(|aside| (seq, aside.target.clone()));
                over.into_iter().filter_map(target).collect()
            });
            // What a catalogue knows by now, or while none is trusted, stays where it is, until somebody restores it.
            let now = self.of_now(index);
            let orphan = |target: &Target| now.catalogued(&target.tree, &target.path, &target.stream).is_none();
            let due: Vec<Seq> = over.into_iter().filter(|(_, target)| orphan(target)).map(|(seq, _)| seq).collect();
            // What stays for now, stands in nobody's way, and begins no run.
            let mut ready = Vec::new();
            for some in due.chunks(CHUNK) {
                ready = self.engine.expiries(&self.handles(), some)?.ready;
                if !ready.is_empty() {
                    break;
                }
            }
            let bytes: Bytes = ready.iter().map(|(_, target)| target.bytes).sum();
            if ready.is_empty() || !self.within_day(index, bytes)? {
                continue;
            }
            let wish = Wish { who: GUARD, run: self.next_run(), job: None, exactly: true };
            let order = self.order(Vec::new(), ready, &wish);
            self.carry(order, wish.exactly, (stop, publish), &mut drop)?;
        }
        Ok(())
    }

    /// Puts files back from quarantine.
    fn restore(&mut self, hub: &Hub, wish: &Wish<'_>, remedy: &Remedy, stop: Stop<'_>) -> Result<(), JournalError> {
        let chosen: Vec<(Seq, RelPath, Bytes)> = self.journal().with_history(|history| {
            let wanted = history.quarantined_in(&remedy.tree).filter(|(_, aside)| match &remedy.which {
                Which::All => true,
                Which::Paths(paths) => paths.contains(&aside.target.path),
            });
            wanted.map(|(seq, aside)| (seq, aside.target.path.clone(), aside.target.bytes)).collect()
        });
        let job = wish.run;
        hub.with_jobs(|jobs| jobs.expand(job, Tally { files: chosen.len() as u64, bytes: Bytes::ZERO }));
        let paths: HashMap<Seq, (RelPath, Bytes)> =
            chosen.into_iter().map(|(seq, path, bytes)| (seq, (path, bytes))).collect();
        let mut which: Vec<Seq> = paths.keys().copied().collect();
        which.sort_unstable();
        for some in which.chunks(self.engine.cleanup.batch_files.clamp(1, RESTORED)) {
            if stop() {
                break;
            }
            let mut back = Vec::new();
            for (seq, result) in self.engine.restore(&self.handles(), some, wish.who)? {
                let Some((path, bytes)) = paths.get(&seq) else { continue };
                let (outcome, detail) = match result {
                    Ok(()) => {
                        back.push(path.clone());
                        (Outcome::Verified, "it is back under its name".to_owned())
                    }
                    Err(why) => (Outcome::Kept, why),
                };
                let done = ItemDone { outcome, ..kept(remedy.tree.clone(), path.clone(), *bytes, detail) };
                hub.with_jobs(|jobs| jobs.item(job, done));
            }
            let _ = self.catalogues.findings.forget_reclaimed(&remedy.tree, &back);
        }
        Ok(())
    }

    /// Whether a remedy is within `orphans.max_share`; else the cap trips, and the sentence says what to do.
    fn within_cap(&self, index: usize, remedy: &Remedy) -> Result<Result<(), String>, JournalError> {
        if remedy.orphans == OrphanKind::Leftover {
            return Ok(Ok(()));
        }
        let tree = &self.trees[index];
        let name = &tree.policy.tree;
        let wish = OrphanWish {
            volume: self.name.clone(),
            tree: name.clone(),
            max_share: tree.policy.orphans.max_share,
            held: Tally { files: tree.files(), bytes: tree.held() },
            wanted: self.wanted(index, remedy),
            available: self.reading.as_ref().map_or(Bytes::ZERO, |reading| reading.space.available),
        };
        if self.engine.orphans_allowed(&wish)? {
            return Ok(Ok(()));
        }
        Ok(Err(format!(
            "the cap `orphan_share` of tree `{name}` waits for a person: look at `storage-guard orphans list {name}`, and if they may go, \
             `storage-guard cap acknowledge {name} orphan_share` permits one run"
        )))
    }

    /// Whether so much more may be deleted by itself today; else the cap of runs trips.
    fn within_day(&self, index: usize, wanted: Bytes) -> Result<bool, JournalError> {
        let Some(basis) = self.basis() else { return Ok(false) };
        let tree = &self.trees[index].policy.tree;
        let Some(at) = basis.trees.iter().position(|facts| facts.policy.tree == *tree) else { return Ok(false) };
        if wanted <= basis.allowances[at].retention {
            return Ok(true);
        }
        let (plan, _) = basis.plan(&self.name, self.now());
        self.trip(&plan, &basis, &[(at, wanted)])?;
        Ok(false)
    }

    /// Lets the catalogue of a tree adopt what is proven.
    fn ask_adoption(&self, index: usize) {
        let tree = &self.trees[index].policy.tree;
        let found = self.catalogues.findings.found(tree, OrphanKind::Uncatalogued).unwrap_or_default();
        if found.proven.files == 0 || self.catalogues.asked(tree) {
            return;
        }
        let (kind, orphans, tree) = (RemedyKind::Adopt, OrphanKind::Uncatalogued, tree.clone());
        let remedy = Remedy { kind, orphans, tree, which: Which::All };
        let wish = RowWish::Change { job: None, who: GUARD.to_owned() };
        let _ = self.catalogues.ask(RowWork { remedy, wish });
    }
}

/// How far a remedy is, for the job that it belongs to.
enum Change {
    Chosen(usize, Bytes),
    Kept(TreeId, RelPath, Bytes, String),
    Settled(Vec<Settled>),
    Reclaimed(Bytes),
}

/// An item of a job that is left as it is.
pub(super) fn kept(tree: TreeId, path: RelPath, bytes: Bytes, why: String) -> ItemDone {
    ItemDone { tree, path, bytes, outcome: Outcome::Kept, cause: None, detail: Some(why) }
}

fn target(orphan: &Orphan, rule: RuleKind, known: &[Known]) -> Target {
    let witnesses: Vec<&str> = orphan.verdict.witnesses.iter().map(|witness| witness.as_str()).collect();
    let said: Vec<String> = known.iter().map(|one| format!("{} as of {}", one.name, one.as_of)).collect();
    let what = match orphan.kind {
        OrphanKind::Uncatalogued => format!("no catalogue knows it ({})", said.join(", ")),
        OrphanKind::Leftover => "unfinished, and nobody holds it".to_owned(),
    };
    Target {
        tree: orphan.tree.clone(),
        path: orphan.path.clone(),
        stream: orphan.stream.clone(),
        recorded: None,
        bytes: orphan.bytes,
        inode: orphan.inode,
        fingerprint: orphan.fingerprint,
        rule,
        trigger: rule.trigger(),
        reason: format!("{what}; first seen so {}; witnesses: {}", orphan.first_seen, witnesses.join(" ")),
    }
}
