//! The file of a catalogue's index.
//!
//! 1. It is built under a name of its own, in one transaction, with nothing synced and its journal in memory: a crash leaves what is made anew
//!    anyway.
//! 2. The transaction ends. The file is synced, and renamed to `PATH.X`, X being random; the folder is synced.
//! 3. `PATH` becomes a link to it, in one rename; the folder is synced. Only then do earlier `PATH.X` go.
//!
//! SQLite keeps its journal beside the file under the file's name. Were the new file renamed over the old one, an old one that is still open
//! would share the new one's journal, and either could be rolled back into the other. With names of their own they never meet.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::database::{DatabaseError, corrupt, make, sql};
use crate::domain::path_set::DigestKey;

/// What SQLite's header says it is: `SGci`.
const APPLICATION: i64 = 0x5347_6369;
/// Another version is made anew.
const VERSION: i64 = 1;
/// Without the URI flag a path can never mean anything but a path.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// So long another handle of the same file is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// `id` of a row has no type, so that a number stays a number and a text a text.
const SCHEMA: &str = "
    CREATE TABLE state(key INTEGER NOT NULL, total INTEGER NOT NULL DEFAULT 0, collect INTEGER NOT NULL DEFAULT 0,
        foreign_rows INTEGER NOT NULL DEFAULT 0, bad INTEGER NOT NULL DEFAULT 0, as_of INTEGER NOT NULL DEFAULT 0,
        whole INTEGER NOT NULL DEFAULT 0, last INTEGER, accepted INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE trees(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE folders(id INTEGER PRIMARY KEY, tree INTEGER NOT NULL, path BLOB NOT NULL, names INTEGER NOT NULL,
        sum INTEGER NOT NULL, UNIQUE(tree, path));
    CREATE TABLE rows(folder INTEGER NOT NULL, name BLOB NOT NULL, id NOT NULL, collect INTEGER NOT NULL, start INTEGER,
        PRIMARY KEY(folder, name, id)) WITHOUT ROWID;
    CREATE INDEX collected ON rows(folder, name) WHERE collect;
";

/// Opens the index in `path`, if there is one that can be used.
pub(super) fn open(path: &Path, key: DigestKey) -> Result<Option<Connection>, DatabaseError> {
    match std::fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DatabaseError::File { action: "look at", path: path.to_owned(), source }),
    }
    let opened = connect(path).and_then(|connection| Ok(usable(&connection, key)?.then_some(connection)));
    match opened {
        Ok(found) => Ok(found),
        Err(source) if unusable(&source) => Ok(None),
        Err(source) if source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            Err(DatabaseError::InUse { path: path.to_owned() })
        }
        Err(source) => sql("open an index", Err(source)),
    }
}

/// Makes an empty index.
pub(super) fn create(path: Option<&Path>, key: DigestKey) -> Result<Connection, DatabaseError> {
    let opened = match path {
        Some(path) => {
            remove(path)?;
            make(path)?;
            Connection::open_with_flags(path, FLAGS)
        }
        None => Connection::open_in_memory(),
    };
    let made = opened.and_then(|connection| {
        connection.execute_batch("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA cache_size=-32768;")?;
        connection.execute_batch(SCHEMA)?;
        connection.execute("INSERT INTO state(key) VALUES(?1)", [key.0.cast_signed()])?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        if path.is_some() {
            connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        Ok(connection)
    });
    sql("make an index", made)
}

/// Steps 2 and 3; gives the index under its new name.
#[expect(clippy::disallowed_methods, reason = "the index is the store's own, and no recording")]
pub(super) fn take_place(from: &Path, path: &Path) -> Result<Connection, DatabaseError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| DatabaseError::File { action, path, source }
    };
    File::open(from).and_then(|file| file.sync_all()).map_err(failed("sync", from))?;
    let random = fastrand::u64(..);
    let target = suffixed(path, &format!(".{random:016x}"));
    let link = suffixed(path, ".link");
    std::fs::rename(from, &target).map_err(failed("rename", from))?;
    let placed = sync_folder(path).map_err(failed("sync the folder of", path)).and_then(|()| {
        let connection = sql("open an index", connect(&target))?;
        remove_file(&link)?;
        let name = target.file_name().unwrap_or_default();
        std::os::unix::fs::symlink(name, &link).map_err(failed("make", &link))?;
        std::fs::rename(&link, path).map_err(failed("replace", path))?;
        Ok(connection)
    });
    match placed {
        Ok(connection) => {
            // It stands in its place already: if this fails, a power failure may still bring the old one back, and that is no harm as long as
            // the old one is there.
            if sync_folder(path).is_ok() {
                sweep(path, Some(&target));
            }
            Ok(connection)
        }
        Err(error) => {
            // It is built on under its old name, and may try again.
            std::fs::rename(&target, from).map_err(failed("rename", &target))?;
            Err(error)
        }
    }
}

/// Removes the index in `path` and all that was left of earlier ones.
pub(super) fn discard(path: &Path) -> Result<(), DatabaseError> {
    remove(path)?;
    sweep(path, None);
    Ok(())
}

/// Why an index cannot take a place.
pub(super) fn no_file(path: &Path) -> DatabaseError {
    let source = io::Error::new(io::ErrorKind::Unsupported, "it has no file of its own that was never in its place");
    DatabaseError::File { action: "put an index into", path: path.to_owned(), source }
}

/// Statements that are kept ready.
const STATEMENTS: usize = 32;

/// Opens an index that stands in its place: every change is durable, and readers and a writer of other handles wait for each other.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    connection.busy_timeout(PATIENCE)?;
    connection.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; PRAGMA cache_size=-8192;")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn usable(connection: &Connection, key: DigestKey) -> rusqlite::Result<bool> {
    let number = |name: &str| connection.query_row(name, [], |row| row.get::<_, i64>(0));
    Ok(number("PRAGMA application_id")? == APPLICATION
        && number("PRAGMA user_version")? == VERSION
        && number("SELECT key FROM state")? == key.0.cast_signed()
        && connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))? == "ok")
}

/// The file is no index, or a damaged one.
fn unusable(error: &rusqlite::Error) -> bool {
    // A table that is missing, or a value of another type, in a file that says it is ours.
    let odd = matches!(error, rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::InvalidColumnType(..))
        || error.sqlite_error_code() == Some(ErrorCode::Unknown);
    odd || corrupt(error)
}

/// The file has lost its name, and SQLite refuses to keep a journal for it.
pub(super) fn displaced(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_READONLY_DBMOVED)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Removes a file and what SQLite keeps beside it.
pub(super) fn remove(path: &Path) -> Result<(), DatabaseError> {
    ["-journal", "-wal", "-shm", ""].iter().try_for_each(|suffix| remove_file(&suffixed(path, suffix)))
}

#[expect(clippy::disallowed_methods, reason = "the index is the store's own, and no recording")]
fn remove_file(path: &Path) -> Result<(), DatabaseError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DatabaseError::File { action: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the files of earlier indexes in `path`, as far as that can be done: they only take room.
fn sweep(path: &Path, keep: Option<&Path>) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let keep = keep.and_then(Path::file_name);
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let rest = found.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        let random = |rest: &[u8]| rest.len() >= 16 && rest[..16].iter().all(u8::is_ascii_hexdigit);
        let current = keep.is_some_and(|keep| found.as_bytes().starts_with(keep.as_bytes()));
        if rest.is_some_and(|rest| random(rest) && matches!(&rest[16..], b"" | b"-journal")) && !current {
            let _ = remove_file(&folder.join(found));
        }
    }
}
