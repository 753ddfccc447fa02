//! Deletions that were asked for and are not through, as rows: what a restart interrupts is gone on with.

use jiff::civil::Date;
use rusqlite::{Row, params};

use super::database::{Database, DatabaseError};
use crate::domain::deletion::Trigger;
use crate::domain::demand::{Demand, Ground, OfStream, Wanted};
use crate::domain::names::{StreamId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;

/// A deletion that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDemand {
    /// Its job.
    pub job: u64,
    /// What is to be deleted.
    pub demand: Demand,
    /// Who asked.
    pub who: String,
    /// When.
    pub asked: Timestamp,
    /// Where its tree was then, and the tree's layout: elsewhere, or read otherwise, the same names are other recordings.
    pub ground: Ground,
    /// Where the job's states are told to.
    pub callback: Option<String>,
}

impl Database {
    /// Keeps a deletion until it is through.
    ///
    /// # Errors
    /// What SQLite says: then a restart forgets it.
    pub fn keep_demand(&self, stored: &StoredDemand) -> Result<(), DatabaseError> {
        let StoredDemand { job, demand, who, asked, ground, callback } = stored;
        let (paths, stream) = match &demand.wanted {
            Wanted::Paths(paths) => (Some(paths), None),
            Wanted::Stream(stream) => (None, Some(stream)),
        };
        // No path holds a zero byte.
        let paths = paths.map(|paths| paths.iter().map(RelPath::as_bytes).collect::<Vec<_>>().join(&0));
        self.with("keep a deletion that was asked for", |connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO demands VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                )?
                .execute(params![
                    number(*job),
                    demand.tree.as_str(),
                    demand.trigger.as_str(),
                    who,
                    callback,
                    paths,
                    stream.map(|of| of.stream.as_str()),
                    stream.and_then(|of| of.period).map(|day| day.to_string()),
                    stream.and_then(|of| of.before).map(|at| at.millis()),
                    stream.and_then(|of| of.within.as_ref()).map(RelPath::as_bytes),
                    asked.millis(),
                    ground.path,
                    ground.layout,
                ])
                .map(drop)
        })
    }

    /// It is through, or nobody wants it any more.
    ///
    /// # Errors
    /// What SQLite says: then the next start goes on with it, and finds what is gone.
    pub fn forget_demand(&self, job: u64) -> Result<(), DatabaseError> {
        self.with("forget a deletion that was asked for", |connection| {
            connection.prepare_cached("DELETE FROM demands WHERE job = ?1")?.execute([number(job)]).map(drop)
        })
    }

    /// What is not through, in the order in which it was asked for. A row that cannot be read as a whole is left out: when unsure, nothing is
    /// deleted.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn demands(&self) -> Result<Vec<StoredDemand>, DatabaseError> {
        self.with("read the deletions that were asked for", |connection| {
            let mut statement = connection.prepare("SELECT * FROM demands ORDER BY job")?;
            let rows = statement.query_map([], read)?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    }
}

/// Jobs are counted from one.
fn number(job: u64) -> i64 {
    i64::try_from(job).unwrap_or(i64::MAX)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredDemand>> {
    let trigger = match row.get_ref(2)?.as_str()? {
        word if word == Trigger::Operator.as_str() => Trigger::Operator,
        word if word == Trigger::Gateway.as_str() => Trigger::Gateway,
        _ => return Ok(None),
    };
    let path = |bytes: &[u8]| RelPath::new(bytes).ok();
    let paths: Option<Vec<u8>> = row.get(5)?;
    let stream: Option<String> = row.get(6)?;
    let (period, within): (Option<String>, Option<Vec<u8>>) = (row.get(7)?, row.get(9)?);
    let period: Option<Option<Date>> = period.map(|day| day.parse().ok());
    let within = within.map(|within| path(&within));
    let wanted = match (paths, stream, period, &within) {
        (Some(paths), None, None, None) => {
            paths.split(|byte| *byte == 0).map(path).collect::<Option<_>>().map(Wanted::Paths)
        }
        (None, Some(stream), None | Some(Some(_)), None | Some(Some(_))) => Some(Wanted::Stream(OfStream {
            stream: StreamId::new(&stream),
            period: period.flatten(),
            before: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
            within: within.clone().flatten(),
        })),
        _ => None,
    };
    let tree = TreeId::new(row.get_ref(1)?.as_str()?);
    let demand = wanted.map(|wanted| Demand { tree, wanted, trigger });
    let (who, callback) = (row.get(3)?, row.get(4)?);
    let asked = Timestamp::from_millis(row.get(10)?);
    let ground = Ground { path: row.get(11)?, layout: row.get(12)? };
    let Ok(job) = u64::try_from(row.get::<_, i64>(0)?) else { return Ok(None) };
    Ok(demand.map(|demand| StoredDemand { job, demand, who, asked, ground, callback }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::demand::day;

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    fn stored(job: u64, wanted: Wanted, trigger: Trigger) -> StoredDemand {
        let demand = Demand { tree: TreeId::new("live"), wanted, trigger };
        let ground = Ground { path: "/data".to_owned(), layout: "zlmediakit".to_owned() };
        let (asked, callback) = (Timestamp::from_millis(1_234_567), (job == 7).then(|| "https://a/b".to_owned()));
        StoredDemand { job, demand, who: "ops".to_owned(), asked, ground, callback }
    }

    #[test]
    fn what_was_asked_for_is_read_as_it_was_kept_until_it_is_forgotten() {
        let database = Database::memory().unwrap();
        let of = |period: Option<&str>, before, within: Option<&[u8]>| {
            Wanted::Stream(OfStream {
                stream: StreamId::new("live/门"),
                period: period.and_then(day),
                before,
                within: within.map(path),
            })
        };
        let all = [
            stored(7, Wanted::Paths(vec![path(b"live/a\xff.mp4"), path(b"live/b\n.mp4")]), Trigger::Operator),
            stored(8, of(None, None, None), Trigger::Operator),
            stored(9, of(Some("2026-11-22"), Some(Timestamp::from_millis(-5)), Some(b"record/live")), Trigger::Gateway),
        ];
        all.iter().rev().for_each(|one| database.keep_demand(one).unwrap());
        assert_eq!(database.demands().unwrap(), all);
        database.forget_demand(8).unwrap();
        database.forget_demand(80).unwrap();
        assert_eq!(database.demands().unwrap(), [all[0].clone(), all[2].clone()]);
    }

    /// A day that cannot be read must not become a whole stream.
    #[test]
    fn a_row_that_cannot_be_read_as_a_whole_asks_for_nothing() {
        let check = |change: &str| {
            let database = Database::memory().unwrap();
            let of = OfStream {
                stream: StreamId::new("a"),
                period: day("2026-11-22"),
                before: None,
                within: Some(path(b"a")),
            };
            database.keep_demand(&stored(1, Wanted::Stream(of), Trigger::Operator)).unwrap();
            database.with("test", |c| c.execute(&format!("UPDATE demands SET {change}"), [])).unwrap();
            assert_eq!(database.demands().unwrap(), [], "{change}");
        };
        check("period = '2026-13-22'");
        check("within = CAST('../a' AS BLOB)");
        check("kind = 'pressure'");
        check("stream = NULL");
        check("paths = CAST('a' AS BLOB)");
        check("stream = NULL, period = NULL, within = NULL, paths = CAST('' AS BLOB)");
    }
}
