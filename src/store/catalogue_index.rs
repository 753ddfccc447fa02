//! The index of one catalogue: one SQLite file, rebuilt by every whole reading, that says folder by folder which recordings should
//! exist. It may be lost: the next whole reading makes it again.
//!
//! Invariants:
//! - a folder's sum is that of its distinct names, in every state that a reader can see: who reads a folder's rows can tell whether the file
//!   was damaged ([`CatalogueIndex::check_folder`]);
//! - one lock, never held while a caller's closure runs: rows are read and handed over some thousands at a time;
//! - memory depends neither on the number of rows nor on that of folders.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, TransactionBehavior, params};

use super::catalogue_file;
use super::catalogue_write::Folders;
use super::database::{DatabaseError, sql};
use crate::domain::catalogue::{RowCounts, RowId};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::path_set::{DigestKey, FolderSum};
use crate::domain::units::Timestamp;

/// A row, as the index keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// What its source knows it by.
    pub id: RowId,
    /// A person wants the recording kept.
    pub collect: bool,
    /// When the recording begins, as far as the source says.
    pub start: Option<Timestamp>,
}

/// What an index says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexState {
    /// Its rows.
    pub counts: RowCounts,
    /// What is on disk and older than this should be in it: the start of the last reading that was believed.
    pub as_of: Timestamp,
    /// The start of the last whole reading.
    pub whole: Timestamp,
    /// The highest number of a row; new rows have higher ones.
    pub last: Option<i64>,
    /// A person accepted it as it is.
    pub accepted: bool,
}

/// A folder of an index. Numbers are small, and a folder keeps its own as long as the file lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderNumber(pub(super) u32);

impl FolderNumber {
    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// The index of one catalogue. It may be used from several threads.
#[derive(Debug)]
pub struct CatalogueIndex {
    inner: Mutex<Inner>,
    key: DigestKey,
}

/// What the lock guards.
#[derive(Debug)]
struct Inner {
    connection: Connection,
    folders: Folders,
    /// Where it is being built; `None` once it took its place, and in memory.
    building: Option<PathBuf>,
}

impl CatalogueIndex {
    /// Opens the index in `path`; `None` if there is none, or none that this version and this key can use.
    ///
    /// # Errors
    /// What SQLite or the system says.
    pub fn open(path: &Path, key: DigestKey) -> Result<Option<Self>, DatabaseError> {
        Ok(catalogue_file::open(path, key)?.map(|connection| Self::new(connection, key, None)))
    }

    /// Makes an empty index in `path`, instead of what is there; without a path, in memory. Until it takes its place nothing of it is durable.
    ///
    /// # Errors
    /// What SQLite or the system says.
    pub fn create(path: Option<&Path>, key: DigestKey) -> Result<Self, DatabaseError> {
        Ok(Self::new(catalogue_file::create(path, key)?, key, path.map(Path::to_owned)))
    }

    fn new(connection: Connection, key: DigestKey, building: Option<PathBuf>) -> Self {
        Self { inner: Mutex::new(Inner { connection, folders: Folders::default(), building }), key }
    }

    /// Takes the place of the index in `path`, durably; both stay usable until they are dropped. `path` becomes a link to the file, whose
    /// name begins with `path`.
    ///
    /// # Errors
    /// What the system says: then the old one is still in its place. An index in memory, or one that took its place, cannot.
    pub fn take_place(&self, path: &Path) -> Result<(), DatabaseError> {
        let mut inner = self.lock();
        let from = inner.building.clone().ok_or_else(|| catalogue_file::no_file(path))?;
        sql("end an index", inner.connection.execute_batch("COMMIT"))?;
        let placed = catalogue_file::take_place(&from, path);
        if placed.is_err() {
            // It is built on.
            sql("go on with an index", inner.connection.execute_batch("BEGIN IMMEDIATE"))?;
        }
        inner.connection = placed?;
        inner.folders.forget();
        inner.building = None;
        Ok(())
    }

    /// Removes the index in `path`, with what was left of earlier ones; that there is none is no error. One that is open stays usable.
    ///
    /// # Errors
    /// What the system says.
    pub fn discard(path: &Path) -> Result<(), DatabaseError> {
        catalogue_file::discard(path)
    }

    /// The key of its digests.
    #[must_use]
    pub fn key(&self) -> DigestKey {
        self.key
    }

    /// Enters rows, all or none. A row that is known by its id at the same path is replaced.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put(&self, rows: &[(TreeId, RelPath, IndexRow)]) -> Result<(), DatabaseError> {
        self.write("enter rows", |connection, folders| folders.put(connection, self.key, rows))
    }

    /// Forgets rows, all or none; that there is none is no error.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn remove(&self, rows: &[(TreeId, RelPath, RowId)]) -> Result<(), DatabaseError> {
        self.write("forget rows", |connection, folders| folders.remove(connection, self.key, rows))
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn state(&self) -> Result<IndexState, DatabaseError> {
        self.read("read its state", |connection| {
            let mut statement = connection
                .prepare_cached("SELECT total, collect, foreign_rows, bad, as_of, whole, last, accepted FROM state")?;
            statement.query_row([], |row| {
                let count = |at| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
                let counts = RowCounts { rows: count(0)?, collect: count(1)?, foreign: count(2)?, bad: count(3)? };
                let at = |at| row.get(at).map(Timestamp::from_millis);
                Ok(IndexState { counts, as_of: at(4)?, whole: at(5)?, last: row.get(6)?, accepted: row.get(7)? })
            })
        })
    }

    /// Notes what it says of itself, durably. `counts.rows` and `counts.collect` are its own and ignored.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn set_state(&self, state: &IndexState) -> Result<(), DatabaseError> {
        self.write("note its state", |connection, _| {
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            connection
                .prepare_cached(
                    "UPDATE state SET foreign_rows = ?1, bad = ?2, as_of = ?3, whole = ?4, last = ?5, accepted = ?6",
                )?
                .execute(params![
                    count(state.counts.foreign),
                    count(state.counts.bad),
                    state.as_of.millis(),
                    state.whole.millis(),
                    state.last,
                    state.accepted
                ])
                .map(drop)
        })
    }

    /// How many distinct paths it knows in a tree.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn paths_in(&self, tree: &TreeId) -> Result<u64, DatabaseError> {
        self.read("count paths", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT coalesce(sum(names), 0) FROM folders WHERE tree = (SELECT id FROM trees WHERE name = ?1)",
            )?;
            statement.query_row([tree.as_str()], |row| row.get(0)).map(i64::cast_unsigned)
        })
    }

    /// The sum of the distinct names that it knows in a folder (`None`: the tree's top).
    ///
    /// # Errors
    /// What SQLite says.
    pub fn folder(&self, tree: &TreeId, dir: Option<&RelPath>) -> Result<FolderSum, DatabaseError> {
        Ok(self.find_folder(tree, dir)?.map(|(_, sum)| sum).unwrap_or_default())
    }

    /// Does something with the connection, alone.
    pub(super) fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        sql(action, work(&self.lock().connection))
    }

    /// Changes something, all or nothing.
    fn write<T>(
        &self,
        action: &'static str,
        work: impl Fn(&Connection, &mut Folders) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        let mut inner = self.lock();
        let Inner { connection, folders, building } = &mut *inner;
        let mut attempt = |connection: &mut Connection| {
            let done = change(connection, building.is_some(), |connection| {
                folders.refresh(connection)?;
                let done = work(connection, folders)?;
                folders.flush(connection)?;
                Ok(done)
            });
            if done.is_err() {
                folders.forget();
            }
            done
        };
        let mut done = attempt(connection);
        if done.as_ref().is_err_and(catalogue_file::displaced) {
            // Another took its place, so its file has no name any more, and a journal beside it would protect nothing.
            sql(action, connection.execute_batch("PRAGMA journal_mode=MEMORY"))?;
            done = attempt(connection);
        }
        sql(action, done)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|error| {
            // Whoever panicked left no open transaction, but perhaps sums that were not written.
            let mut inner = PoisonError::into_inner(error);
            inner.folders.forget();
            self.inner.clear_poison();
            inner
        })
    }
}

/// Changes something, all or nothing. While an index is built, all of it is one transaction, and this a part of that: pages are written once,
/// and not once for each part.
fn change<T>(
    connection: &mut Connection,
    building: bool,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    if building {
        let part = connection.savepoint()?;
        let done = work(&part)?;
        part.commit()?;
        Ok(done)
    } else {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

#[cfg(test)]
#[path = "catalogue_index_tests.rs"]
mod tests;
