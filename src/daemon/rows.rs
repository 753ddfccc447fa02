//! What is done with the rows of a catalogue, on its own thread: rows are inserted for orphans, and removed for files that are gone.
//!
//! A row goes only if its file was looked for at that moment and is not there, and only if it still speaks of that file.

use std::collections::HashSet;
use std::collections::{BTreeMap, HashMap};

use super::catalogues::Catalogues;
use super::hub::Hub;
use super::job_items::ItemDone;
use super::reading::Disk;
use super::remedies::{Relief, kept};
use crate::catalogue::{Keeper, Known, RowsError};
use crate::domain::adoption::{Adopted, Adoption, adoption};
use crate::domain::catalogue::RowId;
use crate::domain::cause::chain;
use crate::domain::deletion::Outcome;
use crate::domain::event::Event;
use crate::domain::journal::{Entry, GUARD, NoteKind};
use crate::domain::names::TreeId;
use crate::domain::orphan::{Missing, Orphan};
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::remedy::{Remedy, RemedyKind, Which};
use crate::domain::retention::{Mode, TreePolicy};
use crate::domain::units::{Bytes, Timestamp};
use crate::reclaim::Stop;
use crate::server::orphans::{Rehearsal, Rehearsed};
use crate::store::DatabaseError;
use crate::system::mp4::examine;

/// So many rows are changed at once.
const CHUNK: usize = 500;

/// Whoever changes the rows of a catalogue.
pub(super) struct Hand<'a> {
    pub(super) keeper: &'a Keeper,
    pub(super) catalogues: &'a Catalogues,
    pub(super) hub: &'a Hub,
    pub(super) disk: &'a Disk<'a>,
}

/// A request, and who is told of it.
struct Work<'a> {
    remedy: &'a Remedy,
    job: Option<u64>,
    who: &'a str,
    stop: Stop<'a>,
}

impl Hand<'_> {
    /// Does what was asked for. Between two chunks of rows `stop` is asked whether to begin nothing more.
    pub(super) fn change(&self, remedy: &Remedy, job: Option<u64>, who: &str, stop: Stop<'_>) -> Relief {
        let work = Work { remedy, job, who, stop };
        if self.keeper.known().is_none() {
            return Relief::refused("untrusted", format!("catalogue `{}` is not trusted now", self.keeper.name()));
        }
        let done = match remedy.kind {
            RemedyKind::Adopt => self.adopt(&work),
            RemedyKind::RemoveRows => self.remove_missing(&work),
            RemedyKind::Quarantine | RemedyKind::Delete | RemedyKind::Restore => Ok(()),
        };
        done.map_or_else(|error| Relief::refused("rows", chain(&error)), |()| Relief::default())
    }

    /// Says what an adoption would do; nothing is written.
    ///
    /// # Errors
    /// A sentence that says why that cannot be told.
    pub(super) fn rehearse(&self, remedy: &Remedy) -> Result<Rehearsal, String> {
        let work = Work { remedy, job: None, who: "", stop: &|| false };
        let orphans = self.proven(&work).map_err(|error| chain(&error))?;
        let mut out = Rehearsal { total: orphans.len() as u64, items: Vec::new() };
        for orphan in orphans.into_iter().take(Rehearsal::SHOWN) {
            let row = self.row_of(&orphan);
            let adopted = match &row {
                Ok(row) => {
                    let rows = [(orphan.tree.clone(), orphan.path.clone(), row.clone())];
                    self.keeper.adopt(&rows, true).map_err(|error| chain(&error))?.pop()
                }
                Err(why) => Some(Adopted::Refused(why.clone())),
            };
            let adopted = adopted.unwrap_or_else(|| Adopted::Refused("the catalogue said nothing of it".to_owned()));
            out.items.push(Rehearsed::of(&orphan.tree, &orphan.path, row.as_ref().ok(), &adopted));
        }
        Ok(out)
    }

    /// Inserts rows for proven orphans.
    fn adopt(&self, work: &Work<'_>) -> Result<(), Failed> {
        let mut rest = self.proven(work)?;
        let listed = self.listed(work, &rest);
        self.expand(work, rest.len() + listed.len());
        for (path, row) in listed {
            self.item(work, &path, Outcome::AlreadyGone, &format!("row {row} knows it already"));
        }
        while !rest.is_empty() && !(work.stop)() {
            let chunk: Vec<Orphan> = rest.drain(..rest.len().min(CHUNK)).collect();
            let mut rows = Vec::new();
            for orphan in chunk {
                // It may have got its row, or have gone, since it was compared.
                match self.row_of(&orphan) {
                    Ok(row) => rows.push((orphan.tree.clone(), orphan.path.clone(), row)),
                    Err(why) => self.item(work, &orphan.path, Outcome::Kept, &why),
                }
            }
            let adopted = self.keeper.adopt(&rows, false)?;
            let mut known = Vec::new();
            let mut inserted = Vec::new();
            for ((_, path, _), what) in rows.iter().zip(&adopted) {
                let (outcome, detail) = match what {
                    Adopted::Inserted(id) => (Outcome::Verified, format!("row {id} was inserted")),
                    Adopted::Known(id) => (Outcome::AlreadyGone, format!("row {id} knows it already")),
                    Adopted::Would => (Outcome::Kept, "nothing was written".to_owned()),
                    Adopted::Refused(why) => (Outcome::Kept, why.clone()),
                };
                match what {
                    Adopted::Inserted(id) => {
                        inserted.push((path.clone(), RowId::Number(*id)));
                        known.push(path.clone());
                    }
                    Adopted::Known(_) => known.push(path.clone()),
                    Adopted::Would | Adopted::Refused(_) => {}
                }
                self.item(work, path, outcome, &detail);
            }
            self.catalogues.findings.forget(&work.remedy.tree, &known)?;
            self.tell(&work.remedy.tree, Changed::Inserted, &inserted, work.who);
        }
        Ok(())
    }

    /// The row that a recording should have had.
    fn row_of(&self, orphan: &Orphan) -> Result<Adoption, String> {
        let dir = self.disk.tree(&orphan.tree).ok_or("its tree cannot be trusted now")?;
        let file = dir.open(&orphan.path).map_err(|error| error.to_string())?.ok_or("it is not there any more")?;
        let now = file.identity().map_err(|error| error.to_string())?;
        if (now.inode, now.fingerprint()) != (orphan.inode, orphan.fingerprint) {
            return Err("it changed since it was seen".to_owned());
        }
        let outside = self.keeper.outside(&orphan.tree, &orphan.path).ok_or("its path is no text")?;
        let named = self.hub.named(&orphan.tree, &orphan.path, now.size);
        let length = examine(file.as_ref(), now.size).duration;
        adoption(&orphan.stream, &outside, named, now.size, length, self.catalogues.media_server(self.keeper.name()))
    }

    /// Removes rows without a file.
    fn remove_missing(&self, work: &Work<'_>) -> Result<(), Failed> {
        let mut after = None;
        while !(work.stop)() {
            let page = self.catalogues.findings.missing(Some(&work.remedy.tree), after.as_ref(), CHUNK)?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            after = Some(last);
            let wanted: Vec<Missing> = page.into_iter().filter(|row| self.wants(work, row)).collect();
            self.expand(work, wanted.len());
            let (absent, there): (Vec<_>, Vec<_>) =
                wanted.into_iter().partition(|row| self.absent(&row.tree, &row.path) == Some(true));
            for row in there {
                self.item(work, &row.path, Outcome::Kept, "its file is there, or cannot be looked for");
            }
            let rows: Vec<_> = absent.iter().map(|row| (row.tree.clone(), row.path.clone(), row.row.clone())).collect();
            let gone = self.keeper.remove_rows(&rows)?;
            let is_gone = |row: &Missing| gone.iter().any(|(_, path, id)| (path, id) == (&row.path, &row.row));
            for row in &absent {
                match is_gone(row) {
                    true => self.item(work, &row.path, Outcome::Verified, &format!("row {} is gone", row.row)),
                    false => self.item(
                        work,
                        &row.path,
                        Outcome::Kept,
                        &format!("row {} speaks of another file now", row.row),
                    ),
                }
            }
            let forgotten: Vec<Missing> = absent.into_iter().filter(is_gone).collect();
            self.catalogues.findings.forget_missing(&forgotten)?;
            let removed: Vec<_> = forgotten.into_iter().map(|row| (row.path, row.row)).collect();
            self.tell(&work.remedy.tree, Changed::Removed, &removed, work.who);
        }
        Ok(())
    }

    fn wants(&self, work: &Work<'_>, row: &Missing) -> bool {
        let named = match &work.remedy.which {
            Which::All => true,
            Which::Paths(paths) => paths.contains(&row.path),
        };
        named && row.catalogue == *self.keeper.name()
    }

    /// Rows of recordings that we deleted: they go once their files are verified absent, where the configuration says so; and what no
    /// catalogue lists any more is not remembered any longer. What hinders it is told once, as long as it is the same: `told` has that.
    pub(super) fn look_after_rows(&self, told: &mut HashMap<TreeId, String>) {
        for tree in self.catalogues.trees_of(self.keeper.name()) {
            match self.look_after(&tree).map_err(|error| chain(&error)) {
                Ok(()) => {
                    told.remove(&tree);
                }
                Err(error) if told.get(&tree) == Some(&error) => {}
                Err(error) => {
                    let text = format!(
                        "catalogue {}: rows of recordings that were deleted cannot be removed; it is tried again: {error}",
                        self.keeper.name()
                    );
                    self.hub.record(&Event::Remark { text, urgent: false });
                    told.insert(tree, error);
                }
            }
        }
    }

    /// Asks the source of rows without a file whether they are still there: what the platform deleted since the last whole reading is not
    /// missing.
    ///
    /// # Errors
    /// If the source does not answer, or findings cannot be read.
    pub(super) fn recheck(&self, tree: &TreeId) -> Result<(), String> {
        let mut after = None;
        loop {
            let page = self.catalogues.findings.missing(Some(tree), after.as_ref(), CHUNK);
            let page = page.map_err(|error| chain(&error))?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            after = Some(last);
            let own: Vec<Missing> = page.into_iter().filter(|row| row.catalogue == *self.keeper.name()).collect();
            let rows: Vec<_> = own.iter().map(|row| (row.tree.clone(), row.path.clone(), row.row.clone())).collect();
            if self.keeper.recheck(&rows).map_err(|why| why.to_string())? == 0 {
                continue;
            }
            let Some(known) = self.keeper.last() else { return Ok(()) };
            let gone = |row: &Missing| {
                let listed = known.index.rows_of(&row.tree, &row.path);
                listed.is_ok_and(|listed| listed.iter().all(|one| one.id != row.row))
            };
            let gone: Vec<Missing> = own.into_iter().filter(gone).collect();
            self.catalogues.findings.forget_missing(&gone).map_err(|error| chain(&error))?;
            self.catalogues.changed();
        }
    }

    fn look_after(&self, tree: &TreeId) -> Result<(), Failed> {
        let Some(known) = self.keeper.known() else { return Ok(()) };
        // What went to an archive is no less there for it, and comes back under its name.
        let may = |policy: &TreePolicy| policy.mode == Mode::Enforce && policy.archive.is_none();
        let may = self.hub.with_tree(tree, |_, tree| may(&tree.policy)).unwrap_or(false);
        let removes = may && self.catalogues.removes_rows(self.keeper.name());
        // What is set aside may come back: its row goes when it goes.
        let aside: HashSet<RelPath> = self
            .hub
            .with_history(|history| history.quarantined_in(tree).map(|(_, aside)| aside.target.path.clone()).collect());
        let all = self.catalogues.known(tree).unwrap_or_default();
        let mut after = None;
        loop {
            let page = self.catalogues.findings.reclaimed(tree, after.as_ref(), CHUNK)?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            after = Some(last);
            let (mut rows, mut forgotten): (Vec<(TreeId, RelPath, RowId)>, Vec<RelPath>) = (Vec::new(), Vec::new());
            for (path, at) in page.into_iter().filter(|(path, _)| !aside.contains(path)) {
                let listed = known.index.rows_of(tree, &path)?;
                if listed.is_empty() {
                    if unlisted(&all, tree, &path, at)? {
                        forgotten.push(path);
                    }
                    continue;
                }
                match self.absent(tree, &path) {
                    Some(true) if removes => {
                        rows.extend(listed.into_iter().map(|row| (tree.clone(), path.clone(), row.id)));
                    }
                    // Somebody recorded under that name again.
                    Some(false) => forgotten.push(path),
                    Some(true) | None => {}
                }
            }
            let removed = if rows.is_empty() { Vec::new() } else { self.keeper.remove_rows(&rows)? };
            let mut left: BTreeMap<&RelPath, usize> = BTreeMap::new();
            rows.iter().for_each(|(_, path, _)| *left.entry(path).or_default() += 1);
            for (_, path, _) in &removed {
                if let Some(count) = left.get_mut(path) {
                    *count = count.saturating_sub(1);
                }
            }
            forgotten.extend(left.into_iter().filter(|(_, count)| *count == 0).map(|(path, _)| path.clone()));
            self.catalogues.findings.forget_reclaimed(tree, &forgotten)?;
            let removed: Vec<_> = removed.iter().map(|(_, path, row)| (path.clone(), row.clone())).collect();
            self.tell(tree, Changed::Removed, &removed, GUARD);
        }
    }

    /// Whether a file is verified absent; `None` if that cannot be told.
    fn absent(&self, tree: &TreeId, path: &RelPath) -> Option<bool> {
        let dir = self.disk.tree(tree)?;
        // An empty place where a disk should be mounted holds nothing either.
        dir.still_there().ok()?;
        Some(dir.look(path).ok()?.is_none())
    }

    fn proven(&self, work: &Work<'_>) -> Result<Vec<Orphan>, DatabaseError> {
        let mut found = self.catalogues.chosen(work.remedy, None, usize::MAX)?;
        found.retain(|orphan| orphan.verdict.proven());
        Ok(found)
    }

    /// Of the paths that are named, those that are no orphans because they have their row.
    fn listed(&self, work: &Work<'_>, orphans: &[Orphan]) -> Vec<(RelPath, RowId)> {
        let (Which::Paths(paths), Some(known)) = (&work.remedy.which, self.keeper.known()) else { return Vec::new() };
        let others = paths.iter().filter(|path| !orphans.iter().any(|orphan| orphan.path == **path));
        let row = |path: &RelPath| {
            let rows = known.index.rows_of(&work.remedy.tree, path).unwrap_or_default();
            rows.into_iter().next().map(|row| (path.clone(), row.id))
        };
        others.filter_map(row).collect()
    }

    fn expand(&self, work: &Work<'_>, items: usize) {
        if let Some(job) = work.job {
            self.hub.with_jobs(|jobs| jobs.expand(job, Tally { files: items as u64, bytes: Bytes::ZERO }));
        }
    }

    fn item(&self, work: &Work<'_>, path: &RelPath, outcome: Outcome, detail: &str) {
        if let Some(job) = work.job {
            let (tree, bytes) = (work.remedy.tree.clone(), Bytes::ZERO);
            let done = ItemDone { outcome, ..kept(tree, path.clone(), bytes, detail.to_owned()) };
            self.hub.with_jobs(|jobs| jobs.item(job, done));
        }
    }

    /// Puts on record which rows were changed: they are somebody else's, and a year later somebody asks.
    fn tell(&self, tree: &TreeId, change: Changed, rows: &[(RelPath, RowId)], who: &str) {
        if rows.is_empty() {
            return;
        }
        self.catalogues.changed();
        let catalogue = self.keeper.name().clone();
        let (word, inserted, removed) = match change {
            Changed::Inserted => ("inserted", rows.len() as u64, 0),
            Changed::Removed => ("removed", 0, rows.len() as u64),
        };
        let note = |(path, row): &(RelPath, RowId)| Entry::Note {
            kind: NoteKind::Rows,
            volume: None,
            tree: Some(tree.clone()),
            who: who.to_owned(),
            bytes: Bytes::ZERO,
            number: 0,
            // A path that is shown has no line of its own.
            text: format!("{}\nrow {row} of catalogue {catalogue} was {word}", path.show().0),
        };
        let notes = rows.iter().map(note).collect();
        if let Err(error) = self.hub.journal.append_synced(notes, self.hub.now()) {
            self.hub.record(&Event::Remark { text: chain(&error), urgent: true });
        }
        let (tree, who) = (tree.clone(), who.to_owned());
        self.hub.record(&Event::RowsChanged { catalogue, tree, inserted, removed, who });
    }
}

/// What became of rows.
#[derive(Debug, Clone, Copy)]
enum Changed {
    Inserted,
    Removed,
}

/// No catalogue lists it, each by a whole reading that began later: a row that came since would be in it.
fn unlisted(all: &[Known], tree: &TreeId, path: &RelPath, at: Timestamp) -> Result<bool, DatabaseError> {
    for known in all {
        if known.index.state()?.whole <= at || !known.index.rows_of(tree, path)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(!all.is_empty())
}

/// Why rows were not changed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// The catalogue's own store.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// Ours.
    #[error(transparent)]
    Findings(#[from] DatabaseError),
}
