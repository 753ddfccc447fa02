//! Hook records: what the media server told of recordings. Durable before it is answered; the same recording is one record, however often
//! and in whatever order it is told of.
//!
//! A record proves that a recording should be there, and nothing else: no record, and no lack of one, ever lets a file go.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::database::{Database, DatabaseError};
use crate::domain::catalogue::{CatalogueRow, RowId};
use crate::domain::units::Timestamp;

/// More records than this are not kept: the state's disk is no media server's to fill.
pub(super) const MOST: u64 = 3_000_000;

/// What a media server told of one recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRecord {
    /// Where it is, as the media server sees it; with `start` and the media server, what the record is known by.
    pub path: Vec<u8>,
    /// When it begins.
    pub start: Timestamp,
    /// The media server.
    pub media_server: String,
    /// `app/stream`.
    pub stream: String,
    /// Its size, as the media server says.
    pub size: u64,
    /// How long it is, in milliseconds, as the media server says.
    pub length: u64,
}

/// A record, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHook {
    /// Its number; they rise in the order in which records came.
    pub number: i64,
    /// What was told.
    pub record: HookRecord,
    /// When it was heard.
    pub at: Timestamp,
}

impl Database {
    /// Of the next `most` records after a number, those of streams with one of two names; and the number of the last that was looked at,
    /// `None` at the end. Others may use the database between two calls.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn hooks_named(
        &self,
        names: [&str; 2],
        after: i64,
        most: usize,
    ) -> Result<(Vec<KeptHook>, Option<i64>), DatabaseError> {
        self.with("read hook records", |connection| {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let mut end = connection.prepare_cached(
                "SELECT max(number) FROM (SELECT number FROM hook_records WHERE number > ?1 ORDER BY number LIMIT ?2)",
            )?;
            let Some(last) = end.query_row(params![after, most], |row| row.get::<_, Option<i64>>(0))? else {
                return Ok((Vec::new(), None));
            };
            let mut statement = connection.prepare_cached(
                "SELECT number, path, start, media_server, stream, size, length, at FROM hook_records
                 WHERE number > ?1 AND number <= ?2 AND stream IN (?3, ?4) ORDER BY number",
            )?;
            let rows = statement.query_map(params![after, last, names[0], names[1]], kept_of)?;
            Ok((rows.collect::<rusqlite::Result<_>>()?, Some(last)))
        })
    }

    /// Keeps records; gives for each whether it is new. They are on the disk when this returns.
    ///
    /// # Errors
    /// What SQLite says, or that there are too many already, which is told as a full disk is: then none was kept.
    pub fn keep_hooks(&self, records: &[HookRecord], at: Timestamp) -> Result<Vec<bool>, DatabaseError> {
        self.keep_hooks_up_to(records, at, MOST)
    }

    fn keep_hooks_up_to(&self, records: &[HookRecord], at: Timestamp, most: u64) -> Result<Vec<bool>, DatabaseError> {
        self.durably("keep hook records", |transaction| {
            let new = records.iter().map(|record| insert_record(transaction, record, at));
            let new: Vec<bool> = new.collect::<rusqlite::Result<_>>()?;
            if new.contains(&true) && beyond(transaction, most)? > 0 {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
                let text = format!(
                    "{most} hook records are kept already, and no more are; those whose recordings were deleted are forgotten"
                );
                return Err(rusqlite::Error::SqliteFailure(code, Some(text)));
            }
            Ok(new)
        })
    }

    /// Does something in one transaction that is on the disk when this returns. What is answered must not be lost with the power;
    /// everything else in this database may be.
    pub(super) fn durably<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.with(action, |connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let done = connection.transaction().and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            done
        })
    }

    /// Records after a number, by rising number: `limit` of them at most.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn hooks_after(&self, number: i64, limit: usize) -> Result<Vec<CatalogueRow>, DatabaseError> {
        self.with("read hook records", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT number, path, media_server, start FROM hook_records WHERE number > ?1 ORDER BY number LIMIT ?2",
            )?;
            statement.query_map(params![number, i64::try_from(limit).unwrap_or(i64::MAX)], row_of)?.collect()
        })
    }

    /// The highest number that a record ever had; 0 before the first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn last_hook(&self) -> Result<i64, DatabaseError> {
        self.with("read hook records", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'hook_records'")?;
            Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
        })
    }

    /// Streams of a media server (of any, if none is said) with records after a number: what is not in the index yet.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn hook_streams_after(&self, number: i64, media_server: Option<&str>) -> Result<Vec<String>, DatabaseError> {
        self.with("read hook records", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT DISTINCT stream FROM hook_records
                 WHERE number > ?1 AND (?2 IS NULL OR media_server IN (?2, '')) ORDER BY stream",
            )?;
            statement.query_map(params![number, media_server], |row| row.get(0))?.collect()
        })
    }

    /// The paths of records; one that is forgotten is left out.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn hook_paths(&self, numbers: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, DatabaseError> {
        self.with("read hook records", |connection| {
            let mut statement = connection.prepare_cached("SELECT path FROM hook_records WHERE number = ?1")?;
            let path = |number: &i64| {
                Ok(statement.query_row([number], |row| row.get(0)).optional()?.map(|path| (*number, path)))
            };
            numbers.iter().map(path).filter_map(Result::transpose).collect()
        })
    }

    /// Forgets records whose recordings are gone from disk and were deleted by us.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn forget_hooks(&self, numbers: &[i64]) -> Result<(), DatabaseError> {
        self.with("forget hook records", |connection| {
            let transaction = connection.transaction()?;
            {
                let mut statement = transaction.prepare_cached("DELETE FROM hook_records WHERE number = ?1")?;
                for number in numbers {
                    statement.execute([number])?;
                }
            }
            transaction.commit()
        })
    }
}

/// Inserts a record if it is new; says whether it is.
pub(super) fn insert_record(
    transaction: &Transaction<'_>,
    record: &HookRecord,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    // It is looked for first: an insert that is ignored would use up a number, and be a write.
    let mut known = transaction
        .prepare_cached("SELECT 1 FROM hook_records WHERE path = ?1 AND start = ?2 AND media_server = ?3")?;
    let HookRecord { path, start, media_server, stream, size, length } = record;
    if known.exists(params![path, start.millis(), media_server])? {
        return Ok(false);
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO hook_records(path, start, media_server, stream, size, length, at)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (size, length) = (i64::try_from(*size).unwrap_or(i64::MAX), i64::try_from(*length).unwrap_or(i64::MAX));
    insert.execute(params![path, start.millis(), media_server, stream, size, length, at.millis()])?;
    Ok(true)
}

/// How many records there are beyond `most`.
fn beyond(transaction: &Transaction<'_>, most: u64) -> rusqlite::Result<u64> {
    let held: i64 = transaction.query_row("SELECT value FROM hook_count", [], |row| row.get(0))?;
    Ok(u64::try_from(held).unwrap_or(0).saturating_sub(most))
}

/// Forgets the oldest of what is beyond `most`; says how many. That a record is not there lets no file go.
pub(super) fn forget_oldest(transaction: &Transaction<'_>, most: u64) -> rusqlite::Result<u64> {
    let over = beyond(transaction, most)?;
    if over > 0 {
        let sql = "DELETE FROM hook_records WHERE number IN (SELECT number FROM hook_records ORDER BY number LIMIT ?1)";
        transaction.prepare_cached(sql)?.execute([i64::try_from(over).unwrap_or(i64::MAX)])?;
    }
    Ok(over)
}

fn kept_of(row: &Row<'_>) -> rusqlite::Result<KeptHook> {
    let moment = |at| row.get(at).map(Timestamp::from_millis);
    let count = |at| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
    let record = HookRecord {
        path: row.get(1)?,
        start: moment(2)?,
        media_server: row.get(3)?,
        stream: row.get(4)?,
        size: count(5)?,
        length: count(6)?,
    };
    Ok(KeptHook { number: row.get(0)?, record, at: moment(7)? })
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<CatalogueRow> {
    Ok(CatalogueRow {
        id: RowId::Number(row.get(0)?),
        path: Some(row.get(1)?),
        media_server: Some(row.get(2)?),
        collect: false,
        start: Some(Timestamp::from_millis(row.get(3)?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, start: i64, server: &str) -> HookRecord {
        HookRecord {
            path: path.as_bytes().to_vec(),
            start: Timestamp::from_secs(start),
            media_server: server.to_owned(),
            stream: path.split('/').nth(1).unwrap_or_default().to_owned(),
            size: 7,
            length: 1500,
        }
    }

    fn keep(database: &Database, records: &[HookRecord]) -> Vec<bool> {
        database.keep_hooks(records, Timestamp::from_secs(99)).unwrap()
    }

    fn numbers(database: &Database, after: i64) -> Vec<RowId> {
        database.hooks_after(after, 100).unwrap().into_iter().map(|row| row.id).collect()
    }

    /// Faults 22, 110.
    #[test]
    fn a_recording_is_one_record_however_often_and_in_whatever_order_it_is_told_of() {
        let database = Database::memory().unwrap();
        let (first, second) = (told("/a/0.mp4", 10, "zlm-1"), told("/a/1.mp4", 20, "zlm-1"));
        assert_eq!(keep(&database, &[second.clone(), first.clone(), second.clone()]), [true, true, false]);
        assert_eq!(keep(&database, &[first.clone(), HookRecord { size: 9, ..second }]), [false, false]);
        assert_eq!(keep(&database, &[HookRecord { start: Timestamp::from_secs(11), ..first }]), [true]);
        assert_eq!(numbers(&database, 0), [RowId::Number(1), RowId::Number(2), RowId::Number(3)]);
    }

    /// Fault 110: who claims a path for another server must not stand in the way of the one that made it.
    #[test]
    fn what_another_server_claims_of_a_path_hides_nothing() {
        let database = Database::memory().unwrap();
        assert_eq!(keep(&database, &[told("/a/0.mp4", 10, "evil")]), [true]);
        assert_eq!(keep(&database, &[told("/a/0.mp4", 10, "zlm-1")]), [true]);
        let servers: Vec<_> = database.hooks_after(0, 9).unwrap().into_iter().map(|row| row.media_server).collect();
        assert_eq!(servers, [Some("evil".to_owned()), Some("zlm-1".to_owned())]);
    }

    #[test]
    fn numbers_rise_and_are_never_given_again() {
        let database = Database::memory().unwrap();
        assert_eq!(database.last_hook().unwrap(), 0);
        keep(&database, &[told("/a/0.mp4", 10, "zlm-1"), told("/b/0.mp4", 10, "zlm-1")]);
        assert_eq!(database.hook_paths(&[1, 2, 3]).unwrap().len(), 2);
        database.forget_hooks(&[2, 7]).unwrap();
        assert_eq!((numbers(&database, 0), database.last_hook().unwrap()), (vec![RowId::Number(1)], 2));
        keep(&database, &[told("/b/0.mp4", 10, "zlm-1")]);
        assert_eq!(numbers(&database, 1), [RowId::Number(3)]);
    }

    #[test]
    fn streams_with_news_are_those_of_the_media_server_and_of_whoever_bears_no_name() {
        let database = Database::memory().unwrap();
        keep(&database, &[told("/a/0.mp4", 1, "zlm-1"), told("/b/0.mp4", 2, "zlm-2"), told("/c/0.mp4", 3, "")]);
        keep(&database, &[told("/a/1.mp4", 4, "zlm-1")]);
        for (after, server, expected) in [
            (0, None, &["a", "b", "c"][..]),
            (0, Some("zlm-1"), &["a", "c"]),
            (1, Some("zlm-1"), &["a", "c"]),
            (3, Some("zlm-2"), &[]),
            (4, None, &[]),
        ] {
            assert_eq!(database.hook_streams_after(after, server).unwrap(), expected, "{after} {server:?}");
        }
    }

    #[test]
    fn records_of_a_stream_are_found_some_at_a_time() {
        let database = Database::memory().unwrap();
        let all: Vec<HookRecord> =
            (0..7).map(|at| told(&format!("/{}/{at}.mp4", ["a", "b"][at % 2]), at as i64, "zlm-1")).collect();
        keep(&database, &all);
        let (mut after, mut found) = (0, Vec::new());
        while let (some, Some(last)) = database.hooks_named(["a", "x/a"], after, 3).unwrap() {
            found.extend(some);
            after = last;
        }
        assert_eq!(found.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 3, 5, 7]);
        assert_eq!((&found[1].record, found[1].at), (&all[2], Timestamp::from_secs(99)));
        assert_eq!(database.hooks_named(["c", "c"], 0, 9).unwrap(), (vec![], Some(7)));
    }

    #[test]
    fn records_are_bounded_and_what_is_forgotten_makes_room() {
        let database = Database::memory().unwrap();
        let keep = |path: &str| database.keep_hooks_up_to(&[told(path, 1, "zlm-1")], Timestamp::default(), 2);
        keep("/a/0.mp4").unwrap();
        keep("/a/1.mp4").unwrap();
        assert!(keep("/a/2.mp4").unwrap_err().full());
        assert_eq!(keep("/a/1.mp4").unwrap(), [false], "what is known is answered");
        database.forget_hooks(&[1, 1, 5]).unwrap();
        assert_eq!(keep("/a/2.mp4").unwrap(), [true]);
    }

    #[test]
    fn a_disk_that_refuses_keeps_none() {
        let database = Database::memory().unwrap();
        database.refuse_writes(true);
        assert!(database.keep_hooks(&[told("/a/0.mp4", 1, "zlm-1")], Timestamp::default()).is_err());
        database.refuse_writes(false);
        assert_eq!(numbers(&database, 0), []);
    }

    #[test]
    fn a_record_survives_and_its_path_need_not_be_text() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("guard.db");
        let database = Database::open(&path).unwrap().database;
        keep(&database, &[HookRecord { path: b"/\xff/a\nb.mp4".to_vec(), ..told("/a/0.mp4", 5, "zlm-1") }]);
        let normal: i64 = database.with("test", |c| c.query_row("PRAGMA synchronous", [], |row| row.get(0))).unwrap();
        assert_eq!(normal, 1, "what else is written waits for no disk");
        drop(database);
        let rows = Database::open(&path).unwrap().database.hooks_after(0, 9).unwrap();
        assert_eq!(rows[0].path.as_deref(), Some(&b"/\xff/a\nb.mp4"[..]));
        assert_eq!(rows[0].start, Some(Timestamp::from_secs(5)));
    }
}
