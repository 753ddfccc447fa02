//! Volumes and processes in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, FakeDir, Power};
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::{FilesystemTraits, Reading, Space, Unusable};
use crate::system::{Holders, OpenFile, VolumeKey, Volumes, WritableDir};

/// One volume, with one tree that fills it but for what others have.
#[derive(Debug)]
pub struct FakeVolumes {
    /// Its filesystem.
    pub disk: Arc<Disk>,
    /// Its size.
    pub size: Bytes,
    /// What others have on it.
    pub others: Bytes,
    /// Strikes at its calls.
    pub power: Arc<Power>,
}

impl Volumes for FakeVolumes {
    fn open_tree(&self, path: &Path) -> io::Result<Arc<dyn WritableDir>> {
        Ok(Arc::new(FakeDir::new(self.disk.clone(), self.power.clone(), path)))
    }

    fn describe(&self, path: &Path) -> io::Result<(VolumeKey, FilesystemTraits)> {
        let traits = FilesystemTraits {
            kind: "fake".to_owned(),
            mount_point: path.display().to_string(),
            leases: self.disk.leases,
            ..FilesystemTraits::default()
        };
        Ok((VolumeKey("fake".to_owned()), traits))
    }

    fn read(&self, _: &Path, at: Timestamp) -> Result<Reading, Unusable> {
        let asked = self.power.step("statvfs", || Ok(()));
        asked.map_err(|error| Unusable::Failed(error.to_string()))?;
        let free = self.size.saturating_sub(self.others).saturating_sub(self.disk.used());
        let space = Space { size: self.size, free, available: free, inodes: 0, inodes_free: 0 };
        Ok(Reading { at, space, readonly: false, written: Some(Bytes::ZERO) })
    }

    fn io_pressure(&self) -> Option<f64> {
        None
    }
}

/// Processes that have files open.
#[derive(Debug, Clone, Default)]
pub struct FakeHolders(pub Vec<OpenFile>);

impl Holders for FakeHolders {
    fn find(&self, inodes: &[u64]) -> Vec<OpenFile> {
        self.0.iter().filter(|open| inodes.contains(&open.inode)).cloned().collect()
    }
}
