//! What comparisons found: orphans and those that may become some, missing files, and which recordings we deleted while a catalogue
//! may still list them. One SQLite file; if it is lost, whatever is found has to wait for its grace anew.
//!
//! Invariants:
//! - what a look finds is written beside what is known, some thousands at a time, and begins to count in one small step at its end: readers
//!   never wait for a whole look, and never see half of one;
//! - what is forgotten is forgotten in looks that go on too;
//! - one lock, never held while a caller's closure runs.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::catalogue_read::row_id;
use super::catalogue_write::id_value;
use super::database::{DatabaseError, sql};
use super::findings_file;
use super::orphan_rows::{self, ORPHAN, orphan, state_values};
use super::round::Round;
use crate::domain::catalogue::RowId;
use crate::domain::deletion::Seq;
use crate::domain::names::{CatalogueId, TreeId};
use crate::domain::orphan::{Missing, Orphan, OrphanKind, Playable, Verdict};
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::units::{Bytes, Timestamp};

/// So many are read, written or forgotten at a time.
pub(super) const CHUNK: usize = 2_000;
/// Samples of growth are kept so long; the oldest that is asked for is 30 hours old.
const GROWTH_KEPT: i64 = 31 * HOUR;
const HOUR: i64 = 3_600_000;
/// Key of the last entry of the journal that was taken into account.
const RECLAIMED: &str = "reclaimed_up_to";

/// Findings, open. They may be used from several threads.
#[derive(Debug)]
pub struct Findings {
    connection: Mutex<Connection>,
}

/// Which orphans are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrphanQuery {
    /// Of this tree only.
    pub tree: Option<TreeId>,
    /// Of this kind only.
    pub kind: Option<OrphanKind>,
    /// Proven ones only.
    pub proven: bool,
    /// After this one, in the order of tree, kind and path.
    pub after: Option<(TreeId, OrphanKind, RelPath)>,
    /// At most so many.
    pub limit: usize,
}

/// How many orphans of a kind a tree has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Proven ones.
    pub proven: Tally,
    /// The others.
    pub unproven: Tally,
}

impl Findings {
    /// Opens the file, or makes it. One that is damaged or of another version is made anew.
    ///
    /// # Errors
    /// What SQLite or the system says: [`Findings::memory`] then is what remains.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let findings = Self::new(findings_file::open(path)?);
        // What was not finished when the process ended, or not cleared away.
        findings.clear_away(|_, _| true)?;
        Ok(findings)
    }

    /// Findings in memory.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn memory() -> Result<Self, DatabaseError> {
        Ok(Self::new(findings_file::memory()?))
    }

    fn new(connection: Connection) -> Self {
        Self { connection: Mutex::new(connection) }
    }

    /// Begins a look at a tree for one kind. `scan` is when the scan began.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn begin(&self, tree: &TreeId, kind: OrphanKind, scan: Timestamp) -> Result<Round<'_>, DatabaseError> {
        let slot = self.write("begin a look", |transaction| {
            transaction
                .prepare_cached("INSERT INTO slots(tree, kind, live) VALUES(?1, ?2, 0)")?
                .execute(params![tree.as_str(), kind.as_str()])?;
            Ok(transaction.last_insert_rowid())
        })?;
        Ok(Round::new(self, tree, kind, scan, slot))
    }

    /// Asks for a verdict on each of a tree and kind, and keeps the answer; `None` leaves it as it was. The witnesses are kept in the order of
    /// [`crate::domain::orphan::Witness::ALL`].
    ///
    /// # Errors
    /// What SQLite says.
    pub fn judge(
        &self,
        tree: &TreeId,
        kind: OrphanKind,
        each: &mut dyn FnMut(&Orphan) -> Option<(Verdict, Playable)>,
    ) -> Result<(), DatabaseError> {
        let mut query =
            OrphanQuery { tree: Some(tree.clone()), kind: Some(kind), limit: CHUNK, ..OrphanQuery::default() };
        loop {
            let page = self.orphans(&query)?;
            let Some(last) = page.last() else { return Ok(()) };
            query.after = Some((tree.clone(), kind, last.path.clone()));
            let judged: Vec<_> = page.iter().filter_map(|orphan| Some((orphan, each(orphan)?))).collect();
            self.write("keep verdicts", |transaction| {
                let Some(slot) = live(transaction, tree, kind)? else { return Ok(()) };
                // Another file may have come under the name meanwhile; the verdict is not its.
                let mut statement = transaction.prepare_cached(
                    "UPDATE orphans SET witnesses = ?3, wanted = ?4, playable = ?5
                     WHERE slot = ?1 AND path = ?2 AND inode = ?6 AND fingerprint = ?7",
                )?;
                for (orphan, (verdict, playable)) in &judged {
                    let (witnesses, wanted, playable) = state_values(verdict, *playable);
                    let (inode, fingerprint) = (orphan.inode.cast_signed(), orphan.fingerprint.cast_signed());
                    let path = orphan.path.as_bytes();
                    statement.execute(params![slot, path, witnesses, wanted, playable, inode, fingerprint])?;
                }
                Ok(())
            })?;
            if page.len() < CHUNK {
                return Ok(());
            }
        }
    }

    /// How many of a kind a tree has.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn found(&self, tree: &TreeId, kind: OrphanKind) -> Result<Found, DatabaseError> {
        self.read("count orphans", |connection| {
            let Some(slot) = live(connection, tree, kind)? else { return Ok(Found::default()) };
            orphan_rows::count(connection, slot)
        })
    }

    /// A page of orphans.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn orphans(&self, query: &OrphanQuery) -> Result<Vec<Orphan>, DatabaseError> {
        self.read("read orphans", |connection| {
            let mut out = Vec::new();
            for (slot, tree, kind) in orphan_rows::slots(connection, true)? {
                if query.tree.as_ref().is_some_and(|wanted| *wanted != tree)
                    || query.kind.is_some_and(|wanted| wanted != kind)
                {
                    continue;
                }
                let after = match &query.after {
                    Some((last_tree, last_kind, _)) if (&tree, kind) < (last_tree, *last_kind) => continue,
                    Some((last_tree, last_kind, path)) if (&tree, kind) == (last_tree, *last_kind) => path.as_bytes(),
                    Some(_) | None => &[],
                };
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {ORPHAN} FROM orphans WHERE slot = ?1 AND path > ?2
                     AND (NOT ?3 OR (witnesses <> 0 AND wanted = 0)) ORDER BY path LIMIT ?4",
                ))?;
                let room = i64::try_from(query.limit.saturating_sub(out.len())).unwrap_or(i64::MAX);
                let mut rows = statement.query(params![slot, after, query.proven, room])?;
                while let Some(row) = rows.next()? {
                    out.push(orphan(row, &tree, kind)?);
                }
                if out.len() >= query.limit {
                    break;
                }
            }
            Ok(out)
        })
    }

    /// One orphan.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn orphan(&self, tree: &TreeId, kind: OrphanKind, path: &RelPath) -> Result<Option<Orphan>, DatabaseError> {
        self.read("read an orphan", |connection| {
            let Some(slot) = live(connection, tree, kind)? else { return Ok(None) };
            let mut statement =
                connection.prepare_cached(&format!("SELECT {ORPHAN} FROM orphans WHERE slot = ?1 AND path = ?2"))?;
            statement.query_row(params![slot, path.as_bytes()], |row| orphan(row, tree, kind)).optional()
        })
    }

    /// Forgets files that are no orphans any more: they are gone, set aside, or have a row now.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn forget(&self, tree: &TreeId, paths: &[RelPath]) -> Result<(), DatabaseError> {
        for some in paths.chunks(CHUNK) {
            self.write("forget orphans", |transaction| {
                some.iter().try_for_each(|path| orphan_rows::forget(transaction, tree, path))
            })?;
        }
        Ok(())
    }

    /// Forgets trees that are guarded no more.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn keep_only(&self, trees: &[TreeId]) -> Result<(), DatabaseError> {
        self.write("forget trees", |transaction| {
            for table in ["slots", "reclaimed", "growth"] {
                let mut all = transaction.prepare(&format!("SELECT DISTINCT tree FROM {table}"))?;
                let found: Vec<String> = all.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
                let step = match table {
                    // What hangs on a slot is cleared away afterwards, some at a time.
                    "slots" => "UPDATE slots SET live = 0 WHERE tree = ?1".to_owned(),
                    _ => format!("DELETE FROM {table} WHERE tree = ?1"),
                };
                let mut forget = transaction.prepare(&step)?;
                for tree in found.iter().filter(|name| !trees.iter().any(|tree| tree.as_str() == name.as_str())) {
                    forget.execute([tree])?;
                }
            }
            Ok(())
        })?;
        self.clear_away(|tree, _| !trees.contains(tree))
    }

    /// How many missing files a tree has, those that we deleted ourselves left out.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn missing_in(&self, tree: &TreeId) -> Result<u64, DatabaseError> {
        self.read("count missing files", |connection| {
            let Some(slot) = live(connection, tree, OrphanKind::Uncatalogued)? else { return Ok(0) };
            let mut statement = connection.prepare_cached("SELECT count(*) FROM missing WHERE slot = ?1")?;
            statement.query_row([slot], |row| row.get(0)).map(i64::cast_unsigned)
        })
    }

    /// A page of missing files, in the order of tree, path, catalogue and row, those that we deleted ourselves left out; `after` is the last
    /// one of the page before.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn missing(
        &self,
        tree: Option<&TreeId>,
        after: Option<&Missing>,
        limit: usize,
    ) -> Result<Vec<Missing>, DatabaseError> {
        self.read("read missing files", |connection| {
            let mut out = Vec::new();
            for (slot, of, kind) in orphan_rows::slots(connection, true)? {
                if kind != OrphanKind::Uncatalogued || tree.is_some_and(|tree| *tree != of) {
                    continue;
                }
                let first = RowId::Number(i64::MIN);
                let (path, catalogue, id) = match after {
                    Some(last) if of < last.tree => continue,
                    Some(last) if of == last.tree => (last.path.as_bytes(), last.catalogue.as_str(), &last.row),
                    Some(_) | None => (&[][..], "", &first),
                };
                let mut statement = connection.prepare_cached(
                    "SELECT path, catalogue, id FROM missing WHERE slot = ?1 AND (path, catalogue, id) > (?2, ?3, ?4)
                     ORDER BY path, catalogue, id LIMIT ?5",
                )?;
                let room = i64::try_from(limit.saturating_sub(out.len())).unwrap_or(i64::MAX);
                let mut rows = statement.query(params![slot, path, catalogue, id_value(id), room])?;
                while let Some(row) = rows.next()? {
                    let catalogue = CatalogueId::new(row.get_ref(1)?.as_str()?);
                    let path = orphan_rows::path(row, 0)?;
                    out.push(Missing { tree: of.clone(), path, catalogue, row: row_id(row, 2)? });
                }
                if out.len() >= limit {
                    break;
                }
            }
            Ok(out)
        })
    }

    /// Forgets missing files whose rows are gone.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn forget_missing(&self, rows: &[Missing]) -> Result<(), DatabaseError> {
        for some in rows.chunks(CHUNK) {
            self.write("forget missing files", |transaction| {
                let mut statement = transaction.prepare_cached(
                    "DELETE FROM missing WHERE slot IN (SELECT id FROM slots WHERE tree = ?1) AND path = ?2
                     AND catalogue = ?3 AND id = ?4",
                )?;
                for row in some {
                    let (tree, catalogue) = (row.tree.as_str(), row.catalogue.as_str());
                    statement.execute(params![tree, row.path.as_bytes(), catalogue, id_value(&row.row)])?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Notes recordings that we deleted, or set aside, up to an entry of the journal. They are no orphans and not missing any more.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn note_reclaimed(&self, paths: &[(TreeId, RelPath)], at: Timestamp, seq: Seq) -> Result<(), DatabaseError> {
        self.write("note what was deleted", |transaction| {
            for (tree, path) in paths {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO reclaimed(tree, path, at) VALUES(?1, ?2, ?3)")?
                    .execute(params![tree.as_str(), path.as_bytes(), at.millis()])?;
                orphan_rows::forget(transaction, tree, path)?;
                transaction
                    .prepare_cached(
                        "DELETE FROM missing WHERE slot IN (SELECT id FROM slots WHERE tree = ?1) AND path = ?2",
                    )?
                    .execute(params![tree.as_str(), path.as_bytes()])?;
            }
            transaction
                .prepare_cached("INSERT OR REPLACE INTO kv(key, value) VALUES(?1, ?2)")?
                .execute(params![RECLAIMED, seq.0.cast_signed()])
                .map(drop)
        })
    }

    /// The last entry of the journal that was taken into account.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn reclaimed_up_to(&self) -> Result<Seq, DatabaseError> {
        self.read("read what was deleted", |connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM kv WHERE key = ?1")?;
            let found = statement.query_row([RECLAIMED], |row| row.get::<_, i64>(0)).optional()?;
            Ok(Seq(found.unwrap_or(0).cast_unsigned()))
        })
    }

    /// Recordings of a tree that we deleted, the oldest first: `limit` of them at most, after the one given.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn reclaimed(
        &self,
        tree: &TreeId,
        after: Option<&(RelPath, Timestamp)>,
        limit: usize,
    ) -> Result<Vec<(RelPath, Timestamp)>, DatabaseError> {
        let (at, path) = after.map_or((i64::MIN, &[][..]), |(path, at)| (at.millis(), path.as_bytes()));
        self.read("read what was deleted", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT path, at FROM reclaimed WHERE tree = ?1 AND (at, path) > (?2, ?3) ORDER BY at, path LIMIT ?4",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![tree.as_str(), at, path, limit], |row| {
                Ok((orphan_rows::path(row, 0)?, Timestamp::from_millis(row.get(1)?)))
            })?;
            rows.collect()
        })
    }

    /// Whether we deleted it, as far as that is remembered.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn was_reclaimed(&self, tree: &TreeId, path: &RelPath) -> Result<bool, DatabaseError> {
        self.read("read what was deleted", |connection| was_reclaimed(connection, tree, path))
    }

    /// Forgets that we deleted them: no catalogue lists them any more, or they are there again.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn forget_reclaimed(&self, tree: &TreeId, paths: &[RelPath]) -> Result<(), DatabaseError> {
        for some in paths.chunks(CHUNK) {
            self.write("forget what was deleted", |transaction| {
                let mut statement =
                    transaction.prepare_cached("DELETE FROM reclaimed WHERE tree = ?1 AND path = ?2")?;
                some.iter().try_for_each(|path| statement.execute(params![tree.as_str(), path.as_bytes()]).map(drop))
            })?;
        }
        Ok(())
    }

    /// Notes how many bytes of proven orphans a tree has, and what was recorded since the last note.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn note_growth(
        &self,
        tree: &TreeId,
        orphans: Bytes,
        inflow: Bytes,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let bytes = |bytes: Bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX);
        self.write("note growth", |transaction| {
            // What is later than now was noted by a clock that was wrong.
            transaction
                .prepare_cached("DELETE FROM growth WHERE tree = ?1 AND (at < ?2 OR at > ?3)")?
                .execute(params![tree.as_str(), at.millis().saturating_sub(GROWTH_KEPT), at.millis()])?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO growth(tree, at, orphans, inflow) VALUES(?1, ?2, ?3, ?4)")?
                .execute(params![tree.as_str(), at.millis(), bytes(orphans), bytes(inflow)])
                .map(drop)
        })
    }

    /// By how much they have grown since the most of 24 to 30 hours ago, and what was recorded in the last 24 hours; `None` if nothing is
    /// known of then.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn growth(&self, tree: &TreeId, now: Timestamp) -> Result<Option<(Bytes, Bytes)>, DatabaseError> {
        self.read("read growth", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT (SELECT max(orphans) FROM growth WHERE tree = ?1 AND at BETWEEN ?3 AND ?4),
                        (SELECT orphans FROM growth WHERE tree = ?1 AND at <= ?2 ORDER BY at DESC LIMIT 1),
                        (SELECT coalesce(sum(inflow), 0) FROM growth WHERE tree = ?1 AND at > ?4 AND at <= ?2)",
            )?;
            let ago = |hours: i64| now.millis().saturating_sub(hours * HOUR);
            statement.query_row(params![tree.as_str(), now.millis(), ago(30), ago(24)], |row| {
                let bytes = |bytes: i64| Bytes(u64::try_from(bytes).unwrap_or(0));
                let (then, latest) = (row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?);
                let Some((then, latest)) = then.zip(latest) else { return Ok(None) };
                Ok(Some((bytes(latest).saturating_sub(bytes(then)), bytes(row.get(2)?))))
            })
        })
    }

    /// Deletes what belongs to looks of trees and kinds that are over or were never finished.
    pub(super) fn clear_away(&self, of: impl Fn(&TreeId, OrphanKind) -> bool) -> Result<(), DatabaseError> {
        let dead = self.read("look for what is over", |connection| orphan_rows::slots(connection, false))?;
        dead.iter().filter(|(_, tree, kind)| of(tree, *kind)).try_for_each(|(slot, ..)| self.clear_slot(*slot))
    }

    /// Deletes a slot and all that hangs on it, some at a time.
    pub(super) fn clear_slot(&self, slot: i64) -> Result<(), DatabaseError> {
        loop {
            let done = self.write("clear away what is over", |transaction| {
                let limit = i64::try_from(CHUNK).unwrap_or(i64::MAX);
                let mut gone = 0;
                for (table, key) in [("orphans", "path"), ("missing", "path, catalogue, id")] {
                    let step = format!(
                        "DELETE FROM {table} WHERE slot = ?1 AND ({key}) IN
                         (SELECT {key} FROM {table} WHERE slot = ?1 ORDER BY {key} LIMIT ?2)"
                    );
                    gone += transaction.prepare_cached(&step)?.execute([slot, limit])?;
                }
                if gone == 0 {
                    transaction.prepare_cached("DELETE FROM slots WHERE id = ?1")?.execute([slot])?;
                }
                Ok(gone == 0)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    pub(super) fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        // Whoever panicked left no open transaction: it is rolled back when it is dropped.
        sql(action, work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Changes something, all or nothing.
    pub(super) fn write<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let done = connection.transaction().and_then(|transaction| {
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        sql(action, done)
    }
}

/// What counts of a tree and kind.
pub(super) fn live(connection: &Connection, tree: &TreeId, kind: OrphanKind) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM slots WHERE tree = ?1 AND kind = ?2 AND live")?;
    statement.query_row([tree.as_str(), kind.as_str()], |row| row.get(0)).optional()
}

pub(super) fn was_reclaimed(connection: &Connection, tree: &TreeId, path: &RelPath) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM reclaimed WHERE tree = ?1 AND path = ?2")?;
    statement.exists(params![tree.as_str(), path.as_bytes()])
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
