//! The table as a source of rows, and as one whose rows can be changed.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use super::address::Address;
use super::fault::Fault;
use super::schema::Schema;
use super::session::{Limits, Mode, Session};
use super::{adopt, read, rows};
use crate::catalogue::source::{Pass, Rows, RowsError, Source, Wanted};
use crate::domain::adoption::{Adopted, Adoption};
use crate::domain::catalogue::{CatalogueRow, Distrust, RowId};
use crate::domain::secret::Secret;
use crate::system::Clock;

/// WVP's table of recordings. It blocks: it is for threads that may wait, never for a task.
pub struct Table {
    address: Result<Address, String>,
    media_server: Option<String>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// Made at the first call; the driver of the database needs one.
    runtime: Option<Runtime>,
}

impl Table {
    /// Connects to nothing. User and password are taken from beside the URL where it has none. A URL that cannot be used is told by each
    /// reading. Rows of all media servers are read; `media_server` is for new rows that name none.
    #[must_use]
    pub fn new(
        url: &Secret,
        username: Option<&str>,
        password: Option<&Secret>,
        media_server: Option<&str>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let address = Address::parse(url, username, password);
        let media_server = media_server.map(str::to_owned);
        Self { address, media_server, limits: Limits::default(), clock, runtime: None }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Connects, finds the columns, and does something. The connection is closed when it is done, and dropped when it fails.
    fn session<T, E: From<Fault>>(
        &mut self,
        mode: Mode,
        work: impl FnOnce(&mut Session<'_>, &Schema) -> Result<T, E>,
    ) -> Result<T, E> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Builder::new_current_thread().enable_all().build().map_err(|error| {
                Fault::silence(format!("this system has nothing left to reach a database with: {error}"))
            })?,
        };
        let runtime = self.runtime.insert(runtime);
        let address = self.address.as_ref().map_err(|error| Fault::silence(error.clone()))?;
        let mut session = Session::open(runtime, address, self.limits, mode)?;
        let schema = Schema::find(&mut session)?;
        let done = work(&mut session, &schema)?;
        session.close();
        Ok(done)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // A name that is still being looked up would be waited for, and within another runtime nothing may wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl From<Fault> for Distrust {
    fn from(fault: Fault) -> Self {
        fault.distrust(0)
    }
}

impl Source for Table {
    fn read(
        &mut self,
        wanted: Wanted,
        each: &mut dyn FnMut(Vec<CatalogueRow>) -> Result<(), Distrust>,
    ) -> Result<Pass, Distrust> {
        let as_of = self.clock.now();
        let (mut after, mut last) = match wanted {
            Wanted::Whole => (None, None),
            Wanted::After(number) => (number.checked_sub(read::OVERLAP).filter(|from| *from > 0), Some(number)),
        };
        self.session(Mode::Reading, |session, schema| {
            let mut count = 0;
            loop {
                let page = read::page(session, schema, after).map_err(|fault| fault.distrust(count))?;
                // Only an empty page ends it: a short one may have been cut by something between us.
                let Some((highest, _)) = page.last() else { return Ok(Pass { as_of, last }) };
                after = Some(*highest);
                last = last.max(after);
                count += page.len() as u64;
                each(page.into_iter().map(|(_, row)| row).collect())?;
            }
        })
    }

    fn still_there(&mut self, rows: &[RowId]) -> Result<Vec<RowId>, Distrust> {
        let ids: Vec<i64> = rows.iter().filter_map(RowId::number).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let there = self.session(Mode::Reading, |session, schema| read::there(session, schema, &ids));
        Ok(there.map_err(Distrust::from)?.into_iter().map(RowId::Number).collect())
    }

    fn rows(&mut self) -> Option<&mut dyn Rows> {
        Some(self)
    }
}

fn refused(action: &'static str) -> impl Fn(Fault) -> RowsError {
    move |fault| RowsError::Database { action, error: fault.text }
}

impl Rows for Table {
    fn paths(&mut self, ids: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, RowsError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let paths = self.session(Mode::Reading, |session, schema| rows::paths(session, schema, ids));
        paths.map_err(refused("tell the paths of rows"))
    }

    fn remove(&mut self, rows: &[(i64, Vec<u8>)]) -> Result<Vec<i64>, RowsError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let gone = self.session(Mode::Writing, |session, schema| rows::remove(session, schema, rows));
        gone.map_err(refused("remove rows"))
    }

    fn adopt(&mut self, rows: &[Adoption], dry: bool) -> Result<Vec<Adopted>, RowsError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mode = if dry { Mode::Reading } else { Mode::Writing };
        let media_server = self.media_server.clone();
        let adopted =
            self.session(mode, |session, schema| adopt::adopt(session, schema, rows, media_server.as_deref(), dry));
        adopted.map_err(refused("adopt recordings"))
    }
}
