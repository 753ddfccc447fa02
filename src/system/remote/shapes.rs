//! What is said between the guard and a child: frames of a length and a `postcard` message.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::path::RelPath;
use crate::domain::recording::FileIdentity;
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::{Difference, Reading, Space, Unusable};
use crate::system::{Aside, DirEntry, EntryType, Lease, LeaseKind};

/// The longest frame: a chunk of a directory with names of the longest kind stays well below.
const LONGEST: u32 = 4 << 20;

/// The most that is read of a file at once.
pub(super) const MOST_READ: usize = 64 << 10;

/// A path below the top, in bytes.
pub(super) type Name = Vec<u8>;

/// What the guard asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    Open(Vec<u8>),
    Reading(Vec<u8>),
    Read(Option<Name>),
    Look(Name),
    Top,
    StillThere,
    OpenFile(Name),
    SetAside(Name, u64),
    SetAsideOnRecord(Name, u64),
    SetAsideOnly(Name, u64, IdentityShape, bool),
    LookAside(AsideShape),
    OpenAside(AsideShape),
    PutBack(AsideShape, Name),
    UnlinkAside(AsideShape),
    ListAside,
    RemoveDir(Name),
    SyncDir(Option<Name>),
    SyncAside,
    SyncFilesystem,
    ReadMarker,
    WriteMarker(String),
    WriteCanary(u64),
    RemoveCanary,
    FilesystemUuid,
    Lock,
    File(u64, FileQuestion),
}

/// What is asked of a file that the child holds open under a number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FileQuestion {
    Identity,
    Lease(LeaseKindShape),
    Undisturbed(LeaseKindShape),
    Release,
    Attribute(String),
    SetAttribute(String, Vec<u8>),
    RemoveAttribute(String),
    Locked,
    Shared,
    /// From an offset on, so many bytes.
    ReadAt(u64, u32),
    Close,
}

/// What the child answers. Only `Entries` is followed by another answer to the same question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Flag(bool),
    Number(Option<u64>),
    Text(Option<String>),
    Data(Option<Vec<u8>>),
    Identity(Option<IdentityShape>),
    Entries(Vec<EntryShape>),
    Aside(AsideShape),
    Asides(Vec<AsideShape>),
    Lease(LeaseShape),
    Reading(ReadingShape),
    Unusable(UnusableShape),
    Refused(Refusal),
}

/// An error of the system.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    number: Option<i32>,
    missing: bool,
    text: String,
}

impl From<&io::Error> for Refusal {
    fn from(error: &io::Error) -> Self {
        Self { number: error.raw_os_error(), missing: error.kind() == io::ErrorKind::NotFound, text: error.to_string() }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal.number {
            Some(number) => Self::from_raw_os_error(number),
            None if refusal.missing => Self::new(io::ErrorKind::NotFound, refusal.text),
            None => Self::other(refusal.text),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IdentityShape {
    device: u64,
    mount: u64,
    inode: u64,
    birth: i64,
    modified: i64,
    size: u64,
    allocated: u64,
    links: u32,
}

impl From<FileIdentity> for IdentityShape {
    fn from(of: FileIdentity) -> Self {
        let FileIdentity { device, mount, inode, birth, modified, size, allocated, links } = of;
        Self { device, mount, inode, birth, modified, size, allocated: allocated.0, links }
    }
}

impl From<IdentityShape> for FileIdentity {
    fn from(of: IdentityShape) -> Self {
        let IdentityShape { device, mount, inode, birth, modified, size, allocated, links } = of;
        Self { device, mount, inode, birth, modified, size, allocated: Bytes(allocated), links }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum EntryTypeShape {
    File,
    Directory,
    Mount,
    Symlink,
    Special,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EntryShape {
    name: Name,
    kind: EntryTypeShape,
    identity: IdentityShape,
}

impl From<DirEntry> for EntryShape {
    fn from(entry: DirEntry) -> Self {
        let kind = match entry.kind {
            EntryType::File => EntryTypeShape::File,
            EntryType::Directory => EntryTypeShape::Directory,
            EntryType::Mount => EntryTypeShape::Mount,
            EntryType::Symlink => EntryTypeShape::Symlink,
            EntryType::Special => EntryTypeShape::Special,
        };
        Self { name: entry.name, kind, identity: entry.identity.into() }
    }
}

impl From<EntryShape> for DirEntry {
    fn from(entry: EntryShape) -> Self {
        let kind = match entry.kind {
            EntryTypeShape::File => EntryType::File,
            EntryTypeShape::Directory => EntryType::Directory,
            EntryTypeShape::Mount => EntryType::Mount,
            EntryTypeShape::Symlink => EntryType::Symlink,
            EntryTypeShape::Special => EntryType::Special,
        };
        Self { name: entry.name, kind, identity: entry.identity.into() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum AsideShape {
    Private(u64),
    Beside(Name),
}

impl From<&Aside> for AsideShape {
    fn from(aside: &Aside) -> Self {
        match aside {
            Aside::Private(seq) => Self::Private(*seq),
            Aside::Beside(path) => Self::Beside(path.as_bytes().to_vec()),
        }
    }
}

impl TryFrom<AsideShape> for Aside {
    type Error = io::Error;

    fn try_from(shape: AsideShape) -> io::Result<Self> {
        Ok(match shape {
            AsideShape::Private(seq) => Self::Private(seq),
            AsideShape::Beside(name) => Self::Beside(path(&name)?),
        })
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum LeaseKindShape {
    NoWriter,
    NoOpener,
}

impl From<LeaseKind> for LeaseKindShape {
    fn from(kind: LeaseKind) -> Self {
        match kind {
            LeaseKind::NoWriter => Self::NoWriter,
            LeaseKind::NoOpener => Self::NoOpener,
        }
    }
}

impl From<LeaseKindShape> for LeaseKind {
    fn from(kind: LeaseKindShape) -> Self {
        match kind {
            LeaseKindShape::NoWriter => Self::NoWriter,
            LeaseKindShape::NoOpener => Self::NoOpener,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum LeaseShape {
    Granted,
    Conflict,
    Unavailable,
}

impl From<Lease> for LeaseShape {
    fn from(lease: Lease) -> Self {
        match lease {
            Lease::Granted => Self::Granted,
            Lease::Conflict => Self::Conflict,
            Lease::Unavailable => Self::Unavailable,
        }
    }
}

impl From<LeaseShape> for Lease {
    fn from(lease: LeaseShape) -> Self {
        match lease {
            LeaseShape::Granted => Self::Granted,
            LeaseShape::Conflict => Self::Conflict,
            LeaseShape::Unavailable => Self::Unavailable,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReadingShape {
    size: u64,
    free: u64,
    available: u64,
    inodes: u64,
    inodes_free: u64,
    readonly: bool,
    written: Option<u64>,
}

impl From<Reading> for ReadingShape {
    fn from(of: Reading) -> Self {
        let Space { size, free, available, inodes, inodes_free } = of.space;
        Self {
            size: size.0,
            free: free.0,
            available: available.0,
            inodes,
            inodes_free,
            readonly: of.readonly,
            written: of.written.map(|bytes| bytes.0),
        }
    }
}

impl ReadingShape {
    pub(super) fn at(self, at: Timestamp) -> Reading {
        let space = Space {
            size: Bytes(self.size),
            free: Bytes(self.free),
            available: Bytes(self.available),
            inodes: self.inodes,
            inodes_free: self.inodes_free,
        };
        Reading { at, space, readonly: self.readonly, written: self.written.map(Bytes) }
    }
}

/// Why there is no reading, as far as a child can say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum UnusableShape {
    NoSize,
    Replaced { path: String, difference: String },
    Failed(String),
}

impl From<Unusable> for UnusableShape {
    fn from(why: Unusable) -> Self {
        match why {
            Unusable::NoSize => Self::NoSize,
            Unusable::Replaced { path, difference } => Self::Replaced { path, difference: difference.to_string() },
            Unusable::Failed(text) => Self::Failed(text),
            why @ (Unusable::NotYet | Unusable::TimedOut(_) | Unusable::Marker { .. } | Unusable::ReadOnly) => {
                Self::Failed(why.to_string())
            }
        }
    }
}

impl From<UnusableShape> for Unusable {
    fn from(why: UnusableShape) -> Self {
        match why {
            UnusableShape::NoSize => Self::NoSize,
            UnusableShape::Replaced { path, difference } => match Difference::from_word(&difference) {
                Some(difference) => Self::Replaced { path, difference },
                None => Self::Failed(format!("`{path}` is not the directory it was")),
            },
            UnusableShape::Failed(text) => Self::Failed(text),
        }
    }
}

/// What is said of an answer that answers something else.
pub(super) fn misfit() -> io::Error {
    io::Error::other("the answer does not fit the question")
}

/// The path that a name stands for; what is none was not said by us.
pub(super) fn path(name: &[u8]) -> io::Result<RelPath> {
    RelPath::new(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes one message.
pub(super) fn send<T: Serialize>(to: &mut dyn Write, message: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    to.write_all(&frame)?;
    to.flush()
}

/// Reads one message; `None` at the end.
pub(super) fn receive<T: DeserializeOwned>(from: &mut dyn Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is longer than any of ours"));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    postcard::from_bytes(&body).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
