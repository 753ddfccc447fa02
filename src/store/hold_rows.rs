//! Holds as rows.

use rusqlite::{OptionalExtension as _, Row, params};

use super::database::{Database, DatabaseError};
use crate::domain::names::{StreamId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::protection::{Hold, HoldScope};
use crate::domain::units::Timestamp;

/// A hold, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredHold {
    pub(super) hold: Hold,
    /// It is in effect no more since then, and its marks are still to be taken off its files.
    pub(super) ended: Option<Timestamp>,
    /// Files may bear its mark.
    pub(super) marked: bool,
}

impl Database {
    /// Keeps a hold as it is now.
    pub(super) fn keep_hold(&self, stored: &StoredHold) -> Result<(), DatabaseError> {
        let StoredHold { hold, ended, marked } = stored;
        let (paths, span) = match &hold.scope {
            // No path holds a zero byte.
            HoldScope::Paths(paths) => (Some(paths.iter().map(RelPath::as_bytes).collect::<Vec<_>>().join(&0)), None),
            HoldScope::Span { stream, from, to } => (None, Some((stream, from, to))),
        };
        self.with("keep a hold", |connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO holds(id, tree, paths, stream, since, before, reason, who, made, until, ended, marked)
                     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                )?
                .execute(params![
                    number(hold.id),
                    hold.tree.as_str(),
                    paths,
                    span.map(|(stream, _, _)| stream.as_str()),
                    span.map(|(_, from, _)| from.millis()),
                    span.map(|(_, _, to)| to.millis()),
                    hold.reason,
                    hold.who,
                    hold.made.millis(),
                    hold.until.map(Timestamp::millis),
                    ended.map(Timestamp::millis),
                    marked,
                ])
                .map(drop)
        })
    }

    /// It has ended, and no file bears its mark.
    pub(super) fn forget_hold(&self, id: u64) -> Result<(), DatabaseError> {
        self.with("forget a hold", |connection| {
            connection.prepare_cached("DELETE FROM holds WHERE id = ?1")?.execute([number(id)]).map(drop)
        })
    }

    /// All holds, and the highest number that was ever given.
    pub(super) fn holds(&self) -> Result<(Vec<StoredHold>, u64), DatabaseError> {
        self.with("read the holds", |connection| {
            let given = connection
                .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'holds'", [], |row| row.get::<_, i64>(0))
                .optional()?;
            let mut statement = connection.prepare("SELECT * FROM holds ORDER BY id")?;
            let rows = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((rows, given.and_then(|given| u64::try_from(given).ok()).unwrap_or(0)))
        })
    }
}

/// Holds are counted from one.
fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// What cannot be read of a hold makes it hold more, never less.
fn read(row: &Row<'_>) -> rusqlite::Result<StoredHold> {
    let at = |name: &str| row.get::<_, Option<i64>>(name).map(|millis| millis.map(Timestamp::from_millis));
    let (paths, stream): (Option<Vec<u8>>, Option<String>) = (row.get("paths")?, row.get("stream")?);
    let scope = match stream {
        Some(stream) => HoldScope::Span {
            stream: StreamId::new(&stream),
            from: at("since")?.unwrap_or(Timestamp::from_millis(i64::MIN)),
            to: at("before")?.unwrap_or(Timestamp::from_millis(i64::MAX)),
        },
        None => {
            let paths = paths.unwrap_or_default();
            HoldScope::Paths(paths.split(|byte| *byte == 0).filter_map(|path| RelPath::new(path).ok()).collect())
        }
    };
    let hold = Hold {
        id: u64::try_from(row.get::<_, i64>("id")?).unwrap_or_default(),
        tree: TreeId::new(row.get_ref("tree")?.as_str()?),
        scope,
        reason: row.get("reason")?,
        who: row.get("who")?,
        made: at("made")?.unwrap_or_default(),
        until: at("until")?,
    };
    Ok(StoredHold { hold, ended: at("ended")?, marked: row.get("marked")? })
}
