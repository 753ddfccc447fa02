//! The recordings of one stream as its directories hold them now, some at a time.
//!
//! A directory is read in windows of names that rise: what was handed out may be gone by the next window, and none comes twice. At any
//! moment one window is in memory, and the names of the directories still to be read.

use std::collections::BinaryHeap;
use std::io;

use crate::domain::demand::OfStream;
use crate::domain::layout::{Layout, Recognised};
use crate::domain::path::RelPath;
use crate::domain::recording::{FileIdentity, Kind};
use crate::domain::units::Timestamp;
use crate::system::{Dir, DirEntry, EntryType};

/// Deeper directories are passed over, as a scan does.
const DEEPEST: usize = 64;
/// So many names of a directory are held at once.
const WINDOW: usize = 16_384;
/// Name of the private folder at a tree's top.
const PRIVATE: &[u8] = b".storage-guard";

/// A recording of the stream: a file, or a directory that goes as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfStreamFound {
    /// Where it is.
    pub path: RelPath,
    /// What it is.
    pub identity: FileIdentity,
    /// What the layout makes of its path.
    pub found: Recognised,
}

/// A walk through the directories of a stream. It holds no handles, so it can be gone on with by a tree that was opened again.
#[derive(Debug)]
pub struct StreamWalk {
    wanted: OfStream,
    /// Directories still to be read, the next one last; `None` is the top.
    pending: Vec<(Option<RelPath>, usize)>,
    here: Option<Here>,
    /// What was found and not handed out, the next one last.
    found: Vec<OfStreamFound>,
    /// Places that could not be read: how many, and the first of them.
    problems: u64,
    problem: Option<String>,
    window: usize,
}

/// The directory that is being read.
#[derive(Debug)]
struct Here {
    dir: Option<RelPath>,
    depth: usize,
    /// Names up to this one were handed out.
    after: Option<Vec<u8>>,
}

/// A name in a window, with its kind and the time in it; they are ordered by the name alone.
struct Named(Vec<u8>, FileIdentity, Kind, Option<Timestamp>);

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Named {}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Named {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// The first names of a directory, in their order.
struct Window {
    names: BinaryHeap<Named>,
    most: usize,
    /// Others follow.
    more: bool,
}

impl Window {
    fn push(&mut self, name: Named) {
        self.names.push(name);
        if self.names.len() > self.most {
            self.names.pop();
            self.more = true;
        }
    }
}

impl StreamWalk {
    /// A walk that has not begun.
    #[must_use]
    pub fn new(wanted: OfStream, layout: &Layout) -> Self {
        let pending = match (&wanted.within, layout.roots(&wanted.stream)) {
            (Some(only), _) => vec![(Some(only.clone()), 1)],
            // The last one is read first.
            (None, Some(roots)) => roots.into_iter().rev().map(|root| (Some(root), 1)).collect(),
            (None, None) => vec![(None, 0)],
        };
        Self { wanted, pending, here: None, found: Vec::new(), problems: 0, problem: None, window: WINDOW }
    }

    /// The next files, at most so many; fewer where `stop` says so, none at the end. A directory that cannot be read is counted.
    pub fn next(&mut self, dir: &dyn Dir, layout: &Layout, most: usize, stop: &dyn Fn() -> bool) -> Vec<OfStreamFound> {
        let mut out = Vec::new();
        while out.len() < most {
            if let Some(found) = self.found.pop() {
                out.push(found);
            } else if stop() || !self.read(dir, layout) {
                break;
            }
        }
        out
    }

    /// These were not begun with, and come first the next time.
    pub fn put_back(&mut self, files: Vec<OfStreamFound>) {
        self.found.extend(files.into_iter().rev());
    }

    /// Nothing is left.
    #[must_use]
    pub fn over(&self) -> bool {
        self.found.is_empty() && self.here.is_none() && self.pending.is_empty()
    }

    /// Only recordings before this are meant. Of what goes as one, whoever looks at its files can tell.
    #[must_use]
    pub fn before(&self) -> Option<Timestamp> {
        self.wanted.before
    }

    /// Places that could not be read, and the first of them in words.
    #[must_use]
    pub fn problems(&self) -> Option<(u64, &str)> {
        self.problem.as_deref().map(|first| (self.problems, first))
    }

    /// Reads the next window of a directory; `false` if there is none.
    fn read(&mut self, dir: &dyn Dir, layout: &Layout) -> bool {
        let here = match self.here.take() {
            Some(here) => here,
            None => match self.pending.pop() {
                Some((dir, depth)) => Here { dir, depth, after: None },
                None => return false,
            },
        };
        // Nothing of the day that is wanted lies below another day.
        let borne = here.dir.as_ref().and_then(|dir| layout.date_of(dir));
        if layout.of_one_day() && self.wanted.period.is_some_and(|day| borne.is_some_and(|borne| borne != day)) {
            return true;
        }
        let mut below: Vec<Vec<u8>> = Vec::new();
        let mut folder = layout.folder(here.dir.as_ref());
        let mut names = Window { names: BinaryHeap::new(), most: self.window, more: false };
        let new = |name: &[u8]| here.after.as_ref().is_none_or(|after| name > after.as_slice());
        let read = dir.read(here.dir.as_ref(), &mut |entry: DirEntry| match entry.kind {
            EntryType::Directory => {
                let unit = RelPath::within(here.dir.as_ref(), &entry.name).ok().filter(|path| layout.is_unit(path));
                if let Some(unit) = unit {
                    if new(&entry.name) && self.wanted.takes_unit(layout, &unit) {
                        names.push(Named(entry.name, entry.identity, Kind::Recording, None));
                    }
                } else if here.after.is_none() && (here.dir.is_some() || entry.name != PRIVATE) {
                    below.push(entry.name);
                }
            }
            EntryType::File if new(&entry.name) => {
                let Some(found) = folder.read(&entry.name, entry.identity.size) else { return };
                if found.stream != self.wanted.stream.as_str() {
                    return;
                }
                let recorded = found.named.or_else(|| entry.identity.modified_at()).unwrap_or(Timestamp::default());
                let (kind, named) = (found.kind, found.named);
                let Ok(path) = RelPath::within(here.dir.as_ref(), &entry.name) else { return };
                if self.wanted.takes(layout, &path, recorded) {
                    names.push(Named(entry.name, entry.identity, kind, named));
                }
            }
            EntryType::File | EntryType::Mount | EntryType::Symlink | EntryType::Special => {}
        });
        if let Err(error) = read {
            // It is not there, or not any more; or something else is mounted there by now.
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::CrossesDevices) {
                let place = here.dir.as_ref().map_or_else(|| "the top".to_owned(), |dir| format!("`{dir}`"));
                self.problems += 1;
                self.problem.get_or_insert_with(|| format!("{place}: {error}"));
            }
        }
        if here.depth < DEEPEST {
            below.sort_unstable_by(|a, b| b.cmp(a));
            let children = below.iter().filter_map(|name| RelPath::within(here.dir.as_ref(), name).ok());
            self.pending.extend(children.map(|child| (Some(child), here.depth + 1)));
        }
        let Window { names, more, .. } = names;
        let names = names.into_sorted_vec();
        let last = names.last().map(|named| named.0.clone());
        let file = |Named(name, identity, kind, named)| {
            let path = RelPath::within(here.dir.as_ref(), &name).ok()?;
            let found = Recognised { kind, stream: self.wanted.stream.to_string(), named };
            Some(OfStreamFound { path, identity, found })
        };
        self.found = names.into_iter().rev().filter_map(file).collect();
        if more {
            self.here = Some(Here { after: last, ..here });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::domain::demand::day;
    use crate::domain::names::StreamId;
    use crate::domain::units::Bytes;
    use crate::domain::volume::Unusable;

    /// Files by path, which may be taken away while they are walked through; one that begins with `!` stands for a place that cannot
    /// be read.
    struct Files(Mutex<BTreeSet<String>>);

    impl Files {
        fn of(paths: &[&str]) -> Self {
            Self(Mutex::new(paths.iter().map(|path| (*path).to_owned()).collect()))
        }
    }

    impl Dir for Files {
        fn read(&self, dir: Option<&RelPath>, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
            let prefix = dir.map_or_else(String::new, |dir| format!("{dir}/"));
            let all = self.0.lock().unwrap().clone();
            if all.contains(&format!("!{prefix}")) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let below: Vec<&str> = all.iter().filter_map(|path| path.strip_prefix(&prefix)).collect();
            if below.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            let entries: BTreeSet<(&str, EntryType)> = below
                .into_iter()
                .map(|rest| match rest.split_once('/') {
                    Some((name, _)) => (name, EntryType::Directory),
                    None => (rest, EntryType::File),
                })
                .collect();
            // No directory is read in order.
            for (name, kind) in entries.into_iter().rev() {
                let identity = FileIdentity { links: 1, size: 1, allocated: Bytes(4096), ..FileIdentity::default() };
                each(DirEntry { name: name.as_bytes().to_vec(), kind, identity });
            }
            Ok(())
        }

        fn look(&self, _: &RelPath) -> io::Result<Option<FileIdentity>> {
            Ok(None)
        }

        fn top(&self) -> io::Result<FileIdentity> {
            Ok(FileIdentity::default())
        }

        fn still_there(&self) -> Result<(), Unusable> {
            Ok(())
        }

        fn path(&self) -> &Path {
            Path::new("/files")
        }
    }

    fn wanted(stream: &str, period: Option<&str>) -> OfStream {
        OfStream { stream: StreamId::new(stream), period: period.and_then(day), before: None, within: None }
    }

    fn layout(text: &str) -> Layout {
        Layout::parse(text, &["mp4".to_owned()], jiff::tz::TimeZone::UTC).unwrap()
    }

    /// All that is found, in the order of the walk; what was handed out is taken away before the next is asked for.
    fn check(files: &Files, layout: &Layout, wanted: OfStream, window: usize, most: usize) -> Vec<String> {
        let mut walk = StreamWalk { window, ..StreamWalk::new(wanted, layout) };
        let mut out = Vec::new();
        loop {
            let some = walk.next(files, layout, most, &|| false);
            assert!(some.len() <= most && walk.found.len() <= window);
            if some.is_empty() {
                assert!(walk.over());
                return out;
            }
            for one in some {
                files.0.lock().unwrap().remove(&one.path.to_string());
                out.push(one.path.to_string());
            }
        }
    }

    fn names(day: &str, seconds: std::ops::Range<usize>) -> Vec<String> {
        seconds.map(|at| format!("live/cam/{day}/{day}-12-{:02}-{:02}-0.mp4", at / 60, at % 60)).collect()
    }

    #[test]
    fn a_directory_is_gone_through_in_windows_without_gap_or_repetition() {
        let all = names("2026-11-22", 0..97);
        let others = ["live/cam/2026-11-22/notes.txt", "live/other/2026-11-22/2026-11-22-12-00-00-0.mp4"];
        for (window, most) in [(1000, 1000), (10, 3), (10, 10), (7, 25), (1, 1)] {
            let files = Files::of(&all.iter().map(String::as_str).chain(others).collect::<Vec<_>>());
            let found = check(&files, &layout("zlmediakit"), wanted("live/cam", None), window, most);
            assert_eq!(found, all, "{window} {most}");
        }
    }

    #[test]
    fn what_stays_in_a_directory_does_not_hide_what_follows() {
        let all = names("2026-11-22", 0..20);
        let files = Files::of(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let layout = layout("zlmediakit");
        let mut walk = StreamWalk { window: 4, ..StreamWalk::new(wanted("live/cam", None), &layout) };
        let mut found = Vec::new();
        while !walk.over() {
            found.extend(walk.next(&files, &layout, 3, &|| false).iter().map(|one| one.path.to_string()));
        }
        assert_eq!(found, all);
    }

    #[test]
    fn only_the_day_and_the_stream_that_are_meant_are_found_wherever_they_lie() {
        let paths = [
            "live/cam/2026-11-21/2026-11-21-12-00-00-0.mp4",
            "live/cam/2026-11-22/2026-11-22-12-00-00-0.mp4",
            "live/cam/2026-11-22/deeper/2026-11-22/2026-11-22-12-00-00-0.mp4",
            "live/cam2/2026-11-22/2026-11-22-12-00-00-0.mp4",
            "record/live/cam/2026-11-22/2026-11-22-13-00-00-0.mp4",
        ];
        let found = |of: OfStream| check(&Files::of(&paths), &layout("zlmediakit"), of, 100, 100);
        assert_eq!(found(wanted("live/cam", Some("2026-11-22"))), [paths[1], paths[4]]);
        assert_eq!(found(wanted("live/cam", None)), [paths[0], paths[1], paths[4]]);
        let record = RelPath::new(b"record/live/cam").unwrap();
        assert_eq!(found(OfStream { within: Some(record), ..wanted("live/cam", None) }), [paths[4]]);
        assert_eq!(found(wanted("live/nobody", None)), [""; 0]);
        let frigate = ["2026-11-22/12/cam/00.00.mp4", "2026-11-23/12/cam/00.00.mp4", "2026-11-22/12/door/00.00.mp4"];
        let found = check(&Files::of(&frigate), &layout("frigate"), wanted("cam", Some("2026-11-22")), 100, 100);
        assert_eq!(found, [frigate[0]]);
    }

    /// What lies in a day that goes whole is not handed out by itself, also where the day is not meant.
    #[test]
    fn a_day_that_is_one_recording_is_found_as_one() {
        let paths = [
            "live/cam/2026-11-21/10/00-00_1.ts",
            "live/cam/2026-11-22/10/00-00_1.ts",
            "live/cam/2026-11-22/hls.m3u8",
            "live/cam/2026-11-23/10/00-00_1.ts",
            "live/cam/hls.m3u8",
            "live/cam/door/2026-11-22/10/00-00_1.ts",
            "live/cam2/2026-11-22/10/00-00_1.ts",
        ];
        let found = |of: OfStream, window: usize| {
            let (files, layout) = (Files::of(&paths), layout("hls"));
            let mut walk = StreamWalk { window, ..StreamWalk::new(of, &layout) };
            let mut out = Vec::new();
            while !walk.over() {
                out.extend(walk.next(&files, &layout, 2, &|| false).iter().map(|one| one.path.to_string()));
            }
            out
        };
        let days = ["live/cam/2026-11-21", "live/cam/2026-11-22", "live/cam/2026-11-23"];
        for window in [1, 2, 100] {
            assert_eq!(found(wanted("live/cam", None), window), days, "{window}");
            assert_eq!(found(wanted("live/cam", Some("2026-11-22")), window), days[1..2], "{window}");
        }
        assert_eq!(found(wanted("live/cam/door", None), 100), ["live/cam/door/2026-11-22"]);
    }

    #[test]
    fn what_is_put_back_comes_first_and_what_cannot_be_read_is_told() {
        let all = names("2026-11-22", 0..3);
        let mut paths: Vec<&str> = all.iter().map(String::as_str).collect();
        paths.extend(["live/cam/2026-11-23/2026-11-23-12-00-00-0.mp4", "!live/cam/2026-11-23/"]);
        let (files, layout) = (Files::of(&paths), layout("zlmediakit"));
        let mut walk = StreamWalk::new(wanted("live/cam", None), &layout);
        let first = walk.next(&files, &layout, 2, &|| false);
        walk.put_back(first.clone());
        assert_eq!(walk.next(&files, &layout, 2, &|| false), first);
        assert!(walk.next(&files, &layout, 1, &|| false).len() == 1 && walk.problems().is_none());
        assert!(walk.next(&files, &layout, 1, &|| true).is_empty() && !walk.over(), "it was told to stop");
        assert!(walk.next(&files, &layout, 1, &|| false).is_empty() && walk.over());
        let (count, first) = walk.problems().unwrap();
        assert!(count == 1 && first.contains("live/cam/2026-11-23"), "{first}");
    }
}
