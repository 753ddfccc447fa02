//! Catalogues: witnesses of which recordings should exist, and whether one can be believed.

use std::path::{Path, PathBuf};

use super::deletion::words;
use super::names::{CatalogueId, TreeId};
use super::path::RelPath;
use super::units::{Percent, Timestamp};

words! {
    /// What a catalogue is.
    CatalogueKind {
        /// WVP's table of recordings.
        Wvp = "wvp",
        /// Frigate's database.
        Frigate = "frigate",
        /// What hooks told us.
        Hooks = "hooks",
        /// A file of paths.
        Manifest = "manifest",
    }
}

impl CatalogueKind {
    /// What it does not know should not exist. Hooks get lost, so what none told of proves nothing.
    #[must_use]
    pub fn proves_absence(self) -> bool {
        match self {
            Self::Wvp | Self::Frigate | Self::Manifest => true,
            Self::Hooks => false,
        }
    }
}

words! {
    /// What becomes of the row of a recording that we deleted.
    AfterReclaim {
        /// It stays.
        Keep = "keep",
        /// It goes once the file is verified absent.
        RemoveRow = "remove_row",
    }
}

/// What a row is known by where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowId {
    /// A number: a primary key, a line.
    Number(i64),
    /// A text.
    Text(String),
}

impl RowId {
    /// The number, where it is one.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }
}

impl std::fmt::Display for RowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A row as it stands in its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueRow {
    /// What it is known by.
    pub id: RowId,
    /// Where the recording is, as the media server sees it; `None` where the source says nothing.
    pub path: Option<Vec<u8>>,
    /// The media server that made it, where the source says so.
    pub media_server: Option<String>,
    /// A person wants it kept.
    pub collect: bool,
    /// When the recording begins, as far as the source says.
    pub start: Option<Timestamp>,
}

/// Where a row belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To a tree that names the catalogue.
    Tree(TreeId, RelPath),
    /// To no tree of ours, or to another media server: counted and left alone.
    Foreign,
    /// Its path is no path: counted and passed over.
    Bad,
}

/// What tells where rows belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placing {
    /// The trees that name the catalogue, and their tops.
    pub trees: Vec<(TreeId, PathBuf)>,
    /// Beginnings of paths as the media server sees them, and what they are here.
    pub path_map: Vec<(PathBuf, PathBuf)>,
    /// Rows of other media servers are foreign.
    pub media_server: Option<String>,
    /// A relative path counts from the top of the tree, if there is only one: so in manifests. Elsewhere it is no path.
    pub relative: bool,
}

/// How many rows a catalogue has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// In trees of ours.
    pub rows: u64,
    /// In no tree of ours, or of other media servers.
    pub foreign: u64,
    /// Without a usable path.
    pub bad: u64,
    /// Of the first, those that a person wants kept.
    pub collect: u64,
}

/// Why a catalogue is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// It was not read yet.
    NotYet,
    /// It does not answer.
    Unanswered {
        /// What the system or the source says.
        error: String,
    },
    /// It answered in part.
    Partial {
        /// What was missing, or what ended the reading.
        error: String,
    },
    /// It is not what it should be: a table or a column is missing, or the file is another's.
    Shape {
        /// What is missing or wrong.
        error: String,
    },
    /// All its rows are of other media servers.
    OtherServer {
        /// The one that is configured.
        wanted: String,
        /// Those that were found, the first of them.
        found: Vec<String>,
    },
    /// None of its rows lies in a tree of ours.
    Elsewhere {
        /// How many rows there are.
        rows: u64,
        /// One of their paths.
        example: String,
    },
    /// It has no row for a tree that is not empty.
    Empty {
        /// The tree.
        tree: TreeId,
        /// Recordings in it.
        files: u64,
    },
    /// It lost too many rows at once whose files are still there.
    Dropped {
        /// Rows that are gone while their files are there, as far as they were counted.
        lost: u64,
        /// Rows at the last trusted reading.
        before: u64,
        /// The share that may be lost.
        allowed: Percent,
    },
    /// Our own index of it cannot be written or read.
    Index {
        /// What the system says.
        error: String,
    },
}

impl Distrust {
    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotYet => "not_yet",
            Self::Unanswered { .. } => "unanswered",
            Self::Partial { .. } => "partial",
            Self::Shape { .. } => "shape",
            Self::OtherServer { .. } => "other_server",
            Self::Elsewhere { .. } => "elsewhere",
            Self::Empty { .. } => "empty",
            Self::Dropped { .. } => "dropped",
            Self::Index { .. } => "index",
        }
    }

    /// There is a whole new state that a person can accept.
    #[must_use]
    pub fn acceptable(&self) -> bool {
        match self {
            Self::OtherServer { .. } | Self::Elsewhere { .. } | Self::Empty { .. } | Self::Dropped { .. } => true,
            Self::NotYet | Self::Unanswered { .. } | Self::Partial { .. } | Self::Shape { .. } | Self::Index { .. } => {
                false
            }
        }
    }
}

/// Why, as a clause that follows "because".
impl std::fmt::Display for Distrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotYet => f.write_str("it was not read yet"),
            Self::Unanswered { error } => write!(f, "it does not answer: {error}"),
            Self::Partial { error } => write!(f, "it answered in part: {error}"),
            Self::Shape { error } => write!(f, "it is not what it should be: {error}"),
            Self::OtherServer { wanted, found } => {
                write!(f, "none of its rows is of media server `{wanted}`, all are of others: {}", found.join(", "))
            }
            Self::Elsewhere { rows, example } => {
                write!(f, "none of its {rows} rows lies in a tree that names it; one of them is `{example}`")
            }
            Self::Empty { tree, files } => {
                write!(f, "it has no row for tree `{tree}`, which holds {files} recordings")
            }
            Self::Dropped { lost, before, allowed } => {
                write!(
                    f,
                    "at least {lost} of its {before} rows are gone at once while their files are there, and no more than {allowed} may be"
                )
            }
            Self::Index { error } => write!(f, "the guard's own copy of it cannot be used: {error}"),
        }
    }
}

/// A catalogue as it was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueView {
    /// Its name.
    pub name: CatalogueId,
    /// What it is.
    pub kind: CatalogueKind,
    /// Why it is not believed; `None` if it is.
    pub distrust: Option<Distrust>,
    /// Since when it is not.
    pub since: Option<Timestamp>,
    /// Its rows, at the last trusted reading.
    pub counts: RowCounts,
    /// When it was last read whole or for what is new, and believed.
    pub read_at: Option<Timestamp>,
    /// Something else that a person should know: how many more recordings are wanted kept than before.
    pub remark: Option<String>,
}

/// The name that a path bears here: the longest fitting beginning is replaced.
#[must_use]
pub fn mapped(path: &Path, map: &[(PathBuf, PathBuf)]) -> PathBuf {
    let fits = map.iter().filter(|(from, _)| path.starts_with(from));
    match fits.max_by_key(|(from, _)| from.components().count()) {
        Some((from, to)) => path.strip_prefix(from).map_or_else(|_| path.to_owned(), |rest| to.join(rest)),
        None => path.to_owned(),
    }
}
