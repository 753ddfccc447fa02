//! The calls that no library wraps: leases, FIEMAP, the filesystem's UUID, and descriptors that were passed to us. The only `unsafe` of this program.
#![expect(
    unsafe_code,
    reason = "F_SETLEASE, FS_IOC_FIEMAP, FS_IOC_GETFSUUID and passed descriptors have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// `FS_IOC_FIEMAP` of linux/fs.h.
const FS_IOC_FIEMAP: libc::c_ulong = 0xC020_660B;
/// `FS_IOC_GETFSUUID` of linux/fs.h, since Linux 6.9.
const FS_IOC_GETFSUUID: libc::c_ulong = 0x8011_1500;
/// `FIEMAP_EXTENT_LAST` and `FIEMAP_EXTENT_SHARED` of linux/fiemap.h.
const EXTENT_LAST: u32 = 0x1;
const EXTENT_SHARED: u32 = 0x2000;
/// Extents asked for at once.
const EXTENTS: usize = 64;

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap`, with room for extents.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

/// Sets (`F_RDLCK`, `F_WRLCK`) or drops (`F_UNLCK`) a lease.
pub(super) fn set_lease(file: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call, and F_SETLEASE takes an int and no pointer.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The lease that we hold, or, once somebody waits for it, the one that we are to fall back to.
pub(super) fn lease(file: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is borrowed for the call, and F_GETLEASE takes no argument.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) } {
        -1 => Err(io::Error::last_os_error()),
        kind => Ok(kind),
    }
}

/// A descriptor that the service manager passed to this process: ours from now on. To be asked for once.
pub(super) fn passed(number: RawFd) -> OwnedFd {
    // SAFETY: it was opened before this process began, nothing else of it knows the number, and it is taken once (`passed.rs`).
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Ignores SIGIO, which the kernel sends when somebody opens a leased file and which ends a process by default.
pub(super) fn ignore_sigio() {
    ignore(libc::SIGIO);
}

/// Closes every descriptor but the standard three, for a process that has opened none yet: whoever started us may have handed down
/// others by mistake.
pub(super) fn close_all_but_standard() {
    // SAFETY: it is called before this process has opened anything, so nothing in it owns one of these descriptors.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Ignores SIGTERM: who must finish what it is at ends by other means.
pub(super) fn ignore_sigterm() {
    ignore(libc::SIGTERM);
}

fn ignore(signal: libc::c_int) {
    // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Bytes of a file's extents that other files share.
pub(super) fn shared_bytes(file: BorrowedFd<'_>) -> io::Result<u64> {
    let (mut start, mut shared) = (0, 0u64);
    loop {
        let mut map = Fiemap {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped: 0,
            count: 64,
            reserved: 0,
            extents: [Extent::default(); EXTENTS],
        };
        // SAFETY: `map` is laid out as the kernel's struct fiemap with room for the `count` extents that it announces, and
        // lives through the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) } == -1 {
            return Err(io::Error::last_os_error());
        }
        let found = &map.extents[..(map.mapped as usize).min(EXTENTS)];
        let flagged = found.iter().filter(|e| e.flags & EXTENT_SHARED != 0);
        shared = flagged.fold(shared, |sum, e| sum.saturating_add(e.length));
        match found.last() {
            Some(last) if last.flags & EXTENT_LAST == 0 && last.length > 0 => {
                start = last.logical.saturating_add(last.length);
            }
            _ => return Ok(shared),
        }
    }
}

/// UUID of the filesystem that holds `file`.
pub(super) fn filesystem_uuid(file: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
    // `struct fsuuid2`: a length and sixteen bytes.
    let mut answer = [0u8; 17];
    // SAFETY: the kernel writes exactly the 17 bytes that the request's size says, into an array of 17.
    if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFSUUID, answer.as_mut_ptr()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&answer[1..]);
    Ok(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_lease_is_granted_only_while_nobody_has_the_file_open() {
        ignore_sigio();
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = std::fs::File::open(file.path()).unwrap();
        let refused = set_lease(reader.as_fd(), libc::F_WRLCK).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
        let path = file.into_temp_path();
        assert!(set_lease(reader.as_fd(), libc::F_WRLCK).is_ok());
        assert!(set_lease(reader.as_fd(), libc::F_UNLCK).is_ok());
        assert!(path.exists());
    }

    #[test]
    fn a_plain_file_shares_nothing() {
        let file = tempfile::tempfile().unwrap();
        // tmpfs knows no extents; every other answer is a number.
        assert!(shared_bytes(file.as_fd()).unwrap_or(0) == 0);
    }

    #[test]
    fn the_uuid_is_the_same_twice() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(filesystem_uuid(file.as_fd()).ok(), filesystem_uuid(file.as_fd()).ok());
    }
}
