//! What is to be done with each recording that a demand is about, by a look at it now.

use std::collections::{HashMap, HashSet};

use super::demand_task::{Chosen, Task};
use super::job_items::ItemDone;
use super::remedies::kept;
use super::volume::VolumeWorker;
use crate::domain::deletion::{Cause, Failure, Outcome, RuleKind, Seq, SparedReason, Target, UNSETTLED};
use crate::domain::hold::Reach;
use crate::domain::layout::Recognised;
use crate::domain::live::{may_be_written, unit_may_be_written};
use crate::domain::names::{StreamId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::recording::{FileIdentity, Kind};
use crate::domain::units::Bytes;
use crate::system::list_unit;

/// What is to be done with one file.
pub(super) enum What {
    Go(Target),
    /// It fails already: that deletion is tried now.
    Again(Failure),
    Done(ItemDone),
}

/// What is to be done with a directory that goes as one.
pub(super) enum WhatUnit {
    /// It goes: so many files.
    Go(Target, u64),
    /// Some of it fails already: that is tried now.
    Again(Vec<Failure>),
    Done(ItemDone),
    /// It ends too late to be among what was asked for.
    TooLate,
}

/// What was begun with files of a tree before.
pub(super) struct Begun {
    failing: HashMap<RelPath, Failure>,
    open: HashSet<RelPath>,
    quarantined: HashSet<RelPath>,
    /// Inodes of the files that may be being written, as the last scan saw them.
    written: HashSet<u64>,
}

const LINK: &str = "a symbolic link stands there, or on the way to it";
const MOUNT: &str = "something else is mounted there";
const NEWER: &str = "it was recorded after the request, which a restart interrupted";

impl VolumeWorker {
    /// What was begun before with those of a tree that have their turn, by their names.
    pub(super) fn begun(&self, index: usize, chosen: &Chosen) -> Begun {
        let tree = &self.trees[index].policy.tree;
        let written = self.trees[index].written();
        let paths: HashSet<&RelPath> = chosen.paths().collect();
        self.journal().with_history(|history| {
            // What is in quarantine bears no name that matters.
            let named = |seq: Seq| !history.quarantined.contains_key(&seq);
            let meant = |target: &Target| target.tree == *tree && paths.contains(&target.path);
            let failing = history.failures.values().filter(|one| meant(&one.target) && named(Seq(one.id)));
            let open = history.open.values().map(|open| &open.intent);
            let open = open.filter(|intent| meant(&intent.target) && intent.retry_of.is_none_or(named));
            let quarantined = history.quarantined_in(tree).filter(|(_, one)| meant(&one.target));
            Begun {
                failing: failing.map(|one| (one.target.path.clone(), one.clone())).collect(),
                open: open.map(|intent| intent.target.path.clone()).collect(),
                quarantined: quarantined.map(|(_, one)| one.target.path.clone()).collect(),
                written,
            }
        })
    }

    /// What is to be done with a path that was named.
    pub(super) fn look_at(&self, index: usize, task: &Task, path: &RelPath, begun: &Begun) -> What {
        let watch = &self.trees[index];
        let item = |outcome, detail: Option<String>| What::Done(item(task, path, outcome, detail));
        let stranger = |what: &str| What::Done(stranger(task, path, what));
        let seen = match watch.dir.open(path).and_then(|file| file.map(|file| file.identity()).transpose()) {
            Ok(Some(identity)) => identity,
            Ok(None) => {
                return match begun.failing.get(path) {
                    // It may be set aside.
                    Some(failure) => What::Again(failure.clone()),
                    None if begun.open.contains(path) => item(Outcome::Kept, Some(UNSETTLED.to_owned())),
                    None if begun.quarantined.contains(path) => {
                        item(Outcome::Kept, Some(SparedReason::Quarantined.as_str().to_owned()))
                    }
                    None => item(Outcome::AlreadyGone, None),
                };
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ELOOP) => return stranger(LINK),
                Some(libc::EXDEV) => return stranger(MOUNT),
                Some(libc::EINVAL | libc::ENOTDIR | libc::EISDIR) => return stranger("it is no regular file"),
                // What cannot be opened may still be looked at: the door says why it fails, and it is tried again.
                _ => match watch.dir.look(path) {
                    Ok(Some(identity)) => identity,
                    Ok(None) => return item(Outcome::AlreadyGone, None),
                    Err(error) => return item(Outcome::Failed, Some(format!("it cannot be looked at: {error}"))),
                },
            },
        };
        match watch.policy.layout.recognise(path, seen.size) {
            Some(found) => self.judge(index, task, path, &seen, found, begun),
            None => stranger("its name does not fit the layout"),
        }
    }

    /// What is to be done with a file that is there.
    pub(super) fn judge(
        &self,
        index: usize,
        task: &Task,
        path: &RelPath,
        seen: &FileIdentity,
        found: Recognised,
        begun: &Begun,
    ) -> What {
        let watch = &self.trees[index];
        let stays = |why: &str| What::Done(kept(task.tree.clone(), path.clone(), seen.allocated, why.to_owned()));
        if watch.protects(path) {
            return stays(SparedReason::Protected.as_str());
        }
        if watch.holds(path) {
            return stays(SparedReason::Hold.as_str());
        }
        if task.is_older_than(seen.modified_at()) {
            return stays(NEWER);
        }
        let life = watch.live.of_stream(&StreamId::new(&found.stream));
        let touched = [found.named, seen.modified_at()].into_iter().flatten().max().unwrap_or_default();
        if found.kind == Kind::Unfinished
            || begun.written.contains(&seen.inode)
            || (watch.signless() && may_be_written(life, touched, watch.inventory().started, self.now()))
        {
            return stays(SparedReason::Live.as_str());
        }
        match begun.failing.get(path) {
            Some(failure) if (failure.target.inode, failure.target.fingerprint) == (seen.inode, seen.fingerprint()) => {
                return What::Again(failure.clone());
            }
            Some(_) | None => {}
        }
        if begun.open.contains(path) {
            return stays(UNSETTLED);
        }
        What::Go(Target {
            tree: task.tree.clone(),
            path: path.clone(),
            stream: found.stream,
            recorded: None,
            bytes: seen.allocated,
            inode: seen.inode,
            fingerprint: seen.fingerprint(),
            rule: RuleKind::Requested,
            trigger: task.trigger,
            reason: task.reason.clone(),
        })
    }

    /// What is to be done with a path that is, or should be, a directory that goes as one; `beat` says that it goes on.
    pub(super) fn look_at_unit(&self, index: usize, task: &Task, path: &RelPath, beat: &dyn Fn()) -> WhatUnit {
        let watch = &self.trees[index];
        let (layout, dir) = (&watch.policy.layout, watch.dir.as_ref());
        let done = |outcome, detail: Option<String>| WhatUnit::Done(item(task, path, outcome, detail));
        let stranger = |what: &str| WhatUnit::Done(stranger(task, path, what));
        let Some(stream) = layout.stream_of_unit(path) else { return stranger("it is no day of a stream") };
        let failing = self.failing_within(&task.tree, path);
        if !failing.is_empty() {
            return WhatUnit::Again(failing);
        }
        let now = self.now();
        let seen = dir.look(path).and_then(|identity| {
            let listing = identity.map(|_| list_unit(dir, layout, path, now, &mut |_, _, _| beat())).transpose()?;
            Ok(identity.zip(listing))
        });
        let (identity, sum) = match seen {
            // Neither a segment nor anything that speaks of one.
            Ok(Some((_, listing))) if listing.is_empty() => return done(Outcome::AlreadyGone, None),
            Ok(Some((identity, listing))) => (identity, listing.sum),
            Ok(None) => return done(Outcome::AlreadyGone, None),
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::ENOENT) => done(Outcome::AlreadyGone, None),
                    Some(libc::ELOOP) => stranger(LINK),
                    Some(libc::EXDEV) => stranger(MOUNT),
                    Some(libc::ENOTDIR) => stranger("it is no directory"),
                    _ => done(Outcome::Failed, Some(format!("it cannot be looked at whole: {error}"))),
                };
            }
        };
        let stays =
            |why: &str| WhatUnit::Done(kept(task.tree.clone(), path.clone(), sum.segments.bytes, why.to_owned()));
        let last = sum.named().max(sum.modified());
        if task.before().is_some_and(|before| last.is_some_and(|last| last >= before)) {
            return WhatUnit::TooLate;
        }
        if sum.partial {
            return stays("something else is mounted in it");
        }
        if watch.protects(path) {
            return stays(SparedReason::Protected.as_str());
        }
        let holds = watch.holds.of(&task.tree);
        let reach = sum.oldest.or(last).zip(last).map(|(from, to)| Reach { from, to });
        let spanned = || last.is_some() && holds.spanning(&StreamId::new(&stream), reach).next().is_some();
        if watch.holds(path) || spanned() {
            return stays(SparedReason::Hold.as_str());
        }
        if last.is_some() && task.is_older_than(sum.modified()) {
            return stays(NEWER);
        }
        let written = watch.written().contains(&identity.inode);
        let touched = last.unwrap_or_default();
        let recorder = watch.live.recorder(&StreamId::new(&stream), touched);
        if written || unit_may_be_written(recorder, touched, watch.inventory().started, now) {
            return stays(SparedReason::Live.as_str());
        }
        // What lies there is empty: nobody knows whether it is being begun.
        if sum.segments.files == 0 && last.is_some() {
            return stays("no file in it is finished");
        }
        let target = Target {
            tree: task.tree.clone(),
            path: path.clone(),
            stream,
            recorded: None,
            bytes: sum.segments.bytes,
            inode: identity.inode,
            fingerprint: sum.fingerprint(),
            rule: RuleKind::Requested,
            trigger: task.trigger,
            reason: task.reason.clone(),
        };
        WhatUnit::Go(target, sum.segments.files)
    }

    /// Deletions within a directory that failed and are tried again.
    fn failing_within(&self, tree: &TreeId, dir: &RelPath) -> Vec<Failure> {
        self.journal().with_history(|history| {
            let named = |failure: &&Failure| !history.quarantined.contains_key(&Seq(failure.id));
            let within = |failure: &&Failure| failure.target.tree == *tree && failure.target.path.lies_in(dir);
            history.failures.values().filter(within).filter(named).cloned().collect()
        })
    }
}

fn item(task: &Task, path: &RelPath, outcome: Outcome, detail: Option<String>) -> ItemDone {
    let cause = (outcome == Outcome::Failed).then_some(Cause::Unknown);
    ItemDone { tree: task.tree.clone(), path: path.clone(), bytes: Bytes::ZERO, outcome, cause, detail }
}

fn stranger(task: &Task, path: &RelPath, what: &str) -> ItemDone {
    item(task, path, Outcome::Kept, Some(format!("it is no recording of this tree: {what}")))
}
