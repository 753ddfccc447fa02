//! Files that come into a tree: copies for the cold tier, and recordings that are brought back.
//!
//! Steps, each durable before the next: written under a name of ours in the private folder; synced; read back by the caller; renamed to its
//! own name, never over another file; the directories synced, those that were made for it too. What a crash leaves bears a name of ours.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::held::RealFile;
use super::kernel::At;
use super::tree::GuardedTree;
use super::{Dir as _, HeldFile, IncomingFile};
use crate::domain::path::RelPath;

/// How the name of a file begins that is coming in.
const INCOMING: &str = "incoming-";
/// Copies and what is brought back can be read by those who play recordings.
const READABLE: Mode = Mode::from_raw_mode(0o644);

/// A file that is being written.
#[derive(Debug)]
struct RealIncoming {
    file: std::fs::File,
    held: RealFile,
}

impl IncomingFile for RealIncoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn finish(&mut self, modified: i64, attributes: &[(&str, &[u8])]) -> io::Result<()> {
        for (name, value) in attributes {
            match self.held.set_attribute(name, value) {
                // Without it the copy says less of itself, and is as good.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)) => {}
                other => other?,
            }
        }
        let time = Timespec { tv_sec: modified.div_euclid(1_000_000_000), tv_nsec: modified.rem_euclid(1_000_000_000) };
        rustix::fs::futimens(&self.file, &Timestamps { last_access: time, last_modification: time })?;
        self.file.sync_all()
    }

    fn written(&self) -> &dyn HeldFile {
        &self.held
    }
}

impl GuardedTree {
    /// Begins a file in the private folder.
    pub(super) fn begin_incoming(&self, number: u64) -> io::Result<Box<dyn IncomingFile>> {
        let folder = self.private_or_new()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name(number), flags, READABLE)?;
        let held = RealFile(rustix::io::fcntl_dupfd_cloexec(&file, 0)?, self.kernel());
        Ok(Box::new(RealIncoming { file: file.into(), held }))
    }

    /// Gives a file its own name.
    pub(super) fn admit_incoming(&self, number: u64, path: &RelPath) -> io::Result<()> {
        let folder = self.private()?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let (above, own) = path.split();
        let (parent, made) = self.directory_of_owner(above.as_ref())?;
        let ours = name(number);
        // It belongs to whom its directory belongs to, so that a recorder may delete what was brought back.
        like_parent(parent.as_fd(), folder.as_fd(), OsStr::new(&ours));
        let from = At { dir: folder.as_fd(), name: OsStr::new(&ours) };
        self.kernel().give_back(from, At { dir: parent.as_fd(), name: OsStr::from_bytes(own) })?;
        rustix::fs::fsync(&parent)?;
        rustix::fs::fsync(&folder)?;
        if made {
            let mut dir = above;
            while let Some(here) = dir {
                dir = here.split().0;
                rustix::fs::fsync(self.directory(dir.as_ref())?)?;
            }
        }
        Ok(())
    }

    /// Removes a file that did not get its own name; that there is none is no error.
    #[expect(clippy::disallowed_methods, reason = "it is our own, and nobody else knows it")]
    pub(super) fn dismiss_incoming(&self, number: u64) -> io::Result<()> {
        let Some(folder) = self.private()? else { return Ok(()) };
        match rustix::fs::unlinkat(&folder, name(number), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The numbers of files that did not get their own names.
    pub(super) fn list_incoming_files(&self) -> io::Result<Vec<u64>> {
        let mut out = Vec::new();
        if self.private()?.is_some() {
            self.read(Some(&Self::private_path()), &mut |entry| {
                let text = std::str::from_utf8(&entry.name).ok().and_then(|name| name.strip_prefix(INCOMING));
                out.extend(text.and_then(|number| number.parse::<u64>().ok()));
            })?;
        }
        Ok(out)
    }

    /// The directory `dir`, made if need be, as its parent's owner would have made it; and whether any was made.
    fn directory_of_owner(&self, dir: Option<&RelPath>) -> io::Result<(OwnedFd, bool)> {
        let Some(dir) = dir else { return Ok((self.directory(None)?, false)) };
        match self.directory(Some(dir)) {
            Ok(found) => return Ok((found, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (above, own) = dir.split();
        let (parent, _) = self.directory_of_owner(above.as_ref())?;
        match rustix::fs::mkdirat(&parent, OsStr::from_bytes(own), Mode::from_raw_mode(0o755)) {
            Ok(()) => like_parent(parent.as_fd(), parent.as_fd(), OsStr::from_bytes(own)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((self.directory(Some(dir))?, true))
    }
}

/// Gives what bears `name` in `dir` to the owner of `parent`, where this process may.
fn like_parent(parent: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) {
    let Ok(stat) = rustix::fs::fstat(parent) else { return };
    let (owner, group) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    let _ = rustix::fs::chownat(dir, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW);
}

fn name(number: u64) -> String {
    format!("{INCOMING}{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::WritableDir as _;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn bring(tree: &GuardedTree, number: u64, to: &str, content: &[u8]) -> io::Result<()> {
        let mut file = tree.receive(number)?;
        file.write(content)?;
        file.finish(1_700_000_000_500_000_000, &[("user.storage_guard.sha256", b"ab")])?;
        tree.admit(number, &path(to))
    }

    #[test]
    fn what_comes_in_has_its_name_its_time_and_its_mark_once_it_is_whole() {
        let top = tempfile::tempdir().unwrap();
        let tree = GuardedTree::open(top.path()).unwrap();
        bring(&tree, 1, "live/cam/a.mp4", b"film").unwrap();
        let at = top.path().join("live/cam/a.mp4");
        assert_eq!(std::fs::read(&at).unwrap(), b"film");
        let held = tree.open(&path("live/cam/a.mp4")).unwrap().unwrap();
        assert_eq!(held.identity().unwrap().modified, 1_700_000_000_500_000_000);
        let mark = held.attribute("user.storage_guard.sha256").unwrap();
        assert!(mark.is_none() || mark.as_deref() == Some(b"ab"));
        assert_eq!(tree.incoming().unwrap(), Vec::<u64>::new());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn no_other_file_is_replaced_and_what_did_not_come_in_is_swept() {
        let top = tempfile::tempdir().unwrap();
        let tree = GuardedTree::open(top.path()).unwrap();
        std::fs::write(top.path().join("a.mp4"), "mine").unwrap();
        let refused = bring(&tree, 7, "a.mp4", b"other").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(top.path().join("a.mp4")).unwrap(), b"mine");
        assert_eq!(tree.incoming().unwrap(), [7]);
        tree.dismiss(7).unwrap();
        tree.dismiss(7).unwrap();
        assert_eq!(tree.incoming().unwrap(), Vec::<u64>::new());
    }

    #[test]
    fn nothing_comes_in_through_a_link() {
        let (top, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), top.path().join("cam")).unwrap();
        let tree = GuardedTree::open(top.path()).unwrap();
        assert!(bring(&tree, 1, "cam/a.mp4", b"film").is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
