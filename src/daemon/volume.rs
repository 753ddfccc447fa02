//! One volume: probe, scan, decide, delete. In the daemon a thread of its own; for a command, called once.

use std::sync::Arc;
use std::time::Duration;

use super::archiving::Proof;
use super::canary::Canary;
use super::catalogues::Catalogues;
use super::demands::Desk;
use super::foreign::Walked;
use super::promises::PromisesTold;
use super::retry::Again;
use super::runs::Wish;
use super::tree::{Report, TreeWatch};
use crate::domain::clock_watch::{ClockWatch, Moment};
use crate::domain::deletion::Cap;
use crate::domain::event::Event;
use crate::domain::history::{History, clock_text};
use crate::domain::journal::{Entry, GUARD, NoteKind};
use crate::domain::limits::{Allowance, CapFacts, Grant, Line};
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::plan::{Plan, Spared};
use crate::domain::pressure::{Deficit, Pressure, assess};
use crate::domain::retention::Mode;
use crate::domain::status::{PlanBasis, RunSummary, Stall, TreeView, VolumeView};
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::{FilesystemTraits, Marks, Reading, Unusable};
use crate::probe::Prober;
use crate::reclaim::{Engine, Stop, Trees, settle};
use crate::scan::scan;
use crate::store::{Journal, JournalError};
use crate::system::{VolumeKey, Volumes, WritableDir};
use crate::zlmediakit::Live;

/// Between two attempts to settle what could not be settled.
const RESETTLE: Duration = Duration::from_secs(60);
/// So long nothing is deleted while catalogues were not asked yet.
pub(super) const ASKING: Duration = Duration::from_secs(90);
/// A tree into which files came is scanned after so long.
const SEEN: Duration = Duration::from_secs(5);
/// How long a volume may take to answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// A volume with its trees.
pub(super) struct VolumeWorker {
    /// When it was last settled, by the clock that does not jump.
    settled_at: Duration,
    pub(super) name: VolumeId,
    pub(super) key: VolumeKey,
    pub(super) traits: FilesystemTraits,
    pub(super) marks: Marks,
    pub(super) scan_interval: Duration,
    pub(super) trees: Vec<TreeWatch>,
    pub(super) prober: Prober,
    pub(super) machine: Arc<dyn Volumes>,
    pub(super) engine: Engine,
    /// Id of the state; it stands in the markers.
    pub(super) state: Arc<str>,
    /// This process may write: markers, and into the journal.
    pub(super) writes: bool,
    pub(super) reading: Result<Reading, Unusable>,
    pub(super) pressure: Pressure,
    pub(super) clock: ClockWatch,
    /// Used bytes, and our trees', at the last scan in normal state.
    pub(super) normal: Option<(Bytes, Bytes)>,
    pub(super) stalled: Option<Stall>,
    pub(super) last_run: Option<RunSummary>,
    pub(super) running: Option<Timestamp>,
    /// Something was scanned since retention was last looked at.
    scanned: bool,
    /// In which trees retention was allowed when it was last looked at.
    windows: Vec<bool>,
    /// What the last plan spared.
    spared: Arc<Vec<Spared>>,
    /// `None` where the whole deficit is ours.
    pub(super) grant: Option<Grant>,
    /// What retries may still give back below the low mark.
    pub(super) leftover: Option<Bytes>,
    pub(super) canary: Canary,
    pub(super) walked: Walked,
    /// What was last told of what fits.
    pub(super) promises_told: PromisesTold,
    /// Who knows which recordings should exist, and what comparisons found.
    pub(super) catalogues: Arc<Catalogues>,
    /// Which streams are live.
    pub(super) live: Arc<Live>,
    /// When it was begun, by the clock that does not jump.
    pub(super) began: Duration,
    /// Where demands wait for it; `None` while it attends to one, and where no worker has it.
    pub(super) desk: Option<Desk>,
    /// Something could not be put on record: it is settled before anything else is begun.
    pub(super) upset: bool,
    /// When verified copies were last looked for, whose sources can go, by the clock that does not jump.
    pub(super) moved_at: Duration,
    /// How often in a row an inspection ended early, since a demand waited.
    pub(super) yielded: u32,
}

/// What survives a reload.
#[derive(Clone)]
pub(super) struct Legacy {
    pressure: Pressure,
    clock: ClockWatch,
    stalled: Option<Stall>,
    last_run: Option<RunSummary>,
    normal: Option<(Bytes, Bytes)>,
    grant: Option<Grant>,
    leftover: Option<Bytes>,
    canary: Canary,
    walked: Walked,
    promises_told: PromisesTold,
}

impl VolumeWorker {
    #[expect(clippy::too_many_arguments, reason = "it is put together in one place")]
    pub(super) fn new(
        name: VolumeId,
        key: VolumeKey,
        traits: FilesystemTraits,
        marks: Marks,
        scan_interval: Duration,
        prober: Prober,
        machine: Arc<dyn Volumes>,
        engine: Engine,
        state: Arc<str>,
        writes: bool,
        catalogues: Arc<Catalogues>,
        live: Arc<Live>,
    ) -> Self {
        Self {
            began: engine.clock.boottime(),
            catalogues,
            live,
            settled_at: Duration::ZERO,
            name,
            key,
            traits,
            marks,
            scan_interval,
            trees: Vec::new(),
            prober,
            machine,
            engine,
            state,
            writes,
            reading: Err(Unusable::NotYet),
            pressure: Pressure::Normal,
            clock: ClockWatch::new(Duration::from_secs(600)),
            normal: None,
            stalled: None,
            last_run: None,
            running: None,
            scanned: false,
            windows: Vec::new(),
            spared: Arc::default(),
            grant: None,
            leftover: None,
            canary: Canary::default(),
            walked: Walked::default(),
            promises_told: PromisesTold::default(),
            desk: None,
            upset: false,
            moved_at: Duration::ZERO,
            yielded: 0,
        }
    }

    /// What the worker of the next configuration goes on with.
    pub(super) fn leave(self) -> Legacy {
        Legacy {
            pressure: self.pressure,
            clock: self.clock,
            stalled: self.stalled,
            last_run: self.last_run,
            normal: self.normal,
            grant: self.grant,
            leftover: self.leftover,
            canary: self.canary,
            walked: self.walked,
            promises_told: self.promises_told,
        }
    }

    /// Goes on where the worker of the configuration before left off.
    pub(super) fn inherit(&mut self, legacy: Legacy) {
        self.pressure = legacy.pressure;
        self.clock = legacy.clock;
        self.stalled = legacy.stalled;
        self.last_run = legacy.last_run;
        (self.canary, self.walked, self.promises_told) = (legacy.canary, legacy.walked, legacy.promises_told);
        (self.normal, self.grant, self.leftover) = (legacy.normal, legacy.grant, legacy.leftover);
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.engine.journal
    }

    pub(super) fn now(&self) -> Timestamp {
        self.engine.clock.now()
    }

    pub(super) fn emit(&self, event: Event) {
        (self.engine.events)(event);
    }

    pub(super) fn names(&self) -> Vec<TreeId> {
        self.trees.iter().map(|tree| tree.policy.tree.clone()).collect()
    }

    /// Looks once: clock, space, trees; scans what is due, or everything if `all`; and takes the state that follows.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn look(&mut self, all: bool, report: Report<'_>) -> Result<(), JournalError> {
        self.probe()?;
        self.look_on(all, report)
    }

    /// The first part of a look: clock and space.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn probe(&mut self) -> Result<(), JournalError> {
        self.watch_clock()?;
        self.reading = self.prober.read(DEADLINE);
        Ok(())
    }

    /// The rest of it.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn look_on(&mut self, all: bool, report: Report<'_>) -> Result<(), JournalError> {
        if self.reading.is_ok() {
            self.scan(all || self.needs_scan(), report);
        }
        self.check_trees()?;
        self.end_holds()?;
        self.take_favourites();
        self.take_live();
        // One tree that cannot be trusted is left alone; the volume is blind once none can be.
        let faults: Vec<&Unusable> = self.trees.iter().filter_map(|tree| tree.fault.as_ref()).collect();
        if let (Some(why), true) = (faults.first(), faults.len() == self.trees.len()) {
            self.reading = Err((*why).clone());
        }
        self.step();
        Ok(())
    }

    /// Takes over which streams are live.
    pub(super) fn take_live(&mut self) {
        let live = Arc::new(self.live.streams());
        self.trees.iter_mut().for_each(|tree| tree.take_live(&live));
    }

    fn watch_clock(&mut self) -> Result<(), JournalError> {
        if !self.writes {
            return Ok(());
        }
        let now = self.now();
        let recorded = self.journal().with_history(|history| history.last_at);
        self.clock.set_min_age(self.trees.iter().map(|tree| tree.policy.min_age).max().unwrap_or_default());
        let boot = self.engine.clock.boottime();
        // A restart makes no clock right.
        let left = self.journal().with_history(|history| history.clocks.get(&self.name).cloned());
        if let (Some((text, offsets)), true) = (left, self.clock.is_new()) {
            self.clock.remember(&text, &offsets, now, boot);
            let suspect = self.clock.suspect().map(|(since, _)| since);
            self.emit(Event::Clock { suspect, text: format!("the clock {text}, before the guard was started") });
        }
        let (was, clocks) = (self.clock.suspect().is_some(), self.clock.offsets().len());
        self.clock.observe(now, boot, recorded);
        let suspect = self.clock.suspect().map(|(since, text)| (since, text.to_owned()));
        if was != suspect.is_some() || clocks != self.clock.offsets().len() {
            let text = match &suspect {
                Some((_, text)) => clock_text(text, &self.clock.offsets()),
                None => "the clock is trusted again".to_owned(),
            };
            let mut note = Entry::note(NoteKind::Clock, text);
            if let Entry::Note { volume, .. } = &mut note {
                *volume = Some(self.name.clone());
            }
            self.journal().append_synced(vec![note], now)?;
            let text = suspect.as_ref().map_or_else(String::new, |(_, text)| format!("the clock {text}"));
            self.emit(Event::Clock { suspect: suspect.map(|(since, _)| since), text });
        }
        Ok(())
    }

    fn scan(&mut self, all: bool, report: Report<'_>) {
        let boot = self.engine.clock.boottime();
        let clock = self.engine.clock.clone();
        let mut scanned = false;
        // While a tripped cap holds the line, what flows in must be known: as often as a twentieth of the time allows.
        let tripped = self.pressure != Pressure::Normal
            && self.engine.journal.with_history(|history| {
                self.trees.iter().any(|tree| history.caps.contains_key(&(tree.policy.tree.clone(), Cap::RunShare)))
            });
        let interval = if tripped { Duration::ZERO } else { self.scan_interval };
        let begun = self.engine.journal.with_history(|history| history.last);
        for index in 0..self.trees.len() {
            // What was copied or brought back is to be seen soon.
            let came = self.desk.as_ref().map_or(0, |desk| desk.hub.cold.came(&self.trees[index].policy.tree));
            let interval = if came == self.trees[index].came { interval } else { interval.min(SEEN) };
            if !all && !self.trees[index].due(interval, boot) {
                continue;
            }
            self.trees[index].came = came;
            let began = clock.boottime();
            let tree = &mut self.trees[index];
            let (dir, policy) = (tree.dir.clone(), tree.policy.clone());
            tree.begin_scan(begun);
            let mut each = |at| report(self, &policy, at);
            let found = scan(dir.as_ref(), &policy.tree, &policy.layout, &policy.protect, clock.as_ref(), &mut each);
            if let Some(event) = self.trees[index].end_scan(found.ok(), began, clock.as_ref(), self.traits.leases) {
                (self.engine.events)(event);
                scanned = true;
            }
        }
        self.scanned |= scanned;
    }

    pub(super) fn held(&self) -> Bytes {
        self.trees.iter().map(TreeWatch::held).sum()
    }

    pub(super) fn check_trees(&mut self) -> Result<(), JournalError> {
        let now = self.now();
        // A volume that does not answer is not asked about its trees either.
        if self.reading.is_err() {
            return Ok(());
        }
        for tree in &mut self.trees {
            tree.check(&self.engine.journal, &self.state, &self.traits, self.writes, now)?;
        }
        Ok(())
    }

    pub(super) fn inflow(&self) -> Bytes {
        self.trees.iter().map(TreeWatch::inflow).sum()
    }

    /// The state that follows from the last reading.
    pub(super) fn step(&mut self) {
        let now = self.now();
        let (inflow, marks) = (self.inflow(), self.marks.clone());
        let available = self.reading.as_ref().map_or(Bytes::ZERO, |reading| reading.space.available);
        if self.stalled.as_ref().is_some_and(|stall| self.reading.is_ok() && stall.over(available, now)) {
            self.stalled = None;
        }
        let above = self.reading.as_ref().is_ok_and(|reading| assess(reading, &marks, inflow).0);
        let mut eligible = true;
        if above || self.scanned || self.pressure != Pressure::Normal {
            self.ask_shared();
            let plan = self.basis().map(|basis| basis.plan_unasked(&self.name, now).0);
            eligible = plan.as_ref().is_some_and(|plan| !plan.items.is_empty() || !plan.next.is_empty());
            self.spared = Arc::new(plan.map(|plan| plan.spared).unwrap_or_default());
        }
        let before = std::mem::replace(&mut self.pressure, Pressure::Normal);
        self.pressure = before.clone().next(&self.reading, &marks, inflow, eligible, now);
        if before == Pressure::Normal && self.pressure != Pressure::Normal {
            self.leftover = None;
        }
        self.share();
        self.emit(Event::Probed { volume: self.name.clone(), before, now: self.pressure.clone() });
    }

    /// What a plan is made from now; `None` while the volume is blind.
    pub(super) fn basis(&self) -> Option<PlanBasis> {
        let reading = self.reading.as_ref().ok().filter(|reading| !reading.readonly)?;
        if !self.trees.iter().filter(|tree| tree.fault.is_none()).all(TreeWatch::scanned) {
            return None;
        }
        let now = self.now();
        let trusted = |tree: &&TreeWatch| tree.fault.is_none();
        let enforcing = self.trees.iter().filter(trusted).any(|tree| tree.policy.mode == Mode::Enforce);
        let wanted = |tree: &&TreeWatch| trusted(tree) && (!enforcing || tree.policy.mode == Mode::Enforce);
        let (above, deficit) = assess(reading, &self.marks, self.inflow());
        // The clock may have jumped since it was looked at, a moment ago.
        let mut clock = self.clock.clone();
        clock.observe(now, self.engine.clock.boottime(), None);
        let skew = clock.skew();
        let moment = skew.at(now);
        let running = matches!(self.pressure, Pressure::Reclaiming { .. } | Pressure::Exhausted { .. });
        self.journal().with_history(|history| {
            // By a clock that is not trusted even the order may be wrong: only a disk that is nearly full is worth that.
            let wanted_now = (above || running) && (moment.trusted || deficit.critical);
            let target = if wanted_now { self.target(reading, deficit, history) } else { Deficit::default() };
            let trees: Vec<&TreeWatch> = self.trees.iter().filter(wanted).collect();
            Some(PlanBasis {
                allowances: trees.iter().map(|tree| self.allowance(tree, reading, history, &moment)).collect(),
                trees: trees.iter().map(|tree| tree.facts(history)).collect(),
                target,
                skew,
                retention: self.favourites_known(),
                open: trees.iter().map(|tree| !target.is_zero() || self.in_window(tree)).collect(),
                window: self.engine.cleanup.window,
            })
        })
    }

    fn allowance(&self, tree: &TreeWatch, reading: &Reading, history: &History, moment: &Moment) -> Allowance {
        let name = &tree.policy.tree;
        CapFacts {
            max_share: tree.policy.max_share,
            held: tree.held(),
            deleted: history.deleted_within_a_day(name, moment.earliest),
            permitted: history.permitted(name, Cap::RunShare, moment.latest),
            tripped: history
                .caps
                .get(&(name.clone(), Cap::RunShare))
                .map(|trip| Line { available: trip.available, held: trip.held }),
            available: reading.space.available,
        }
        .allowance()
    }

    /// What the guard would delete by itself now; `None` while the volume is blind.
    pub(super) fn plan(&self) -> Option<Plan> {
        let now = self.now();
        self.basis().map(|basis| basis.plan_unasked(&self.name, now).0)
    }

    /// Whether runs that are not for pressure happen now in a tree: in its own time zone, which the times in its names are of.
    pub(super) fn in_window(&self, tree: &TreeWatch) -> bool {
        self.engine.cleanup.window.is_none_or(|window| window.open(self.now(), tree.policy.layout.zone()))
    }

    /// What is seen now, for everybody who wants to know.
    pub(super) fn view(&self) -> VolumeView {
        VolumeView {
            name: self.name.clone(),
            traits: self.traits.clone(),
            reading: self.reading.clone(),
            // No reading, no judgement: before the first look nothing is normal.
            pressure: match &self.reading {
                Err(why @ Unusable::NotYet) => Pressure::Blind { since: self.now(), why: why.clone() },
                Ok(_) | Err(_) => self.pressure.clone(),
            },
            marks: self.marks.clone(),
            trees: self.tree_views(),
            basis: self.basis(),
            spared: self.spared.clone(),
            running: self.running,
            last_run: self.last_run.clone(),
            stalled: self.stalled.clone(),
            foreign: self.foreign(),
            canary: self
                .canary
                .heard
                .clone()
                .filter(|_| self.trees.iter().any(|tree| tree.policy.mode == Mode::Enforce)),
            clock_suspect: self.clock.suspect().map(|(since, _)| since),
        }
    }

    fn tree_views(&self) -> Vec<TreeView> {
        let mut views: Vec<TreeView> = self.trees.iter().map(TreeWatch::view).collect();
        self.journal().with_history(|history| {
            for aside in history.quarantined.values() {
                if let Some(view) = views.iter_mut().find(|view| view.policy.tree == aside.target.tree) {
                    view.orphans.quarantined.add(aside.target.bytes);
                }
            }
        });
        views
    }

    pub(super) fn handles(&self) -> Trees {
        let boot = self.engine.clock.boottime();
        let trusted = self.trees.iter().filter(|tree| tree.fault.is_none());
        let proof = Proof { machine: self.machine.clone(), state: self.state.clone() };
        trusted.map(|tree| (tree.policy.tree.clone(), tree.handle(&self.traits, boot, &proof))).collect()
    }

    /// A tree that could not be opened, or was mounted again, can be opened now; its marker will tell whether it is the right one.
    pub(super) fn returned(&self) -> bool {
        // A mount that did not answer is worked by a process of its own from now on. The trees are told of first: all are isolated.
        if matches!(self.reading, Err(Unusable::TimedOut(_))) {
            let isolated = self.trees.iter().filter(|tree| self.machine.isolate(tree.dir.path())).count();
            if isolated > 0 {
                let text = format!("volume {} did not answer; a process of its own works it from now on", self.name);
                self.emit(Event::Remark { text, urgent: true });
                return true;
            }
        }
        let absent = self.traits.kind == "absent";
        self.trees.iter().any(|tree| {
            (absent || matches!(tree.fault, Some(Unusable::Replaced { .. })))
                && self.machine.open_tree(tree.dir.path()).is_ok_and(|dir| !self.held_elsewhere(tree, dir.as_ref()))
        })
    }

    /// Another process has the tree, or a thread of ours that was left behind. What this worker has, it gives back when everything is opened again:
    /// the same directory, mounted again.
    fn held_elsewhere(&self, tree: &TreeWatch, dir: &dyn WritableDir) -> bool {
        let place = |dir: &dyn WritableDir| dir.top().ok().map(|top| (top.device, top.inode));
        if place(dir).is_some_and(|there| place(tree.dir.as_ref()) == Some(there)) {
            return false;
        }
        let taken = self.writes && tree.policy.mode == Mode::Enforce;
        taken && dir.lock().is_ok_and(|holder| holder.is_some())
    }

    /// Settles what a crash left open; `false` while the volume is blind, when nothing is touched.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn settle(&mut self) -> Result<bool, JournalError> {
        if self.reading.is_err() || self.reading.as_ref().is_ok_and(|reading| reading.readonly) {
            return Ok(false);
        }
        self.settled_at = self.engine.clock.boottime();
        self.upset = false;
        let breaks: Vec<u64> = self.trees.iter().map(|tree| tree.dir.breaks()).collect();
        let report = settle(&self.engine, &self.handles())?;
        self.remove_canaries();
        self.note_settled(&report.settled);
        for text in report.left {
            self.emit(Event::Remark { text, urgent: false });
        }
        for (tree, breaks) in self.trees.iter_mut().zip(breaks) {
            if tree.fault.is_none() && !report.lost.contains(&tree.policy.tree) {
                tree.settled_breaks = Some(breaks);
            }
        }
        Ok(true)
    }

    /// Settles what a process that was lost in the middle of its work left open, before anything else is begun; `false` while that
    /// cannot be done.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn steady(&mut self) -> Result<bool, JournalError> {
        let open = |tree: &TreeWatch| tree.fault.is_none() && tree.settled_breaks != Some(tree.dir.breaks());
        if self.trees.iter().any(open) {
            self.settle()?;
        }
        Ok(!self.trees.iter().any(open))
    }

    /// A deletion was left open because nobody could tell where its file stands, and it is time to look again.
    pub(super) fn unsettled(&self) -> bool {
        let names = self.names();
        self.engine.clock.boottime().saturating_sub(self.settled_at) >= RESETTLE
            && self.journal().with_history(|h| h.open.values().any(|open| names.contains(&open.intent.target.tree)))
    }

    /// Does what is due: retries, closed files, and the run that the plan asks for.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn act(&mut self, stop: Stop<'_>, publish: &dyn Fn(&Self)) -> Result<(), JournalError> {
        self.sweep_held()?;
        self.forget_shared()?;
        if self.reading.is_err() || !self.trees.iter().any(|tree| tree.policy.mode == Mode::Enforce) {
            return Ok(());
        }
        self.look_for_foreign();
        self.run_canary();
        // What persons want kept, and what is being written, is asked for first; who is silent does not let the disk fill.
        let informed = self.informed() && self.live.all_asked();
        if !informed && self.engine.clock.boottime().saturating_sub(self.began) < ASKING {
            return Ok(());
        }
        self.retry(Again::Due, stop)?;
        self.clear_orphans(stop, publish)?;
        if !self.steady()? {
            return Ok(());
        }
        let now = self.now();
        let Some(basis) = self.basis() else { return Ok(()) };
        let scanned = std::mem::take(&mut self.scanned);
        if scanned {
            self.forget_copies();
        }
        // Without pressure only a new scan, or a window that opens, can bring something past its retention, or a copy let its source go.
        let opened = std::mem::replace(&mut self.windows, basis.open.clone()) != basis.open;
        let moved = self.copies_wait();
        if basis.target.is_zero() && !scanned && !opened && !moved {
            return Ok(());
        }
        let (plan, over) = basis.plan_unasked(&self.name, now);
        self.offer_copies(&plan);
        let plan = self.only_asked(plan);
        self.trip(&plan, &basis, &over)?;
        if plan.items.is_empty() {
            return Ok(());
        }
        self.tell_unarchived(&plan);
        let run = self.next_run();
        self.carry_out(&plan, &Wish { who: GUARD, run, job: None, exactly: false }, stop, publish)?;
        Ok(())
    }
}
