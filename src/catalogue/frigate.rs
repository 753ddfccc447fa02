//! Frigate's database: the table `recordings` of its SQLite file, which is only ever read.
//!
//! 1. The file is opened without the right to write. Where nobody has it open, and so no shared memory of its log is there, SQLite would
//!    have to make that: then the file is read as one that does not change, and whether it did is looked at afterwards.
//! 2. Rows are read in ranges of `rowid`, each in a transaction of its own, so that Frigate's log can be emptied in between.
//! 3. Row numbers are not kept over a `VACUUM`, which Frigate does by itself. So every reading is a whole one, and one during which the
//!    file was rewritten or replaced is none.

use std::fs::Metadata;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use super::source::{Pass, Source, Wanted};
use crate::domain::catalogue::{CatalogueRow, Distrust, RowId};
use crate::domain::units::Timestamp;
use crate::system::Clock;

/// Rows that are read at a time.
const AT_ONCE: u32 = 5_000;
/// How long Frigate may keep us waiting for a lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Frigate's recordings.
pub(super) struct Recordings {
    file: PathBuf,
    clock: Arc<dyn Clock>,
    patience: Duration,
}

impl Recordings {
    /// Those of a database file. Nothing is opened yet.
    pub(super) fn new(file: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { file: file.to_owned(), clock, patience: PATIENCE }
    }
}

impl Source for Recordings {
    fn read(
        &mut self,
        _: Wanted,
        each: &mut dyn FnMut(Vec<CatalogueRow>) -> Result<(), Distrust>,
    ) -> Result<Pass, Distrust> {
        let as_of = self.clock.now();
        let opened = Opened::new(&self.file, self.patience)?;
        let start = opened.columns()?;
        let version = opened.version()?;
        // What is entered meanwhile has higher numbers, and is the next reading's.
        let highest = opened.highest()?;
        let mut after = i64::MIN;
        while let Some((rows, last)) = opened.rows(after, highest, start)? {
            after = last;
            each(rows)?;
        }
        if opened.version()? != version || opened.rewritten() {
            let error = format!("`{}` was rewritten or replaced while it was read", self.file.display());
            return Err(Distrust::Partial { error });
        }
        Ok(Pass { as_of, last: None })
    }
}

struct Opened<'f> {
    file: &'f Path,
    connection: Connection,
    found: Metadata,
    /// It is read as one that does not change.
    still: bool,
}

impl<'f> Opened<'f> {
    fn new(file: &'f Path, patience: Duration) -> Result<Self, Distrust> {
        let found = std::fs::metadata(file).map_err(|error| unreadable(file, &error))?;
        if !found.is_file() {
            return Err(Distrust::Shape {
                error: format!("`{}` is no file; `file` must name Frigate's database", file.display()),
            });
        }
        let logged = is_logged(file)?;
        let still = logged && !beside(file, "-shm").exists();
        if still && log_has_content(file) {
            let error = format!(
                "`{}` was not closed well: there is a log beside it, and nobody who has it open; start Frigate, which mends it",
                file.display()
            );
            return Err(Distrust::Unanswered { error });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = if still {
            Connection::open_with_flags(immutable(file), flags | OpenFlags::SQLITE_OPEN_URI)
        } else {
            Connection::open_with_flags(file, flags)
        };
        let connection = opened.map_err(|error| said(file, &error))?;
        connection.busy_timeout(patience).map_err(|error| said(file, &error))?;
        Ok(Self { file, connection, found, still })
    }

    /// Whether there is a column that says when a recording begins, once those that must be are there.
    fn columns(&self) -> Result<bool, Distrust> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare("SELECT name FROM pragma_table_info('recordings')")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let columns = read().map_err(|error| said(self.file, &error))?;
        let shape = |what: &str| {
            let error = format!(
                "`{}` has no {what}; `file` must name Frigate's database, of version 0.9 or later",
                self.file.display()
            );
            Err(Distrust::Shape { error })
        };
        if columns.is_empty() {
            return shape("table `recordings`");
        }
        for wanted in ["id", "path"] {
            if !columns.iter().any(|column| column == wanted) {
                return shape(&format!("column `{wanted}` in its table `recordings`"));
            }
        }
        Ok(columns.iter().any(|column| column == "start_time"))
    }

    /// What changes when the file is rewritten or its tables are changed.
    fn version(&self) -> Result<i64, Distrust> {
        self.connection
            .query_row("PRAGMA schema_version", [], |row| row.get(0))
            .map_err(|error| said(self.file, &error))
    }

    fn highest(&self) -> Result<i64, Distrust> {
        let query = "SELECT coalesce(max(rowid), 0) FROM recordings";
        self.connection.query_row(query, [], |row| row.get(0)).map_err(|error| said(self.file, &error))
    }

    fn rows(&self, after: i64, highest: i64, start: bool) -> Result<Option<(Vec<CatalogueRow>, i64)>, Distrust> {
        let column = if start { "start_time" } else { "NULL" };
        let query = format!(
            "SELECT rowid, id, path, {column} FROM recordings WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3"
        );
        let read = || -> rusqlite::Result<Vec<(i64, CatalogueRow)>> {
            let mut statement = self.connection.prepare_cached(&query)?;
            statement.query_map(params![after, highest, AT_ONCE], |row| Ok((row.get(0)?, row_of(row)?)))?.collect()
        };
        let rows = read().map_err(|error| said(self.file, &error))?;
        let Some((last, _)) = rows.last() else { return Ok(None) };
        let last = *last;
        Ok(Some((rows.into_iter().map(|(_, row)| row).collect(), last)))
    }

    /// The file is another by now, or, where it should not have changed, it did.
    fn rewritten(&self) -> bool {
        let Ok(now) = std::fs::metadata(self.file) else { return true };
        let key = |of: &Metadata| (of.dev(), of.ino());
        let state = |of: &Metadata| (of.size(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
        key(&now) != key(&self.found)
            || (self.still && (state(&now) != state(&self.found) || log_has_content(self.file)))
    }
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<CatalogueRow> {
    let id = match row.get_ref(1)? {
        ValueRef::Integer(number) => RowId::Number(number),
        ValueRef::Text(text) => RowId::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => RowId::Text(String::new()),
    };
    let path = match row.get_ref(2)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
    };
    let start = match row.get_ref(3)? {
        #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
        ValueRef::Real(secs) => Some(Timestamp::from_millis((secs * 1000.0) as i64)),
        ValueRef::Integer(secs) => Some(Timestamp::from_secs(secs)),
        ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => None,
    };
    Ok(CatalogueRow { id, path, media_server: None, collect: false, start })
}

/// It keeps a write-ahead log: the header's two version bytes say so.
fn is_logged(file: &Path) -> Result<bool, Distrust> {
    let mut header = [0; 20];
    let read = std::fs::File::open(file).and_then(|mut opened| opened.read_exact(&mut header));
    match read {
        Ok(()) => Ok(header[18] == 2 || header[19] == 2),
        // It is too short to be a database, which SQLite will say.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(unreadable(file, &error)),
    }
}

fn log_has_content(file: &Path) -> bool {
    std::fs::metadata(beside(file, "-wal")).is_ok_and(|log| log.len() > 0)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The address of a file that SQLite takes as one that does not change: it locks nothing and makes nothing beside it.
fn immutable(file: &Path) -> String {
    let path =
        percent_encoding::percent_encode(file.as_os_str().as_bytes(), percent_encoding::NON_ALPHANUMERIC).to_string();
    format!("file:{}?immutable=1", path.replace("%2F", "/"))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Distrust {
    let remedy = if error.kind() == ErrorKind::NotFound {
        "look whether `file` is right, and whether its volume is mounted"
    } else if error.kind() == ErrorKind::PermissionDenied {
        "let the guard's user read it and enter the folders above it"
    } else {
        "look at its disk"
    };
    Distrust::Unanswered { error: format!("cannot read `{}`: {error}; {remedy}", file.display()) }
}

fn said(file: &Path, error: &rusqlite::Error) -> Distrust {
    let file = file.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            Distrust::Shape { error: format!("`{file}` is no SQLite database; `file` must name Frigate's database") }
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            Distrust::Partial { error: format!("`{file}` is damaged ({error}); mend it, or let Frigate make it anew") }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Distrust::Unanswered { error: format!("`{file}` is locked by another process ({error})") }
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Distrust::Unanswered {
            error: format!(
                "cannot open `{file}` without writing beside it ({error}); let the guard's user read it and its `-wal` and `-shm`, \
                 or start Frigate if it was not closed well"
            ),
        },
        _ => Distrust::Unanswered { error: format!("cannot read `{file}`: {error}") },
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make and spoil files of their own")]
mod tests {
    use super::*;
    use crate::domain::names::CatalogueId;
    use crate::testkit::{FakeClock, Power};

    /// As Frigate 0.14 makes it, less a few columns that nobody asks for.
    const TABLES: &str = "
        CREATE TABLE recordings(id VARCHAR(30) NOT NULL PRIMARY KEY, camera VARCHAR(20) NOT NULL, path VARCHAR(255) NOT NULL,
            start_time DATETIME NOT NULL, end_time DATETIME NOT NULL, duration REAL NOT NULL, motion INTEGER, objects INTEGER);
        CREATE TABLE previews(id VARCHAR(30) NOT NULL PRIMARY KEY, camera VARCHAR(20) NOT NULL, path VARCHAR(255) NOT NULL);
        INSERT INTO previews VALUES('p', 'cam', '/media/frigate/clips/previews/cam/1.mp4');";

    struct Frigate {
        _home: tempfile::TempDir,
        file: PathBuf,
        database: Connection,
    }

    impl Frigate {
        fn new(mode: &str, rows: u32) -> Self {
            let home = tempfile::tempdir().unwrap();
            let file = home.path().join("frigate?.db");
            let database = Connection::open(&file).unwrap();
            database.execute_batch(&format!("PRAGMA journal_mode={mode}; {TABLES}")).unwrap();
            let frigate = Self { _home: home, file, database };
            frigate.database.execute_batch("BEGIN").unwrap();
            (0..rows).for_each(|at| frigate.record(at));
            frigate.database.execute_batch("COMMIT").unwrap();
            frigate
        }

        fn record(&self, at: u32) {
            let path = format!("/media/frigate/recordings/2026-11-22/10/cam/{at}.mp4");
            let mut statement =
                self.database.prepare_cached("INSERT INTO recordings VALUES(?1, 'cam', ?2, ?3, 0, 10, 0, 0)").unwrap();
            statement.execute(params![format!("id-{at}"), path, 1_795_350_101.5 + f64::from(at)]).unwrap();
        }

        fn beside(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.file.parent().unwrap()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn read_with(
        file: &Path,
        each: &mut dyn FnMut(Vec<CatalogueRow>) -> Result<(), Distrust>,
    ) -> Result<Pass, Distrust> {
        let clock = Arc::new(FakeClock::new(
            Timestamp::from_secs(1_800_000_000),
            Power::new(std::collections::BTreeMap::new()),
        ));
        let mut source = Recordings::new(file, clock);
        source.patience = Duration::from_millis(5);
        source.read(Wanted::Whole, each)
    }

    fn read(file: &Path) -> Result<Vec<CatalogueRow>, Distrust> {
        let mut rows = Vec::new();
        let pass = read_with(file, &mut |more| {
            rows.extend(more);
            Ok(())
        })?;
        assert_eq!(pass, Pass { as_of: Timestamp::from_millis(1_800_000_000_001), last: None });
        Ok(rows)
    }

    fn refused(file: &Path) -> (&'static str, String) {
        let why = read(file).unwrap_err();
        (why.as_str(), why.sentence(&CatalogueId::new("frigate")))
    }

    #[test]
    fn recordings_are_read_while_frigate_writes() {
        let frigate = Frigate::new("WAL", AT_ONCE + 3);
        let before = frigate.beside();
        let mut count = 0;
        let read = read_with(&frigate.file, &mut |rows| {
            count += rows.len();
            frigate.record(100_000 + u32::try_from(count).unwrap());
            frigate
                .database
                .execute_batch("DELETE FROM recordings WHERE id = 'id-1'; PRAGMA wal_checkpoint(TRUNCATE)")
                .unwrap();
            Ok(())
        });
        assert!(read.is_ok() && count == 5003, "{read:?} {count}");
        assert_eq!(frigate.beside(), before);
    }

    #[test]
    fn rows_bear_what_the_table_says_and_nothing_of_previews() {
        let frigate = Frigate::new("WAL", 1);
        frigate.database.execute_batch("INSERT INTO recordings VALUES('odd', 'cam', x'2fff', 7, 0, 0, 0, 0)").unwrap();
        let row = |id: &str, path: &[u8], start| CatalogueRow {
            id: RowId::Text(id.to_owned()),
            path: Some(path.to_vec()),
            media_server: None,
            collect: false,
            start: Some(start),
        };
        let first = row(
            "id-0",
            b"/media/frigate/recordings/2026-11-22/10/cam/0.mp4",
            Timestamp::from_millis(1_795_350_101_500),
        );
        assert_eq!(read(&frigate.file).unwrap(), [first, row("odd", b"/\xff", Timestamp::from_secs(7))]);
    }

    /// Frigate stopped, and the guard may not write beside its file.
    #[test]
    fn a_file_that_nobody_has_open_is_read_without_making_anything() {
        for mode in ["WAL", "DELETE"] {
            let Frigate { _home, file, database } = Frigate::new(mode, 3);
            drop(database);
            assert_eq!(read(&file).unwrap().len(), 3, "{mode}");
            let names = std::fs::read_dir(file.parent().unwrap()).unwrap().count();
            assert_eq!(names, 1, "{mode}");
        }
    }

    #[test]
    fn a_log_that_nobody_has_open_is_frigates_to_mend() {
        let frigate = Frigate::new("WAL", 3);
        let copy = frigate.file.with_file_name("copy.db");
        std::fs::copy(&frigate.file, &copy).unwrap();
        std::fs::copy(beside(&frigate.file, "-wal"), beside(&copy, "-wal")).unwrap();
        let (kind, error) = refused(&copy);
        assert!(kind == "unanswered" && error.contains("start Frigate"), "{error}");
    }

    #[test]
    fn a_locked_database_does_not_answer() {
        let frigate = Frigate::new("DELETE", 3);
        frigate.database.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let (kind, error) = refused(&frigate.file);
        assert!(kind == "unanswered" && error.contains("is locked by another process"), "{error}");
        frigate.database.execute_batch("ROLLBACK").unwrap();
        assert_eq!(read(&frigate.file).unwrap().len(), 3);
    }

    #[test]
    fn what_is_rewritten_or_replaced_while_it_is_read_is_partial() {
        let check = |mode: &str, meanwhile: &dyn Fn(&Frigate)| {
            let frigate = Frigate::new(mode, 3);
            let read = read_with(&frigate.file, &mut |_| {
                meanwhile(&frigate);
                Ok(())
            });
            assert!(
                matches!(&read, Err(Distrust::Partial { error }) if error.contains("while it was read")),
                "{read:?}"
            );
        };
        check("WAL", &|frigate| frigate.database.execute_batch("VACUUM").unwrap());
        check("WAL", &|frigate| {
            let other = frigate.file.with_file_name("other");
            std::fs::copy(&frigate.file, &other).unwrap();
            std::fs::rename(&other, &frigate.file).unwrap();
        });
        let Frigate { _home, file, database } = Frigate::new("WAL", 3);
        drop(database);
        let read = read_with(&file, &mut |_| {
            Connection::open(&file).unwrap().execute_batch("DELETE FROM recordings WHERE id = 'id-0'").unwrap();
            Ok(())
        });
        assert!(matches!(read, Err(Distrust::Partial { .. })), "{read:?}");
    }

    #[test]
    fn whatever_is_wrong_is_said_with_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("f.db");
        let check = |kind: &str, text: &str| {
            let (found, error) = refused(&file);
            assert!(found == kind && error.contains(text) && error.contains("f.db"), "{found}: {error}");
        };
        check("unanswered", "look whether `file` is right");
        std::fs::create_dir(&file).unwrap();
        check("shape", "is no file");
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(&file, "no database at all, but long enough to be asked about".repeat(9)).unwrap();
        check("shape", "no SQLite database");
        std::fs::write(&file, "").unwrap();
        check("shape", "no table `recordings`");
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE recordings(id TEXT, file TEXT)").unwrap();
        check("shape", "no column `path`");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_reader_who_has_heard_enough_ends_it() {
        let frigate = Frigate::new("WAL", 3);
        let why = Distrust::Index { error: "full".to_owned() };
        assert_eq!(read_with(&frigate.file, &mut |_| Err(why.clone())), Err(why.clone()));
    }
}
