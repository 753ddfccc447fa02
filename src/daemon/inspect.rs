//! After a scan: what of it should not be there, and what should be and is not.
//!
//! 1. Unfinished files are sighted, and, where all catalogues of the tree are believed, its recordings are compared with them.
//! 2. Each sighting is judged by its witnesses (`domain::verdict`). Whether somebody has a file open is asked last, and once.
//! 3. The numbers are kept; while a catalogue is not believed, those of before stay (promise 7).

use std::collections::HashSet;
use std::sync::Arc;

use super::catalogues::{Catalogues, EVERY};
use super::tree::TreeWatch;
use super::volume::VolumeWorker;
use crate::catalogue::{Comparison, Known, Outcome, compare, sight_leftovers};
use crate::domain::catalogue::CatalogueKind;
use crate::domain::event::Event;
use crate::domain::names::{CatalogueId, StreamId};
use crate::domain::orphan::{Orphan, OrphanKind, Playable, Verdict, Witness};
use crate::domain::path::RelPath;
use crate::domain::path_set::PathSet;
use crate::domain::recording::FileIdentity;
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::verdict::{Facts, judge};
use crate::reclaim::Stop;
use crate::store::{DatabaseError, Journal};
use crate::system::mp4::examine;
use crate::system::{Aside, Lease, LeaseKind, WritableDir};

/// As of when each catalogue spoke, and of which revision findings were, when favourites were taken from them.
pub(super) type FavouritesOf = (Vec<(CatalogueId, Timestamp)>, u64);

/// What a tree was last compared with: its scan, and as of when each catalogue spoke.
pub(super) type Compared = (Timestamp, Vec<(CatalogueId, Timestamp)>);

impl VolumeWorker {
    /// Inspects the trees that were scanned, or whose catalogues were read, since they last were.
    /// It goes on as long as `stop` says no, which is asked again and again: whoever asks is alive.
    pub(super) fn inspect(&mut self, stop: Stop<'_>) {
        // A volume that cannot be judged is not compared either (promise 6).
        if self.reading.is_err() {
            return;
        }
        let catalogues = self.catalogues.clone();
        let clock_trusted = self.clock.suspect().is_none();
        for index in 0..self.trees.len() {
            let began = self.engine.clock.boottime();
            let now = self.now();
            let tree = &mut self.trees[index];
            let known = catalogues.known(&tree.policy.tree);
            let Some(stamp) = tree.uncompared(known.as_ref().ok()) else {
                let revision = catalogues.revision();
                if std::mem::replace(&mut tree.counted, revision) != revision {
                    tree.recount(&catalogues);
                }
                continue;
            };
            let strays = strays(tree, &self.engine.journal);
            let inspection = Inspection { catalogues: &catalogues, known, strays, clock_trusted, stop };
            match inspection.of(tree, now) {
                Ok(_) if stop() => return,
                Ok(compared) => {
                    tree.compared = Some(stamp);
                    if compared {
                        let took = self.engine.clock.boottime().saturating_sub(began);
                        let tree = &self.trees[index];
                        let (orphans, missing) = (tree.orphans.uncatalogued.unwrap_or_default(), tree.orphans.missing);
                        self.emit(Event::Compared { tree: tree.policy.tree.clone(), orphans, missing, took });
                    }
                }
                Err(error) => {
                    tree.compared = Some(stamp);
                    let text = format!("tree {} cannot be compared: {error}", self.trees[index].policy.tree);
                    self.emit(Event::Remark { text, urgent: false });
                }
            }
        }
    }

    /// Takes over what catalogues want kept, where that changed.
    pub(super) fn take_favourites(&mut self) {
        let catalogues = self.catalogues.clone();
        self.trees.iter_mut().for_each(|tree| tree.take_favourites(&catalogues));
    }

    /// What persons want kept was known once: until then nothing is deleted that can wait.
    pub(super) fn favourites_known(&self) -> bool {
        let taken = |tree: &TreeWatch| tree.favourites_of.is_some();
        self.trees.iter().all(|tree| taken(tree) && self.catalogues.favourites_known(&tree.policy.tree))
    }

    /// What its trees' catalogues want kept is known, or was asked for: nothing is deleted before.
    pub(super) fn informed(&self) -> bool {
        self.trees.iter().all(|tree| self.catalogues.informed(&tree.policy.tree))
    }
}

impl TreeWatch {
    /// What it would be compared with now, if that is new, and the scan still says what is there.
    fn uncompared(&self, known: Option<&Vec<Known>>) -> Option<Compared> {
        let whole = self.scanned() && self.fault.is_none() && self.inventory().complete();
        if !whole {
            return None;
        }
        let said = known.map(|known| known.iter().map(|one| (one.name.clone(), one.as_of)).collect());
        let stamp = (self.inventory().started, said.unwrap_or_default());
        (self.compared.as_ref() != Some(&stamp)).then_some(stamp)
    }

    /// Counts what findings say now: some of it was dealt with.
    pub(super) fn recount(&mut self, catalogues: &Catalogues) {
        let (findings, name) = (&catalogues.findings, &self.policy.tree);
        let found = |kind| findings.found(name, kind);
        if let (Some(_), Ok(now)) = (self.orphans.uncatalogued, found(OrphanKind::Uncatalogued)) {
            (self.orphans.uncatalogued, self.orphans.unproven) = (Some(now.proven), now.unproven);
        }
        if let Ok(now) = found(OrphanKind::Leftover) {
            self.orphans.leftovers = now.proven;
        }
        if let Ok(missing) = findings.missing_in(name) {
            self.orphans.missing = missing;
        }
    }

    fn take_favourites(&mut self, catalogues: &Catalogues) {
        let keepers = catalogues.of_tree(&self.policy.tree);
        let said = keepers.iter().filter_map(|keeper| keeper.last());
        let stamp = (said.map(|known| (known.name, known.as_of)).collect(), catalogues.revision());
        if self.favourites_of.as_ref() == Some(&stamp) {
            return;
        }
        self.wants_kept(stamp, catalogues.favourites(&self.policy.tree, &self.policy.layout).ok());
    }

    /// Takes over favourites. What cannot be read now stays as it was, does not count as known, and is read again.
    fn wants_kept(&mut self, stamp: FavouritesOf, favourites: Option<PathSet>) {
        self.favourites_of = favourites.is_some().then_some(stamp);
        if let Some(favourites) = favourites {
            self.favourites = Arc::new(favourites);
        }
    }
}

/// One look at a tree.
struct Inspection<'a> {
    catalogues: &'a Catalogues,
    /// All its catalogues, if each is believed.
    known: Result<Vec<Known>, CatalogueId>,
    /// What is set aside, and nobody knows why.
    strays: Vec<Orphan>,
    clock_trusted: bool,
    stop: Stop<'a>,
}

impl Inspection<'_> {
    /// Sights and judges; says whether the catalogues were compared.
    fn of(&self, tree: &mut TreeWatch, now: Timestamp) -> Result<bool, DatabaseError> {
        let findings = &self.catalogues.findings;
        let name = tree.policy.tree.clone();
        sight_leftovers(tree.inventory(), tree.gone(), &self.strays, findings)?;
        self.judge(tree, OrphanKind::Leftover)?;
        let compared = match &self.known {
            Ok(known) if !known.is_empty() => {
                let what = Comparison {
                    inventory: tree.inventory(),
                    gone: tree.gone(),
                    known,
                    dir: tree.dir.as_ref(),
                    findings,
                };
                match compare(&what, &mut || !(self.stop)())? {
                    Outcome::Compared { .. } => true,
                    Outcome::Suspicious(catalogue) => {
                        if let Some(keeper) = self.catalogues.keeper(&catalogue) {
                            keeper.doubt();
                        }
                        false
                    }
                    Outcome::EmptyTree | Outcome::Incomplete => false,
                }
            }
            Ok(_) | Err(_) => false,
        };
        if compared {
            self.judge(tree, OrphanKind::Uncatalogued)?;
            let found = findings.found(&name, OrphanKind::Uncatalogued)?;
            if self.catalogues.prove(&name) {
                tree.orphans.uncatalogued = Some(found.proven);
            }
            tree.orphans.unproven = found.unproven;
            let missing = findings.missing_in(&name)?;
            if std::mem::replace(&mut tree.orphans.missing, missing) < missing {
                // The thread of the catalogue asks whether these rows are still there.
                self.catalogues.changed();
            }
        }
        if !compared && tree.orphans.uncatalogued.is_none() && self.catalogues.prove(&name) {
            // What was found before a reload or a start still counts. Where nothing was, nobody can tell whether anybody looked.
            let (found, missing) = (findings.found(&name, OrphanKind::Uncatalogued)?, findings.missing_in(&name)?);
            if found.proven.files + found.unproven.files + missing > 0 {
                tree.orphans.uncatalogued = Some(found.proven);
                (tree.orphans.unproven, tree.orphans.missing) = (found.unproven, missing);
            }
        }
        tree.orphans.leftovers = findings.found(&name, OrphanKind::Leftover)?.proven;
        let orphans = tree.orphans.uncatalogued.unwrap_or_default().bytes.saturating_add(tree.orphans.leftovers.bytes);
        if compared || self.catalogues.of_tree(&name).is_empty() {
            let inflow = std::mem::replace(&mut tree.fresh, Bytes::ZERO);
            findings.note_growth(&name, orphans, inflow, now)?;
        }
        tree.orphans.growth = findings.growth(&name, now)?;
        Ok(compared)
    }

    fn judge(&self, tree: &TreeWatch, kind: OrphanKind) -> Result<(), DatabaseError> {
        let name = &tree.policy.tree;
        let grace = match kind {
            OrphanKind::Uncatalogued => tree.policy.orphans.grace,
            OrphanKind::Leftover => tree.policy.leftovers.grace,
        };
        let known = self.known.as_deref().unwrap_or_default();
        // Only a whole reading says what is not there; one of what is new knows nothing of older rows that came back.
        let proving = known.iter().filter(|one| one.kind.proves_absence());
        let proving =
            proving.map(|one| Ok((one, one.index.state()?.whole))).collect::<Result<Vec<_>, DatabaseError>>()?;
        let as_of = proving.iter().map(|(_, whole)| *whole).min();
        let latest = proving.iter().map(|(one, _)| one.as_of).min();
        let database = |one: &Known| matches!(one.kind, CatalogueKind::Wvp | CatalogueKind::Frigate);
        let asked = proving.iter().filter(|(one, _)| database(one)).map(|(_, whole)| *whole).min();
        let mut unconfirmed = false;
        let undrained = self.catalogues.undrained(name);
        let survey = tree.survey();
        let streams: std::collections::HashMap<&StreamId, usize> =
            survey.streams.iter().enumerate().map(|(at, stream)| (&stream.name, at)).collect();
        let scan_started = tree.inventory().started;
        self.catalogues.findings.judge(name, kind, &mut |orphan| {
            let stream = streams.get(&StreamId::new(&orphan.stream)).map(|at| &survey.streams[*at]);
            let mut facts = Facts {
                kind,
                touched: orphan.touched,
                first_seen: orphan.first_seen,
                scan_started,
                as_of,
                asked,
                all_trusted: self.known.is_ok() && !known.is_empty(),
                grace,
                longest_slice: survey.longest_slice,
                // Who was found unopened when it was proven is asked again at the door.
                opened: orphan.verdict.proven().then_some(false),
                undrained: is_told_of(&undrained, &orphan.stream),
                live: stream.is_some_and(|stream| stream.live) || tree.live.records(&StreamId::new(&orphan.stream)),
                recorder: tree.live.recorder(&StreamId::new(&orphan.stream), orphan.touched),
                newest: stream.and_then(|stream| stream.touched),
                clock_trusted: self.clock_trusted,
            };
            if (self.stop)() {
                return None;
            }
            let verdict = judge(&facts);
            if verdict.wanted != [Witness::Unopened] {
                // All that is wanted may be a whole reading.
                unconfirmed |= !verdict.proven() && {
                    let by_the_latest = judge(&Facts { as_of: latest, asked: asked.and(latest), ..facts });
                    by_the_latest.wanted == [Witness::Unopened] || by_the_latest.proven()
                };
                return changed(orphan, verdict, orphan.playable);
            }
            let (opened, born, playable) = look_into(tree.dir.as_ref(), orphan);
            facts.opened = opened;
            // What came after the catalogue spoke, from a backup with its old times, is as young as that.
            if let (Some(born), Some(as_of)) = (born, as_of.filter(|_| kind == OrphanKind::Uncatalogued))
                && born > as_of
            {
                facts.touched = facts.touched.max(as_of);
            }
            changed(orphan, judge(&facts), playable)
        })?;
        if unconfirmed {
            let keepers = self.catalogues.of_tree(name);
            keepers.iter().filter(|keeper| keeper.kind().proves_absence()).for_each(|keeper| keeper.confirm());
        }
        Ok(())
    }
}

/// Something was told of a stream. The media server leaves the virtual host out where the layout may have it.
pub(super) fn is_told_of(told: &[String], stream: &str) -> bool {
    let ends = |told: &str| stream.strip_suffix(told).is_some_and(|host| host.is_empty() || host.ends_with('/'));
    told.iter().any(|told| told == EVERY || ends(told))
}

/// Files of a lost state: set aside, and neither in quarantine nor being deleted, so that settling puts them back where it can.
fn strays(tree: &TreeWatch, journal: &Journal) -> Vec<Orphan> {
    let mut asides = tree.dir.list_aside().unwrap_or_default();
    asides.extend(tree.inventory().passed_over.beside.iter().cloned().map(Aside::Beside));
    let known: HashSet<u64> = journal.with_history(|history| {
        let set_aside = history.quarantined.values().map(|aside| aside.target.inode);
        let open = history.open.values().map(|open| open.intent.target.inode);
        let failing = history.failures.values().map(|failure| failure.target.inode);
        set_aside.chain(open).chain(failing).collect()
    });
    let stray = |aside: &Aside| {
        let seen = tree.dir.look_aside(aside).ok().flatten().filter(|seen| !known.contains(&seen.inode))?;
        let path = match aside {
            Aside::Private(seq) => RelPath::new(format!(".storage-guard/{seq}").as_bytes()).ok()?,
            Aside::Beside(path) => path.clone(),
        };
        Some(Orphan {
            tree: tree.policy.tree.clone(),
            path,
            stream: String::new(),
            kind: OrphanKind::Leftover,
            bytes: seen.allocated,
            inode: seen.inode,
            fingerprint: seen.fingerprint(),
            touched: seen.modified_at()?,
            first_seen: tree.inventory().started,
            verdict: Verdict::default(),
            playable: Playable::Unknown,
        })
    };
    asides.iter().filter_map(stray).collect()
}

/// What is to be kept, if it is not known already.
fn changed(orphan: &Orphan, verdict: Verdict, playable: Playable) -> Option<(Verdict, Playable)> {
    (verdict != orphan.verdict || playable != orphan.playable).then_some((verdict, playable))
}

/// Whether somebody has it open, as far as that can be told; when it was born, where the filesystem says so; and whether it can be played.
fn look_into(dir: &dyn WritableDir, orphan: &Orphan) -> (Option<bool>, Option<Timestamp>, Playable) {
    let unknown = (None, None, orphan.playable);
    let Ok(Some(file)) = dir.open(&orphan.path) else { return unknown };
    let same = |now: &FileIdentity| (now.inode, now.fingerprint()) == (orphan.inode, orphan.fingerprint);
    let Some(now) = file.identity().ok().filter(same) else { return unknown };
    let born = (now.birth > 0).then(|| Timestamp::from_millis(now.birth / 1_000_000));
    let lease = file.lease(LeaseKind::NoOpener);
    let playable = examine(file.as_ref(), now.size).playable;
    let _ = file.release();
    let opened = match lease {
        Ok(Lease::Granted) => Some(false),
        Ok(Lease::Conflict) => Some(true),
        Ok(Lease::Unavailable) | Err(_) => None,
    };
    (opened, born, playable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conditions::tests::volume;
    use crate::domain::path_set::DigestKey;
    use crate::system::GuardedTree;

    #[test]
    fn what_persons_want_kept_is_known_only_once_it_was_read() {
        let home = tempfile::tempdir().unwrap();
        let policy = volume().trees[0].policy.as_ref().clone();
        let mut watch = TreeWatch::new(
            Arc::new(GuardedTree::open(home.path()).unwrap()),
            policy,
            None,
            Arc::default(),
            Arc::default(),
        );
        let path = RelPath::new(b"cam/a.mp4").unwrap();
        let stamp = |millis| (vec![(CatalogueId::new("wvp"), Timestamp::from_millis(millis))], 0);
        let known = |watch: &TreeWatch| (watch.favourites_of.is_some(), watch.favourites.contains(&path));
        assert_eq!(known(&watch), (false, false));
        watch.wants_kept(stamp(1), None);
        assert_eq!(known(&watch), (false, false), "an index that cannot be read says nothing");
        watch.wants_kept(stamp(2), Some(PathSet::new(DigestKey(7), std::iter::once(path.clone()))));
        assert_eq!(known(&watch), (true, true));
        watch.wants_kept(stamp(3), None);
        assert_eq!(known(&watch), (false, true), "what was known protects still, and may not be all");
    }
}
