//! What a guarded tree lets the door do: set aside, unlink, put back, and the identity marker.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::held::RealFile;
use super::kernel::{At, Kernel};
use super::tree::GuardedTree;
use super::{Aside, BESIDE, Dir as _, HeldFile, IncomingFile, WritableDir, ffi};
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::units::Bytes;

/// The private folder at the top of each tree.
const PRIVATE: &str = ".storage-guard";
/// The identity marker in it.
const MARKER: &str = "marker";
/// The marker while it is written.
const MARKER_NEW: &str = "marker.new";
/// The probe file in it. It is no number, so nobody takes it for something that was set aside.
const CANARY: &str = "canary";
/// The longest name that a filesystem takes.
const NAME_MAX: usize = 255;
/// Flags for files that are looked at: a pipe must not block, and looking must not count as reading.
const LOOK: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

impl GuardedTree {
    /// The private folder, if it is there. One that others may write to, or that is not ours, is refused: somebody else put it
    /// there.
    pub(super) fn private(&self) -> io::Result<Option<OwnedFd>> {
        let handle = match self.directory(Some(&Self::private_path())) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&handle)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            let path = self.path().join(PRIVATE);
            return Err(io::Error::other(format!(
                "`{}` is not a folder of this user with mode 0700; remove it if you do not know where it comes from",
                path.display()
            )));
        }
        Ok(Some(handle))
    }

    /// Where the private folder is.
    pub(super) fn private_path() -> RelPath {
        RelPath::new(PRIVATE.as_bytes()).expect("it is one component")
    }

    /// The private folder, made if need be.
    pub(super) fn private_or_new(&self) -> io::Result<OwnedFd> {
        if let Some(handle) = self.private()? {
            return Ok(handle);
        }
        match rustix::fs::mkdirat(self.handle(), PRIVATE, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.private()?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Makes the probe file. It is written as well as allocated, and with noise: what is only promised, or compressed away, tells
    /// nothing.
    fn fill_canary(&self, bytes: Bytes) -> io::Result<()> {
        self.remove_canary()?;
        let folder = self.private_or_new()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, CANARY, flags, Mode::RUSR | Mode::WUSR)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes.0) {
            // Not every filesystem knows how to; the writing allocates as well.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut file = std::fs::File::from(file);
        let mut noise = vec![0; 1 << 20];
        let mut left = bytes.0;
        while left > 0 {
            fastrand::fill(&mut noise);
            let now = left.min(noise.len() as u64);
            file.write_all(&noise[..usize::try_from(now).unwrap_or(noise.len())])?;
            left -= now;
        }
        file.sync_all()
    }

    /// The directory that an aside lies in, and its name there; `None` if there is no private folder.
    fn place(&self, aside: &Aside) -> io::Result<Option<(OwnedFd, OsString)>> {
        match aside {
            Aside::Private(seq) => Ok(self.private()?.map(|folder| (folder, OsString::from(seq.to_string())))),
            Aside::Beside(path) => {
                let (parent, name) = path.split();
                match self.directory(parent.as_ref()) {
                    Ok(parent) => Ok(Some((parent, OsString::from_vec(name.to_vec())))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Sets `path` aside, whose directory is open.
    fn set_aside_from(&self, parent: BorrowedFd<'_>, path: &RelPath, seq: u64) -> io::Result<Aside> {
        let from = At { dir: parent, name: OsStr::from_bytes(path.split().1) };
        match self.private_or_new() {
            Ok(folder) => {
                match self.kernel().take(from, At { dir: folder.as_fd(), name: OsStr::new(&seq.to_string()) }) {
                    Ok(()) => return Ok(Aside::Private(seq)),
                    // A rename may need a block for the folder's growth.
                    Err(Errno::XDEV | Errno::NOSPC | Errno::DQUOT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOSPC | Errno::DQUOT) => {}
                _ => return Err(error),
            },
        }
        self.rename_beside(parent, path, seq)
    }

    /// Renames within the directory that a path lies in.
    fn rename_beside(&self, parent: BorrowedFd<'_>, path: &RelPath, seq: u64) -> io::Result<Aside> {
        let aside = self.beside(path, seq);
        let Aside::Beside(new) = &aside else { return Err(Errno::INVAL.into()) };
        let from = At { dir: parent, name: OsStr::from_bytes(path.split().1) };
        self.kernel().take(from, At { dir: parent, name: OsStr::from_bytes(new.split().1) })?;
        Ok(aside)
    }

    /// Sets `path` aside within its directory, which is open, and makes that durable.
    fn set_aside_on_record_from(&self, parent: BorrowedFd<'_>, path: &RelPath, seq: u64) -> io::Result<Aside> {
        let aside = self.rename_beside(parent, path, seq)?;
        if let Err(error) = rustix::fs::fsync(parent) {
            let Aside::Beside(new) = &aside else { return Err(error.into()) };
            let to = At { dir: parent, name: OsStr::from_bytes(path.split().1) };
            self.kernel().give_back(At { dir: parent, name: OsStr::from_bytes(new.split().1) }, to)?;
            return Err(error.into());
        }
        Ok(aside)
    }

    /// The directory `dir`, with what is missing of it made again.
    fn directory_or_new(&self, dir: Option<&RelPath>) -> io::Result<OwnedFd> {
        let Some(dir) = dir else { return self.directory(None) };
        match self.directory(Some(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (parent, name) = dir.split();
        let parent = self.directory_or_new(parent.as_ref())?;
        match rustix::fs::mkdirat(&parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.directory(Some(dir)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens a regular file of a directory.
fn open_regular(kernel: Kernel, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Box<dyn HeldFile>>> {
    let open = |flags| rustix::fs::openat(dir, name, flags, Mode::empty());
    let file = match open(LOOK | OFlags::NOATIME) {
        // Only the owner may leave the time of reading alone.
        Err(Errno::PERM) => open(LOOK),
        other => other,
    };
    match file {
        Ok(file) => {
            if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
                return Err(Errno::INVAL.into());
            }
            Ok(Some(Box::new(RealFile(file, kernel))))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl WritableDir for GuardedTree {
    fn open(&self, path: &RelPath) -> io::Result<Option<Box<dyn HeldFile>>> {
        let (parent, name) = path.split();
        match self.directory(parent.as_ref()) {
            Ok(parent) => open_regular(self.kernel(), parent.as_fd(), OsStr::from_bytes(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set_aside(&self, path: &RelPath, seq: u64) -> io::Result<Aside> {
        let parent = self.directory(path.split().0.as_ref())?;
        self.set_aside_from(parent.as_fd(), path, seq)
    }

    fn set_aside_on_record(&self, path: &RelPath, seq: u64) -> io::Result<Aside> {
        let parent = self.directory(path.split().0.as_ref())?;
        self.set_aside_on_record_from(parent.as_fd(), path, seq)
    }

    fn set_aside_only(&self, path: &RelPath, seq: u64, file: &FileIdentity, on_record: bool) -> io::Result<Aside> {
        let (parent, name) = path.split();
        let parent = self.directory(parent.as_ref())?;
        let from = At { dir: parent.as_fd(), name: OsStr::from_bytes(name) };
        let same = |at: At<'_>| {
            let found = self.kernel().look(at.dir, at.name)?.identity;
            Ok::<bool, io::Error>((found.device, found.inode) == (file.device, file.inode))
        };
        if !same(from)? {
            return Err(Errno::INVAL.into());
        }
        let aside = if on_record {
            self.set_aside_on_record_from(from.dir, path, seq)?
        } else {
            self.set_aside_from(from.dir, path, seq)?
        };
        let private = if matches!(aside, Aside::Private(_)) { self.private()? } else { None };
        let name = match &aside {
            Aside::Private(seq) => OsString::from(seq.to_string()),
            Aside::Beside(path) => OsString::from_vec(path.split().1.to_vec()),
        };
        let ours = At { dir: private.as_ref().map_or(from.dir, |folder| folder.as_fd()), name: &name };
        // What cannot be looked at or given back here is left to the caller, who knows what to say of it.
        if same(ours).is_ok_and(|same| !same) && self.kernel().give_back(ours, from).is_ok() {
            return Err(Errno::INVAL.into());
        }
        Ok(aside)
    }

    fn look_aside(&self, aside: &Aside) -> io::Result<Option<FileIdentity>> {
        let Some((dir, name)) = self.place(aside)? else { return Ok(None) };
        match self.kernel().look(dir.as_fd(), name.as_os_str()) {
            Ok(seen) => Ok(Some(seen.identity)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open_aside(&self, aside: &Aside) -> io::Result<Option<Box<dyn HeldFile>>> {
        match self.place(aside)? {
            Some((dir, name)) => open_regular(self.kernel(), dir.as_fd(), &name),
            None => Ok(None),
        }
    }

    fn put_back(&self, aside: &Aside, path: &RelPath) -> io::Result<()> {
        let (from, name) = self.place(aside)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let (parent, new) = path.split();
        let parent = self.directory_or_new(parent.as_ref())?;
        let from = At { dir: from.as_fd(), name: &name };
        Ok(self.kernel().give_back(from, At { dir: parent.as_fd(), name: OsStr::from_bytes(new) })?)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the unlink that the door stands before")]
    fn unlink_aside(&self, aside: &Aside) -> io::Result<()> {
        let (dir, name) = self.place(aside)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(rustix::fs::unlinkat(&dir, &name, AtFlags::empty())?)
    }

    fn list_aside(&self) -> io::Result<Vec<Aside>> {
        let mut out = Vec::new();
        if self.private()?.is_some() {
            self.read(Some(&Self::private_path()), &mut |entry| {
                let seq = std::str::from_utf8(&entry.name).ok().and_then(|name| name.parse().ok());
                out.extend(seq.map(Aside::Private));
            })?;
        }
        Ok(out)
    }

    fn beside(&self, path: &RelPath, seq: u64) -> Aside {
        beside(path, seq)
    }

    #[expect(clippy::disallowed_methods, reason = "an empty directory, by rmdir alone")]
    fn remove_dir(&self, path: &RelPath) -> io::Result<()> {
        let (parent, name) = path.split();
        let parent = self.directory(parent.as_ref())?;
        Ok(rustix::fs::unlinkat(&parent, OsStr::from_bytes(name), AtFlags::REMOVEDIR)?)
    }

    fn sync_dir(&self, path: Option<&RelPath>) -> io::Result<()> {
        match self.directory(path) {
            Ok(dir) => Ok(rustix::fs::fsync(&dir)?),
            // What is gone needs no syncing; that it is gone is its parent's business.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync_aside(&self) -> io::Result<()> {
        match self.private()? {
            Some(folder) => Ok(rustix::fs::fsync(&folder)?),
            None => Ok(()),
        }
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.handle())?)
    }

    fn read_marker(&self) -> io::Result<Option<String>> {
        let Some(folder) = self.private()? else { return Ok(None) };
        let file = match rustix::fs::openat(&folder, MARKER, LOOK, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        std::fs::File::from(file).take(4096).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    #[expect(clippy::disallowed_methods, reason = "the marker is our own file")]
    fn write_marker(&self, text: &str) -> io::Result<()> {
        let folder = self.private_or_new()?;
        match rustix::fs::unlinkat(&folder, MARKER_NEW, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, MARKER_NEW, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(file);
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        rustix::fs::renameat(&folder, MARKER_NEW, &folder, MARKER)?;
        rustix::fs::fsync(&folder)?;
        Ok(rustix::fs::fsync(self.handle())?)
    }

    fn write_canary(&self, bytes: Bytes) -> io::Result<()> {
        let written = self.fill_canary(bytes);
        if written.is_err() {
            // A full quota must not stay full because of us.
            let _ = self.remove_canary();
        }
        written
    }

    #[expect(clippy::disallowed_methods, reason = "the probe file is our own")]
    fn remove_canary(&self) -> io::Result<()> {
        let Some(folder) = self.private()? else { return Ok(()) };
        match rustix::fs::unlinkat(&folder, CANARY, AtFlags::empty()) {
            Ok(()) => Ok(rustix::fs::fsync(&folder)?),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&self, number: u64) -> io::Result<Box<dyn IncomingFile>> {
        self.begin_incoming(number)
    }

    fn admit(&self, number: u64, path: &RelPath) -> io::Result<()> {
        self.admit_incoming(number, path)
    }

    fn dismiss(&self, number: u64) -> io::Result<()> {
        self.dismiss_incoming(number)
    }

    fn incoming(&self) -> io::Result<Vec<u64>> {
        self.list_incoming_files()
    }

    fn filesystem_uuid(&self) -> io::Result<Option<String>> {
        uuid_or_none(ffi::filesystem_uuid(self.handle()))
    }

    fn lock(&self) -> io::Result<Option<u32>> {
        match rustix::fs::flock(self.handle(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => {
                let stat = rustix::fs::fstat(self.handle())?;
                Ok(Some(lock_holder(stat.st_dev, stat.st_ino).unwrap_or(0)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The identifier as text. A kernel or a filesystem without one refuses the question in one of these ways; every other error says
/// nothing about whether there is one.
fn uuid_or_none(answer: io::Result<[u8; 16]>) -> io::Result<Option<String>> {
    match answer {
        Ok(uuid) => Ok(Some(uuid.iter().map(|byte| format!("{byte:02x}")).collect())),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(None),
            Some(_) | None => Err(error),
        },
    }
}

/// The name that `path` is set aside under beside itself.
pub(super) fn beside(path: &RelPath, seq: u64) -> Aside {
    let (parent, name) = path.split();
    let mut new = BESIDE.to_vec();
    new.extend_from_slice(format!("{seq}-").as_bytes());
    new.extend_from_slice(&name[..name.len().min(NAME_MAX - new.len())]);
    Aside::Beside(match parent {
        Some(parent) => parent.join(&new),
        None => RelPath::new(&new).expect("a name of ours is a component"),
    })
}

/// The process that `/proc/locks` names for a lock on an inode of a device.
pub fn lock_holder(device: u64, inode: u64) -> Option<u32> {
    let text = std::fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let whole = format!("{major:02x}:{minor:02x}:{inode}");
    // Subvolumes of btrfs have device numbers that the list does not know.
    let end = format!(":{inode}");
    let find = |fits: &dyn Fn(&str) -> bool| {
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (kind, _, _, pid, place) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
            (kind == "FLOCK" && fits(place)).then(|| pid.parse().ok())?
        })
    };
    find(&|place| place == whole).or_else(|| find(&|place| place.ends_with(&end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault 87.
    #[test]
    fn only_a_refusal_that_says_so_means_that_there_is_no_uuid() {
        let check = |error: Errno, none: bool| {
            let answer = uuid_or_none(Err(error.into()));
            assert_eq!(matches!(answer, Ok(None)), none, "{error}");
            assert_eq!(answer.is_err(), !none, "{error}");
        };
        for error in [Errno::NOTTY, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS] {
            check(error, true);
        }
        for error in [Errno::IO, Errno::ACCESS, Errno::PERM, Errno::INTR, Errno::NOMEM, Errno::STALE] {
            check(error, false);
        }
        assert_eq!(uuid_or_none(Ok([0x0a; 16])).unwrap(), Some("0a".repeat(16)));
    }
}
