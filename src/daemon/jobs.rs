//! What persons asked for, and how far it is: plans that are carried out, remedies, and deletions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::job_items::{ItemDone, Tracked};
use crate::domain::deletion::{Attempt, Outcome, RuleKind, Target, Trigger};
use crate::domain::history::History;
use crate::domain::recording::Tally;
use crate::domain::remedy::RemedyKind;
use crate::domain::units::{Bytes, Timestamp};
use crate::notify::Callback;
use crate::reclaim::{RunReport, Settled};
use crate::server::records::{Job, JobItem, JobState, Problem};
use crate::server::shapes::{Page, Path};
use crate::server::{Feed, PageQuery, Refusal};

/// So many jobs are remembered; the journal keeps the rest.
const KEPT: usize = 100;
/// And so many that came by a gateway.
const KEPT_OF_GATEWAY: usize = 1000;

/// The word for a job that deletes what was asked for.
const DELETION: &str = "deletion";

/// What a job is about.
enum Work {
    /// A plan: every recording is known from the start.
    Plan { targets: Vec<Target>, settled: Vec<Settled> },
    /// A remedy or a deletion: what it is about is known once the worker has looked. The word for what is done.
    Tracked(&'static str, Tracked),
}

struct Record {
    state: JobState,
    work: Work,
    reclaimed: Bytes,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
    problem: Option<Problem>,
    /// The platform asked for it, by the gateway.
    of_gateway: bool,
    /// A person ended it.
    cancelled: Arc<AtomicBool>,
    /// Who listens to what happens to its items.
    feeds: Vec<Weak<Feed>>,
    /// Who is told of its states, and how it stood when it began.
    callback: Option<Arc<Callback>>,
    at_start: Option<Job>,
}

impl Record {
    /// Something of it failed at first: it may be tried again still.
    fn may_wait(&self) -> bool {
        match &self.work {
            Work::Plan { settled, .. } => settled.iter().any(|one| matches!(one.attempt, Attempt::Failed { .. })),
            Work::Tracked(_, tracked) => tracked.tried_again(),
        }
    }

    /// Tells whoever listens of an item; it is made only if somebody does.
    fn tell(&self, item: impl FnOnce() -> JobItem) {
        let mut feeds = self.feeds.iter().filter_map(Weak::upgrade).peekable();
        if feeds.peek().is_none() {
            return;
        }
        let item = item();
        feeds.for_each(|feed| feed.push(item.clone()));
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: u64,
    pub(super) verified: u64,
    pub(super) failed: u64,
    pub(super) waiting: u64,
    pub(super) kept: u64,
    pub(super) expected: Bytes,
    pub(super) left_out: u64,
}

/// All jobs that are remembered.
#[derive(Default)]
pub(super) struct Jobs(BTreeMap<u64, Record>);

impl Jobs {
    pub(super) fn add(&mut self, id: u64, targets: Vec<Target>) {
        self.enter(id, Work::Plan { targets, settled: Vec::new() }, false);
    }

    /// A job for a remedy; what it is about is told by [`Jobs::expand`].
    pub(super) fn add_remedy(&mut self, id: u64, kind: RemedyKind) {
        self.enter(id, Work::Tracked(kind.as_str(), Tracked::default()), false);
    }

    /// A job for a deletion of so many recordings, as far as that is known. Its states are told to `callback`.
    pub(super) fn add_demand(&mut self, id: u64, files: u64, trigger: Trigger, callback: Option<Arc<Callback>>) {
        let mut tracked = Tracked::default();
        tracked.expand(Tally { files, bytes: Bytes::ZERO });
        self.enter(id, Work::Tracked(DELETION, tracked), trigger == Trigger::Gateway);
        if let Some(record) = self.0.get_mut(&id) {
            record.callback = callback;
        }
    }

    fn enter(&mut self, id: u64, work: Work, of_gateway: bool) {
        let record = Record {
            of_gateway,
            state: JobState::Queued,
            work,
            reclaimed: Bytes::ZERO,
            started: None,
            finished: None,
            problem: None,
            cancelled: Arc::default(),
            feeds: Vec::new(),
            callback: None,
            at_start: None,
        };
        self.0.insert(id, record);
        // A platform that deletes file by file makes many, which push out none of a person.
        let most = if of_gateway { KEPT_OF_GATEWAY } else { KEPT };
        while self.0.values().filter(|one| one.of_gateway == of_gateway).count() > most {
            // What is not over is never forgotten, and what waits for retries only if nothing else can be.
            let over = |waits: bool| {
                let mut alike = self.0.iter().filter(|(_, one)| one.of_gateway == of_gateway);
                let record = alike.find(|(_, one)| one.finished.is_some() && one.may_wait() == waits);
                record.map(|(id, _)| *id)
            };
            let Some(oldest) = over(false).or_else(|| over(true)) else { break };
            self.0.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// It begins, unless it was cancelled meanwhile; gives what will tell that it is.
    pub(super) fn begin(&mut self, id: u64, now: Timestamp) -> Option<Arc<AtomicBool>> {
        let record = self.0.get_mut(&id).filter(|record| record.state != JobState::Cancelled)?;
        record.state = JobState::Running;
        record.started = Some(now);
        let cancelled = record.cancelled.clone();
        // Nothing of it has failed yet, so no history is needed.
        let at_start = self.get(id, &History::default()).ok();
        if let Some(record) = self.0.get_mut(&id) {
            record.at_start = at_start;
        }
        Some(cancelled)
    }

    /// Jobs whose states are told to somebody: how each stood when it began, and to whom.
    pub(super) fn told(&self) -> Vec<(u64, Option<Job>, Arc<Callback>)> {
        // One that waits in the queue is told of once it begins, or is over without that.
        let begun = self.0.iter().filter(|(_, record)| record.at_start.is_some() || record.finished.is_some());
        begun.filter_map(|(id, record)| Some((*id, record.at_start.clone(), record.callback.clone()?))).collect()
    }

    /// A plan's run ended. What a remedy deletes is told by [`Jobs::settle`] alone, and its end by [`Jobs::end_remedy`].
    pub(super) fn end(&mut self, id: u64, report: Option<RunReport>, now: Timestamp) {
        let Some(record) = self.finish(id, now) else { return };
        let Some(report) = report else { return };
        record.reclaimed = report.reclaimed;
        match &mut record.work {
            Work::Plan { settled, .. } => *settled = report.settled,
            Work::Tracked(..) => {}
        }
    }

    /// A plan that is carried out is so far.
    pub(super) fn advance(&mut self, id: u64, more: &[Settled], history: &History) {
        let Some(record) = self.0.get_mut(&id) else { return };
        match &mut record.work {
            Work::Plan { settled, .. } => settled.extend_from_slice(more),
            // Whoever carries it out tells of each item.
            Work::Tracked(..) => return,
        }
        for one in more {
            record.tell(|| planned(&one.intent.target, Some(one), history));
        }
    }

    /// It is over before it began.
    pub(super) fn end_early(&mut self, id: u64, problem: Problem, now: Timestamp) {
        self.end_remedy(id, Bytes::ZERO, Some(problem), now);
    }

    /// So many bytes came back so far, as measured.
    pub(super) fn reclaimed(&mut self, id: u64, bytes: Bytes) {
        if let Some(record) = self.0.get_mut(&id) {
            record.reclaimed = bytes;
        }
    }

    /// A remedy ended: so many bytes came back, as measured, and perhaps it ended early.
    pub(super) fn end_remedy(&mut self, id: u64, reclaimed: Bytes, problem: Option<Problem>, now: Timestamp) {
        let Some(record) = self.finish(id, now) else { return };
        record.reclaimed = reclaimed;
        record.problem = problem;
    }

    fn finish(&mut self, id: u64, now: Timestamp) -> Option<&mut Record> {
        let record = self.0.get_mut(&id)?;
        record.finished = Some(now);
        if record.state != JobState::Cancelled {
            record.state = JobState::Done;
        }
        Some(record)
    }

    fn tracked(&mut self, id: u64) -> Option<&mut Tracked> {
        match &mut self.0.get_mut(&id)?.work {
            Work::Tracked(_, tracked) => Some(tracked),
            Work::Plan { .. } => None,
        }
    }

    /// A remedy is about these too. May be called again and again, for some at a time; they are counted, and not kept.
    pub(super) fn expand(&mut self, id: u64, more: Tally) {
        if let Some(tracked) = self.tracked(id) {
            tracked.expand(more);
        }
    }

    /// It is not about these after all.
    pub(super) fn retract(&mut self, id: u64, less: Tally) {
        if let Some(tracked) = self.tracked(id) {
            tracked.retract(less);
        }
    }

    /// Something of a remedy that is no deletion came to its end.
    pub(super) fn item(&mut self, id: u64, done: ItemDone) {
        let Some(record) = self.0.get_mut(&id) else { return };
        if let Work::Tracked(_, tracked) = &mut record.work {
            let item = tracked.done(done);
            record.tell(|| item);
        }
    }

    /// Deletions of a remedy came to an outcome; those that failed are tried again, and counted by how they stand by then.
    pub(super) fn settle(&mut self, id: u64, settled: Vec<Settled>, history: &History) {
        let Some(record) = self.0.get_mut(&id) else { return };
        for one in settled {
            if let Work::Tracked(_, tracked) = &mut record.work {
                let item = tracked.settle(one, history);
                record.tell(|| item);
            }
        }
    }

    /// What happens to its items from now on, after what is known of them by now.
    pub(super) fn feed(&mut self, id: u64, history: &History) -> Result<Arc<Feed>, Refusal> {
        let record = self.0.get_mut(&id).ok_or_else(|| unknown(id))?;
        let feed = Arc::new(Feed::default());
        match &record.work {
            Work::Plan { settled, .. } => {
                settled.iter().for_each(|one| feed.push(planned(&one.intent.target, Some(one), history)));
            }
            Work::Tracked(_, tracked) => tracked.items(history).for_each(|item| feed.push(item)),
        }
        record.feeds.retain(|feed| feed.strong_count() > 0);
        record.feeds.push(Arc::downgrade(&feed));
        Ok(feed)
    }

    /// The guard ends: nobody listens any more.
    pub(super) fn close_feeds(&self) {
        self.0.values().flat_map(|record| &record.feeds).filter_map(Weak::upgrade).for_each(|feed| feed.close());
    }

    pub(super) fn get(&self, id: u64, history: &History) -> Result<Job, Refusal> {
        let record = self.0.get(&id).ok_or_else(|| unknown(id))?;
        let (kind, counts) = match &record.work {
            Work::Plan { targets, settled } => ("plan", of_plan(targets, settled, history)),
            Work::Tracked(kind, tracked) => (*kind, tracked.counts(history)),
        };
        let waits = record.state == JobState::Done && counts.waiting > 0;
        Ok(Job {
            id,
            kind,
            state: if waits { JobState::Waiting } else { record.state },
            total: counts.total,
            verified: counts.verified,
            failed: counts.failed,
            waiting: counts.waiting,
            kept: counts.kept,
            expected_bytes: counts.expected.0,
            reclaimed_bytes: record.reclaimed.0,
            started: record.started.map(|at| at.to_string()),
            finished: record.finished.map(|at| at.to_string()),
            problem: record.problem.clone(),
            items_left_out: counts.left_out,
        })
    }

    pub(super) fn items(
        &self,
        id: u64,
        outcome: Option<Outcome>,
        page: &PageQuery,
        history: &History,
    ) -> Result<Page<JobItem>, Refusal> {
        let record = self.0.get(&id).ok_or_else(|| unknown(id))?;
        match &record.work {
            Work::Plan { targets, settled } => {
                let rows = rows(targets, settled);
                let items = rows.into_iter().map(|(target, settled)| planned(target, settled, history));
                page.slice(wanted(items, outcome))
            }
            Work::Tracked(_, tracked) => page.slice(wanted(tracked.items(history), outcome)),
        }
    }

    /// Somebody still wants it.
    pub(super) fn wanted(&self, id: u64) -> bool {
        self.0.get(&id).is_some_and(|record| record.state != JobState::Cancelled)
    }

    /// A person ends it: nothing more of it is begun. One that has not begun is over by that.
    pub(super) fn cancel(&mut self, id: u64, now: Timestamp) -> Result<(), Refusal> {
        let record = self.0.get_mut(&id).ok_or_else(|| unknown(id))?;
        match record.state {
            JobState::Queued | JobState::Running => {
                if record.state == JobState::Queued {
                    record.finished = Some(now);
                }
                record.state = JobState::Cancelled;
                record.cancelled.store(true, Ordering::Relaxed);
                Ok(())
            }
            JobState::Waiting | JobState::Done | JobState::Cancelled => Err(Refusal::conflict(
                "job_over",
                format!("job {id} is over; what failed is closed with `failures close`"),
            )),
        }
    }
}

fn wanted(items: impl Iterator<Item = JobItem>, outcome: Option<Outcome>) -> Vec<JobItem> {
    items.filter(|item| outcome.is_none_or(|wanted| item.outcome == Some(wanted.as_str()))).collect()
}

/// The items of a plan, and what became of each: a directory that goes whole is its files, once something became of them.
fn rows<'a>(targets: &'a [Target], settled: &'a [Settled]) -> Vec<(&'a Target, Option<&'a Settled>)> {
    let known: BTreeSet<_> = targets.iter().map(|target| (&target.tree, &target.path)).collect();
    let mut by_path: BTreeMap<_, &Settled> = BTreeMap::new();
    let mut within: BTreeMap<_, Vec<&Settled>> = BTreeMap::new();
    for one in settled {
        let target = &one.intent.target;
        if known.contains(&(&target.tree, &target.path)) {
            by_path.insert((&target.tree, &target.path), one);
            continue;
        }
        let above = std::iter::successors(target.path.split().0, |dir| dir.split().0);
        above.take(2).for_each(|dir| within.entry((&target.tree, dir)).or_default().push(one));
    }
    let mut out = Vec::with_capacity(targets.len());
    for target in targets {
        let before = out.len();
        out.extend(by_path.get(&(&target.tree, &target.path)).map(|one| (target, Some(*one))));
        let files = within.get(&(&target.tree, target.path.clone())).into_iter().flatten();
        out.extend(files.map(|one| (&one.intent.target, Some(*one))));
        if out.len() == before {
            out.push((target, None));
        }
    }
    out
}

fn of_plan(targets: &[Target], settled: &[Settled], history: &History) -> Counts {
    let rows = rows(targets, settled);
    let settled = || rows.iter().filter_map(|(_, settled)| *settled);
    let count = |wanted: &[Outcome]| {
        let now = |one: &Settled| now_of(one.failure(), &one.attempt, &one.intent.target, history).outcome();
        settled().filter(|one| wanted.contains(&now(one))).count() as u64
    };
    let waiting = settled().filter(|one| history.failures.contains_key(&one.failure())).count() as u64;
    Counts {
        total: rows.len() as u64,
        verified: count(&[Outcome::Verified, Outcome::AlreadyGone]),
        failed: count(&[Outcome::Failed]).saturating_sub(waiting),
        waiting,
        kept: count(&[Outcome::Kept]),
        expected: targets.iter().map(|target| target.bytes).sum(),
        left_out: 0,
    }
}

/// How an item whose target is known stands now.
pub(super) fn planned(target: &Target, settled: Option<&Settled>, history: &History) -> JobItem {
    let attempt = settled.map(|one| now_of(one.failure(), &one.attempt, target, history));
    let failure = settled.and_then(|one| history.failures.get(&one.failure()));
    let (cause, holder, detail) = match attempt.clone() {
        Some(Attempt::Failed { cause, holder, error }) => (Some(cause.as_str()), holder, Some(error)),
        Some(Attempt::Kept { why }) => (None, None, Some(why)),
        Some(Attempt::Verified { .. } | Attempt::AlreadyGone) | None => (None, None, None),
    };
    JobItem {
        tree: target.tree.to_string(),
        path: Path::from(&target.path),
        outcome: attempt.map(|attempt| attempt.outcome().as_str()),
        cause,
        holder: holder.map(|holder| holder.to_string()),
        attempts: failure.map_or(u32::from(settled.is_some()), |failure| failure.attempts),
        next_attempt: failure.map(|failure| failure.next_attempt.to_string()),
        bytes: target.bytes.0,
        detail,
    }
}

/// What became of a deletion by now: a failure that is not tried any more has succeeded since, or was closed.
fn now_of(failure: u64, attempt: &Attempt, target: &Target, history: &History) -> Attempt {
    match (attempt, history.failures.get(&failure)) {
        // What could not be set aside is not tried again.
        (attempt, None) if target.rule == RuleKind::Quarantine => attempt.clone(),
        (Attempt::Failed { .. }, Some(failure)) => {
            Attempt::Failed { cause: failure.cause, error: failure.error.clone(), holder: failure.holder.clone() }
        }
        (Attempt::Failed { .. }, None) if !history.closed.contains(&failure) => {
            Attempt::Verified { freed: target.bytes, shared: Bytes::ZERO, open: false }
        }
        (attempt, _) => attempt.clone(),
    }
}

fn unknown(id: u64) -> Refusal {
    Refusal::not_found(format!("there is no job {id}; older ones are in the journal"))
}
