//! What is on disk of what a deletion names: only a look tells.

use std::io;

use crate::domain::layout::Layout;
use crate::domain::path::RelPath;
use crate::domain::recording::{FileIdentity, Kind};
use crate::domain::units::Timestamp;
use crate::system::{Dir, DirEntry, EntryType};
use crate::zlmediakit::Which;

/// So many of a kind are listed.
pub(super) const LISTED: usize = 100;
/// So many recordings are remembered by their names; all are counted.
const REMEMBERED: usize = 10_000;

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Recordings that are named, and when each was last changed; not all of very many.
    pub(super) recordings: Vec<(RelPath, Timestamp)>,
    /// How many there are.
    pub(super) count: u64,
    /// Hidden files: they are being written, or left over from that.
    pub(super) live: Vec<RelPath>,
    /// Other things in the directories, which stay.
    pub(super) left: Vec<RelPath>,
    /// What cannot be looked into, and why: nobody knows what is there.
    pub(super) closed: Vec<(RelPath, String)>,
}

impl Seen {
    /// Looks at what is named of the stream whose directory `place` is.
    pub(super) fn of(dir: &dyn Dir, layout: &Layout, place: &RelPath, which: &Which) -> Self {
        let mut seen = Self::default();
        match which {
            Which::File { day, name } => {
                let path = place.join(day.as_bytes()).join(name.as_bytes());
                match dir.look(&path) {
                    Ok(Some(identity)) => {
                        seen.recording(path, &identity);
                    }
                    Ok(None) => {}
                    Err(error) => seen.cannot(&path, &error),
                }
            }
            Which::Day(day) => seen.day(dir, layout, &place.join(day.as_bytes())),
            Which::Stream => {
                let mut days = Vec::new();
                let read = dir.read(Some(place), &mut |entry: DirEntry| {
                    let path = place.join(&entry.name);
                    match entry.kind {
                        // Streams whose names go on below this one are others.
                        EntryType::Directory => days.extend(layout.date_of(&path).map(|_| path)),
                        EntryType::Mount => seen.close(path, MOUNT),
                        EntryType::Symlink if layout.date_of(&path).is_some() => seen.close(path, LINK),
                        EntryType::Symlink | EntryType::File | EntryType::Special => list(&mut seen.left, path),
                    }
                });
                match read {
                    Ok(()) => {}
                    Err(error) => seen.cannot(place, &error),
                }
                days.iter().for_each(|day| seen.day(dir, layout, day));
            }
        }
        seen
    }

    fn day(&mut self, dir: &dyn Dir, layout: &Layout, day: &RelPath) {
        let mut folder = layout.folder(Some(day));
        let read = dir.read(Some(day), &mut |entry: DirEntry| {
            let path = day.join(&entry.name);
            match entry.kind {
                EntryType::File => match folder.read(&entry.name, entry.identity.size).map(|found| found.kind) {
                    Some(Kind::Unfinished) if entry.name.starts_with(b".") => list(&mut self.live, path),
                    Some(Kind::Recording | Kind::Unfinished) => {
                        self.recording(path, &entry.identity);
                    }
                    None => list(&mut self.left, path),
                },
                EntryType::Mount => self.close(path, MOUNT),
                EntryType::Symlink | EntryType::Directory | EntryType::Special => list(&mut self.left, path),
            }
        });
        if let Err(error) = read {
            self.cannot(day, &error);
        }
    }

    fn recording(&mut self, path: RelPath, identity: &FileIdentity) {
        self.count += 1;
        if self.recordings.len() < REMEMBERED {
            self.recordings.push((path, identity.modified_at().unwrap_or_default()));
        }
    }

    fn close(&mut self, path: RelPath, why: &str) {
        if self.closed.len() < LISTED {
            self.closed.push((path, why.to_owned()));
        }
    }

    fn cannot(&mut self, path: &RelPath, error: &io::Error) {
        if let Some(why) = closed_by(error) {
            self.close(path.clone(), &why);
        }
    }
}

/// Why a media server may not be let at what is named of a stream, if so. It deletes whatever lies below, however deep, and where links
/// lead; it asks nobody who wants to keep something of it (promise 3); and nobody could look afterwards for what cannot be looked at now.
pub(super) fn unfit(
    dir: &dyn Dir,
    place: &RelPath,
    which: &Which,
    protected: &dyn Fn(&RelPath) -> Option<&'static str>,
) -> Option<String> {
    let said = |path: &RelPath, why: &str| format!("`{path}`: {why}");
    let top = match which {
        Which::File { day, name } => {
            let path = place.join(day.as_bytes()).join(name.as_bytes());
            return match dir.look(&path) {
                Ok(Some(_)) => protected(&path).map(|why| said(&path, why)),
                Ok(None) => None,
                Err(error) => closed_by(&error).map(|why| said(&path, &why)),
            };
        }
        Which::Day(day) => place.join(day.as_bytes()),
        Which::Stream => place.clone(),
    };
    let (mut pending, mut found) = (vec![top], None);
    while let (Some(at), None) = (pending.pop(), &found) {
        let read = dir.read(Some(&at), &mut |entry: DirEntry| {
            let path = at.join(&entry.name);
            let why = match entry.kind {
                EntryType::Directory => {
                    pending.push(path);
                    return;
                }
                EntryType::Mount => Some(MOUNT),
                EntryType::Symlink => Some(LINK),
                EntryType::File | EntryType::Special => protected(&path),
            };
            if let (Some(why), None) = (why, &found) {
                found = Some(said(&path, why));
            }
        });
        if let Err(error) = read {
            found = found.or_else(|| closed_by(&error).map(|why| said(&at, &why)));
        }
    }
    found
}

/// Why something cannot be looked at; `None` if it is only not there.
fn closed_by(error: &io::Error) -> Option<String> {
    match error.raw_os_error() {
        Some(libc::ENOENT) => None,
        Some(libc::EXDEV) => Some(MOUNT.to_owned()),
        Some(libc::ELOOP) => Some(LINK.to_owned()),
        Some(libc::ENOTDIR) => Some("it, or something on the way to it, is no directory".to_owned()),
        _ if error.kind() == io::ErrorKind::NotFound => None,
        _ => Some(format!("it cannot be looked at: {error}")),
    }
}

/// Adds to a list that is not to grow for ever.
fn list(list: &mut Vec<RelPath>, path: RelPath) {
    if list.len() < LISTED {
        list.push(path);
    }
}

/// Why a mount is not looked into.
const MOUNT: &str = "something else is mounted there, which is no part of the tree";
/// Why a link is not followed.
const LINK: &str = "a symbolic link stands there, or on the way to it; links are not followed";

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::system::{SystemVolumes, Volumes as _};

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
    fn what_is_named_is_told_from_what_only_lies_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let make = |name: &str, text: &str| {
            let file = home.path().join("live/cam").join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        make("2026-01-01/2026-01-01-00-00-00-0.mp4", "x");
        make("2026-01-01/2026-01-01-00-10-00-0.mp4", "");
        make("2026-01-01/.2026-01-01-00-20-00-0.mp4", "x");
        make("2026-01-01/notes.txt", "x");
        make("2026-01-01/deeper/2026-01-01-00-00-00-0.mp4", "x");
        make("2026-01-02/2026-01-02-00-00-00-0.mp4", "x");
        make("playlist.m3u8", "x");
        make("other/2026-01-01/2026-01-01-00-00-00-0.mp4", "x");
        std::os::unix::fs::symlink(home.path(), home.path().join("live/cam/2026-01-03")).unwrap();
        let dir = SystemVolumes.open_tree(home.path()).unwrap();
        let layout = Layout::parse("zlmediakit", &[], TimeZone::UTC).unwrap();
        let check = |which: Which, recordings: usize, live: usize, left: &[&str], closed: usize| {
            let seen = Seen::of(dir.as_ref(), &layout, &path("live/cam"), &which);
            assert_eq!(
                (seen.recordings.len(), seen.live.len(), seen.closed.len()),
                (recordings, live, closed),
                "{seen:?}"
            );
            let mut found: Vec<String> = seen.left.iter().map(ToString::to_string).collect();
            found.sort();
            assert_eq!(found, left.iter().map(|name| format!("live/cam/{name}")).collect::<Vec<_>>(), "{which:?}");
        };
        let day = |day: &str| Which::Day(day.to_owned());
        let file = |day: &str, name: &str| Which::File { day: day.to_owned(), name: name.to_owned() };
        check(day("2026-01-01"), 2, 1, &["2026-01-01/deeper", "2026-01-01/notes.txt"], 0);
        check(day("2026-01-02"), 1, 0, &[], 0);
        check(day("2026-01-03"), 0, 0, &[], 1);
        check(day("2026-01-04"), 0, 0, &[], 0);
        check(Which::Stream, 3, 1, &["2026-01-01/deeper", "2026-01-01/notes.txt", "playlist.m3u8"], 1);
        check(file("2026-01-02", "2026-01-02-00-00-00-0.mp4"), 1, 0, &[], 0);
        check(file("2026-01-02", "2026-01-02-00-00-01-0.mp4"), 0, 0, &[], 0);
        check(file("2026-01-03", "2026-01-03-00-00-00-0.mp4"), 0, 0, &[], 1);
        let nobody = Seen::of(dir.as_ref(), &layout, &path("live/nobody"), &Which::Stream);
        assert!(nobody.recordings.is_empty() && nobody.closed.is_empty(), "{nobody:?}");
    }

    /// A media server follows links when it deletes, out of its root too, deletes whatever lies below, and knows nothing of what is
    /// protected: it is not let at what holds any of that.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
    fn what_holds_a_link_or_something_protected_or_cannot_be_looked_into_is_nothing_for_a_media_server() {
        let home = tempfile::tempdir().unwrap();
        let below = |name: &str| home.path().join("live").join(name);
        for file in [
            "cam/2026-01-01/2026-01-01-00-00-00-0.mp4",
            "cam/2026-01-02/2026-01-02-00-00-00-0.mp4",
            "cam/2026-01-03/2026-01-03-00-00-00-0.mp4",
            "cam/2026-01-03/kept.mp4",
            "deep/2026-01-01/a/b/notes.txt",
            "other/2026-01-01/2026-01-01-00-00-00-0.mp4",
            "other/sub/2026-01-01/kept.mp4",
        ] {
            std::fs::create_dir_all(below(file).parent().unwrap()).unwrap();
            std::fs::write(below(file), "x").unwrap();
        }
        for link in ["cam/2026-01-02/elsewhere", "deep/2026-01-01/a/b/elsewhere", "linked"] {
            std::os::unix::fs::symlink(home.path(), below(link)).unwrap();
        }
        let dir = SystemVolumes.open_tree(home.path()).unwrap();
        let protected = |path: &RelPath| (path.split().1 == b"kept.mp4").then_some("it is protected");
        let check = |place: &str, which: Which, expected: Option<&str>| {
            let found = unfit(dir.as_ref(), &path(place), &which, &protected);
            assert_eq!(found.is_some(), expected.is_some(), "{place} {which:?}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{place} {which:?}");
        };
        let day = |day: &str| Which::Day(format!("2026-01-{day}"));
        let file = |day: &str, name: &str| Which::File { day: format!("2026-01-{day}"), name: name.to_owned() };
        check("live/cam", day("01"), None);
        check("live/cam", day("02"), Some("`live/cam/2026-01-02/elsewhere`"));
        check("live/cam", day("03"), Some("`live/cam/2026-01-03/kept.mp4`: it is protected"));
        check("live/cam", day("04"), None);
        check("live/cam", Which::Stream, Some("live/cam/"));
        check("live/cam", file("03", "kept.mp4"), Some("it is protected"));
        check("live/cam", file("03", "2026-01-03-00-00-00-0.mp4"), None);
        check("live/cam", file("03", "absent.mp4"), None);
        check("live/deep", day("01"), Some("`live/deep/2026-01-01/a/b/elsewhere`"));
        check("live/other", day("01"), None);
        check("live/other", Which::Stream, Some("`live/other/sub/2026-01-01/kept.mp4`: it is protected"));
        check("live/linked", Which::Stream, Some("live/linked"));
        check("live/linked", file("01", "a.mp4"), Some("live/linked"));
        check("live/nobody", Which::Stream, None);
    }
}
