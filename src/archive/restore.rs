//! Brings a copy back under its own name.
//!
//! 1. Its name must be free: never over another file. What is there already with the same content is back.
//! 2. It is written beside its tree's recordings under a name of ours, synced, and read back from the disk.
//! 3. What was read from the archive, what is on disk, and the digest that was kept with the copy must be one; then it gets its name.
//!
//! The copy stays in the archive.

use std::io;

use super::folder::read_whole;
use super::store::{ColdError, ColdObject, ColdStore};
use crate::domain::archive::{DIGEST_ATTRIBUTE, Digest, path_of};
use crate::domain::names::TreeId;
use crate::domain::recording::FileIdentity;
use crate::system::{IncomingFile, WritableDir, is_full};

/// What became of a copy that was to be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// It is back.
    Restored(Digest, FileIdentity),
    /// It was there all the time, with the same content.
    Already(Digest, FileIdentity),
}

/// Brings back what lies under a key. `number` names the file while it is coming in.
///
/// # Errors
/// Why it is not back; nothing of it is left.
pub fn bring_back(
    store: &dyn ColdStore,
    object: &ColdObject,
    tree: &TreeId,
    dir: &dyn WritableDir,
    number: u64,
    stop: &dyn Fn() -> bool,
) -> Result<Back, ColdError> {
    let key = &object.key;
    let path = path_of(tree, key).ok_or_else(|| ColdError::Absent(key.to_string()))?;
    let failed = |action, error: io::Error| {
        if is_full(&error) {
            return ColdError::Failed { action, key: key.to_string(), source: "the tree's volume has no room".into() };
        }
        ColdError::Failed { action, key: key.to_string(), source: Box::new(error) }
    };
    if let Some(held) = dir.open(&path).map_err(|error| failed("look for", error))? {
        let (digest, length) = read_whole(held.as_ref(), &path, &mut io::sink())?;
        let there = held.identity().map_err(|error| failed("look at", error))?;
        return match object.digest {
            Some(kept) if kept == digest && length == object.size => Ok(Back::Already(digest, there)),
            Some(_) | None => {
                Err(ColdError::Taken { key: path.to_string(), found: format!("{length} bytes, SHA-256 {digest}") })
            }
        };
    }
    let mut file = dir.receive(number).map_err(|error| failed("begin to restore", error))?;
    let brought = fill(store, object, file.as_mut(), stop).and_then(|digest| {
        drop(file);
        match dir.admit(number, &path) {
            Ok(()) => Ok(digest),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ColdError::Taken { key: path.to_string(), found: "it came meanwhile".to_owned() })
            }
            Err(error) => Err(failed("name", error)),
        }
    });
    if brought.is_err() {
        let _ = dir.dismiss(number);
    }
    let digest = brought?;
    let there = dir.look(&path).map_err(|error| failed("look at", error))?;
    Ok(Back::Restored(digest, there.ok_or_else(|| ColdError::Absent(path.to_string()))?))
}

fn fill(
    store: &dyn ColdStore,
    object: &ColdObject,
    file: &mut dyn IncomingFile,
    stop: &dyn Fn() -> bool,
) -> Result<Digest, ColdError> {
    let differs = |wrong: String| ColdError::Differs { key: object.key.to_string(), wrong };
    let (digest, length) = store.get(&object.key, &mut Sink { file, stop })?;
    if length != object.size {
        return Err(differs(format!("{length} bytes came, of {}", object.size)));
    }
    if let Some(kept) = object.digest.filter(|kept| *kept != digest) {
        return Err(differs(format!("its SHA-256 is {digest}, and {kept} was kept with it: it is damaged")));
    }
    let nanos = object.modified.millis().saturating_mul(1_000_000);
    let failed =
        |error: io::Error| ColdError::Failed { action: "sync", key: object.key.to_string(), source: Box::new(error) };
    file.finish(nanos, &[(DIGEST_ATTRIBUTE, digest.to_string().as_bytes())]).map_err(failed)?;
    let back = read_whole(file.written(), &object.key, &mut io::sink())?;
    if back != (digest, length) {
        return Err(differs(format!("what was written here reads as {} bytes {}", back.1, back.0)));
    }
    Ok(digest)
}

/// Writes into a file that is coming in.
struct Sink<'a> {
    file: &'a mut dyn IncomingFile,
    stop: &'a dyn Fn() -> bool,
}

impl io::Write for Sink<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if (self.stop)() {
            return Err(io::Error::other("restoring was stopped"));
        }
        self.file.write(buffer)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
