//! An archive in a directory: a guarded tree of another disk, as a rule.
//!
//! A copy is written under a name of ours, synced, forgotten by the kernel, read back from the disk and compared; only then it gets its own
//! name. So nothing under its own name was ever unverified.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hashing::hashed;
use super::store::{ColdError, ColdObject, ColdStore, Parcel};
use crate::domain::archive::{DIGEST_ATTRIBUTE, Digest};
use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::system::{DirEntry, EntryType, HeldFile, WritableDir, is_full};

/// Whether the directory may be written to now: it is the disk that it was, and bears the marker.
pub type Ready = Arc<dyn Fn(&dyn WritableDir) -> Result<(), String> + Send + Sync>;

/// An archive in a directory.
pub struct ColdFolder {
    dir: Arc<dyn WritableDir>,
    ready: Ready,
    next: AtomicU64,
}

impl ColdFolder {
    /// An archive in `dir`, which `ready` is asked about before anything is written.
    #[must_use]
    pub fn new(dir: Arc<dyn WritableDir>, ready: Ready) -> Self {
        Self { dir, ready, next: AtomicU64::new(fastrand::u64(1..1 << 40)) }
    }

    /// Writes what comes, reads it back from the disk, and gives it its name.
    fn write(&self, number: u64, parcel: Parcel<'_>) -> Result<(Digest, u64), ColdError> {
        let key = parcel.key;
        let mut file = self.dir.receive(number).map_err(|error| failed("begin a copy for", key, error))?;
        let (digest, length) = hashed(|piece| {
            let read = parcel.content.read(piece).map_err(ColdError::Source)?;
            file.write(&piece[..read]).map_err(|error| failed("write", key, error))?;
            Ok(read)
        })?;
        if length != parcel.size {
            let text = format!("it had {} bytes when it was looked at, and {length} came", parcel.size);
            return Err(ColdError::Source(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        let mark = digest.to_string();
        file.finish(parcel.modified, &[(DIGEST_ATTRIBUTE, mark.as_bytes())])
            .map_err(|error| failed("sync", key, error))?;
        let (back, back_length) = read_whole(file.written(), key, &mut io::sink())?;
        if (back, back_length) != (digest, length) {
            return Err(differs(key, format!("{length} bytes {digest} were written, {back_length} bytes {back} read")));
        }
        drop(file);
        // The source may have grown, or changed, since its end was read.
        if parcel.content.read(&mut [0]).map_err(ColdError::Source)? > 0 {
            return Err(ColdError::Source(io::Error::other("it grew while it was copied")));
        }
        match self.dir.admit(number, key) {
            Ok(()) => self.found(key, (digest, length)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ColdError::Taken { key: key.to_string(), found: "it came while the copy was made".to_owned() })
            }
            Err(error) => Err(failed("name", key, error)),
        }
    }

    /// What is verified must also be under its name: not every filesystem does what it says.
    fn found(&self, key: &RelPath, copied: (Digest, u64)) -> Result<(Digest, u64), ColdError> {
        let there = self.dir.look(key).map_err(|error| failed("look for", key, error))?;
        match there.is_some_and(|there| there.size == copied.1) {
            true => Ok(copied),
            false => Err(differs(key, "it was given its name, and is not there".to_owned())),
        }
    }

    /// A copy that is there already is as good as a new one if it is the same, read from the disk.
    fn compare(
        &self,
        parcel: Parcel<'_>,
        held: &dyn HeldFile,
        there: &FileIdentity,
    ) -> Result<(Digest, u64), ColdError> {
        let key = parcel.key;
        let taken = |found: String| Err(ColdError::Taken { key: key.to_string(), found });
        if there.size != parcel.size {
            return taken(format!("{} bytes instead of {}", there.size, parcel.size));
        }
        let found = read_whole(held, key, &mut io::sink())?;
        let wanted = hashed(|piece| parcel.content.read(piece).map_err(ColdError::Source))?;
        if found != wanted {
            return taken(format!("its SHA-256 is {} instead of {}", found.0, wanted.0));
        }
        // Its name may be younger than the last sync of its directory, and so may be the directories above.
        let mut dir = key.split().0;
        loop {
            self.dir.sync_dir(dir.as_ref()).map_err(|error| failed("sync", key, error))?;
            let Some(here) = dir else { return Ok(found) };
            dir = here.split().0;
        }
    }

    fn object(&self, key: &RelPath, identity: &FileIdentity) -> Result<ColdObject, ColdError> {
        let held = self.dir.open(key).map_err(|error| failed("open", key, error))?;
        let mark = held.and_then(|held| held.attribute(DIGEST_ATTRIBUTE).ok().flatten());
        Ok(ColdObject {
            key: key.clone(),
            size: identity.size,
            modified: identity.modified_at().unwrap_or_default(),
            digest: mark.and_then(|mark| Digest::parse(std::str::from_utf8(&mark).ok()?)),
            tag: None,
            marked: true,
        })
    }
}

impl ColdStore for ColdFolder {
    fn put(&self, parcel: Parcel<'_>) -> Result<(Digest, u64), ColdError> {
        (self.ready)(self.dir.as_ref()).map_err(ColdError::Unusable)?;
        let key = parcel.key;
        let held = self.dir.open(key).map_err(|error| failed("look at", key, error))?;
        if let Some(held) = held {
            let there = held.identity().map_err(|error| failed("look at", key, error))?;
            return self.compare(parcel, held.as_ref(), &there);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let written = self.write(number, parcel);
        if written.is_err() {
            // A disk that filled up must not stay full because of us; what cannot be removed now is swept at the next start.
            let _ = self.dir.dismiss(number);
        }
        // What was written while the disk went away, or another came, is no copy.
        (self.ready)(self.dir.as_ref()).map_err(ColdError::Unusable)?;
        written
    }

    fn get(&self, key: &RelPath, sink: &mut dyn io::Write) -> Result<(Digest, u64), ColdError> {
        let held = self.dir.open(key).map_err(|error| failed("open", key, error))?;
        read_whole(held.ok_or_else(|| ColdError::Absent(key.to_string()))?.as_ref(), key, sink)
    }

    fn look(&self, key: &RelPath) -> Result<Option<ColdObject>, ColdError> {
        match self.dir.open(key) {
            Ok(Some(held)) => {
                let identity = held.identity().map_err(|error| failed("look at", key, error))?;
                self.object(key, &identity).map(Some)
            }
            // What is no file is no copy: a directory that goes as one is many.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Ok(None) => Ok(None),
            Err(error) => Err(failed("look at", key, error)),
        }
    }

    fn list(
        &self,
        under: Option<&RelPath>,
        each: &mut dyn FnMut(ColdObject) -> ControlFlow<()>,
    ) -> Result<(), ColdError> {
        let mut pending = vec![under.cloned()];
        while let Some(dir) = pending.pop() {
            let mut entries = Vec::new();
            match self.dir.read(dir.as_ref(), &mut |entry| entries.push(entry)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && dir == under.cloned() => return Ok(()),
                Err(error) => {
                    let key = dir.map_or_else(|| "the top".to_owned(), |dir| dir.to_string());
                    return Err(ColdError::Failed { action: "read", key, source: Box::new(error) });
                }
            }
            for DirEntry { name, kind, identity } in entries {
                let Ok(key) = RelPath::within(dir.as_ref(), &name) else { continue };
                match kind {
                    EntryType::Directory if !(dir.is_none() && name.starts_with(b".storage-guard")) => {
                        pending.push(Some(key));
                    }
                    EntryType::File if !name.starts_with(b".storage-guard") => {
                        if each(self.object(&key, &identity)?).is_break() {
                            return Ok(());
                        }
                    }
                    EntryType::Directory
                    | EntryType::File
                    | EntryType::Mount
                    | EntryType::Symlink
                    | EntryType::Special => {}
                }
            }
        }
        Ok(())
    }

    fn tidy(&self) -> Result<u64, ColdError> {
        (self.ready)(self.dir.as_ref()).map_err(ColdError::Unusable)?;
        let sweep = |error| ColdError::Failed {
            action: "sweep",
            key: "unfinished copies".to_owned(),
            source: Box::<dyn std::error::Error + Send + Sync>::from(error) as Box<_>,
        };
        let numbers = self.dir.incoming().map_err(sweep)?;
        numbers.iter().try_for_each(|number| self.dir.dismiss(*number)).map_err(sweep)?;
        Ok(numbers.len() as u64)
    }

    fn remove(&self, object: &ColdObject) -> Result<(), ColdError> {
        let source = io::Error::new(io::ErrorKind::Unsupported, "copies in a directory go through the door");
        Err(failed("remove", &object.key, source))
    }
}

/// Reads a file from the disk, not from memory, into `sink`.
pub(super) fn read_whole(
    held: &dyn HeldFile,
    key: &RelPath,
    sink: &mut dyn io::Write,
) -> Result<(Digest, u64), ColdError> {
    held.forget().map_err(|error| failed("read back", key, error))?;
    let mut at = 0;
    let found = hashed(|piece| {
        let read = held.read_at(at, piece).map_err(|error| failed("read back", key, error))?;
        sink.write_all(&piece[..read]).map_err(ColdError::Source)?;
        at += read as u64;
        Ok(read)
    })?;
    // Nobody plays it soon, and what is recorded now needs the memory.
    let _ = held.forget();
    Ok(found)
}

fn differs(key: &RelPath, wrong: String) -> ColdError {
    ColdError::Differs { key: key.to_string(), wrong }
}

fn failed(action: &'static str, key: &RelPath, source: io::Error) -> ColdError {
    if is_full(&source) {
        return ColdError::Full(source);
    }
    ColdError::Failed { action, key: key.to_string(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::super::hashing::PIECE;
    use super::*;
    use crate::system::GuardedTree;

    fn key(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn folder(top: &std::path::Path, ready: Result<(), &'static str>) -> ColdFolder {
        let dir = Arc::new(GuardedTree::open(top).unwrap());
        ColdFolder::new(dir, Arc::new(move |_| ready.map_err(str::to_owned)))
    }

    fn put(folder: &ColdFolder, at: &str, content: &[u8], size: u64) -> Result<(Digest, u64), ColdError> {
        let mut content = content;
        folder.put(Parcel { key: &key(at), size, modified: 1_700_000_000_000_000_000, content: &mut content })
    }

    #[test]
    fn a_copy_is_there_once_verified_and_the_same_again_is_no_other() {
        let top = tempfile::tempdir().unwrap();
        let cold = folder(top.path(), Ok(()));
        let film = vec![7; 3 * PIECE + 5];
        let first = put(&cold, "live/cam/a.mp4", &film, film.len() as u64).unwrap();
        assert_eq!(first, put(&cold, "live/cam/a.mp4", &film, film.len() as u64).unwrap());
        let object = cold.look(&key("live/cam/a.mp4")).unwrap().unwrap();
        assert_eq!((object.size, object.modified.secs()), (film.len() as u64, 1_700_000_000));
        assert!(object.digest.is_none_or(|digest| digest == first.0));
        let mut back = Vec::new();
        assert_eq!(cold.get(&key("live/cam/a.mp4"), &mut back).unwrap(), first);
        assert_eq!(back, film);
        let mut seen = Vec::new();
        cold.list(None, &mut |object| {
            seen.push(object.key.to_string());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, ["live/cam/a.mp4"]);
        cold.list(Some(&key("live/none")), &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(cold.look(&key("live/cam")).unwrap(), None, "a directory is no copy");
    }

    #[test]
    fn what_fails_leaves_nothing_and_overwrites_nothing() {
        let top = tempfile::tempdir().unwrap();
        let cold = folder(top.path(), Ok(()));
        assert!(matches!(put(&cold, "a.mp4", b"short", 9), Err(ColdError::Source(_))));
        assert!(cold.look(&key("a.mp4")).unwrap().is_none());
        put(&cold, "a.mp4", b"film", 4).unwrap();
        for (content, size) in [(&b"FILM"[..], 4), (b"longer", 6)] {
            assert!(matches!(put(&cold, "a.mp4", content, size), Err(ColdError::Taken { .. })));
        }
        assert_eq!(std::fs::read(top.path().join("a.mp4")).unwrap(), b"film");
        let away = folder(top.path(), Err("it is not mounted"));
        assert!(matches!(put(&away, "b.mp4", b"film", 4), Err(ColdError::Unusable(_))));
        assert!(matches!(cold.get(&key("b.mp4"), &mut io::sink()), Err(ColdError::Absent(_))));
        let left = std::fs::read_dir(top.path().join(".storage-guard")).unwrap().count();
        assert_eq!(left, 0, "a copy that failed was left");
    }
}
