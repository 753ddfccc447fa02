//! One look at a tree, until its findings count.

use rusqlite::params;

use super::catalogue_write::id_value;
use super::database::DatabaseError;
use super::findings::{CHUNK, Findings, live, was_reclaimed};
use super::orphan_rows;
use crate::domain::names::TreeId;
use crate::domain::orphan::{Missing, Orphan, OrphanKind};
use crate::domain::units::Timestamp;

/// One look at a tree: what it sees replaces what was known of that kind, once it is finished. Dropped, it leaves all as it was.
#[derive(Debug)]
pub struct Round<'f> {
    findings: &'f Findings,
    tree: TreeId,
    kind: OrphanKind,
    scan: Timestamp,
    slot: i64,
    orphans: Vec<Orphan>,
    missing: Vec<Missing>,
    finished: bool,
}

impl<'f> Round<'f> {
    pub(super) fn new(findings: &'f Findings, tree: &TreeId, kind: OrphanKind, scan: Timestamp, slot: i64) -> Self {
        let (orphans, missing) = (Vec::new(), Vec::new());
        Self { findings, tree: tree.clone(), kind, scan, slot, orphans, missing, finished: false }
    }

    /// A file that may be an orphan. What is known of the same file (path, inode, fingerprint) keeps its `first_seen`, verdict and
    /// playability; another file of that name begins anew, with `first_seen` at this scan.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn sight(&mut self, seen: Orphan) -> Result<(), DatabaseError> {
        self.orphans.push(seen);
        self.flush(CHUNK)
    }

    /// A row whose file is not there; in a look for uncatalogued ones. One that we deleted ourselves is not kept.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn miss(&mut self, row: Missing) -> Result<(), DatabaseError> {
        self.missing.push(row);
        self.flush(CHUNK)
    }

    /// What was not seen again is forgotten; all of it at once, or nothing.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn finish(mut self) -> Result<(), DatabaseError> {
        self.flush(1)?;
        self.findings.write("end a look", |transaction| {
            transaction
                .prepare_cached("UPDATE slots SET live = 0 WHERE tree = ?1 AND kind = ?2 AND live")?
                .execute([self.tree.as_str(), self.kind.as_str()])?;
            let done = transaction.prepare_cached("UPDATE slots SET live = 1 WHERE id = ?1")?.execute([self.slot])?;
            // The tree was forgotten meanwhile.
            if done == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(done)) }
        })?;
        self.finished = true;
        // It counts by now. What cannot be cleared away is cleared away by the next look, or at the next start.
        let _ = self.findings.clear_away(|tree, kind| (tree, kind) == (&self.tree, self.kind));
        Ok(())
    }

    fn flush(&mut self, at_least: usize) -> Result<(), DatabaseError> {
        if self.orphans.len() + self.missing.len() < at_least {
            return Ok(());
        }
        let (tree, slot) = (&self.tree, self.slot);
        self.findings.write("note what was found", |transaction| {
            let known = live(transaction, tree, self.kind)?;
            for seen in &self.orphans {
                orphan_rows::enter(transaction, slot, known, seen, self.scan)?;
            }
            for row in &self.missing {
                if !was_reclaimed(transaction, tree, &row.path)? {
                    transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO missing(slot, path, catalogue, id) VALUES(?1, ?2, ?3, ?4)",
                        )?
                        .execute(params![slot, row.path.as_bytes(), row.catalogue.as_str(), id_value(&row.row)])?;
                }
            }
            Ok(())
        })?;
        self.orphans.clear();
        self.missing.clear();
        Ok(())
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // If this fails, the next start does it.
            let _ = self.findings.clear_slot(self.slot);
        }
    }
}
