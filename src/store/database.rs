//! The database: one SQLite file of ours alone, that may be lost.
//!
//! 1. OpenedDatabase with an exclusive lock, so that a second guard on the same state is seen, and no shared-memory file is needed.
//! 2. Checked. A file that is no sound database, or another state's, is moved aside, never deleted, and a new one is made.
//! 3. Migrated. A file of a newer version is refused and left as it is.
//!
//! A full disk makes writes fail, and every failure is returned: who needs more keeps it in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

/// Key of the id of the state that the database belongs to.
const STATE: &str = "state";

/// Each brings the schema from its index to the next version. Only ever append.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE kv(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE alerts(alert TEXT, subject TEXT, since INTEGER NOT NULL, ended INTEGER, condition TEXT NOT NULL,
        PRIMARY KEY(alert, subject)) WITHOUT ROWID;
    CREATE TABLE told(channel TEXT, alert TEXT, subject TEXT, severity TEXT NOT NULL, at INTEGER NOT NULL,
        message TEXT NOT NULL, PRIMARY KEY(channel, alert, subject)) WITHOUT ROWID;
    CREATE TABLE outbox(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, subject TEXT NOT NULL,
        alert TEXT NOT NULL, kind TEXT NOT NULL, severity TEXT NOT NULL, body TEXT NOT NULL, reply_to TEXT,
        created INTEGER NOT NULL, next_attempt INTEGER NOT NULL, attempts INTEGER NOT NULL, last_error TEXT,
        state TEXT NOT NULL);
    CREATE INDEX outbox_by_state ON outbox(state, seq);
",
    "
    CREATE TABLE silences(id INTEGER PRIMARY KEY, alert TEXT, tree TEXT, volume TEXT, until INTEGER NOT NULL,
        reason TEXT NOT NULL, who TEXT NOT NULL, created INTEGER NOT NULL, ended INTEGER);
    ALTER TABLE told ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE channels(channel TEXT PRIMARY KEY, since INTEGER NOT NULL, failures INTEGER NOT NULL, error TEXT)
        WITHOUT ROWID;
",
    // The media server is part of what a record is known by: what another claims of a path must not stand in the way of ours.
    "
    CREATE TABLE hook_records(number INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL, start INTEGER NOT NULL,
        media_server TEXT NOT NULL, stream TEXT NOT NULL, size INTEGER NOT NULL, length INTEGER NOT NULL,
        at INTEGER NOT NULL, UNIQUE(path, start, media_server));
    CREATE TABLE hook_count(value INTEGER NOT NULL);
    INSERT INTO hook_count VALUES(0);
    CREATE TRIGGER hook_kept AFTER INSERT ON hook_records BEGIN UPDATE hook_count SET value = value + 1; END;
    CREATE TRIGGER hook_forgotten AFTER DELETE ON hook_records BEGIN UPDATE hook_count SET value = value - 1; END;
",
    "
    CREATE TABLE hook_outbox(number INTEGER PRIMARY KEY AUTOINCREMENT, media_server TEXT NOT NULL, event TEXT NOT NULL,
        stream TEXT, headers TEXT NOT NULL, body BLOB NOT NULL, at INTEGER NOT NULL, aside INTEGER NOT NULL);
    CREATE INDEX hook_outbox_by_server ON hook_outbox(media_server, number);
    CREATE INDEX hook_outbox_by_stream ON hook_outbox(stream) WHERE stream IS NOT NULL;
    CREATE INDEX hook_outbox_aside ON hook_outbox(media_server) WHERE aside > 0;
    CREATE TABLE hook_outbox_size(media_server TEXT PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL)
        WITHOUT ROWID;
    CREATE TRIGGER hook_queued AFTER INSERT ON hook_outbox BEGIN
        INSERT INTO hook_outbox_size VALUES(new.media_server, 1, length(new.body))
            ON CONFLICT(media_server) DO UPDATE SET events = events + 1, bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER hook_unqueued AFTER DELETE ON hook_outbox BEGIN
        UPDATE hook_outbox_size SET events = events - 1, bytes = bytes - length(old.body)
            WHERE media_server = old.media_server;
    END;
",
    // Hooks come in the order of time. What begins with the time is written to few pages of the disk at once; what begins with the
    // path, to one for each stream.
    "
    CREATE TABLE hook_records_by_time(number INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL, start INTEGER NOT NULL,
        media_server TEXT NOT NULL, stream TEXT NOT NULL, size INTEGER NOT NULL, length INTEGER NOT NULL,
        at INTEGER NOT NULL, UNIQUE(start, path, media_server));
    INSERT INTO hook_records_by_time
        SELECT number, path, start, media_server, stream, size, length, at FROM hook_records ORDER BY number;
    DELETE FROM sqlite_sequence WHERE name = 'hook_records_by_time';
    INSERT INTO sqlite_sequence(name, seq)
        SELECT 'hook_records_by_time', seq FROM sqlite_sequence WHERE name = 'hook_records';
    DROP TABLE hook_records;
    ALTER TABLE hook_records_by_time RENAME TO hook_records;
    CREATE TRIGGER hook_kept AFTER INSERT ON hook_records BEGIN UPDATE hook_count SET value = value + 1; END;
    CREATE TRIGGER hook_forgotten AFTER DELETE ON hook_records BEGIN UPDATE hook_count SET value = value - 1; END;
    DROP INDEX hook_outbox_by_stream;
    CREATE INDEX hook_outbox_streams ON hook_outbox(number, stream) WHERE stream IS NOT NULL;
",
    "
    CREATE TABLE demands(job INTEGER PRIMARY KEY, tree TEXT NOT NULL, kind TEXT NOT NULL, who TEXT NOT NULL, callback TEXT,
        paths BLOB, stream TEXT, period TEXT, before INTEGER, within BLOB, asked INTEGER NOT NULL, path TEXT NOT NULL,
        layout TEXT NOT NULL);
",
    "
    CREATE TABLE holds(id INTEGER PRIMARY KEY AUTOINCREMENT, tree TEXT NOT NULL, paths BLOB, stream TEXT, since INTEGER,
        before INTEGER, reason TEXT NOT NULL, who TEXT NOT NULL, made INTEGER NOT NULL, until INTEGER, ended INTEGER,
        marked INTEGER NOT NULL);
",
    "
    CREATE TABLE archived(tree TEXT NOT NULL, path BLOB NOT NULL, archive TEXT NOT NULL, stream TEXT NOT NULL,
        recorded INTEGER NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL, verified INTEGER NOT NULL,
        inode INTEGER NOT NULL, fingerprint INTEGER NOT NULL, restored INTEGER, PRIMARY KEY(tree, path)) WITHOUT ROWID;
",
];

/// What the database could not do.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite says no.
    #[error("cannot {action} in the database")]
    Sql {
        /// What was to be done.
        action: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A file could not be made or moved.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("`{}` is in use by another process; only one guard may run on one state directory", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// A later version of the guard wrote it.
    #[error(
        "`{}` has schema {found}, this version knows {known}; install the later version again, or move the file away",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
}

impl DatabaseError {
    /// The disk has no room for what was to be written.
    #[must_use]
    pub fn full(&self) -> bool {
        match self {
            Self::Sql { source, .. } => source.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::File { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::InUse { .. } | Self::Newer { .. } => false,
        }
    }
}

/// The database, open. It may be used from several threads, one after the other.
#[derive(Debug)]
pub struct Database {
    connection: Mutex<Connection>,
    /// There is no file. Asked without the connection, which whoever writes to a disk that hangs has for long.
    in_memory: AtomicBool,
}

/// A database, and what was found when it was opened.
#[derive(Debug)]
pub struct OpenedDatabase {
    /// The database.
    pub database: Database,
    /// It was made anew, so it knows nothing yet.
    pub fresh: bool,
    /// Why what was there was not used, and where it is now.
    pub rebuilt: Option<String>,
}

impl Database {
    /// Opens the file, or makes it. What is no sound database is moved aside to `PATH.corrupt-N`, and the answer says so.
    ///
    /// # Errors
    /// It is in use, of a newer version, or cannot be made: [`Database::memory`] then is what remains.
    pub fn open(path: &Path) -> Result<OpenedDatabase, DatabaseError> {
        let length = make(path)?;
        match connect(path) {
            Ok(connection) => {
                let rebuilt = (length == Some(0)).then(|| format!("`{}` was empty", path.display()));
                let fresh = length.is_none_or(|bytes| bytes == 0);
                Ok(OpenedDatabase { database: Self::new(connection), fresh, rebuilt })
            }
            Err(DatabaseError::Sql { source, .. }) if corrupt(&source) => {
                let aside = move_aside(path, "corrupt")?;
                let rebuilt = format!("`{}` was corrupt ({source}) and is now `{}`", path.display(), aside.display());
                make(path)?;
                let connection = connect(path)?;
                Ok(OpenedDatabase { database: Self::new(connection), fresh: true, rebuilt: Some(rebuilt) })
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the database of a state. Another state's is moved aside to `PATH.foreign-N`, and the answer says so.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn of(path: &Path, state: &str) -> Result<OpenedDatabase, DatabaseError> {
        let mut opened = Self::open(path)?;
        let bears = opened.database.get(STATE)?;
        if bears.as_deref() == Some(state.as_bytes()) {
            return Ok(opened);
        }
        if bears.is_some() {
            drop(opened);
            let aside = move_aside(path, "foreign")?;
            opened = Self::open(path)?;
            opened.rebuilt = Some(format!(
                "`{}` belonged to another state and is now `{}`; was it, or the folder around it, copied?",
                path.display(),
                aside.display()
            ));
        }
        // On a full disk it bears no id until the next start.
        let _ = opened.database.put(STATE, state.as_bytes());
        Ok(opened)
    }

    /// A database in memory: for tests, and for a state directory that cannot be written.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn memory() -> Result<Self, DatabaseError> {
        let mut connection = sql("open", Connection::open_in_memory())?;
        migrate(&mut connection, Path::new(":memory:"))?;
        Ok(Self::new(connection))
    }

    /// It is kept in memory: there was no file, or none that could be used.
    #[must_use]
    pub fn in_memory(&self) -> bool {
        self.in_memory.load(Ordering::Relaxed)
    }

    fn new(connection: Connection) -> Self {
        let in_memory = AtomicBool::new(connection.path().is_none_or(str::is_empty));
        Self { connection: Mutex::new(connection), in_memory }
    }

    /// Moves a database from memory into a file that is not there yet, and goes on in it.
    ///
    /// # Errors
    /// If there is a file of that name, or it cannot be written whole: then all stays in memory.
    #[expect(clippy::disallowed_methods, reason = "a copy of the store's own that was not written whole")]
    pub fn move_to(&self, path: &Path) -> Result<(), DatabaseError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if make(path)?.is_some_and(|length| length > 0) {
            return Err(DatabaseError::InUse { path: path.to_owned() });
        }
        let name = path.to_string_lossy();
        let copied = connection.execute("VACUUM INTO ?1", [&*name]);
        match sql("move to a file", copied).and_then(|_| connect(path)) {
            Ok(file) => {
                *connection = file;
                self.in_memory.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                let _ = std::fs::remove_file(path);
                Err(error)
            }
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, DatabaseError> {
        self.with("read a value", |connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM kv WHERE key = ?1")?;
            statement.query_row([key], |row| row.get(0)).optional()
        })
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), DatabaseError> {
        self.with("write a value", |connection| {
            connection.execute("INSERT OR REPLACE INTO kv(key, value) VALUES(?1, ?2)", params![key, value]).map(drop)
        })
    }

    /// Forgets a key; that there is none is no error.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn delete(&self, key: &str) -> Result<(), DatabaseError> {
        self.with("delete a value", |connection| connection.execute("DELETE FROM kv WHERE key = ?1", [key]).map(drop))
    }

    /// Lets every write fail, as a full disk does.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self, refuse: bool) {
        self.with("refuse writes", |connection| connection.pragma_update(None, "query_only", refuse)).unwrap();
    }

    /// Does something with the connection, alone.
    pub(super) fn with<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        // Whoever panicked left no open transaction: it is rolled back when it is dropped.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        sql(action, work(&mut connection))
    }
}

pub(super) fn sql<T>(action: &'static str, result: rusqlite::Result<T>) -> Result<T, DatabaseError> {
    result.map_err(|source| DatabaseError::Sql { action, source })
}

pub(super) fn corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// Makes the file for its owner alone if it is not there. Says how long it was if it was there.
pub(super) fn make(path: &Path) -> Result<Option<u64>, DatabaseError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::metadata(path) {
        Ok(found) => return Ok(Some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(DatabaseError::File { action: "look at", path: path.to_owned(), source }),
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(None),
        Err(source) => Err(DatabaseError::File { action: "make", path: path.to_owned(), source }),
    }
}

fn connect(path: &Path) -> Result<Connection, DatabaseError> {
    // Without the URI flag a path can never mean anything but a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = sql("open", Connection::open_with_flags(path, flags))?;
    let prepared = connection
        .busy_timeout(std::time::Duration::from_secs(1))
        // The lock mode comes first: it spares WAL its shared-memory file.
        .and_then(|()| {
            connection.execute_batch(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
                 PRAGMA foreign_keys=ON; BEGIN IMMEDIATE; ROLLBACK;",
            )
        })
        .and_then(|()| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)));
    let verdict = match prepared {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            return Err(DatabaseError::InUse { path: path.to_owned() });
        }
        other => sql("read", other)?,
    };
    if verdict != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return sql("check", Err(rusqlite::Error::SqliteFailure(code, Some(verdict))));
    }
    migrate(&mut connection, path)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), DatabaseError> {
    let found = sql("read its version", connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    let known = MIGRATIONS.len();
    if found > known {
        return Err(DatabaseError::Newer { path: path.to_owned(), found, known });
    }
    for (at, step) in MIGRATIONS.iter().enumerate().skip(found) {
        let migrated = connection.transaction().and_then(|transaction| {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", i64::try_from(at + 1).unwrap_or(i64::MAX))?;
            transaction.commit()
        });
        sql("make its tables", migrated)?;
    }
    Ok(())
}

/// Renames the file, and its log with it: the log of a corrupt database must not be played into the next one.
#[expect(clippy::disallowed_methods, reason = "the state is the store's own, and no recording")]
fn move_aside(path: &Path, why: &str) -> Result<PathBuf, DatabaseError> {
    let beside = |suffix: String| PathBuf::from([path.as_os_str(), suffix.as_ref()].join("".as_ref()));
    let free = |n: &u32| !beside(format!(".{why}-{n}")).exists() && !beside(format!(".{why}-{n}-wal")).exists();
    let number = (1..=u32::MAX).find(free).unwrap_or(u32::MAX);
    for part in ["-wal", "-shm", ""] {
        let from = beside(part.to_owned());
        match std::fs::rename(&from, beside(format!(".{why}-{number}{part}"))) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DatabaseError::File { action: "move aside", path: from, source }),
        }
    }
    Ok(beside(format!(".{why}-{number}")))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests spoil their own files")]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("guard.db");
        (home, path)
    }

    #[test]
    fn keeps_values_over_an_unclean_end() {
        let (_home, path) = home();
        let opened = Database::open(&path).unwrap();
        assert!(opened.fresh && opened.rebuilt.is_none());
        opened.database.put("a", b"\x00\xff").unwrap();
        opened.database.put("a", b"two").unwrap();
        opened.database.put("b", b"").unwrap();
        opened.database.delete("b").unwrap();
        opened.database.delete("never there").unwrap();
        drop(opened);
        let opened = Database::open(&path).unwrap();
        assert!(!opened.fresh && opened.rebuilt.is_none());
        assert_eq!(opened.database.get("a").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(opened.database.get("b").unwrap(), None);
    }

    #[test]
    fn what_is_written_is_in_the_files_before_they_are_closed() {
        let (home, path) = home();
        let opened = Database::open(&path).unwrap();
        opened.database.put("a", b"one").unwrap();
        let copy = home.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(home.path().join("guard.db-wal"), home.path().join("copy.db-wal")).unwrap();
        assert_eq!(Database::open(&copy).unwrap().database.get("a").unwrap().as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn a_second_guard_is_refused() {
        let (_home, path) = home();
        let first = Database::open(&path).unwrap();
        assert!(matches!(Database::open(&path), Err(DatabaseError::InUse { .. })));
        drop(first);
        Database::open(&path).unwrap();
    }

    /// Fault 72.
    #[test]
    fn a_corrupt_file_is_moved_aside_and_told() {
        let spoil: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes[..32].fill(0),
            |bytes| bytes[100..4000].fill(0x5a),
            |bytes| bytes.truncate(5000),
            |bytes| *bytes = b"this is no database, it only has the length of a page".repeat(100),
        ];
        let (_home, path) = home();
        for (at, spoil) in spoil.iter().enumerate() {
            Database::open(&path).unwrap().database.put("a", &[7; 20_000]).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            spoil(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let opened = Database::open(&path).unwrap();
            assert!(opened.fresh, "case {at}");
            assert!(opened.rebuilt.unwrap().contains(&format!("guard.db.corrupt-{}", at + 1)));
            assert_eq!(opened.database.get("a").unwrap(), None);
        }
        std::fs::write(&path, b"").unwrap();
        assert!(Database::open(&path).unwrap().rebuilt.unwrap().contains("empty"));
    }

    /// Fault 74.
    #[test]
    fn another_states_database_is_moved_aside_and_told() {
        let (_home, path) = home();
        let opened = Database::of(&path, "one").unwrap();
        assert!(opened.fresh && opened.rebuilt.is_none());
        opened.database.put("a", b"one").unwrap();
        drop(opened);
        assert!(Database::of(&path, "one").unwrap().rebuilt.is_none());
        let opened = Database::of(&path, "two").unwrap();
        assert!(opened.fresh && opened.rebuilt.unwrap().contains("guard.db.foreign-1"));
        assert_eq!(opened.database.get("a").unwrap(), None);
        drop(opened.database);
        assert!(Database::of(&path, "two").unwrap().rebuilt.is_none());
        let aside = Database::of(&path.with_file_name("guard.db.foreign-1"), "one").unwrap();
        assert_eq!(aside.database.get("a").unwrap().as_deref(), Some(&b"one"[..]));
    }

    /// Fault 77.
    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let (_home, path) = home();
        let opened = Database::open(&path).unwrap();
        opened.database.put("a", b"one").unwrap();
        opened.database.with("test", |c| c.pragma_update(None, "user_version", 99)).unwrap();
        drop(opened);
        let error = Database::open(&path).unwrap_err().to_string();
        assert!(error.contains("schema 99") && error.contains("later version"), "{error}");
    }

    /// Fault 69.
    #[test]
    fn hook_records_of_an_earlier_version_keep_their_numbers_and_none_is_given_again() {
        let mut connection = Connection::open_in_memory().unwrap();
        for step in &MIGRATIONS[..4] {
            connection.execute_batch(step).unwrap();
        }
        connection.pragma_update(None, "user_version", 4).unwrap();
        let insert = "INSERT INTO hook_records(path, start, media_server, stream, size, length, at)
             VALUES(?1, ?2, 'zlm-1', 's', 1, 1, 1)";
        for number in 0..5i64 {
            connection.execute(insert, params![format!("/a/{number}").into_bytes(), number]).unwrap();
        }
        connection.execute("DELETE FROM hook_records WHERE number > 3", []).unwrap();
        migrate(&mut connection, Path::new(":memory:")).unwrap();
        connection.execute(insert, params![b"/a/9".to_vec(), 9]).unwrap();
        let database = Database::new(connection);
        let rows = database.hooks_after(0, 9).unwrap();
        let numbers: Vec<_> = rows.iter().filter_map(|row| row.id.number()).collect();
        assert_eq!((numbers, database.last_hook().unwrap()), (vec![1, 2, 3, 6], 6));
        let held =
            database.with("count", |c| c.query_row("SELECT value FROM hook_count", [], |row| row.get::<_, i64>(0)));
        assert_eq!(held.unwrap(), 4);
    }

    #[test]
    fn what_was_kept_in_memory_moves_to_its_file_once_there_is_room() {
        let (_home, path) = home();
        let database = Database::memory().unwrap();
        database.put("a", b"one").unwrap();
        assert!(database.in_memory() && database.move_to(Path::new("/nonexistent/guard.db")).is_err());
        database.move_to(&path).unwrap();
        assert!(!database.in_memory());
        database.put("b", b"two").unwrap();
        drop(database);
        let opened = Database::open(&path).unwrap();
        assert_eq!(opened.database.get("a").unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(opened.database.get("b").unwrap().as_deref(), Some(&b"two"[..]));
        assert!(Database::memory().unwrap().move_to(&path).is_err(), "never over another");
    }

    #[test]
    fn a_full_disk_is_an_error_and_no_panic() {
        let (_home, path) = home();
        let opened = Database::open(&path).unwrap();
        opened.database.put("a", b"one").unwrap();
        opened.database.with("test", |c| c.execute_batch("PRAGMA max_page_count=1")).unwrap();
        let error = opened.database.put("b", &[7; 1_000_000]).unwrap_err();
        assert!(error.full());
        assert_eq!(opened.database.get("a").unwrap().as_deref(), Some(&b"one"[..]));
        assert!(Database::open(Path::new("/nonexistent/guard.db")).is_err());
    }
}
