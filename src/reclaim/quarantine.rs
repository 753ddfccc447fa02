//! Files in quarantine: where they are, their deletion once their time is over, and the way back.
//!
//! A file is set aside by a batch like any other, and left there; the outcome on record is what makes it known. From then on it is
//! looked for where it was set aside, never by its name: that may be another file's by now, which is nobody's business here.
//!
//! Steps of a restore:
//! 1. Renamed to its name, never over another file; missing directories are made again.
//! 2. Its origin attribute is removed; the private folder, and the directories up to the top, are synced.
//! 3. A note is on record. A crash before that leaves a file that stands under its name and is in quarantine by the journal: whoever
//!    meets it next, settling at the latest, goes on with step 2.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::batch::Engine;
use super::handle::{TreeHandle, Trees};
use crate::domain::deletion::{Attempt, RuleKind, Seq, Target};
use crate::domain::event::Event;
use crate::domain::history::{History, Quarantined};
use crate::domain::journal::{Entry, GUARD};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::retention::Mode;
use crate::store::JournalError;
use crate::system::door::{DoorRules, ORIGIN_ATTRIBUTE, failed, finish, ready_aside};
use crate::system::{Aside, WritableDir};

/// What the journal says of a file that was found there.
const FOUND: &str = "it stood under its name again: a restore that was cut off, or somebody put it back by hand";
/// What the journal says of a file that was found nowhere.
const LOST: &str = "it was neither set aside nor under its name any more, and nothing on record says who removed it";
/// Why a file that is found nowhere is not put back.
const UNSURE: &str = "it is not set aside any more: its deletion, which failed, may have been done, and the next attempt at it will tell";

/// Whether a file in quarantine was put back; if not, a sentence that says why.
pub type WayBack = Result<(), String>;

/// What can become of files in quarantine, by the numbers of the intents that set them aside.
#[derive(Debug, Default)]
pub struct Expiries {
    /// Their deletion can be tried.
    pub ready: Vec<(Seq, Target)>,
    /// They stay, and why.
    pub kept: Vec<(Seq, Target, Attempt)>,
}

/// Where a file in quarantine stands.
pub(super) enum Standing {
    /// Where it was set aside.
    Aside(Aside),
    /// There, and under its name too: a kernel that cannot rename without replacing was cut off in between.
    Both(Aside),
    /// Under its name only.
    Returned,
    /// Nowhere.
    Gone,
}

/// The places that a file can have been set aside in by the intent with that number.
pub(super) fn places(dir: &dyn WritableDir, seq: Seq, path: &RelPath) -> [Aside; 2] {
    [Aside::Private(seq.0), dir.beside(path, seq.0)]
}

/// Where the file of a target is set aside under a number, if it is.
pub(super) fn find(dir: &dyn WritableDir, seq: Seq, target: &Target) -> io::Result<Option<(Aside, FileIdentity)>> {
    for aside in places(dir, seq, &target.path) {
        if let Some(now) = dir.look_aside(&aside)?.filter(|now| now.inode == target.inode) {
            return Ok(Some((aside, now)));
        }
    }
    Ok(None)
}

/// Where a file in quarantine stands now.
pub(super) fn stands(dir: &dyn WritableDir, seq: Seq, target: &Target) -> io::Result<Standing> {
    let named = |dir: &dyn WritableDir| {
        Ok::<_, io::Error>(dir.look(&target.path)?.is_some_and(|now| now.inode == target.inode))
    };
    Ok(match find(dir, seq, target)? {
        Some((aside, now)) if now.links > 1 && named(dir)? => Standing::Both(aside),
        Some((aside, _)) => Standing::Aside(aside),
        None if named(dir)? => Standing::Returned,
        None => Standing::Gone,
    })
}

/// Why a deletion was not made: somebody was faster with the way back.
pub(super) fn returned() -> Attempt {
    Attempt::Kept { why: "it is not set aside any more, and stands under its name again".to_owned() }
}

/// Deletes a file in quarantine where it is set aside.
pub(super) fn delete(dir: &dyn WritableDir, seq: Seq, target: &Target, rules: DoorRules) -> Attempt {
    match stands(dir, seq, target) {
        Ok(Standing::Aside(aside) | Standing::Both(aside)) => finish(dir, &aside, target, rules),
        Ok(Standing::Returned) => returned(),
        Ok(Standing::Gone) => Attempt::AlreadyGone,
        Err(error) => failed(&error),
    }
}

/// Whether a file in quarantine could be deleted now. `Err` says why not.
pub(super) fn ready(tree: &TreeHandle, seq: Seq, target: &Target) -> Result<(), Attempt> {
    if let Some(why) = tree.spares(&target.path) {
        return Err(Attempt::Kept { why: why.to_owned() });
    }
    match find(tree.dir.as_ref(), seq, target) {
        Ok(Some((aside, _))) => ready_aside(tree.dir.as_ref(), &aside, target, tree.rules(target)),
        Ok(None) => Err(Attempt::AlreadyGone),
        Err(error) => Err(failed(&error)),
    }
}

/// Whether a file in quarantine is gone; `Err` is what is the case instead.
pub(super) fn look_for(dir: &dyn WritableDir, seq: Seq, target: &Target) -> Result<(), Attempt> {
    match stands(dir, seq, target) {
        Ok(Standing::Gone) => Ok(()),
        Ok(Standing::Returned) => Err(returned()),
        Ok(Standing::Aside(_) | Standing::Both(_)) => {
            Err(failed(&io::Error::other("the system said that it is gone, and it is still there")))
        }
        Err(error) => Err(failed(&error)),
    }
}

impl Engine {
    /// Of these files in quarantine, by the numbers of the intents that set them aside: those whose deletion can be tried now, and those
    /// that stay there, with why. Numbers of which none is in quarantine any more, or whose last deletion is not settled yet, are passed
    /// over. What today's rules spare, or what is no longer as it was, stays, at the cost of no journal entry; what is locked or open is
    /// tried, and is a failure from then on.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn expiries(&self, trees: &Trees, which: &[Seq]) -> Result<Expiries, JournalError> {
        let which: BTreeSet<Seq> = which.iter().copied().collect();
        self.account_for(trees, &|seq| which.contains(&seq))?;
        let mut out = Expiries::default();
        for (seq, Quarantined { target, since }) in self.settled_quarantine(&|seq| which.contains(&seq)) {
            let Some(tree) = trees.get(&target.tree) else { continue };
            let target = Target {
                rule: RuleKind::Orphan,
                trigger: RuleKind::Orphan.trigger(),
                reason: format!("in quarantine since {since}"),
                ..target
            };
            match ready(tree, seq, &target) {
                Err(attempt @ Attempt::Kept { .. }) => out.kept.push((seq, target, attempt)),
                Ok(()) | Err(_) => out.ready.push((seq, target)),
            }
        }
        Ok(out)
    }

    /// Puts files in quarantine back under their names, by the numbers of the intents that set them aside. Never over another file: what
    /// cannot go back stays in quarantine, with a sentence that says why.
    ///
    /// # Errors
    /// If the journal cannot be written: what was put back is put on record by the next settling.
    pub fn restore(&self, trees: &Trees, which: &[Seq], who: &str) -> Result<Vec<(Seq, WayBack)>, JournalError> {
        let wanted: BTreeSet<Seq> = which.iter().copied().collect();
        let known: BTreeMap<Seq, Quarantined> =
            self.settled_quarantine(&|seq| wanted.contains(&seq)).into_iter().collect();
        let (mut out, mut notes, mut back) = (Vec::new(), Vec::new(), BTreeMap::<&TreeId, u64>::new());
        for seq in which {
            let done = known
                .get(seq)
                .ok_or_else(|| format!("nothing is in quarantine as number {}, or it is being deleted", seq.0));
            let done = done.and_then(|one| {
                let tree = trees.get(&one.target.tree);
                let tree = tree.ok_or_else(|| format!("tree `{}` cannot be worked on now", one.target.tree))?;
                put_back(tree, *seq, &one.target).map(|standing| (one, standing))
            });
            out.push((
                *seq,
                match done {
                    Ok((one, Restored::Back)) => {
                        notes.push(Entry::restored(*seq, &one.target, who, None));
                        *back.entry(&one.target.tree).or_default() += 1;
                        Ok(())
                    }
                    Ok((_, Restored::Lost)) if self.is_failing(*seq) => Err(UNSURE.to_owned()),
                    Ok((one, Restored::Lost)) => {
                        notes.push(Entry::restored(*seq, &one.target, who, Some(LOST)));
                        Err(LOST.to_owned())
                    }
                    Err(why) => Err(why),
                },
            ));
        }
        self.journal.append_synced(notes, self.clock.now())?;
        for (name, count) in back {
            let text = format!("tree `{name}`: {count} files were put back from quarantine, by {who}");
            (self.events)(Event::Remark { text, urgent: false });
        }
        Ok(out)
    }

    /// Puts on record which files in quarantine are not set aside any more, and finishes what a crash left of a restore. Returns what
    /// that could not be done for, and why.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn account_for(
        &self,
        trees: &Trees,
        wanted: &dyn Fn(Seq) -> bool,
    ) -> Result<Vec<(TreeId, Seq, io::Error)>, JournalError> {
        let (mut left, mut notes) = (Vec::new(), Vec::new());
        for (seq, one) in self.settled_quarantine(wanted) {
            // In a tree that is only observed it waits until the tree is enforced.
            let Some(tree) = trees.get(&one.target.tree).filter(|tree| tree.policy.mode == Mode::Enforce) else {
                continue;
            };
            let found = stands(tree.dir.as_ref(), seq, &one.target).and_then(|standing| {
                let how = match standing {
                    Standing::Aside(_) => return Ok(None),
                    Standing::Both(aside) => {
                        tree.dir.put_back(&aside, &one.target.path)?;
                        FOUND
                    }
                    Standing::Returned => FOUND,
                    // A failed deletion may have been done all the same; its next attempt says so.
                    Standing::Gone if self.is_failing(seq) => return Ok(None),
                    Standing::Gone => return Ok(Some(LOST)),
                };
                complete(tree, &one.target)?;
                Ok(Some(how))
            });
            match found {
                Ok(None) => {}
                Ok(Some(how)) => notes.push((seq, one.target, how)),
                Err(error) => left.push((one.target.tree, seq, error)),
            }
        }
        let entries = notes.iter().map(|(seq, target, how)| Entry::restored(*seq, target, GUARD, Some(how)));
        self.journal.append_synced(entries.collect(), self.clock.now())?;
        for (_, target, how) in notes {
            let text = format!("tree `{}`: `{}` is in quarantine no more: {how}", target.tree, target.path);
            (self.events)(Event::Remark { text, urgent: false });
        }
        Ok(left)
    }

    /// Its deletion failed, and is tried again.
    fn is_failing(&self, seq: Seq) -> bool {
        self.journal.with_history(|history| history.failures.contains_key(&seq.0))
    }

    /// Those in quarantine whose deletion is not open: what became of that is settled first.
    fn settled_quarantine(&self, wanted: &dyn Fn(Seq) -> bool) -> Vec<(Seq, Quarantined)> {
        self.journal.with_history(|history| {
            let open = History::unsettled_retries(history);
            let known = history.quarantined.iter().filter(|(seq, _)| wanted(**seq) && !open.contains(seq));
            known.map(|(seq, one)| (*seq, one.clone())).collect()
        })
    }
}

/// How the way back ended.
enum Restored {
    Back,
    Lost,
}

/// Steps 1 and 2.
fn put_back(tree: &TreeHandle, seq: Seq, target: &Target) -> Result<Restored, String> {
    if tree.policy.mode != Mode::Enforce {
        return Err(format!("tree `{}` is only observed; nothing in it is changed", target.tree));
    }
    let path = &target.path;
    let dir = tree.dir.as_ref();
    let unsaid = |error: io::Error| format!("`{path}` cannot be looked for: {error}");
    let moved = match stands(dir, seq, target).map_err(unsaid)? {
        Standing::Aside(aside) | Standing::Both(aside) => dir.put_back(&aside, path),
        Standing::Returned => Ok(()),
        Standing::Gone => return Ok(Restored::Lost),
    };
    // An answer is no proof, neither of one nor of the other.
    match (stands(dir, seq, target).map_err(unsaid)?, moved) {
        (Standing::Returned, _) => {}
        (Standing::Gone, _) => return Ok(Restored::Lost),
        (Standing::Aside(_) | Standing::Both(_), Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(format!(
                "another file bears the name `{path}` by now, and is not replaced; move it away, then restore again"
            ));
        }
        (Standing::Aside(_) | Standing::Both(_), Err(error)) => {
            return Err(format!("`{path}` cannot be put back: {error}; it stays in quarantine"));
        }
        (Standing::Aside(_) | Standing::Both(_), Ok(())) => {
            return Err(format!("the system said that `{path}` was put back, and it is still set aside"));
        }
    }
    complete(tree, target).map_err(|error| {
        format!("`{path}` stands under its name again, but that cannot be made durable: {error}; restore it again")
    })?;
    Ok(Restored::Back)
}

/// Step 2: what stands under its name again is an ordinary file, durably.
fn complete(tree: &TreeHandle, target: &Target) -> io::Result<()> {
    // Without it gone the file is no less back; the next time that it is set aside it gets another.
    if let Ok(Some(file)) = tree.dir.open(&target.path) {
        let _ = file.remove_attribute(ORIGIN_ATTRIBUTE);
    }
    tree.dir.sync_aside()?;
    // Directories that were made again are new names in those above them.
    let mut next = target.path.split().0;
    while let Some(dir) = next {
        tree.dir.sync_dir(Some(&dir))?;
        next = dir.split().0;
    }
    tree.dir.sync_dir(None)
}
