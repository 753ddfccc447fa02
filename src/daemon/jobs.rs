//! What persons asked for, and how far it is: plans that are carried out, remedies, and deletions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::job_items::{ItemDone, Tracked};
use crate::domain::deletion::{Outcome, Trigger};
use crate::domain::history::History;
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::plan::Plan;
use crate::domain::recording::Tally;
use crate::domain::remedy::RemedyKind;
use crate::domain::units::{Bytes, Timestamp};
use crate::notify::Callback;
use crate::reclaim::{RunReport, Settled};
use crate::server::records::{Job, JobItem, JobState, Problem};
use crate::server::shapes::Page;
use crate::server::{Feed, PageQuery, Refusal};

/// So many jobs are remembered; the journal keeps the rest.
const KEPT: usize = 100;
/// And so many that came by a gateway.
const KEPT_OF_GATEWAY: usize = 1000;

/// Recordings that are directories, and how many files each is.
pub(super) type Units = BTreeMap<(TreeId, RelPath), u64>;

/// What a job does.
enum Work {
    /// A plan is carried out. Nothing is told of its directories themselves but that one is kept.
    Plan(Units),
    /// What is to be done about orphans, or rows.
    Remedy(RemedyKind),
    /// What was asked for is deleted.
    Deletion,
    /// Copies are brought back from an archive.
    Restore,
}

impl Work {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::Remedy(kind) => kind.as_str(),
            Self::Deletion => "deletion",
            Self::Restore => "archive_restore",
        }
    }
}

struct Record {
    state: JobState,
    work: Work,
    items: Tracked,
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
    /// A job for a plan.
    pub(super) fn add_plan(&mut self, id: u64, plan: &Plan) {
        let mut all = Tally::default();
        let mut units = Units::new();
        for item in &plan.items {
            let recording = plan.recording(item);
            all.merge(recording.tally());
            if recording.unit {
                let target = plan.target_of(item);
                units.insert((target.tree, target.path), u64::from(recording.files));
            }
        }
        self.enter_plan(id, all, units);
    }

    pub(super) fn enter_plan(&mut self, id: u64, all: Tally, units: Units) {
        let mut items = Tracked::default();
        items.expand(all);
        self.enter(id, Work::Plan(units), items, false);
    }

    /// A job for a remedy; what it is about is told by [`Jobs::expand`].
    pub(super) fn add_remedy(&mut self, id: u64, kind: RemedyKind) {
        self.enter(id, Work::Remedy(kind), Tracked::default(), false);
    }

    /// A job for what is brought back from an archive; what it is about is told by [`Jobs::expand`].
    pub(super) fn add_restore(&mut self, id: u64) {
        self.enter(id, Work::Restore, Tracked::default(), false);
    }

    /// It was interrupted, and will begin again from the start: what it did is found to be done.
    pub(super) fn begin_again(&mut self, id: u64) {
        if let Some(record) = self.0.get_mut(&id) {
            (record.items, record.state) = (Tracked::default(), JobState::Queued);
        }
    }

    /// A job for a deletion of so many recordings, as far as that is known. Its states are told to `callback`.
    pub(super) fn add_demand(&mut self, id: u64, files: u64, trigger: Trigger, callback: Option<Arc<Callback>>) {
        let mut items = Tracked::default();
        items.expand(Tally { files, bytes: Bytes::ZERO });
        self.enter(id, Work::Deletion, items, trigger == Trigger::Gateway);
        if let Some(record) = self.0.get_mut(&id) {
            record.callback = callback;
        }
    }

    fn enter(&mut self, id: u64, work: Work, items: Tracked, of_gateway: bool) {
        let record = Record {
            of_gateway,
            state: JobState::Queued,
            work,
            items,
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
                let record = alike.find(|(_, one)| one.finished.is_some() && one.items.tried_again() == waits);
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

    /// A plan's run ended, and perhaps it could not be carried out.
    pub(super) fn end(&mut self, id: u64, report: Option<RunReport>, now: Timestamp) {
        let Some(record) = self.finish(id, now) else { return };
        record.reclaimed = report.map_or(record.reclaimed, |report| report.reclaimed);
    }

    /// A plan that is carried out is so far. Of what else is carried out, whoever does it tells of each item.
    pub(super) fn advance(&mut self, id: u64, more: &[Settled], history: &History) {
        let Some(record) = self.0.get_mut(&id) else { return };
        let Work::Plan(units) = &record.work else { return };
        for one in more {
            let target = &one.intent.target;
            if let Some(files) = units.get(&(target.tree.clone(), target.path.clone())) {
                record.items.retract(Tally { files: files.saturating_sub(1), bytes: Bytes::ZERO });
            }
            let item = record.items.settle(one.clone(), history);
            record.tell(|| item);
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

    /// It is about these too. May be called again and again, for some at a time; they are counted, and not kept.
    pub(super) fn expand(&mut self, id: u64, more: Tally) {
        if let Some(record) = self.0.get_mut(&id) {
            record.items.expand(more);
        }
    }

    /// It is not about these after all.
    pub(super) fn retract(&mut self, id: u64, less: Tally) {
        if let Some(record) = self.0.get_mut(&id) {
            record.items.retract(less);
        }
    }

    /// Something that is no deletion came to its end.
    pub(super) fn item(&mut self, id: u64, done: ItemDone) {
        let Some(record) = self.0.get_mut(&id) else { return };
        let item = record.items.done(done);
        record.tell(|| item);
    }

    /// Deletions came to an outcome; those that failed are tried again, and counted by how they stand by then.
    pub(super) fn settle(&mut self, id: u64, settled: Vec<Settled>, history: &History) {
        let Some(record) = self.0.get_mut(&id) else { return };
        for one in settled {
            let item = record.items.settle(one, history);
            record.tell(|| item);
        }
    }

    /// What happens to its items from now on, after what is known of them by now.
    pub(super) fn feed(&mut self, id: u64, history: &History) -> Result<Arc<Feed>, Refusal> {
        let record = self.0.get_mut(&id).ok_or_else(|| unknown(id))?;
        let feed = Arc::new(Feed::default());
        record.items.items(history).for_each(|item| feed.push(item));
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
        let counts = record.items.counts(history);
        let waits = record.state == JobState::Done && counts.waiting > 0;
        Ok(Job {
            id,
            kind: record.work.as_str(),
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
        let items = record.items.items(history);
        page.slice(items.filter(|item| outcome.is_none_or(|wanted| item.outcome == Some(wanted.as_str()))).collect())
    }

    /// It is remembered.
    pub(super) fn knows(&self, id: u64) -> bool {
        self.0.contains_key(&id)
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

fn unknown(id: u64) -> Refusal {
    Refusal::not_found(format!("there is no job {id}; older ones are in the journal"))
}
