//! The items of a job that may be about millions: all are counted, and those are kept that a person would ask about.

use super::jobs::Counts;
use crate::domain::deletion::{Attempt, Cause, Outcome, RuleKind, SparedReason, Target};
use crate::domain::history::History;
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::units::Bytes;
use crate::reclaim::Settled;
use crate::server::records::JobItem;
use crate::server::shapes::Path;

/// So many items are kept that did not succeed …
const UNSUCCESSFUL: usize = 10_000;
/// … and so many that did.
const SUCCESSFUL: usize = 1_000;

/// An item that came to its end, and is no deletion with an entry in the journal's list of failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ItemDone {
    pub(super) tree: TreeId,
    pub(super) path: RelPath,
    /// Allocated bytes; zero for a row without a file.
    pub(super) bytes: Bytes,
    pub(super) outcome: Outcome,
    /// Why it failed, where that is one of the closed list.
    pub(super) cause: Option<Cause>,
    /// A sentence for people.
    pub(super) detail: Option<String>,
}

/// An item that is kept.
enum Shown {
    /// It is as it is.
    Done(ItemDone),
    /// A deletion failed, and is tried again until it succeeds or a person closes it.
    Trying(Box<Settled>),
}

/// The items of one job.
#[derive(Default)]
pub(super) struct Tracked {
    total: u64,
    expected: Bytes,
    verified: u64,
    failed: u64,
    kept: u64,
    /// Numbers of deletions that failed at first, by which the journal knows how they stand now.
    trying: Vec<u64>,
    unsuccessful: Vec<Shown>,
    successful: Vec<Shown>,
    left_out: u64,
}

impl Tracked {
    pub(super) fn expand(&mut self, more: Tally) {
        self.total = self.total.saturating_add(more.files);
        self.expected = self.expected.saturating_add(more.bytes);
    }

    pub(super) fn retract(&mut self, less: Tally) {
        self.total = self.total.saturating_sub(less.files);
        self.expected = self.expected.saturating_sub(less.bytes);
    }

    /// Something came to its end that is no deletion; gives how it is shown.
    pub(super) fn done(&mut self, done: ItemDone) -> JobItem {
        let (count, succeeded) = match done.outcome {
            Outcome::Verified | Outcome::AlreadyGone => (&mut self.verified, true),
            Outcome::Failed => (&mut self.failed, false),
            Outcome::Kept => (&mut self.kept, false),
        };
        *count += 1;
        let item = show(&done);
        self.keep(Shown::Done(done), succeeded);
        item
    }

    /// A deletion came to an outcome; gives how it is shown.
    pub(super) fn settle(&mut self, one: Settled, history: &History) -> JobItem {
        let target = &one.intent.target;
        // To set aside is an attempt that keeps the file; one at a file that is set aside already is a deletion.
        let aside = target.rule == RuleKind::Quarantine && one.intent.retry_of.is_none();
        let (outcome, cause, detail) = match &one.attempt {
            Attempt::Failed { .. } if !aside => {
                self.trying.push(one.failure());
                let item = standing(&one, history);
                self.keep(Shown::Trying(Box::new(one)), false);
                return item;
            }
            Attempt::Failed { cause, error, .. } => (Outcome::Failed, Some(*cause), Some(error.clone())),
            Attempt::Kept { why } if aside && why == SparedReason::Quarantined.as_str() => {
                (Outcome::Verified, None, None)
            }
            Attempt::Kept { why } => (Outcome::Kept, None, Some(why.clone())),
            Attempt::Verified { .. } => (Outcome::Verified, None, None),
            Attempt::AlreadyGone => (Outcome::AlreadyGone, None, None),
        };
        let target = one.intent.target;
        self.done(ItemDone { tree: target.tree, path: target.path, bytes: target.bytes, outcome, cause, detail })
    }

    /// Some of it failed at first.
    pub(super) fn tried_again(&self) -> bool {
        !self.trying.is_empty()
    }

    fn keep(&mut self, item: Shown, succeeded: bool) {
        let (items, most) = match succeeded {
            true => (&mut self.successful, SUCCESSFUL),
            false => (&mut self.unsuccessful, UNSUCCESSFUL),
        };
        if items.len() < most {
            items.push(item);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn counts(&self, history: &History) -> Counts {
        let waiting = self.trying.iter().filter(|seq| history.failures.contains_key(seq)).count() as u64;
        let closed = self.trying.iter().filter(|seq| history.closed.contains(seq)).count() as u64;
        let succeeded = (self.trying.len() as u64).saturating_sub(waiting + closed);
        Counts {
            // What lies beside the segments of a directory was not told of before.
            total: self.total.max(self.verified + self.failed + self.kept + self.trying.len() as u64),
            verified: self.verified + succeeded,
            failed: self.failed + closed,
            waiting,
            kept: self.kept,
            expected: self.expected,
            left_out: self.left_out,
        }
    }

    /// What is kept of the items: first those that did not succeed.
    pub(super) fn items<'a>(&'a self, history: &'a History) -> impl Iterator<Item = JobItem> + 'a {
        self.unsuccessful.iter().chain(&self.successful).map(|item| item.show(history))
    }
}

impl Shown {
    fn show(&self, history: &History) -> JobItem {
        match self {
            Self::Done(done) => show(done),
            Self::Trying(one) => standing(one, history),
        }
    }
}

fn show(done: &ItemDone) -> JobItem {
    JobItem {
        tree: done.tree.to_string(),
        path: Path::from(&done.path),
        outcome: Some(done.outcome.as_str()),
        cause: done.cause.map(Cause::as_str),
        holder: None,
        attempts: 1,
        next_attempt: None,
        bytes: done.bytes.0,
        detail: done.detail.clone(),
    }
}

/// How a deletion that failed at first stands now.
fn standing(one: &Settled, history: &History) -> JobItem {
    let target = &one.intent.target;
    let failure = history.failures.get(&one.failure());
    let attempt = now_of(one.failure(), &one.attempt, target, history);
    let outcome = attempt.outcome();
    let (cause, holder, detail) = match attempt {
        Attempt::Failed { cause, holder, error } => (Some(cause.as_str()), holder, Some(error)),
        Attempt::Kept { why } => (None, None, Some(why)),
        Attempt::Verified { .. } | Attempt::AlreadyGone => (None, None, None),
    };
    JobItem {
        tree: target.tree.to_string(),
        path: Path::from(&target.path),
        outcome: Some(outcome.as_str()),
        cause,
        holder: holder.map(|holder| holder.to_string()),
        attempts: failure.map_or(1, |failure| failure.attempts),
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

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
