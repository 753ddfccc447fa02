//! The verified copies of recordings that are still in their trees: those that wait to go, and those that were brought back.
//!
//! It can be lost: then a recording is copied again, and the copy that is there already is found and compared. What has gone is not in
//! here; the journal tells of it, and the archive holds it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Row, params};

use super::database::{Database, DatabaseError};
use crate::domain::archive::{ArchivedCopy, ArchivedOf, Digest, key_of};
use crate::domain::layout::{Layout, LayoutKind};
use crate::domain::names::{ArchiveId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;

type ByTree = BTreeMap<TreeId, Arc<ArchivedOf>>;

/// All of them.
#[derive(Debug, Default)]
pub struct ArchiveBook {
    database: Option<Arc<Database>>,
    kept: Mutex<ByTree>,
}

impl ArchiveBook {
    /// What the database kept.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open(database: Arc<Database>) -> Result<Self, DatabaseError> {
        let mut kept = BTreeMap::<TreeId, ArchivedOf>::new();
        for copy in database.archived()? {
            kept.entry(copy.tree.clone()).or_default().insert(Arc::new(copy));
        }
        let kept = kept.into_iter().map(|(tree, of)| (tree, Arc::new(of))).collect();
        Ok(Self { database: Some(database), kept: Mutex::new(kept) })
    }

    fn lock(&self) -> MutexGuard<'_, ByTree> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a tree.
    #[must_use]
    pub fn of(&self, tree: &TreeId) -> Arc<ArchivedOf> {
        self.lock().get(tree).cloned().unwrap_or_default()
    }

    /// Of an archive with this layout: the keys of copies whose recordings are still in their trees, and were not brought back.
    #[must_use]
    pub fn awaited(&self, layout: &Layout) -> HashSet<RelPath> {
        if layout.kind() != LayoutKind::Archive {
            return HashSet::new();
        }
        let kept = self.lock();
        kept.iter().flat_map(|(tree, of)| of.awaited().map(|path| key_of(tree, path)).collect::<Vec<_>>()).collect()
    }

    /// Enters a copy that was verified, or brought back. What the database cannot keep counts until the guard ends.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn enter(&self, copy: ArchivedCopy) -> Result<(), DatabaseError> {
        let copy = Arc::new(copy);
        Arc::make_mut(self.lock().entry(copy.tree.clone()).or_default()).insert(copy.clone());
        self.database.as_ref().map_or(Ok(()), |database| database.keep_archived(&copy))
    }

    /// Forgets those of a tree whose recordings are there no more, as `there` says.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn forget(&self, tree: &TreeId, there: impl Fn(&ArchivedCopy) -> bool) -> Result<(), DatabaseError> {
        let gone = match self.lock().get_mut(tree) {
            Some(of) => Arc::make_mut(of).retain(there),
            None => return Ok(()),
        };
        let Some(database) = &self.database else { return Ok(()) };
        gone.iter().try_for_each(|copy| database.forget_archived(copy))
    }
}

impl Database {
    fn keep_archived(&self, copy: &ArchivedCopy) -> Result<(), DatabaseError> {
        self.with("keep what was archived", |connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO archived(tree, path, archive, stream, recorded, size, digest, verified, inode,
                         fingerprint, restored) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    copy.tree.as_str(),
                    copy.path.as_bytes(),
                    copy.archive.as_str(),
                    copy.stream,
                    copy.recorded.millis(),
                    copy.size.cast_signed(),
                    copy.digest.to_string(),
                    copy.verified.millis(),
                    copy.source.0.cast_signed(),
                    copy.source.1.cast_signed(),
                    copy.restored.map(Timestamp::millis),
                ])
                .map(drop)
        })
    }

    fn forget_archived(&self, copy: &ArchivedCopy) -> Result<(), DatabaseError> {
        self.with("forget what was archived", |connection| {
            connection
                .prepare_cached(
                    "DELETE FROM archived WHERE tree = ?1 AND path = ?2 AND inode = ?3 AND fingerprint = ?4",
                )?
                .execute(params![
                    copy.tree.as_str(),
                    copy.path.as_bytes(),
                    copy.source.0.cast_signed(),
                    copy.source.1.cast_signed()
                ])
                .map(drop)
        })
    }

    fn archived(&self) -> Result<Vec<ArchivedCopy>, DatabaseError> {
        self.with("read what was archived", |connection| {
            let mut statement = connection.prepare("SELECT * FROM archived")?;
            let rows = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(rows.into_iter().flatten().collect())
        })
    }
}

/// What cannot be read is copied again.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<ArchivedCopy>> {
    let path = RelPath::new(row.get_ref("path")?.as_bytes()?);
    let digest = Digest::parse(row.get_ref("digest")?.as_str()?);
    let (Ok(path), Some(digest)) = (path, digest) else { return Ok(None) };
    Ok(Some(ArchivedCopy {
        archive: ArchiveId::new(row.get_ref("archive")?.as_str()?),
        tree: TreeId::new(row.get_ref("tree")?.as_str()?),
        path,
        stream: row.get("stream")?,
        recorded: Timestamp::from_millis(row.get("recorded")?),
        size: row.get::<_, i64>("size")?.cast_unsigned(),
        digest,
        verified: Timestamp::from_millis(row.get("verified")?),
        source: (row.get::<_, i64>("inode")?.cast_unsigned(), row.get::<_, i64>("fingerprint")?.cast_unsigned()),
        restored: row.get::<_, Option<i64>>("restored")?.map(Timestamp::from_millis),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_is_known_again_until_its_recording_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let opened = Database::open(&folder.path().join("guard.db")).unwrap();
            ArchiveBook::open(Arc::new(opened.database)).unwrap()
        };
        let copy = |name: &str, inode| ArchivedCopy {
            archive: ArchiveId::new("cold"),
            tree: TreeId::new("live"),
            path: RelPath::new(name.as_bytes()).unwrap(),
            stream: "cam".to_owned(),
            recorded: Timestamp::from_secs(1),
            size: 7,
            digest: Digest([3; 32]),
            verified: Timestamp::from_secs(2),
            source: (inode, u64::MAX - inode),
            restored: None,
        };
        let waiting = |book: &ArchiveBook| book.of(&TreeId::new("live")).waiting();
        let book = open();
        book.enter(copy("a.mp4", 1)).unwrap();
        book.enter(copy("b.mp4", 2)).unwrap();
        assert_eq!((waiting(&book), book.of(&TreeId::new("other")).is_empty()), (2, true));
        drop(book);
        let book = open();
        assert_eq!(waiting(&book), 2);
        book.forget(&TreeId::new("live"), |copy| copy.source.0 == 2).unwrap();
        book.enter(ArchivedCopy { restored: Some(Timestamp::from_secs(9)), ..copy("c.mp4", 3) }).unwrap();
        drop(book);
        let of = open().of(&TreeId::new("live"));
        assert_eq!((of.waiting(), of.is_empty()), (1, false), "one waits, one was brought back");
    }
}
