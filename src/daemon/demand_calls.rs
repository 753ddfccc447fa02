//! Deletions that are asked for: what speaks against one is said at once, without a look at the disk; the rest is the worker's.

use std::sync::Arc;

use super::demand_task::Task;
use super::hub::{Command, Hub};
use crate::domain::demand::{Demand, PATHS, Wanted, is_stream, strangers};
use crate::domain::history::History;
use crate::domain::objection::Objection;
use crate::domain::path::RelPath;
use crate::domain::retention::{Mode, TreePolicy};
use crate::server::Refusal;

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
        let total = match &mut demand.wanted {
            Wanted::Paths(paths) => {
                *paths = distinct(policy, std::mem::take(paths), malformed)?;
                // What goes as one is as many as its files, which only a look at it tells.
                if policy.layout.has_units() { 0 } else { paths.len() as u64 }
            }
            Wanted::Stream(wanted) if !is_stream(wanted.stream.as_str()) => {
                let message = format!(
                    "`stream` is {:?}, which is no stream's name; it is `app/stream`, or the directory below the tree",
                    wanted.stream.as_str()
                );
                return Err(Refusal::bad_request("bad_stream", message));
            }
            Wanted::Stream(_) => 0,
        };
        let callback = callback.map(|url| self.callback(url)).transpose()?;
        let volume = self
            .home_of(&policy.tree)
            .ok_or_else(|| Refusal::unavailable("stopping", format!("tree `{}` takes no requests now", policy.tree)))?;
        let job = self.journal.with_history_mut(History::next_run);
        self.with_jobs(|jobs| jobs.add_demand(job, total, demand.trigger, callback));
        let task = Box::new(Task::new(job, demand, &policy.layout, who));
        let sent = self.send(&volume, Command::Demand(task));
        if sent.is_err() {
            self.with_jobs(|jobs| jobs.remove(job));
        }
        sent.map(|()| job)
    }
}

/// The paths, each once, if all of them can be recordings of the tree.
fn distinct(policy: &TreePolicy, paths: Vec<RelPath>, malformed: Vec<String>) -> Result<Vec<RelPath>, Refusal> {
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
        "these are not recordings of tree `{}` with layout `{}`: {named}; nothing was deleted",
        policy.tree,
        policy.layout.name()
    );
    Err(Refusal::bad_request("not_a_recording", message))
}
