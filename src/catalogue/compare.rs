//! Compares what a scan found with what the catalogues of its tree know, folder by folder.
//!
//! 1. What cannot be compared is not: an incomplete scan, an empty tree, a catalogue that knows nothing of a full one.
//! 2. The digests of a folder's names are summed up. A catalogue with the same sum for it knows just these names, and is asked no further.
//! 3. Where sums differ, the names that the catalogues know there are looked up among the digests. Files that nobody asked for are unknown; a
//!    row that finds no file is missing, if a look at the tree does not find its file either.
//! 4. Folders that only catalogues know are gone through.
//! 5. All findings count at once.
//!
//! A recording that is a directory is known if a catalogue knows it, or any file in it; a row counts as there as long as its directory is.
//!
//! Memory: eight bytes for each file of the folder at hand, one bit for each folder of a catalogue, and the paths of recordings that are
//! directories. Wherever a digest decides, an accident
//! lets a file live, and a row stay.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;

use super::keeper::Known;
use crate::domain::catalogue::RowId;
use crate::domain::names::CatalogueId;
use crate::domain::orphan::{Missing, Orphan, OrphanKind, Playable, Verdict};
use crate::domain::path::RelPath;
use crate::domain::path_set::{DigestKey, FolderSum};
use crate::domain::recording::{FileIndex, FilledFolder, Gone, Inventory, Kind};
use crate::store::{DatabaseError, Findings, FolderNumber, Round};
use crate::system::Dir;

/// What is compared.
pub struct Comparison<'a> {
    /// What a complete scan found.
    pub inventory: &'a Inventory,
    /// What of it is there no more.
    pub gone: &'a Gone,
    /// All catalogues of the tree, each believed. A file is known if any of them knows it.
    pub known: &'a [Known],
    /// The tree: before a row is called missing, its file is looked for.
    pub dir: &'a dyn Dir,
    /// Where findings go.
    pub findings: &'a Findings,
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The findings are up to date.
    Compared {
        /// Folders that differed, and so were looked at name by name.
        folders: u64,
        /// Recordings that no catalogue knows.
        unknown: u64,
        /// Rows without a file, those that we deleted ourselves included.
        missing: u64,
    },
    /// A catalogue that can prove absence knows nothing of a tree with recordings (and nobody accepted that): no finding was changed.
    Suspicious(CatalogueId),
    /// The tree is empty, and catalogues know recordings in it: no finding was changed.
    EmptyTree,
    /// The scan did not see everything, no catalogue was given, or whoever asked wants no more: no finding was changed.
    Incomplete,
}

/// Compares. Memory is bounded whatever the size of tree and catalogue. `go_on` is asked before each folder.
///
/// # Errors
/// What SQLite says, or that the tree cannot be read: no finding was changed.
pub fn compare(what: &Comparison<'_>, go_on: &mut dyn FnMut() -> bool) -> Result<Outcome, DatabaseError> {
    let inventory = what.inventory;
    if !inventory.complete() || what.known.is_empty() {
        return Ok(Outcome::Incomplete);
    }
    let recordings = inventory.files().any(|file| file.kind == Kind::Recording);
    let mut any = false;
    for known in what.known {
        let knows = known.index.paths_in(&inventory.tree)? > 0;
        if recordings && !knows && known.kind.proves_absence() && !known.index.state()?.accepted {
            return Ok(Outcome::Suspicious(known.name.clone()));
        }
        any |= knows;
    }
    if any && !recordings {
        return Ok(Outcome::EmptyTree);
    }
    let mut looking = Looking::begin(what)?;
    for folder in inventory.folders() {
        if !go_on() {
            return Ok(Outcome::Incomplete);
        }
        looking.compare_folder(&folder)?;
    }
    if looking.compare_others(go_on)?.is_break() {
        return Ok(Outcome::Incomplete);
    }
    looking.sight_units()?;
    looking.finish()
}

/// Enters every unfinished file of a complete scan, and `strays` of a lost state, as what may be left over; `false` if the scan was not complete, and nothing was changed.
///
/// # Errors
/// What SQLite says: no finding was changed.
pub fn sight_leftovers(
    inventory: &Inventory,
    gone: &Gone,
    strays: &[Orphan],
    findings: &Findings,
) -> Result<bool, DatabaseError> {
    if !inventory.complete() {
        return Ok(false);
    }
    let mut round = findings.begin(&inventory.tree, OrphanKind::Leftover, inventory.started)?;
    for file in inventory.files().filter(|file| file.kind == Kind::Unfinished && !gone.contains(file.index)) {
        round.sight(sighted(inventory, file.index, OrphanKind::Leftover))?;
    }
    for stray in strays {
        round.sight(stray.clone())?;
    }
    round.finish()?;
    Ok(true)
}

/// A comparison that goes on.
struct Looking<'a> {
    what: &'a Comparison<'a>,
    round: Round<'a>,
    catalogues: Vec<Catalogue<'a>>,
    here: Here,
    units: Units,
    folders: u64,
    unknown: u64,
    missing: u64,
}

/// One catalogue of the tree.
struct Catalogue<'a> {
    known: &'a Known,
    /// Which of its folders the scan knows too: one bit a folder.
    visited: Vec<u64>,
    /// The folder at hand.
    folder: Option<(FolderNumber, FolderSum)>,
}

/// The finished recordings of the folder at hand.
struct Here {
    /// The key of the digests.
    key: DigestKey,
    sum: FolderSum,
    /// The digests of their names; sorted once they are asked.
    digests: Vec<u64>,
    /// Which of them were asked for: one bit each.
    known: Vec<u64>,
    name: Vec<u8>,
}

/// What a row needs to be called missing.
struct Misses<'a, 'f> {
    what: &'a Comparison<'a>,
    catalogue: &'a CatalogueId,
    dir: Option<&'a RelPath>,
    /// The folder is not there, so its files need not be looked for.
    gone: bool,
    round: &'a mut Round<'f>,
    count: u64,
}

impl<'a> Looking<'a> {
    fn begin(what: &'a Comparison<'a>) -> Result<Self, DatabaseError> {
        let inventory = what.inventory;
        let round = what.findings.begin(&inventory.tree, OrphanKind::Uncatalogued, inventory.started)?;
        let catalogue = |known| Catalogue { known, visited: Vec::new(), folder: None };
        let catalogues = what.known.iter().map(catalogue).collect();
        let key = what.known.first().map_or(DigestKey(0), |known| known.index.key());
        let units = Units::of(inventory);
        Ok(Self { what, round, catalogues, here: Here::new(key), units, folders: 0, unknown: 0, missing: 0 })
    }

    /// Steps 2 and 3 for a folder of the scan.
    fn compare_folder(&mut self, folder: &FilledFolder<'_>) -> Result<(), DatabaseError> {
        let inventory = self.what.inventory;
        let dir = folder.path();
        // What is unfinished there is judged by itself.
        if dir.as_ref().is_some_and(|dir| self.units.holds(dir).is_some()) {
            return Ok(());
        }
        self.here.fill(inventory, self.what.gone, folder);
        let (mut all, mut some) = (true, false);
        for catalogue in &mut self.catalogues {
            catalogue.folder = catalogue.known.index.find_folder(&inventory.tree, dir.as_ref())?;
            if let Some((number, _)) = catalogue.folder {
                set(&mut catalogue.visited, number.get());
            }
            let same = catalogue.knows_just(&self.here);
            all &= same;
            some |= same;
        }
        if all {
            return Ok(());
        }
        self.folders += 1;
        self.here.sort();
        for catalogue in &self.catalogues {
            let differing = catalogue.folder.filter(|_| !catalogue.knows_just(&self.here));
            let Some((number, sum)) = differing else { continue };
            let (what, round) = (self.what, &mut self.round);
            let misses =
                Misses { what, catalogue: &catalogue.known.name, dir: dir.as_ref(), gone: false, round, count: 0 };
            self.missing += catalogue.ask(number, sum, &mut self.here, misses)?;
        }
        if some {
            return Ok(());
        }
        for file in recordings(inventory, self.what.gone, folder) {
            if !self.here.asked_for(inventory, file) {
                self.unknown += 1;
                self.round.sight(sighted(inventory, file, OrphanKind::Uncatalogued))?;
            }
        }
        Ok(())
    }

    /// Step 4.
    fn compare_others(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<ControlFlow<()>, DatabaseError> {
        let (what, round, here, units) = (self.what, &mut self.round, &mut self.here, &mut self.units);
        here.clear();
        let tree = &what.inventory.tree;
        let mut ended = ControlFlow::Continue(());
        for (at, catalogue) in self.catalogues.iter().enumerate() {
            catalogue.known.index.numbered_folders(tree, &mut |number, dir, sum| {
                if !go_on() {
                    ended = ControlFlow::Break(());
                    return Ok(ended);
                }
                if is_set(&catalogue.visited, number.get()) {
                    return Ok(ControlFlow::Continue(()));
                }
                if let Some(known) = dir.as_ref().and_then(|dir| units.holds(dir)) {
                    *known = true;
                    return Ok(ControlFlow::Continue(()));
                }
                let mut counted = false;
                for other in &self.catalogues[..at] {
                    counted |= other.known.index.find_folder(tree, dir.as_ref())?.is_some();
                }
                self.folders += u64::from(!counted);
                // One look at a folder that is gone spares one at each of its files.
                let read = what.dir.read(dir.as_ref(), &mut |_| ());
                let gone = dir.is_some() && read.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
                let (catalogue_name, round) = (&catalogue.known.name, &mut *round);
                let misses = Misses { what, catalogue: catalogue_name, dir: dir.as_ref(), gone, round, count: 0 };
                self.missing += catalogue.ask(number, sum, here, misses)?;
                Ok(ControlFlow::Continue(()))
            })?;
            if ended.is_break() {
                break;
            }
        }
        Ok(ended)
    }

    /// Recordings that are directories, and that no catalogue knows anything of.
    fn sight_units(&mut self) -> Result<(), DatabaseError> {
        let inventory = self.what.inventory;
        let unknown = self.units.0.iter().filter(|(_, (file, known))| !known && !self.what.gone.contains(*file));
        for (path, (file, _)) in unknown {
            let mut named = false;
            for catalogue in &self.catalogues {
                named |= !catalogue.known.index.rows_of(&inventory.tree, path)?.is_empty();
            }
            if !named {
                self.unknown += 1;
                self.round.sight(sighted(inventory, *file, OrphanKind::Uncatalogued))?;
            }
        }
        Ok(())
    }

    /// Step 5.
    fn finish(self) -> Result<Outcome, DatabaseError> {
        // What was looked for in a tree that is another by now was not looked for at all.
        if self.missing > 0
            && let Err(why) = self.what.dir.still_there()
        {
            let source = io::Error::other(why.to_string());
            return Err(DatabaseError::File { action: "look into", path: self.what.dir.path().to_owned(), source });
        }
        self.round.finish()?;
        Ok(Outcome::Compared { folders: self.folders, unknown: self.unknown, missing: self.missing })
    }
}

/// Recordings that are directories, and whether a catalogue knows any file of each.
struct Units(HashMap<RelPath, (FileIndex, bool)>);

impl Units {
    fn of(inventory: &Inventory) -> Self {
        Self(inventory.units().map(|unit| (inventory.path(unit), (unit, false))).collect())
    }

    /// Whether the one is known that a folder is, or lies in.
    fn holds(&mut self, folder: &RelPath) -> Option<&mut bool> {
        if self.0.is_empty() {
            return None;
        }
        let unit = if self.0.contains_key(folder) { folder.clone() } else { folder.split().0? };
        self.0.get_mut(&unit).map(|(_, known)| known)
    }
}

impl Catalogue<'_> {
    /// It knows every file of the folder at hand, and nothing else there.
    fn knows_just(&self, here: &Here) -> bool {
        self.known.index.key() == here.key && self.folder.map(|(_, sum)| sum).unwrap_or_default() == here.sum
    }

    /// Asks for the files of all its rows in a folder; says how many rows have none.
    fn ask(
        &self,
        folder: FolderNumber,
        sum: FolderSum,
        here: &mut Here,
        mut misses: Misses<'_, '_>,
    ) -> Result<u64, DatabaseError> {
        let (mut read, mut last) = (FolderSum::default(), None);
        self.known.index.rows_of_folder(folder, &mut |name, row| {
            let digest = here.key.digest(name);
            // Rows of one name come one after the other.
            if last.replace(digest) != Some(digest) {
                read.add(digest);
            }
            if !here.ask(digest) {
                misses.look(name, row.id)?;
            }
            Ok(())
        })?;
        if read != sum && self.known.index.key() == here.key {
            // Rows came or went meanwhile, or the file is damaged: then no finding of it is to be believed.
            self.known.index.check_folder(folder)?;
        }
        Ok(misses.count)
    }
}

impl Here {
    fn new(key: DigestKey) -> Self {
        Self { key, sum: FolderSum::default(), digests: Vec::new(), known: Vec::new(), name: Vec::new() }
    }

    fn clear(&mut self) {
        self.sum = FolderSum::default();
        self.digests.clear();
        self.known.clear();
    }

    /// Reads the names of a folder.
    fn fill(&mut self, inventory: &Inventory, gone: &Gone, folder: &FilledFolder<'_>) {
        self.clear();
        for file in recordings(inventory, gone, folder) {
            inventory.write_name(file, &mut self.name);
            let digest = self.key.digest(&self.name);
            self.sum.add(digest);
            self.digests.push(digest);
        }
    }

    /// Makes ready to be asked.
    fn sort(&mut self) {
        self.digests.sort_unstable();
    }

    /// Whether there is a file with this digest of its name; it is known from now on.
    fn ask(&mut self, digest: u64) -> bool {
        let found = self.digests.binary_search(&digest);
        if let Ok(at) = found {
            set(&mut self.known, at);
        }
        found.is_ok()
    }

    /// Whether a file was asked for.
    fn asked_for(&mut self, inventory: &Inventory, file: FileIndex) -> bool {
        inventory.write_name(file, &mut self.name);
        // Of equal digests it finds the same one that `ask` has found.
        self.digests.binary_search(&self.key.digest(&self.name)).is_ok_and(|at| is_set(&self.known, at))
    }
}

/// The recordings of a folder that are still there: their names are summed, and each that no row names is sighted.
fn recordings<'i>(
    inventory: &'i Inventory,
    gone: &'i Gone,
    folder: &FilledFolder<'i>,
) -> impl Iterator<Item = FileIndex> + 'i {
    let there = |file: &FileIndex| {
        let seen = inventory.get(*file);
        seen.kind == Kind::Recording && !seen.unit && !gone.contains(*file)
    };
    folder.files().filter(there)
}

impl Misses<'_, '_> {
    /// Looks for the file of a row that the scan did not find: it may be newer, or the layout may hide it.
    fn look(&mut self, name: &[u8], row: RowId) -> Result<(), DatabaseError> {
        // A name that is none was never entered.
        let Ok(path) = RelPath::within(self.dir, name) else { return Ok(()) };
        // A look that fails proves nothing, so the file counts as there.
        if self.gone || self.what.dir.look(&path).is_ok_and(|found| found.is_none()) {
            self.count += 1;
            let (tree, catalogue) = (self.what.inventory.tree.clone(), self.catalogue.clone());
            self.round.miss(Missing { tree, path, catalogue, row })?;
        }
        Ok(())
    }
}

/// A file as it goes into the findings.
fn sighted(inventory: &Inventory, index: FileIndex, kind: OrphanKind) -> Orphan {
    let file = inventory.get(index);
    Orphan {
        tree: inventory.tree.clone(),
        path: inventory.path(index),
        stream: inventory.stream(file.stream).as_str().to_owned(),
        kind,
        bytes: file.bytes,
        inode: file.inode,
        fingerprint: file.fingerprint,
        touched: file.touched(),
        first_seen: inventory.started,
        verdict: Verdict::default(),
        playable: Playable::Unknown,
    }
}

fn set(bits: &mut Vec<u64>, at: usize) {
    if bits.len() <= at / 64 {
        bits.resize(at / 64 + 1, 0);
    }
    bits[at / 64] |= 1 << (at % 64);
}

fn is_set(bits: &[u64], at: usize) -> bool {
    bits.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
}
