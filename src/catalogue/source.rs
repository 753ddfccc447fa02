//! What a catalogue is read from.

use std::sync::Arc;

use crate::domain::adoption::{Adopted, Adoption};
use crate::domain::catalogue::{CatalogueRow, Distrust, RowId};
use crate::domain::settings::{CatalogueSettings, CatalogueSource};
use crate::domain::units::Timestamp;
use crate::store::Database;
use crate::system::Clock;

/// What is wanted of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All rows.
    Whole,
    /// Rows whose number is higher, and some before it: they may have been entered in another order than they were numbered.
    After(i64),
}

/// A reading that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// What is older than this should be among the rows.
    pub as_of: Timestamp,
    /// The highest number of a row there is now, even if a higher one was known before: then an older state was restored. `None` where there
    /// is no row, or rows have no numbers, so that each reading is a whole one.
    pub last: Option<i64>,
}

/// Where rows come from.
pub trait Source: Send {
    /// Reads rows, and hands them over some thousands at a time. `each` may refuse to go on.
    ///
    /// # Errors
    /// Why the rows handed over so far are not all: it does not answer, ended in the middle, or is not what it should be.
    fn read(
        &mut self,
        wanted: Wanted,
        each: &mut dyn FnMut(Vec<CatalogueRow>) -> Result<(), Distrust>,
    ) -> Result<Pass, Distrust>;

    /// Which of these rows are still there: a cheap look between whole readings. Where that cannot be asked, all are.
    ///
    /// # Errors
    /// If it does not answer.
    fn still_there(&mut self, rows: &[RowId]) -> Result<Vec<RowId>, Distrust> {
        Ok(rows.to_vec())
    }

    /// What can change its rows, where that is possible.
    fn rows(&mut self) -> Option<&mut dyn Rows> {
        None
    }
}

/// Why rows cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The database refuses, or does not answer.
    #[error("the database cannot {action}: {error}")]
    Database {
        /// What was to be done.
        action: &'static str,
        /// What it says, and what to do about it; no password in it.
        error: String,
    },
}

/// A source whose rows can be changed.
pub trait Rows {
    /// The paths of rows, as they stand in the source; a row that is gone is left out.
    ///
    /// # Errors
    /// If it does not answer.
    fn paths(&mut self, ids: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, RowsError>;

    /// Removes rows that still have these paths, in chunks; gives the numbers of those that are gone now, whoever removed them.
    ///
    /// # Errors
    /// If it refuses or does not answer. Chunks before that are done.
    fn remove(&mut self, rows: &[(i64, Vec<u8>)]) -> Result<Vec<i64>, RowsError>;

    /// Inserts rows, each only if its media server has none for its path; `dry` only says what would be done.
    ///
    /// # Errors
    /// If it refuses or does not answer. Rows before that are inserted.
    fn adopt(&mut self, rows: &[Adoption], dry: bool) -> Result<Vec<Adopted>, RowsError>;
}

/// Opens what a catalogue is read from. Nothing is connected to, or read, before the first reading.
#[must_use]
pub fn open_source(settings: &CatalogueSettings, hooks: &Arc<Database>, clock: &Arc<dyn Clock>) -> Box<dyn Source> {
    let clock = clock.clone();
    match &settings.source {
        CatalogueSource::Wvp { url, username, password } => Box::new(super::wvp::Table::new(
            url,
            username.as_deref(),
            password.as_ref(),
            settings.media_server.as_deref(),
            clock,
        )),
        CatalogueSource::Frigate { file } => Box::new(super::frigate::Recordings::new(file, clock)),
        CatalogueSource::Hooks => Box::new(super::hooks::HookSource::new(hooks.clone(), clock)),
        CatalogueSource::Manifest { file } => Box::new(super::manifest::Manifest::new(file, clock)),
    }
}
