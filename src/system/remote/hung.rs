//! The mounts that hung once, kept in the state: no thread of ours touches them any more.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::system::mountinfo::{escape, unescape};

/// Mount points that hung, or paths of trees whose mount point is not known.
pub(super) struct Hung {
    file: Option<PathBuf>,
    places: Mutex<BTreeSet<PathBuf>>,
}

impl Hung {
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let lines = file.iter().flat_map(|file| read_words(file));
        let places = lines.filter_map(|words| Some(PathBuf::from(OsStr::from_bytes(words.first()?)))).collect();
        Self { file, places: Mutex::new(places) }
    }

    fn places(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, as they are now.
    pub(super) fn all(&self) -> BTreeSet<PathBuf> {
        self.places().clone()
    }

    pub(super) fn contains(&self, place: &Path) -> bool {
        self.places().contains(place)
    }

    /// Keeps a place in mind; `false` if it was known.
    pub(super) fn add(&self, place: &Path) -> bool {
        let mut places = self.places();
        let new = places.insert(place.to_owned());
        if new {
            self.write(&places);
        }
        new
    }

    /// Forgets a place.
    pub(super) fn remove(&self, place: &Path) {
        let mut places = self.places();
        if places.remove(place) {
            self.write(&places);
        }
    }

    fn write(&self, places: &BTreeSet<PathBuf>) {
        let Some(file) = &self.file else { return };
        let lines: Vec<_> = places.iter().map(|place| vec![place.as_os_str().as_bytes().to_vec()]).collect();
        // Without room for it a mount that hangs is found out again at the next start, within the deadline.
        let _ = write_words(file, &lines);
    }
}

/// The lines of a file, each as its words; a file that cannot be read has none.
pub(super) fn read_words(file: &Path) -> Vec<Vec<Vec<u8>>> {
    let text = std::fs::read(file).unwrap_or_default();
    let lines = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).map(unescape).collect::<Vec<_>>());
    lines.filter(|words| !words.is_empty()).collect()
}

/// Writes a file of such lines anew.
#[expect(clippy::disallowed_methods, reason = "it is our own file, in our own state")]
pub(super) fn write_words(file: &Path, lines: &[Vec<Vec<u8>>]) -> io::Result<()> {
    let mut text = Vec::new();
    for words in lines {
        let words: Vec<Vec<u8>> = words.iter().map(|word| escape(word)).collect();
        text.extend_from_slice(&words.join(&b' '));
        text.push(b'\n');
    }
    let new = file.with_extension("new");
    File::create(&new)?.write_all(&text)?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_hung_is_known_after_a_restart_until_it_is_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("hung");
        let place = Path::new("/mnt/a b\nc");
        let hung = Hung::open(Some(file.clone()));
        assert!(hung.add(place) && !hung.add(place));
        assert!(Hung::open(Some(file.clone())).contains(place));
        hung.remove(place);
        assert!(Hung::open(Some(file)).all().is_empty());
    }
}
