//! The pass-through itself: what the kernel asks for is done to the directory below, unless a switch says otherwise.
#![expect(clippy::disallowed_methods, reason = "it is the filesystem, and carries out what it is asked to")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirEntryExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{Op, Switches, Trouble};
use crate::support::pause;

/// Nothing is kept by the kernel.
const TTL: Duration = Duration::ZERO;
const BLOCK: u64 = 4096;

/// An open file or directory.
struct Opened {
    inode: u64,
    file: File,
    entries: Vec<(u64, FileType, std::ffi::OsString)>,
}

/// The directory below, and what the kernel knows of it.
pub(super) struct Backing {
    root: PathBuf,
    size: u64,
    pub(super) switches: Switches,
    paths: Mutex<HashMap<u64, PathBuf>>,
    opened: Mutex<HashMap<u64, Arc<Opened>>>,
    next: AtomicU64,
}

impl Backing {
    /// A filesystem of `size` bytes over `root`.
    pub(super) fn new(root: &Path, size: u64) -> Self {
        Self {
            root: root.to_owned(),
            size,
            switches: Switches::default(),
            paths: Mutex::new(HashMap::from([(1, root.to_owned())])),
            opened: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, inode: u64) -> io::Result<PathBuf> {
        let known = self.paths.lock().unwrap().get(&inode).cloned();
        known.ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    fn opened(&self, handle: FileHandle) -> io::Result<Arc<Opened>> {
        let known = self.opened.lock().unwrap().get(&handle.0).cloned();
        known.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn keep(&self, opened: Opened) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.opened.lock().unwrap().insert(handle, Arc::new(opened));
        FileHandle(handle)
    }

    /// Attributes of a path, which is from now on known by its inode number.
    fn enter(&self, path: PathBuf) -> io::Result<FileAttr> {
        let found = attributes(&std::fs::symlink_metadata(&path)?);
        self.paths.lock().unwrap().insert(found.ino.0, path);
        Ok(found)
    }

    fn attributes(&self, inode: u64) -> io::Result<FileAttr> {
        let by_name = self.path(inode).and_then(std::fs::symlink_metadata);
        let found = match by_name {
            Ok(found) if inode == 1 || found.ino() == inode => found,
            // It has no name any more, and somebody has it open.
            _ => {
                let opened = self.opened.lock().unwrap().values().find(|one| one.inode == inode).cloned();
                opened.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?.file.metadata()?
            }
        };
        let mut found = attributes(&found);
        found.ino = INodeNo(inode);
        Ok(found)
    }

    fn open(&self, inode: u64, flags: OpenFlags) -> io::Result<FileHandle> {
        let access = flags.0 & libc::O_ACCMODE;
        let (read, write) = (access != libc::O_WRONLY, access != libc::O_RDONLY);
        let file = File::options().read(read).write(write).open(self.path(inode)?)?;
        Ok(self.keep(Opened { inode, file, entries: Vec::new() }))
    }

    fn open_directory(&self, inode: u64) -> io::Result<FileHandle> {
        let path = self.path(inode)?;
        let mut entries = vec![(inode, FileType::Directory, ".".into()), (inode, FileType::Directory, "..".into())];
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            let kind = FileType::from_std(entry.file_type()?).unwrap_or(FileType::RegularFile);
            entries.push((entry.ino(), kind, entry.file_name()));
        }
        Ok(self.keep(Opened { inode, file: File::open(path)?, entries }))
    }

    fn rename(&self, from: PathBuf, to: PathBuf, flags: RenameFlags) -> io::Result<()> {
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, flags)?;
        for path in self.paths.lock().unwrap().values_mut() {
            if let Ok(below) = path.strip_prefix(&from).map(Path::to_owned) {
                *path = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
            }
        }
        Ok(())
    }

    /// Turns a bit over, if that is what goes wrong.
    fn flip(&self, op: Op, inode: u64, bytes: &mut [u8]) {
        let middle = bytes.len() / 2;
        if let (Some(Trouble::Flips), Some(byte)) = (self.switches.of(op, inode), bytes.get_mut(middle)) {
            *byte ^= 1;
        }
    }

    /// Blocks that all files below take.
    fn used(&self) -> u64 {
        let mut pending = vec![self.root.clone()];
        let mut bytes = 0;
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let Ok(found) = entry.metadata() else { continue };
                if found.is_dir() {
                    pending.push(entry.path());
                } else {
                    bytes += found.blocks() * 512;
                }
            }
        }
        bytes / BLOCK
    }
}

fn attributes(found: &std::fs::Metadata) -> FileAttr {
    let at = |secs: i64, nanos: i64| match u64::try_from(secs) {
        Ok(secs) => SystemTime::UNIX_EPOCH + Duration::new(secs, u32::try_from(nanos).unwrap_or(0)),
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(secs.unsigned_abs()),
    };
    FileAttr {
        ino: INodeNo(found.ino()),
        size: found.size(),
        blocks: found.blocks(),
        atime: at(found.atime(), found.atime_nsec()),
        mtime: at(found.mtime(), found.mtime_nsec()),
        ctime: at(found.ctime(), found.ctime_nsec()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::from_std(found.file_type()).unwrap_or(FileType::RegularFile),
        perm: u16::try_from(found.mode() & 0o7777).unwrap_or(0),
        nlink: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
        uid: found.uid(),
        gid: found.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// An answer that can be an error.
trait Refuse: Send + 'static {
    fn refuse(self, error: Errno);
}

macro_rules! refuse {
    ($($reply:ty)*) => { $(impl Refuse for $reply {
        fn refuse(self, error: Errno) {
            self.error(error);
        }
    })* };
}
refuse!(ReplyAttr ReplyCreate ReplyData ReplyDirectory ReplyEmpty ReplyEntry ReplyOpen ReplyStatfs ReplyWrite ReplyXattr);

/// What the kernel talks to.
pub(super) struct PassThrough(pub(super) Arc<Backing>);

impl PassThrough {
    /// Does what is asked, or what the switches say instead. What waits does so in a thread of its own.
    fn act<R: Refuse, T>(
        &self,
        op: Op,
        inode: u64,
        reply: R,
        work: impl FnOnce(&Backing) -> io::Result<T> + Send + 'static,
        answer: impl FnOnce(R, T) + Send + 'static,
    ) {
        let backing = self.0.clone();
        *backing.switches.calls.lock().unwrap().entry(op).or_default() += 1;
        let trouble = backing.switches.of(op, inode);
        if let Some(Trouble::Fails(error)) = trouble {
            return reply.refuse(Errno::from_i32(error));
        }
        let waiting = self.0.clone();
        let doing = move || match work(&backing) {
            Ok(done) => answer(reply, done),
            Err(error) => reply.refuse(error.into()),
        };
        match trouble {
            Some(Trouble::Slow(span)) => drop(std::thread::spawn(move || {
                pause(span);
                doing();
            })),
            Some(Trouble::Hangs) => drop(std::thread::spawn(move || {
                waiting.switches.wait(op);
                doing();
            })),
            Some(Trouble::Fails(_) | Trouble::Halfway(_) | Trouble::Lies | Trouble::Flips) | None => doing(),
        }
    }

    /// The inode of a name, which troubles may be about; 0 if it is not there.
    fn inode_of(&self, parent: INodeNo, name: &OsStr) -> u64 {
        let found = self.0.path(parent.0).and_then(|dir| std::fs::symlink_metadata(dir.join(name)));
        found.map_or(0, |found| found.ino())
    }
}

impl fuser::Filesystem for PassThrough {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.act(
            Op::Lookup,
            parent.0,
            reply,
            move |fs| fs.enter(fs.path(parent.0)?.join(name)),
            |reply, found| reply.entry(&TTL, &found, Generation(0)),
        );
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.act(Op::Getattr, ino.0, reply, move |fs| fs.attributes(ino.0), |reply, found| reply.attr(&TTL, &found));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let work = move |fs: &Backing| {
            let path = fs.path(ino.0)?;
            if let Some(mode) = mode {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & 0o7777))?;
            }
            if let Some(size) = size {
                File::options().write(true).open(&path)?.set_len(size)?;
            }
            if let Some(TimeOrNow::SpecificTime(at)) = mtime {
                File::open(&path)?.set_modified(at)?;
            }
            fs.attributes(ino.0)
        };
        self.act(Op::Setattr, ino.0, reply, work, |reply, found| reply.attr(&TTL, &found));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let name = name.to_owned();
        let work = move |fs: &Backing| {
            let path = fs.path(parent.0)?.join(name);
            std::fs::create_dir(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & !umask & 0o7777))?;
            fs.enter(path)
        };
        self.act(Op::Mkdir, parent.0, reply, work, |reply, found| reply.entry(&TTL, &found, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let inode = self.inode_of(parent, name);
        let name = name.to_owned();
        let work = move |fs: &Backing| match fs.switches.of(Op::Unlink, inode) {
            Some(Trouble::Lies) => Ok(()),
            Some(Trouble::Fails(_) | Trouble::Halfway(_) | Trouble::Slow(_) | Trouble::Hangs | Trouble::Flips)
            | None => std::fs::remove_file(fs.path(parent.0)?.join(name)),
        };
        self.act(Op::Unlink, inode, reply, work, |reply, ()| reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let inode = self.inode_of(parent, name);
        let name = name.to_owned();
        let work = move |fs: &Backing| std::fs::remove_dir(fs.path(parent.0)?.join(name));
        self.act(Op::Rmdir, inode, reply, work, |reply, ()| reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let inode = self.inode_of(parent, name);
        let (name, new) = (name.to_owned(), newname.to_owned());
        let private = self.0.path(parent.0).is_ok_and(|dir| dir.ends_with(".storage-guard"));
        let op = if private { Op::PutBack } else { Op::Rename };
        let work = move |fs: &Backing| {
            if fs.switches.of(op, inode) == Some(Trouble::Lies) {
                return Ok(());
            }
            fs.rename(fs.path(parent.0)?.join(name), fs.path(newparent.0)?.join(new), flags)
        };
        self.act(op, inode, reply, work, |reply, ()| reply.ok());
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.act(
            Op::Open,
            ino.0,
            reply,
            move |fs| fs.open(ino.0, flags),
            |reply, handle| reply.opened(handle, FopenFlags::empty()),
        );
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let work = move |fs: &Backing| {
            let mut bytes = vec![0; size as usize];
            let read = fs.opened(fh)?.file.read_at(&mut bytes, offset)?;
            bytes.truncate(read);
            fs.flip(Op::Read, ino.0, &mut bytes);
            Ok(bytes)
        };
        self.act(Op::Read, ino.0, reply, work, |reply, bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut bytes = data.to_vec();
        let work = move |fs: &Backing| {
            fs.flip(Op::Write, ino.0, &mut bytes);
            match fs.switches.of(Op::Write, ino.0) == Some(Trouble::Lies) {
                true => Ok(bytes.len()),
                false => fs.opened(fh)?.file.write_at(&bytes, offset),
            }
        };
        self.act(Op::Write, ino.0, reply, work, |reply, written| reply.written(u32::try_from(written).unwrap_or(0)));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.0.opened.lock().unwrap().remove(&fh.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        self.act(Op::Fsync, ino.0, reply, move |fs| fs.opened(fh)?.file.sync_all(), |reply, ()| reply.ok());
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.act(
            Op::Open,
            ino.0,
            reply,
            move |fs| fs.open_directory(ino.0),
            |reply, handle| reply.opened(handle, FopenFlags::empty()),
        );
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        // Half of the entries, and then the error.
        let halfway = match self.0.switches.of(Op::Readdir, ino.0) {
            Some(Trouble::Halfway(error)) => Some(error),
            Some(Trouble::Fails(_) | Trouble::Slow(_) | Trouble::Hangs | Trouble::Lies | Trouble::Flips) | None => None,
        };
        if let (Some(error), true) = (halfway, offset > 0) {
            return reply.error(Errno::from_i32(error));
        }
        let work = move |fs: &Backing| fs.opened(fh);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let answer = move |mut reply: ReplyDirectory, opened: Arc<Opened>| {
            let some = if halfway.is_some() { opened.entries.len() / 2 } else { opened.entries.len() };
            for (at, (inode, kind, name)) in opened.entries.iter().enumerate().take(some).skip(from) {
                if reply.add(INodeNo(*inode), at as u64 + 1, *kind, name) {
                    break;
                }
            }
            reply.ok();
        };
        self.act(Op::Readdir, ino.0, reply, work, answer);
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.opened.lock().unwrap().remove(&fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        self.act(Op::Fsyncdir, ino.0, reply, move |fs| fs.opened(fh)?.file.sync_all(), |reply, ()| reply.ok());
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let work = |fs: &Backing| {
            let blocks = fs.size / BLOCK;
            Ok((blocks, blocks.saturating_sub(fs.used())))
        };
        let unit = u32::try_from(BLOCK).unwrap_or(4096);
        self.act(Op::Statfs, ino.0, reply, work, move |reply, (blocks, free)| {
            reply.statfs(blocks, free, free, 1 << 20, 1 << 19, unit, 255, unit);
        });
    }

    fn setxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, _: u32, reply: ReplyEmpty) {
        let (name, value) = (name.to_owned(), value.to_vec());
        let flags = rustix::fs::XattrFlags::from_bits_retain(flags.unsigned_abs());
        let work = move |fs: &Backing| Ok(rustix::fs::lsetxattr(fs.path(ino.0)?, name, &value, flags)?);
        self.act(Op::Xattr, ino.0, reply, work, |reply, ()| reply.ok());
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_owned();
        let work = move |fs: &Backing| {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(fs.path(ino.0)?, name, &mut value)?;
            value.truncate(length);
            Ok(value)
        };
        self.act(Op::Xattr, ino.0, reply, work, move |reply, value| match u32::try_from(value.len()).unwrap_or(0) {
            length if size == 0 => reply.size(length),
            length if length > size => reply.error(Errno::ERANGE),
            _ => reply.data(&value),
        });
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        let work = move |fs: &Backing| Ok(rustix::fs::lremovexattr(fs.path(ino.0)?, name)?);
        self.act(Op::Xattr, ino.0, reply, work, |reply, ()| reply.ok());
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let name = name.to_owned();
        let work = move |fs: &Backing| {
            let path = fs.path(parent.0)?.join(name);
            let new = flags & libc::O_EXCL != 0;
            let file =
                File::options().read(true).write(true).create(!new).create_new(new).truncate(false).open(&path)?;
            file.set_permissions(std::fs::Permissions::from_mode(mode & !umask & 0o7777))?;
            let found = fs.enter(path)?;
            Ok((found, fs.keep(Opened { inode: found.ino.0, file, entries: Vec::new() })))
        };
        self.act(Op::Write, parent.0, reply, work, |reply, (found, handle)| {
            reply.created(&TTL, &found, Generation(0), handle, FopenFlags::empty());
        });
    }
}
