//! Copies in a bucket that come to their end: found by listing it whole, judged in `domain`, and removed a few at a time between two copies.
//! Copies in a directory go as the recordings of any tree do.
//!
//! 1. The bucket is listed whole. What goes must fit within the cap, or nothing goes before a person lets go of it.
//! 2. Each copy is looked at and judged once more, then its end is on record.
//! 3. It is removed, and looked for. What became of it is on record.
//!
//! What a crash leaves between 2 and 3 is still there, and judged anew, or has gone, and the note before says why.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::archiver::Archiver;
use crate::archive::{ColdError, ColdObject, ColdStore};
use crate::domain::archive::{ColdPlace, key_of, path_of};
use crate::domain::cause::chain;
use crate::domain::clock_watch::Moment;
use crate::domain::cold_retention::{ColdCopy, ColdRule, ColdTree, Oldest, Stays};
use crate::domain::deletion::{Cap, Seq};
use crate::domain::event::Event;
use crate::domain::history::{CapTrip, removal_text};
use crate::domain::hold::Holds;
use crate::domain::journal::{Entry, GUARD, NoteKind};
use crate::domain::limits::{CapFacts, Line};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::path_set::PathSet;
use crate::domain::retention::{Mode, TreePolicy};
use crate::domain::units::{Bytes, Percent};

/// A bucket is listed so often, …
const EVERY: Duration = Duration::from_secs(3600);
/// … and for no more than this part of the time.
const PART: u32 = 20;
/// Where nothing can be decided now, or the bucket does not answer, it is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);
/// At the start the trees are looked at first.
const SOON: Duration = Duration::from_secs(2);
/// So many copies that are past their end are remembered; those beyond them are found by the next list.
const REMEMBERED: usize = 10_000;
/// So many are removed at once, then copying has its turn.
const BATCH: usize = 20;

/// How far the copies of a bucket are judged.
#[derive(Default)]
pub(super) struct Expiry {
    /// When the bucket is listed, by the clock that does not jump.
    due: Duration,
    /// What is to go, the oldest first.
    pending: VecDeque<(ColdCopy, ColdRule)>,
    /// What looked like a copy that may go, and is none.
    doubtful: HashSet<RelPath>,
    /// The cap keeps all of it.
    capped: bool,
    /// What was last said to be wrong.
    said: Option<String>,
}

/// What decides about the copies of a tree, as it is now.
struct Facts {
    policy: Arc<TreePolicy>,
    favourites: Arc<PathSet>,
    holds: Arc<Holds>,
    sources: HashSet<RelPath>,
}

impl Facts {
    fn tree(&self) -> ColdTree<'_> {
        ColdTree { policy: &self.policy, favourites: &self.favourites, holds: &self.holds, sources: &self.sources }
    }
}

impl Archiver {
    /// Does the next piece of it, if one is due.
    pub(super) fn expire(&self, store: &mut Option<Box<dyn ColdStore>>, expiry: &mut Expiry) {
        let bucket = matches!(self.settings.place, ColdPlace::Bucket(_));
        let limited = self.settings.max_age.is_some() || self.settings.max_bytes.is_some();
        let began = self.clock.boottime();
        if expiry.capped && !self.tripped() {
            // A person let go of it.
            (expiry.capped, expiry.due) = (false, began);
        }
        if !bucket || !limited || (expiry.pending.is_empty() && began < expiry.due) {
            return;
        }
        let Some(facts) = self.facts() else {
            expiry.pending.clear();
            expiry.due = began + SOON;
            return;
        };
        let done = self.opened(store).and_then(|store| match expiry.pending.is_empty() {
            true => {
                let listed = self.past(store, &facts, expiry);
                let took = self.clock.boottime().saturating_sub(began);
                expiry.due = self.clock.boottime() + EVERY.max(took.saturating_mul(PART));
                listed
            }
            false => self.remove(store, &facts, expiry),
        });
        match done {
            Ok(()) => {}
            Err(_) if self.stopped() => {}
            Err(error) => {
                // It is opened anew, and what is to go is found again.
                *store = None;
                expiry.pending.clear();
                expiry.due = self.clock.boottime() + AGAIN;
                self.say(expiry, format!("copies that have come to their end cannot be removed: {}", chain(&error)));
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says what is wrong, once.
    fn say(&self, expiry: &mut Expiry, text: String) {
        if expiry.said.as_ref() != Some(&text) {
            let all = format!("archive `{}`: {text}", self.settings.name);
            self.hub.record(&Event::Remark { text: all, urgent: true });
            expiry.said = Some(text);
        }
    }

    /// What decides about the copies of each tree that keeps some here; `None` while a clock is not trusted, or no window is open. A tree
    /// that is not in it keeps its copies: it cannot be seen now, or it is not known yet what persons want kept of it.
    fn facts(&self) -> Option<HashMap<TreeId, Facts>> {
        let suspect = self.hub.views().iter().any(|view| view.clock_suspect.is_some());
        if suspect || self.hub.with_history(|history| !history.clocks.is_empty()) {
            return None;
        }
        let now = self.hub.now();
        let mut out = HashMap::new();
        let archive = &self.settings.name;
        for tree in &self.trees {
            let uses = tree.policy.archive.as_ref().is_some_and(|terms| terms.archive == *archive);
            if !uses || !self.hub.sound(&tree.name) || !self.catalogues.favourites_known(&tree.name) {
                continue;
            }
            let of = |policy: &Arc<TreePolicy>, favourites: &Arc<PathSet>| Facts {
                policy: policy.clone(),
                favourites: favourites.clone(),
                holds: self.catalogues.holds.of(&tree.name),
                sources: self.catalogues.archived.of(&tree.name).paths(),
            };
            let seen = self.hub.with_tree(&tree.name, |_, view| Some(of(&view.policy, view.favourites.as_ref()?)));
            let Some(facts) = seen.flatten() else { continue };
            let open = self.window.is_none_or(|window| window.open(now, facts.policy.layout.zone()));
            if open && facts.policy.mode == Mode::Enforce {
                out.insert(tree.name.clone(), facts);
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Lists the bucket whole, and decides what goes.
    fn past(
        &self,
        store: &dyn ColdStore,
        facts: &HashMap<TreeId, Facts>,
        expiry: &mut Expiry,
    ) -> Result<(), ColdError> {
        let mut oldest = Oldest::new(REMEMBERED);
        store.list(None, &mut |object| {
            self.judge(&object, facts, &expiry.doubtful, &mut oldest);
            if self.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if self.stopped() {
            return Ok(());
        }
        if expiry.doubtful.len() >= REMEMBERED {
            expiry.doubtful.clear();
        }
        let all = oldest.all();
        // A clock that is not trusted comes with no facts.
        let moment = Moment::trusted(self.hub.now());
        let going = oldest.past(self.settings.max_age, self.settings.max_bytes, &moment);
        let wanted: Bytes = going.iter().map(|(copy, _)| copy.size).sum();
        expiry.capped = !self.within_cap(all, wanted);
        if !expiry.capped {
            expiry.pending = going.into();
            expiry.said = None;
        }
        Ok(())
    }

    fn judge(
        &self,
        object: &ColdObject,
        facts: &HashMap<TreeId, Facts>,
        doubtful: &HashSet<RelPath>,
        oldest: &mut Oldest,
    ) {
        let size = Bytes(object.size);
        let name = object.key.components().next().and_then(|name| std::str::from_utf8(name).ok());
        let Some(name) = name.filter(|name| self.trees.iter().any(|tree| tree.name.as_str() == *name)) else {
            // Nobody knows whose it is.
            return;
        };
        let tree = TreeId::new(name);
        let judged = facts.get(&tree).filter(|_| !doubtful.contains(&object.key)).and_then(|facts| {
            let path = path_of(&tree, &object.key)?;
            let recorded = facts.tree().judge(&path, size, object.modified, None).ok()?;
            Some(ColdCopy { recorded, tree, path, size, tag: object.tag.clone() })
        });
        match judged {
            Some(copy) => oldest.goes(copy),
            None => oldest.stays(size),
        }
    }

    fn tripped(&self) -> bool {
        let key = (TreeId::new(self.settings.name.as_str()), Cap::RunShare);
        self.hub.with_history(|history| history.caps.contains_key(&key))
    }

    /// Whether so much may go by itself (promise 9): beyond the cap nothing does, and it waits for a person.
    fn within_cap(&self, all: Bytes, wanted: Bytes) -> bool {
        if wanted == Bytes::ZERO {
            return true;
        }
        let name = TreeId::new(self.settings.name.as_str());
        let now = self.hub.now();
        let max_share = self.trees.iter().map(|tree| tree.policy.max_share).min().unwrap_or(Percent::new(0));
        let facts = self.hub.with_history(|history| CapFacts {
            max_share,
            held: all,
            deleted: history.deleted_within_a_day(&name, now),
            permitted: history.permitted(&name, Cap::RunShare, now),
            tripped: history
                .caps
                .get(&(name.clone(), Cap::RunShare))
                .map(|trip| Line { available: trip.available, held: trip.held }),
            available: Bytes::ZERO,
        });
        let allowed = facts.allowance().retention;
        if wanted <= allowed {
            return true;
        }
        if facts.tripped.is_none() {
            let trip = CapTrip {
                cap: Cap::RunShare,
                tree: name,
                wanted,
                allowed,
                held: all,
                available: Bytes::ZERO,
                since: now,
            };
            if self.hub.append(trip.entry(None)).is_ok() {
                let CapTrip { cap, tree, .. } = trip;
                self.hub.record(&Event::CapTripped { tree, cap, wanted, allowed });
            }
        }
        false
    }

    /// Removes a few of the copies that are to go.
    fn remove(
        &self,
        store: &dyn ColdStore,
        facts: &HashMap<TreeId, Facts>,
        expiry: &mut Expiry,
    ) -> Result<(), ColdError> {
        let revision = self.catalogues.holds.revision();
        let mut going = Vec::new();
        while going.len() < BATCH
            && !self.stopped()
            && let Some((copy, rule)) = expiry.pending.pop_front()
        {
            let key = key_of(&copy.tree, &copy.path);
            let Some(object) = store.look(&key)? else { continue };
            match again(&copy, &object, facts) {
                Ok(()) => going.push((object, copy, rule)),
                Err(Some(Stays::Doubtful) | None) => drop(expiry.doubtful.insert(key)),
                Err(Some(_)) => {}
            }
        }
        let notes = going.iter().map(|(_, copy, rule)| self.note(NoteKind::ArchiveRemoving, copy, *rule, 0, ""));
        // What cannot be put on record is not removed.
        let Ok(before) = self.hub.journal.append_synced(notes.collect(), self.hub.now()) else {
            expiry.pending.clear();
            expiry.due = self.clock.boottime() + AGAIN;
            return Ok(());
        };
        let mut after = Vec::new();
        let mut failed = None;
        let (mut count, mut bytes) = (0_u64, Bytes::ZERO);
        for ((object, copy, rule), Seq(number)) in going.iter().zip(before) {
            let held = self.catalogues.holds.revision() != revision;
            let why = if held || self.stopped() || failed.is_some() {
                Some("it was interrupted".to_owned())
            } else {
                store.remove(object).err().map(|error| {
                    let why = chain(&error);
                    failed = Some(error);
                    why
                })
            };
            let Some(why) = why else {
                (count, bytes) = (count + 1, bytes.saturating_add(copy.size));
                after.push(self.note(NoteKind::ArchiveRemoved, copy, *rule, number, ""));
                continue;
            };
            after.push(self.note(NoteKind::ArchiveKept, copy, *rule, number, &why));
        }
        if let Err(error) = self.hub.journal.append_synced(after, self.hub.now()) {
            self.say(expiry, chain(&error));
        }
        if count > 0 {
            let name = &self.settings.name;
            let text = format!("archive `{name}`: {count} copies, {bytes}, had come to their end and were removed");
            self.hub.record(&Event::Remark { text, urgent: false });
        }
        failed.map_or(Ok(()), Err)
    }

    fn note(&self, kind: NoteKind, copy: &ColdCopy, rule: ColdRule, number: u64, why: &str) -> Entry {
        let limit = match rule {
            ColdRule::MaxAge => self.settings.max_age.map(crate::domain::units::show_duration),
            ColdRule::MaxBytes => self.settings.max_bytes.map(|bytes| bytes.to_string()),
        };
        let limit = limit.unwrap_or_default();
        let rest = format!("{rule} {limit}, recorded {}", copy.recorded);
        // What a store says has no line of its own.
        let rest = if why.is_empty() { rest } else { format!("{rest}; {why}").replace('\n', " ") };
        Entry::Note {
            kind,
            volume: None,
            tree: Some(copy.tree.clone()),
            who: GUARD.to_owned(),
            bytes: copy.size,
            number,
            text: removal_text(&copy.path, &self.settings.name, &rest),
        }
    }
}

/// Judges a copy as it is now.
///
/// # Errors
/// Why it stays; `None` if it is not what was listed, or somebody else's.
fn again(copy: &ColdCopy, object: &ColdObject, facts: &HashMap<TreeId, Facts>) -> Result<(), Option<Stays>> {
    let same = Bytes(object.size) == copy.size && (copy.tag.is_none() || object.tag == copy.tag);
    if !same || !object.marked {
        return Err(None);
    }
    let facts = facts.get(&copy.tree).ok_or(Some(Stays::Observed))?;
    // When it was copied the list has told: it is no younger than that.
    let judged = facts.tree().judge(&copy.path, copy.size, copy.recorded, Some(object.modified));
    judged.map(drop).map_err(Some)
}
