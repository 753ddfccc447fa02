//! Rows go into the index of a catalogue and out of it, and the folders' sums with them.
//!
//! Rows come by rising number from hundreds of streams at once. So the folders that were written last are remembered with their sums and
//! their highest names: a row whose name is higher is new without a look, and a sum is written once for many rows.

use std::collections::HashMap;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::catalogue_index::IndexRow;
use super::catalogue_read::row_id;
use crate::domain::catalogue::RowId;
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::path_set::{DigestKey, FolderSum};

/// So many folders are remembered between writes.
const REMEMBERED: usize = 10_000;

/// Folders that were written last. Between two writes nothing in it is changed.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// SQLite's number for what others have written.
    version: i64,
    /// The number of each tree, and where its folders stand in `folders`.
    places: HashMap<TreeId, (i64, Places)>,
    folders: Vec<Folder>,
    /// By how many rows it grew.
    rows: i64,
    /// By how many rows that a person wants kept.
    collect: i64,
}

/// By path.
type Places = HashMap<Box<[u8]>, usize>;

#[derive(Debug)]
struct Folder {
    number: i64,
    sum: FolderSum,
    changed: bool,
    /// No name in it is higher.
    highest: Vec<u8>,
}

/// The folder and the name of a path; the tree's top is the empty folder.
pub(super) fn parts(path: &RelPath) -> (&[u8], &[u8]) {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&[], bytes),
    }
}

/// What a row is known by, as SQLite keeps it: numbers sort before texts there too.
pub(super) fn id_value(id: &RowId) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match id {
        RowId::Number(number) => ValueRef::Integer(*number),
        RowId::Text(text) => ValueRef::Text(text.as_bytes()),
    })
}

impl Folders {
    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Forgets what may not be true any more, and what would be too much.
    pub(super) fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if version != self.version || self.folders.len() > REMEMBERED {
            self.forget();
            self.version = version;
        }
        Ok(())
    }

    /// Writes what changed.
    pub(super) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("UPDATE folders SET names = ?2, sum = ?3 WHERE id = ?1")?;
        for folder in self.folders.iter_mut().filter(|folder| folder.changed) {
            let FolderSum { names, sum } = folder.sum;
            statement.execute(params![folder.number, names.cast_signed(), sum.cast_signed()])?;
            folder.changed = false;
        }
        if (self.rows, self.collect) != (0, 0) {
            connection
                .prepare_cached("UPDATE state SET total = total + ?1, collect = collect + ?2")?
                .execute([std::mem::take(&mut self.rows), std::mem::take(&mut self.collect)])?;
        }
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        connection: &Connection,
        key: DigestKey,
        rows: &[(TreeId, RelPath, IndexRow)],
    ) -> rusqlite::Result<()> {
        // By folder and name, so that neighbours are written one after the other; of equal ones the last stays last.
        let mut order = Vec::with_capacity(rows.len());
        for (tree, path, row) in rows {
            let (dir, name) = parts(path);
            let at = self.make(connection, tree, dir)?;
            order.push((self.folders[at].number, name, at, row));
        }
        order.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let mut insert = connection.prepare_cached(
            "INSERT OR REPLACE INTO rows(folder, name, id, collect, start) VALUES(?1, ?2, ?3, ?4, ?5)",
        )?;
        for (number, name, at, row) in order {
            let folder = &mut self.folders[at];
            let mut known = false;
            let mut replaced = None;
            if name > &folder.highest[..] {
                folder.highest.clear();
                folder.highest.extend_from_slice(name);
            } else {
                (known, replaced) = find(connection, number, name, &row.id)?;
            }
            let start = row.start.map(|start| start.millis());
            insert.execute(params![number, name, id_value(&row.id), row.collect, start])?;
            if !known {
                folder.sum.add(key.digest(name));
                folder.changed = true;
            }
            self.rows += i64::from(replaced.is_none());
            self.collect += i64::from(row.collect) - i64::from(replaced.unwrap_or(false));
        }
        Ok(())
    }

    pub(super) fn remove(
        &mut self,
        connection: &Connection,
        key: DigestKey,
        rows: &[(TreeId, RelPath, RowId)],
    ) -> rusqlite::Result<()> {
        for (tree, path, id) in rows {
            let (dir, name) = parts(path);
            let Some(at) = self.get(connection, tree, dir)? else { continue };
            let number = self.folders[at].number;
            let (_, Some(collect)) = find(connection, number, name, id)? else { continue };
            connection
                .prepare_cached("DELETE FROM rows WHERE folder = ?1 AND name = ?2 AND id = ?3")?
                .execute(params![number, name, id_value(id)])?;
            if !find(connection, number, name, id)?.0 {
                let folder = &mut self.folders[at];
                folder.sum.remove(key.digest(name));
                folder.changed = true;
            }
            self.rows -= 1;
            self.collect -= i64::from(collect);
        }
        Ok(())
    }

    /// Where a folder is remembered; makes one that is not there.
    fn make(&mut self, connection: &Connection, tree: &TreeId, dir: &[u8]) -> rusqlite::Result<usize> {
        if let Some(at) = self.get(connection, tree, dir)? {
            return Ok(at);
        }
        connection.prepare_cached("INSERT OR IGNORE INTO trees(name) VALUES(?1)")?.execute([tree.as_str()])?;
        let number = self.tree(connection, tree)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        connection
            .prepare_cached("INSERT INTO folders(tree, path, names, sum) VALUES(?1, ?2, 0, 0)")?
            .execute(params![number, dir])?;
        let folder = Folder {
            number: connection.last_insert_rowid(),
            sum: FolderSum::default(),
            changed: false,
            highest: Vec::new(),
        };
        Ok(self.remember(tree, dir, folder))
    }

    /// Where a folder is remembered; `None` if there is none.
    fn get(&mut self, connection: &Connection, tree: &TreeId, dir: &[u8]) -> rusqlite::Result<Option<usize>> {
        let Some(number) = self.tree(connection, tree)? else { return Ok(None) };
        if let Some(at) = self.places.get(tree).and_then(|(_, places)| places.get(dir)) {
            return Ok(Some(*at));
        }
        let found = connection
            .prepare_cached(
                "SELECT id, names, sum, (SELECT name FROM rows WHERE folder = folders.id ORDER BY name DESC LIMIT 1)
                 FROM folders WHERE tree = ?1 AND path = ?2",
            )?
            .query_row(params![number, dir], |row| {
                let sum = FolderSum {
                    names: row.get::<_, i64>(1)?.cast_unsigned(),
                    sum: row.get::<_, i64>(2)?.cast_unsigned(),
                };
                let highest = row.get::<_, Option<Vec<u8>>>(3)?.unwrap_or_default();
                Ok(Folder { number: row.get(0)?, sum, changed: false, highest })
            })
            .optional()?;
        Ok(found.map(|folder| self.remember(tree, dir, folder)))
    }

    /// The number of a tree.
    fn tree(&mut self, connection: &Connection, tree: &TreeId) -> rusqlite::Result<Option<i64>> {
        if let Some((number, _)) = self.places.get(tree) {
            return Ok(Some(*number));
        }
        let mut statement = connection.prepare_cached("SELECT id FROM trees WHERE name = ?1")?;
        let number = statement.query_row([tree.as_str()], |row| row.get(0)).optional()?;
        if let Some(number) = number {
            self.places.insert(tree.clone(), (number, Places::new()));
        }
        Ok(number)
    }

    fn remember(&mut self, tree: &TreeId, dir: &[u8], folder: Folder) -> usize {
        let at = self.folders.len();
        self.folders.push(folder);
        if let Some((_, places)) = self.places.get_mut(tree) {
            places.insert(dir.into(), at);
        }
        at
    }
}

/// Whether a name has rows, and whether a person wants the one with this id kept, if it is among them.
fn find(connection: &Connection, folder: i64, name: &[u8], id: &RowId) -> rusqlite::Result<(bool, Option<bool>)> {
    let mut statement = connection.prepare_cached("SELECT id, collect FROM rows WHERE folder = ?1 AND name = ?2")?;
    let mut rows = statement.query(params![folder, name])?;
    let mut known = false;
    while let Some(row) = rows.next()? {
        known = true;
        if row_id(row, 0)? == *id {
            return Ok((true, Some(row.get(1)?)));
        }
    }
    Ok((known, None))
}
