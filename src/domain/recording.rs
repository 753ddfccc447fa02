//! Recordings, and the inventory of them that a scan leaves behind.
//!
//! A million files must fit into little memory: a file costs 40 bytes and the part of its name that it does not share
//! with the first name of its directory (`2026-11-22-12-21-41-0.mp4` beside `2026-11-22-00-00-00-0.mp4`: 5 bytes). A recording that is a
//! directory costs about 200 bytes, however many files it holds.

mod builder;

use std::time::Duration;

use super::directory_unit::DirectoryUnit;
use super::names::{StreamId, TreeId};
use super::path::RelPath;
use super::units::{Bytes, Timestamp};

pub use builder::{InventoryBuilder, Sighting, UnitIndex};

/// What makes a file this file and no other: looked at by the scan, and again before it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileIdentity {
    /// Number of the device that holds it.
    pub device: u64,
    /// Id of the mount it was reached through; 0 where the kernel does not tell.
    pub mount: u64,
    /// Inode number.
    pub inode: u64,
    /// Birth time in nanoseconds since the epoch; 0 where the filesystem keeps none.
    pub birth: i64,
    /// Last change of the content, nanoseconds since the epoch.
    pub modified: i64,
    /// Apparent size in bytes.
    pub size: u64,
    /// Allocated space: what deleting it can give back.
    pub allocated: Bytes,
    /// Number of names the inode has.
    pub links: u32,
}

impl FileIdentity {
    /// A digest of what must not have changed since the scan: inode, birth, size and time of change. The device and the
    /// mount are left out, since their numbers change with a reboot: they are compared with the tree's own. The links are
    /// left out too: a new hard link is its own reason to keep the file, found by its own check.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        // The finaliser of splitmix64 over each field; a table of inode generations need not resist an attacker, who
        // would have to match the inode number as well.
        [self.inode, self.birth.cast_unsigned(), self.modified.cast_unsigned(), self.size].into_iter().fold(
            0x9e37_79b9_7f4a_7c15,
            |state: u64, field| {
                let mut z = (state ^ field).wrapping_add(0x9e37_79b9_7f4a_7c15);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            },
        )
    }

    /// When the content last changed; `None` if the file does not know. No clock that is right sets a time before the year 2000: then
    /// the file's birth counts.
    #[must_use]
    pub fn modified_at(&self) -> Option<Timestamp> {
        const YEAR_2000: i64 = 946_684_800;
        let mut times =
            [self.modified, self.birth].map(|nanos| Timestamp::from_millis(nanos.div_euclid(1_000_000))).into_iter();
        times.find(|at| at.secs() >= YEAR_2000)
    }
}

/// What a scan takes a file for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A finished recording.
    Recording,
    /// Under a name that the layout gives to what is still being written, or empty: in progress, or left over.
    Unfinished,
}

/// Index of a file in its inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIndex(pub u32);

/// Index of a directory in its inventory. A directory that holds several streams has one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirIndex(u32);

/// Index of a stream in its inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamIndex(pub u32);

/// One recording as a scan saw it: a file, or a directory that goes as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording {
    /// Where it stands in the inventory.
    pub index: FileIndex,
    /// The stream it belongs to.
    pub stream: StreamIndex,
    /// Recording or unfinished.
    pub kind: Kind,
    /// The time in its name, to the second.
    pub named: Option<Timestamp>,
    /// When its content last changed, to the second.
    pub modified: Timestamp,
    /// Allocated space.
    pub bytes: Bytes,
    /// Inode number.
    pub inode: u64,
    /// [`FileIdentity::fingerprint`].
    pub fingerprint: u64,
    /// It has other names too, so that deleting this one gives nothing back.
    pub linked: bool,
    /// It is a directory: [`Inventory::unit`] tells what it adds up to.
    pub unit: bool,
    /// How many files it is.
    pub files: u32,
}

impl Recording {
    /// Its files and bytes.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally { files: u64::from(self.files), bytes: self.bytes }
    }

    /// The time that retention goes by: the one in the name, else the file's.
    #[must_use]
    pub fn recorded(&self) -> Timestamp {
        self.named.unwrap_or(self.modified)
    }

    /// The later of the name's time and the file's: what `min_age` counts from.
    #[must_use]
    pub fn touched(&self) -> Timestamp {
        self.named.map_or(self.modified, |named| named.max(self.modified))
    }

    /// Name and file disagree by more than a day, so that no age rule may judge it.
    #[must_use]
    pub fn ages_disagree(&self) -> bool {
        const DAY: Duration = Duration::from_secs(86_400);
        self.named.is_some_and(|named| named.since(self.modified) > DAY || self.modified.since(named) > DAY)
    }
}

/// Files and their bytes, counted together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub files: u64,
    /// Their allocated bytes.
    pub bytes: Bytes,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, bytes: Bytes) {
        self.files = self.files.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts all of `other` too.
    pub fn merge(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A place that a scan could not read, so that its inventory is incomplete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanProblem {
    /// Path below the tree; `None` is its top.
    pub path: Option<RelPath>,
    /// What the system said.
    pub error: String,
}

/// What a scan met and passed over, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Files that the layout does not recognise; never touched.
    pub unrecognised: Tally,
    /// Symbolic links; never followed, never touched.
    pub symlinks: u64,
    /// Sockets, pipes, devices.
    pub special: u64,
    /// Directories on which something else is mounted; never entered.
    pub mounts: Vec<RelPath>,
    /// Files that we have set aside: in our own private folder, and under a name of ours in their own directory.
    pub set_aside: Tally,
    /// Where the latter are, the first thousands of them.
    pub beside: Vec<RelPath>,
}

#[derive(Debug, Clone, Copy)]
struct File {
    inode: u64,
    fingerprint: u64,
    /// In units of 512 bytes, as the kernel counts them; 2 TiB at most.
    blocks: u32,
    /// Seconds since the epoch.
    modified: u32,
    /// Seconds since the epoch; 0 when the name holds no time.
    named: u32,
    dir: u32,
    /// Where the middle of the name begins in `text`.
    middle: u32,
    middle_len: u8,
    /// Bytes shared with the front and the back of the directory's first name.
    front: u8,
    back: u8,
    flags: u8,
}

const LINKED: u8 = 1;
const UNFINISHED: u8 = 2;
const UNIT: u8 = 4;

#[derive(Debug, Clone, Copy)]
struct Directory {
    /// `u32::MAX` at the top.
    parent: u32,
    name: u32,
    first: u32,
    stream: u32,
    name_len: u8,
    first_len: u8,
}

const TOP: u32 = u32::MAX;

/// What one scan of one tree found.
#[derive(Debug)]
pub struct Inventory {
    /// The tree.
    pub tree: TreeId,
    /// When the scan began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What could not be read, the first twenty; empty when the scan is complete.
    pub problems: Vec<ScanProblem>,
    /// How many places could not be read.
    pub problem_count: u64,
    /// What was met and passed over.
    pub passed_over: PassedOver,
    /// How many directories were read.
    pub directories: u64,
    files: Vec<File>,
    dirs: Vec<Directory>,
    streams: Vec<StreamId>,
    text: Vec<u8>,
    /// What recordings that are directories add up to, by rising index.
    units: Vec<(FileIndex, DirectoryUnit)>,
}

impl Inventory {
    /// Everything was read.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.problem_count == 0
    }

    /// How many recordings are known, unfinished files among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Every file, in the order of the scan.
    pub fn files(&self) -> impl Iterator<Item = Recording> + '_ {
        (0..u32::try_from(self.files.len()).unwrap_or(u32::MAX)).map(|i| self.get(FileIndex(i)))
    }

    /// One file.
    ///
    /// # Panics
    /// If `index` is of another inventory.
    #[must_use]
    pub fn get(&self, index: FileIndex) -> Recording {
        let file = &self.files[index.0 as usize];
        let unit = self.unit(index);
        let bytes = unit.map_or(Bytes(u64::from(file.blocks) * 512), |unit| unit.segments.bytes);
        Recording {
            index,
            stream: StreamIndex(self.dirs[file.dir as usize].stream),
            kind: if file.flags & UNFINISHED == 0 { Kind::Recording } else { Kind::Unfinished },
            named: (file.named != 0).then(|| Timestamp::from_secs(i64::from(file.named))),
            modified: Timestamp::from_secs(i64::from(file.modified)),
            bytes,
            inode: file.inode,
            fingerprint: file.fingerprint,
            linked: file.flags & LINKED != 0,
            unit: unit.is_some(),
            files: unit.map_or(1, |unit| u32::try_from(unit.segments.files).unwrap_or(u32::MAX)),
        }
    }

    /// What a recording that is a directory adds up to; `None` for a file.
    ///
    /// # Panics
    /// If `index` is of another inventory.
    #[must_use]
    pub fn unit(&self, index: FileIndex) -> Option<&DirectoryUnit> {
        if self.files[index.0 as usize].flags & UNIT == 0 {
            return None;
        }
        let at = self.units.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        self.units.get(at).map(|(_, unit)| unit)
    }

    /// Every recording that is a directory.
    pub fn units(&self) -> impl Iterator<Item = FileIndex> + '_ {
        self.units.iter().map(|(index, _)| *index)
    }

    /// The streams, by index.
    #[must_use]
    pub fn streams(&self) -> &[StreamId] {
        &self.streams
    }

    /// The name of a stream.
    #[must_use]
    pub fn stream(&self, index: StreamIndex) -> &StreamId {
        &self.streams[index.0 as usize]
    }

    /// The path of a file.
    ///
    /// # Panics
    /// If `index` is of another inventory.
    #[must_use]
    pub fn path(&self, index: FileIndex) -> RelPath {
        let file = &self.files[index.0 as usize];
        let mut parts = Vec::with_capacity(6);
        let mut dir = file.dir;
        while dir != TOP {
            let entry = &self.dirs[dir as usize];
            let name = self.slice(entry.name, entry.name_len);
            if !name.is_empty() {
                parts.push(name);
            }
            dir = entry.parent;
        }
        let mut out = Vec::with_capacity(96);
        for part in parts.iter().rev() {
            out.extend_from_slice(part);
            out.push(b'/');
        }
        self.append_name(index, &mut out);
        RelPath::new(&out).expect("it was put together from names that a directory gave")
    }

    /// Every directory that holds files, in the order of the scan, with all of its files, whatever their streams.
    pub fn folders(&self) -> impl Iterator<Item = FilledFolder<'_>> {
        // Twins bear the very same name, not only an equal one.
        let place = |file: &File| {
            let dir = &self.dirs[file.dir as usize];
            (dir.parent, dir.name)
        };
        self.files.chunk_by(move |a, b| a.dir == b.dir || place(a) == place(b)).scan(
            0,
            move |first: &mut u32, files| {
                let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
                let folder = FilledFolder { inventory: self, first: *first, count };
                *first = first.saturating_add(count);
                Some(folder)
            },
        )
    }

    /// Writes the name of a file within its directory over what is in `out`.
    ///
    /// # Panics
    /// If `index` is of another inventory.
    pub fn write_name(&self, index: FileIndex, out: &mut Vec<u8>) {
        out.clear();
        self.append_name(index, out);
    }

    fn append_name(&self, index: FileIndex, out: &mut Vec<u8>) {
        let file = &self.files[index.0 as usize];
        let home = &self.dirs[file.dir as usize];
        let first = self.slice(home.first, home.first_len);
        out.extend_from_slice(&first[..usize::from(file.front)]);
        out.extend_from_slice(self.slice(file.middle, file.middle_len));
        out.extend_from_slice(&first[first.len() - usize::from(file.back)..]);
    }

    /// The directory that holds a file.
    ///
    /// # Panics
    /// If `index` is of another inventory.
    #[must_use]
    pub fn directory(&self, index: FileIndex) -> DirIndex {
        DirIndex(self.files[index.0 as usize].dir)
    }

    /// Bytes of memory kept for each file, names included.
    #[must_use]
    pub fn bytes_per_file(&self) -> usize {
        let all = self.files.capacity() * size_of::<File>()
            + self.dirs.capacity() * size_of::<Directory>()
            + self.text.capacity();
        all / self.files.len().max(1)
    }

    fn slice(&self, at: u32, len: u8) -> &[u8] {
        &self.text[at as usize..at as usize + usize::from(len)]
    }
}

/// A directory of an inventory that holds files.
#[derive(Debug, Clone, Copy)]
pub struct FilledFolder<'a> {
    inventory: &'a Inventory,
    first: u32,
    count: u32,
}

impl FilledFolder<'_> {
    /// Its path; `None` is the tree's top.
    #[must_use]
    pub fn path(&self) -> Option<RelPath> {
        self.inventory.path(FileIndex(self.first)).split().0
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = FileIndex> + use<> {
        (self.first..self.first + self.count).map(FileIndex)
    }
}

/// Which files of an inventory have gone since the scan: one bit a file.
#[derive(Debug, Clone, Default)]
pub struct Gone(Vec<u64>);

impl Gone {
    /// Notes that a file is no longer there.
    pub fn insert(&mut self, index: FileIndex) {
        let at = index.0 as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (index.0 % 64);
    }

    /// Whether it was noted.
    #[must_use]
    pub fn contains(&self, index: FileIndex) -> bool {
        self.0.get(index.0 as usize / 64).is_some_and(|word| word & (1 << (index.0 % 64)) != 0)
    }
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;
