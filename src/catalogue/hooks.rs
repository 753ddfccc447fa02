//! What hooks told us, as a source of rows. It proves presence only: what is not in it may exist all the same.

use std::sync::Arc;

use super::source::{Pass, Rows, RowsError, Source, Wanted};
use crate::domain::adoption::{Adopted, Adoption};
use crate::domain::catalogue::{CatalogueRow, Distrust, RowId};
use crate::domain::cause::chain;
use crate::store::{Database, DatabaseError};
use crate::system::Clock;

/// Records that are read at a time: the database serves others in between.
const AT_ONCE: usize = 5_000;

/// Hook records.
pub(super) struct HookSource {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
}

impl HookSource {
    /// The records in a database. Those of other media servers are read too: they are counted as foreign.
    pub(super) fn new(database: Arc<Database>, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }
}

impl Source for HookSource {
    fn read(
        &mut self,
        wanted: Wanted,
        each: &mut dyn FnMut(Vec<CatalogueRow>) -> Result<(), Distrust>,
    ) -> Result<Pass, Distrust> {
        let as_of = self.clock.now();
        let begin = match wanted {
            Wanted::Whole => 0,
            // Numbers are given as records are kept, one after the other, so nothing is entered behind.
            Wanted::After(number) => number,
        };
        let mut at = begin;
        let highest = self.database.last_hook().map_err(unanswered)?;
        loop {
            let rows = self.database.hooks_after(at, AT_ONCE).map_err(unanswered)?;
            let Some(last) = rows.last().and_then(|row| row.id.number()) else { break };
            at = last;
            each(rows)?;
        }
        // A database that was lost begins anew, with numbers below those of the index.
        let last = if at == begin { highest } else { highest.max(at) };
        Ok(Pass { as_of, last: Some(last) })
    }

    fn still_there(&mut self, rows: &[RowId]) -> Result<Vec<RowId>, Distrust> {
        let numbers: Vec<i64> = rows.iter().filter_map(RowId::number).collect();
        let found = self.database.hook_paths(&numbers).map_err(unanswered)?;
        Ok(found.into_iter().map(|(number, _)| RowId::Number(number)).collect())
    }

    fn rows(&mut self) -> Option<&mut dyn Rows> {
        Some(self)
    }
}

impl Rows for HookSource {
    fn paths(&mut self, ids: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, RowsError> {
        self.database.hook_paths(ids).map_err(|error| refused("read hook records", &error))
    }

    fn remove(&mut self, rows: &[(i64, Vec<u8>)]) -> Result<Vec<i64>, RowsError> {
        let numbers: Vec<i64> = rows.iter().map(|(number, _)| *number).collect();
        self.database.forget_hooks(&numbers).map_err(|error| refused("forget hook records", &error))?;
        Ok(numbers)
    }

    fn adopt(&mut self, rows: &[Adoption], _: bool) -> Result<Vec<Adopted>, RowsError> {
        let why =
            "hook records are what the media server told of, and nothing else; adopt into a catalogue of kind `wvp`";
        Ok(rows.iter().map(|_| Adopted::Refused(why.to_owned())).collect())
    }
}

fn unanswered(error: DatabaseError) -> Distrust {
    Distrust::Unanswered { error: chain(&error) }
}

fn refused(action: &'static str, error: &DatabaseError) -> RowsError {
    RowsError::Database { action, error: chain(error) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalogue::Keeper;
    use crate::catalogue::keeper::{Happened, Presence};
    use crate::domain::catalogue::AfterReclaim;
    use crate::domain::names::{CatalogueId, TreeId};
    use crate::domain::path::RelPath;
    use crate::domain::path_set::DigestKey;
    use crate::domain::settings::{CatalogueSettings, CatalogueSource};
    use crate::domain::units::{Percent, Timestamp};
    use crate::store::HookRecord;
    use crate::testkit::{FakeClock, Power};

    const GOOD: &str = include_str!("../../tests/data/zlmediakit/hook_on_record_mp4.json");
    const CORRUPT: &str = include_str!("../../tests/data/zlmediakit/hook_on_record_mp4_DISKFULL_corrupt_slice.json");
    const ABSENT: &str = include_str!("../../tests/data/zlmediakit/hook_on_record_mp4_RENAMEFAILED_file_absent.json");
    const STALE: &str =
        include_str!("../../tests/data/zlmediakit/hook_on_record_mp4_OPENFAILED_stale_tmp_renamed.json");
    const VHOST: &str = include_str!("../../tests/data/zlmediakit/hook_on_record_mp4_vhost1.json");

    /// Nobody looks at the disk for hooks: they prove presence only.
    struct Nowhere;

    impl Presence for Nowhere {
        fn there(&self, _: &TreeId, _: &RelPath) -> Option<bool> {
            panic!("a hook led to a look at the disk")
        }

        fn recordings(&self, _: &TreeId) -> Option<u64> {
            Some(1000)
        }
    }

    /// What a media server sent, with some of it changed.
    fn told(body: &str, changed: &[(&str, &str)]) -> HookRecord {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let text = |key: &str| {
            let changed = changed.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            changed.unwrap_or_else(|| body[key].as_str().unwrap()).to_owned()
        };
        HookRecord {
            path: text("file_path").into_bytes(),
            start: Timestamp::from_secs(body["start_time"].as_i64().unwrap()),
            media_server: text("mediaServerId"),
            stream: format!("{}/{}", text("app"), text("stream")),
            size: body["file_size"].as_u64().unwrap(),
            length: (body["time_len"].as_f64().unwrap() * 1000.0) as u64,
        }
    }

    struct Heard {
        database: Arc<Database>,
        clock: Arc<FakeClock>,
        keeper: Keeper,
    }

    impl Heard {
        fn new() -> Self {
            let database = Arc::new(Database::memory().unwrap());
            let clock = Arc::new(FakeClock::new(Timestamp::from_secs(1_800_000_000), Power::new(BTreeMap::new())));
            let settings = CatalogueSettings {
                name: CatalogueId::new("hooks"),
                source: CatalogueSource::Hooks,
                media_server: Some("zlm-1".to_owned()),
                path_map: vec![("/data/zlm/rec".into(), "/data".into())],
                max_drop: Percent::new(30),
                interval: std::time::Duration::from_secs(900),
                full: std::time::Duration::from_secs(86_400),
                after_reclaim: AfterReclaim::Keep,
            };
            let trees = vec![
                (TreeId::new("rec"), "/data/record".into()),
                (TreeId::new("vhost"), "/data/__defaultVhost__/record".into()),
            ];
            let keeper = Keeper::open(settings, trees, None, DigestKey::of("state"), &database, clock.clone());
            Self { database, clock, keeper }
        }

        fn hear(&self, records: &[HookRecord]) {
            self.database.keep_hooks(records, self.clock.now()).unwrap();
        }

        /// (rows of ours, foreign, bad) after a reading.
        fn read(&self) -> (u64, u64, u64) {
            let happened = self.keeper.read(&Nowhere);
            assert!(matches!(happened[0], Happened::Read(..)), "{happened:?}");
            let counts = self.keeper.view().counts;
            (counts.rows, counts.foreign, counts.bad)
        }

        fn knows(&self, tree: &str, path: &str) -> bool {
            let index = self.keeper.known().unwrap().index;
            !index.rows_of(&TreeId::new(tree), &RelPath::new(path.as_bytes()).unwrap()).unwrap().is_empty()
        }
    }

    #[test]
    fn what_the_media_server_told_is_known_until_it_is_read_it_waits() {
        let heard = Heard::new();
        assert_eq!(heard.read(), (0, 0, 0));
        heard.hear(&[told(STALE, &[]), told(GOOD, &[]), told(ABSENT, &[]), told(VHOST, &[])]);
        assert_eq!(heard.keeper.undrained(), ["live/immrec", "live/test", "live/vtest"]);
        assert_eq!(heard.read(), (4, 0, 0));
        assert!(heard.keeper.undrained().is_empty());
        assert!(heard.knows("rec", "live/test/2026-11-22/2026-11-22-12-21-41-0.mp4"));
        assert!(heard.knows("vhost", "live/vtest/2026-11-22/2026-11-22-12-35-09-0.mp4"));
        heard.hear(&[told(CORRUPT, &[])]);
        assert_eq!(heard.keeper.undrained(), ["live/full"]);
        assert_eq!(heard.read(), (4, 1, 0), "it lies in no tree of ours");
        assert!(!heard.keeper.writable() && heard.keeper.view().distrust.is_none());
    }

    /// Faults 4, 5, 22, 110: forged, replayed, out of order, twice, of another server, outside.
    #[test]
    fn no_hook_leads_anywhere_or_counts_twice() {
        let heard = Heard::new();
        let forged = |path: &str| told(GOOD, &[("file_path", path)]);
        heard.hear(&[told(GOOD, &[("mediaServerId", "evil")])]);
        heard.hear(&[told(STALE, &[]), told(GOOD, &[]), told(GOOD, &[])]);
        heard.hear(&[told(GOOD, &[]), told(STALE, &[])]);
        heard.hear(&[
            forged("/etc/passwd"),
            forged("/data/record_backup/a.mp4"),
            forged("/data/zlm/rec/record/../../../etc/shadow"),
            forged("/data/zlm/rec/record/a\n.mp4"),
            forged("/data/zlm/rec/record"),
            forged("../a.mp4"),
            forged(""),
        ]);
        for _ in 0..2 {
            assert_eq!(heard.read(), (2, 3, 5));
            heard.hear(&[told(GOOD, &[]), forged("/etc/passwd")]);
        }
        assert!(heard.keeper.undrained().is_empty(), "a replay is no news");
    }

    #[test]
    fn records_of_recordings_that_are_gone_are_forgotten() {
        let heard = Heard::new();
        heard.hear(&[told(GOOD, &[]), told(STALE, &[])]);
        heard.read();
        let path = RelPath::new(b"live/test/2026-11-22/2026-11-22-12-21-41-0.mp4").unwrap();
        let gone = heard.keeper.remove_rows(&[(TreeId::new("rec"), path, RowId::Number(1))]).unwrap();
        assert_eq!((gone.len(), heard.database.hooks_after(0, 9).unwrap().len()), (1, 1));
        assert_eq!(heard.read(), (1, 0, 0));
        heard.keeper.doubt();
        assert_eq!(heard.read(), (1, 0, 0), "and no drop");
    }

    /// Faults 72, 73: the database was lost, and numbers begin anew.
    #[test]
    fn numbers_that_begin_anew_are_told() {
        let clock = Arc::new(FakeClock::new(Timestamp::from_secs(1_800_000_000), Power::new(BTreeMap::new())));
        let database = Arc::new(Database::memory().unwrap());
        let mut source = HookSource::new(database.clone(), clock.clone());
        let mut last = |wanted| source.read(wanted, &mut |_| Ok(())).unwrap().last;
        assert_eq!((last(Wanted::Whole), last(Wanted::After(7))), (Some(0), Some(0)));
        database.keep_hooks(&[told(GOOD, &[]), told(STALE, &[])], clock.now()).unwrap();
        assert_eq!((last(Wanted::Whole), last(Wanted::After(7)), last(Wanted::After(1))), (Some(2), Some(2), Some(2)));
        database.forget_hooks(&[2]).unwrap();
        assert_eq!(last(Wanted::After(2)), Some(2), "what was forgotten was there");
    }
}
