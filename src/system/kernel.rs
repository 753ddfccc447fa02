//! What this kernel can do, and what stands in for what it cannot: `openat2` came with Linux 5.6, `statx` with 4.11,
//! `renameat2` with 3.15.
//!
//! Invariants, with stand-ins as without:
//! - a lookup never leaves the tree: each component is opened by itself, without following links, and its mount is compared with
//!   that of the top (where no mount id is to be had, its device);
//! - a rename never replaces a file of others.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Statx, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;

use super::EntryType;
use crate::domain::recording::FileIdentity;
use crate::domain::units::Bytes;

/// The kernel takes no path that is this long; longer ones are walked in parts.
const PATH_MAX: usize = 4096;
/// A directory on the way: nothing is read in it.
const ON_THE_WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Which calls the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// `openat2`.
    pub openat2: bool,
    /// `statx`.
    pub statx: bool,
    /// `renameat2`.
    pub renameat2: bool,
}

/// What is known of one name or descriptor.
pub(super) struct Seen {
    pub(super) kind: EntryType,
    pub(super) identity: FileIdentity,
}

impl Kernel {
    /// The kernel that we run on: tried once in each process, so that all its identities are of one kind.
    #[must_use]
    pub fn current() -> Self {
        static KERNEL: OnceLock<Kernel> = OnceLock::new();
        *KERNEL.get_or_init(Self::try_out)
    }

    #[expect(clippy::disallowed_methods, reason = "two empty names rename nothing")]
    fn try_out() -> Self {
        // Old sandboxes answer EPERM to calls that they do not know; root itself refuses nobody these.
        let there = |error: Option<Errno>| !matches!(error, Some(Errno::NOSYS | Errno::PERM));
        let resolve = ResolveFlags::NO_SYMLINKS;
        Self {
            openat2: there(rustix::fs::openat2(CWD, "/", ON_THE_WAY, Mode::empty(), resolve).err()),
            statx: there(rustix::fs::statx(CWD, "/", AtFlags::empty(), wanted()).err()),
            renameat2: there(rustix::fs::renameat_with(CWD, "", CWD, "", RenameFlags::NOREPLACE).err()),
        }
    }

    /// Names of the calls that others stand in for.
    #[must_use]
    pub fn missing(self) -> Vec<&'static str> {
        let calls = [(self.openat2, "openat2"), (self.statx, "statx"), (self.renameat2, "renameat2")];
        calls.into_iter().filter(|(there, _)| !there).map(|(_, name)| name).collect()
    }

    /// Opens `path`, relative and without `..`, below `top`, on the same mount and through no link.
    pub(super) fn open_beneath(self, top: BorrowedFd<'_>, path: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
        let bytes = path.as_bytes();
        if self.openat2 && bytes.len() < PATH_MAX {
            return Ok(open_whole(top, path, flags)?);
        }
        let mount = (!self.openat2).then(|| self.mount(top)).transpose()?;
        let components: Vec<&[u8]> = bytes.split(|byte| *byte == b'/').collect();
        let mut at: Option<OwnedFd> = None;
        for (index, name) in components.iter().enumerate() {
            let flags = if index + 1 == components.len() { flags } else { ON_THE_WAY };
            let from = at.as_ref().map_or(top, |handle| handle.as_fd());
            let name = OsStr::from_bytes(name);
            let next = match mount {
                None => open_whole(from, name, flags)?,
                Some(mount) => {
                    let next = rustix::fs::openat(from, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
                    if self.mount(next.as_fd())? != mount {
                        return Err(Errno::XDEV.into());
                    }
                    next
                }
            };
            at = Some(next);
        }
        at.ok_or_else(|| Errno::NOENT.into())
    }

    /// What tells the mount of a descriptor from others: its id and no device, or, without an id, the device.
    fn mount(self, handle: BorrowedFd<'_>) -> rustix::io::Result<(u64, u64)> {
        match self.mount_id(handle)? {
            0 => Ok((0, rustix::fs::fstat(handle)?.st_dev)),
            id => Ok((id, 0)),
        }
    }

    /// The mount id of a descriptor; 0 where it cannot be known.
    fn mount_id(self, handle: BorrowedFd<'_>) -> rustix::io::Result<u64> {
        if self.statx {
            let stat = rustix::fs::statx(handle, c"", AtFlags::EMPTY_PATH, wanted())?;
            if has(&stat, StatxFlags::MNT_ID) {
                return Ok(stat.stx_mnt_id);
            }
        }
        // Without `/proc` the device must do.
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
        Ok(id.and_then(|id| id.parse().ok()).unwrap_or(0))
    }

    /// Looks at one name of a directory, following nothing.
    pub(super) fn look<P: rustix::path::Arg>(self, dir: BorrowedFd<'_>, name: P) -> rustix::io::Result<Seen> {
        if self.statx {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
            return Ok(of_statx(&rustix::fs::statx(dir, name, flags, wanted())?));
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(of_stat(&stat, 0))
    }

    /// Looks at a descriptor.
    pub(super) fn look_at(self, handle: BorrowedFd<'_>) -> rustix::io::Result<FileIdentity> {
        if self.statx {
            return Ok(of_statx(&rustix::fs::statx(handle, c"", AtFlags::EMPTY_PATH, wanted())?).identity);
        }
        Ok(of_stat(&rustix::fs::fstat(handle)?, self.mount_id(handle)?).identity)
    }

    /// Renames a file to a name of ours: one that holds a number used once, so that nobody else's file bears it.
    #[expect(clippy::disallowed_methods, reason = "these are the calls that the door stands before")]
    pub(super) fn take(self, from: At<'_>, to: At<'_>) -> rustix::io::Result<()> {
        if let Some(done) = self.rename(from, to) {
            return done;
        }
        // A link and an unlink would be no better: the unlink could meet another file under the public name.
        match rustix::fs::statat(to.dir, to.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(from.dir, from.name, to.dir, to.name),
            Err(error) => Err(error),
        }
    }

    /// Renames what bears a name of ours to a public name, never over another file. Where the kernel cannot, it gets its public
    /// name first and then loses ours; a crash in between leaves it with both, and the next call takes ours away.
    #[expect(clippy::disallowed_methods, reason = "these are the calls that the door stands before")]
    pub(super) fn give_back(self, from: At<'_>, to: At<'_>) -> rustix::io::Result<()> {
        let linked = match self.rename(from, to) {
            Some(Err(Errno::EXIST)) => Err(Errno::EXIST),
            Some(done) => return done,
            None => rustix::fs::linkat(from.dir, from.name, to.dir, to.name, AtFlags::empty()),
        };
        match linked {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let look = |at: At<'_>| rustix::fs::statat(at.dir, at.name, AtFlags::SYMLINK_NOFOLLOW);
                let (ours, public) = (look(from)?, look(to)?);
                if (ours.st_dev, ours.st_ino) != (public.st_dev, public.st_ino) || ours.st_nlink < 2 {
                    return Err(Errno::EXIST);
                }
            }
            // A directory has no second name; its rename replaces an empty directory at most.
            Err(Errno::PERM | Errno::ISDIR) if is_directory(from)? => {
                return rustix::fs::renameat(from.dir, from.name, to.dir, to.name);
            }
            Err(error) => return Err(error),
        }
        rustix::fs::unlinkat(from.dir, from.name, AtFlags::empty())
    }

    /// `None` if the kernel, or this filesystem, cannot rename without replacing.
    #[expect(clippy::disallowed_methods, reason = "these are the calls that the door stands before")]
    fn rename(self, from: At<'_>, to: At<'_>) -> Option<rustix::io::Result<()>> {
        if !self.renameat2 {
            return None;
        }
        match rustix::fs::renameat_with(from.dir, from.name, to.dir, to.name, RenameFlags::NOREPLACE) {
            Err(Errno::NOSYS | Errno::INVAL) => None,
            done => Some(done),
        }
    }
}

/// A name in an open directory.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
}

fn is_directory(at: At<'_>) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(at.dir, at.name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn open_whole(top: BorrowedFd<'_>, path: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(top, path, flags, Mode::empty(), resolve) {
            // EAGAIN: a rename elsewhere raced with the lookup, and the kernel could not prove that we stayed beneath.
            Err(Errno::INTR | Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID
}

fn has(stat: &Statx, flag: StatxFlags) -> bool {
    StatxFlags::from_bits_retain(stat.stx_mask).contains(flag)
}

fn nanos(secs: i64, nanos: u32) -> i64 {
    secs.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos))
}

fn of_statx(stat: &Statx) -> Seen {
    let kind = if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        EntryType::Mount
    } else {
        entry_type(u32::from(stat.stx_mode))
    };
    let identity = FileIdentity {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        mount: if has(stat, StatxFlags::MNT_ID) { stat.stx_mnt_id } else { 0 },
        inode: stat.stx_ino,
        birth: if has(stat, StatxFlags::BTIME) { nanos(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { 0 },
        modified: nanos(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        size: stat.stx_size,
        allocated: Bytes(stat.stx_blocks).saturating_mul(512),
        links: stat.stx_nlink,
    };
    Seen { kind, identity }
}

/// Without `statx` nobody tells the birth time, and a mount shows only when it is opened.
fn of_stat(stat: &Stat, mount: u64) -> Seen {
    let nsec = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let identity = FileIdentity {
        device: stat.st_dev,
        mount,
        inode: stat.st_ino,
        birth: 0,
        modified: nanos(stat.st_mtime, nsec),
        size: stat.st_size.cast_unsigned(),
        allocated: Bytes(stat.st_blocks.cast_unsigned()).saturating_mul(512),
        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
    };
    Seen { kind: entry_type(stat.st_mode), identity }
}

fn entry_type(mode: u32) -> EntryType {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => EntryType::File,
        FileType::Directory => EntryType::Directory,
        FileType::Symlink => EntryType::Symlink,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            EntryType::Special
        }
    }
}
