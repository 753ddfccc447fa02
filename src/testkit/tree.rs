//! A guarded tree in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::errno;
use super::{Disk, Fake, Power};
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::units::Bytes;
use crate::domain::volume::Unusable;
use crate::system::{Aside, Dir, DirEntry, EntryType, HeldFile, Lease, LeaseKind, WritableDir};

/// The private folder at the top.
const PRIVATE: &str = ".storage-guard";

/// A tree that fills a [`Disk`]. Each guard that begins opens its own.
#[derive(Debug)]
pub struct FakeDir {
    disk: Arc<Disk>,
    power: Arc<Power>,
    path: PathBuf,
}

/// A file of it, held.
#[derive(Debug)]
struct FakeFile {
    disk: Arc<Disk>,
    power: Arc<Power>,
    inode: u64,
}

impl FakeDir {
    /// Opens the tree.
    #[must_use]
    pub fn new(disk: Arc<Disk>, power: Arc<Power>, path: &Path) -> Self {
        Self { disk, power, path: path.to_owned() }
    }

    fn private() -> RelPath {
        RelPath::new(PRIVATE.as_bytes()).expect("it is one component")
    }

    fn place(aside: &Aside) -> RelPath {
        match aside {
            Aside::Private(seq) => Self::private().join(seq.to_string().as_bytes()),
            Aside::Beside(path) => path.clone(),
        }
    }

    fn hold(&self, path: &RelPath) -> io::Result<Option<Box<dyn HeldFile>>> {
        if self.disk.is_dir(path) {
            return Err(errno(libc::EINVAL));
        }
        let held = |inode| FakeFile { disk: self.disk.clone(), power: self.power.clone(), inode };
        Ok(self.disk.inode(path).map(|inode| Box::new(held(inode)) as Box<dyn HeldFile>))
    }

    fn identify(&self, path: &RelPath) -> Option<FileIdentity> {
        self.disk.inode(path).and_then(|inode| self.disk.file(inode)).map(|file| file.identity)
    }
}

impl Dir for FakeDir {
    fn read(&self, dir: Option<&RelPath>, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        self.power.step("read", || {
            if dir.is_some_and(|dir| !self.disk.is_dir(dir)) {
                return Err(errno(libc::ENOENT));
            }
            let (dirs, files) = self.disk.list(dir);
            let name = |path: &RelPath| path.split().1.to_vec();
            for path in dirs {
                each(DirEntry { name: name(&path), kind: EntryType::Directory, identity: FileIdentity::default() });
            }
            for (path, identity) in files {
                each(DirEntry { name: name(&path), kind: EntryType::File, identity });
            }
            Ok(())
        })
    }

    fn look(&self, path: &RelPath) -> io::Result<Option<FileIdentity>> {
        let there = || self.disk.is_dir(path).then(FileIdentity::default);
        self.power.step("look", || Ok(self.identify(path).or_else(there)))
    }

    fn top(&self) -> io::Result<FileIdentity> {
        self.power.step("top", || Ok(FileIdentity { device: 1, mount: 1, inode: 2, ..FileIdentity::default() }))
    }

    fn still_there(&self) -> Result<(), Unusable> {
        self.power.step("still_there", || Ok(())).map_err(|error| Unusable::Failed(error.to_string()))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl WritableDir for FakeDir {
    fn open(&self, path: &RelPath) -> io::Result<Option<Box<dyn HeldFile>>> {
        self.power.step("open", || self.hold(path))
    }

    fn set_aside(&self, path: &RelPath, seq: u64) -> io::Result<Aside> {
        self.power.step("set_aside", || {
            let private = Aside::Private(seq);
            let aside = if self.disk.apart { self.beside(path, seq) } else { private };
            if !self.disk.apart {
                self.disk.make_dir(&Self::private());
            }
            self.disk.rename(path, &Self::place(&aside))?;
            Ok(aside)
        })
    }

    fn set_aside_on_record(&self, path: &RelPath, seq: u64) -> io::Result<Aside> {
        self.power.step("set_aside_on_record", || {
            let aside = self.beside(path, seq);
            self.disk.rename(path, &Self::place(&aside))?;
            self.disk.sync_dir(path.split().0.as_ref());
            Ok(aside)
        })
    }

    fn look_aside(&self, aside: &Aside) -> io::Result<Option<FileIdentity>> {
        self.power.step("look_aside", || Ok(self.identify(&Self::place(aside))))
    }

    fn open_aside(&self, aside: &Aside) -> io::Result<Option<Box<dyn HeldFile>>> {
        self.power.step("open_aside", || self.hold(&Self::place(aside)))
    }

    fn put_back(&self, aside: &Aside, path: &RelPath) -> io::Result<()> {
        self.power.step("put_back", || {
            let mut missing = Vec::new();
            let mut next = path.split().0;
            while let Some(dir) = next.filter(|dir| !self.disk.is_dir(dir)) {
                next = dir.split().0;
                missing.push(dir);
            }
            missing.iter().rev().for_each(|dir| self.disk.make_dir(dir));
            self.disk.rename(&Self::place(aside), path)
        })
    }

    fn unlink_aside(&self, aside: &Aside) -> io::Result<()> {
        self.power.step("unlink_aside", || self.disk.unlink(&Self::place(aside)))
    }

    fn list_aside(&self) -> io::Result<Vec<Aside>> {
        self.power.step("list_aside", || {
            let (_, files) = self.disk.list(Some(&Self::private()));
            let seq = |path: &RelPath| std::str::from_utf8(path.split().1).ok()?.parse().ok().map(Aside::Private);
            Ok(files.iter().filter_map(|(path, _)| seq(path)).collect())
        })
    }

    fn beside(&self, path: &RelPath, seq: u64) -> Aside {
        let (parent, name) = path.split();
        let new = [format!("{PRIVATE}-{seq}-").as_bytes(), name].concat();
        Aside::Beside(match parent {
            Some(parent) => parent.join(&new),
            None => RelPath::new(&new).expect("a name of ours is a component"),
        })
    }

    fn remove_dir(&self, path: &RelPath) -> io::Result<()> {
        self.power.step("remove_dir", || self.disk.remove_dir(path))
    }

    fn sync_dir(&self, path: Option<&RelPath>) -> io::Result<()> {
        self.power.step("sync_dir", || {
            // What is gone needs no syncing.
            if path.is_none_or(|path| self.disk.is_dir(path)) {
                self.disk.sync_dir(path);
            }
            Ok(())
        })
    }

    fn sync_aside(&self) -> io::Result<()> {
        self.power.step("sync_aside", || {
            self.disk.sync_dir(Some(&Self::private()));
            Ok(())
        })
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        self.power.step("sync_filesystem", || {
            self.disk.sync();
            Ok(())
        })
    }

    fn read_marker(&self) -> io::Result<Option<String>> {
        self.power.step("read_marker", || Ok(self.disk.marker()))
    }

    fn write_marker(&self, text: &str) -> io::Result<()> {
        self.power.step("write_marker", || {
            self.disk.mark(text);
            Ok(())
        })
    }

    fn filesystem_uuid(&self) -> io::Result<Option<String>> {
        self.power.step("filesystem_uuid", || Ok(Some("00".to_owned())))
    }

    fn lock(&self) -> io::Result<Option<u32>> {
        self.power.step("lock", || Ok(None))
    }
}

impl FakeFile {
    fn now(&self) -> io::Result<Fake> {
        self.disk.file(self.inode).ok_or_else(|| errno(libc::ENOENT))
    }
}

impl HeldFile for FakeFile {
    fn identity(&self) -> io::Result<FileIdentity> {
        self.power.step("identity", || Ok(self.now()?.identity))
    }

    fn lease(&self, kind: LeaseKind) -> io::Result<Lease> {
        self.power.step("lease", || {
            if !self.disk.leases {
                return Ok(Lease::Unavailable);
            }
            let file = self.now()?;
            let opened = match kind {
                LeaseKind::NoWriter => file.writers > 0,
                LeaseKind::NoOpener => file.readers + file.writers > 0,
            };
            if opened {
                return Ok(Lease::Conflict);
            }
            self.disk.alter(self.inode, |file| file.lease = Some(kind));
            Ok(Lease::Granted)
        })
    }

    fn undisturbed(&self, kind: LeaseKind) -> bool {
        let asked = self.power.step("undisturbed", || self.now());
        asked.is_ok_and(|file| file.lease == Some(kind) && !file.awaited)
    }

    fn release(&self) -> io::Result<()> {
        self.power.step("release", || {
            self.let_go();
            Ok(())
        })
    }

    fn attribute(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.power.step("attribute", || Ok(self.now()?.attributes.get(name).cloned()))
    }

    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()> {
        self.power.step("set_attribute", || {
            self.disk.alter(self.inode, |file| drop(file.attributes.insert(name.to_owned(), value.to_vec())));
            Ok(())
        })
    }

    fn remove_attribute(&self, name: &str) -> io::Result<()> {
        self.power.step("remove_attribute", || {
            self.disk.alter(self.inode, |file| drop(file.attributes.remove(name)));
            Ok(())
        })
    }

    fn locked(&self) -> bool {
        self.power.step("locked", || self.now()).is_ok_and(|file| file.immutable)
    }

    fn shared(&self) -> Option<Bytes> {
        self.power.step("shared", || self.now()).ok().map(|file| file.shared)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.power.step("read_at", || {
            let file = self.now()?;
            let left = file.identity.size.saturating_sub(offset);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let held = usize::try_from(offset).ok().and_then(|at| file.content.get(at..)).unwrap_or(&[]);
            let held = &held[..held.len().min(length)];
            buffer[..held.len()].copy_from_slice(held);
            buffer[held.len()..length].fill(0);
            Ok(length)
        })
    }
}

impl FakeFile {
    /// The lease goes, and who waited for it has the file.
    fn let_go(&self) {
        self.disk.alter(self.inode, |file| {
            file.lease = None;
            file.writers += u32::from(std::mem::take(&mut file.awaited));
        });
    }
}

impl Drop for FakeFile {
    fn drop(&mut self) {
        // Also of a process that was ended the kernel takes the leases back.
        self.let_go();
    }
}
