//! What persons asked for, and how far it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::domain::deletion::{Attempt, Outcome, Target};
use crate::domain::history::History;
use crate::domain::units::{Bytes, Timestamp};
use crate::reclaim::{RunReport, Settled};
use crate::server::PageQuery;
use crate::server::Refusal;
use crate::server::records::{Job, JobItem, JobState};
use crate::server::shapes::{Page, Path};

/// So many jobs are remembered; the journal keeps the rest.
const KEPT: usize = 100;

struct Record {
    state: JobState,
    targets: Vec<Target>,
    settled: Vec<Settled>,
    reclaimed: Bytes,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
    /// A person ended it.
    cancelled: Arc<AtomicBool>,
}

/// All jobs that are remembered.
#[derive(Default)]
pub(super) struct Jobs(BTreeMap<u64, Record>);

impl Jobs {
    pub(super) fn add(&mut self, id: u64, targets: Vec<Target>) {
        let record = Record {
            state: JobState::Queued,
            targets,
            settled: Vec::new(),
            reclaimed: Bytes::ZERO,
            started: None,
            finished: None,
            cancelled: Arc::default(),
        };
        self.0.insert(id, record);
        while self.0.len() > KEPT {
            self.0.pop_first();
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
        Some(record.cancelled.clone())
    }

    pub(super) fn end(&mut self, id: u64, report: Option<RunReport>, now: Timestamp) {
        let Some(record) = self.0.get_mut(&id) else { return };
        record.finished = Some(now);
        if record.state != JobState::Cancelled {
            record.state = JobState::Done;
        }
        if let Some(report) = report {
            record.reclaimed = report.reclaimed;
            record.settled = report.settled;
        }
    }

    pub(super) fn get(&self, id: u64, history: &History) -> Result<Job, Refusal> {
        let record = self.0.get(&id).ok_or_else(|| unknown(id))?;
        let count = |wanted: &[Outcome]| {
            record.settled.iter().filter(|one| wanted.contains(&now_of(one, history).outcome())).count() as u64
        };
        let waiting = record.settled.iter().filter(|one| history.failures.contains_key(&one.seq.0)).count() as u64;
        let state = if record.state == JobState::Done && waiting > 0 { JobState::Waiting } else { record.state };
        Ok(Job {
            id,
            state,
            total: record.targets.len() as u64,
            verified: count(&[Outcome::Verified, Outcome::AlreadyGone]),
            failed: count(&[Outcome::Failed]).saturating_sub(waiting),
            waiting,
            kept: count(&[Outcome::Kept]),
            expected_bytes: record.targets.iter().map(|target| target.bytes).sum::<Bytes>().0,
            reclaimed_bytes: record.reclaimed.0,
            started: record.started.map(|at| at.to_string()),
            finished: record.finished.map(|at| at.to_string()),
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
        let by_path: BTreeMap<_, &Settled> =
            record.settled.iter().map(|one| ((&one.intent.target.tree, &one.intent.target.path), one)).collect();
        let items = record.targets.iter().map(|target| {
            let settled = by_path.get(&(&target.tree, &target.path));
            let attempt = settled.map(|one| now_of(one, history));
            let failure = settled.and_then(|one| history.failures.get(&one.seq.0));
            let (cause, holder) = match &attempt {
                Some(Attempt::Failed { cause, holder, .. }) => (Some(cause.as_str()), holder.clone()),
                Some(Attempt::Verified { .. } | Attempt::AlreadyGone | Attempt::Kept { .. }) | None => (None, None),
            };
            JobItem {
                tree: target.tree.to_string(),
                path: Path::from(&target.path),
                outcome: attempt.as_ref().map(|attempt| attempt.outcome().as_str()),
                cause,
                holder: holder.map(|holder| holder.to_string()),
                attempts: failure.map_or(u32::from(settled.is_some()), |failure| failure.attempts),
                next_attempt: failure.map(|failure| failure.next_attempt.to_string()),
                bytes: target.bytes.0,
            }
        });
        page.slice(items.filter(|item| outcome.is_none_or(|wanted| item.outcome == Some(wanted.as_str()))).collect())
    }

    pub(super) fn cancel(&mut self, id: u64) -> Result<(), Refusal> {
        let record = self.0.get_mut(&id).ok_or_else(|| unknown(id))?;
        match record.state {
            JobState::Queued | JobState::Running => {
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

/// What became of it by now: a failure that is not tried any more has succeeded since, or was closed.
fn now_of(one: &Settled, history: &History) -> Attempt {
    match (&one.attempt, history.failures.get(&one.seq.0)) {
        (Attempt::Failed { .. }, Some(failure)) => {
            Attempt::Failed { cause: failure.cause, error: failure.error.clone(), holder: failure.holder.clone() }
        }
        (Attempt::Failed { .. }, None) if !history.closed.contains(&one.seq.0) => {
            Attempt::Verified { freed: one.intent.target.bytes, shared: Bytes::ZERO, open: false }
        }
        (attempt, _) => attempt.clone(),
    }
}

fn unknown(id: u64) -> Refusal {
    Refusal::not_found(format!("there is no job {id}; older ones are in the journal"))
}
