//! Changes rows: those of recordings that are gone are removed, and rows are inserted for recordings that have none.

use super::keeper::{Keeper, Known, lock};
use super::source::RowsError;
use crate::domain::adoption::{Adopted, Adoption};
use crate::domain::catalogue::{CatalogueRow, Distrust, Place, RowId};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;
use crate::store::IndexRow;

/// Rows that are changed at a time. What is done of them is in the index before the next.
const AT_ONCE: usize = 500;

impl Keeper {
    /// Removes rows whose files are verified absent, from the source and from the index; gives those that are gone now, whoever removed them.
    /// One whose path in the source is not this recording's any more stays. Hook records are forgotten.
    ///
    /// # Errors
    /// If the source refuses or does not answer; chunks before that are done.
    pub fn remove_rows(&self, rows: &[(TreeId, RelPath, RowId)]) -> Result<Vec<(TreeId, RelPath, RowId)>, RowsError> {
        let mut source = lock(&self.source);
        let table = source.rows().ok_or_else(|| self.only_read("remove rows"))?;
        let mut gone = Vec::new();
        for chunk in rows.chunks(AT_ONCE) {
            let asked: Vec<_> = chunk.iter().filter_map(|row| Some((row.2.number()?, row))).collect();
            let ids: Vec<i64> = asked.iter().map(|(id, _)| *id).collect();
            let paths: std::collections::HashMap<i64, Vec<u8>> = table.paths(&ids)?.into_iter().collect();
            let ours = |id: i64, tree: &TreeId, path: &RelPath| {
                let place = |found: &Vec<u8>| self.placing.place(&row(id, found.clone()));
                paths.get(&id).filter(|found| place(found) == Place::Tree(tree.clone(), path.clone()))
            };
            let wanted: Vec<_> =
                asked.iter().filter_map(|(id, (tree, path, _))| Some((*id, ours(*id, tree, path)?.clone()))).collect();
            let removed: std::collections::HashSet<i64> =
                if wanted.is_empty() { Default::default() } else { table.remove(&wanted)?.into_iter().collect() };
            let done = asked.iter().filter(|(id, _)| removed.contains(id) || !paths.contains_key(id));
            let done: Vec<_> = done.map(|(_, row)| (*row).clone()).collect();
            self.forget(&done);
            gone.extend(done);
        }
        Ok(gone)
    }

    /// Inserts rows for recordings; those that are known now are in the index too.
    ///
    /// # Errors
    /// If the source refuses or does not answer.
    pub fn adopt(&self, rows: &[(TreeId, RelPath, Adoption)], dry: bool) -> Result<Vec<Adopted>, RowsError> {
        let mut source = lock(&self.source);
        let table = source.rows().ok_or_else(|| self.only_read("insert rows"))?;
        let mut out = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(AT_ONCE) {
            let fits = |(tree, path, adoption): &(TreeId, RelPath, Adoption)| {
                let place = self.placing.place(&row(0, adoption.file_path.clone().into_bytes()));
                place == Place::Tree(tree.clone(), path.clone())
            };
            let fits: Vec<bool> = chunk.iter().map(fits).collect();
            let wanted = chunk.iter().zip(&fits).filter(|(_, fits)| **fits).map(|((_, _, row), _)| row.clone());
            let mut adopted = table.adopt(&wanted.collect::<Vec<_>>(), dry)?.into_iter();
            let mut known = Vec::new();
            for ((tree, path, adoption), fits) in chunk.iter().zip(fits) {
                let came = if fits { adopted.next() } else { None };
                let came = came.unwrap_or_else(|| {
                    let found = &adoption.file_path;
                    Adopted::Refused(format!(
                        "a row of `{found}` would not be read as this recording; look at `path_map`"
                    ))
                });
                let start = Some(Timestamp::from_millis(adoption.start_time));
                match &came {
                    Adopted::Inserted(id) => {
                        let row = IndexRow { id: RowId::Number(*id), collect: false, start };
                        known.push((tree.clone(), path.clone(), row));
                    }
                    Adopted::Known(id) => {
                        // Whether a person wants it kept is not said: it is taken for wanted until it is read.
                        let row = IndexRow { id: RowId::Number(*id), collect: true, start };
                        known.extend(self.unknown(tree, path, &row).then(|| (tree.clone(), path.clone(), row)));
                    }
                    Adopted::Would | Adopted::Refused(_) => {}
                }
                out.push(came);
            }
            if !known.is_empty() {
                self.change(|index| index.put(&known));
            }
        }
        Ok(out)
    }

    /// Looks whether rows without a file are still in the source, and forgets those that are not, so that what the platform removed between two
    /// whole readings is not reported as missing. Gives how many were forgotten.
    ///
    /// # Errors
    /// If the source does not answer: then nothing is forgotten.
    pub fn recheck(&self, rows: &[(TreeId, RelPath, RowId)]) -> Result<u64, Distrust> {
        let mut source = lock(&self.source);
        let mut forgotten = 0_u64;
        for chunk in rows.chunks(AT_ONCE) {
            let ids: Vec<RowId> = chunk.iter().map(|(_, _, id)| id.clone()).collect();
            let there: std::collections::HashSet<RowId> = source.still_there(&ids)?.into_iter().collect();
            let gone: Vec<_> = chunk.iter().filter(|(_, _, id)| !there.contains(id)).cloned().collect();
            self.forget(&gone);
            forgotten = forgotten.saturating_add(gone.len() as u64);
        }
        Ok(forgotten)
    }

    fn only_read(&self, action: &'static str) -> RowsError {
        RowsError::Database {
            action,
            error: format!("catalogue `{}` is of kind `{}`, which is only read", self.name(), self.kind()),
        }
    }

    fn unknown(&self, tree: &TreeId, path: &RelPath, row: &IndexRow) -> bool {
        let rows = self.last().and_then(|known| known.index.rows_of(tree, path).ok()).unwrap_or_default();
        rows.iter().all(|known| known.id != row.id)
    }

    fn forget(&self, rows: &[(TreeId, RelPath, RowId)]) {
        if !rows.is_empty() {
            self.change(|index| index.remove(rows));
        }
    }

    /// Changes the index that was believed last. If that fails, the next whole reading mends it: until then a row too many is reported as
    /// missing, and a recording without one is not proven to be an orphan before it was looked at again.
    fn change(&self, work: impl Fn(&crate::store::CatalogueIndex) -> Result<(), crate::store::DatabaseError>) {
        let _judgement = lock(&self.judgement);
        let Some(Known { index, .. }) = self.last() else { return };
        if work(&index).is_err() {
            return;
        }
        if let (Ok(now), Some(believed)) = (index.state(), &mut lock(&self.state).believed) {
            believed.state.counts = now.counts;
        }
    }
}

fn row(id: i64, path: Vec<u8>) -> CatalogueRow {
    CatalogueRow { id: RowId::Number(id), path: Some(path), media_server: None, collect: false, start: None }
}
