//! The cold tier: where recordings are copied to before they go, and what is known of the copies.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::clock_watch::Moment;
use super::names::{ArchiveId, TreeId};
use super::path::RelPath;
use super::recording::{Recording, Tally};
use super::secret::Secret;
use super::units::{Bytes, Timestamp};
use super::volume::Marks;

/// The attribute of a copy that holds the SHA-256 of its content, in hexadecimal digits.
pub const DIGEST_ATTRIBUTE: &str = "user.storage_guard.sha256";

/// A bucket of an S3-compatible store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSettings {
    /// Its name.
    pub bucket: String,
    /// The store's address; Amazon's if not said.
    pub endpoint: Option<String>,
    /// Its region; `us-east-1` if not said.
    pub region: Option<String>,
    /// What all keys begin with; no slash at either end.
    pub prefix: Option<String>,
    /// The key's name. Without it the environment is asked, as all tools for S3 do.
    pub access_key: Option<Secret>,
    /// The key.
    pub secret_key: Option<Secret>,
}

/// Where copies are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColdPlace {
    /// A directory, of another disk as a rule. It is a guarded tree with marks of its own.
    Directory {
        /// Its path.
        path: PathBuf,
        /// The marks of its volume, if they are given here.
        marks: Option<Marks>,
    },
    /// A bucket.
    Bucket(BucketSettings),
}

/// An archive, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// Its name.
    pub name: ArchiveId,
    /// Where it is.
    pub place: ColdPlace,
    /// Recordings are copied once they are so old; sooner under pressure.
    pub after: Duration,
    /// Older copies go.
    pub max_age: Option<Duration>,
    /// The oldest copies go while there is more.
    pub max_bytes: Option<Bytes>,
    /// How fast is copied at most, in bytes a second.
    pub rate: Option<Bytes>,
}

impl ArchiveSettings {
    /// What it means for the trees that use it.
    #[must_use]
    pub fn terms(&self) -> ArchiveTerms {
        let directory = match &self.place {
            ColdPlace::Directory { path, .. } => Some(path.clone()),
            ColdPlace::Bucket(_) => None,
        };
        ArchiveTerms { archive: self.name.clone(), after: self.after, max_age: self.max_age, directory }
    }
}

/// The SHA-256 of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// From hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut out = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(out))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where a recording's copy lies in an archive: below the name of its tree, under its own path, so that every key is the same whenever it
/// is made.
#[must_use]
pub fn key_of(tree: &TreeId, path: &RelPath) -> RelPath {
    let name = tree.as_str().as_bytes();
    path.components().fold(RelPath::new(name).expect("the name of a tree is one component"), |key, part| key.join(part))
}

/// The path within its tree of the recording whose copy lies at `key`; `None` if `key` is not below that tree's name.
#[must_use]
pub fn path_of(tree: &TreeId, key: &RelPath) -> Option<RelPath> {
    let rest = key.as_bytes().strip_prefix(tree.as_str().as_bytes())?.strip_prefix(b"/")?;
    RelPath::new(rest).ok()
}

/// A copy that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedCopy {
    /// Where it is.
    pub archive: ArchiveId,
    /// The tree that it was copied from.
    pub tree: TreeId,
    /// Its path there.
    pub path: RelPath,
    /// Its stream.
    pub stream: String,
    /// The time of the recording.
    pub recorded: Timestamp,
    /// Its length.
    pub size: u64,
    /// Its content.
    pub digest: Digest,
    /// When it was verified, or last found to be there.
    pub verified: Timestamp,
    /// Inode and fingerprint of the source as it was copied.
    pub source: (u64, u64),
    /// When it was last brought back.
    pub restored: Option<Timestamp>,
}

/// A copy that was verified, or looked at, longer ago may be gone: by the archive's own retention, a person, or with its disk.
const SURE: Duration = Duration::from_secs(3600);

impl ArchivedCopy {
    /// It was there a while ago at most, so that its source may go.
    #[must_use]
    pub fn sure(&self, now: Timestamp) -> bool {
        now.since(self.verified) < SURE
    }
}

/// What a tree's policy says of its archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveTerms {
    /// Where its recordings are copied to.
    pub archive: ArchiveId,
    /// Once they are so old; sooner under pressure.
    pub after: Duration,
    /// The archive keeps them until they are so old: what is older when it would be copied needs no copy.
    pub max_age: Option<Duration>,
    /// Where it is, if that is a directory: a copy there is looked for right before its source goes.
    pub directory: Option<PathBuf>,
}

/// The verified copies of recordings that are still in their tree, by inode and fingerprint of the source. A recording that changed since
/// has none.
#[derive(Debug, Clone, Default)]
pub struct ArchivedOf(HashMap<(u64, u64), Arc<ArchivedCopy>>);

impl ArchivedOf {
    /// The copy of a recording that is the same as when it was copied.
    #[must_use]
    pub fn of(&self, seen: &Recording) -> Option<&ArchivedCopy> {
        self.0.get(&(seen.inode, seen.fingerprint)).map(Arc::as_ref)
    }

    /// The copy of a recording by inode and fingerprint.
    #[must_use]
    pub fn get(&self, source: (u64, u64)) -> Option<&ArchivedCopy> {
        self.0.get(&source).map(Arc::as_ref)
    }

    /// Notes a copy.
    pub fn insert(&mut self, copy: Arc<ArchivedCopy>) {
        self.0.insert(copy.source, copy);
    }

    /// Forgets those that `keep` does not want kept, and returns them.
    pub fn retain(&mut self, keep: impl Fn(&ArchivedCopy) -> bool) -> Vec<Arc<ArchivedCopy>> {
        let gone: Vec<_> = self.0.values().filter(|copy| !keep(copy)).cloned().collect();
        gone.iter().for_each(|copy| drop(self.0.remove(&copy.source)));
        gone
    }

    /// How many wait to go: they were copied, and not brought back.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.values().filter(|copy| copy.restored.is_none()).count()
    }

    /// The paths of recordings that are about to go for having a copy.
    pub fn awaited(&self) -> impl Iterator<Item = &RelPath> {
        self.0.values().filter(|copy| copy.restored.is_none()).map(|copy| &copy.path)
    }

    /// The paths of the recordings, those that were brought back among them.
    #[must_use]
    pub fn paths(&self) -> HashSet<RelPath> {
        self.0.values().map(|copy| copy.path.clone()).collect()
    }

    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveProblem {
    /// Since when nothing could be copied.
    pub since: Timestamp,
    /// Why, as it was last.
    pub text: String,
}

/// An archive as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveView {
    /// Its name.
    pub name: ArchiveId,
    /// What is to be copied now.
    pub waiting: Tally,
    /// Something has waited since then, and nothing was copied.
    pub waiting_since: Option<Timestamp>,
    /// When a recording was last copied, since the guard was started.
    pub copied_at: Option<Timestamp>,
    /// What was copied since then.
    pub copied: Tally,
    /// Why the last one could not be copied.
    pub problem: Option<ArchiveProblem>,
}

/// How a recording stands to its tree's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cold {
    /// It needs no copy: its tree has no archive, or the archive would not keep it any more.
    Unneeded,
    /// It has a verified copy, so that it may go.
    Copied,
    /// It was brought back a while ago at most: only pressure takes it.
    Restored,
    /// Likewise, and its copy was not looked at for long: whoever wants it gone has that looked for first.
    RestoredUnsure,
    /// It is to be copied now.
    Due,
    /// It has no copy, and needs none yet.
    Young,
}

impl ArchiveTerms {
    /// How a recording stands to the archive. By a clock that is not trusted nothing is due, and what may be old needs a copy all the same.
    #[must_use]
    pub fn stand(&self, seen: &Recording, archived: &ArchivedOf, moment: &Moment) -> Cold {
        if let Some(copy) = archived.of(seen) {
            let lately = copy.restored.is_some_and(|at| !moment.trusted || moment.now.since(at) < self.after);
            match (lately, copy.sure(moment.now)) {
                (true, true) => return Cold::Restored,
                (true, false) => return Cold::RestoredUnsure,
                (false, true) => return Cold::Copied,
                // It is as good as none until somebody looked.
                (false, false) => {}
            }
        }
        let aged = moment.trusted && !seen.ages_disagree();
        let age = moment.now.since(seen.recorded());
        match self.max_age {
            Some(max) if aged && age > max => Cold::Unneeded,
            Some(_) | None if aged && age >= self.after => Cold::Due,
            Some(_) | None => Cold::Young,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_path_below_the_name_of_its_tree() {
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let live = TreeId::new("live");
        let key = key_of(&live, &path("cam/2026-11-20/a.mp4"));
        assert_eq!(key, path("live/cam/2026-11-20/a.mp4"));
        assert_eq!(path_of(&live, &key), Some(path("cam/2026-11-20/a.mp4")));
        for other in ["live", "lives/a.mp4", "a/live/b.mp4"] {
            assert_eq!(path_of(&live, &path(other)), None, "{other}");
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest(std::array::from_fn(|at| u8::try_from(at * 7).unwrap_or(0)));
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }
}
