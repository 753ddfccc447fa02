//! The file of the findings.
//!
//! It is opened with an exclusive lock, so that a write-ahead log needs no shared memory: on a full disk a mapped page ends the process.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::catalogue_file::remove;
use super::database::{DatabaseError, corrupt, make, sql};

/// What SQLite's header says it is: `SGfi`.
const APPLICATION: i64 = 0x5347_6669;
/// Another version is made anew.
const VERSION: i64 = 1;

/// A slot is what one look found. `live` is what counts; what does not was never finished, or is over, and goes.
/// `id` of a row has no type, so that a number stays a number and a text a text.
const SCHEMA: &str = "
    CREATE TABLE kv(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE slots(id INTEGER PRIMARY KEY AUTOINCREMENT, tree TEXT NOT NULL, kind TEXT NOT NULL, live INTEGER NOT NULL);
    CREATE TABLE orphans(slot INTEGER NOT NULL, path BLOB NOT NULL, stream TEXT NOT NULL, bytes INTEGER NOT NULL,
        inode INTEGER NOT NULL, fingerprint INTEGER NOT NULL, touched INTEGER NOT NULL, first_seen INTEGER NOT NULL,
        witnesses INTEGER NOT NULL, wanted INTEGER NOT NULL, playable INTEGER NOT NULL, PRIMARY KEY(slot, path)) WITHOUT ROWID;
    CREATE TABLE missing(slot INTEGER NOT NULL, path BLOB NOT NULL, catalogue TEXT NOT NULL, id NOT NULL,
        PRIMARY KEY(slot, path, catalogue, id)) WITHOUT ROWID;
    CREATE TABLE reclaimed(tree TEXT NOT NULL, path BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(tree, path)) WITHOUT ROWID;
    CREATE INDEX reclaimed_by_age ON reclaimed(tree, at, path);
    CREATE TABLE growth(tree TEXT NOT NULL, at INTEGER NOT NULL, orphans INTEGER NOT NULL, inflow INTEGER NOT NULL,
        PRIMARY KEY(tree, at)) WITHOUT ROWID;
";

/// Opens the file, or makes it, anew if it is damaged or of another version.
pub(super) fn open(path: &Path) -> Result<Connection, DatabaseError> {
    make(path)?;
    match connect(path) {
        Ok(Some(connection)) => return Ok(connection),
        Ok(None) => {}
        Err(source) if unusable(&source) => {}
        Err(source) if source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            return Err(DatabaseError::InUse { path: path.to_owned() });
        }
        Err(source) => return sql("open the findings", Err(source)),
    }
    remove(path)?;
    make(path)?;
    let made = connect(path).and_then(|connection| connection.ok_or(rusqlite::Error::QueryReturnedNoRows));
    sql("make the findings", made)
}

/// Findings in memory.
pub(super) fn memory() -> Result<Connection, DatabaseError> {
    let made = Connection::open_in_memory().and_then(|mut connection| {
        prepare(&mut connection)?;
        Ok(connection)
    });
    sql("make findings in memory", made)
}

/// `None` if it is another file, of another version, or damaged.
fn connect(path: &Path) -> rusqlite::Result<Option<Connection>> {
    // Without the URI flag a path can never mean anything but a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.execute_batch(
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8192;
         BEGIN IMMEDIATE; ROLLBACK;",
    )?;
    let number = |name: &str| connection.query_row(name, [], |row| row.get::<_, i64>(0));
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    match (application, version) {
        (0, 0) if number("PRAGMA page_count")? <= 1 => prepare(&mut connection)?,
        (APPLICATION, VERSION) => {
            let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
            if verdict != "ok" {
                return Ok(None);
            }
        }
        (_, _) => return Ok(None),
    }
    Ok(Some(connection))
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// The file is none of ours, or a damaged one.
fn unusable(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::Unknown) || corrupt(error)
}
