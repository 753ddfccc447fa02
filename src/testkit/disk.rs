//! A filesystem in memory with a journal of its own: changes of names become durable in the order in which they were made.
//!
//! Invariants, as on ext4 and XFS:
//! - syncing a directory makes durable what was done to it, and all that was done before that;
//! - a power cut keeps some first part of what was not durable yet, and each change as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::units::{Bytes, Timestamp};
use crate::system::LeaseKind;

/// An error number as an error.
pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// One file.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    /// What `statx` says.
    pub identity: FileIdentity,
    /// Extended attributes.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// Immutable (`chattr +i`).
    pub immutable: bool,
    /// How many have it open for reading.
    pub readers: u32,
    /// How many have it open for writing.
    pub writers: u32,
    /// Bytes that others share.
    pub shared: Bytes,
    /// What it holds; beyond that, up to its size, zeros.
    pub content: Arc<[u8]>,
    /// The lease that the guard has on it.
    pub(super) lease: Option<LeaseKind>,
    /// Somebody waits for the lease to open it for writing.
    pub(super) awaited: bool,
}

/// Which names there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    dirs: BTreeSet<RelPath>,
    files: BTreeMap<RelPath, u64>,
}

#[derive(Debug, Clone)]
enum Change {
    Make(RelPath),
    Remove(RelPath),
    Link(RelPath, u64),
    Rename(RelPath, RelPath),
    Unlink(RelPath),
}

impl Names {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Make(dir) => drop(self.dirs.insert(dir.clone())),
            Change::Remove(dir) => drop(self.dirs.remove(dir)),
            Change::Link(path, inode) => drop(self.files.insert(path.clone(), *inode)),
            Change::Rename(from, to) => {
                if let Some(inode) = self.files.remove(from) {
                    self.files.insert(to.clone(), inode);
                }
            }
            Change::Unlink(path) => drop(self.files.remove(path)),
        }
    }
}

impl Change {
    /// It was done to this directory (`None`: the top).
    fn touches(&self, dir: Option<&RelPath>) -> bool {
        let of = |path: &RelPath| path.split().0.as_ref() == dir;
        match self {
            Self::Make(path) | Self::Remove(path) => of(path) || Some(path) == dir,
            Self::Link(path, _) | Self::Unlink(path) => of(path),
            Self::Rename(from, to) => of(from) || of(to),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    now: Names,
    durable: Names,
    log: Vec<Change>,
    files: BTreeMap<u64, Fake>,
    marker: Option<String>,
}

/// A filesystem that outlives the guard.
#[derive(Debug)]
pub struct Disk {
    inner: Mutex<Inner>,
    /// Renames into the private folder answer `EXDEV`, as between subvolumes.
    pub apart: bool,
    /// Leases work.
    pub leases: bool,
    /// Space comes back only with what is durable, as on btrfs.
    pub lags: bool,
}

impl Disk {
    /// An empty one.
    #[must_use]
    pub fn new(apart: bool, leases: bool, lags: bool) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), apart, leases, lags })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a file of `blocks` blocks with the directories above it; gives its inode number.
    pub fn create(&self, path: &RelPath, blocks: u64, modified: Timestamp) -> u64 {
        let mut inner = self.lock();
        let mut above = Vec::new();
        let mut next = path.split().0;
        while let Some(dir) = next {
            next = dir.split().0;
            above.push(dir);
        }
        for dir in above.into_iter().rev() {
            if !inner.now.dirs.contains(&dir) {
                inner.change(Change::Make(dir));
            }
        }
        let inode = inner.files.len() as u64 + 100;
        let nanos = modified.millis().saturating_mul(1_000_000);
        let identity = FileIdentity {
            device: 1,
            mount: 1,
            inode,
            birth: nanos,
            modified: nanos,
            size: blocks * 4096,
            allocated: Bytes(blocks * 4096),
            links: 1,
        };
        inner.files.insert(inode, Fake { identity, ..Fake::default() });
        inner.change(Change::Link(path.clone(), inode));
        inode
    }

    /// Changes a file by its inode number.
    pub fn alter(&self, inode: u64, change: impl FnOnce(&mut Fake)) {
        if let Some(file) = self.lock().files.get_mut(&inode) {
            change(file);
        }
    }

    /// Writes a file's content; its size follows.
    pub fn fill(&self, inode: u64, content: &[u8]) {
        self.alter(inode, |file| {
            file.content = content.into();
            file.identity.size = content.len() as u64;
        });
    }

    /// Somebody else unlinks a name; gives the inode number that it had.
    pub fn remove(&self, path: &RelPath) -> Option<u64> {
        let mut inner = self.lock();
        let inode = inner.now.files.get(path).copied()?;
        inner.change(Change::Unlink(path.clone()));
        Some(inode)
    }

    /// Somebody opens a file to write to it, or waits for it if it is leased; gives its inode number.
    pub fn open_to_write(&self, path: &RelPath) -> Option<u64> {
        let mut inner = self.lock();
        let inode = inner.now.files.get(path).copied()?;
        let file = inner.files.get_mut(&inode)?;
        match file.lease {
            Some(_) => file.awaited = true,
            None => file.writers += 1,
        }
        Some(inode)
    }

    /// Every file by its path, the private folder included.
    pub fn names(&self) -> BTreeMap<RelPath, u64> {
        self.lock().now.files.clone()
    }

    /// Every directory.
    pub fn directories(&self) -> BTreeSet<RelPath> {
        self.lock().now.dirs.clone()
    }

    /// Everything becomes durable.
    pub fn sync(&self) {
        self.lock().settle_all();
    }

    /// The power fails: of what was not durable, `keep` 65536ths stay, and nobody has anything open any more.
    pub fn lose_power(&self, keep: u16) {
        let mut inner = self.lock();
        let kept = (inner.log.len() + 1) * usize::from(keep) / 65_536;
        let log = std::mem::take(&mut inner.log);
        for change in &log[..kept.min(log.len())] {
            inner.durable.apply(change);
        }
        inner.now = inner.durable.clone();
        for file in inner.files.values_mut() {
            (file.readers, file.writers, file.lease, file.awaited) = (0, 0, None, false);
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> Bytes {
        let inner = self.lock();
        let mut named: BTreeSet<u64> = inner.now.files.values().copied().collect();
        if self.lags {
            named.extend(inner.durable.files.values());
        }
        let used = inner.files.iter().filter(|(inode, file)| named.contains(inode) || file.readers + file.writers > 0);
        used.map(|(_, file)| file.identity.allocated).sum()
    }

    pub(super) fn inode(&self, path: &RelPath) -> Option<u64> {
        self.lock().now.files.get(path).copied()
    }

    pub(super) fn is_dir(&self, path: &RelPath) -> bool {
        self.lock().now.dirs.contains(path)
    }

    pub(super) fn file(&self, inode: u64) -> Option<Fake> {
        self.lock().files.get(&inode).cloned()
    }

    /// What lies in a directory: its directories, and its files with their identities.
    pub(super) fn list(&self, dir: Option<&RelPath>) -> (Vec<RelPath>, Vec<(RelPath, FileIdentity)>) {
        let inner = self.lock();
        let here = |path: &&RelPath| path.split().0.as_ref() == dir;
        let dirs = inner.now.dirs.iter().filter(here).cloned().collect();
        let files = inner.now.files.iter().filter(|(path, _)| here(path));
        (dirs, files.filter_map(|(path, inode)| Some((path.clone(), inner.files.get(inode)?.identity))).collect())
    }

    pub(super) fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let mut inner = self.lock();
        let inode = inner.now.files.get(from).copied().ok_or_else(|| errno(libc::ENOENT))?;
        if to.split().0.is_some_and(|dir| !inner.now.dirs.contains(&dir)) {
            return Err(errno(libc::ENOENT));
        }
        if inner.now.files.contains_key(to) || inner.now.dirs.contains(to) {
            return Err(errno(libc::EEXIST));
        }
        if inner.files.get(&inode).is_some_and(|file| file.immutable) {
            return Err(errno(libc::EPERM));
        }
        inner.change(Change::Rename(from.clone(), to.clone()));
        Ok(())
    }

    pub(super) fn unlink(&self, path: &RelPath) -> io::Result<()> {
        let mut inner = self.lock();
        let inode = inner.now.files.get(path).copied().ok_or_else(|| errno(libc::ENOENT))?;
        if inner.files.get(&inode).is_some_and(|file| file.immutable) {
            return Err(errno(libc::EPERM));
        }
        inner.change(Change::Unlink(path.clone()));
        Ok(())
    }

    pub(super) fn make_dir(&self, path: &RelPath) {
        let mut inner = self.lock();
        if !inner.now.dirs.contains(path) {
            inner.change(Change::Make(path.clone()));
        }
    }

    pub(super) fn remove_dir(&self, path: &RelPath) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.now.dirs.contains(path) {
            return Err(errno(libc::ENOENT));
        }
        let here = |other: &RelPath| other.split().0.as_ref() == Some(path);
        if inner.now.files.keys().any(here) || inner.now.dirs.iter().any(here) {
            return Err(errno(libc::ENOTEMPTY));
        }
        inner.change(Change::Remove(path.clone()));
        Ok(())
    }

    pub(super) fn sync_dir(&self, dir: Option<&RelPath>) {
        let mut inner = self.lock();
        let upto = inner.log.iter().rposition(|change| change.touches(dir)).map_or(0, |at| at + 1);
        let done: Vec<Change> = inner.log.drain(..upto).collect();
        done.iter().for_each(|change| inner.durable.apply(change));
    }

    pub(super) fn marker(&self) -> Option<String> {
        self.lock().marker.clone()
    }

    pub(super) fn mark(&self, text: &str) {
        self.lock().marker = Some(text.to_owned());
    }
}

impl Inner {
    fn change(&mut self, change: Change) {
        self.now.apply(&change);
        self.log.push(change);
    }

    fn settle_all(&mut self) {
        let log = std::mem::take(&mut self.log);
        log.iter().for_each(|change| self.durable.apply(change));
    }
}
