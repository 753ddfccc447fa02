//! The runs of a volume: what a plan asks for is carried out, as far as the caps allow, and what came of it is kept.

use std::time::Duration;

use super::demands::Desk;
use super::tree::TreeWatch;
use super::volume::{DEADLINE, VolumeWorker};
use crate::domain::deletion::{Attempt, Cap, RunResult, Seq, Target};
use crate::domain::event::Event;
use crate::domain::history::{CapTrip, History};
use crate::domain::plan::Plan;
use crate::domain::status::{PlanBasis, RunSummary, Stall};
use crate::domain::units::Bytes;
use crate::domain::volume::Unusable;
use crate::reclaim::{Order, Run, RunReport, Settled, Stop, Trees};
use crate::store::JournalError;

/// Who wants a plan carried out, and how.
pub(super) struct Wish<'a> {
    /// The guard, or a person.
    pub(super) who: &'a str,
    /// Number of the run.
    pub(super) run: u64,
    /// The job it belongs to.
    pub(super) job: Option<u64>,
    /// Nothing goes that is not in the plan, also where that gives back less than it should.
    pub(super) exactly: bool,
}

impl VolumeWorker {
    /// Latches the caps that the plan of now goes beyond.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn trip_caps(&self) -> Result<(), JournalError> {
        let now = self.now();
        let Some(basis) = self.basis() else { return Ok(()) };
        let (plan, over) = basis.plan_unasked(&self.name, now);
        self.trip(&plan, &basis, &over)
    }

    /// Lets trees, catalogues and findings know what became of intents.
    pub(super) fn note_settled(&mut self, settled: &[Settled]) {
        self.trees.iter_mut().for_each(|tree| tree.settled(settled));
        self.forget_expired_copies(settled);
        self.catalogues.settled(settled.iter().map(|one| (&one.intent, &one.attempt)), self.now());
    }

    /// A number for a new run.
    pub(super) fn next_run(&self) -> u64 {
        self.journal().with_history_mut(History::next_run)
    }

    /// Latches the caps that a plan wanted to go beyond (promise 9).
    pub(super) fn trip(&self, plan: &Plan, basis: &PlanBasis, over: &[(usize, Bytes)]) -> Result<(), JournalError> {
        let Ok(reading) = &self.reading else { return Ok(()) };
        let now = self.now();
        for (index, wanted) in over {
            let tree = basis.trees[*index].policy.tree.clone();
            let known = self.journal().with_history(|h| h.caps.contains_key(&(tree.clone(), Cap::RunShare)));
            if known {
                continue;
            }
            let allowed = basis.allowances[*index].pressure;
            // The line to hold is where volume and tree stand once what is allowed is gone.
            let of_tree = plan.items.iter().filter(|item| item.tree == *index);
            let going: Bytes = of_tree.map(|item| plan.recording(item).bytes).sum();
            let held = self.trees.iter().find(|watch| watch.policy.tree == tree).map_or(Bytes::ZERO, TreeWatch::held);
            let trip = CapTrip {
                cap: Cap::RunShare,
                tree: tree.clone(),
                wanted: *wanted,
                allowed,
                held: held.saturating_sub(going),
                available: reading.space.available.saturating_add(going),
                since: now,
            };
            self.journal().append_synced(vec![trip.entry(Some(&self.name))], now)?;
            self.emit(Event::CapTripped { tree, cap: Cap::RunShare, wanted: *wanted, allowed });
        }
        Ok(())
    }

    /// Carries a plan out, as far as its trees may be changed.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn carry_out(
        &mut self,
        plan: &Plan,
        wish: &Wish<'_>,
        stop: Stop<'_>,
        publish: &dyn Fn(&Self),
    ) -> Result<RunReport, JournalError> {
        // What fails already is tried again by itself.
        let failing: std::collections::HashSet<_> = self.journal().with_history(|history| {
            // What is in quarantine bears no name that matters.
            let named = |seq: Option<Seq>| seq.is_none_or(|seq| !history.quarantined.contains_key(&seq));
            let failing = history.failures.values().filter(|failure| named(Some(Seq(failure.id))));
            let failing = failing.map(|failure| &failure.target);
            // What an earlier intent is still open for would be counted twice.
            let open = history.open.values().filter(|open| named(open.intent.retry_of)).map(|open| &open.intent.target);
            failing.chain(open).map(|target| (target.tree.clone(), target.path.clone())).collect()
        });
        let targets = plan.items.iter().map(|item| plan.target_of(item));
        let targets = targets.filter(|target| !failing.contains(&(target.tree.clone(), target.path.clone()))).collect();
        let order = self.order(targets, Vec::new(), wish);
        let desk = self.desk.clone();
        let mut tell = |settled: Vec<Settled>| {
            if let (Some(desk), Some(job)) = (&desk, wish.job) {
                desk.hub.advance(job, &settled);
            }
        };
        self.carry(order, wish.exactly, (stop, publish), &mut tell)
    }

    /// An order for what is wished.
    pub(super) fn order(&self, targets: Vec<Target>, expiring: Vec<(Seq, Target)>, wish: &Wish<'_>) -> Order {
        let names = self.names();
        Order {
            volume: self.name.clone(),
            run: wish.run,
            who: wish.who.to_owned(),
            job: wish.job,
            targets,
            expiring,
            marks: self.marks.clone(),
            promised: self.journal().with_history(|history| history.held_open(&names)),
            asked: None,
        }
    }

    /// Carries an order out; everybody sees that it is, and what came of it. `tell` hears what became of its targets, some at a time.
    pub(super) fn carry(
        &mut self,
        order: Order,
        exactly: bool,
        (stop, publish): (Stop<'_>, &dyn Fn(&Self)),
        tell: &mut dyn FnMut(Vec<Settled>),
    ) -> Result<RunReport, JournalError> {
        let began = self.engine.clock.boottime();
        self.running = Some(self.now());
        publish(self);
        let result = self.carry_on(order, exactly, stop, tell);
        self.running = None;
        let report = result?;
        self.after_run(&report, began);
        publish(self);
        Ok(report)
    }

    /// Carries an order out. Where what was chosen gives back less than it should, more is chosen, as long as there is some. Between two
    /// batches it gives way to what was asked for meanwhile.
    fn carry_on(
        &mut self,
        order: Order,
        exactly: bool,
        stop: Stop<'_>,
        tell: &mut dyn FnMut(Vec<Settled>),
    ) -> Result<RunReport, JournalError> {
        let desk = self.desk.clone();
        let give_way = || desk.as_ref().is_some_and(Desk::demanded);
        let mut run = self.engine.begin(order)?;
        let mut more = Vec::new();
        let mut progress = false;
        loop {
            let trees = self.handles();
            self.carry_some(&mut run, std::mem::take(&mut more), &trees, &give_way, stop)?;
            let settled = run.take_settled();
            self.note_settled(&settled);
            progress |= settled.iter().any(|one| matches!(one.attempt, Attempt::Verified { .. }));
            tell(settled);
            if run.gave_way() {
                self.attend();
                continue;
            }
            if exactly || !run.wants_more() || !progress || run.report().reading.is_err() {
                return self.engine.end(run);
            }
            progress = false;
            self.reading.clone_from(&run.report().reading);
            self.ask_shared();
            more = self
                .plan()
                .map(|plan| self.only_asked(plan))
                .map(|plan| plan.items.iter().map(|item| plan.target_of(item)).collect())
                .unwrap_or_default();
            if more.is_empty() {
                return self.engine.end(run);
            }
        }
    }

    /// Carries a run on, until all that was chosen is through, it is stopped, or gives way.
    pub(super) fn carry_some(
        &mut self,
        run: &mut Run,
        more: Vec<Target>,
        trees: &Trees,
        give_way: &dyn Fn() -> bool,
        stop: Stop<'_>,
    ) -> Result<(), JournalError> {
        let machine = self.machine.clone();
        let watched: Vec<_> = trees.values().map(|tree| tree.dir.clone()).collect();
        let prober = &mut self.prober;
        let mut probe = || {
            let reading = prober.read(DEADLINE)?;
            // A tree that was unmounted or replaced meanwhile ends the run.
            watched.iter().try_for_each(|dir| dir.still_there())?;
            Ok(reading)
        };
        let busy = || machine.busy();
        self.engine.carry_on(run, more, trees, &mut probe, (&busy, give_way), stop)
    }

    fn after_run(&mut self, report: &RunReport, began: Duration) {
        let took = self.engine.clock.boottime().saturating_sub(began);
        let now = self.now();
        self.last_run = Some(RunSummary {
            at: now,
            result: report.result,
            why: report.why.clone(),
            took,
            deleted: report.deleted,
            reclaimed: report.reclaimed,
        });
        if let (RunResult::Stalled, true, Ok(reading)) = (report.result, report.by_pressure, &report.reading) {
            self.stalled = Some(Stall {
                since: now,
                available: reading.space.available,
                missing: report.expected.saturating_sub(report.reclaimed).max(Bytes(1)),
                why: report.why.clone(),
            });
        }
        if !matches!(self.reading, Err(Unusable::Marker { .. })) {
            self.reading = report.reading.clone();
        }
        self.step();
    }
}
