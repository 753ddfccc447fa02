//! A demand, and how far it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::domain::deletion::{Target, Trigger};
use crate::domain::demand::{Demand, Ground, Wanted};
use crate::domain::layout::Layout;
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::units::{Bytes, Timestamp};
use crate::reclaim::Run;
use crate::scan::{OfStreamFound, StreamWalk};
use crate::server::records::Problem;
use crate::system::WritableDir;

/// What was asked for, until all of it was begun.
pub(super) struct Task {
    pub(super) job: u64,
    pub(super) who: String,
    pub(super) tree: TreeId,
    pub(super) trigger: Trigger,
    pub(super) words: String,
    pub(super) reason: String,
    rest: Rest,
    /// Where it was meant.
    pub(super) ground: Ground,
    /// A restart goes on with it.
    pub(super) stored: bool,
    /// It was interrupted by a restart: what was recorded after this is not meant.
    pub(super) not_after: Option<Timestamp>,
    /// The directory that was begun and is not through.
    pub(super) unit: Option<Unit>,
    /// It has no turn before this, by the clock that does not jump.
    pub(super) rests_until: Duration,
    /// A person ended it; `None` before it began.
    pub(super) cancelled: Option<Arc<AtomicBool>>,
    pub(super) run: Option<Run>,
    /// What came back so far, as measured.
    pub(super) reclaimed: Bytes,
}

/// What is left of a demand.
enum Rest {
    Paths(VecDeque<RelPath>),
    Stream(StreamWalk),
}

/// A directory that goes as one and was begun, over as many turns as it has batches.
pub(super) struct Unit {
    pub(super) target: Target,
    /// As it was chosen, for when it is to be looked at again.
    pub(super) chosen: Chosen,
    /// What the job was told of, and nothing became of yet.
    pub(super) ahead: Tally,
    /// The last scan saw all its files as they are.
    pub(super) sighted: bool,
    /// Something of it was not begun, so that it is to be looked at again.
    pub(super) again: bool,
}

/// What has its turn now.
pub(super) enum Chosen {
    Paths(Vec<RelPath>),
    Files(Vec<OfStreamFound>),
}

impl Chosen {
    /// Their paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &RelPath> {
        let (named, found) = match self {
            Self::Paths(paths) => (paths.as_slice(), [].as_slice()),
            Self::Files(files) => ([].as_slice(), files.as_slice()),
        };
        named.iter().chain(found.iter().map(|file| &file.path))
    }
}

impl Task {
    /// A demand that has not begun.
    pub(super) fn new(job: u64, demand: Demand, ground: Ground, layout: &Layout, who: &str) -> Self {
        let (words, reason) = (demand.wanted.words(), demand.wanted.reason());
        let rest = match demand.wanted {
            Wanted::Paths(paths) => Rest::Paths(paths.into()),
            Wanted::Stream(wanted) => Rest::Stream(StreamWalk::new(wanted, layout)),
        };
        Self {
            job,
            who: who.to_owned(),
            tree: demand.tree,
            trigger: demand.trigger,
            words,
            reason,
            rest,
            ground,
            stored: false,
            not_after: None,
            unit: None,
            rests_until: Duration::ZERO,
            cancelled: None,
            run: None,
            reclaimed: Bytes::ZERO,
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.as_ref().is_some_and(|cancelled| cancelled.load(Ordering::Relaxed))
    }

    /// The next files.
    pub(super) fn choose(
        &mut self,
        dir: &dyn WritableDir,
        layout: &Layout,
        most: usize,
        stop: &dyn Fn() -> bool,
    ) -> Chosen {
        match &mut self.rest {
            Rest::Paths(paths) => Chosen::Paths(paths.drain(..most.min(paths.len())).collect()),
            Rest::Stream(walk) => Chosen::Files(walk.next(dir, layout, most, stop)),
        }
    }

    /// Those that were not begun come first the next time.
    pub(super) fn put_back(&mut self, chosen: Chosen, begun: &dyn Fn(&RelPath) -> bool) {
        match (&mut self.rest, chosen) {
            (Rest::Paths(paths), Chosen::Paths(chosen)) => {
                chosen.into_iter().rev().filter(|path| !begun(path)).for_each(|path| paths.push_front(path));
            }
            (Rest::Stream(walk), Chosen::Files(files)) => {
                walk.put_back(files.into_iter().filter(|file| !begun(&file.path)).collect());
            }
            // What was chosen is of the same kind as what is left.
            (Rest::Paths(_), Chosen::Files(_)) | (Rest::Stream(_), Chosen::Paths(_)) => {}
        }
    }

    /// All of it was begun, and is through.
    pub(super) fn through(&self) -> bool {
        let none_left = match &self.rest {
            Rest::Paths(paths) => paths.is_empty(),
            Rest::Stream(walk) => walk.over(),
        };
        none_left && self.unit.is_none()
    }

    /// Whether something that was changed at `modified` was recorded after a demand that a restart interrupted.
    pub(super) fn is_older_than(&self, modified: Option<Timestamp>) -> bool {
        self.not_after.is_some_and(|asked| modified.is_none_or(|modified| modified > asked))
    }

    /// Only what ended before this is meant.
    pub(super) fn before(&self) -> Option<Timestamp> {
        match &self.rest {
            Rest::Paths(_) => None,
            Rest::Stream(walk) => walk.before(),
        }
    }

    /// How many are left, as far as that is known.
    pub(super) fn left(&self) -> u64 {
        let rest = match &self.rest {
            Rest::Paths(paths) => paths.len() as u64,
            Rest::Stream(_) => 0,
        };
        rest + u64::from(self.unit.is_some())
    }

    /// Why not all that was asked for could be looked at.
    pub(super) fn unread(&self) -> Option<Problem> {
        let Rest::Stream(walk) = &self.rest else { return None };
        let (count, first) = walk.problems()?;
        let message =
            format!("{count} directories could not be read, so what is in them was not deleted; the first: {first}");
        Some(Problem { code: "unreadable", message })
    }
}

#[cfg(test)]
pub(super) fn task_of_test(job: u64) -> Task {
    let layout = Layout::parse("plain", &[], jiff::tz::TimeZone::UTC).expect("it is a layout");
    let demand = Demand { tree: TreeId::new("live"), wanted: Wanted::Paths(Vec::new()), trigger: Trigger::Operator };
    let ground = Ground { path: String::new(), layout: "plain".to_owned() };
    Task::new(job, demand, ground, &layout, "ops")
}
