//! What the index of a catalogue is asked.

use std::ops::ControlFlow;

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension as _, Row, params};

use super::catalogue_index::{CatalogueIndex, FolderNumber, IndexRow};
use super::catalogue_write::{id_value, parts};
use super::database::{DatabaseError, sql};
use crate::domain::catalogue::RowId;
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::path_set::{FolderSum, PathSet};
use crate::domain::units::Timestamp;

/// So many rows or folders are read at a time.
const PAGE: u32 = 2_000;

/// Rows of a folder, with their names one after the other.
#[derive(Default)]
struct Page {
    names: Vec<u8>,
    /// Where each name ends.
    rows: Vec<(usize, IndexRow)>,
}

/// A folder that was read.
type ReadFolder = (FolderNumber, Vec<u8>, FolderSum);

/// A digest of each name in a folder, to be asked whether it holds a name.
#[derive(Debug, Default)]
struct Names(Vec<u64>);

/// Hears of each row of a folder: the name in it, and what is known of it.
type EachRow<'e> = dyn FnMut(&[u8], IndexRow) -> Result<(), DatabaseError> + 'e;
/// The same, until it has heard enough.
type EachUntil<'e> = dyn FnMut(&[u8], IndexRow) -> Result<ControlFlow<()>, DatabaseError> + 'e;

impl CatalogueIndex {
    /// The number of a folder (`None`: the tree's top), and the sum of the distinct names that it holds; `None` if it is not known.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn find_folder(
        &self,
        tree: &TreeId,
        dir: Option<&RelPath>,
    ) -> Result<Option<(FolderNumber, FolderSum)>, DatabaseError> {
        self.read("find a folder", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, names, sum FROM folders WHERE tree = (SELECT id FROM trees WHERE name = ?1) AND path = ?2",
            )?;
            let path = dir.map_or(&[][..], RelPath::as_bytes);
            statement.query_row(params![tree.as_str(), path], |row| Ok((number(row)?, sum_of(row, 1)?))).optional()
        })
    }

    /// The rows of a folder, by rising name, then id. What is written meanwhile may be among them or not.
    ///
    /// # Errors
    /// What SQLite or `each` says.
    pub fn rows_in(&self, tree: &TreeId, dir: Option<&RelPath>, each: &mut EachRow<'_>) -> Result<(), DatabaseError> {
        match self.find_folder(tree, dir)? {
            Some((folder, _)) => self.rows_of_folder(folder, each),
            None => Ok(()),
        }
    }

    /// [`CatalogueIndex::rows_in`] by a folder's number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn rows_of_folder(&self, folder: FolderNumber, each: &mut EachRow<'_>) -> Result<(), DatabaseError> {
        self.walk(folder, &mut |name, row| {
            each(name, row)?;
            Ok(ControlFlow::Continue(()))
        })
        .map(drop)
    }

    fn walk(&self, folder: FolderNumber, each: &mut EachUntil<'_>) -> Result<ControlFlow<()>, DatabaseError> {
        let mut last: Option<(Vec<u8>, RowId)> = None;
        let mut page = Page::default();
        loop {
            self.read_page(folder, last.take(), &mut page)?;
            let full = page.rows.len() == PAGE as usize;
            let mut begin = 0;
            for (end, row) in page.rows.drain(..) {
                let name = &page.names[begin..end];
                last = Some((name.to_vec(), row.id.clone())).filter(|_| full && end == page.names.len());
                if each(name, row)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                begin = end;
            }
            if !full {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    fn read_page(
        &self,
        folder: FolderNumber,
        after: Option<(Vec<u8>, RowId)>,
        page: &mut Page,
    ) -> Result<(), DatabaseError> {
        page.names.clear();
        page.rows.clear();
        self.read("read rows", |connection| {
            let mut first;
            let mut next;
            let mut rows = match &after {
                None => {
                    first = connection.prepare_cached(
                        "SELECT name, id, collect, start FROM rows WHERE folder = ?1 ORDER BY name, id LIMIT ?2",
                    )?;
                    first.query(params![folder.0, PAGE])?
                }
                Some((name, id)) => {
                    next = connection.prepare_cached(
                        "SELECT name, id, collect, start FROM rows WHERE folder = ?1 AND (name, id) > (?3, ?4)
                         ORDER BY name, id LIMIT ?2",
                    )?;
                    next.query(params![folder.0, PAGE, name, id_value(id)])?
                }
            };
            while let Some(row) = rows.next()? {
                page.names.extend_from_slice(row.get_ref(0)?.as_blob()?);
                page.rows.push((page.names.len(), index_row(row, 1)?));
            }
            Ok(())
        })
    }

    /// Every folder of a tree that it knows names in, with their sum, in constant memory.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn folders(
        &self,
        tree: &TreeId,
        each: &mut dyn FnMut(Option<RelPath>, FolderSum),
    ) -> Result<(), DatabaseError> {
        self.numbered_folders(tree, &mut |_, dir, sum| {
            each(dir, sum);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// [`CatalogueIndex::folders`] with their numbers, until `each` says that it has heard enough, or fails.
    ///
    /// # Errors
    /// What SQLite or `each` says.
    pub fn numbered_folders(
        &self,
        tree: &TreeId,
        each: &mut dyn FnMut(FolderNumber, Option<RelPath>, FolderSum) -> Result<ControlFlow<()>, DatabaseError>,
    ) -> Result<(), DatabaseError> {
        let mut last: Option<Vec<u8>> = None;
        loop {
            let page = self.folder_page(tree, last.as_deref())?;
            let full = page.len() == PAGE as usize;
            for (number, path, sum) in page {
                let dir = if path.is_empty() { None } else { Some(rel_path(&path)?) };
                last = Some(path);
                if each(number, dir, sum)?.is_break() {
                    return Ok(());
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    fn folder_page(&self, tree: &TreeId, after: Option<&[u8]>) -> Result<Vec<ReadFolder>, DatabaseError> {
        self.read("read folders", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, path, names, sum FROM folders WHERE tree = (SELECT id FROM trees WHERE name = ?1)
                 AND path >= ?2 AND names > 0 ORDER BY path LIMIT ?3",
            )?;
            // No path ends with a NUL, so this is the first one that comes after.
            let from = after.map_or_else(Vec::new, |after| [after, b"\0"].concat());
            let rows = statement.query_map(params![tree.as_str(), from, PAGE], |row| {
                Ok((number(row)?, row.get(1)?, sum_of(row, 2)?))
            })?;
            rows.collect()
        })
    }

    /// Whether the names in a folder are those that its sum was made of.
    ///
    /// # Errors
    /// If they are not, the file was damaged; and what SQLite says.
    pub fn check_folder(&self, folder: FolderNumber) -> Result<(), DatabaseError> {
        let key = self.key();
        self.read("check a folder", |connection| {
            let mut found = FolderSum::default();
            let mut statement = connection.prepare_cached("SELECT DISTINCT name FROM rows WHERE folder = ?1")?;
            let mut rows = statement.query([folder.0])?;
            while let Some(row) = rows.next()? {
                found.add(key.digest(row.get_ref(0)?.as_blob()?));
            }
            let mut statement = connection.prepare_cached("SELECT names, sum FROM folders WHERE id = ?1")?;
            let noted = statement.query_row([folder.0], |row| sum_of(row, 0)).optional()?.unwrap_or_default();
            if noted == found { Ok(()) } else { Err(damaged("the names of a folder are not those that were entered")) }
        })
    }

    /// The rows of a path.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn rows_of(&self, tree: &TreeId, path: &RelPath) -> Result<Vec<IndexRow>, DatabaseError> {
        self.read("read the rows of a path", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, collect, start FROM rows WHERE name = ?3 AND folder =
                 (SELECT id FROM folders WHERE tree = (SELECT id FROM trees WHERE name = ?1) AND path = ?2) ORDER BY id",
            )?;
            let (dir, name) = parts(path);
            statement.query_map(params![tree.as_str(), dir, name], |row| index_row(row, 0))?.collect()
        })
    }

    /// The recordings of a tree that a person wants kept.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn favourites(&self, tree: &TreeId) -> Result<PathSet, DatabaseError> {
        self.favourites_with(tree, &|_| None)
    }

    /// [`CatalogueIndex::favourites`], with what else each of them keeps: the directory that it goes with.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn favourites_with(
        &self,
        tree: &TreeId,
        also: &dyn Fn(&RelPath) -> Option<RelPath>,
    ) -> Result<PathSet, DatabaseError> {
        self.read("read favourites", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT f.path, r.name FROM folders f JOIN rows r INDEXED BY collected ON r.folder = f.id
                 WHERE f.tree = (SELECT id FROM trees WHERE name = ?1) AND r.collect",
            )?;
            let mut rows = statement.query([tree.as_str()])?;
            let mut failed = None;
            let paths = std::iter::from_fn(|| match next_path(&mut rows) {
                Ok(path) => path,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
            let set = PathSet::new(self.key(), paths.flat_map(|path| also(&path).into_iter().chain([path])));
            failed.map_or(Ok(set), Err)
        })
    }

    /// Some rows, evenly from all: `most` of them at most.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn sample(&self, most: usize) -> Result<Vec<RowId>, DatabaseError> {
        let rows = usize::try_from(self.state()?.counts.rows).unwrap_or(usize::MAX);
        let wanted = most.min(rows);
        let mut out = Vec::with_capacity(wanted);
        let (mut folder, mut before) = (0, 0usize);
        // Row number `i * rows / wanted` of all, for each `i`: folder by folder, since a folder knows how many names it has. Names with several
        // rows count once here; what that leaves over at the end is left out.
        while out.len() < wanted {
            let Some((number, names)) = self.next_folder(folder)? else { break };
            let here = |i: usize| {
                let at = u128::try_from(i).unwrap_or(0) * rows as u128 / wanted as u128;
                usize::try_from(at).unwrap_or(usize::MAX).checked_sub(before).filter(|at| *at < names)
            };
            let offsets: Vec<usize> = (out.len()..wanted).map_while(here).collect();
            self.read("read a sample", |connection| {
                let mut statement =
                    connection.prepare_cached("SELECT id FROM rows WHERE folder = ?1 ORDER BY name, id")?;
                let mut found = statement.query([number])?;
                let mut at = 0;
                for offset in offsets {
                    let mut row = found.next()?;
                    while at < offset && row.is_some() {
                        row = found.next()?;
                        at += 1;
                    }
                    at += 1;
                    if let Some(row) = row {
                        out.push(row_id(row, 0)?);
                    }
                }
                Ok(())
            })?;
            (folder, before) = (number, before.saturating_add(names));
        }
        Ok(out)
    }

    fn next_folder(&self, after: i64) -> Result<Option<(i64, usize)>, DatabaseError> {
        self.read("read folders", |connection| {
            let mut statement = connection
                .prepare_cached("SELECT id, names FROM folders WHERE id > ?1 AND names > 0 ORDER BY id LIMIT 1")?;
            let found = statement.query_row([after], |row| {
                let names = row.get::<_, i64>(1)?;
                Ok((row.get(0)?, usize::try_from(names).unwrap_or(0)))
            });
            found.optional()
        })
    }

    /// Paths that this index knows and `newer` does not, until `each` says that it has heard enough.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn lost_to(
        &self,
        newer: &Self,
        each: &mut dyn FnMut(&TreeId, &RelPath) -> ControlFlow<()>,
    ) -> Result<(), DatabaseError> {
        let trees: Vec<String> = self.read("read trees", |connection| {
            connection
                .prepare_cached("SELECT name FROM trees ORDER BY name")?
                .query_map([], |row| row.get(0))?
                .collect()
        })?;
        let mut theirs = Names::default();
        for tree in trees.iter().map(|name| TreeId::new(name)) {
            let mut enough = ControlFlow::Continue(());
            self.numbered_folders(&tree, &mut |number, dir, sum| {
                let known = newer.find_folder(&tree, dir.as_ref())?;
                if self.key() == newer.key() && known.is_some_and(|(_, known)| known == sum) {
                    return Ok(ControlFlow::Continue(()));
                }
                theirs.0.clear();
                if let Some((known, _)) = known {
                    newer.rows_of_folder(known, &mut |name, _| {
                        theirs.0.push(self.key().digest(name));
                        Ok(())
                    })?;
                }
                theirs.0.sort_unstable();
                let mut last = None;
                enough = self.walk(number, &mut |name, _| {
                    let digest = self.key().digest(name);
                    let again = last.replace(digest) == Some(digest);
                    if again || theirs.0.binary_search(&digest).is_ok() {
                        return Ok(ControlFlow::Continue(()));
                    }
                    Ok(match RelPath::within(dir.as_ref(), name) {
                        Ok(path) => each(&tree, &path),
                        Err(_) => ControlFlow::Continue(()),
                    })
                })?;
                Ok(enough)
            })?;
            if enough.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn next_path(rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<Option<RelPath>> {
    let Some(row) = rows.next()? else { return Ok(None) };
    let (dir, name) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
    let path = if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() };
    RelPath::new(&path).map(Some).map_err(|_| damaged("a path is none"))
}

fn number(row: &Row<'_>) -> rusqlite::Result<FolderNumber> {
    row.get(0).map(FolderNumber)
}

fn sum_of(row: &Row<'_>, at: usize) -> rusqlite::Result<FolderSum> {
    let get = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(FolderSum { names: get(at)?, sum: get(at + 1)? })
}

fn index_row(row: &Row<'_>, at: usize) -> rusqlite::Result<IndexRow> {
    let start = row.get::<_, Option<i64>>(at + 2)?.map(Timestamp::from_millis);
    Ok(IndexRow { id: row_id(row, at)?, collect: row.get(at + 1)?, start })
}

/// What a row is known by.
pub(super) fn row_id(row: &Row<'_>, at: usize) -> rusqlite::Result<RowId> {
    match row.get_ref(at)? {
        ValueRef::Integer(number) => Ok(RowId::Number(number)),
        ValueRef::Text(text) => Ok(RowId::Text(String::from_utf8_lossy(text).into_owned())),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Err(damaged("a row's id is none")),
    }
}

fn rel_path(bytes: &[u8]) -> Result<RelPath, DatabaseError> {
    sql("read a folder", RelPath::new(bytes).map_err(|_| damaged("a folder's path is none")))
}

/// The file does not hold what was written.
pub(super) fn damaged(what: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(what.to_owned()))
}
