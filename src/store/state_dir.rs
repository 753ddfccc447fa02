//! The folder of everything that must outlive us: one guard at a time, nobody else's business.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::system::{is_dead, is_full, lock_holder};

/// The file that is locked.
const LOCK: &str = "lock";

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another guard uses it.
    #[error("another storage-guard (process {pid}) uses the state in `{}`; stop it, or give this one another `--state`", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Its process; 0 if it cannot be named.
        pid: u32,
    },
    /// Others may change it.
    #[error("the state in `{}` can be written by other users; `chmod 700` it if its content can be trusted", .0.display())]
    Writable(PathBuf),
    /// A file of it cannot be read or written.
    #[error("cannot {action} the state in `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A state's folder, taken for this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    id: String,
    /// `None` while there is no room for it.
    lock: Mutex<Option<File>>,
}

impl StateDir {
    /// Takes the folder for this process, making it if need be. On a disk without room for it, it is kept in memory.
    ///
    /// # Errors
    /// [`StateError::Locked`] if another guard has it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        match take(path, None) {
            Ok((id, lock)) => Ok(Self { path: path.to_owned(), id, lock: Mutex::new(Some(lock)) }),
            Err(StateError::Io { source, .. }) if is_full(&source) => {
                let id = random_id().map_err(|source| failed(path, "identify", source))?;
                Ok(Self { path: path.to_owned(), id, lock: Mutex::default() })
            }
            Err(error) => Err(error),
        }
    }

    /// Makes what there was no room for when it was opened.
    ///
    /// # Errors
    /// If there still is none, or another guard has made it meanwhile.
    pub fn make(&self) -> Result<(), StateError> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            let (id, file) = take(&self.path, Some(&self.id))?;
            if id != self.id {
                return Err(StateError::Locked { path: self.path.clone(), pid: 0 });
            }
            *lock = Some(file);
        }
        Ok(())
    }

    /// It is on the disk.
    #[must_use]
    pub fn made(&self) -> bool {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The id of a state that another process has.
    ///
    /// # Errors
    /// If it has none that can be read.
    pub fn id_of(path: &Path) -> Result<String, StateError> {
        let failed = |source| StateError::Io { action: "identify", path: path.to_owned(), source };
        Ok(std::fs::read_to_string(path.join("id")).map_err(failed)?.trim().to_owned())
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells this state from every other; it stands in the markers of its trees.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> StateError {
    StateError::Io { action, path: path.to_owned(), source }
}

/// Makes the folder, locks it, and gives its id: `wanted`, or a new one, if it has none.
fn take(path: &Path, wanted: Option<&str>) -> Result<(String, File), StateError> {
    let failed = |action, source| failed(path, action, source);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("make", e))?;
    let stat = std::fs::metadata(path).map_err(|e| failed("look at", e))?;
    if stat.mode() & 0o022 != 0 {
        return Err(StateError::Writable(path.to_owned()));
    }
    let mut lock = open(&path.join(LOCK)).map_err(|e| failed("lock", e))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let stat = lock.metadata().map_err(|e| failed("lock", e))?;
            let pid = lock_holder(stat.dev(), stat.ino()).unwrap_or(0);
            if !is_dead(pid) {
                return Err(StateError::Locked { path: path.to_owned(), pid });
            }
            lock = replace_lock(path).map_err(|e| failed("lock", e))?;
        }
        Err(error) => return Err(failed("lock", error.into())),
    }
    let id = identify(&path.join("id"), wanted).map_err(|e| failed("identify", e))?;
    Ok((id, lock))
}

/// Another file in the place of a lock whose holder is dead: a thread of it hangs in the kernel, on some other disk, and will never
/// run again. Of several that try, the last one has it.
#[expect(clippy::disallowed_methods, reason = "the lock is the store's own file")]
fn replace_lock(folder: &Path) -> io::Result<File> {
    let new = folder.join(format!("{LOCK}.{}", std::process::id()));
    let lock = open(&new)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    std::fs::rename(&new, folder.join(LOCK))?;
    let there = std::fs::metadata(folder.join(LOCK))?;
    let ours = lock.metadata()?;
    if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) {
        Ok(lock)
    } else {
        Err(io::Error::other("another guard took it at the same moment"))
    }
}

fn identify(path: &Path, wanted: Option<&str>) -> io::Result<String> {
    let mut file = open(path)?;
    let mut id = String::new();
    file.read_to_string(&mut id)?;
    if id.trim().len() == 32 {
        return Ok(id.trim().to_owned());
    }
    let id = wanted.map_or_else(random_id, |id| Ok(id.to_owned()))?;
    // Over what a crash left of an earlier one.
    file.write_all_at(format!("{id}\n").as_bytes(), 0)?;
    file.sync_all()?;
    Ok(id)
}

fn random_id() -> io::Result<String> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belongs_to_one_guard_at_a_time_and_keeps_its_id() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state");
        let first = StateDir::open(&path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::Locked { pid, .. }) if pid == std::process::id()));
        let id = first.id().to_owned();
        drop(first);
        assert_eq!(StateDir::open(&path).unwrap().id(), id);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }
}
