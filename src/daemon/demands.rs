//! What persons and the gateway want deleted, carried out a batch at a time.
//!
//! 1. A demand waits in its volume's queue. A scan gives way to it after each directory, a run after each batch, so that it begins at once.
//! 2. Its turn is one batch: the tree is looked at, the next files are looked at, and go through the door as all deletions do. Then others
//!    have their turn, and it waits for its next one. A batch of targets is in memory, and no more.
//! 3. What fails is tried again later as any other failed deletion; the job waits for that. What was not begun when the guard was told to
//!    stop is gone on with by the worker of the next configuration.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::demand_look::What;
use super::demand_task::{Chosen, Task};
use super::hub::Hub;
use super::job_items::ItemDone;
use super::queue::Queue;
use super::remedies::Relief;
use super::runs::Wish;
use super::systemd::Pulse;
use super::volume::{ASKING, VolumeWorker};
use crate::domain::cause::chain;
use crate::domain::deletion::{Attempt, Cause, Failure, NOT_BEGUN, Outcome, RuleKind, RunResult, Seq, Target};
use crate::domain::event::Event;
use crate::domain::journal::{Entry, Intent};
use crate::domain::layout::Layout;
use crate::domain::names::TreeId;
use crate::domain::path::{RelPath, show_bytes};
use crate::domain::recording::Tally;
use crate::domain::retention::Mode;
use crate::domain::volume::Unusable;
use crate::reclaim::{Settled, Stop};
use crate::server::records::Problem;
use crate::store::JournalError;
use crate::system::Clock;

/// A demand whose tree cannot be judged yet is looked at again after this.
const AGAIN: Duration = Duration::from_millis(250);
/// What a restart interrupted waits for so long for a tree that cannot be trusted.
const LATER: Duration = Duration::from_secs(10);
/// The disk is busy: a demand waits for so long.
const BUSY: Duration = Duration::from_secs(1);

/// What a worker needs to attend to demands, and to be told to stop.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) hub: Arc<Hub>,
    pub(super) queue: Arc<Queue>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Desk {
    /// Whether the worker is to end. It asks before each file and directory, and whoever asks is alive.
    pub(super) fn asked(&self) -> bool {
        self.pulse.beat(self.clock.as_ref());
        self.stop.load(Ordering::Relaxed)
    }

    /// A demand waits for its turn.
    pub(super) fn demanded(&self) -> bool {
        self.queue.demanded(self.clock.boottime()) > 0
    }
}

/// What follows a turn.
enum Next {
    /// It is over.
    Over(Relief),
    /// It has another turn, not before this has passed.
    After(Duration),
    /// Nobody wants it any more, and it never began.
    Forgotten,
}

/// Whether a tree can be worked on.
enum Ready {
    /// It can; its index.
    Now(usize),
    /// It cannot yet.
    Soon,
    /// It cannot.
    Never(Relief),
}

impl VolumeWorker {
    /// Every demand that waits has its turn. Called between two steps of anything else that takes long; not within a turn.
    pub(super) fn attend(&mut self) {
        let Some(desk) = self.desk.take() else { return };
        for _ in 0..desk.queue.demanded(self.engine.clock.boottime()) {
            if let Some(task) = desk.queue.demand(self.engine.clock.boottime()) {
                self.attend_to(&desk, task);
            }
        }
        self.desk = Some(desk);
    }

    /// One demand has its turn.
    pub(super) fn serve(&mut self, task: Box<Task>) {
        let Some(desk) = self.desk.take() else { return };
        self.attend_to(&desk, task);
        self.desk = Some(desk);
    }

    fn attend_to(&mut self, desk: &Desk, mut task: Box<Task>) {
        let turn = AssertUnwindSafe(|| match desk.asked() {
            true => Ok(Next::After(Duration::ZERO)),
            false => self.turn(desk, &mut task).and_then(|next| match next {
                Next::Over(relief) => self.conclude(&mut task, &relief).map(|()| Next::Over(relief)),
                Next::After(_) | Next::Forgotten => Ok(next),
            }),
        });
        // The worker ends with a fault of its own; whoever asked must not wait for that for ever, nor what met it begin again.
        let next = catch_unwind(turn).unwrap_or_else(|fault| {
            desk.hub.forget_demand(task.job);
            let problem =
                Problem { code: "internal", message: "the guard met a fault of its own; its log says more".to_owned() };
            desk.hub.with_jobs(|jobs| jobs.end_remedy(task.job, task.reclaimed, Some(problem), desk.hub.now()));
            resume_unwind(fault)
        });
        let relief = match next {
            Ok(Next::After(span)) => {
                task.rests_until = self.engine.clock.boottime().saturating_add(span);
                match desk.queue.return_demand(task) {
                    Ok(()) => return,
                    Err(returned) => task = returned,
                }
                Relief { reclaimed: task.reclaimed, ..Relief::refused("gone", "its volume is not guarded any more") }
            }
            Ok(Next::Forgotten) => return desk.hub.forget_demand(task.job),
            Ok(Next::Over(relief)) => relief,
            Err(error) => {
                self.upset = true;
                let text = format!("{}; nothing is deleted", chain(&error));
                self.emit(Event::Remark { text: text.clone(), urgent: true });
                Relief::refused("journal", text)
            }
        };
        let now = desk.hub.now();
        desk.hub.forget_demand(task.job);
        desk.hub.with_jobs(|jobs| jobs.end_remedy(task.job, task.reclaimed, relief.problem, now));
        desk.hub.publish(self.view());
    }

    /// Puts on record that a demand is over, so that no restart goes on with it.
    fn conclude(&mut self, task: &mut Task, relief: &Relief) -> Result<(), JournalError> {
        let Some(mut run) = task.run.take() else {
            if task.stored && !task.is_cancelled() {
                let why = relief.problem.as_ref().map_or("there was nothing to delete", |problem| &problem.message);
                let note = Entry::job_over(task.job, &task.who, format!("{}: {why}", task.words));
                self.engine.journal.append_synced(vec![note], self.engine.clock.now())?;
            }
            return Ok(());
        };
        if task.is_cancelled() {
            run.cancel(task.left());
        } else if relief.problem.is_none() {
            run.complete();
        }
        self.engine.end(run).map(|_| ())
    }

    /// Whether a tree can be worked on now.
    fn readiness(&mut self, tree: &TreeId) -> Result<Ready, JournalError> {
        let refused = |code, message: &str| Ok(Ready::Never(Relief::refused(code, message)));
        let Some(index) = self.trees.iter().position(|watch| watch.policy.tree == *tree) else {
            return refused("gone", "its tree is not guarded any more");
        };
        if self.trees[index].policy.mode != Mode::Enforce {
            return refused("observe", "the tree is only observed: nothing is changed");
        }
        self.probe()?;
        self.check_trees()?;
        if self.upset {
            self.settle()?;
        }
        self.take_favourites();
        self.take_live();
        let watch = &self.trees[index];
        // What only a scan can tell is waited for.
        if self.reading.is_ok() && watch.fault.is_some() && !watch.scanned() {
            return Ok(Ready::Soon);
        }
        if self.reading.is_err() || watch.fault.is_some() || self.upset || !self.steady()? {
            return refused("blind", "the tree cannot be trusted now, so nothing in it is touched");
        }
        let watch = &self.trees[index];
        // Where a file in use bears no sign of it, what the last scan saw being written counts too.
        if watch.signless() && !watch.scanned() {
            return Ok(Ready::Soon);
        }
        let known = watch.favourites_of.is_some() && self.catalogues.favourites_known(tree);
        // Which streams are live is waited for, as long as it may come; leases tell what is open without it.
        let asking = self.engine.clock.boottime().saturating_sub(self.began) < ASKING;
        if known && (self.live.all_asked() || !asking) {
            return Ok(Ready::Now(index));
        }
        if asking {
            return Ok(Ready::Soon);
        }
        refused(
            "untrusted",
            "what persons want kept is not known, since a catalogue of the tree was never read; nothing is deleted before it was",
        )
    }

    /// One turn of a demand: a batch.
    fn turn(&mut self, desk: &Desk, task: &mut Task) -> Result<Next, JournalError> {
        if task.is_cancelled() {
            return Ok(Next::Over(Relief::default()));
        }
        if task.cancelled.is_none() && !desk.hub.with_jobs(|jobs| jobs.wanted(task.job)) {
            return Ok(Next::Forgotten);
        }
        let index = match self.readiness(&task.tree)? {
            Ready::Now(index) => index,
            Ready::Soon => return Ok(Next::After(AGAIN)),
            // After a restart the disk may come later, and nobody waits for the answer.
            Ready::Never(relief) if task.not_after.is_some() && relief.may_pass() => return Ok(Next::After(LATER)),
            Ready::Never(relief) => {
                let begun = task.cancelled.is_some() || self.begin(desk, task);
                return Ok(if begun { Next::Over(relief) } else { Next::Forgotten });
            }
        };
        if task.cancelled.is_none() && !self.begin(desk, task) {
            return Ok(Next::Forgotten);
        }
        let cancelled = task.cancelled.clone().unwrap_or_default();
        let stop = || desk.asked() || cancelled.load(Ordering::Relaxed);
        let policy = self.trees[index].policy.clone();
        let (path, _) = show_bytes(self.trees[index].dir.path().as_os_str().as_encoded_bytes());
        if path != task.ground.path || policy.layout.reading() != task.ground.layout {
            let text = "the tree is elsewhere, or its layout or timezone is another, since this was asked for: nobody said what it means now";
            return Ok(Next::Over(Relief { reclaimed: task.reclaimed, ..Relief::refused("changed", text) }));
        }
        if policy.layout.has_units() {
            self.batch_of_unit(desk, task, index, &stop)?;
        } else {
            self.batch_of_files(desk, task, index, &stop)?;
        }
        Ok(self.after_turn(task, &cancelled))
    }

    /// The next batch of a demand in a tree whose recordings are files.
    fn batch_of_files(
        &mut self,
        desk: &Desk,
        task: &mut Task,
        index: usize,
        stop: Stop<'_>,
    ) -> Result<(), JournalError> {
        let (dir, policy) = (self.trees[index].dir.clone(), self.trees[index].policy.clone());
        let chosen = task.choose(dir.as_ref(), &policy.layout, self.engine.cleanup.batch_files.max(1), stop);
        let begun = self.begun(index, &chosen);
        let (mut targets, mut again, mut done) = (Vec::new(), Vec::new(), Vec::new());
        let mut put = |what| match what {
            What::Go(target) => targets.push(target),
            What::Again(failure) => again.push(failure),
            What::Done(item) => done.push(item),
        };
        match &chosen {
            Chosen::Paths(paths) => {
                paths.iter().for_each(|path| put(self.look_at(index, task, path, &begun)));
            }
            Chosen::Files(files) => files.iter().for_each(|file| {
                put(self.judge(index, task, &file.path, &file.identity, file.found.clone(), &begun));
            }),
        }
        let mut settled = self.carry_batch(task, targets, stop)?;
        settled.extend(self.try_again(task, again, stop)?);
        begun_with(&mut settled);
        let bytes = settled.iter().map(|one| one.intent.target.bytes).sum();
        let through: HashSet<&RelPath> =
            settled.iter().map(|one| &one.intent.target.path).chain(done.iter().map(|one| &one.path)).collect();
        let files = match &chosen {
            Chosen::Paths(_) => 0,
            Chosen::Files(files) => files.iter().filter(|file| through.contains(&file.path)).count() as u64,
        };
        task.put_back(chosen, &|path| through.contains(path));
        done.iter().for_each(|item| self.emit(unbegun(task, &policy.layout, item)));
        desk.hub.with_jobs(|jobs| {
            jobs.expand(task.job, Tally { files, bytes });
            done.into_iter().for_each(|item| jobs.item(task.job, item));
            jobs.reclaimed(task.job, task.reclaimed);
        });
        desk.hub.settled(task.job, settled);
        Ok(())
    }

    /// The job begins, unless it was cancelled meanwhile.
    fn begin(&self, desk: &Desk, task: &mut Task) -> bool {
        task.cancelled = desk.hub.with_jobs(|jobs| jobs.begin(task.job, desk.hub.now()));
        task.cancelled.is_some()
    }

    /// What follows a batch.
    fn after_turn(&self, task: &Task, cancelled: &AtomicBool) -> Next {
        let over = |problem| Next::Over(Relief { reclaimed: task.reclaimed, problem });
        if cancelled.load(Ordering::Relaxed) {
            return over(None);
        }
        if let Some(run) = task.run.as_ref().filter(|run| !run.goes_on()) {
            let report = run.report();
            let code = match report.result {
                RunResult::Stalled => Some("stalled"),
                RunResult::Failed => Some("blind"),
                // The guard was told to stop: the next worker goes on.
                RunResult::Cancelled => None,
                RunResult::ReachedLow | RunResult::Exhausted => Some("failed"),
            };
            if let Some(code) = code {
                return over(Some(Problem { code, message: report.why.to_string() }));
            }
        }
        if task.through() {
            return over(task.unread());
        }
        let busy = if self.machine.busy() { BUSY } else { Duration::ZERO };
        Next::After(self.engine.cleanup.pause.max(busy))
    }

    /// Carries a batch out, as a part of the demand's run.
    pub(super) fn carry_batch(
        &mut self,
        task: &mut Task,
        targets: Vec<Target>,
        stop: Stop<'_>,
    ) -> Result<Vec<Settled>, JournalError> {
        if targets.is_empty() && task.unit.is_none() {
            return Ok(Vec::new());
        }
        let mut run = match task.run.take() {
            Some(run) => run,
            None => {
                let wish = Wish { who: &task.who, run: task.job, job: Some(task.job), exactly: true };
                let mut order = self.order(Vec::new(), Vec::new(), &wish);
                order.asked = Some(task.words.clone());
                self.engine.begin(order)?
            }
        };
        let mut trees = self.handles();
        let sighted = task.unit.as_ref().filter(|unit| unit.sighted);
        if let (Some(unit), Some(tree)) = (sighted, trees.get_mut(&task.tree)) {
            // What was seen when it began holds to its end, whatever is scanned meanwhile.
            tree.sighted_units.insert(unit.target.path.clone());
        }
        let carried = self.carry_some(&mut run, targets, &trees, &|| false, stop);
        if task.unit.is_none() {
            // What did not fit into the batch is chosen anew.
            run.forget_rest();
        }
        let settled = run.take_settled();
        if let Err(unusable @ (Unusable::Replaced { .. } | Unusable::TimedOut(_))) = &run.report().reading {
            self.reading = Err(unusable.clone());
        }
        task.reclaimed = run.report().reclaimed;
        task.run = Some(run);
        carried?;
        self.note_settled(&settled);
        Ok(settled)
    }

    /// Tries deletions again that failed before; what is hindered as before counts as one more try.
    pub(super) fn try_again(
        &mut self,
        task: &Task,
        failures: Vec<Failure>,
        stop: Stop<'_>,
    ) -> Result<Vec<Settled>, JournalError> {
        if failures.is_empty() {
            return Ok(Vec::new());
        }
        let trees = self.handles();
        let mut settled = self.engine.retry(&trees, failures.clone(), (task.job, &task.who), stop)?;
        self.note_settled(&settled);
        for failure in failures {
            if settled.iter().all(|one| one.failure() != failure.id) {
                settled.push(standing(failure, task));
            }
        }
        Ok(settled)
    }
}

/// Leaves out what was not begun, which is as it was before; `false` if there was any.
pub(super) fn begun_with(settled: &mut Vec<Settled>) -> bool {
    let given = settled.len();
    settled.retain(|one| one.attempt != Attempt::Kept { why: NOT_BEGUN.to_owned() });
    settled.len() == given
}

/// What everybody is told of something that nothing was begun with: it is gone, or stays.
pub(super) fn unbegun(task: &Task, layout: &Layout, item: &ItemDone) -> Event {
    let detail = || item.detail.clone().unwrap_or_default();
    let attempt = match item.outcome {
        Outcome::Verified | Outcome::AlreadyGone => Attempt::AlreadyGone,
        Outcome::Kept => Attempt::Kept { why: detail() },
        Outcome::Failed => {
            Attempt::Failed { cause: item.cause.unwrap_or(Cause::Unknown), error: detail(), holder: None }
        }
    };
    let target = Target {
        tree: item.tree.clone(),
        path: item.path.clone(),
        stream: layout.stream_of(&item.path).unwrap_or_default(),
        recorded: None,
        bytes: item.bytes,
        inode: 0,
        fingerprint: 0,
        rule: RuleKind::Requested,
        trigger: task.trigger,
        reason: task.reason.clone(),
    };
    Event::Settled { target, attempt, again: false }
}

/// A deletion that failed before, as it stands.
fn standing(failure: Failure, task: &Task) -> Settled {
    let seq = Seq(failure.id);
    let attempt = Attempt::Failed { cause: failure.cause, error: failure.error, holder: failure.holder };
    let intent = Intent {
        target: failure.target,
        who: task.who.clone(),
        job: Some(task.job),
        run: task.job,
        retry_of: Some(seq),
    };
    Settled { seq, intent, attempt }
}
