//! Real volumes: `statvfs` for space, mountinfo for everything else.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::mountinfo::{self, Mount};
use super::{GuardedTree, Kernel, VolumeKey, Volumes, WritableDir};
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::{FilesystemTraits, Reading, Space, Unusable};

/// How long the list of disks is waited for: the kind is only shown.
const DISK_KIND: Duration = Duration::from_secs(1);

/// The volumes of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemVolumes;

impl Volumes for SystemVolumes {
    fn open_tree(&self, path: &Path) -> io::Result<Arc<dyn WritableDir>> {
        Ok(Arc::new(GuardedTree::open(path)?))
    }

    fn describe(&self, path: &Path) -> io::Result<(VolumeKey, FilesystemTraits)> {
        Ok(describe_mount(mount_of(path)?))
    }

    fn read(&self, path: &Path, at: Timestamp) -> Result<Reading, Unusable> {
        let failed = |error: &dyn std::fmt::Display| Unusable::Failed(error.to_string());
        let stat = rustix::fs::statvfs(path).map_err(|error| failed(&error))?;
        let unit = if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize };
        let blocks = |count: u64| Bytes(count).saturating_mul(unit);
        let space = Space {
            size: blocks(stat.f_blocks),
            free: blocks(stat.f_bfree),
            available: blocks(stat.f_bavail),
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
        };
        if space.size == Bytes::ZERO {
            return Err(Unusable::NoSize);
        }
        let mount = mount_of(path).map_err(|error| failed(&error))?;
        Ok(Reading { at, space, readonly: mount.readonly, written: written(&mount) })
    }

    fn io_pressure(&self) -> Option<f64> {
        let text = std::fs::read_to_string("/proc/pressure/io").ok()?;
        let some = text.lines().find(|line| line.starts_with("some "))?;
        some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
    }
}

/// What kind of filesystem a mount is. Nothing of it is touched.
pub(super) fn describe_mount(mount: Mount) -> (VolumeKey, FilesystemTraits) {
    // Each btrfs subvolume has a device number of its own, though they share their space.
    let key = if mount.kind == "btrfs" { mount.source.clone() } else { mount.device.clone() };
    let traits = FilesystemTraits {
        disk: disk_kind(&mount),
        network: mount.network(),
        union_mount: mount.union(),
        copy_on_write: mount.copy_on_write(),
        leases: !mount.network(),
        fallbacks: Kernel::current().missing(),
        kind: mount.kind,
        mount_point: mount.point.to_string_lossy().into_owned(),
        source: mount.source,
    };
    (VolumeKey(key), traits)
}

fn mount_of(path: &Path) -> io::Result<Mount> {
    let path = std::fs::canonicalize(path)?;
    let mounts = mountinfo::parse(&std::fs::read("/proc/self/mountinfo")?);
    mountinfo::holding(&mounts, &path).cloned().ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("no mount in /proc/self/mountinfo holds `{}`", path.display()))
    })
}

/// The kind of disk. A thread that hangs in the kernel keeps the whole process from ending, so the block device is asked first, and nobody
/// looks at the mounts of others.
fn disk_kind(mount: &Mount) -> String {
    let Some(device) = block_device(mount) else { return String::new() };
    // A partition has no queue; its disk, the directory above, has.
    let rotational = ["queue/rotational", "../queue/rotational"]
        .iter()
        .find_map(|name| std::fs::read_to_string(device.join(name)).ok());
    match rotational.as_deref().map(str::trim) {
        Some("1") => "HDD".to_owned(),
        Some("0") => "SSD".to_owned(),
        Some(_) => String::new(),
        None => listed_kind(&mount.point),
    }
}

/// The kind of disk, if that can be told soon. `sysinfo` looks at every mount of the machine, also at one that hangs: then a thread stays
/// with it, and nobody asks again before it has come back.
fn listed_kind(mount_point: &Path) -> String {
    static ASKED: AtomicBool = AtomicBool::new(false);
    if ASKED.swap(true, Ordering::AcqRel) {
        return String::new();
    }
    let (answer, answered) = sync_channel(1);
    let point = mount_point.to_owned();
    let asked = std::thread::Builder::new().name("disk kind".to_owned()).spawn(move || {
        let only = sysinfo::DiskRefreshKind::nothing().with_kind();
        let disks = sysinfo::Disks::new_with_refreshed_list_specifics(only).ok();
        let kind = disks.and_then(|disks| Some(disks.iter().find(|disk| disk.mount_point() == point)?.kind()));
        ASKED.store(false, Ordering::Release);
        let _ = answer.send(match kind {
            Some(sysinfo::DiskKind::HDD) => "HDD",
            Some(sysinfo::DiskKind::SSD) => "SSD",
            Some(sysinfo::DiskKind::Unknown(_)) | None => "",
        });
    });
    if asked.is_err() {
        ASKED.store(false, Ordering::Release);
    }
    answered.recv_timeout(DISK_KIND).unwrap_or_default().to_owned()
}

/// Where the kernel tells of the block device, if there is one. A filesystem over several devices or subvolumes has none of its own number;
/// its source has.
fn block_device(mount: &Mount) -> Option<PathBuf> {
    let blocks = Path::new("/sys/dev/block");
    if !mount.device.starts_with("0:") {
        return Some(blocks.join(&mount.device));
    }
    // What is no device, but looks like a path, may lie anywhere, also on a mount that hangs.
    let source = std::fs::metadata(Some(&mount.source).filter(|source| source.starts_with("/dev/"))?).ok()?;
    let (major, minor) = (rustix::fs::major(source.rdev()), rustix::fs::minor(source.rdev()));
    source.file_type().is_block_device().then(|| blocks.join(format!("{major}:{minor}")))
}

/// Bytes written to the device: the seventh number of its `stat`, in sectors of 512 bytes.
fn written(mount: &Mount) -> Option<Bytes> {
    let text = std::fs::read_to_string(block_device(mount)?.join("stat")).ok()?;
    let sectors: u64 = text.split_whitespace().nth(6)?.parse().ok()?;
    Some(Bytes(sectors).saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_volume_of_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let reading = SystemVolumes.read(dir.path(), Timestamp::from_secs(1)).unwrap();
        assert!(reading.space.size >= reading.space.free && reading.space.free >= reading.space.available);
        let (key, traits) = SystemVolumes.describe(dir.path()).unwrap();
        assert_eq!(SystemVolumes.describe(&std::env::temp_dir()).unwrap().0, key);
        assert!(!traits.kind.is_empty());
    }

    #[test]
    fn a_path_that_is_not_there_is_no_reading() {
        let missing = Path::new("/nonexistent/record");
        assert!(matches!(SystemVolumes.read(missing, Timestamp::default()), Err(Unusable::Failed(_))));
    }
}
