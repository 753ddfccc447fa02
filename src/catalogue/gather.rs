//! Puts the rows of a reading where they belong, and counts what it meets.

use std::collections::HashMap;

use super::reading::no_index;
use crate::domain::catalogue::{CatalogueKind, CatalogueRow, Distrust, Place, Placing, RowCounts};
use crate::domain::names::TreeId;
use crate::domain::path::{RelPath, show_bytes};
use crate::domain::path_set::PathSet;
use crate::domain::trust::{SERVERS_NAMED, grouped};
use crate::domain::units::Percent;
use crate::store::{CatalogueIndex, DatabaseError, IndexRow};

/// So many more favourites than at the last reading are no news yet, however few rows there are.
const FAVOURITES: u64 = 100;
/// Nor are they below this share of all rows.
const FAVOURITES_SHARE: Percent = Percent::new(10);
/// Who has fewer recordings may have marked all of them one by one.
const STREAM: u64 = 10;
/// More streams are not told apart.
const STREAMS: usize = 100_000;

/// Rows on their way into an index.
pub(super) struct Gathered<'a> {
    index: &'a CatalogueIndex,
    placing: &'a Placing,
    /// Rows up to this number were counted before.
    after: Option<i64>,
    before: Option<Favourites>,
    /// Rows that were handed over.
    pub(super) rows: u64,
    /// The highest number of a row.
    pub(super) highest: Option<i64>,
    /// Of other media servers.
    pub(super) others: u64,
    /// Their names, the first of them.
    pub(super) servers: Vec<String>,
    /// In no tree of ours.
    pub(super) elsewhere: u64,
    /// Without a usable path.
    pub(super) bad: u64,
    /// One path of the last two, as it is shown.
    pub(super) example: Option<String>,
}

/// What was a favourite before, and what became one.
pub(super) struct Favourites {
    before: HashMap<TreeId, PathSet>,
    new: u64,
    streams: HashMap<TreeId, Streams>,
    known: usize,
}

/// Rows and new favourites of each stream.
type Streams = HashMap<Box<[u8]>, (u64, u64)>;

impl Favourites {
    /// Those that an index knows.
    pub(super) fn of(index: &CatalogueIndex, placing: &Placing) -> Result<Self, DatabaseError> {
        let before = placing.trees.iter().map(|(tree, _)| Ok((tree.clone(), index.favourites(tree)?)));
        Ok(Self { before: before.collect::<Result<_, _>>()?, new: 0, streams: HashMap::new(), known: 0 })
    }

    fn count(&mut self, tree: &TreeId, path: &RelPath, collect: bool) {
        let new = collect && !self.before.get(tree).is_some_and(|set| set.contains(path));
        self.new += u64::from(new);
        let stream = stream_of(path.as_bytes());
        let streams = match self.streams.get_mut(tree) {
            Some(streams) => streams,
            None => self.streams.entry(tree.clone()).or_default(),
        };
        if let Some((rows, favourites)) = streams.get_mut(stream) {
            *rows += 1;
            *favourites += u64::from(new);
        } else if self.known < STREAMS {
            self.known += 1;
            streams.insert(stream.into(), (1, u64::from(new)));
        }
    }

    /// A stream all of whose recordings became favourites.
    fn whole_stream(&self) -> Option<String> {
        let all =
            self.streams.iter().flat_map(|(tree, streams)| streams.iter().map(move |(stream, of)| (tree, stream, of)));
        let whole = all.filter(|(_, _, (rows, new))| rows == new && *rows >= STREAM);
        whole.map(|(tree, stream, _)| format!("`{}` in tree `{tree}`", show_bytes(stream).0)).min()
    }

    fn remark(&self, kind: CatalogueKind, rows: u64, whole: bool) -> Option<String> {
        // Of a reading of what is new, nobody knows whether a stream's rows are all among it.
        let stream = if whole { self.whole_stream() } else { None };
        if self.new <= FAVOURITES.max(FAVOURITES_SHARE.of_count(rows)) && stream.is_none() {
            return None;
        }
        let of = stream.map_or_else(String::new, |stream| format!(", among them all of stream {stream}"));
        let why = match kind {
            CatalogueKind::Wvp => {
                "; WVP's lock by time range (`changeCollect`) compares seconds with milliseconds, and then locks whole streams: look \
                 whether all of these should be kept"
            }
            CatalogueKind::Frigate | CatalogueKind::Hooks | CatalogueKind::Manifest => {
                "; look whether all of these should be kept"
            }
        };
        let (new, rows) = (grouped(self.new), grouped(rows));
        Some(format!(
            "{new} of {rows} recordings became favourites since the last reading, and are never deleted now{of}{why}"
        ))
    }
}

/// The folder of a path, without the folders above the file whose names are dates or times.
fn stream_of(path: &[u8]) -> &[u8] {
    let parent = |of: &[u8]| of.iter().rposition(|byte| *byte == b'/');
    let mut folder = &path[..parent(path).unwrap_or(0)];
    while let Some(at) = parent(folder)
        && folder[at + 1..].iter().all(|byte| byte.is_ascii_digit() || b"-_.".contains(byte))
    {
        folder = &folder[..at];
    }
    folder
}

impl<'a> Gathered<'a> {
    /// Rows for an index. `after`: rows up to this number were counted at an earlier reading.
    pub(super) fn new(
        index: &'a CatalogueIndex,
        placing: &'a Placing,
        after: Option<i64>,
        before: Option<Favourites>,
    ) -> Self {
        Self {
            index,
            placing,
            after,
            before,
            rows: 0,
            highest: None,
            others: 0,
            servers: Vec::new(),
            elsewhere: 0,
            bad: 0,
            example: None,
        }
    }

    /// Takes some rows in.
    pub(super) fn take(&mut self, rows: Vec<CatalogueRow>) -> Result<(), Distrust> {
        let mut ours = Vec::with_capacity(rows.len());
        for row in rows {
            self.rows += 1;
            let number = row.id.number();
            self.highest = self.highest.max(number);
            let new = self.after.is_none() || number.is_none() || number > self.after;
            match self.placing.place(&row) {
                Place::Tree(tree, path) => {
                    if let Some(favourites) = &mut self.before {
                        favourites.count(&tree, &path, row.collect);
                    }
                    ours.push((tree, path, IndexRow { id: row.id, collect: row.collect, start: row.start }));
                }
                Place::Foreign | Place::Bad if !new => {}
                Place::Foreign => match self.placing.other_server(&row) {
                    Some(server) => {
                        self.others += 1;
                        let (server, _) = show_bytes(server.as_bytes());
                        if self.servers.len() < SERVERS_NAMED && !self.servers.contains(&server) {
                            self.servers.push(server);
                        }
                    }
                    None => {
                        self.elsewhere += 1;
                        self.show(&row);
                    }
                },
                Place::Bad => {
                    self.bad += 1;
                    self.show(&row);
                }
            }
        }
        self.index.put(&ours).map_err(no_index)
    }

    /// What there is to say of favourites; `None` if there was nothing to compare with, or nothing to say.
    pub(super) fn remark(&self, kind: CatalogueKind, rows: u64, whole: bool) -> Option<String> {
        self.before.as_ref()?.remark(kind, rows, whole)
    }

    /// What is not in trees of ours.
    pub(super) fn counts(&self) -> RowCounts {
        RowCounts { foreign: self.others.saturating_add(self.elsewhere), bad: self.bad, ..RowCounts::default() }
    }

    fn show(&mut self, row: &CatalogueRow) {
        /// As much of a path is shown.
        const SHOWN: usize = 200;
        if self.example.is_none() {
            let path = row.path.as_deref().unwrap_or(b"NULL");
            self.example = Some(show_bytes(&path[..path.len().min(SHOWN)]).0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_folder_above_its_days() {
        for (path, expected) in [
            ("live/cam/2026-11-22/2026-11-22-12-21-41-0.mp4", "live/cam"),
            ("live/cam/2026/11/22/a.mp4", "live/cam"),
            ("2026-11-22/a.mp4", "2026-11-22"),
            ("cam/a.mp4", "cam"),
            ("a.mp4", ""),
        ] {
            assert_eq!(stream_of(path.as_bytes()), expected.as_bytes());
        }
    }
}
