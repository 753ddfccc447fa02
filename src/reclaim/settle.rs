//! Settles, at start, what a crash left open.
//!
//! For each intent without an outcome:
//! - its file is set aside: if today's policy still lets it go, it goes; else it is put back;
//! - its file stands where it was: it was not begun, and is kept;
//! - neither: it is gone, and verified.
//!
//! An intent to set a file aside is the same, but what is set aside stays there, in quarantine, and what is gone was gone before. An intent
//! to delete what is in quarantine is looked for where that is, and what may not go stays there. What is in quarantine by the journal and not
//! on disk is put on record: restored, if it stands under its name again, or lost. It is never put back as something unknown.
//!
//! In a tree that is only observed nothing is touched: what was set aside is reported, and settled once the tree is enforced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use super::batch::{Engine, Settled, is_unit};
use super::handle::{TreeHandle, Trees};
use super::quarantine::{Standing, find, places, returned, stands};
use crate::domain::deletion::{Attempt, NOT_BEGUN, RuleKind, Seq, Target};
use crate::domain::journal::{Entry, NoteKind, OpenIntent};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::retention::Mode;
use crate::domain::units::{Bytes, Timestamp};
use crate::store::JournalError;
use crate::system::door::{ORIGIN_ATTRIBUTE, finish, ready_aside};
use crate::system::{Aside, BESIDE, list_unit};

/// What settling found.
#[derive(Debug, Default)]
pub struct SettleReport {
    /// Intents that have their outcome now.
    pub settled: Vec<Settled>,
    /// What could not be settled, in words.
    pub left: Vec<String>,
    /// Trees whose process was lost meanwhile: they must be settled again.
    pub lost: BTreeSet<TreeId>,
}

/// Settles everything that concerns these trees.
///
/// # Errors
/// If the outcomes cannot be put on record.
pub fn settle(engine: &Engine, trees: &Trees) -> Result<SettleReport, JournalError> {
    let mut report = SettleReport::default();
    let open: Vec<(OpenIntent, Option<Seq>)> = engine.journal.with_history(|history| {
        let quarantined = |open: &OpenIntent| open.intent.retry_of.filter(|of| history.quarantined.contains_key(of));
        history.open.values().map(|open| (open.clone(), quarantined(open))).collect()
    });
    for (open, quarantined) in open {
        let name = &open.intent.target.tree;
        let Some(tree) = trees.get(name) else { continue };
        let settled = match quarantined {
            Some(seq) => settle_expiry(tree, seq, &open.intent.target),
            None => settle_one(tree, &open),
        };
        match settled {
            Ok(Some(attempt)) => report.settled.push(Settled { seq: open.seq, intent: open.intent, attempt }),
            Ok(None) => report.left.push(format!(
                "intent {} in tree `{name}`: `{}` is set aside, and is settled once the tree is enforced",
                open.seq.0, open.intent.target.path
            )),
            Err(error) if is_lost(&error) => drop(report.lost.insert(name.clone())),
            Err(error) => report.left.push(format!(
                "intent {} in tree `{name}`: `{}` cannot be settled: {error}",
                open.seq.0, open.intent.target.path
            )),
        }
    }
    for (name, tree) in trees {
        strays(engine, name, tree, &mut report);
    }
    sync(trees, &mut report);
    let mut entries: Vec<Entry> = Vec::new();
    for one in &report.settled {
        entries.push(Entry::Outcome { intent: one.seq, attempt: one.attempt.clone() });
    }
    if !entries.is_empty() {
        let text = format!("{} intents that the last run left open were settled", entries.len());
        entries.push(Entry::note(NoteKind::Settled, text));
        engine.journal.append_synced(entries, engine.clock.now())?;
    }
    for one in &report.settled {
        (engine.events)(one.event(one.intent.retry_of.is_some()));
    }
    report.left.extend(cut_off(trees, &report.settled, engine.clock.now()));
    for (name, seq, error) in engine.account_for(trees, &|_| true)? {
        report.left.push(format!("tree `{name}`: file {} in quarantine cannot be looked for: {error}", seq.0));
        if is_lost(&error) {
            report.lost.insert(name);
        }
    }
    Ok(report)
}

/// Units that were going when the guard ended: what is left of them stays until it is chosen again.
fn cut_off(trees: &Trees, settled: &[Settled], now: Timestamp) -> Vec<String> {
    let mut units = BTreeSet::new();
    for target in settled.iter().map(|one| &one.intent.target) {
        let unit = trees.get(&target.tree).and_then(|tree| tree.policy.layout.unit_of(&target.path));
        units.extend(unit.map(|unit| (target.tree.clone(), unit)));
    }
    let left = units.into_iter().filter_map(|(name, unit)| {
        let tree = trees.get(&name)?;
        let left = list_unit(tree.dir.as_ref(), &tree.policy.layout, &unit, now, &mut |_, _, _| ()).ok()?;
        let files = left.sum.segments.files;
        let text = format!(
            "tree `{name}`: the guard ended within `{unit}`: {files} of its files are left, and stay until they are chosen again"
        );
        (files > 0).then_some(text)
    });
    left.collect()
}

/// The process that works the tree did not answer, or is gone.
fn is_lost(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::BrokenPipe)
}

/// Makes what was settled durable. What cannot be is not settled: on record as deleted, it might come back.
fn sync(trees: &Trees, report: &mut SettleReport) {
    let mut synced: BTreeMap<(TreeId, Option<RelPath>), Option<String>> = BTreeMap::new();
    let mut whole = Vec::with_capacity(report.settled.len());
    for one in std::mem::take(&mut report.settled) {
        let (name, dir) = (one.intent.target.tree.clone(), one.intent.target.path.split().0);
        let error = synced.entry((name.clone(), dir.clone())).or_insert_with(|| {
            let tree = trees.get(&name)?;
            tree.dir.sync_aside().and_then(|()| tree.dir.sync_dir(dir.as_ref())).err().map(|error| error.to_string())
        });
        match error {
            None => whole.push(one),
            Some(error) => report.left.push(format!(
                "intent {} in tree `{name}`: `{}` cannot be settled, since its directory cannot be synced: {error}",
                one.seq.0, one.intent.target.path
            )),
        }
    }
    report.settled = whole;
}

/// Settles the deletion of what is in quarantine; `None` if its tree may not be touched now. What may not go stays where it is.
fn settle_expiry(tree: &TreeHandle, seq: Seq, target: &Target) -> std::io::Result<Option<Attempt>> {
    let dir = tree.dir.as_ref();
    let attempt = match (stands(dir, seq, target)?, tree.spares(&target.path)) {
        (Standing::Aside(_) | Standing::Both(_), _) if tree.policy.mode != Mode::Enforce => return Ok(None),
        (Standing::Aside(_) | Standing::Both(_), Some(why)) => Attempt::Kept { why: why.to_owned() },
        (Standing::Aside(aside) | Standing::Both(aside), None) => finish(dir, &aside, target, tree.rules(target)),
        (Standing::Returned, _) => return Ok(Some(returned())),
        (Standing::Gone, _) => Attempt::Verified { freed: target.bytes, shared: Bytes::ZERO, open: false },
    };
    // An answer is no proof.
    Ok(Some(match (stands(dir, seq, target)?, attempt) {
        (Standing::Returned, _) => returned(),
        (Standing::Aside(_) | Standing::Both(_), Attempt::Verified { .. } | Attempt::AlreadyGone) => {
            return Err(std::io::Error::other("the system said that it is gone, and it is still there"));
        }
        (Standing::Aside(_) | Standing::Both(_) | Standing::Gone, attempt) => attempt,
    }))
}

/// Settles one intent; `None` if its tree may not be touched now.
fn settle_one(tree: &TreeHandle, open: &OpenIntent) -> std::io::Result<Option<Attempt>> {
    let target = &open.intent.target;
    // Nothing is deleted by the intent for a whole unit.
    if is_unit(tree, target) {
        return Ok(Some(Attempt::Kept { why: NOT_BEGUN.to_owned() }));
    }
    let quarantine = target.rule == RuleKind::Quarantine;
    for aside in places(tree.dir.as_ref(), open.seq, &target.path) {
        if tree.dir.look_aside(&aside)?.is_none() {
            continue;
        }
        if tree.policy.mode != Mode::Enforce {
            return Ok(None);
        }
        let attempt = match tree.spares(&target.path) {
            Some(why) => Attempt::Kept { why: why.to_owned() },
            None if quarantine => match ready_aside(tree.dir.as_ref(), &aside, target, tree.rules(target)) {
                Ok(()) => return Ok(Some(Attempt::quarantined())),
                Err(attempt) => attempt,
            },
            None => finish(tree.dir.as_ref(), &aside, target, tree.rules(target)),
        };
        if matches!(attempt, Attempt::Kept { .. } | Attempt::Failed { .. }) {
            tree.dir.put_back(&aside, &target.path)?;
        }
        return Ok(Some(attempt));
    }
    Ok(Some(match tree.dir.look(&target.path)? {
        Some(now) if (now.inode, now.fingerprint()) == (target.inode, target.fingerprint) => {
            Attempt::Kept { why: NOT_BEGUN.to_owned() }
        }
        // The same file, written to since, or seen by a kernel that tells less of it: nothing was deleted.
        Some(now) if now.inode == target.inode => Attempt::Kept { why: "changed".to_owned() },
        // Nobody intended to delete it.
        None | Some(_) if quarantine => Attempt::AlreadyGone,
        // Who has it open is asked afterwards, as for every deleted file.
        None | Some(_) => Attempt::Verified { freed: target.bytes, shared: Bytes::ZERO, open: false },
    }))
}

/// Puts back what is set aside without an open intent: a put-back that failed, a journal that was lost, or one that there was no room
/// for.
fn strays(engine: &Engine, name: &TreeId, tree: &TreeHandle, report: &mut SettleReport) {
    let mut asides: Vec<Aside> = tree.beside.iter().cloned().map(Aside::Beside).collect();
    match tree.dir.list_aside() {
        Ok(private) => asides.extend(private),
        Err(error) if is_lost(&error) => {
            report.lost.insert(name.clone());
            return;
        }
        Err(error) => report.left.push(format!("the private folder of tree `{name}` cannot be read: {error}")),
    }
    for aside in asides {
        let (seq, shown) = match &aside {
            Aside::Private(seq) => (Some(*seq), format!("file {seq} in `.storage-guard`")),
            Aside::Beside(path) => (beside_name(path).map(|(seq, _)| seq), format!("`{path}`")),
        };
        let Some(seq) = seq else { continue };
        let (open, quarantined) = engine.journal.with_history(|history| {
            let quarantined = history.quarantined.get(&Seq(seq)).map(|one| one.target.clone());
            (history.open.contains_key(&Seq(seq)), quarantined.filter(|target| target.tree == *name))
        });
        // Another file under the number of one in quarantine is as unknown as any.
        let known = open
            || quarantined.is_some_and(|target| match find(tree.dir.as_ref(), Seq(seq), &target) {
                Ok(found) => found.is_some_and(|(place, _)| place == aside),
                Err(_) => true,
            });
        if known || report.settled.iter().any(|one| one.seq.0 == seq) {
            continue;
        }
        // Settling may have put it back meanwhile.
        if matches!(tree.dir.look_aside(&aside), Ok(None)) {
            continue;
        }
        if tree.policy.mode != Mode::Enforce {
            report.left.push(format!("tree `{name}`: {shown} is set aside, and is put back once the tree is enforced"));
            continue;
        }
        let path = origin(engine, tree, &aside);
        let done = match &path {
            Some(path) => tree.dir.put_back(&aside, path).map_err(|error| error.to_string()),
            None => Err("it does not say where it came from".to_owned()),
        };
        report.left.push(match (done, path) {
            (Ok(()), Some(path)) => {
                format!("tree `{name}`: {shown} was set aside and unknown; it was put back as `{path}`")
            }
            (result, _) => format!(
                "tree `{name}`: {shown} is set aside and cannot be put back: {}",
                result.err().unwrap_or_default()
            ),
        });
    }
}

/// Where a file that was set aside came from: as a failed deletion of it knows, or its attribute says, or, beside itself, its name.
fn origin(engine: &Engine, tree: &TreeHandle, aside: &Aside) -> Option<RelPath> {
    if let Some(now) = tree.dir.look_aside(aside).ok().flatten() {
        let known = engine.journal.with_history(|history| {
            let failing = history.failures.values().map(|failure| &failure.target);
            let mut same = failing.filter(|target| {
                (&target.tree, target.inode, target.fingerprint) == (&tree.policy.tree, now.inode, now.fingerprint())
            });
            same.next().map(|target| target.path.clone())
        });
        if known.is_some() {
            return known;
        }
    }
    let attribute = tree.dir.open_aside(aside).ok().flatten().and_then(|file| file.attribute(ORIGIN_ATTRIBUTE).ok()?);
    let told = attribute.and_then(|bytes| {
        let path = bytes.splitn(4, |byte| *byte == b'\n').nth(3)?.to_vec();
        RelPath::new(&path).ok()
    });
    let Aside::Beside(path) = aside else { return told };
    let (parent, _) = path.split();
    match told {
        // It was not moved since, other than by us.
        Some(told) if told.split().0 == parent => Some(told),
        // A name that had to be cut off to fit says nothing.
        Some(_) | None => {
            let (_, name) = beside_name(path).filter(|_| path.split().1.len() < 255)?;
            Some(match parent {
                Some(parent) => parent.join(&name),
                None => RelPath::new(&name).ok()?,
            })
        }
    }
}

/// The number and the name in `.storage-guard-SEQ-NAME`.
fn beside_name(path: &RelPath) -> Option<(u64, Vec<u8>)> {
    let rest = path.split().1.strip_prefix(BESIDE)?;
    let at = rest.iter().position(|byte| *byte == b'-')?;
    let seq = std::str::from_utf8(&rest[..at]).ok()?.parse().ok()?;
    (at + 1 < rest.len()).then(|| (seq, rest[at + 1..].to_vec()))
}
