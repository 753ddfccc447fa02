//! A recording that is a directory, as it is now: its hours, what they hold, and what speaks of them. Nothing is opened.

use std::io;

use super::{Dir, DirEntry, EntryType};
use crate::domain::directory_unit::DirectoryUnit;
use crate::domain::layout::{Companion, Layout, is_hour};
use crate::domain::path::RelPath;
use crate::domain::recording::{FileIdentity, Kind};
use crate::domain::units::Timestamp;

/// A playlist or the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// What it is.
    pub kind: Companion,
    /// Where.
    pub path: RelPath,
    /// What it is like.
    pub identity: FileIdentity,
}

/// A directory of segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    /// Its path below the tree.
    pub path: RelPath,
    /// [`DirectoryUnit::fingerprint`] of what it holds.
    pub fingerprint: u64,
}

/// What a unit holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitListing {
    /// All of it.
    pub sum: DirectoryUnit,
    /// Its hours, the earliest first.
    pub hours: Vec<Hour>,
    /// What speaks of its segments.
    pub beside: Vec<Beside>,
}

impl UnitListing {
    /// No file of it is there, finished or not, and nothing that speaks of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sum == DirectoryUnit::default() && self.beside.is_empty()
    }
}

/// Lists one hour: what its files add up to. `each` is called with each file that the layout knows, `other` with every other.
///
/// # Errors
/// What the system says.
pub fn list_hour(
    dir: &dyn Dir,
    layout: &Layout,
    hour: &RelPath,
    now: Timestamp,
    each: &mut dyn FnMut(&DirEntry, Kind),
    other: &mut dyn FnMut(&DirEntry),
) -> io::Result<DirectoryUnit> {
    let mut sum = DirectoryUnit::default();
    let mut folder = layout.folder(Some(hour));
    dir.read(Some(hour), &mut |entry| match entry.kind {
        EntryType::File => match folder.read(&entry.name, entry.identity.size) {
            Some(found) => {
                sum.add(found.kind, found.named, &entry.identity, now);
                each(&entry, found.kind);
            }
            None => other(&entry),
        },
        // What something is mounted on is not seen.
        EntryType::Mount => sum.partial = true,
        EntryType::Directory | EntryType::Symlink | EntryType::Special => {}
    })?;
    Ok(sum)
}

/// Lists a unit, hour by hour; `each` is called with the hour and each segment.
///
/// # Errors
/// What the system says of any part: what cannot be seen whole is not judged.
pub fn list_unit(
    dir: &dyn Dir,
    layout: &Layout,
    unit: &RelPath,
    now: Timestamp,
    each: &mut dyn FnMut(&RelPath, &DirEntry, Kind),
) -> io::Result<UnitListing> {
    let mut names = Vec::new();
    let mut out = UnitListing { sum: DirectoryUnit::default(), hours: Vec::new(), beside: Vec::new() };
    dir.read(Some(unit), &mut |entry| match entry.kind {
        EntryType::Directory if is_hour(&entry.name) => names.push(entry.name),
        EntryType::File => out.beside.extend(beside(unit, &entry)),
        EntryType::Mount => out.sum.partial = true,
        EntryType::Directory | EntryType::Symlink | EntryType::Special => {}
    })?;
    names.sort();
    for name in names {
        let hour = unit.join(&name);
        let UnitListing { sum, hours, beside: around } = &mut out;
        let found = list_hour(dir, layout, &hour, now, &mut |entry, kind| each(&hour, entry, kind), &mut |entry| {
            around.extend(beside(&hour, entry));
        })?;
        sum.merge(&found);
        hours.push(Hour { path: hour, fingerprint: found.fingerprint() });
    }
    Ok(out)
}

/// Finds any one finished segment of a unit.
///
/// # Errors
/// What the system says.
pub fn any_segment(dir: &dyn Dir, layout: &Layout, unit: &RelPath) -> io::Result<Option<RelPath>> {
    let mut hour = None;
    dir.read(Some(unit), &mut |entry| {
        if entry.kind == EntryType::Directory && is_hour(&entry.name) {
            hour = Some(entry.name);
        }
    })?;
    let Some(hour) = hour.map(|name| unit.join(&name)) else { return Ok(None) };
    let mut found = None;
    let mut each = |entry: &DirEntry, kind| {
        if kind == Kind::Recording && found.is_none() {
            found = Some(hour.join(&entry.name));
        }
    };
    list_hour(dir, layout, &hour, Timestamp::default(), &mut each, &mut |_| ())?;
    Ok(found)
}

fn beside(dir: &RelPath, entry: &DirEntry) -> Option<Beside> {
    let kind = Companion::of_day(&entry.name)?;
    Some(Beside { kind, path: dir.join(&entry.name), identity: entry.identity })
}
