//! Tells who asked for it how a job stands: when it begins, at most once a second while it goes on, and when it is over.
//!
//! Each job has a task of its own, so that a receiver that is slow keeps only itself waiting. Only the last state is tried again, a number of
//! times: whoever misses the others can ask for the job.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::hub::Hub;
use crate::notify::{Callback, Told};
use crate::server::records::{Job, JobState};

/// Between two looks for jobs that are to be told of.
const LOOK: Duration = Duration::from_millis(100);
/// Between two posts while a job goes on.
const PACE: Duration = Duration::from_secs(1);
/// How often the last state is tried, with a pause between that doubles from a second.
const TRIES: u32 = 8;

/// Tells until the shutdown.
pub(super) async fn tell(hub: Arc<Hub>, mut shutdown: watch::Receiver<bool>) {
    let mut known = BTreeSet::new();
    let mut tellers = JoinSet::new();
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = shutdown.changed() => return,
        }
        let told = hub.with_jobs(|jobs| jobs.told());
        known.retain(|id| told.iter().any(|(job, ..)| job == id));
        for (id, at_start, callback) in told {
            if known.insert(id) {
                tellers.spawn(teller(hub.clone(), id, at_start, callback));
            }
        }
        while tellers.try_join_next().is_some() {}
    }
}

/// Tells of one job until it is over and the last state was taken, or cannot be told.
async fn teller(hub: Arc<Hub>, id: u64, at_start: Option<Job>, callback: Arc<Callback>) {
    let mut number = 0;
    let mut last = None;
    let mut next = at_start;
    loop {
        let began = Instant::now();
        if let Some(job) = next.take().filter(|job| last.as_ref() != Some(job)) {
            number += 1;
            if over(&job) {
                return finally(&hub, &callback, &job, number).await;
            }
            match post(&hub, &callback, &job, number).await {
                Told::Delivered => {}
                Told::Again(why) | Told::Refused(why) => {
                    tracing::warn!(job = id, host = callback.host(), error = why, "A callback did not arrive.");
                }
            }
            last = Some(job);
        }
        // The end is told as soon as it is there, everything else after a pause.
        loop {
            let Some(job) = ask(&hub, id).await else { return };
            let waited = began.elapsed() >= PACE;
            if over(&job) || waited {
                next = Some(job);
                break;
            }
            sleep(LOOK).await;
        }
    }
}

/// How a job stands; `None` once it is forgotten. The journal's disk may hang, so that no task waits for it.
async fn ask(hub: &Arc<Hub>, id: u64) -> Option<Job> {
    let hub = hub.clone();
    tokio::task::spawn_blocking(move || hub.job(id).ok()).await.ok().flatten()
}

/// The last state: it is tried again.
async fn finally(hub: &Hub, callback: &Callback, job: &Job, number: u32) {
    let mut pause = Duration::from_secs(1);
    for attempt in 1..=TRIES {
        match post(hub, callback, job, number).await {
            Told::Delivered => return,
            Told::Again(why) if attempt < TRIES => {
                tracing::warn!(
                    job = job.id,
                    host = callback.host(),
                    error = why,
                    "A callback did not arrive; it is tried again."
                );
                sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
            Told::Again(why) | Told::Refused(why) => {
                tracing::warn!(
                    job = job.id,
                    host = callback.host(),
                    error = why,
                    "The last callback of a job is given up."
                );
                return;
            }
        }
    }
}

/// The same state bears the same id, however often it is tried.
async fn post(hub: &Hub, callback: &Callback, job: &Job, number: u32) -> Told {
    match serde_json::to_string(job) {
        Ok(body) => callback.post(&format!("job-{}-{number}", job.id), body, hub.now()).await,
        Err(error) => Told::Refused(error.to_string()),
    }
}

fn over(job: &Job) -> bool {
    matches!(job.state, JobState::Done | JobState::Cancelled) && job.finished.is_some()
}
