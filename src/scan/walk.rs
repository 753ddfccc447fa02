//! The walk: iterative, one directory at a time, in bounded memory.

use std::io;
use std::ops::ControlFlow;

use crate::domain::layout::{Folder, Layout};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::protection::Pattern;
use crate::domain::recording::{DirIndex, Inventory, InventoryBuilder, Kind, Sighting, UnitIndex};
use crate::system::{BESIDE, Clock, Dir, DirEntry, EntryType};

/// Deeper directories are a problem, not a recording; it also ends a walk that a bind mount made circular.
const DEEPEST: usize = 64;
/// So many files that are set aside in their own directories are remembered.
const REMEMBERED: usize = 10_000;
/// Name of the private folder at a tree's top.
const PRIVATE: &[u8] = b".storage-guard";

/// How far a scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Files known so far.
    pub files: usize,
    /// Directories read so far.
    pub directories: u64,
}

/// The scan was told to stop; what it saw is no inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the scan was stopped")]
pub struct Stopped;

/// A directory that waits to be read.
struct Pending {
    path: Option<RelPath>,
    index: DirIndex,
    depth: usize,
    /// The recording that it belongs to.
    unit: Option<UnitIndex>,
}

/// Scans a tree. A recording that is a directory is protected if `protect` covers it or any of its files. `progress` is called after each directory and may stop it.
///
/// # Errors
/// [`Stopped`] if `progress` said so. A directory that cannot be read is no error: the inventory says that it is incomplete.
pub fn scan(
    dir: &dyn Dir,
    tree: &TreeId,
    layout: &Layout,
    protect: &[Pattern],
    clock: &dyn Clock,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Inventory, Stopped> {
    let mut builder = InventoryBuilder::new(tree.clone(), clock.now());
    let mut pending = vec![Pending { path: None, index: builder.top(), depth: 0, unit: None }];
    let mut directories = 0;
    while let Some(here) = pending.pop() {
        let mut below = Vec::new();
        let mut folder = layout.folder(here.path.as_ref());
        let read = dir.read(here.path.as_ref(), &mut |entry| {
            enter(&mut builder, &mut folder, &here, protect, &entry, &mut below);
        });
        let Pending { path, index, depth, unit } = here;
        match read {
            Ok(()) => {}
            // It was removed since its parent was read: by the recorder, or by us.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_some() => {}
            // A mount that an old kernel does not show before it is opened.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices && path.is_some() => {
                builder.passed_over().mounts.extend(path.clone());
                partial(&mut builder, unit);
            }
            Err(error) => {
                builder.problem(path.clone(), error.to_string());
                partial(&mut builder, unit);
            }
        }
        directories += 1;
        builder.count_directory();
        for Below { name, inode, private } in below {
            let child = child(path.as_ref(), &name);
            if private {
                count_set_aside(dir, &child, &mut builder);
            } else if depth + 1 > DEEPEST {
                builder.problem(Some(child), format!("it lies deeper than {DEEPEST} directories"));
            } else {
                let unit = if layout.is_unit(&child) { Some(builder.begin_unit(index, &name, inode)) } else { unit };
                let index = builder.directory(index, &name);
                pending.push(Pending { path: Some(child), index, depth: depth + 1, unit });
            }
        }
        if progress(Progress { files: builder.len(), directories }).is_break() {
            return Err(Stopped);
        }
    }
    Ok(builder.finish(clock.now()))
}

/// A part of a recording was not seen: it is not judged.
fn partial(builder: &mut InventoryBuilder, unit: Option<UnitIndex>) {
    if let Some(unit) = unit {
        builder.unit(unit).partial = true;
    }
}

/// A directory that was met.
struct Below {
    name: Vec<u8>,
    inode: u64,
    /// It is our own.
    private: bool,
}

/// Paths of up to `limit` files, for `auto` to look at. What cannot be read is passed over.
#[must_use]
pub fn sample(dir: &dyn Dir, limit: usize) -> Vec<RelPath> {
    let mut out = Vec::new();
    let mut pending: Vec<(Option<RelPath>, usize)> = vec![(None, 0)];
    while let Some((path, depth)) = pending.pop() {
        let mut here = 0;
        // Some of each directory rather than all of the first.
        let most = (limit / 20).max(1);
        let _ = dir.read(path.as_ref(), &mut |entry| match entry.kind {
            EntryType::Directory if depth < DEEPEST && entry.name != PRIVATE => {
                pending.push((Some(child(path.as_ref(), &entry.name)), depth + 1));
            }
            EntryType::File if here < most => {
                here += 1;
                out.push(child(path.as_ref(), &entry.name));
            }
            EntryType::File | EntryType::Directory | EntryType::Mount | EntryType::Symlink | EntryType::Special => {}
        });
        if out.len() >= limit {
            break;
        }
    }
    out.truncate(limit);
    out
}

fn child(dir: Option<&RelPath>, name: &[u8]) -> RelPath {
    match dir {
        Some(dir) => dir.join(name),
        None => RelPath::new(name).expect("a directory's entry is a component"),
    }
}

/// Enters one entry of a directory; directories are put into `below`.
fn enter(
    builder: &mut InventoryBuilder,
    folder: &mut Folder<'_>,
    dir: &Pending,
    protect: &[Pattern],
    entry: &DirEntry,
    below: &mut Vec<Below>,
) {
    let path = || child(dir.path.as_ref(), &entry.name);
    match entry.kind {
        EntryType::Directory => below.push(Below {
            name: entry.name.clone(),
            inode: entry.identity.inode,
            private: dir.path.is_none() && entry.name == PRIVATE,
        }),
        EntryType::Mount => {
            builder.passed_over().mounts.push(path());
            partial(builder, dir.unit);
        }
        EntryType::Symlink => builder.passed_over().symlinks += 1,
        EntryType::Special => builder.passed_over().special += 1,
        EntryType::File if entry.name.starts_with(BESIDE) => {
            builder.passed_over().set_aside.add(entry.identity.allocated);
            if builder.passed_over().beside.len() < REMEMBERED {
                let path = path();
                builder.passed_over().beside.push(path);
            }
        }
        EntryType::File => match folder.read(&entry.name, entry.identity.size) {
            Some(found) => {
                let seen = Sighting {
                    name: &entry.name,
                    stream: found.stream,
                    kind: found.kind,
                    named: found.named,
                    identity: &entry.identity,
                };
                if let Some(unit) = dir.unit {
                    builder.segment(unit, &seen);
                    if !protect.is_empty() && !builder.unit(unit).protected {
                        let path = path();
                        builder.unit(unit).protected = protect.iter().any(|pattern| pattern.matches_path(&path));
                    }
                }
                // What is not finished may be left over, by itself.
                if dir.unit.is_none() || found.kind == Kind::Unfinished {
                    builder.file(dir.index, &seen);
                }
            }
            None => builder.passed_over().unrecognised.add(entry.identity.allocated),
        },
    }
}

fn count_set_aside(dir: &dyn Dir, path: &RelPath, builder: &mut InventoryBuilder) {
    let read = dir.read(Some(path), &mut |entry| {
        if entry.kind == EntryType::File && entry.name != b"marker" {
            builder.passed_over().set_aside.add(entry.identity.allocated);
        }
    });
    if let Err(error) = read {
        builder.problem(Some(path.clone()), error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::recording::{FileIdentity, Kind};
    use crate::domain::volume::Unusable;
    use crate::system::SystemClock;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// Directories by path, each with its entries; `Err` cannot be read.
    #[derive(Default)]
    struct Listing(BTreeMap<String, Content>);

    type Content = Result<Vec<(&'static str, EntryType)>, io::ErrorKind>;

    impl Dir for Listing {
        fn read(&self, dir: Option<&RelPath>, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
            let key = dir.map_or_else(String::new, ToString::to_string);
            let entries = self.0.get(&key).ok_or(io::ErrorKind::NotFound)?.as_ref().map_err(|kind| *kind)?;
            for (name, kind) in entries {
                let identity = FileIdentity { links: 1, size: 1, allocated: Bytes(4096), ..FileIdentity::default() };
                each(DirEntry { name: name.as_bytes().to_vec(), kind: *kind, identity });
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
            Path::new("/listing")
        }
    }

    use crate::domain::units::Bytes;

    fn run(listing: &Listing) -> Inventory {
        let layout = Layout::parse("zlmediakit", &[], jiff::tz::TimeZone::UTC).unwrap();
        scan(listing, &TreeId::new("t"), &layout, &[], &SystemClock, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn tree(extra: &[(&str, Content)]) -> Listing {
        use EntryType::{Directory, File, Mount, Special, Symlink};
        let mut listing = Listing::default();
        let day = vec![
            ("2026-11-22-12-21-41-0.mp4", File),
            (".2026-11-22-12-22-41-1.mp4", File),
            (".storage-guard-7-2026-11-22-12-21-40-0.mp4", File),
            ("notes.txt", File),
            ("link.mp4", Symlink),
            ("pipe.mp4", Special),
            ("disk", Mount),
        ];
        for (path, entries) in [
            ("", vec![("live", Directory), (".storage-guard", Directory)]),
            (".storage-guard", vec![("marker", File), ("12", File)]),
            ("live", vec![("cam", Directory), ("gone", Directory)]),
            ("live/cam", vec![("2026-11-22", Directory)]),
            ("live/cam/2026-11-22", day),
        ] {
            listing.0.insert(path.to_owned(), Ok(entries));
        }
        for (path, entries) in extra {
            listing.0.insert((*path).to_owned(), entries.clone());
        }
        listing
    }

    #[test]
    fn enters_what_the_layout_knows_and_counts_what_it_passes_over() {
        let found = run(&tree(&[]));
        let kinds: Vec<(String, Kind)> = found.files().map(|f| (found.path(f.index).to_string(), f.kind)).collect();
        assert_eq!(
            kinds,
            [
                ("live/cam/2026-11-22/2026-11-22-12-21-41-0.mp4".to_owned(), Kind::Recording),
                ("live/cam/2026-11-22/.2026-11-22-12-22-41-1.mp4".to_owned(), Kind::Unfinished),
            ]
        );
        let over = &found.passed_over;
        assert_eq!((over.unrecognised.files, over.symlinks, over.special, over.set_aside.files), (1, 1, 1, 2));
        assert_eq!(over.mounts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["live/cam/2026-11-22/disk"]);
        assert!(found.complete(), "a directory that vanished is no problem");
    }

    #[test]
    fn what_cannot_be_read_makes_it_incomplete() {
        let found = run(&tree(&[("live/gone", Err(io::ErrorKind::PermissionDenied))]));
        assert!(!found.complete());
        assert_eq!(found.problems[0].path.as_ref().map(ToString::to_string).as_deref(), Some("live/gone"));
        let top_missing = run(&Listing::default());
        assert!(!top_missing.complete(), "a top that is not there is no empty tree");
    }

    #[test]
    fn stops_when_it_is_told_to() {
        let layout = Layout::parse("plain", &[], jiff::tz::TimeZone::UTC).unwrap();
        let mut stop = |_| ControlFlow::Break(());
        assert_eq!(scan(&tree(&[]), &TreeId::new("t"), &layout, &[], &SystemClock, &mut stop).err(), Some(Stopped));
    }

    #[test]
    fn a_sample_holds_files_of_all_directories() {
        assert_eq!(sample(&tree(&[]), 100).len(), 4);
    }

    fn days(extra: &[(&str, Content)], protect: &[&str]) -> Inventory {
        use EntryType::{Directory, File};
        let mut listing = Listing::default();
        for (path, entries) in [
            ("", vec![("live", Directory)]),
            ("live", vec![("cam", Directory)]),
            ("live/cam", vec![("2026-11-22", Directory), ("2026-11-23", Directory), ("hls.m3u8", File)]),
            ("live/cam/2026-11-22", vec![("10", Directory), ("11", Directory), ("day.m3u8", File)]),
            ("live/cam/2026-11-22/10", vec![("00-01_0.ts", File), ("00-03_1.ts", File)]),
            ("live/cam/2026-11-22/11", vec![("00-01_7.ts", File), ("notes.txt", File)]),
            ("live/cam/2026-11-23", vec![("00", Directory)]),
            ("live/cam/2026-11-23/00", vec![("00-01_0.ts", File)]),
        ] {
            listing.0.insert(path.to_owned(), Ok(entries));
        }
        listing.0.extend(extra.iter().map(|(path, content)| ((*path).to_owned(), content.clone())));
        let layout = Layout::parse("hls", &[], jiff::tz::TimeZone::UTC).unwrap();
        let protect: Vec<Pattern> = protect.iter().map(|text| Pattern::new(text).unwrap()).collect();
        scan(&listing, &TreeId::new("t"), &layout, &protect, &SystemClock, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn units(found: &Inventory) -> Vec<(String, u32, bool, bool)> {
        let mut all: Vec<_> = found
            .files()
            .map(|seen| {
                let unit = found.unit(seen.index).expect("it is a directory");
                (found.path(seen.index).to_string(), seen.files, unit.protected, unit.partial)
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_day_of_hls_is_one_recording() {
        let found = days(&[], &[]);
        let day = |at: &str, files, protected, partial| (format!("live/cam/2026-11-{at}"), files, protected, partial);
        assert_eq!(units(&found), [day("22", 3, false, false), day("23", 1, false, false)]);
        assert!(found.complete());
        let first = found.files().find(|seen| seen.files == 3).unwrap();
        assert_eq!(found.stream(first.stream).as_str(), "live/cam");
        assert_eq!(
            first.named,
            "2026-11-22T11:00:01Z"
                .parse::<jiff::Timestamp>()
                .ok()
                .map(|at| crate::domain::units::Timestamp::from_secs(at.as_second()))
        );
        // Playlists and what is no segment are nobody's recording.
        assert_eq!(found.passed_over.unrecognised.files, 3);

        let found = days(&[], &["live/cam/2026-11-22/11/**"]);
        assert_eq!(units(&found), [day("22", 3, true, false), day("23", 1, false, false)]);
    }

    /// Promise 6: what was not seen whole is not judged.
    #[test]
    fn a_day_with_an_hour_that_cannot_be_read_is_partial() {
        let day = |at: &str, files, partial| (format!("live/cam/2026-11-{at}"), files, false, partial);
        let found = days(&[("live/cam/2026-11-22/11", Err(io::ErrorKind::PermissionDenied))], &[]);
        assert_eq!(units(&found), [day("22", 2, true), day("23", 1, false)]);
        assert!(!found.complete());
        let mounted = vec![("10", EntryType::Mount), ("11", EntryType::Directory)];
        let found = days(&[("live/cam/2026-11-22", Ok(mounted))], &[]);
        assert_eq!(units(&found), [day("22", 1, true), day("23", 1, false)]);
    }
}
