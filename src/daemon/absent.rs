//! A tree that could not be opened: it is shown, and blind, until it can be.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::volume::Unusable;
use crate::system::{Aside, Dir, DirEntry, HeldFile, WritableDir};

/// Stands for the tree; everything that is asked of it fails.
#[derive(Debug)]
pub(super) struct Absent {
    path: PathBuf,
    why: String,
}

impl Absent {
    pub(super) fn new(path: &Path, why: &io::Error) -> Self {
        Self { path: path.to_owned(), why: why.to_string() }
    }

    fn error(&self) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, self.why.clone())
    }
}

impl Dir for Absent {
    fn read(&self, _: Option<&RelPath>, _: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        Err(self.error())
    }

    fn look(&self, _: &RelPath) -> io::Result<Option<FileIdentity>> {
        Err(self.error())
    }

    fn top(&self) -> io::Result<FileIdentity> {
        Err(self.error())
    }

    fn still_there(&self) -> Result<(), Unusable> {
        Err(Unusable::Failed(format!("tree `{}` cannot be opened: {}", self.path.display(), self.why)))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl WritableDir for Absent {
    fn open(&self, _: &RelPath) -> io::Result<Option<Box<dyn HeldFile>>> {
        Err(self.error())
    }

    fn set_aside(&self, _: &RelPath, _: u64) -> io::Result<Aside> {
        Err(self.error())
    }

    fn set_aside_on_record(&self, _: &RelPath, _: u64) -> io::Result<Aside> {
        Err(self.error())
    }

    fn look_aside(&self, _: &Aside) -> io::Result<Option<FileIdentity>> {
        Err(self.error())
    }

    fn open_aside(&self, _: &Aside) -> io::Result<Option<Box<dyn HeldFile>>> {
        Err(self.error())
    }

    fn put_back(&self, _: &Aside, _: &RelPath) -> io::Result<()> {
        Err(self.error())
    }

    fn unlink_aside(&self, _: &Aside) -> io::Result<()> {
        Err(self.error())
    }

    fn list_aside(&self) -> io::Result<Vec<Aside>> {
        Err(self.error())
    }

    fn beside(&self, path: &RelPath, _: u64) -> Aside {
        Aside::Beside(path.clone())
    }

    fn remove_dir(&self, _: &RelPath) -> io::Result<()> {
        Err(self.error())
    }

    fn sync_dir(&self, _: Option<&RelPath>) -> io::Result<()> {
        Err(self.error())
    }

    fn sync_aside(&self) -> io::Result<()> {
        Err(self.error())
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        Err(self.error())
    }

    fn read_marker(&self) -> io::Result<Option<String>> {
        Err(self.error())
    }

    fn write_marker(&self, _: &str) -> io::Result<()> {
        Err(self.error())
    }

    fn filesystem_uuid(&self) -> io::Result<Option<String>> {
        Err(self.error())
    }

    fn lock(&self) -> io::Result<Option<u32>> {
        Err(self.error())
    }
}
