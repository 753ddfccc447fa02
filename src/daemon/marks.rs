//! Holds with their files: each file that a person holds bears a mark, so that a state that is lost, or a backup that is restored without
//! it, still protects. Only in trees that are enforced; the state alone protects in others.
//!
//! 1. Holds whose time is over end, by a clock that may be behind.
//! 2. After each scan, and each change of holds: marks of ended holds are taken off, then files that are held get theirs.
//! 3. What a platform marks as a favourite is held too, in the platform's name, as long as it says so: one hold a tree, made anew when
//!    the favourites change. While the catalogue is not believed the last one stays.
//! 4. Of a directory that goes as one, any one segment bears the mark: whoever would delete the directory looks at all of them.

use std::io;

use super::tree::TreeWatch;
use super::volume::VolumeWorker;
use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::domain::hold::{Holds, reach_of};
use crate::domain::journal::{Entry, GUARD};
use crate::domain::path::RelPath;
use crate::domain::protection::{HOLD_ATTRIBUTE, Hold, HoldScope};
use crate::domain::retention::Mode;
use crate::reclaim::Stop;
use crate::store::{Journal, JournalError, is_mark_of, mark_of};
use crate::system::{Aside, DirEntry, HeldFile, any_segment, list_unit};

/// Why a hold ended by itself.
const OVER: &str = "its time is over";
/// Who holds what a platform marks as a favourite. No person bears a name with a space.
const PLATFORM: &str = "the platform";
/// Why.
const FAVOURITES: &str = "favourites of the platform (`collect`)";
/// Why the hold of earlier favourites ended.
const OTHERS: &str = "the platform's favourites are others now";

impl VolumeWorker {
    /// Ends the holds whose time is over.
    ///
    /// # Errors
    /// If the journal cannot be written: then they go on.
    pub(super) fn end_holds(&mut self) -> Result<(), JournalError> {
        if !self.writes {
            return Ok(());
        }
        let (now, book) = (self.now(), self.catalogues.holds.clone());
        book.keep();
        let earliest = self.clock.skew().at(now).earliest;
        for tree in &self.trees {
            for hold in book.of(&tree.policy.tree).iter().filter(|hold| !hold.in_effect(earliest)) {
                self.journal().append_synced(vec![Entry::hold(hold, GUARD, Some(OVER))], now)?;
                book.end(hold.id, now);
                let ended = Some(OVER.to_owned());
                self.emit(Event::Held { hold: hold.clone(), ended, who: GUARD.to_owned() });
            }
        }
        Ok(())
    }

    /// Holds what platforms mark as favourites, where that changed.
    ///
    /// # Errors
    /// If the journal cannot be written: then the earlier hold stays.
    fn hold_favourites(&mut self) -> Result<(), JournalError> {
        let (now, book) = (self.now(), self.catalogues.holds.clone());
        for index in 0..self.trees.len() {
            let tree = &self.trees[index];
            let usable = tree.policy.mode == Mode::Enforce && tree.fault.is_none() && tree.inventory().complete();
            let Some(said) = tree.favourites_of.clone().filter(|_| usable && tree.scanned()) else { continue };
            let as_of = (tree.inventory().started, said);
            if tree.mirrored_as_of.as_ref() == Some(&as_of) {
                continue;
            }
            let name = tree.policy.tree.clone();
            let held = book.of(&name).iter().find(|hold| hold.who == PLATFORM).cloned();
            let wanted = tree.favourites_there();
            let known = held.as_ref().is_some_and(|hold| hold.scope == HoldScope::Paths(wanted.clone()));
            if !known && !wanted.is_empty() {
                let hold = Hold {
                    id: book.next(),
                    tree: name,
                    scope: HoldScope::Paths(wanted.clone()),
                    reason: FAVOURITES.to_owned(),
                    who: PLATFORM.to_owned(),
                    made: now,
                    until: None,
                };
                self.journal().append_synced(vec![Entry::hold(&hold, GUARD, None)], now)?;
                book.add(hold.clone());
                self.emit(Event::Held { hold, ended: None, who: GUARD.to_owned() });
            }
            if let Some(hold) = held.filter(|_| !known) {
                self.journal().append_synced(vec![Entry::hold(&hold, GUARD, Some(OTHERS))], now)?;
                book.end(hold.id, now);
                self.emit(Event::Held { hold, ended: Some(OTHERS.to_owned()), who: GUARD.to_owned() });
            }
            self.trees[index].mirrored_as_of = Some(as_of);
        }
        Ok(())
    }

    /// Lets files bear the marks of what persons hold now, where that is new.
    pub(super) fn mark_holds(&mut self, stop: Stop<'_>) {
        let whole = self.reading.as_ref().is_ok_and(|reading| !reading.readonly);
        if !self.writes || !whole {
            return;
        }
        if let Err(error) = self.hold_favourites() {
            let text =
                format!("{}; favourites are protected as their catalogue says, and by no hold yet", chain(&error));
            self.emit(Event::Remark { text, urgent: false });
        }
        let journal = self.engine.journal.clone();
        let mut said = Vec::new();
        for tree in &mut self.trees {
            let usable = tree.policy.mode == Mode::Enforce && tree.fault.is_none() && tree.scanned();
            let as_of = (tree.inventory().started, tree.holds.revision());
            if !usable || tree.held_as_of == Some(as_of) {
                continue;
            }
            let Some(failed) = tree.mark(&journal, stop) else { return };
            tree.held_as_of = Some(as_of);
            // The same after each scan is no news.
            if failed.is_some() && failed != tree.unmarked {
                said.extend(failed.clone());
            }
            tree.unmarked = failed;
        }
        said.into_iter().for_each(|text| self.emit(Event::Remark { text, urgent: false }));
    }
}

/// What became of the marks of one hold.
#[derive(Default)]
struct Marking {
    failed: usize,
    first: Option<String>,
}

impl Marking {
    fn take(&mut self, path: &RelPath, result: io::Result<()>) {
        if let Err(error) = result {
            self.failed += 1;
            self.first.get_or_insert_with(|| format!("`{path}`: {error}"));
        }
    }
}

impl Marking {
    /// The files of a hold cannot be listed.
    fn unread(&mut self, hold: &Hold, error: &io::Error) -> Vec<RelPath> {
        self.failed += 1;
        self.first.get_or_insert_with(|| format!("{}: {error}", hold.scope.words()));
        Vec::new()
    }
}

impl TreeWatch {
    /// The recordings that are there and that persons want kept, as the tree's catalogues say, in order.
    fn favourites_there(&self) -> Vec<RelPath> {
        if self.favourites.is_empty() {
            return Vec::new();
        }
        let inventory = self.inventory();
        let there = inventory.files().filter(|seen| !self.gone().contains(seen.index));
        let paths = there.map(|seen| inventory.path(seen.index));
        let mut out: Vec<RelPath> = paths.filter(|path| self.favourites.contains(path)).collect();
        out.sort();
        out
    }

    /// Takes marks off and sets them. Gives what could not be done, in words; nothing if it was told to stop.
    fn mark(&self, journal: &Journal, stop: Stop<'_>) -> Option<Option<String>> {
        let holds = self.holds.of(&self.policy.tree);
        let mut all = Marking::default();
        for hold in self.holds.ended(&self.policy.tree) {
            let mut marking = Marking::default();
            let files = self.files_of(&hold, true).unwrap_or_else(|error| marking.unread(&hold, &error));
            for path in files {
                if stop() {
                    return None;
                }
                marking.take(&path, self.unmark(&path, &hold, &holds, journal));
            }
            if marking.failed == 0 {
                self.holds.let_go(hold.id);
            }
            all.failed += marking.failed;
            all.first = all.first.or(marking.first);
        }
        for hold in holds.iter() {
            let files = self.files_of(hold, false).unwrap_or_else(|error| all.unread(hold, &error));
            // What files may bear is on record first: else a crash would leave marks that nobody takes off.
            if files.is_empty() || !self.holds.mark(hold.id) {
                continue;
            }
            for path in files {
                if stop() {
                    return None;
                }
                all.take(&path, self.set_mark(&path, hold, &holds, journal));
            }
        }
        let Marking { failed, first } = all;
        Some(first.map(|first| {
            format!(
                "tree {}: {failed} files do not bear their hold, or bear one that has ended ({first}); what the state holds is protected all the same",
                self.policy.tree
            )
        }))
    }

    /// The files that bear the mark of a hold, or, with `all`, that may bear it.
    fn files_of(&self, hold: &Hold, all: bool) -> io::Result<Vec<RelPath>> {
        let inventory = self.inventory();
        let recordings: Vec<RelPath> = match &hold.scope {
            HoldScope::Paths(paths) => paths.clone(),
            HoldScope::Span { stream, .. } => {
                let Some(of) = inventory.streams().iter().position(|name| name == stream) else {
                    return Ok(Vec::new());
                };
                let seen = inventory.files().filter(|seen| seen.stream.0 as usize == of);
                let reached = seen.filter(|seen| hold.scope.reached_by(reach_of(inventory, seen)));
                reached.map(|seen| inventory.path(seen.index)).collect()
            }
        };
        if !self.policy.layout.has_units() {
            return Ok(recordings);
        }
        let (dir, layout) = (self.dir.as_ref(), &self.policy.layout);
        let mut out = Vec::new();
        for unit in recordings {
            let found = if all {
                let mut each = |hour: &RelPath, entry: &DirEntry, _| out.push(hour.join(&entry.name));
                list_unit(dir, layout, &unit, inventory.started, &mut each).map(|_| None)
            } else {
                any_segment(dir, layout, &unit)
            };
            match found {
                Ok(found) => out.extend(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    /// Opens a file under its name, or where it lies in quarantine.
    fn open_held(&self, path: &RelPath, journal: &Journal) -> io::Result<Option<Box<dyn HeldFile>>> {
        if let Some(file) = self.dir.open(path)? {
            return Ok(Some(file));
        }
        let asides: Vec<_> = journal.with_history(|history| {
            let aside = history.quarantined_in(&self.policy.tree).filter(|(_, one)| one.target.path == *path);
            aside.map(|(seq, one)| (seq, one.target.inode)).collect()
        });
        for (seq, inode) in asides {
            for aside in [Aside::Private(seq.0), self.dir.beside(path, seq.0)] {
                if let Some(file) = self.dir.open_aside(&aside)?
                    && file.identity()?.inode == inode
                {
                    return Ok(Some(file));
                }
            }
        }
        Ok(None)
    }

    fn set_mark(&self, path: &RelPath, hold: &Hold, holds: &Holds, journal: &Journal) -> io::Result<()> {
        let Some(file) = self.open_held(path, journal)? else { return Ok(()) };
        if let Some(found) = file.attribute(HOLD_ATTRIBUTE)? {
            let others = holds.iter().any(|other| is_mark_of(&found, other));
            // A state that was lost, or somebody else, held it. Whoever names this very file takes that over; a span does not.
            let foreign = !self.holds.knows(&self.policy.tree, &found);
            if others || (foreign && matches!(hold.scope, HoldScope::Span { .. })) {
                return Ok(());
            }
        }
        file.set_attribute(HOLD_ATTRIBUTE, &mark_of(hold))
    }

    /// Takes the mark of a hold off a file; another that covers the file gets its place with the next step.
    fn unmark(&self, path: &RelPath, hold: &Hold, holds: &Holds, journal: &Journal) -> io::Result<()> {
        let Some(file) = self.open_held(path, journal)? else { return Ok(()) };
        match file.attribute(HOLD_ATTRIBUTE)? {
            Some(found) if is_mark_of(&found, hold) => {}
            Some(_) | None => return Ok(()),
        }
        // Never bare between the two.
        match holds.naming(path).next() {
            Some(other) => file.set_attribute(HOLD_ATTRIBUTE, &mark_of(other)),
            None => file.remove_attribute(HOLD_ATTRIBUTE),
        }
    }
}
