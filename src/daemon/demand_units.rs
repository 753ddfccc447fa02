//! Demands in a tree whose recordings are directories that go as one: a turn is a batch of one of them, and the run holds it from turn to turn.

use super::demand_look::WhatUnit;
use super::demand_task::{Chosen, Task, Unit};
use super::demands::{Desk, begun_with, unbegun};
use super::job_items::ItemDone;
use super::remedies::kept;
use super::volume::VolumeWorker;
use crate::domain::deletion::{Attempt, Failure, RunResult, UNSETTLED};
use crate::domain::layout::Layout;
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::units::Bytes;
use crate::reclaim::{Settled, Stop};
use crate::store::JournalError;

impl VolumeWorker {
    /// The next batch of a demand.
    pub(super) fn batch_of_unit(
        &mut self,
        desk: &Desk,
        task: &mut Task,
        index: usize,
        stop: Stop<'_>,
    ) -> Result<(), JournalError> {
        let mut targets = Vec::new();
        if task.unit.is_none() {
            let (dir, policy) = (self.trees[index].dir.clone(), self.trees[index].policy.clone());
            let chosen = task.choose(dir.as_ref(), &policy.layout, 1, stop);
            let Some(path) = chosen.paths().next().cloned() else { return Ok(()) };
            match self.look_at_unit(index, task, &path, &|| {
                let _ = desk.asked();
            }) {
                WhatUnit::TooLate => {}
                WhatUnit::Done(item) => self.tell(desk, task, &policy.layout, item),
                WhatUnit::Again(failures) => return self.try_parts(desk, task, index, (chosen, &path), failures, stop),
                WhatUnit::Go(target, files) => {
                    let trees = self.handles();
                    let file = (target.inode, target.fingerprint);
                    let sighted = trees.get(&task.tree).is_some_and(|tree| (tree.sighted)(file));
                    let ahead = Tally { files, bytes: target.bytes };
                    desk.hub.with_jobs(|jobs| jobs.expand(task.job, ahead));
                    targets.push(target.clone());
                    task.unit = Some(Unit { target, chosen, ahead, sighted, again: false });
                }
            }
        }
        if task.unit.is_none() {
            return Ok(());
        }
        let mut settled = self.carry_batch(task, targets, stop)?;
        let begun = begun_with(&mut settled);
        let Some(mut unit) = task.unit.take() else { return Ok(()) };
        unit.again |= !begun;
        let more = unit.account(&settled);
        let run = task.run.as_ref();
        let through = run.is_none_or(|run| !run.within_unit());
        let stopped = run.is_some_and(|run| !run.goes_on() && run.report().result == RunResult::Cancelled);
        desk.hub.with_jobs(|jobs| {
            jobs.expand(task.job, more);
            if through {
                jobs.retract(task.job, unit.ahead);
            }
            jobs.reclaimed(task.job, task.reclaimed);
        });
        desk.hub.settled(task.job, settled);
        if !through {
            task.unit = Some(unit);
        } else if stopped || unit.again {
            task.put_back(unit.chosen, &|_| false);
        }
        Ok(())
    }

    /// Tries again what failed of a directory before. Once all of that is gone, the rest has its turn.
    fn try_parts(
        &mut self,
        desk: &Desk,
        task: &mut Task,
        index: usize,
        (chosen, path): (Chosen, &RelPath),
        failures: Vec<Failure>,
        stop: Stop<'_>,
    ) -> Result<(), JournalError> {
        let mut settled = self.try_again(task, failures, stop)?;
        let begun = begun_with(&mut settled);
        let stays = settled.iter().any(|one| match one.attempt {
            Attempt::Failed { .. } | Attempt::Kept { .. } => true,
            Attempt::Verified { .. } | Attempt::AlreadyGone => false,
        });
        desk.hub.with_jobs(|jobs| jobs.expand(task.job, sum(&settled)));
        desk.hub.settled(task.job, settled);
        if !begun || !stays {
            task.put_back(chosen, &|_| false);
            return Ok(());
        }
        let policy = self.trees[index].policy.clone();
        let item = kept(task.tree.clone(), path.clone(), Bytes::ZERO, UNSETTLED.to_owned());
        self.tell(desk, task, &policy.layout, item);
        Ok(())
    }

    /// Nothing was begun with a directory: it is gone, or stays.
    fn tell(&self, desk: &Desk, task: &Task, layout: &Layout, item: ItemDone) {
        self.emit(unbegun(task, layout, &item));
        desk.hub.with_jobs(|jobs| {
            jobs.expand(task.job, Tally { files: 1, bytes: item.bytes });
            jobs.item(task.job, item);
        });
    }
}

impl Unit {
    /// Something became of these of its files; gives what the job was not told of before: what lies beside its segments.
    fn account(&mut self, settled: &[Settled]) -> Tally {
        let Tally { files, bytes } = sum(settled);
        let more =
            Tally { files: files.saturating_sub(self.ahead.files), bytes: bytes.saturating_sub(self.ahead.bytes) };
        self.ahead.files = self.ahead.files.saturating_sub(files);
        self.ahead.bytes = self.ahead.bytes.saturating_sub(bytes);
        more
    }
}

fn sum(settled: &[Settled]) -> Tally {
    let mut sum = Tally::default();
    settled.iter().for_each(|one| sum.add(one.intent.target.bytes));
    sum
}
