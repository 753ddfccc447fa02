//! Deletions that are asked for: what speaks against one is said at once, without a look at the disk; the rest is the worker's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::demand_task::Task;
use super::hub::{Command, Hub};
use crate::domain::cause::chain;
use crate::domain::deletion::Trigger;
use crate::domain::demand::{Demand, Ground, PATHS, Wanted, is_stream, strangers};
use crate::domain::event::Event;
use crate::domain::history::History;
use crate::domain::journal::Entry;
use crate::domain::names::TreeId;
use crate::domain::objection::Objection;
use crate::domain::path::RelPath;
use crate::domain::retention::{Mode, TreePolicy};
use crate::server::Refusal;
use crate::server::records::{Job, Problem};
use crate::store::{Database, DatabaseError, StoredDemand};

/// Where it is kept which numbers of jobs may have been given …
const NUMBERS: &str = "job_numbers";
/// … so many at a time.
const BLOCK: u64 = 1000;

impl Hub {
    /// Puts a demand into its volume's queue; gives the job, whose states are told to `callback`.
    ///
    /// # Errors
    /// 404 if there is no such tree; 409 if it is only observed; 400 for a request that cannot be meant, naming each path that cannot be a
    /// recording of the tree, and for a callback that may not be; 503 if the queue is full.
    pub fn demand(&self, demand: Demand, who: &str, callback: Option<&str>) -> Result<u64, Refusal> {
        let policy = self.deletable(demand.tree.as_str())?;
        self.accept_demand(&policy, demand, Vec::new(), who, callback)
    }

    /// The rules of a tree that recordings may be deleted from.
    pub(super) fn deletable(&self, tree: &str) -> Result<Arc<TreePolicy>, Refusal> {
        let policy = self.policy(tree)?;
        if policy.mode != Mode::Enforce {
            return Err(Objection::Observed(policy.tree.clone()).into());
        }
        Ok(policy)
    }

    /// The rest of [`Hub::demand`]. `malformed` names what was given and is no path.
    pub(super) fn accept_demand(
        &self,
        policy: &TreePolicy,
        mut demand: Demand,
        malformed: Vec<String>,
        who: &str,
        callback: Option<&str>,
    ) -> Result<u64, Refusal> {
        match &mut demand.wanted {
            Wanted::Paths(paths) => {
                *paths = distinct(policy, std::mem::take(paths), malformed, "nothing was deleted")?;
            }
            Wanted::Stream(wanted) if !is_stream(wanted.stream.as_str()) => {
                let message = format!(
                    "`stream` is {:?}, which is no stream's name; it is `app/stream`, or the directory below the tree",
                    wanted.stream.as_str()
                );
                return Err(Refusal::bad_request("bad_stream", message));
            }
            Wanted::Stream(_) => {}
        }
        let told = callback.map(|url| self.callback(url)).transpose()?;
        let (volume, ground) = self
            .home_of(&policy.tree)
            .zip(self.ground(&policy.tree))
            .ok_or_else(|| Refusal::unavailable("stopping", format!("tree `{}` takes no requests now", policy.tree)))?;
        self.room(&volume)?;
        let job = self.next_job();
        self.with_jobs(|jobs| jobs.add_demand(job, files_of(policy, &demand.wanted), demand.trigger, told));
        // Whoever asks for single files by a gateway waits for its answer, and asks again where it does not come.
        let stored = demand.trigger != Trigger::Gateway || matches!(demand.wanted, Wanted::Stream(_));
        if stored {
            let (demand, ground, who) = (demand.clone(), ground.clone(), who.to_owned());
            let stored =
                StoredDemand { job, demand, who, asked: self.now(), ground, callback: callback.map(str::to_owned) };
            self.with_demands("a restart would not go on with it", |database| database.keep_demand(&stored));
        }
        let mut task = Task::new(job, demand, ground, &policy.layout, who);
        task.stored = stored;
        let sent = self.send(&volume, Command::Demand(Box::new(task)));
        if sent.is_err() {
            self.forget_demand(job);
            self.with_jobs(|jobs| jobs.remove(job));
        }
        sent.map(|()| job)
    }

    /// A person ends a job: nothing more of it is begun, now or after a restart.
    ///
    /// # Errors
    /// 404 if there is no such job, 409 if it is over; 503 if it cannot be put on record: then it holds until the guard ends.
    pub fn cancel(&self, id: u64, who: &str) -> Result<Job, Refusal> {
        self.with_jobs(|jobs| jobs.cancel(id, self.now()))?;
        self.append(Entry::job_over(id, who, "cancelled"))?;
        self.forget_demand(id);
        self.job(id)
    }

    /// A number for a new job, which none had before, also where the journal knows nothing of that one.
    pub(super) fn next_job(&self) -> u64 {
        let job = self.journal.with_history_mut(History::next_run);
        if job >= self.reserved.load(Ordering::Relaxed) {
            let until = job.saturating_add(BLOCK);
            self.reserved.store(until, Ordering::Relaxed);
            self.with_demands("after a restart numbers of jobs may be given again", |database| {
                database.put(NUMBERS, until.to_string().as_bytes())
            });
        }
        job
    }

    /// What was asked for before the guard was started bears its numbers still.
    pub(super) fn pass_stored(&self) {
        let stored = self.with_demands("what a restart interrupted is not gone on with", Database::demands);
        let last = stored.iter().flatten().map(|stored| stored.job).max();
        let given = self.with_demands("numbers of jobs may be given again", |database| database.get(NUMBERS)).flatten();
        let given = given.and_then(|value| String::from_utf8(value).ok()?.parse().ok());
        if let Some(number) = last.max(given) {
            self.journal.with_history_mut(|history| history.pass_run(number));
        }
    }

    /// Goes on with what a restart interrupted: each is looked at anew, and what is gone by now is gone.
    pub(super) fn resume_demands(&self) {
        let read = self.with_demands("what a restart interrupted is not gone on with", Database::demands);
        for stored in read.unwrap_or_default() {
            if !self.with_jobs(|jobs| jobs.knows(stored.job)) {
                let (tree, job, words) = (stored.demand.tree.clone(), stored.job, stored.demand.wanted.words());
                let fate = self.resume(stored);
                let text = format!("tree `{tree}`: job {job} ({words}), which a restart interrupted, {fate}");
                self.record(&Event::Remark { text, urgent: false });
            }
        }
    }

    /// Goes on with one; says what became of it.
    fn resume(&self, stored: StoredDemand) -> String {
        let StoredDemand { job, demand, who, asked, ground, callback } = stored;
        // The journal is the truth: the row of what is over may have outlived it.
        if self.with_history(|history| history.over.contains(&job)) {
            self.forget_demand(job);
            return "is over by the journal".to_owned();
        }
        let told = callback.and_then(|url| self.callback(&url).ok());
        let place = self.policy(demand.tree.as_str()).ok().zip(self.home_of(&demand.tree));
        let files = place.as_ref().map_or(0, |(policy, _)| files_of(policy, &demand.wanted));
        self.with_jobs(|jobs| jobs.add_demand(job, files, demand.trigger, told));
        let problem = match place {
            None => Problem { code: "gone", message: "its tree is not guarded any more".to_owned() },
            // By such a clock nobody knows what was recorded before the request and what since.
            Some(_) if asked > self.now() => {
                Problem { code: "clock", message: format!("it was asked for at {asked}, which is still to come") }
            }
            Some((policy, volume)) => {
                let mut task = Task::new(job, demand, ground, &policy.layout, &who);
                (task.stored, task.not_after) = (true, Some(asked));
                return match self.send(&volume, Command::Demand(Box::new(task))) {
                    Ok(()) => "is gone on with".to_owned(),
                    Err(refusal) => {
                        self.with_jobs(|jobs| jobs.remove(job));
                        format!("is gone on with at the next start: {}", refusal.message)
                    }
                };
            }
        };
        let text = format!("is over: {}", problem.message);
        self.with_jobs(|jobs| jobs.end_early(job, problem, self.now()));
        self.forget_demand(job);
        text
    }

    fn ground(&self, tree: &TreeId) -> Option<Ground> {
        self.with_tree(tree, |_, view| Ground { path: view.path.clone(), layout: view.policy.layout.reading() })
    }

    /// A deletion is through, or nobody wants it any more: a restart does not go on with it.
    pub(super) fn forget_demand(&self, job: u64) {
        self.with_demands("a restart would look at it again", |database| database.forget_demand(job));
    }

    /// Reads or writes what is not through; where that cannot be, everybody is told what follows.
    fn with_demands<T>(&self, otherwise: &str, act: impl FnOnce(&Database) -> Result<T, DatabaseError>) -> Option<T> {
        let database = self.catalogues.load().as_ref()?.hooks.clone();
        match act(&database) {
            Ok(done) => Some(done),
            Err(error) => {
                let text = format!("{}; {otherwise}", chain(&error));
                self.record(&Event::Remark { text, urgent: false });
                None
            }
        }
    }
}

/// How many files a demand is about, as far as that is known: what goes as one is as many as only a look at it tells.
fn files_of(policy: &TreePolicy, wanted: &Wanted) -> u64 {
    match wanted {
        Wanted::Paths(paths) if !policy.layout.has_units() => paths.len() as u64,
        Wanted::Paths(_) | Wanted::Stream(_) => 0,
    }
}

/// The paths, each once, if all of them can be recordings of the tree; `nothing` says what was not done if not.
pub(super) fn distinct(
    policy: &TreePolicy,
    paths: Vec<RelPath>,
    malformed: Vec<String>,
    nothing: &str,
) -> Result<Vec<RelPath>, Refusal> {
    if paths.is_empty() && malformed.is_empty() {
        return Err(Refusal::bad_request("bad_paths", "`paths` is empty; name at least one, or a `stream`"));
    }
    if paths.len() + malformed.len() > PATHS {
        let message = format!(
            "`paths` names {}, but at most {PATHS} may be named in one request; send more requests, or name a `stream`",
            paths.len() + malformed.len()
        );
        return Err(Refusal::bad_request("bad_paths", message));
    }
    let mut seen = std::collections::HashSet::with_capacity(paths.len());
    let paths: Vec<RelPath> = paths.into_iter().filter(|path| seen.insert(path.clone())).collect();
    let strange = strangers(&policy.layout, &paths);
    if strange.is_empty() && malformed.is_empty() {
        return Ok(paths);
    }
    let strange = strange.iter().map(|path| match policy.layout.unit_of(path) {
        Some(unit) => format!("`{path}` (a part of `{unit}`, which goes as one: name that)"),
        None => format!("`{path}`"),
    });
    let named = strange.chain(malformed).collect::<Vec<_>>().join(", ");
    let message = format!(
        "these are not recordings of tree `{}` with layout `{}`: {named}; {nothing}",
        policy.tree,
        policy.layout.name()
    );
    Err(Refusal::bad_request("not_a_recording", message))
}
