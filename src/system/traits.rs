//! What the rest of the guard asks of the machine. The real ones stand beside this file, the fakes in `testkit`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::deletion::Holder;
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::{FilesystemTraits, Reading, Unusable};

/// The time of day, and time that only moves forward.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment, suspended spans included (CLOCK_BOOTTIME).
    fn boottime(&self) -> Duration;
    /// Waits.
    fn sleep(&self, span: Duration);
}

/// Type of a directory's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryType {
    /// A regular file.
    File,
    /// A directory on the same mount.
    Directory,
    /// Something else is mounted here.
    Mount,
    /// A symbolic link.
    Symlink,
    /// A socket, pipe or device.
    Special,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryType,
    /// For files and directories.
    pub identity: FileIdentity,
}

/// Which lease is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseKind {
    /// Granted if nobody has the file open for writing.
    NoWriter,
    /// Granted if nobody else has it open at all.
    NoOpener,
}

/// What the kernel said to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Granted: nobody has it open.
    Granted,
    /// Refused: somebody has it open.
    Conflict,
    /// Leases do not work here, or not for us: nothing is known.
    Unavailable,
}

/// One regular file, held by a descriptor.
pub trait HeldFile: Send {
    /// What `statx` says of the descriptor now.
    ///
    /// # Errors
    /// What the system says.
    fn identity(&self) -> io::Result<FileIdentity>;
    /// Asks for a lease.
    ///
    /// # Errors
    /// What the system says, if it is neither a conflict nor that leases are not to be had.
    fn lease(&self, kind: LeaseKind) -> io::Result<Lease>;
    /// Whether a lease that was granted is still whole: nobody waits to open the file.
    fn undisturbed(&self, kind: LeaseKind) -> bool;
    /// Gives a lease back; that there is none is no error.
    ///
    /// # Errors
    /// What the system says.
    fn release(&self) -> io::Result<()>;
    /// Reads an extended attribute; `None` if there is none, or the filesystem keeps none.
    ///
    /// # Errors
    /// What the system says.
    fn attribute(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Sets an extended attribute.
    ///
    /// # Errors
    /// What the system says.
    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()>;
    /// Removes an extended attribute; that there is none is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove_attribute(&self, name: &str) -> io::Result<()>;
    /// The file is immutable or append-only.
    fn locked(&self) -> bool;
    /// Bytes of its extents that other files or snapshots share; `None` where that cannot be asked.
    fn shared(&self) -> Option<Bytes>;
    /// Reads from `offset` on into `buffer`, and says how many bytes came: fewer than asked at times, none only at the end or where
    /// none were asked for.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Asks the kernel to forget what it has of the content in memory, so that the next reading is of the disk. What was not synced stays.
    ///
    /// # Errors
    /// What the system says.
    fn forget(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is coming into a tree, under a name of ours until it is admitted.
pub trait IncomingFile: Send {
    /// Writes what follows.
    ///
    /// # Errors
    /// What the system says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Gives it the time of its last change, in nanoseconds since the epoch, and extended attributes, where the filesystem keeps any; and
    /// makes all of it durable.
    ///
    /// # Errors
    /// What the system says.
    fn finish(&mut self, modified: i64, attributes: &[(&str, &[u8])]) -> io::Result<()>;
    /// The same file, to read what was written.
    fn written(&self) -> &dyn HeldFile;
}

/// How the name begins of a file that is set aside in its own directory.
pub const BESIDE: &[u8] = b".storage-guard-";

/// Where a file was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aside {
    /// In the tree's private folder, under the number of its intent.
    Private(u64),
    /// In its own directory, as `.storage-guard-SEQ-NAME`.
    Beside(RelPath),
}

/// One guarded tree, held by a descriptor of its top. Nothing outside it can be reached through this (promise 1).
pub trait Dir: Send + Sync {
    /// Reads one directory (`None`: the top), calling `each` for every entry.
    ///
    /// # Errors
    /// What the system says. Entries seen before the error have been handed over: the caller must count the directory as
    /// incomplete.
    fn read(&self, dir: Option<&RelPath>, each: &mut dyn FnMut(DirEntry)) -> io::Result<()>;
    /// Looks at one name without following links; `None` if it is not there.
    ///
    /// # Errors
    /// Anything but "not there".
    fn look(&self, path: &RelPath) -> io::Result<Option<FileIdentity>>;
    /// Identity of the top itself, through the descriptor.
    ///
    /// # Errors
    /// What the system says.
    fn top(&self) -> io::Result<FileIdentity>;
    /// Compares the descriptor with what the path leads to now.
    ///
    /// # Errors
    /// [`Unusable::Replaced`] if they differ, [`Unusable::Failed`] if the path cannot be opened.
    fn still_there(&self) -> Result<(), Unusable>;
    /// The path that it was opened by, to show.
    fn path(&self) -> &Path;
    /// How often the answer to a call was lost, so that nobody knows what it did. Never where this process makes the calls itself.
    fn breaks(&self) -> u64 {
        0
    }
}

/// A guarded tree in which recordings may be set aside and deleted. Only `door` and settling use it.
pub trait WritableDir: Dir {
    /// Opens a regular file for looking, never blocking and never following links; `None` if it is not there.
    ///
    /// # Errors
    /// Anything else: `ELOOP` for a link, `EXDEV` for another mount, `EINVAL` for what is no regular file.
    fn open(&self, path: &RelPath) -> io::Result<Option<Box<dyn HeldFile>>>;
    /// Renames `path` to a name of ours that holds `seq`, never over another file: into the private folder, or, where that
    /// cannot be done (another subvolume or project quota, a union mount, no room for the folder), within its own directory.
    ///
    /// # Errors
    /// What the system says; the file then stands under its own name.
    fn set_aside(&self, path: &RelPath, seq: u64) -> io::Result<Aside>;
    /// Renames `path` to a name of ours that holds `seq` within its own directory, never over another file, and makes that durable: the
    /// name alone then says what was begun.
    ///
    /// # Errors
    /// What the system says. If only the last step failed, the file stands under its own name again.
    fn set_aside_on_record(&self, path: &RelPath, seq: u64) -> io::Result<Aside>;
    /// As [`WritableDir::set_aside`], or, `on_record`, as [`WritableDir::set_aside_on_record`], but only this file. Another that bears
    /// the name by now is left alone, or goes back to the very directory that it was taken from, though that may bear another name
    /// itself by then. The caller looks at what was set aside all the same.
    ///
    /// # Errors
    /// As the two; `EINVAL` if it is another file.
    fn set_aside_only(&self, path: &RelPath, seq: u64, file: &FileIdentity, on_record: bool) -> io::Result<Aside> {
        let _ = file;
        if on_record { self.set_aside_on_record(path, seq) } else { self.set_aside(path, seq) }
    }
    /// Looks at what was set aside, without opening it: an open would break the lease that we hold on it. `None` if it is not
    /// there.
    ///
    /// # Errors
    /// Anything else.
    fn look_aside(&self, aside: &Aside) -> io::Result<Option<FileIdentity>>;
    /// Opens what was set aside; `None` if it is not there.
    ///
    /// # Errors
    /// Anything else.
    fn open_aside(&self, aside: &Aside) -> io::Result<Option<Box<dyn HeldFile>>>;
    /// Renames what was set aside to `path`, never over another file. Missing directories are made again.
    ///
    /// # Errors
    /// What the system says; `EEXIST` if the name is taken.
    fn put_back(&self, aside: &Aside, path: &RelPath) -> io::Result<()>;
    /// Unlinks what was set aside.
    ///
    /// # Errors
    /// What the system says.
    fn unlink_aside(&self, aside: &Aside) -> io::Result<()>;
    /// All that is set aside in the private folder; an absent folder is an empty one.
    ///
    /// # Errors
    /// What the system says.
    fn list_aside(&self) -> io::Result<Vec<Aside>>;
    /// The name that `path` would have been set aside under beside itself.
    fn beside(&self, path: &RelPath, seq: u64) -> Aside;
    /// Removes a directory if it is empty.
    ///
    /// # Errors
    /// What the system says; `ENOTEMPTY` if it is not.
    fn remove_dir(&self, path: &RelPath) -> io::Result<()>;
    /// Makes the renames and unlinks in a directory (`None`: the top) durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, path: Option<&RelPath>) -> io::Result<()>;
    /// Makes what happened in the private folder durable; an absent folder needs nothing.
    ///
    /// # Errors
    /// What the system says.
    fn sync_aside(&self) -> io::Result<()>;
    /// Writes everything of the filesystem to the device, so that a reading tells the truth.
    ///
    /// # Errors
    /// What the system says.
    fn sync_filesystem(&self) -> io::Result<()>;
    /// Reads the identity marker; `None` if there is none.
    ///
    /// # Errors
    /// Anything else.
    fn read_marker(&self) -> io::Result<Option<String>>;
    /// Writes the identity marker durably, making the private folder if need be.
    ///
    /// # Errors
    /// What the system says.
    fn write_marker(&self, text: &str) -> io::Result<()>;
    /// Writes a probe file of `bytes` that cannot be compressed into the private folder, durably.
    ///
    /// # Errors
    /// What the system says; whatever was written is removed again, as far as that can be done.
    fn write_canary(&self, bytes: Bytes) -> io::Result<()> {
        let _ = bytes;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes the probe file; that there is none is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove_canary(&self) -> io::Result<()> {
        Ok(())
    }
    /// Begins a file in the private folder; `number` must be in use by no other that is coming in.
    ///
    /// # Errors
    /// What the system says; `Unsupported` where a process of its own works the tree.
    fn receive(&self, number: u64) -> io::Result<Box<dyn IncomingFile>> {
        let _ = number;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Renames a file that came in to its own name, never over another file, durably. Missing directories are made; it and they belong to
    /// whom the directory above belongs to, where this process may say so.
    ///
    /// # Errors
    /// What the system says; `EEXIST` if the name is taken.
    fn admit(&self, number: u64, path: &RelPath) -> io::Result<()> {
        let _ = (number, path);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file that did not get its own name; that there is none is no error.
    ///
    /// # Errors
    /// What the system says.
    fn dismiss(&self, number: u64) -> io::Result<()> {
        let _ = number;
        Ok(())
    }
    /// The numbers of files that did not get their own names.
    ///
    /// # Errors
    /// What the system says.
    fn incoming(&self) -> io::Result<Vec<u64>> {
        Ok(Vec::new())
    }
    /// UUID of the filesystem; `None` where the kernel does not tell.
    ///
    /// # Errors
    /// What the system says: then it is not known whether there is one.
    fn filesystem_uuid(&self) -> io::Result<Option<String>>;
    /// Takes the tree for this process. `Some` is the process that has it already (0 if it cannot be named).
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self) -> io::Result<Option<u32>>;
}

/// Disks are busy when tasks waited for them in so many percent of the last ten seconds.
const BUSY: f64 = 60.0;

/// There is no room: on the disk, or in a quota.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Opens trees and reads volumes.
pub trait Volumes: Send + Sync {
    /// Opens the top of a tree.
    ///
    /// # Errors
    /// What the system says; `ENOTDIR` if it is no directory, `ELOOP` if the path is a symbolic link.
    fn open_tree(&self, path: &Path) -> io::Result<Arc<dyn WritableDir>>;
    /// Opens the top of a tree for a thread that may hang with it, and that nothing else waits for: no process of its own is put between,
    /// so that files can come in.
    ///
    /// # Errors
    /// As [`Volumes::open_tree`].
    fn open_near(&self, path: &Path) -> io::Result<Arc<dyn WritableDir>> {
        self.open_tree(path)
    }
    /// What kind of filesystem holds `path`, and a key that is the same for all paths on it.
    ///
    /// # Errors
    /// What the system says.
    fn describe(&self, path: &Path) -> io::Result<(VolumeKey, FilesystemTraits)>;
    /// Reads the space of the filesystem that holds `path`, and says it is of `at`. May hang with its mount: only `probe` calls it in the daemon.
    ///
    /// # Errors
    /// Why there is no reading.
    fn read(&self, path: &Path, at: Timestamp) -> Result<Reading, Unusable>;
    /// A volume did not answer in time: from now on a process of its own works it, once its trees are opened again. `false` if one
    /// does already, or the volume cannot be isolated.
    fn isolate(&self, _: &Path) -> bool {
        false
    }
    /// Share of the last ten seconds in which some task waited for I/O (PSI), in percent; `None` without PSI.
    fn io_pressure(&self) -> Option<f64>;
    /// Whether the disks are so busy that what can wait should.
    fn busy(&self) -> bool {
        self.io_pressure().is_some_and(|share| share >= BUSY)
    }
}

/// The same for all paths on one filesystem: its device number, or for btrfs, whose subvolumes differ, its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeKey(pub String);

/// A file that a process has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// It has no name any more: what is left of it goes when it is closed.
    pub deleted: bool,
    /// Who.
    pub holder: Holder,
}

/// Names the processes that have files open.
pub trait Holders: Send + Sync {
    /// Who has files with these inode numbers open, as far as it can be seen; the caller compares devices where it knows them.
    /// One sweep over all processes, so callers ask once for many.
    fn find(&self, inodes: &[u64]) -> Vec<OpenFile>;
}
