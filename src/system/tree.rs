//! A guarded tree, held by a descriptor of its top.
//!
//! Invariants (promise 1):
//! - every lookup goes through `openat2` with BENEATH, NO_SYMLINKS, NO_MAGICLINKS and NO_XDEV (or what `kernel` has in its place), or
//!   is one name in a directory so opened;
//! - what is opened is a directory, or is opened without blocking and let go of if it is no regular file, so that a pipe or a
//!   device cannot make the guard wait;
//! - a rename never replaces a file.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::kernel::Kernel;
use super::{Dir, DirEntry};
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::volume::{Difference, Unusable};

/// Flags for directories that are read.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A guarded tree on a real filesystem.
#[derive(Debug)]
pub struct GuardedTree {
    top: OwnedFd,
    path: PathBuf,
    kernel: Kernel,
}

impl GuardedTree {
    /// Opens the top of a tree.
    ///
    /// # Errors
    /// What the system says; `ENOTDIR` if `path` is no directory, or is a symbolic link.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, Kernel::current())
    }

    /// Opens the top of a tree as if the kernel had only these calls.
    ///
    /// # Errors
    /// As [`GuardedTree::open`].
    pub fn open_with(path: &Path, kernel: Kernel) -> io::Result<Self> {
        let top = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self { top, path: path.to_owned(), kernel })
    }

    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// Opens a directory below the top, or the top.
    pub(super) fn directory(&self, dir: Option<&RelPath>) -> io::Result<OwnedFd> {
        let name = dir.map_or(OsStr::new("."), |path| OsStr::from_bytes(path.as_bytes()));
        self.kernel.open_beneath(self.handle(), name, DIRECTORY)
    }
}

impl Dir for GuardedTree {
    fn read(&self, dir: Option<&RelPath>, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        let handle = self.directory(dir)?;
        let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 32 * 1024];
        let mut entries = rustix::fs::RawDir::new(&handle, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match self.kernel.look(handle.as_fd(), entry.file_name()) {
                Ok(seen) => each(DirEntry { name: name.to_vec(), kind: seen.kind, identity: seen.identity }),
                // It went between the listing and the look.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn look(&self, path: &RelPath) -> io::Result<Option<FileIdentity>> {
        let (parent, name) = path.split();
        let parent = match self.directory(parent.as_ref()) {
            Ok(parent) => parent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.kernel.look(parent.as_fd(), OsStr::from_bytes(name)) {
            Ok(seen) => Ok(Some(seen.identity)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn top(&self) -> io::Result<FileIdentity> {
        Ok(self.kernel.look_at(self.top.as_fd())?)
    }

    fn still_there(&self) -> Result<(), Unusable> {
        let failed = |error: io::Error| Unusable::Failed(error.to_string());
        let held = self.top().map_err(failed)?;
        let now = Self::open_with(&self.path, self.kernel).map_err(failed)?.top().map_err(failed)?;
        match Difference::between(&held, &now) {
            Some(difference) => Err(Unusable::Replaced { path: self.path.display().to_string(), difference }),
            None => Ok(()),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::EntryType;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn listing(tree: &GuardedTree, dir: Option<&RelPath>) -> Vec<(String, EntryType)> {
        let mut out = Vec::new();
        tree.read(dir, &mut |e| out.push((String::from_utf8(e.name).unwrap(), e.kind))).unwrap();
        out.sort();
        out
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
    fn lists_what_is_there_and_follows_nothing() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        std::fs::write(outside.path().join("precious"), b"x").unwrap();
        std::fs::create_dir(top.join("cam")).unwrap();
        std::fs::write(top.join("cam/a.mp4"), vec![1; 8192]).unwrap();
        symlink(outside.path(), top.join("link")).unwrap();
        let tree = GuardedTree::open(top).unwrap();
        assert_eq!(
            listing(&tree, None),
            [("cam".to_owned(), EntryType::Directory), ("link".to_owned(), EntryType::Symlink)]
        );
        assert_eq!(listing(&tree, Some(&path("cam"))), [("a.mp4".to_owned(), EntryType::File)]);
        assert!(tree.read(Some(&path("link")), &mut |_| ()).is_err());
        assert!(tree.look(&path("link/precious")).is_err());
        assert_eq!(tree.look(&path("cam/a.mp4")).unwrap().unwrap().size, 8192);
        assert_eq!(tree.look(&path("cam/b.mp4")).unwrap(), None);
        assert_eq!(tree.look(&path("gone/b.mp4")).unwrap(), None);
    }

    #[test]
    fn notices_when_its_top_is_another_directory() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("record");
        std::fs::create_dir(&top).unwrap();
        let tree = GuardedTree::open(&top).unwrap();
        assert_eq!(tree.still_there(), Ok(()));
        std::process::Command::new("mv").arg(&top).arg(dir.path().join("old")).status().unwrap();
        assert!(matches!(tree.still_there(), Err(Unusable::Failed(_))));
        std::fs::create_dir(&top).unwrap();
        assert!(matches!(tree.still_there(), Err(Unusable::Replaced { .. })));
        symlink(&top, dir.path().join("link")).unwrap();
        assert!(GuardedTree::open(&dir.path().join("link")).is_err());
    }
}
