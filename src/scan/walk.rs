//! The walk: iterative, one directory at a time, in bounded memory.

use std::io;
use std::ops::ControlFlow;

use crate::domain::layout::{Folder, Layout};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::recording::{DirIndex, Inventory, InventoryBuilder, Sighting};
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

/// Scans a tree. `progress` is called after each directory and may stop it.
///
/// # Errors
/// [`Stopped`] if `progress` said so. A directory that cannot be read is no error: the inventory says that it is incomplete.
pub fn scan(
    dir: &dyn Dir,
    tree: &TreeId,
    layout: &Layout,
    clock: &dyn Clock,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Inventory, Stopped> {
    let mut builder = InventoryBuilder::new(tree.clone(), clock.now());
    let mut pending: Vec<(Option<RelPath>, DirIndex, usize)> = vec![(None, builder.top(), 0)];
    let mut directories = 0;
    while let Some((path, index, depth)) = pending.pop() {
        let mut below = Vec::new();
        let mut folder = layout.folder(path.as_ref());
        let read = dir.read(path.as_ref(), &mut |entry| {
            enter(&mut builder, &mut folder, path.as_ref(), index, &entry, &mut below);
        });
        match read {
            Ok(()) => {}
            // It was removed since its parent was read: by the recorder, or by us.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_some() => {}
            // A mount that an old kernel does not show before it is opened.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices && path.is_some() => {
                builder.passed_over().mounts.extend(path.clone());
            }
            Err(error) => builder.problem(path.clone(), error.to_string()),
        }
        directories += 1;
        builder.count_directory();
        for (name, private) in below {
            let child = child(path.as_ref(), &name);
            if private {
                count_set_aside(dir, &child, &mut builder);
            } else if depth + 1 > DEEPEST {
                builder.problem(Some(child), format!("it lies deeper than {DEEPEST} directories"));
            } else {
                let index = builder.directory(index, &name);
                pending.push((Some(child), index, depth + 1));
            }
        }
        if progress(Progress { files: builder.len(), directories }).is_break() {
            return Err(Stopped);
        }
    }
    Ok(builder.finish(clock.now()))
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

/// Enters one entry; directories are put into `below`, with `true` for our private folder.
fn enter(
    builder: &mut InventoryBuilder,
    folder: &mut Folder<'_>,
    dir: Option<&RelPath>,
    index: DirIndex,
    entry: &DirEntry,
    below: &mut Vec<(Vec<u8>, bool)>,
) {
    let path = || child(dir, &entry.name);
    match entry.kind {
        EntryType::Directory => below.push((entry.name.clone(), dir.is_none() && entry.name == PRIVATE)),
        EntryType::Mount => builder.passed_over().mounts.push(path()),
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
                builder.file(
                    index,
                    &Sighting {
                        name: &entry.name,
                        stream: found.stream,
                        kind: found.kind,
                        named: found.named,
                        identity: &entry.identity,
                    },
                );
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
        scan(listing, &TreeId::new("t"), &layout, &SystemClock, &mut |_| ControlFlow::Continue(())).unwrap()
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
        assert_eq!(scan(&tree(&[]), &TreeId::new("t"), &layout, &SystemClock, &mut stop).err(), Some(Stopped));
    }

    #[test]
    fn a_sample_holds_files_of_all_directories() {
        assert_eq!(sample(&tree(&[]), 100).len(), 4);
    }
}
