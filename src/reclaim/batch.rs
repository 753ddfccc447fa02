//! One batch.
//!
//! 1. The intents are on record, with one sync.
//! 2. Each target goes through the door: opened beneath, compared, leased, set aside, compared again, unlinked; or left set aside, if
//!    that is all that is intended (quarantine); or, if it is in quarantine already, finished where it is.
//! 3. What was not deleted stands where it stood, or goes back there; the directories that were touched, and the private folders, are
//!    synced.
//! 4. Each name is looked for; only what is not found counts as deleted (promise 4).
//! 5. Directories that became empty are removed.
//! 6. The outcomes are on record, with one sync.
//!
//! A crash between 1 and 6 leaves intents without an outcome, which `settle` takes up. So do a failure after which nobody knows where
//! the file stands, and an answer that is lost with the process that works the tree: an outcome on record would make it forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::brake::Brake;
use super::handle::{TreeHandle, Trees};
use super::unit::{self, Unit};
use super::{proof, prune, quarantine};
use crate::domain::backoff;
use crate::domain::deletion::{Attempt, Cause, Failure, NO_COPY, NOT_BEGUN, REFUSED, RuleKind, Seq, Target, UNSETTLED};
use crate::domain::event::Event;
use crate::domain::history::History;
use crate::domain::journal::{Entry, GUARD, Intent, NoteKind};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::settings::Cleanup;
use crate::domain::units::Bytes;
use crate::store::{Journal, JournalError};
use crate::system::door::{self, Checked, DoorRules, classify, ready, unlink, verify};
use crate::system::{Aside, BESIDE, Clock, Holders, WritableDir};

/// Whether to begin nothing more.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// What became of one intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Its number.
    pub seq: Seq,
    /// The intent.
    pub intent: Intent,
    /// What became of it.
    pub attempt: Attempt,
}

impl Settled {
    /// The number that its failure bears, if it failed and is tried again.
    #[must_use]
    pub fn failure(&self) -> u64 {
        self.intent.retry_of.unwrap_or(self.seq).0
    }

    /// What everybody else is told of it; `again` says that it had failed before.
    pub(super) fn event(&self, again: bool) -> Event {
        Event::Settled { target: self.intent.target.clone(), attempt: self.attempt.clone(), again }
    }
}

/// All that a deletion needs besides its target.
pub struct Engine {
    /// Where intents and outcomes go.
    pub journal: Arc<Journal>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who has files open.
    pub holders: Arc<dyn Holders>,
    /// Where events go.
    pub events: Arc<dyn Fn(Event) + Send + Sync>,
    /// Pace and retries.
    pub cleanup: Cleanup,
    /// Holds batches back after a restart storm.
    pub brake: Arc<Brake>,
}

impl Engine {
    /// Carries out one batch. What `stop` keeps from beginning is kept, and says so.
    ///
    /// # Errors
    /// If intents or outcomes cannot be put on record. In the first case nothing was touched; in the second, settling takes up
    /// what was. What a lost process left open is not among what is returned: it is settled later.
    pub fn batch(&self, trees: &Trees, intents: Vec<Intent>, stop: Stop<'_>) -> Result<Vec<Settled>, JournalError> {
        self.brake.began(self.clock.as_ref());
        let unsettled = self.unsettled(trees, &intents)?;
        let entries = intents.iter().cloned().map(Entry::Intent).collect();
        let seqs = self.journal.append_synced(entries, self.clock.now())?;
        let pace = match self.cleanup.max_files_per_second {
            0 => Duration::ZERO,
            n => Duration::from_secs(1) / n,
        };
        let mut settled: Vec<Settled> = Vec::with_capacity(intents.len());
        let whole = breaks(trees);
        let (expiring, failed_before) = self.journal.with_history(|history| {
            let retried = intents.iter().filter_map(|intent| intent.retry_of).map(|seq| seq.0);
            let failed: BTreeSet<u64> = retried.filter(|id| history.failures.contains_key(id)).collect();
            (Expiring::among(history, intents.iter().filter_map(|intent| intent.retry_of)), failed)
        });
        // A directory that refuses two deletions refuses all: two failures stand for it. One may be the file's own.
        let mut refusing: BTreeMap<(TreeId, Option<RelPath>), usize> = BTreeMap::new();
        self.journal.with_history(|history| {
            // What is in quarantine says nothing about the directory that it came from.
            let there = history.failures.values().filter(|one| !history.quarantined.contains_key(&Seq(one.id)));
            for failure in there.filter(|failure| failure.cause.is_shared(&failure.error)) {
                *refusing.entry((failure.target.tree.clone(), failure.target.path.split().0)).or_default() += 1;
            }
        });
        for (intent, seq) in intents.into_iter().zip(seqs) {
            let attempt = match trees.get(&intent.target.tree) {
                _ if stop() => kept(NOT_BEGUN),
                None => kept("its tree is not guarded any more"),
                Some(tree) if broken(&whole, &intent.target.tree, tree) => kept(NOT_BEGUN),
                // What somebody asked for is not chosen again by itself: each has a failure of its own, which is tried again.
                Some(_)
                    if intent.retry_of.is_none()
                        && intent.target.rule != RuleKind::Requested
                        && refusing.get(&place(&intent)).is_some_and(|count| *count >= 2) =>
                {
                    kept(REFUSED)
                }
                Some(_) if unsettled.contains(&identity(&intent.target)) => kept(UNSETTLED),
                // What is set aside and stays there must be known after a crash too; and what is known, must be known as deleted.
                Some(_) if (sets_aside(&intent) || expiring.of(&intent).is_some()) && self.journal.owes() => {
                    kept(NOT_BEGUN)
                }
                // Its files have intents of their own: one for the whole says why it is kept.
                Some(tree) if is_unit(tree, &intent.target) && intent.retry_of.is_none() => {
                    unit::refused(self.begin_unit(tree, &intent.target, stop))
                }
                Some(tree) => {
                    if !pace.is_zero() {
                        self.clock.sleep(pace);
                    }
                    let rules = DoorRules { name_is_record: self.journal.owes(), ..tree.rules(&intent.target) };
                    carry_out(tree, &intent, seq, rules, expiring.of(&intent))
                }
            };
            if matches!(&attempt, Attempt::Failed { cause, error, .. } if cause.is_shared(error)) {
                *refusing.entry(place(&intent)).or_default() += usize::from(intent.retry_of.is_none());
            }
            settled.push(Settled { seq, intent, attempt });
        }
        let mut unsure = return_set_aside(trees, &mut settled, &expiring);
        self.sync(trees, &mut settled, &mut unsure, &expiring);
        proof::look_aside(trees, &mut settled, &mut unsure, &expiring);
        proof::look(trees, &mut settled, &expiring);
        self.name_holders(trees, &mut settled, &expiring);
        let pruned = self.prune(trees, &settled);
        self.leave_open(trees, &whole, &mut settled);
        let known = settled.iter().filter(|one| !unsure.contains(&one.seq));
        let outcomes = known.map(|s| Entry::Outcome { intent: s.seq, attempt: s.attempt.clone() });
        self.journal.append_synced(outcomes.chain(pruned).collect(), self.clock.now())?;
        self.journal.with_history_mut(|history| self.plan_retries(history, &settled));
        for one in &settled {
            (self.events)(one.event(failed_before.contains(&one.failure())));
        }
        Ok(settled)
    }

    /// Tries failed deletions again. One that the door would refuse for the same reason as before costs no entry in the journal:
    /// nothing was intended yet.
    ///
    /// # Errors
    /// As [`Engine::batch`].
    pub fn retry(
        &self,
        trees: &Trees,
        failures: Vec<Failure>,
        (run, who): (u64, &str),
        stop: Stop<'_>,
    ) -> Result<Vec<Settled>, JournalError> {
        if self.brake.due(self.clock.as_ref()).is_some() {
            return Ok(Vec::new());
        }
        let intent = |failure: Failure| Intent {
            retry_of: Some(Seq(failure.id)),
            target: failure.target,
            who: who.to_owned(),
            job: None,
            run,
        };
        let (unhindered, unknown) = self.examine(trees, failures);
        let intents: Vec<_> = unhindered.into_iter().chain(unknown).map(intent).collect();
        if intents.is_empty() {
            return Ok(Vec::new());
        }
        self.batch(trees, intents, stop)
    }

    /// Those that lie where they lay and that the door would not refuse for what it sees, and those of which that cannot be said. The
    /// others, which it would refuse again, have had one more attempt, and wait.
    pub fn examine(&self, trees: &Trees, failures: Vec<Failure>) -> (Vec<Failure>, Vec<Failure>) {
        let (mut unhindered, mut unknown, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        // Where the last attempt is not settled, nobody knows what there is to try.
        let (open, expiring) = self.journal.with_history(|history| {
            let set_aside = failures.iter().map(|failure| Seq(failure.id));
            (history.unsettled_retries(), Expiring::among(history, set_aside))
        });
        for failure in failures.into_iter().filter(|failure| !open.contains(&Seq(failure.id))) {
            let tree = trees.get(&failure.target.tree);
            let asked = tree.map(|tree| match expiring.0.get(&Seq(failure.id)) {
                Some(seq) => quarantine::ready(tree, *seq, &failure.target),
                None => ready(tree.dir.as_ref(), &failure.target, tree.rules(&failure.target)),
            });
            match asked {
                Some(Err(attempt @ Attempt::Failed { .. })) => {
                    let (seq, target) = (Seq(failure.id), failure.target);
                    let intent = Intent { target, who: GUARD.to_owned(), job: None, run: 0, retry_of: Some(seq) };
                    refused.push(Settled { seq, intent, attempt });
                }
                Some(Ok(())) => unhindered.push(failure),
                Some(Err(_)) | None => unknown.push(failure),
            }
        }
        self.name_holders(trees, &mut refused, &expiring);
        self.journal.with_history_mut(|history| {
            for one in &refused {
                if let (Some(failure), Attempt::Failed { cause, error, holder }) =
                    (history.failures.get_mut(&one.seq.0), &one.attempt)
                {
                    failure.attempts = failure.attempts.saturating_add(1);
                    (failure.cause, failure.error, failure.holder) = (*cause, error.clone(), holder.clone());
                }
            }
            self.plan_retries(history, &refused);
        });
        for one in refused {
            (self.events)(one.event(true));
        }
        (unhindered, unknown)
    }

    /// Which of these files something was begun with that goes first. A file that is to be set aside while its deletion is tried again
    /// would be taken for gone by that. One that is in quarantine by the journal, and stands under its name, was put back: first that
    /// is on record.
    fn unsettled(&self, trees: &Trees, intents: &[Intent]) -> Result<BTreeSet<Identity>, JournalError> {
        let (mut out, by_name) = self.journal.with_history(|history| {
            let expiring = Expiring::among(history, intents.iter().filter_map(|intent| intent.retry_of));
            let by_name: BTreeSet<Identity> = intents
                .iter()
                .filter(|intent| expiring.of(intent).is_none())
                .map(|intent| identity(&intent.target))
                .collect();
            let to_set_aside: BTreeSet<Identity> =
                intents.iter().filter(|intent| sets_aside(intent)).map(|intent| identity(&intent.target)).collect();
            let failing = history.failures.values().map(|failure| &failure.target);
            let begun = failing.chain(history.open.values().map(|open| &open.intent.target));
            let begun = begun.map(identity).filter(|file| to_set_aside.contains(file));
            (begun.collect::<BTreeSet<Identity>>(), by_name)
        });
        let quarantined = |history: &History| -> BTreeMap<Seq, Identity> {
            let known = history.quarantined.iter().map(|(seq, one)| (*seq, identity(&one.target)));
            known.filter(|(_, file)| by_name.contains(file)).collect()
        };
        let before = self.journal.with_history(quarantined);
        if !before.is_empty() {
            self.account_for(trees, &|seq| before.contains_key(&seq))?;
            out.extend(self.journal.with_history(quarantined).into_values());
        }
        Ok(out)
    }

    /// Looks at a unit whole, before anything of it goes.
    ///
    /// # Errors
    /// Why it is kept.
    pub(super) fn begin_unit(&self, tree: &TreeHandle, target: &Target, stop: Stop<'_>) -> Result<Unit, Attempt> {
        Unit::begin(tree, target, &self.journal, self.clock.now(), stop)
    }

    /// Leaves the intents open of which nobody knows what became of them.
    fn leave_open(&self, trees: &Trees, whole: &Breaks, settled: &mut Vec<Settled>) {
        for (name, tree) in trees.iter().filter(|(name, tree)| broken(whole, name, tree)) {
            let before = settled.len();
            settled.retain(|one| one.intent.target.tree != *name || one.attempt == kept(NOT_BEGUN));
            let open = before - settled.len();
            let path = tree.dir.path().display();
            let text = format!(
                "tree `{name}`: the process that works `{path}` was lost in the middle of a batch; what became of {open} deletions is \
                 looked for once it answers again"
            );
            (self.events)(Event::Remark { text, urgent: false });
        }
    }

    /// Step 3. What cannot be made durable is not done (fault 59), also where an earlier attempt did it. What may have been put
    /// back, and is not durably there, is unsure.
    fn sync(&self, trees: &Trees, settled: &mut [Settled], unsure: &mut BTreeSet<Seq>, expiring: &Expiring) {
        let mut touched: BTreeMap<TreeId, BTreeSet<Option<RelPath>>> = BTreeMap::new();
        for one in settled.iter().filter(|one| begun(one)) {
            let parent = one.intent.target.path.split().0;
            touched.entry(one.intent.target.tree.clone()).or_default().insert(parent);
        }
        for (name, dirs) in touched {
            let Some(tree) = trees.get(&name) else { continue };
            let aside = tree.dir.sync_aside();
            for dir in dirs {
                let synced = match &aside {
                    Ok(()) => tree.dir.sync_dir(dir.as_ref()).map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                let Err(error) = synced else { continue };
                let there =
                    |one: &&mut Settled| one.intent.target.tree == name && one.intent.target.path.split().0 == dir;
                for one in settled.iter_mut().filter(there).filter(|one| begun(one)) {
                    let unsynced = || {
                        let error = format!("its directory cannot be synced: {error}");
                        Attempt::Failed { cause: Cause::Io, error, holder: None }
                    };
                    match &one.attempt {
                        Attempt::Verified { .. } | Attempt::AlreadyGone => one.attempt = unsynced(),
                        Attempt::Kept { .. } if set_aside(one) => {
                            one.attempt = unsynced();
                            unsure.insert(one.seq);
                        }
                        // It was not moved.
                        Attempt::Kept { .. } | Attempt::Failed { .. } if expiring.of(&one.intent).is_some() => {}
                        Attempt::Kept { .. } | Attempt::Failed { .. } => drop(unsure.insert(one.seq)),
                    }
                }
            }
        }
    }

    /// Says who holds what could not be deleted because it is open: one sweep for all.
    fn name_holders(&self, trees: &Trees, settled: &mut [Settled], expiring: &Expiring) {
        let in_use = |attempt: &Attempt| matches!(attempt, Attempt::Failed { cause: Cause::InUse, .. });
        let inodes: Vec<u64> = settled.iter().filter(|s| in_use(&s.attempt)).map(|s| s.intent.target.inode).collect();
        if inodes.is_empty() {
            return;
        }
        let open = self.holders.find(&inodes);
        for one in settled.iter_mut().filter(|s| in_use(&s.attempt)) {
            let target = &one.intent.target;
            let device = trees.get(&target.tree).and_then(|tree| seen(tree, &one.intent, expiring));
            let found = open.iter().find(|file| {
                file.inode == target.inode && device.is_none_or(|identity| identity.device == file.device)
            });
            if let Attempt::Failed { holder, .. } = &mut one.attempt {
                *holder = found.map(|file| file.holder.clone());
            }
        }
    }

    /// Step 5.
    fn prune(&self, trees: &Trees, settled: &[Settled]) -> Vec<Entry> {
        let mut out = Vec::new();
        let mut dirs: BTreeSet<(TreeId, RelPath)> = BTreeSet::new();
        for one in settled.iter().filter(|s| matches!(s.attempt, Attempt::Verified { .. })) {
            if let (Some(dir), _) = one.intent.target.path.split() {
                dirs.insert((one.intent.target.tree.clone(), dir));
            }
        }
        for (name, dir) in dirs {
            let Some(tree) = trees.get(&name) else { continue };
            for gone in prune::empty_directories(tree, &dir, self.clock.now()) {
                let (text, _) = gone.show();
                (self.events)(Event::Pruned { tree: name.clone(), path: gone });
                out.push(Entry::Note {
                    kind: NoteKind::Pruned,
                    volume: None,
                    tree: Some(name.clone()),
                    who: GUARD.to_owned(),
                    bytes: Bytes::ZERO,
                    number: 0,
                    text,
                });
            }
        }
        out
    }

    /// When each failure is tried again, and who holds what.
    fn plan_retries(&self, history: &mut History, settled: &[Settled]) {
        let now = self.clock.now();
        for one in settled {
            if let Some(failure) = history.failures.get_mut(&one.failure()) {
                let jitter = fastrand::u32(0..=1000);
                let pause = backoff::pause(&self.cleanup.retry, failure.attempts, now.since(failure.since), jitter);
                failure.next_attempt = now.plus(pause);
            }
        }
    }
}

/// How often each tree's process was lost.
pub(super) type Breaks = BTreeMap<TreeId, u64>;

pub(super) fn breaks(trees: &Trees) -> Breaks {
    trees.iter().map(|(name, tree)| (name.clone(), tree.dir.breaks())).collect()
}

/// The process that works a tree was lost since then.
pub(super) fn broken(since: &Breaks, name: &TreeId, tree: &TreeHandle) -> bool {
    since.get(name).is_some_and(|count| *count != tree.dir.breaks())
}

/// Which numbers of a batch's intents speak of files in quarantine, which are looked for where they are set aside.
pub(super) struct Expiring(BTreeSet<Seq>);

impl Expiring {
    fn among(history: &History, retried: impl Iterator<Item = Seq>) -> Self {
        Self(retried.filter(|seq| history.quarantined.contains_key(seq)).collect())
    }

    /// The number that the file of an intent is set aside under, if it is in quarantine.
    pub(super) fn of(&self, intent: &Intent) -> Option<Seq> {
        intent.retry_of.filter(|seq| self.0.contains(seq))
    }
}

/// Tree, inode and fingerprint.
type Identity = (TreeId, u64, u64);

/// A file, wherever it lies.
fn identity(target: &Target) -> Identity {
    (target.tree.clone(), target.inode, target.fingerprint)
}

/// It is a directory that goes as one.
pub(super) fn is_unit(tree: &TreeHandle, target: &Target) -> bool {
    tree.policy.layout.is_unit(&target.path)
}

/// It is to be set aside, and no more.
fn sets_aside(intent: &Intent) -> bool {
    intent.target.rule == RuleKind::Quarantine
}

/// It was, and is to stay there.
pub(super) fn set_aside(one: &Settled) -> bool {
    sets_aside(&one.intent) && one.attempt.is_quarantined()
}

/// The file of an intent as it is seen now, wherever it is looked for.
fn seen(tree: &TreeHandle, intent: &Intent, expiring: &Expiring) -> Option<FileIdentity> {
    let found = match expiring.of(intent) {
        Some(seq) => quarantine::find(tree.dir.as_ref(), seq, &intent.target).map(|found| found.map(|(_, now)| now)),
        None => tree.dir.look(&intent.target.path),
    };
    found.ok().flatten()
}

/// The door was opened for it, so that it may have been set aside.
pub(super) fn begun(one: &Settled) -> bool {
    matches!(one.attempt, Attempt::Failed { .. }) || one.attempt.is_final()
}

/// Puts back what was not deleted: an error may have come after the rename, or have kept the file from going back. Returns what cannot
/// be put back now, or where nobody can tell.
fn return_set_aside(trees: &Trees, settled: &mut [Settled], expiring: &Expiring) -> BTreeSet<Seq> {
    let mut unsure = BTreeSet::new();
    let kept = settled.iter_mut().filter(|one| begun(one) && !matches!(one.attempt, Attempt::Verified { .. }));
    for one in kept.filter(|one| !set_aside(one) && expiring.of(&one.intent).is_none()) {
        let Some(tree) = trees.get(&one.intent.target.tree) else { continue };
        match bring_back(tree.dir.as_ref(), &one.intent.target, one.seq) {
            Ok(()) => {}
            // It is known where it is: that is a failure like another, and the next attempt begins with putting it back.
            Err(Astray::SetAside(error)) => {
                one.attempt = stranded(&error);
                // There is no next attempt at a quarantine: settling tries.
                if sets_aside(&one.intent) {
                    unsure.insert(one.seq);
                }
            }
            Err(Astray::Unknown) => {
                unsure.insert(one.seq);
                if !matches!(one.attempt, Attempt::Failed { .. }) {
                    let error = "it may be set aside; that is settled once it can be looked for".to_owned();
                    one.attempt = Attempt::Failed { cause: Cause::Unknown, error, holder: None };
                }
            }
        }
    }
    unsure
}

/// A file that is not where it was.
enum Astray {
    /// It is set aside, and does not go back.
    SetAside(io::Error),
    /// Nobody can tell.
    Unknown,
}

/// Puts a file back if it is still set aside.
fn bring_back(dir: &dyn WritableDir, target: &Target, seq: Seq) -> Result<(), Astray> {
    if dir.look(&target.path).is_ok_and(|found| found.is_some_and(|now| now.inode == target.inode)) {
        return Ok(());
    }
    for aside in quarantine::places(dir, seq, &target.path) {
        match dir.look_aside(&aside) {
            Ok(None) => {}
            Ok(Some(_)) => return dir.put_back(&aside, &target.path).map_err(Astray::SetAside),
            Err(_) => return Err(Astray::Unknown),
        }
    }
    Ok(())
}

/// The directory of a target.
fn place(intent: &Intent) -> (TreeId, Option<RelPath>) {
    (intent.target.tree.clone(), intent.target.path.split().0)
}

fn kept(why: &str) -> Attempt {
    Attempt::Kept { why: why.to_owned() }
}

fn stranded(error: &io::Error) -> Attempt {
    let text = format!("it is set aside, and cannot be put back: {error}");
    Attempt::Failed { cause: classify(error), error: text, holder: None }
}

/// Step 2.
fn carry_out(tree: &TreeHandle, intent: &Intent, seq: Seq, rules: DoorRules, expiring: Option<Seq>) -> Attempt {
    if let Some(why) = tree.spares(&intent.target.path) {
        return kept(why);
    }
    if let Err(why) = (tree.proven)(&intent.target) {
        return kept(&format!("{NO_COPY}{why}"));
    }
    if let Some(of) = expiring {
        return quarantine::delete(tree.dir.as_ref(), of, &intent.target, rules);
    }
    if intent.retry_of.is_some()
        && let Err(error) = put_back(tree.dir.as_ref(), &intent.target)
    {
        return stranded(&error);
    }
    match verify(tree.dir.as_ref(), &intent.target, seq.0, rules) {
        Checked::Ready(verified) if sets_aside(intent) => door::quarantine(verified),
        Checked::Ready(verified) => unlink(verified),
        Checked::Done(attempt) => attempt,
    }
}

/// An earlier attempt may have set the file aside, and failed both to delete it and to put it back: it goes back before the next,
/// which would else take it for gone.
fn put_back(dir: &dyn WritableDir, target: &Target) -> io::Result<()> {
    if dir.look(&target.path)?.is_some_and(|now| now.inode == target.inode) {
        return Ok(());
    }
    let mut asides = dir.list_aside()?;
    let (parent, _) = target.path.split();
    let beside = dir.read(parent.as_ref(), &mut |entry| {
        if entry.name.starts_with(BESIDE) {
            let path = parent.as_ref().map_or_else(|| RelPath::new(&entry.name), |dir| Ok(dir.join(&entry.name)));
            asides.extend(path.ok().map(Aside::Beside));
        }
    });
    match beside {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    for aside in asides {
        let same = dir
            .look_aside(&aside)?
            .is_some_and(|now| (now.inode, now.fingerprint()) == (target.inode, target.fingerprint));
        if same {
            return dir.put_back(&aside, &target.path);
        }
    }
    Ok(())
}
