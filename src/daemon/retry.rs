//! What an earlier run left to do: failed deletions that are due, and deleted files that somebody has open.

use std::collections::HashMap;

use super::volume::VolumeWorker;
use crate::domain::deletion::{Attempt, Cause, Failure, RuleKind, Seq, SparedReason, Trigger};
use crate::domain::event::Event;
use crate::domain::journal::{Entry, GUARD, NoteKind};
use crate::domain::plan::spared_now;
use crate::domain::pressure::Pressure;
use crate::domain::retention::Mode;
use crate::domain::units::{Bytes, Percent};
use crate::reclaim::Stop;
use crate::store::JournalError;

/// Below the low mark, retries of what pressure once chose give back at most this share of the volume: nobody needs it any more.
const LEFTOVER: Percent = Percent::new(2);
/// Why a failure lapses.
const LAPSED: &str =
    "the volume is below its marks, and nothing hinders this deletion any more: it is a recording like any other again";
/// A deleted file whose holder was never seen counts as open for so long: we may not be allowed to see who has it.
const UNSEEN: std::time::Duration = std::time::Duration::from_secs(600);

/// Which failed deletions are tried again, and who wants it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Again<'a> {
    /// Those that are due.
    Due,
    /// The one with this number, or all of them, because a person asks for it: no pressure is needed, and no cap counts.
    Asked(Option<u64>, &'a str),
}

impl VolumeWorker {
    /// Tries failed deletions again. Today's rules decide whether one may go; what pressure chose goes by itself only as far as
    /// pressure, the cap, and a small remainder allow. The rest waits, and stays a failure, until the volume is below its marks and
    /// nothing hinders it any more: then it lapses.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn retry(&mut self, again: Again<'_>, stop: Stop<'_>) -> Result<usize, JournalError> {
        let due = self.due(again);
        if due.is_empty() || !self.steady()? {
            return Ok(0);
        }
        let batch = self.engine.cleanup.batch_files.max(1);
        let (most, who) = match again {
            Again::Due => (batch, GUARD),
            Again::Asked(_, who) => (usize::MAX, who),
        };
        let Some(basis) = self.basis() else { return Ok(0) };
        let size = self.reading.as_ref().map_or(Bytes::ZERO, |reading| reading.space.size);
        let mut wanted = basis.target.bytes;
        let before = self.leftover;
        let mut leftover = before.unwrap_or(LEFTOVER.of(size));
        let mut beyond = Vec::new();
        let mut allowed: Vec<Bytes> = basis.allowances.iter().map(|allowance| allowance.pressure).collect();
        let moment = self.clock.skew().at(self.now());
        let spared: Vec<HashMap<_, _>> = basis
            .trees
            .iter()
            .map(|tree| {
                let own = due.iter().map(|failure| &failure.target).filter(|target| target.tree == tree.policy.tree);
                spared_now(tree, &own.collect::<Vec<_>>(), &moment)
            })
            .collect();
        let (mut chosen, mut unneeded, mut saved) = (Vec::new(), Vec::new(), Vec::new());
        for failure in due {
            // What is spared or not needed takes nobody's place.
            if chosen.len() >= most {
                break;
            }
            let target = &failure.target;
            let Some(index) = basis.trees.iter().position(|tree| tree.policy.tree == target.tree) else { continue };
            // What was asked for may be young.
            let asked = matches!(target.trigger, Trigger::Operator | Trigger::Gateway);
            match spared[index].get(&(target.inode, target.fingerprint)) {
                Some(SparedReason::Young) if asked => {}
                Some(_) => continue,
                None => {}
            }
            if target.rule == RuleKind::Orphan
                && let Some(why) = self.no_orphan(target)
            {
                if let Ok(why) = why {
                    saved.push((failure, why));
                }
                continue;
            }
            if let (Trigger::Pressure, Again::Due) = (target.trigger, again) {
                let fits = target.bytes <= allowed[index];
                if fits && target.bytes <= wanted {
                    wanted = wanted.saturating_sub(target.bytes);
                } else if fits && (target.bytes <= leftover || (before.is_none() && beyond.is_empty())) {
                    leftover = leftover.saturating_sub(target.bytes);
                    beyond.push(failure.id);
                } else {
                    // A budget asks for more than its volume does.
                    if unneeded.len() < batch && target.rule != RuleKind::Budget {
                        unneeded.push(failure);
                    }
                    continue;
                }
                allowed[index] = allowed[index].saturating_sub(target.bytes);
            }
            chosen.push(failure);
        }
        if self.pressure == Pressure::Normal {
            self.lapse(unneeded)?;
        }
        self.spare(saved)?;
        let mut settled = Vec::new();
        for some in chosen.chunks(batch) {
            if !stop() {
                let run = (self.next_run_if_any(), who);
                let trees = self.handles();
                settled.extend(self.engine.retry(&trees, some.to_vec(), run, stop)?);
            }
        }
        self.note_settled(&settled);
        for one in &settled {
            let of_leftover = one.intent.retry_of.is_some_and(|id| beyond.contains(&id.0));
            if let (Attempt::Verified { freed, .. }, true) = (&one.attempt, of_leftover) {
                self.leftover = Some(self.leftover.unwrap_or(LEFTOVER.of(size)).saturating_sub(*freed));
            }
        }
        Ok(settled.len())
    }

    /// These are no orphans any more, so they are not to be deleted.
    fn spare(&self, saved: Vec<(Failure, String)>) -> Result<(), JournalError> {
        if saved.is_empty() {
            return Ok(());
        }
        let note = |(failure, why): &(Failure, String)| {
            Entry::failure_closed(failure.id, failure.target.tree.clone(), GUARD, why)
        };
        self.journal().append_synced(saved.iter().map(note).collect(), self.now())?;
        for (failure, reason) in saved {
            self.emit(Event::FailureClosed { target: failure.target, who: GUARD.to_owned(), reason });
        }
        Ok(())
    }

    /// Nobody needs the space of these any more. What was locked or in use, lies where it lay, and is neither any more, is left alone
    /// from now on. All others stay failures, since only deleting would show whether they still fail (promise 8).
    fn lapse(&self, mut unneeded: Vec<Failure>) -> Result<(), JournalError> {
        unneeded.retain(|failure| matches!(failure.cause, Cause::Locked | Cause::InUse));
        let (unhindered, _) = self.engine.examine(&self.handles(), unneeded);
        if unhindered.is_empty() {
            return Ok(());
        }
        let note = |failure: &Failure| Entry::failure_closed(failure.id, failure.target.tree.clone(), GUARD, LAPSED);
        let notes = unhindered.iter().map(note).collect();
        self.journal().append_synced(notes, self.now())?;
        for failure in unhindered {
            self.emit(Event::FailureClosed {
                target: failure.target,
                who: GUARD.to_owned(),
                reason: LAPSED.to_owned(),
            });
        }
        Ok(())
    }

    /// A run's number for retries: the next one, which is used up only if something is tried.
    fn next_run_if_any(&self) -> u64 {
        self.journal().with_history(|history| history.last_run + 1)
    }

    /// Failures of trees that may be changed, and that are due: what waits longest first, so that what stays locked keeps nothing back.
    fn due(&self, again: Again<'_>) -> Vec<Failure> {
        let now = self.now();
        let enforced: Vec<_> = self
            .trees
            .iter()
            .filter(|tree| tree.policy.mode == Mode::Enforce)
            .map(|tree| tree.policy.tree.clone())
            .collect();
        self.journal().with_history(|history| {
            let open = history.unsettled_retries();
            let due = history.failures.values().filter(|failure| {
                enforced.contains(&failure.target.tree)
                    // Its last try is to be settled first.
                    && !open.contains(&Seq(failure.id))
                    && match again {
                        Again::Due => failure.next_attempt <= now,
                        Again::Asked(only, _) => only.is_none_or(|id| failure.id == id),
                    }
            });
            let mut due: Vec<Failure> = due.cloned().collect();
            due.sort_by_key(|failure| (failure.next_attempt, failure.id));
            due
        })
    }

    /// What snapshots or reflink copies shared is no longer missed once the volume is well again.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn forget_shared(&mut self) -> Result<(), JournalError> {
        if self.pressure != Pressure::Normal {
            return Ok(());
        }
        let names = self.names();
        let missed: Vec<_> = self.journal().with_history(|history| {
            let ours = history.shared.iter().filter(|(tree, _)| names.contains(tree));
            ours.map(|(tree, tally)| (tree.clone(), tally.bytes)).collect()
        });
        let notes = missed.into_iter().map(|(tree, bytes)| Entry::Note {
            kind: NoteKind::Closed,
            volume: None,
            tree: Some(tree),
            who: GUARD.to_owned(),
            bytes,
            number: 0,
            text: "the volume is below its marks, so what was shared is not missed any more".to_owned(),
        });
        self.journal().append_synced(notes.collect(), self.now()).map(|_| ())
    }

    /// Looks which deleted files are still open.
    pub(super) fn sweep_held(&mut self) -> Result<(), JournalError> {
        let names = self.names();
        let held: Vec<_> = self.journal().with_history(|history| {
            history.held.values().filter(|held| names.contains(&held.target.tree)).cloned().collect()
        });
        if held.is_empty() {
            return Ok(());
        }
        let inodes: Vec<u64> = held.iter().map(|held| held.target.inode).collect();
        let open = self.engine.holders.find(&inodes);
        let now = self.now();
        for one in held {
            let holder = open.iter().find(|file| file.deleted && file.inode == one.target.inode);
            match holder {
                Some(file) => self.journal().with_history_mut(|history| {
                    if let Some(held) = history.held.get_mut(&one.seq) {
                        held.holder = Some(file.holder.clone());
                    }
                }),
                None if one.holder.is_none() && now.since(one.since) < UNSEEN => {}
                None => {
                    let note = Entry::Note {
                        kind: NoteKind::Closed,
                        volume: None,
                        tree: Some(one.target.tree.clone()),
                        who: GUARD.to_owned(),
                        bytes: one.bytes,
                        number: one.seq.0,
                        text: one.target.path.show().0,
                    };
                    self.journal().append_synced(vec![note], now)?;
                    self.emit(Event::Closed { target: one.target, bytes: one.bytes });
                }
            }
        }
        Ok(())
    }
}
