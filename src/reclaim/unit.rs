//! A recording that is a directory, on its way out (`docs/decisions/0011-directory-units.md`).
//!
//! 1. It is looked at whole, once more: as many files as the scan saw, and the same; none protected, held or linked. Else it is kept, whole.
//! 2. What names its segments goes first, so that no player finds a list of what is gone; while that stays, so do the segments.
//! 3. Its segments go hour by hour, the oldest first, each as a file of its own: with an intent, through the door.
//! 4. What they begin with goes last, once all of them are gone.
//!
//! With a stream's last day goes what lies in the stream's own directory and speaks of it. While what speaks of them is being written, the
//! segments stay.
//! Memory: the names of one hour.

use std::collections::VecDeque;
use std::io;

use super::batch::{Settled, Stop};
use super::handle::{TreeHandle, bears_hold};
use crate::domain::deletion::{Attempt, NOT_BEGUN, RuleKind, Target, UNSETTLED};
use crate::domain::history::History;
use crate::domain::layout::Companion;
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::recording::{FileIdentity, Kind};
use crate::domain::units::Timestamp;
use crate::store::Journal;
use crate::system::door::CHANGED;
use crate::system::{Beside, DirEntry, EntryType, Hour, list_hour, list_unit};

/// Why a unit is kept of which nothing speaks for that any more.
const REFUSED: &str = "a playlist that names its segments stays, or it was being changed a moment before";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What names its segments goes.
    Playlists,
    /// Its segments go.
    Segments,
    /// What they begin with goes.
    Inits,
}

/// Segments of one hour, by name.
type Names = VecDeque<(Vec<u8>, FileIdentity)>;

/// A unit that is being deleted.
pub(super) struct Unit {
    target: Target,
    stage: Stage,
    /// What this stage still has to give.
    ready: VecDeque<Target>,
    /// The names of the hour at hand.
    hour: Option<(RelPath, Names)>,
    hours: VecDeque<Hour>,
    inits: Vec<Beside>,
    /// What was given in this stage waits for its outcome.
    given: bool,
    /// Something that was given is still there.
    stays: bool,
    gone: u64,
    files: u64,
}

/// What a unit gives next.
pub(super) enum Next {
    /// A file that goes.
    File(Target),
    /// First it must be known what became of what was given.
    Wait,
    /// The rest of it is kept.
    Kept,
    /// That was all.
    Done,
}

impl Unit {
    /// Looks at a unit whole.
    ///
    /// # Errors
    /// Why it is kept: whole, nothing of it was touched.
    pub(super) fn begin(
        tree: &TreeHandle,
        target: &Target,
        journal: &Journal,
        now: Timestamp,
        stop: Stop<'_>,
    ) -> Result<Self, Attempt> {
        let kept = |why: &str| Attempt::Kept { why: why.to_owned() };
        let unread = |error: io::Error| kept(&format!("it cannot be read: {error}"));
        if let Some(why) = tree.spares(&target.path) {
            return Err(kept(why));
        }
        if target.rule == RuleKind::Quarantine {
            return Err(kept("a directory is not set aside"));
        }
        let (dir, layout) = (tree.dir.as_ref(), &tree.policy.layout);
        let mut spared = None;
        let listed = list_unit(dir, layout, &target.path, now, &mut |hour, entry, _| {
            if stop() {
                spared = Some(NOT_BEGUN);
            }
            if spared.is_none() {
                let path = hour.join(&entry.name);
                spared = tree.spares(&path).or_else(|| bears_hold(tree.dir.as_ref(), &path).then_some("hold"));
            }
        });
        let listing = match listed {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !there(tree, &target.path) => {
                return Err(Attempt::AlreadyGone);
            }
            Err(error) => return Err(unread(error)),
        };
        if listing.sum.fingerprint() != target.fingerprint || listing.sum.partial {
            return Err(kept(CHANGED));
        }
        if listing.sum.linked {
            return Err(kept("linked"));
        }
        if let Some(why) = spared {
            return Err(kept(why));
        }
        let mut beside = listing.beside;
        beside.extend(of_stream(tree, &target.path).map_err(unread)?);
        let written = |one: &Beside| {
            let modified = one.identity.modified_at().unwrap_or(now);
            modified > now || now.since(modified) < tree.policy.min_age
        };
        // A recorder writes its playlist with each segment.
        if beside.iter().any(written) {
            return Err(kept("live"));
        }
        if beside.iter().any(|one| tree.spares(&one.path).is_some() || bears_hold(tree.dir.as_ref(), &one.path)) {
            return Err(kept("hold"));
        }
        if beside.iter().any(|one| one.identity.links > 1) {
            return Err(kept("linked"));
        }
        let begun = |history: &History| {
            let concerns = |tree: &TreeId, path: &RelPath| {
                *tree == target.tree && (path.lies_in(&target.path) || beside.iter().any(|one| one.path == *path))
            };
            let failing = history.failures.values().map(|failure| &failure.target);
            let open = history.open.values().map(|open| &open.intent.target);
            failing.chain(open).any(|one| concerns(&one.tree, &one.path))
        };
        if journal.with_history(begun) {
            return Err(kept(UNSETTLED));
        }
        let (playlists, inits) = beside.into_iter().partition(|one: &Beside| one.kind == Companion::Playlist);
        let mut unit = Self {
            target: target.clone(),
            stage: Stage::Playlists,
            ready: VecDeque::new(),
            hour: None,
            hours: listing.hours.into(),
            inits,
            given: false,
            stays: false,
            gone: 0,
            files: listing.sum.segments.files,
        };
        unit.ready = unit.speaking(playlists);
        Ok(unit)
    }

    fn speaking(&self, beside: Vec<Beside>) -> VecDeque<Target> {
        beside.into_iter().map(|one| self.file(one.path, &one.identity)).collect()
    }

    fn file(&self, path: RelPath, identity: &FileIdentity) -> Target {
        Target {
            path,
            bytes: identity.allocated,
            inode: identity.inode,
            fingerprint: identity.fingerprint(),
            reason: format!("{}; a part of `{}`, which goes whole", self.target.reason, self.target.path),
            ..self.target.clone()
        }
    }

    /// What it is, as it was chosen.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Segments of it that are gone, and how many it had.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.gone, self.files)
    }

    /// Gives the next file. The files of an hour are given only if they are those that were looked at.
    pub(super) fn next(&mut self, tree: &TreeHandle, now: Timestamp) -> Next {
        loop {
            if let Some(target) = self.ready.pop_front() {
                self.given = true;
                return Next::File(target);
            }
            match self.stage {
                Stage::Playlists if self.given => return Next::Wait,
                Stage::Playlists if self.stays => return Next::Kept,
                Stage::Playlists => self.stage = Stage::Segments,
                Stage::Segments => {
                    if let Some(target) = self.segment() {
                        self.given = true;
                        return Next::File(target);
                    }
                    if let Some(hour) = self.hours.pop_front() {
                        match read(tree, &hour, now) {
                            Some(names) => self.hour = Some((hour.path, names)),
                            None => return Next::Kept,
                        }
                    } else if self.inits.is_empty() {
                        return Next::Done;
                    } else if self.given {
                        return Next::Wait;
                    } else {
                        // What stays can be played only with what it begins with.
                        let inits = std::mem::take(&mut self.inits);
                        self.ready = if self.stays { VecDeque::new() } else { self.speaking(inits) };
                        self.stage = Stage::Inits;
                    }
                }
                Stage::Inits => return Next::Done,
            }
        }
    }

    fn segment(&mut self) -> Option<Target> {
        let (hour, names) = self.hour.as_mut()?;
        let (name, identity) = names.pop_front()?;
        let path = hour.join(&name);
        Some(self.file(path, &identity))
    }

    /// Gives a file back, which did not fit any more.
    pub(super) fn give_back(&mut self, target: Target) {
        self.ready.push_front(target);
    }

    /// Takes note of what became of what it gave.
    pub(super) fn note(&mut self, settled: &[Settled]) {
        for one in settled {
            let target = &one.intent.target;
            let beside = || target.path.split().0 == self.target.path.split().0;
            let own = target.path.lies_in(&self.target.path) || beside();
            if target.tree != self.target.tree || one.intent.retry_of.is_some() || !own {
                continue;
            }
            match &one.attempt {
                Attempt::Verified { .. } | Attempt::AlreadyGone => {
                    self.gone += u64::from(self.stage == Stage::Segments);
                }
                Attempt::Kept { .. } | Attempt::Failed { .. } => self.stays = true,
            }
        }
        self.given = false;
    }
}

/// Why a unit is kept, once that is on record as an intent; what could go now is kept too, since it was refused a moment before.
pub(super) fn refused(begun: Result<Unit, Attempt>) -> Attempt {
    match begun {
        Ok(_) => Attempt::Kept { why: REFUSED.to_owned() },
        Err(attempt) => attempt,
    }
}

/// The segments of an hour, the oldest first; `None` if they are not those that were looked at.
fn read(tree: &TreeHandle, hour: &Hour, now: Timestamp) -> Option<Names> {
    let mut names = Vec::new();
    let mut each = |entry: &DirEntry, kind| {
        if kind == Kind::Recording {
            names.push((entry.name.clone(), entry.identity));
        }
    };
    let sum = list_hour(tree.dir.as_ref(), &tree.policy.layout, &hour.path, now, &mut each, &mut |_| ()).ok()?;
    if sum.fingerprint() != hour.fingerprint || sum.partial {
        return None;
    }
    names.sort_by(|one, other| one.0.cmp(&other.0));
    Some(names.into())
}

fn there(tree: &TreeHandle, path: &RelPath) -> bool {
    !matches!(tree.dir.look(path), Ok(None))
}

/// What lies in the stream's own directory and goes with its last day: nothing while other days are there.
fn of_stream(tree: &TreeHandle, unit: &RelPath) -> io::Result<Vec<Beside>> {
    let Some(stream) = unit.split().0 else { return Ok(Vec::new()) };
    let (dir, layout) = (tree.dir.as_ref(), &tree.policy.layout);
    let (mut others, mut found) = (Vec::new(), Vec::new());
    let read = dir.read(Some(&stream), &mut |entry| match entry.kind {
        EntryType::Directory | EntryType::Mount => {
            let path = stream.join(&entry.name);
            if layout.is_unit(&path) && path != *unit {
                others.push(path);
            }
        }
        EntryType::File => {
            if let Some(kind) = Companion::of_stream(&entry.name) {
                found.push(Beside { kind, path: stream.join(&entry.name), identity: entry.identity });
            }
        }
        EntryType::Symlink | EntryType::Special => {}
    });
    read?;
    for other in others {
        // A day that is empty is no day any more.
        let mut any = false;
        let read = dir.read(Some(&other), &mut |_| any = true);
        if any || read.is_err() {
            return Ok(Vec::new());
        }
    }
    Ok(found)
}
