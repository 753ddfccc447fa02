//! A real file, held by a descriptor.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;

use super::kernel::Kernel;
use super::{HeldFile, Lease, LeaseKind, ffi};
use crate::domain::recording::FileIdentity;
use crate::domain::units::Bytes;

/// The largest attribute of ours.
const ATTRIBUTE: usize = 4096;

/// A regular file.
#[derive(Debug)]
pub(super) struct RealFile(pub(super) OwnedFd, pub(super) Kernel);

/// From now on the process survives that somebody opens a file it has leased.
pub fn survive_lease_breaks() {
    ffi::ignore_sigio();
}

impl HeldFile for RealFile {
    fn identity(&self) -> io::Result<FileIdentity> {
        Ok(self.1.look_at(self.0.as_fd())?)
    }

    fn lease(&self, kind: LeaseKind) -> io::Result<Lease> {
        let kind = match kind {
            LeaseKind::NoWriter => libc::F_RDLCK,
            LeaseKind::NoOpener => libc::F_WRLCK,
        };
        match ffi::set_lease(self.0.as_fd(), kind) {
            Ok(()) => Ok(Lease::Granted),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(Lease::Conflict),
                // No leases on this filesystem, or no right to them: CAP_LEASE, for the files of others.
                Some(libc::EACCES | libc::EINVAL | libc::ENOTTY | libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => {
                    Ok(Lease::Unavailable)
                }
                _ => Err(error),
            },
        }
    }

    fn undisturbed(&self, kind: LeaseKind) -> bool {
        let wanted = match kind {
            LeaseKind::NoWriter => libc::F_RDLCK,
            LeaseKind::NoOpener => libc::F_WRLCK,
        };
        ffi::lease(self.0.as_fd()).is_ok_and(|held| held == wanted)
    }

    fn release(&self) -> io::Result<()> {
        match ffi::set_lease(self.0.as_fd(), libc::F_UNLCK) {
            // There was none, or there are none here.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL | libc::EACCES)) => Ok(()),
            other => other,
        }
    }

    fn attribute(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; ATTRIBUTE];
        match rustix::fs::fgetxattr(&self.0, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(&self.0, name, value, rustix::fs::XattrFlags::empty())?)
    }

    fn remove_attribute(&self, name: &str) -> io::Result<()> {
        match rustix::fs::fremovexattr(&self.0, name) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn locked(&self) -> bool {
        use rustix::fs::IFlags;
        rustix::fs::ioctl_getflags(&self.0).is_ok_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND))
    }

    fn shared(&self) -> Option<Bytes> {
        ffi::shared_bytes(self.0.as_fd()).ok().map(Bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::pread(&self.0, &mut *buffer, offset))?)
    }

    fn forget(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?)
    }
}
