//! Room that is kept where even overwriting a file needs some: on btrfs, whose files are never changed in place.
//!
//! When a write to the journal finds no room, the ballast is let go, once, and the write is tried again; that is enough to put on
//! record what gives the volume its room back. Then the ballast is built again.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `BTRFS_SUPER_MAGIC` of linux/magic.h.
const BTRFS: u64 = 0x9123_683e;
/// It is no larger than this, nor than a hundredth of the volume.
const LARGEST: u64 = 32 << 20;
/// It is built only while the volume has this share of its size available, in percent.
const ROOM: u64 = 5;

/// A file of noise.
#[derive(Debug)]
pub(super) struct Ballast {
    folder: PathBuf,
}

impl Ballast {
    /// In the journal's folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Builds it where it is of use and there is room for it; that it cannot be built is no error.
    pub(super) fn build(&self) {
        let Ok(stat) = rustix::fs::statfs(&self.folder) else { return };
        let unit = u64::try_from(stat.f_bsize).unwrap_or(0);
        let (size, available) = (stat.f_blocks.saturating_mul(unit), stat.f_bavail.saturating_mul(unit));
        let wanted = LARGEST.min(size / 100);
        let there = std::fs::metadata(self.path()).map_or(0, |found| found.len());
        let kind = u64::try_from(stat.f_type).unwrap_or(0) & 0xffff_ffff;
        if kind == BTRFS && there < wanted && available >= (size / 100).saturating_mul(ROOM).max(wanted * 2) {
            // Half a ballast is of use too.
            let _ = self.write(wanted);
        }
    }

    fn write(&self, bytes: u64) -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(self.path())?;
        let mut noise = vec![0; 64 << 10];
        for _ in 0..bytes.div_ceil(64 << 10) {
            // Noise, so that no compression makes it small.
            getrandom::fill(&mut noise).map_err(io::Error::other)?;
            file.write_all(&noise)?;
        }
        file.sync_all()
    }

    /// Lets it go; whether there was one.
    #[expect(clippy::disallowed_methods, reason = "the ballast is the store's own")]
    pub(super) fn release(&self) -> bool {
        if std::fs::remove_file(self.path()).is_err() {
            return false;
        }
        // btrfs gives the room back with its next transaction.
        File::open(&self.folder).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?)).is_ok()
    }
}
