//! Copies one recording, a file or a directory that goes as one, and says so only once all of it is verified.
//!
//! 1. The source is opened, and must be what the scan saw.
//! 2. It is copied and verified, file by file ([`ColdStore::put`]).
//! 3. The source must still be what it was: what changed meanwhile was not copied.
//!
//! The source is only ever read. Whatever fails, it stays.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::store::{ColdError, ColdStore, Parcel};
use crate::domain::archive::{ArchivedCopy, Digest, key_of};
use crate::domain::names::ArchiveId;
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::retention::TreePolicy;
use crate::domain::units::{Bytes, Timestamp};
use crate::system::{Clock, HeldFile, WritableDir, list_unit};

const CHANGED: &str = "it changed since it was scanned";

/// A recording that is to be copied.
#[derive(Clone)]
pub struct Wanted {
    /// Its tree, held.
    pub dir: Arc<dyn WritableDir>,
    /// The tree's rules.
    pub policy: Arc<TreePolicy>,
    /// Its path.
    pub path: RelPath,
    /// Its stream.
    pub stream: String,
    /// The time of the recording.
    pub recorded: Timestamp,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Inode and fingerprint as they were scanned.
    pub source: (u64, u64),
    /// It is a directory.
    pub unit: bool,
    /// Its volume needs the space: neither window nor order waits.
    pub urgent: bool,
}

/// How fast is copied, over all files of an archive.
pub struct Throttle {
    rate: Option<Bytes>,
    clock: Arc<dyn Clock>,
    /// When what was let through so far will have been due.
    due: Duration,
}

impl Throttle {
    /// At most so many bytes a second.
    #[must_use]
    pub fn new(rate: Option<Bytes>, clock: Arc<dyn Clock>) -> Self {
        let due = clock.boottime();
        Self { rate, clock, due }
    }

    /// Waits until so many more bytes may be read.
    fn pass(&mut self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let now = self.clock.boottime();
        if let Some(wait) = self.due.checked_sub(now) {
            self.clock.sleep(wait);
        }
        // What was not used is not saved up.
        let span = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate.0.max(1));
        self.due = self.due.max(now).saturating_add(span);
    }
}

/// What copying listens to.
pub struct Copying<'a> {
    /// Where to.
    pub archive: &'a ArchiveId,
    /// The archive.
    pub store: &'a dyn ColdStore,
    /// How fast.
    pub throttle: &'a mut Throttle,
    /// Whether to end, between two pieces.
    pub stop: &'a dyn Fn() -> bool,
    /// The time.
    pub clock: &'a dyn Clock,
}

impl Copying<'_> {
    /// Copies a recording; only a verified copy is one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn copy(&mut self, wanted: &Wanted) -> Result<ArchivedCopy, ColdError> {
        let (digest, size) = if wanted.unit { self.unit(wanted)? } else { self.whole(wanted)? };
        Ok(ArchivedCopy {
            archive: self.archive.clone(),
            tree: wanted.policy.tree.clone(),
            path: wanted.path.clone(),
            stream: wanted.stream.clone(),
            recorded: wanted.recorded,
            size,
            digest,
            verified: self.clock.now(),
            source: wanted.source,
            restored: None,
        })
    }

    fn whole(&mut self, wanted: &Wanted) -> Result<(Digest, u64), ColdError> {
        let same = |now: &FileIdentity| (now.inode, now.fingerprint()) == wanted.source;
        self.file(wanted, &wanted.path, &same)
    }

    /// A directory is copied once all its files are, and it is still what was scanned. Its digest is that of the list of theirs.
    fn unit(&mut self, wanted: &Wanted) -> Result<(Digest, u64), ColdError> {
        let (dir, layout) = (wanted.dir.as_ref(), &wanted.policy.layout);
        let now = self.clock.now();
        let list = |files: &mut Vec<(RelPath, FileIdentity)>| {
            let mut each = |hour: &RelPath, entry: &crate::system::DirEntry, _| {
                files.push((hour.join(&entry.name), entry.identity));
            };
            let listing = list_unit(dir, layout, &wanted.path, now, &mut each).map_err(ColdError::Source)?;
            if listing.sum.partial || listing.sum.fingerprint() != wanted.source.1 {
                return Err(changed());
            }
            files.extend(listing.beside.into_iter().map(|one| (one.path, one.identity)));
            Ok(())
        };
        let mut files = Vec::new();
        list(&mut files)?;
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut digests, mut size) = (Vec::new(), 0_u64);
        for (path, seen) in &files {
            let same = |now: &FileIdentity| (now.inode, now.fingerprint()) == (seen.inode, seen.fingerprint());
            let (digest, length) = self.file(wanted, path, &same)?;
            digests.push(digest);
            size = size.saturating_add(length);
        }
        list(&mut Vec::new())?;
        Ok((digest_of_unit(files.iter().map(|(path, _)| path).zip(digests)), size))
    }

    fn file(
        &mut self,
        wanted: &Wanted,
        path: &RelPath,
        same: &dyn Fn(&FileIdentity) -> bool,
    ) -> Result<(Digest, u64), ColdError> {
        let held = wanted.dir.open(path).map_err(ColdError::Source)?.ok_or_else(gone)?;
        let before = held.identity().map_err(ColdError::Source)?;
        if !same(&before) {
            return Err(changed());
        }
        let key = key_of(&wanted.policy.tree, path);
        let mut content = Content { held: held.as_ref(), at: 0, same, throttle: self.throttle, stop: self.stop };
        let parcel = Parcel { key: &key, size: before.size, modified: before.modified, content: &mut content };
        let copied = self.store.put(parcel)?;
        // Nobody plays it soon, and what is recorded now needs the memory.
        let _ = held.forget();
        let after = held.identity().map_err(ColdError::Source)?;
        if !same(&after) {
            return Err(changed());
        }
        Ok(copied)
    }
}

/// The digest of a directory that goes as one: that of the list of its files, in the order of their paths, and of their digests.
#[must_use]
pub fn digest_of_unit<'a>(files: impl IntoIterator<Item = (&'a RelPath, Digest)>) -> Digest {
    let mut hash = Sha256::new();
    for (path, digest) in files {
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(digest.0);
    }
    Digest(hash.finalize().into())
}

/// Reads a file from its begin, as fast as it may.
struct Content<'a> {
    held: &'a dyn HeldFile,
    at: u64,
    /// It is still what was scanned.
    same: &'a dyn Fn(&FileIdentity) -> bool,
    throttle: &'a mut Throttle,
    stop: &'a dyn Fn() -> bool,
}

impl io::Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.stop)() {
            return Err(io::Error::other("copying was stopped; it goes on later"));
        }
        let read = self.held.read_at(self.at, buffer)?;
        if read == 0 && !(self.same)(&self.held.identity()?) {
            return Err(io::Error::other(CHANGED));
        }
        self.throttle.pass(read);
        self.at += read as u64;
        Ok(read)
    }
}

fn gone() -> ColdError {
    ColdError::Source(io::Error::new(io::ErrorKind::NotFound, "it is not there any more"))
}

fn changed() -> ColdError {
    ColdError::Source(io::Error::other(CHANGED))
}
