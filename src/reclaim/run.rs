//! One run: batch after batch, each measured before the next begins.

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::{Engine, Settled, Stop, breaks, broken, is_unit};
use super::handle::Trees;
use super::unit::{Next, Unit};
use crate::domain::deletion::{Attempt, RuleKind, RunResult, Seq, Target, Trigger};
use crate::domain::ending::Ending;
use crate::domain::event::Event;
use crate::domain::journal::{Entry, Intent, NoteKind};
use crate::domain::ledger::{BatchAccount, Judgement, Ledger};
use crate::domain::names::VolumeId;
use crate::domain::recording::Tally;
use crate::domain::units::Bytes;
use crate::domain::volume::{Marks, Reading, Unusable};
use crate::store::JournalError;

/// How long space may take to come back once it is synced: it is looked for again after each of these.
pub const LAG: [Duration; 5] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(75),
    Duration::from_millis(200),
    Duration::from_millis(700),
];
/// So many outcomes are held that nobody took; then the run gives way.
const UNTAKEN: usize = 5000;
/// How long a batch waits for a busy disk at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two batches it is asked so often whether to go on.
const HEED: Duration = Duration::from_millis(20);

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Order {
    /// The volume.
    pub volume: VolumeId,
    /// Number of the run.
    pub run: u64,
    /// Who wanted it.
    pub who: String,
    /// The job it belongs to.
    pub job: Option<u64>,
    /// What goes, in this order.
    pub targets: Vec<Target>,
    /// What goes after that from quarantine: [`Expiries::ready`](super::Expiries).
    pub expiring: Vec<(Seq, Target)>,
    /// What pressure chose goes until the volume reaches the low one of these.
    pub marks: Marks,
    /// Bytes of deleted files that are still open somewhere: nothing more is deleted to make up for them.
    pub promised: Bytes,
    /// What was asked for, in words, where what goes is chosen bit by bit; the marks do not matter then.
    pub asked: Option<String>,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// How it ended.
    pub result: RunResult,
    /// Why.
    pub why: Ending,
    /// What became of each target that was begun, as far as nobody took it ([`Run::take_settled`]).
    pub settled: Vec<Settled>,
    /// Pressure chose some of it.
    pub by_pressure: bool,
    /// What was verified as deleted.
    pub deleted: Tally,
    /// Recordings that were not there any more.
    pub already_gone: u64,
    /// Recordings that could not be deleted.
    pub failed: u64,
    /// Recordings that were kept, for what the last look at them showed.
    pub kept: u64,
    /// Bytes that were deleted and are shared with others.
    pub shared: Bytes,
    /// The last reading.
    pub reading: Result<Reading, Unusable>,
    /// What was verified as deleted.
    pub expected: Bytes,
    /// What came back.
    pub reclaimed: Bytes,
    /// What did not because it is still open: it comes back when it is closed.
    pub explained: Bytes,
}

/// Asks the volume; a mount that hangs is an answer too.
type Probe<'a> = &'a mut dyn FnMut() -> Result<Reading, Unusable>;

/// A run that is being carried out.
pub struct Run {
    order: Order,
    line: Line,
    began: Duration,
    ledger: Ledger,
    report: RunReport,
    /// It gave way between two batches, and is not over.
    gave_way: bool,
    /// A batch of it was carried out.
    begun: bool,
}

impl Run {
    /// What it has done so far.
    #[must_use]
    pub fn report(&self) -> &RunReport {
        &self.report
    }

    /// All that was chosen is through, and the low mark is not reached: there may be more to choose.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.report.result == RunResult::Exhausted && !self.gave_way
    }

    /// It gave way between two batches: [`Engine::carry_on`] goes on with what is left.
    #[must_use]
    pub fn gave_way(&self) -> bool {
        self.gave_way
    }

    /// What was begun can still go on: all that was given is through, and nothing stopped it.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        matches!(self.report.why, Ending::Unbegun | Ending::Asked)
    }

    /// A directory that goes whole was begun, and is not through: [`Engine::carry_on`] goes on with it.
    #[must_use]
    pub fn within_unit(&self) -> bool {
        self.line.unit.is_some()
    }

    /// Takes what became of the targets that were begun since the last time, so that it is not held until the end.
    pub fn take_settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.report.settled)
    }

    /// Leaves out what was chosen and not begun.
    pub fn forget_rest(&mut self) {
        self.line.rest.clear();
    }

    /// All that was asked for is through, whatever made it pause on the way.
    pub fn complete(&mut self) {
        (self.report.result, self.report.why) = (RunResult::ReachedLow, Ending::Asked);
    }

    /// Nothing more is begun, since whoever wanted it does not want it any more.
    pub fn cancel(&mut self, left: u64) {
        (self.report.result, self.report.why) = (RunResult::Cancelled, Ending::Stopped { left });
    }

    fn count(&mut self, settled: &[Settled]) {
        for one in settled {
            self.report.by_pressure |= one.intent.target.trigger == Trigger::Pressure;
            match &one.attempt {
                Attempt::Verified { freed, shared, .. } => {
                    self.report.deleted.add(*freed);
                    self.report.shared = self.report.shared.saturating_add(*shared);
                }
                Attempt::AlreadyGone => self.report.already_gone += 1,
                Attempt::Failed { .. } => self.report.failed += 1,
                Attempt::Kept { .. } => self.report.kept += 1,
            }
        }
    }
}

impl Engine {
    /// Begins a run: it is on record.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn begin(&self, mut order: Order) -> Result<Run, JournalError> {
        let expiring = order.expiring.iter().map(|(_, target)| target);
        let bytes: Bytes = order.targets.iter().chain(expiring).map(|target| target.bytes).sum();
        let files = order.targets.len() + order.expiring.len();
        let words = order.asked.clone().unwrap_or_else(|| format!("{files} recordings, {bytes}"));
        self.note(&order, NoteKind::RunStarted, bytes, words)?;
        (self.events)(Event::RunStarted {
            volume: order.volume.clone(),
            run: order.run,
            files,
            bytes,
            who: order.who.clone(),
        });
        let report = RunReport {
            result: RunResult::Exhausted,
            why: Ending::Unbegun,
            settled: Vec::new(),
            by_pressure: false,
            deleted: Tally::default(),
            already_gone: 0,
            failed: 0,
            kept: 0,
            shared: Bytes::ZERO,
            reading: Err(Unusable::NotYet),
            expected: Bytes::ZERO,
            reclaimed: Bytes::ZERO,
            explained: Bytes::ZERO,
        };
        let mut line = Line::default();
        line.rest.extend(std::mem::take(&mut order.targets).into_iter().map(|target| (target, None)));
        line.rest.extend(std::mem::take(&mut order.expiring).into_iter().map(|(seq, target)| (target, Some(seq))));
        Ok(Run {
            order,
            line,
            began: self.clock.boottime(),
            ledger: Ledger::default(),
            report,
            gave_way: false,
            begun: false,
        })
    }

    /// Ends a run: how it ended is on record.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn end(&self, run: Run) -> Result<RunReport, JournalError> {
        let Run { order, mut line, began, report, .. } = run;
        self.leave(&mut line);
        // What was asked for has no mark to reach.
        let asked = report.why == Ending::Asked;
        let text = if asked { report.why.to_string() } else { format!("{}: {}", report.result, report.why) };
        self.note(&order, NoteKind::RunEnded, report.reclaimed, text)?;
        (self.events)(Event::RunEnded {
            volume: order.volume,
            run: order.run,
            result: report.result,
            why: report.why.to_string(),
            took: self.clock.boottime().saturating_sub(began),
            files: report.deleted.files,
            expected: report.expected,
            reclaimed: report.reclaimed,
        });
        Ok(report)
    }

    fn note(&self, order: &Order, kind: NoteKind, bytes: Bytes, text: String) -> Result<(), JournalError> {
        let note = Entry::Note {
            kind,
            volume: Some(order.volume.clone()),
            tree: None,
            who: order.who.clone(),
            bytes,
            number: order.run,
            text,
        };
        self.journal.append_synced(vec![note], self.clock.now()).map(|_| ())
    }

    /// Carries out what was chosen, batch by batch. `more` is what was chosen since; `busy` says how busy the disk is. Where `give_way` says
    /// so it comes back between two batches ([`Run::gave_way`]).
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn carry_on(
        &self,
        run: &mut Run,
        more: Vec<Target>,
        trees: &Trees,
        probe: Probe<'_>,
        (busy, give_way): (&dyn Fn() -> bool, &dyn Fn() -> bool),
        stop: Stop<'_>,
    ) -> Result<(), JournalError> {
        run.gave_way = false;
        run.line.rest.extend(more.into_iter().map(|target| (target, None)));
        let mut begun = false;
        run.report.reading = measure(trees, probe);
        let (result, why) = loop {
            let (order, report, line) = (&run.order, &mut run.report, &mut run.line);
            let before = match &report.reading {
                Ok(reading) if reading.readonly => break (RunResult::Failed, Ending::Unusable(Unusable::ReadOnly)),
                Ok(reading) => *reading,
                // Without a reading there is no deletion (promise 6).
                Err(why) => break (RunResult::Failed, Ending::Unusable(why.clone())),
            };
            let promised = order.promised.saturating_add(report.explained);
            let (measured, needed) = needed(&order.marks, &before, promised);
            line.skip_satisfied(needed);
            if line.is_empty() {
                break conclude(order, report, measured, needed);
            }
            if stop() {
                break (RunResult::Cancelled, Ending::Stopped { left: line.left() });
            }
            if self.brake.hold(self.clock.as_ref(), stop) {
                // Much may have changed meanwhile.
                report.reading = measure(trees, probe);
                continue;
            }
            let critical = before.space.available < order.marks.thresholds(&before.space).critical;
            // A job is told how far it is.
            if begun && (order.job.is_some() || give_way() || report.settled.len() >= UNTAKEN) {
                run.gave_way = true;
                return Ok(());
            }
            // What is chosen bit by bit has its pauses between its turns.
            if !critical && run.begun && order.asked.is_none() {
                self.wait(busy, &|| stop() || give_way());
            }
            (begun, run.begun) = (true, true);
            let now = self.gather(line, trees, needed, stop);
            if now.is_empty() {
                continue;
            }
            let intents = now.into_iter().map(|(target, quarantined)| Intent {
                target,
                who: order.who.clone(),
                job: order.job,
                run: order.run,
                retry_of: quarantined,
            });
            let whole = breaks(trees);
            let settled = self.batch(trees, intents.collect(), stop)?;
            if let Some(unit) = &mut line.unit {
                unit.note(&settled);
            }
            report.reading = measure(trees, probe);
            let mut account = account(&settled, &before, report.reading.as_ref().ok());
            // XFS frees blocks behind our back, a moment later.
            for pause in LAG {
                if account.came_back() >= account.expected.saturating_sub(account.explained) {
                    break;
                }
                self.clock.sleep(pause);
                report.reading = measure(trees, probe);
                account = self::account(&settled, &before, report.reading.as_ref().ok());
            }
            report.expected = report.expected.saturating_add(account.expected);
            report.explained = report.explained.saturating_add(still_open(&settled));
            run.count(&settled);
            let (order, report) = (&run.order, &mut run.report);
            let chosen = settled.iter().filter(|one| ends_at_low(&one.intent.target));
            let shared: Bytes = chosen.map(|one| shared(&one.attempt)).sum();
            report.settled.extend(settled);
            let judgement = run.ledger.enter(&account, before.space.size);
            report.reclaimed = run.ledger.came_back;
            (self.events)(Event::Measured { volume: order.volume.clone(), account, judgement });
            // What is open must be settled before anything is chosen again.
            if let Some((name, _)) = trees.iter().find(|(name, tree)| broken(&whole, name, tree)) {
                break (RunResult::Failed, Ending::ProcessLost { tree: name.clone() });
            }
            // Nearly all of a batch is shared, and it shows: there is no need to delete another to be sure.
            let futile = shared >= account.expected.scaled(9, 10)
                && shared > Bytes::ZERO
                && account.came_back() < account.expected.scaled(1, 2);
            if futile {
                break (RunResult::Stalled, Ending::AllShared { shared, deleted: account.expected });
            }
            if let Judgement::Stalled(missing) = judgement {
                let why = match report.shared {
                    Bytes::ZERO => Ending::Unexplained { missing },
                    shared => Ending::PartlyShared { missing, shared },
                };
                break (RunResult::Stalled, why);
            }
        };
        (run.report.result, run.report.why) = (result, why);
        self.leave(&mut run.line);
        Ok(())
    }

    /// Nothing more of what was chosen is begun; everybody is told of a unit that is gone in part.
    fn leave(&self, line: &mut Line) {
        if let Some(unit) = std::mem::take(line).unit {
            let (target, (gone, files)) = (unit.target(), unit.progress());
            let text = format!(
                "tree `{}`: the run ended within `{}`: {gone} of its {files} files are gone, and the rest stays until it is chosen again",
                target.tree, target.path
            );
            (self.events)(Event::Remark { text, urgent: false });
        }
    }

    /// The pause between batches, and while the disk is busy.
    fn wait(&self, busy: &dyn Fn() -> bool, stop: Stop<'_>) {
        let began = self.clock.boottime();
        while self.clock.boottime().saturating_sub(began) < self.cleanup.pause && !stop() {
            self.clock.sleep(self.cleanup.pause.min(HEED));
        }
        let began = self.clock.boottime();
        while busy() && self.clock.boottime().saturating_sub(began) < PATIENCE && !stop() {
            self.clock.sleep(Duration::from_secs(1));
        }
    }

    /// What is one batch: never more than is needed under pressure, but a unit that was begun goes on whatever is needed.
    fn gather(&self, line: &mut Line, trees: &Trees, needed: Needed, stop: Stop<'_>) -> Vec<Chosen> {
        let (mut out, mut bytes) = (Vec::<Chosen>::new(), Bytes::ZERO);
        // Without room for a journal one by one, only until there is some.
        let most = self.cleanup.batch_files.max(1).min(self.journal.room());
        let fits = |out: &[Chosen], bytes: Bytes, target: &Target| {
            out.is_empty() || bytes.saturating_add(target.bytes) <= self.cleanup.batch_bytes
        };
        while out.len() < most {
            if let Some(mut unit) = line.unit.take() {
                let Some(tree) = trees.get(&unit.target().tree) else { continue };
                // What protects the day came after it was begun: the rest of it stays.
                let next = match tree.spares(&unit.target().path) {
                    Some(_) => Next::Kept,
                    None => unit.next(tree, self.clock.now()),
                };
                match next {
                    Next::File(target) if fits(&out, bytes, &target) => {
                        bytes = bytes.saturating_add(target.bytes);
                        out.push((target, None));
                    }
                    Next::File(target) => {
                        unit.give_back(target);
                        line.unit = Some(unit);
                        break;
                    }
                    Next::Wait => {
                        line.unit = Some(unit);
                        break;
                    }
                    Next::Kept => {
                        out.push((unit.target().clone(), None));
                        continue;
                    }
                    Next::Done => continue,
                }
                line.unit = Some(unit);
                continue;
            }
            let Some((target, quarantined)) = line.rest.front() else { break };
            let enough = ends_at_low(target) && bytes >= needed.bytes && out.len() as u64 >= needed.inodes;
            if enough && !out.is_empty() {
                break;
            }
            let unit = trees.get(&target.tree).filter(|tree| quarantined.is_none() && is_unit(tree, target));
            if let Some(tree) = unit {
                // Whether it is the last of its stream is seen once the one before is gone.
                let stream = target.path.split().0;
                if out.iter().any(|(other, _)| stream.as_ref().is_some_and(|stream| other.path.lies_in(stream))) {
                    break;
                }
                match self.begin_unit(tree, target, stop) {
                    Ok(unit) => line.unit = Some(unit),
                    // Why it is kept is put on record.
                    Err(_) => out.push((target.clone(), None)),
                }
                line.rest.pop_front();
                continue;
            }
            if !fits(&out, bytes, target) {
                break;
            }
            bytes = bytes.saturating_add(target.bytes);
            out.extend(line.rest.pop_front());
        }
        out
    }
}

/// What still goes, in this order.
#[derive(Default)]
struct Line {
    /// A unit that was begun.
    unit: Option<Unit>,
    rest: VecDeque<Chosen>,
}

impl Line {
    /// Leaves out what pressure chose once it is satisfied; what retention or a person chose goes in any case, and what is begun too.
    fn skip_satisfied(&mut self, needed: Needed) {
        let satisfied = needed.bytes == Bytes::ZERO && needed.inodes == 0;
        if satisfied && self.rest.front().is_some_and(|(target, _)| ends_at_low(target)) {
            self.rest.clear();
        }
    }

    fn is_empty(&self) -> bool {
        self.unit.is_none() && self.rest.is_empty()
    }

    fn left(&self) -> u64 {
        self.rest.len() as u64 + u64::from(self.unit.is_some())
    }
}

/// What goes, and, if it is in quarantine, the number of the intent that set it aside.
type Chosen = (Target, Option<Seq>);

/// What pressure still wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needed {
    bytes: Bytes,
    inodes: u64,
}

/// Whether the low mark is reached as measured, and what is needed once what is promised counts as given back.
fn needed(marks: &Marks, reading: &Reading, promised: Bytes) -> (bool, Needed) {
    let space = &reading.space;
    let at = marks.thresholds(space);
    let inodes = if space.inodes == 0 { 0 } else { at.inodes_low.saturating_sub(space.inodes_free) };
    let bytes = at.low.saturating_sub(space.available);
    let measured = bytes == Bytes::ZERO && inodes == 0;
    (measured, Needed { bytes: bytes.saturating_sub(promised), inodes })
}

/// The volume's pressure chose it. A budget is a tree's own mark, and retention has none.
fn ends_at_low(target: &Target) -> bool {
    match target.rule {
        RuleKind::Pressure
        | RuleKind::StreamShare
        | RuleKind::Duplicate
        | RuleKind::Unarchived
        | RuleKind::BelowKeep => true,
        RuleKind::MaxAge
        | RuleKind::MaxBytes
        | RuleKind::MaxFiles
        | RuleKind::Budget
        | RuleKind::Archived
        | RuleKind::Requested
        | RuleKind::Orphan
        | RuleKind::Leftover
        | RuleKind::Quarantine => false,
    }
}

fn conclude(order: &Order, report: &RunReport, measured: bool, needed: Needed) -> (RunResult, Ending) {
    match needed {
        _ if order.asked.is_some() => (RunResult::ReachedLow, Ending::Asked),
        _ if measured => (RunResult::ReachedLow, Ending::ReachedLow),
        Needed { bytes: Bytes::ZERO, inodes: 0 } => {
            let open = report.explained.saturating_add(order.promised);
            (RunResult::Stalled, Ending::HeldOpen { open })
        }
        needed => {
            let failed = report.failed;
            (RunResult::Exhausted, Ending::Short { missing: needed.bytes, inodes: needed.inodes, failed })
        }
    }
}

/// What was deleted and comes back once it is closed.
fn still_open(settled: &[Settled]) -> Bytes {
    let open = settled.iter().map(|one| match &one.attempt {
        Attempt::Verified { freed, open: true, .. } => *freed,
        Attempt::Verified { .. } | Attempt::AlreadyGone | Attempt::Kept { .. } | Attempt::Failed { .. } => Bytes::ZERO,
    });
    open.sum()
}

fn shared(attempt: &Attempt) -> Bytes {
    match attempt {
        Attempt::Verified { shared, .. } => *shared,
        Attempt::AlreadyGone | Attempt::Kept { .. } | Attempt::Failed { .. } => Bytes::ZERO,
    }
}

/// Syncs the filesystem, so that the reading tells the truth, and reads.
fn measure(trees: &Trees, probe: Probe<'_>) -> Result<Reading, Unusable> {
    if let Some(tree) = trees.values().next() {
        tree.dir.sync_filesystem().map_err(|error| Unusable::Failed(format!("it cannot be synced: {error}")))?;
    }
    probe()
}

fn account(settled: &[Settled], before: &Reading, after: Option<&Reading>) -> BatchAccount {
    let mut account = BatchAccount {
        before: before.space.free,
        after: after.map_or(before.space.free, |reading| reading.space.free),
        ..BatchAccount::default()
    };
    if let (Some(old), Some(new)) = (before.written, after.and_then(|reading| reading.written)) {
        account.written = new.saturating_sub(old);
    }
    for one in settled {
        if let Attempt::Verified { freed, open, shared } = &one.attempt {
            account.expected = account.expected.saturating_add(*freed);
            // What is shared is no promise: it never comes back by itself. It counts as missing, and explains why; but what retention
            // or a person chose was not to give back space.
            if *open {
                account.explained = account.explained.saturating_add(*freed);
            } else if !ends_at_low(&one.intent.target) {
                account.explained = account.explained.saturating_add(*shared);
            }
        }
    }
    account
}
