//! Where work for archives waits: what is to be copied, as the volumes' workers offer it, and what persons want back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use super::hub::lock;
use crate::archive::Wanted;
use crate::domain::archive::{ArchiveProblem, ArchiveView};
use crate::domain::names::{ArchiveId, TreeId, VolumeId};
use crate::domain::protection::HoldScope;
use crate::domain::recording::Tally;
use crate::domain::units::Timestamp;

/// A copy that failed is made again after this, then after twice as long, …
const AGAIN: Duration = Duration::from_secs(30);
/// … and at last so often.
const LONGEST: Duration = Duration::from_secs(3600);
/// An archive that cannot be used is tried again after this, then after twice as long, …
const REST: Duration = Duration::from_secs(5);
/// … and at last so often.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// So many requests to bring something back wait at most.
const RESTORES: usize = 100;

/// A request to bring something back.
#[derive(Debug, Clone)]
pub(super) struct RestoreTask {
    pub(super) job: u64,
    pub(super) tree: TreeId,
    /// What is wanted back: recordings by path, or those of a stream that reach into a span.
    pub(super) scope: HoldScope,
    pub(super) who: String,
}

/// What one archive has to do, and how it goes.
#[derive(Default)]
struct Desk {
    /// As the workers last offered it, by volume; the front comes first.
    wanted: BTreeMap<VolumeId, VecDeque<Wanted>>,
    /// How much that was in all, by volume.
    offered: BTreeMap<VolumeId, Tally>,
    restores: VecDeque<RestoreTask>,
    /// When sources that could not be copied are tried again, by the clock that does not jump, and how often they failed.
    failed: HashMap<(TreeId, (u64, u64)), (Duration, u32)>,
    /// The archive rests until then, and how often in a row it could not be used.
    rests: (Duration, u32),
    waiting_since: Option<Timestamp>,
    copied_at: Option<Timestamp>,
    copied: Tally,
    /// What was copied since it was last said.
    untold: Tally,
    problem: Option<ArchiveProblem>,
}

/// The desks of all archives. They outlive a reload.
#[derive(Default)]
pub(super) struct Desks {
    desks: Mutex<BTreeMap<ArchiveId, Desk>>,
    /// How many files came into each tree: copies, and what was brought back.
    came: Mutex<BTreeMap<TreeId, u64>>,
}

impl Desks {
    /// Another configuration is in force: what was offered is offered again, and archives that are not in it any more are forgotten, with
    /// what was to be brought back from them.
    pub(super) fn begin(&self, archives: &[ArchiveId]) -> Vec<RestoreTask> {
        let mut desks = lock(&self.desks);
        for name in archives {
            let desk = desks.entry(name.clone()).or_default();
            (desk.wanted, desk.offered, desk.failed, desk.rests) = Default::default();
        }
        let gone = desks.extract_if(.., |name, _| !archives.contains(name));
        gone.flat_map(|(_, desk)| desk.restores).collect()
    }

    /// A volume's worker says what it wants copied now: no more than it names, of `all` that wait.
    pub(super) fn offer(
        &self,
        archive: &ArchiveId,
        volume: &VolumeId,
        wanted: Vec<Wanted>,
        all: Tally,
        now: Timestamp,
    ) {
        let mut desks = lock(&self.desks);
        let Some(desk) = desks.get_mut(archive) else { return };
        desk.wanted.insert(volume.clone(), wanted.into());
        desk.offered.insert(volume.clone(), all);
        desk.note_waiting(now);
    }

    /// The next to be copied, urgent ones first; nothing while the archive rests.
    pub(super) fn next(&self, archive: &ArchiveId, boot: Duration) -> Option<Wanted> {
        let mut desks = lock(&self.desks);
        let desk = desks.get_mut(archive).filter(|desk| desk.rests.0 <= boot)?;
        let Desk { wanted, failed, .. } = desk;
        failed.retain(|_, (until, _)| *until + LONGEST > boot);
        let ready = |one: &Wanted| {
            let key = (one.policy.tree.clone(), one.source);
            failed.get(&key).is_none_or(|(until, _)| *until <= boot)
        };
        let place = [true, false].into_iter().find_map(|urgent| {
            wanted.iter().find_map(|(volume, line)| {
                let at = line.iter().position(|one| one.urgent == urgent && ready(one))?;
                Some((volume.clone(), at))
            })
        });
        let (volume, at) = place?;
        wanted.get_mut(&volume)?.remove(at)
    }

    /// A recording was copied. Once nothing waits any more it gives what was copied since that was said last.
    pub(super) fn copied(&self, archive: &ArchiveId, wanted: &Wanted, now: Timestamp) -> Option<Tally> {
        let mut desks = lock(&self.desks);
        let desk = desks.get_mut(archive)?;
        desk.copied.add(wanted.bytes);
        desk.untold.add(wanted.bytes);
        (desk.copied_at, desk.problem, desk.rests) = (Some(now), None, Default::default());
        desk.failed.remove(&(wanted.policy.tree.clone(), wanted.source));
        for all in desk.offered.values_mut().filter(|all| all.files > 0).take(1) {
            all.files -= 1;
            all.bytes = all.bytes.saturating_sub(wanted.bytes);
        }
        desk.waiting_since = Some(now);
        desk.note_waiting(now);
        (desk.waiting().files == 0).then(|| std::mem::take(&mut desk.untold))
    }

    /// A recording could not be copied, and perhaps no other can be now. Says whether that is news.
    pub(super) fn failed(
        &self,
        archive: &ArchiveId,
        wanted: &Wanted,
        all: bool,
        text: &str,
        at: (Timestamp, Duration),
    ) -> bool {
        let (now, boot) = at;
        let mut desks = lock(&self.desks);
        let Some(desk) = desks.get_mut(archive) else { return false };
        let later = |count: u32, first: Duration, most: Duration| first.saturating_mul(1 << count.min(10)).min(most);
        let entry = desk.failed.entry((wanted.policy.tree.clone(), wanted.source)).or_default();
        *entry = (boot + later(entry.1, AGAIN, LONGEST), entry.1 + 1);
        if all {
            desk.rests = (boot + later(desk.rests.1, REST, LONGEST_REST), desk.rests.1 + 1);
        }
        let news = desk.problem.as_ref().is_none_or(|problem| problem.text != text);
        let since = desk.problem.as_ref().map_or(now, |problem| problem.since);
        desk.problem = Some(ArchiveProblem { since, text: text.to_owned() });
        news
    }

    /// A file came into a tree.
    pub(super) fn note_came(&self, tree: &TreeId) {
        *lock(&self.came).entry(tree.clone()).or_default() += 1;
    }

    /// How many files came into a tree, so that it is scanned before its time.
    pub(super) fn came(&self, tree: &TreeId) -> u64 {
        lock(&self.came).get(tree).copied().unwrap_or(0)
    }

    /// Lets a request wait; `false` if there are too many.
    pub(super) fn ask(&self, archive: &ArchiveId, task: RestoreTask) -> bool {
        let mut desks = lock(&self.desks);
        let Some(desk) = desks.get_mut(archive).filter(|desk| desk.restores.len() < RESTORES) else { return false };
        desk.restores.push_back(task);
        true
    }

    /// The next request.
    pub(super) fn next_restore(&self, archive: &ArchiveId) -> Option<RestoreTask> {
        lock(&self.desks).get_mut(archive)?.restores.pop_front()
    }

    /// A request that was interrupted comes first again.
    pub(super) fn return_restore(&self, archive: &ArchiveId, task: RestoreTask) {
        if let Some(desk) = lock(&self.desks).get_mut(archive) {
            desk.restores.push_front(task);
        }
    }

    /// How each archive stands.
    pub(super) fn views(&self) -> Vec<ArchiveView> {
        let desks = lock(&self.desks);
        let view = |(name, desk): (&ArchiveId, &Desk)| ArchiveView {
            name: name.clone(),
            waiting: desk.waiting(),
            waiting_since: desk.waiting_since,
            copied_at: desk.copied_at,
            copied: desk.copied,
            problem: desk.problem.clone(),
        };
        desks.iter().map(view).collect()
    }
}

impl Desk {
    fn waiting(&self) -> Tally {
        let mut all = Tally::default();
        self.offered.values().for_each(|one| all.merge(*one));
        all
    }

    /// Since when something waits of which none was copied.
    fn note_waiting(&mut self, now: Timestamp) {
        if self.waiting().files == 0 {
            (self.waiting_since, self.problem) = (None, None);
        } else {
            self.waiting_since.get_or_insert(now);
        }
    }
}
