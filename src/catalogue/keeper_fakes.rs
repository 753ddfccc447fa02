//! A table, a disk and a clock for the tests of a keeper.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::catalogue::source::{Pass, Rows, RowsError, Wanted};
use crate::domain::adoption::{Adopted, Adoption};
use crate::domain::catalogue::{AfterReclaim, CatalogueRow, RowId};
use crate::domain::units::Percent;
// From here on the import rule, which is for code, does not look.
#[cfg(test)]
use crate::testkit::{FakeClock, Power};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const INTERVAL: Duration = Duration::from_secs(15 * 60);

/// A table in memory.
#[derive(Default)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<i64, CatalogueRow>,
    pub(super) highest: i64,
    /// What is said instead, once so many rows were handed over.
    pub(super) fails: Option<(usize, Distrust)>,
    pub(super) panics: bool,
    /// Said to be the highest number, whatever is.
    pub(super) says: Option<i64>,
    /// What was asked for.
    pub(super) wanted: Vec<Wanted>,
    /// A person accepts, or doubts, or looks, in the middle of a reading.
    pub(super) meanwhile: Option<Box<dyn FnMut() + Send>>,
    /// Removing and asking for paths fails.
    pub(super) refuses: bool,
}

/// The handle that a keeper has.
pub(super) struct FakeSource {
    pub(super) table: Arc<Mutex<Table>>,
    pub(super) clock: Arc<FakeClock>,
}

impl Source for FakeSource {
    fn read(
        &mut self,
        wanted: Wanted,
        each: &mut dyn FnMut(Vec<CatalogueRow>) -> Result<(), Distrust>,
    ) -> Result<Pass, Distrust> {
        let as_of = self.clock.now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.wanted.push(wanted);
        let after = match wanted {
            Wanted::Whole => i64::MIN,
            // Some before it are told again.
            Wanted::After(number) => number.saturating_sub(3),
        };
        let rows: Vec<_> = table.rows.range(after.saturating_add(1)..).map(|(_, row)| row.clone()).collect();
        for (at, chunk) in rows.chunks(7).enumerate() {
            if let Some((after, why)) = &table.fails
                && at * 7 >= *after
            {
                return Err(why.clone());
            }
            each(chunk.to_vec())?;
        }
        if let Some(meanwhile) = &mut table.meanwhile {
            meanwhile();
        }
        assert!(!table.panics, "the source met a fault");
        if let Some((_, why)) = &table.fails {
            return Err(why.clone());
        }
        Ok(Pass { as_of, last: table.says.or(table.rows.keys().next_back().copied()) })
    }

    fn still_there(&mut self, rows: &[RowId]) -> Result<Vec<RowId>, Distrust> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((0, why)) = &table.fails {
            return Err(why.clone());
        }
        let there = |id: &&RowId| matches!(id, RowId::Number(number) if table.rows.contains_key(number));
        Ok(rows.iter().filter(there).cloned().collect())
    }

    fn rows(&mut self) -> Option<&mut dyn Rows> {
        Some(self)
    }
}

impl Rows for FakeSource {
    fn paths(&mut self, ids: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, RowsError> {
        let table = self.table.lock().unwrap();
        if table.refuses {
            return Err(RowsError::Database { action: "tell paths", error: "it is gone".to_owned() });
        }
        Ok(ids.iter().filter_map(|id| Some((*id, table.rows.get(id)?.path.clone()?))).collect())
    }

    fn remove(&mut self, rows: &[(i64, Vec<u8>)]) -> Result<Vec<i64>, RowsError> {
        let mut table = self.table.lock().unwrap();
        let fits = |(id, path): &&(i64, Vec<u8>)| table.rows.get(id).is_none_or(|row| row.path.as_ref() == Some(path));
        let gone: Vec<i64> = rows.iter().filter(fits).map(|(id, _)| *id).collect();
        table.rows.retain(|id, _| !gone.contains(id));
        Ok(gone)
    }

    fn adopt(&mut self, rows: &[Adoption], dry: bool) -> Result<Vec<Adopted>, RowsError> {
        let mut table = self.table.lock().unwrap();
        let one = |row: &Adoption| {
            let path = Some(row.file_path.clone().into_bytes());
            if let Some((id, _)) = table.rows.iter().find(|(_, known)| known.path == path) {
                return Adopted::Known(*id);
            }
            if dry {
                return Adopted::Would;
            }
            table.highest += 1;
            let (id, start) = (table.highest, Some(Timestamp::from_millis(row.start_time)));
            table
                .rows
                .insert(id, CatalogueRow { id: RowId::Number(id), path, media_server: None, collect: false, start });
            Adopted::Inserted(id)
        };
        Ok(rows.iter().map(one).collect())
    }
}

/// What lies on disk.
#[derive(Default)]
pub(super) struct Files {
    pub(super) there: Mutex<BTreeSet<String>>,
    /// Nothing is known of what is there.
    pub(super) blind: Mutex<bool>,
}

impl Presence for Files {
    fn there(&self, tree: &TreeId, path: &RelPath) -> Option<bool> {
        (!*self.blind.lock().unwrap()).then(|| self.there.lock().unwrap().contains(&format!("/{tree}/{path}")))
    }

    fn recordings(&self, tree: &TreeId) -> Option<u64> {
        let there = self.there.lock().unwrap();
        let count = there.iter().filter(|path| path.starts_with(&format!("/{tree}/"))).count();
        (!*self.blind.lock().unwrap()).then_some(count as u64)
    }
}

/// A catalogue of the trees `/a` and `/b`, its files, and the clock.
pub(super) struct World {
    pub(super) home: tempfile::TempDir,
    pub(super) settings: CatalogueSettings,
    pub(super) trees: Vec<&'static str>,
    pub(super) clock: Arc<FakeClock>,
    pub(super) table: Arc<Mutex<Table>>,
    pub(super) files: Files,
    pub(super) hooks: Arc<Database>,
    pub(super) keeper: Arc<Keeper>,
}

impl World {
    pub(super) fn new() -> Self {
        let settings = CatalogueSettings {
            name: CatalogueId::new("my wvp/1"),
            source: CatalogueSource::Wvp {
                url: crate::domain::secret::Secret::new("mysql://guard:word@db/wvp"),
                username: None,
                password: None,
            },
            media_server: Some("zlm-1".to_owned()),
            path_map: vec![],
            max_drop: Percent::new(30),
            interval: INTERVAL,
            full: Duration::from_secs(86_400),
            after_reclaim: AfterReclaim::Keep,
        };
        let home = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::new(Timestamp::from_secs(1_800_000_000), Power::new(BTreeMap::new())));
        let table: Arc<Mutex<Table>> = Arc::default();
        let hooks = Arc::new(Database::memory().unwrap());
        let trees = vec!["a", "b"];
        let keeper = opened(&settings, &trees, Some(home.path()), &hooks, &clock, &table);
        Self { home, settings, trees, clock, table, files: Files::default(), hooks, keeper }
    }

    /// With rows and files `/a/0/0.mp4` and so on, read once.
    pub(super) fn with(recordings: i64) -> Self {
        let world = Self::new();
        world.record("a", 0..recordings);
        assert_eq!(world.read(), [format!("read {recordings}"), "trusted".to_owned()]);
        world
    }

    pub(super) fn restart(&mut self) {
        self.keeper =
            opened(&self.settings, &self.trees, Some(self.home.path()), &self.hooks, &self.clock, &self.table);
    }

    /// What happened, in words.
    pub(super) fn read(&self) -> Vec<String> {
        let word = |happened: Happened| match happened {
            Happened::Read(rows, _) => format!("read {rows}"),
            Happened::Trusted => "trusted".to_owned(),
            Happened::Distrusted(why) => why.as_str().to_owned(),
            Happened::Remark(text) => text,
        };
        self.keeper.read(&self.files).into_iter().map(word).collect()
    }

    /// What happened at the next reading that is due.
    pub(super) fn later(&self) -> Vec<String> {
        while !self.keeper.due() {
            self.clock.sleep(MINUTE);
        }
        self.read()
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn row(&self, path: Option<&[u8]>, server: &str) {
        let mut table = self.table();
        table.highest += 1;
        let id = table.highest;
        let row = CatalogueRow {
            id: RowId::Number(id),
            path: path.map(<[u8]>::to_vec),
            media_server: Some(server.to_owned()),
            collect: false,
            start: None,
        };
        table.rows.insert(id, row);
    }

    /// Files and rows.
    pub(super) fn record(&self, tree: &str, which: std::ops::Range<i64>) {
        for at in which {
            let path = format!("/{tree}/{}/{at}.mp4", at / 10);
            self.row(Some(path.as_bytes()), "zlm-1");
            self.files.there.lock().unwrap().insert(path);
        }
    }

    /// Removes rows by their numbers; their files stay, unless `files`.
    pub(super) fn drop_rows(&self, which: std::ops::Range<i64>, files: bool) {
        for id in which {
            let row = self.table().rows.remove(&id).unwrap();
            if files {
                self.files.there.lock().unwrap().remove(std::str::from_utf8(&row.path.unwrap()).unwrap());
            }
        }
    }

    pub(super) fn fail(&self, after: usize, why: Distrust) {
        self.table().fails = Some((after, why));
    }

    pub(super) fn paths(&self) -> u64 {
        self.keeper.last().map_or(0, |last| last.index.paths_in(&TreeId::new("a")).unwrap())
    }

    pub(super) fn last_wanted(&self) -> Wanted {
        *self.table().wanted.last().unwrap()
    }

    /// Files in the folder of indexes whose names hold a text.
    pub(super) fn left(&self, part: &str) -> usize {
        let names = std::fs::read_dir(self.home.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(part)).count()
    }
}

pub(super) fn opened(
    settings: &CatalogueSettings,
    trees: &[&str],
    folder: Option<&Path>,
    hooks: &Arc<Database>,
    clock: &Arc<FakeClock>,
    table: &Arc<Mutex<Table>>,
) -> Arc<Keeper> {
    let trees = trees.iter().map(|tree| (TreeId::new(tree), PathBuf::from(format!("/{tree}")))).collect();
    let source = Box::new(FakeSource { table: table.clone(), clock: clock.clone() });
    Arc::new(Keeper::with_source(settings.clone(), trees, folder, DigestKey::of("state"), hooks, clock.clone(), source))
}

pub(super) fn unanswered() -> Distrust {
    Distrust::Unanswered { error: "connection refused".to_owned() }
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}
