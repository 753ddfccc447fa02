//! Where a catalogue's indexes lie: `NAME.db`, and two places in which new ones are built, so that one can wait there to be accepted while
//! the next is built.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::domain::names::CatalogueId;
use crate::domain::path_set::DigestKey;
use crate::store::{CatalogueIndex, DatabaseError};

/// A longer name is cut, and bears a digest of the whole one.
const LONGEST: usize = 150;

/// The files of one catalogue.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    stem: String,
}

impl Files {
    pub(super) fn new(folder: &Path, name: &CatalogueId) -> Self {
        Self { folder: folder.to_owned(), stem: stem(name.as_str()) }
    }

    /// The folder is made, if it can be: else whatever is written into it says why not.
    pub(super) fn make_folder(&self) {
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
    }

    /// The index that was believed last.
    pub(super) fn believed(&self) -> PathBuf {
        self.folder.join(format!("{}.db", self.stem))
    }

    /// Where indexes are built.
    pub(super) fn slots(&self) -> [PathBuf; 2] {
        ["reading", "reading2"].map(|slot| self.folder.join(format!("{}.{slot}.db", self.stem)))
    }
}

/// An index that stands in no place yet. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Building {
    /// `None` once it stands in its place.
    index: Option<CatalogueIndex>,
    /// `None` in memory.
    path: Option<PathBuf>,
}

impl Building {
    /// Begins an empty index.
    pub(super) fn begin(path: Option<PathBuf>, key: DigestKey) -> Result<Self, DatabaseError> {
        // Made first, so that whatever fails is swept away.
        let mut building = Self { index: None, path };
        building.index = Some(CatalogueIndex::create(building.path.as_deref(), key)?);
        Ok(building)
    }

    pub(super) fn index(&self) -> &CatalogueIndex {
        self.index.as_ref().expect("it is taken out by `place` alone, which uses this up")
    }

    /// Where it is built.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Puts it into its place; gives itself back if that fails.
    pub(super) fn place(mut self, place: Option<&Path>) -> Result<CatalogueIndex, Box<(DatabaseError, Self)>> {
        if let (Some(_), Some(place)) = (&self.path, place)
            && let Err(error) = self.index().take_place(place)
        {
            return Err(Box::new((error, self)));
        }
        self.path = None;
        Ok(self.index.take().expect("it is taken out here alone"))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        self.index = None;
        if let Some(path) = &self.path {
            let _ = CatalogueIndex::discard(path);
        }
    }
}

/// The name as a part of a file's name: what is no letter, digit, `-` or `_` is written `%XX`.
fn stem(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.len() > LONGEST {
        out.truncate(LONGEST);
        out.push_str(&format!("%{:016x}", DigestKey(0).digest(name.as_bytes())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_becomes_a_files_name_of_its_own() {
        for (name, expected) in [
            ("wvp", "wvp"),
            ("wvp.reading", "wvp%2Ereading"),
            ("../../etc/passwd", "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd"),
            (".", "%2E"),
            ("目", "%E7%9B%AE"),
        ] {
            assert_eq!(stem(name), expected);
        }
        let [one, other] = ["a", "b"].map(|end| stem(&("目".repeat(99) + end)));
        assert!(one.len() < 200 && one != other);
    }
}
