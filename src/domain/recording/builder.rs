//! Puts an inventory together while a tree is walked.

use std::collections::HashMap;

use super::{DirIndex, Directory, File, FileIdentity, FileIndex, Inventory, Kind, PassedOver, ScanProblem};
use super::{LINKED, TOP, UNFINISHED, UNIT};
use crate::domain::directory_unit::DirectoryUnit;
use crate::domain::names::{StreamId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;

/// One file as the walker hands it to the inventory.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// Its name within the directory.
    pub name: &'a [u8],
    /// The stream it belongs to.
    pub stream: &'a str,
    /// What the layout takes it for.
    pub kind: Kind,
    /// The time in its name.
    pub named: Option<Timestamp>,
    /// What `statx` said.
    pub identity: &'a FileIdentity,
}

/// Puts an inventory together while a tree is walked.
#[derive(Debug)]
pub struct InventoryBuilder {
    inventory: Inventory,
    by_name: HashMap<StreamId, u32>,
    units: Vec<UnitEntry>,
    segments: usize,
    /// The directory that was filled last, and its twins for further streams: (stream, entry).
    current: u32,
    twins: Vec<(u32, u32)>,
}

/// A directory that may be a recording, while a tree is walked.
#[derive(Debug)]
struct UnitEntry {
    parent: DirIndex,
    name: Vec<u8>,
    inode: u64,
    /// Known with its first segment.
    stream: String,
    sum: DirectoryUnit,
}

/// Index of a directory that may be a recording, while a tree is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitIndex(usize);

/// How many problems are kept in words; the rest is counted.
const PROBLEMS_KEPT: usize = 20;

impl InventoryBuilder {
    /// An empty inventory of `tree`.
    #[must_use]
    pub fn new(tree: TreeId, started: Timestamp) -> Self {
        let inventory = Inventory {
            tree,
            started,
            finished: started,
            problems: Vec::new(),
            problem_count: 0,
            passed_over: PassedOver::default(),
            directories: 0,
            files: Vec::new(),
            dirs: vec![Directory { parent: TOP, name: 0, first: 0, stream: TOP, name_len: 0, first_len: 0 }],
            streams: Vec::new(),
            text: Vec::new(),
            units: Vec::new(),
        };
        let (by_name, twins) = (HashMap::new(), Vec::new());
        Self { inventory, by_name, units: Vec::new(), segments: 0, current: TOP, twins }
    }

    /// The tree's top.
    #[must_use]
    pub fn top(&self) -> DirIndex {
        DirIndex(0)
    }

    /// Enters the directory `name` of `parent`.
    pub fn directory(&mut self, parent: DirIndex, name: &[u8]) -> DirIndex {
        let (at, len) = self.keep(name);
        self.push_dir(Directory { parent: parent.0, name: at, first: 0, stream: TOP, name_len: len, first_len: 0 })
    }

    /// Enters a file of `dir`. Files of one directory are entered one after the other.
    pub fn file(&mut self, dir: DirIndex, seen: &Sighting<'_>) -> FileIndex {
        let stream = self.stream(seen.stream);
        let home = self.home(dir.0, stream, seen.name);
        let entry = self.inventory.dirs[home as usize];
        let first = self.inventory.slice(entry.first, entry.first_len);
        let front = first.iter().zip(seen.name).take_while(|(a, b)| a == b).count();
        let room = first.len().min(seen.name.len()) - front;
        let back = first.iter().rev().zip(seen.name.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
        let (middle, middle_len) = self.keep(&seen.name[front..seen.name.len() - back]);
        let index = FileIndex(u32::try_from(self.inventory.files.len()).unwrap_or(u32::MAX));
        let flags = if seen.identity.links > 1 { LINKED } else { 0 }
            | match seen.kind {
                Kind::Recording => 0,
                Kind::Unfinished => UNFINISHED,
            };
        self.inventory.files.push(File {
            inode: seen.identity.inode,
            fingerprint: seen.identity.fingerprint(),
            blocks: u32::try_from(seen.identity.allocated.0 / 512).unwrap_or(u32::MAX),
            // A file that does not know how old it is, is as young as can be: when unsure, it is kept.
            modified: seconds(seen.identity.modified_at().unwrap_or(self.inventory.started)),
            named: seen.named.map_or(0, seconds),
            dir: home,
            middle,
            middle_len,
            // A name has at most 255 bytes (NAME_MAX).
            front: u8::try_from(front).unwrap_or(u8::MAX),
            back: u8::try_from(back).unwrap_or(u8::MAX),
            flags,
        });
        index
    }

    /// Enters the directory `name` of `parent`, which is one recording if segments are found in it.
    pub fn begin_unit(&mut self, parent: DirIndex, name: &[u8], inode: u64) -> UnitIndex {
        let entry =
            UnitEntry { parent, name: name.to_vec(), inode, stream: String::new(), sum: DirectoryUnit::default() };
        self.units.push(entry);
        UnitIndex(self.units.len() - 1)
    }

    /// Counts a file of a unit.
    pub fn segment(&mut self, unit: UnitIndex, seen: &Sighting<'_>) {
        let now = self.inventory.started;
        let entry = &mut self.units[unit.0];
        if entry.stream.is_empty() {
            seen.stream.clone_into(&mut entry.stream);
        }
        entry.sum.add(seen.kind, seen.named, seen.identity, now);
        self.segments += usize::from(seen.kind == Kind::Recording);
    }

    /// What a unit adds up to so far.
    pub fn unit(&mut self, unit: UnitIndex) -> &mut DirectoryUnit {
        &mut self.units[unit.0].sum
    }

    /// Notes a place that could not be read.
    pub fn problem(&mut self, path: Option<RelPath>, error: String) {
        self.inventory.problem_count += 1;
        if self.inventory.problems.len() < PROBLEMS_KEPT {
            self.inventory.problems.push(ScanProblem { path, error });
        }
    }

    /// Notes that a directory was read.
    pub fn count_directory(&mut self) {
        self.inventory.directories += 1;
    }

    /// What is met and passed over is counted here.
    pub fn passed_over(&mut self) -> &mut PassedOver {
        &mut self.inventory.passed_over
    }

    /// How many files were entered so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inventory.files.len() + self.segments
    }

    /// Nothing was entered so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The inventory, no larger than it needs to be.
    #[must_use]
    pub fn finish(mut self, finished: Timestamp) -> Inventory {
        self.inventory.finished = finished;
        for unit in std::mem::take(&mut self.units).iter().filter(|unit| unit.sum.segments.files > 0) {
            self.enter_unit(unit);
        }
        self.inventory.units.shrink_to_fit();
        self.inventory.files.shrink_to_fit();
        self.inventory.dirs.shrink_to_fit();
        self.inventory.text.shrink_to_fit();
        self.inventory
    }

    fn enter_unit(&mut self, unit: &UnitEntry) {
        let sum = unit.sum;
        let identity = FileIdentity { inode: unit.inode, links: 1, ..FileIdentity::default() };
        let (stream, named) = (unit.stream.as_str(), sum.named());
        let kind = Kind::Recording;
        let index = self.file(unit.parent, &Sighting { name: &unit.name, stream, kind, named, identity: &identity });
        let entry = &mut self.inventory.files[index.0 as usize];
        entry.fingerprint = sum.fingerprint();
        entry.modified = sum.modified().map_or(entry.modified, seconds);
        entry.flags = UNIT | if sum.linked { LINKED } else { 0 };
        self.inventory.units.push((index, sum));
    }

    fn stream(&mut self, name: &str) -> u32 {
        // Files of one directory mostly share their stream, so the last one is asked first.
        if let Some((stream, _)) = self.twins.last()
            && self.inventory.streams[*stream as usize].as_str() == name
        {
            return *stream;
        }
        let id = StreamId::new(name);
        if let Some(index) = self.by_name.get(&id) {
            return *index;
        }
        let index = u32::try_from(self.inventory.streams.len()).unwrap_or(TOP);
        self.inventory.streams.push(id.clone());
        self.by_name.insert(id, index);
        index
    }

    fn home(&mut self, dir: u32, stream: u32, name: &[u8]) -> u32 {
        if self.current != dir {
            self.current = dir;
            self.twins.clear();
        }
        if let Some((_, home)) = self.twins.iter().find(|(s, _)| *s == stream) {
            return *home;
        }
        let home = if self.inventory.dirs[dir as usize].stream == TOP {
            dir
        } else {
            let twin = self.inventory.dirs[dir as usize];
            self.push_dir(twin).0
        };
        let (first, first_len) = self.keep(name);
        let entry = &mut self.inventory.dirs[home as usize];
        (entry.first, entry.first_len, entry.stream) = (first, first_len, stream);
        self.twins.push((stream, home));
        home
    }

    fn push_dir(&mut self, dir: Directory) -> DirIndex {
        let index = u32::try_from(self.inventory.dirs.len()).unwrap_or(TOP);
        self.inventory.dirs.push(dir);
        DirIndex(index)
    }

    fn keep(&mut self, text: &[u8]) -> (u32, u8) {
        let at = u32::try_from(self.inventory.text.len()).unwrap_or(u32::MAX);
        let text = &text[..text.len().min(usize::from(u8::MAX))];
        self.inventory.text.extend_from_slice(text);
        (at, u8::try_from(text.len()).unwrap_or(u8::MAX))
    }
}

fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.secs().max(0)).unwrap_or(u32::MAX)
}
