//! What the rest of the guard asks of the machine. The real ones stand beside this file, the fakes in `testkit`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::units::Timestamp;
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
}

/// Opens trees and reads volumes.
pub trait Volumes: Send + Sync {
    /// Opens the top of a tree.
    ///
    /// # Errors
    /// What the system says; `ENOTDIR` if it is no directory, `ELOOP` if the path is a symbolic link.
    fn open_tree(&self, path: &Path) -> io::Result<Arc<dyn Dir>>;
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
    /// Share of the last ten seconds in which some task waited for I/O (PSI), in percent; `None` without PSI.
    fn io_pressure(&self) -> Option<f64>;
}

/// The same for all paths on one filesystem: its device number, or for btrfs, whose subvolumes differ, its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeKey(pub String);
