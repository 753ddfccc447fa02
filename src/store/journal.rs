//! The journal: durable, hash-chained, never rewritten.
//!
//! Steps of an append, in this order:
//! 1. the frames are written behind the last one, into space that was zeroed before;
//! 2. the segment is synced (`fdatasync`);
//! 3. `head` is brought up to date, so that a cut-off end shows;
//! 4. only then the caller learns the numbers.
//!
//! Invariants: one writer (the state's lock); what was synced is never changed. After a failed write or sync nobody knows what is on
//! the disk: what followed the last sync that succeeded is cut off, everything is read again, and a new segment is begun. On a disk
//! that had no room for a journal yet, entries wait in memory, and are written before any other once there is room.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ballast::Ballast;
use super::reading::{about, cut_off, read, read_head, verify};
use super::record::encode;
use super::segment::{self, HEADER, Position, Tail, walk};
use crate::domain::deletion::Seq;
use crate::domain::history::History;
use crate::domain::journal::{Entry, JournalLine, JournalQuery, Recorded, Verification};
use crate::domain::units::Timestamp;
use crate::system::is_full;

/// The segment that is used next.
const SPARE: &str = "spare";
/// The last entry, so that a cut-off end shows.
pub(super) const HEAD: &str = "head";
/// Between attempts to make room for the next segment.
const AGAIN: Duration = Duration::from_secs(30);
/// Between attempts to go on after a failed write.
const REOPEN: Duration = Duration::from_secs(10);

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file of it cannot be read or written.
    #[error("cannot {action} the journal in `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write failed.
    #[error("the journal in `{}` is closed, because an earlier write failed; nothing is deleted until it can be written again, which is tried every ten seconds", .0.display())]
    Closed(PathBuf),
    /// Somebody removed its files.
    #[error("the journal in `{}` was removed while the guard runs; nothing is deleted until the guard is started again", .0.display())]
    Removed(PathBuf),
    /// An entry is too long.
    #[error("an entry for the journal is too long: {0} bytes")]
    TooLong(usize),
}

impl JournalError {
    /// The disk has no room.
    #[must_use]
    pub fn full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::Closed(_) | Self::Removed(_) | Self::TooLong(_) => false,
        }
    }
}

/// The journal, opened for writing.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    ballast: Ballast,
    inner: Mutex<Inner>,
}

/// Makes what a journal needs besides its own files; whether that is there now.
type Prepare = Box<dyn Fn() -> bool + Send + Sync>;

/// Whether entries can be made durable.
enum Standing {
    /// They are.
    Sound,
    /// A write failed. The segment is good up to its offset.
    Broken,
    /// There was no room for a journal yet: these wait.
    Owing(Vec<(Timestamp, Entry)>, Prepare),
    /// A journal of nothing.
    Detached,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sound => "Sound",
            Self::Broken => "Broken",
            Self::Owing(..) => "Owing",
            Self::Detached => "Detached",
        })
    }
}

/// A segment that is written.
#[derive(Debug)]
struct Writing {
    file: File,
    path: PathBuf,
    /// Where the next frame goes; all before it was synced.
    offset: usize,
}

#[derive(Debug)]
struct Inner {
    /// The segment that is written.
    segment: Option<Writing>,
    head: Option<File>,
    at: Position,
    /// The last entry that is known to be on the disk.
    synced: Seq,
    history: History,
    standing: Standing,
    /// The next segment is ready.
    spare: bool,
    /// When one was last tried to be made.
    tried: Timestamp,
}

/// What opening found.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// It did not exist before.
    pub created: bool,
    /// What was repaired or found damaged, in words.
    pub repaired: Vec<String>,
}

impl Journal {
    /// Opens the journal in `folder`, or begins one.
    ///
    /// # Errors
    /// If a file cannot be read, or a new segment cannot be made.
    pub fn open(folder: &Path) -> Result<Opened, JournalError> {
        let ballast = Ballast::new(folder);
        let (inner, created, repaired) = match load(folder) {
            Err(error) if error.full() && ballast.release() => load(folder)?,
            loaded => loaded?,
        };
        let journal = Self { folder: folder.to_owned(), ballast, inner: Mutex::new(inner) };
        {
            let mut inner = journal.lock();
            if inner.segment.is_none() {
                journal.rotate(&mut inner)?;
            }
            inner.spare = journal.make_spare();
            journal.ballast.build();
        }
        Ok(Opened { journal, created, repaired })
    }

    /// A journal of nothing, for looking at trees where there is no state yet; it takes no entries.
    #[must_use]
    pub fn detached(folder: &Path) -> Self {
        Self::without_files(folder, Standing::Detached)
    }

    /// A journal that there is no room for yet. Its entries wait in memory; at each, `prepare` is called and then room is looked
    /// for again.
    #[must_use]
    pub fn owing(folder: &Path, prepare: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self::without_files(folder, Standing::Owing(Vec::new(), Box::new(prepare)))
    }

    fn without_files(folder: &Path, standing: Standing) -> Self {
        let inner = Inner {
            segment: None,
            head: None,
            at: Position::default(),
            synced: Seq(0),
            history: History::default(),
            standing,
            spare: true,
            tried: Timestamp::default(),
        };
        Self { folder: folder.to_owned(), ballast: Ballast::new(folder), inner: Mutex::new(inner) }
    }

    /// Entries wait in memory, because there is no room for them yet: whoever deletes something leaves another record first.
    #[must_use]
    pub fn owes(&self) -> bool {
        matches!(self.lock().standing, Standing::Owing(..))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves no half-done state here that `closed` does not tell of.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries and makes them durable with one sync; returns their numbers. Without room for a journal they wait in memory.
    ///
    /// # Errors
    /// If they could not be made durable: then none of them counts.
    pub fn append_synced(&self, entries: Vec<Entry>, now: Timestamp) -> Result<Vec<Seq>, JournalError> {
        let mut inner = self.lock();
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        match inner.standing {
            Standing::Sound => {}
            Standing::Detached => return Err(JournalError::Closed(self.folder.clone())),
            Standing::Broken => self.reopen(&mut inner, now)?,
            Standing::Owing(..) => {
                if !self.pay(&mut inner) {
                    return Ok(inner.owe(entries.into_iter().map(|entry| (now, entry))));
                }
            }
        }
        self.there(&inner)?;
        let seqs = self.append(&mut inner, entries.into_iter().map(|entry| (now, entry)))?;
        if !inner.spare && now.since(inner.tried) >= AGAIN {
            inner.tried = now;
            inner.spare = self.make_spare();
            self.ballast.build();
        }
        Ok(seqs)
    }

    /// Its segment still has a name: what is written to one without is no record.
    fn there(&self, inner: &Inner) -> Result<(), JournalError> {
        let segment = inner.segment.as_ref().expect("an open journal has a segment");
        match segment.file.metadata().map_err(|e| self.failed("look at", e))?.nlink() {
            0 => Err(JournalError::Removed(self.folder.clone())),
            _ => Ok(()),
        }
    }

    /// Nobody waits for its disk at this moment.
    #[must_use]
    pub fn answers(&self) -> bool {
        !matches!(self.inner.try_lock(), Err(std::sync::TryLockError::WouldBlock))
    }

    /// So many deletions have room in it for certain; at least one is tried.
    #[must_use]
    pub fn room(&self) -> usize {
        /// An intent and an outcome, with a long path.
        const DELETION: usize = 2 << 10;
        let inner = self.lock();
        let (Some(segment), Standing::Sound) = (&inner.segment, &inner.standing) else { return 1 };
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| usize::try_from(found.len()).unwrap_or(0));
        let rest = length(&segment.path).saturating_sub(segment.offset);
        (rest.saturating_add(length(&self.folder.join(SPARE))) / DELETION).max(1)
    }

    fn append(
        &self,
        inner: &mut Inner,
        mut entries: impl Iterator<Item = (Timestamp, Entry)>,
    ) -> Result<Vec<Seq>, JournalError> {
        // Until this append is known to have succeeded.
        inner.standing = Standing::Broken;
        let batch = inner.at.batch.wrapping_add(1);
        let mut seqs = Vec::new();
        let mut buffer = Vec::new();
        while let Some((at, entry)) = entries.next() {
            let before = (inner.at, buffer.len());
            let seq = Seq(inner.at.seq.0 + 1);
            let hash = encode(&mut buffer, &before.0.hash, batch, seq, at, &entry);
            let offset = inner.segment.as_ref().expect("an open journal has a segment").offset;
            if offset + buffer.len() > self.segment_length(inner)? {
                let frame = buffer.split_off(before.1);
                if HEADER + frame.len() > 64 << 10 {
                    inner.standing = Standing::Sound;
                    return Err(JournalError::TooLong(frame.len()));
                }
                self.flush(inner, &buffer)?;
                match self.rotate(inner) {
                    Ok(()) => buffer = frame,
                    // What stands before it is whole. Without room for more, the rest waits in memory.
                    Err(error) if error.full() => {
                        inner.standing = Standing::Owing(Vec::new(), Box::new(|| true));
                        seqs.extend(inner.owe([(at, entry)].into_iter().chain(entries)));
                        return Ok(seqs);
                    }
                    Err(error) => {
                        inner.standing = Standing::Sound;
                        return Err(error);
                    }
                }
            }
            inner.at = Position { seq, hash, batch };
            inner.history.enter(&Recorded { seq, at, hash, entry });
            seqs.push(seq);
        }
        self.flush(inner, &buffer)?;
        inner.standing = Standing::Sound;
        self.write_head(inner);
        Ok(seqs)
    }

    /// After a failed write: cuts off what nobody knows the state of, reads everything again, and begins a new segment.
    fn reopen(&self, inner: &mut Inner, now: Timestamp) -> Result<(), JournalError> {
        if now >= inner.tried && now.since(inner.tried) < REOPEN {
            return Err(JournalError::Closed(self.folder.clone()));
        }
        inner.tried = now;
        if let Some(Writing { path, offset, .. }) = &inner.segment {
            let length = self.segment_length(inner)?;
            let file = File::options().write(true).open(path).map_err(|e| self.failed("open", e))?;
            file.write_all_at(&vec![0; length.saturating_sub(*offset)], *offset as u64)
                .and_then(|()| file.sync_data())
                .map_err(|e| self.failed("cut the end off", e))?;
        }
        let (mut again, _, _) = load(&self.folder)?;
        again.history.last_run = again.history.last_run.max(inner.history.last_run);
        if again.segment.as_ref().is_none_or(|segment| segment.offset > HEADER) {
            self.rotate(&mut again)?;
        }
        again.tried = now;
        *inner = again;
        Ok(())
    }

    /// Makes the journal that there was no room for, and writes what waits; whether that is done.
    fn pay(&self, inner: &mut Inner) -> bool {
        let Standing::Owing(owed, prepare) = &inner.standing else { return true };
        if !prepare() {
            return false;
        }
        let owed = owed.clone();
        let Ok((mut new, _, _)) = load(&self.folder) else { return false };
        let before = new.at.seq;
        if new.segment.as_ref().is_none_or(|segment| segment.offset > HEADER) && self.rotate(&mut new).is_err() {
            return false;
        }
        match self.append(&mut new, owed.into_iter()) {
            Ok(_) if matches!(new.standing, Standing::Sound) => {
                new.history.last_run = new.history.last_run.max(inner.history.last_run);
                *inner = new;
                true
            }
            Ok(_) | Err(_) => {
                drop(new);
                self.discard(before);
                false
            }
        }
    }

    /// Takes segments away again that were begun behind an entry, and of which nobody was told.
    #[expect(clippy::disallowed_methods, reason = "segments of the store that nobody was told of")]
    fn discard(&self, before: Seq) {
        let begun = segment::list(&self.folder).unwrap_or_default().into_iter().filter(|(first, _)| *first > before);
        for (_, path) in begun {
            let _ = std::fs::remove_file(path);
        }
    }

    fn segment_length(&self, inner: &Inner) -> Result<usize, JournalError> {
        let segment = inner.segment.as_ref().expect("an open journal has a segment");
        let length = segment.file.metadata().map_err(|e| self.failed("look at", e))?.len();
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { action, path: self.folder.clone(), source }
    }

    /// Steps 1 and 2.
    fn flush(&self, inner: &mut Inner, buffer: &[u8]) -> Result<(), JournalError> {
        let Writing { file, offset, .. } = inner.segment.as_mut().expect("an open journal has a segment");
        if buffer.is_empty() {
            return Ok(());
        }
        let write = || file.write_all_at(buffer, *offset as u64).and_then(|()| file.sync_data());
        let written = match write() {
            Err(error) if is_full(&error) && self.ballast.release() => write(),
            other => other,
        };
        if let Err(error) = written {
            // What is not on record was never intended.
            inner.history.open.split_off(&Seq(inner.synced.0 + 1));
            return Err(self.failed("write", error));
        }
        *offset += buffer.len();
        inner.synced = inner.at.seq;
        Ok(())
    }

    /// Step 3. It is not synced: after a power cut it is behind, never ahead.
    fn write_head(&self, inner: &Inner) {
        let Some(head) = &inner.head else { return };
        let mut out = [0; 44];
        out[..8].copy_from_slice(&inner.at.seq.0.to_le_bytes());
        out[8..40].copy_from_slice(&inner.at.hash);
        let crc = crc32fast::hash(&out[..40]);
        out[40..].copy_from_slice(&crc.to_le_bytes());
        // On a full disk it may not grow; the journal is whole without it.
        let _ = head.write_all_at(&out, 0);
    }

    /// Goes on in a new segment.
    #[expect(clippy::disallowed_methods, reason = "the spare becomes a segment")]
    fn rotate(&self, inner: &mut Inner) -> Result<(), JournalError> {
        let spare = self.folder.join(SPARE);
        let file = match File::options().read(true).write(true).open(&spare) {
            Ok(file) if file.metadata().is_ok_and(|stat| stat.len() > HEADER as u64) => file,
            Ok(_) | Err(_) => match segment::prepare(&spare) {
                Err(error) if is_full(&error) && self.ballast.release() => segment::prepare(&spare),
                prepared => prepared,
            }
            .map_err(|e| self.failed("make room for", e))?,
        };
        let first = Seq(inner.at.seq.0 + 1);
        let path = self.folder.join(segment::name(first));
        file.write_all_at(&segment::header(first, &inner.at.hash), 0)
            .and_then(|()| file.sync_data())
            .and_then(|()| std::fs::rename(&spare, &path))
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|e| self.failed("begin a segment of", e))?;
        inner.segment = Some(Writing { file, path, offset: HEADER });
        inner.spare = self.make_spare();
        Ok(())
    }

    /// Makes the next segment while there is room for it. Without one the guard goes on, and tries again later.
    fn make_spare(&self) -> bool {
        let spare = self.folder.join(SPARE);
        let whole = std::fs::metadata(&spare).is_ok_and(|stat| stat.len() > HEADER as u64);
        whole || segment::prepare(&spare).is_ok()
    }

    /// What all entries add up to.
    pub fn with_history<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.lock().history)
    }

    /// Notes about failures and held files that need no entry of their own: when one is tried again, and who holds it.
    pub fn with_history_mut<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.lock().history)
    }

    /// Reads lines, the oldest first.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub fn read(&self, query: &JournalQuery) -> Result<Vec<JournalLine>, JournalError> {
        // Without the lock: what was synced never changes, and a reader that meets the end while it is written stops there.
        read(&self.folder, query)
    }

    /// Hands over the entries that may concern what `mention` names, and the first of all, the oldest first: intents and notes of paths that
    /// mention it, their outcomes, and notes about the guard itself. Others are passed over unread. `mention` is of letters and digits. `done` hears how many of how many
    /// segments were read. Gives what is damaged or missing, in words.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub fn about(
        &self,
        mention: &str,
        each: &mut dyn FnMut(Recorded),
        done: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<String>, JournalError> {
        // As for `read`.
        about(&self.folder, mention, each, done)
    }

    /// Checks the whole chain.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub fn verify(&self) -> Result<Verification, JournalError> {
        let _inner = self.lock();
        verify(&self.folder)
    }
}

impl Inner {
    /// Takes entries that wait.
    fn owe(&mut self, entries: impl Iterator<Item = (Timestamp, Entry)>) -> Vec<Seq> {
        let mut seqs = Vec::new();
        for (now, entry) in entries {
            let seq = Seq(self.at.seq.0 + 1);
            self.at.seq = seq;
            self.history.enter(&Recorded { seq, at: now, hash: [0; 32], entry: entry.clone() });
            if let Standing::Owing(owed, _) = &mut self.standing {
                owed.push((now, entry));
            }
            seqs.push(seq);
        }
        seqs
    }
}

/// Reads a journal, and cuts a torn end off. Gives what it adds up to, whether there was none, and what was found wrong. Without
/// segments there is none to write to yet.
fn load(folder: &Path) -> Result<(Inner, bool, Vec<String>), JournalError> {
    let failed = |action, source| JournalError::Io { action, path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(|e| failed("make", e))?;
    let segments = segment::list(folder).map_err(|e| failed("list", e))?;
    let mut at = Position::default();
    let mut history = History::default();
    let mut repaired = Vec::new();
    let mut last = None;
    for (_, path) in &segments {
        let bytes = std::fs::read(path).map_err(|e| failed("read", e))?;
        let name = show(path);
        let tail =
            walk(&name, &bytes, &mut at, &mut |recorded| history.enter(&recorded), &mut |fault| repaired.push(fault));
        last = Some((path, name, tail, bytes.len()));
    }
    let mut segment = None;
    if let Some((path, name, tail, length)) = last {
        let open = || File::options().read(true).write(true).open(path).map_err(|e| failed("open", e));
        match tail {
            Tail::Clean(offset) => segment = Some(Writing { file: open()?, path: path.clone(), offset }),
            Tail::Torn(offset) => {
                let file = open()?;
                file.write_all_at(&vec![0; length - offset], offset as u64)
                    .and_then(|()| file.sync_data())
                    .map_err(|e| failed("repair", e))?;
                repaired.push(format!(
                    "segment `{name}`: a batch that was being written when the guard was stopped was cut off"
                ));
                segment = Some(Writing { file, path: path.clone(), offset });
            }
        }
    }
    if let Some(fault) = read_head(folder).and_then(|head| cut_off(&head, &at)) {
        repaired.push(fault);
    }
    let head = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(folder.join(HEAD));
    let (spare, tried) = (false, Timestamp::default());
    let inner =
        Inner { segment, head: head.ok(), at, synced: at.seq, history, standing: Standing::Sound, spare, tried };
    Ok((inner, segments.is_empty(), repaired))
}

pub(super) fn show(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
