//! What buckets hold, as they list it when somebody asks. A list is as long as the bucket is full, so that a page of it ends after a while,
//! with what was found until then, and the next one goes on after the last copy that was looked at.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::hub::{Hub, lock};
use crate::archive::{Bucket, ColdObject, Patience};
use crate::domain::archive::{ArchiveSettings, BucketSettings, ColdPlace, key_of, path_of};
use crate::domain::cause::chain;
use crate::domain::layout::Layout;
use crate::domain::names::{ArchiveId, StreamId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::units::Bytes;
use crate::server::archive::{ArchivedCopy as CopyShape, CopiesWanted};
use crate::server::shapes::Page;
use crate::server::{PageQuery, Refusal};

/// No further page of the store's list is begun after this. With the longest that one takes it is less than a call may take.
const LONGEST: Duration = Duration::from_secs(5);
/// For somebody who waits, less than for those who copy.
const PATIENCE: Patience = Patience { answer: Duration::from_secs(3), retry: Duration::from_secs(2) };

/// A bucket that can be asked what it holds.
struct Shelf {
    name: ArchiveId,
    settings: BucketSettings,
    /// Once it was asked: a key and a connection outlive a page.
    opened: Mutex<Option<Arc<Bucket>>>,
}

impl Shelf {
    fn bucket(&self) -> Result<Arc<Bucket>, Refusal> {
        let mut opened = lock(&self.opened);
        if let Some(bucket) = opened.as_ref() {
            return Ok(bucket.clone());
        }
        let bucket = Bucket::open(&self.name, &self.settings, PATIENCE);
        let bucket = Arc::new(bucket.map_err(|error| unavailable(&self.name, &chain(&error)))?);
        Ok(opened.insert(bucket).clone())
    }
}

/// The buckets of a configuration.
#[derive(Default)]
pub(super) struct Buckets(ArcSwap<Vec<Arc<Shelf>>>);

/// Where a page of the list of buckets begins.
struct Cursor {
    archive: ArchiveId,
    after: Option<RelPath>,
}

impl Cursor {
    fn show(&self) -> String {
        let name = utf8_percent_encode(self.archive.as_str(), NON_ALPHANUMERIC);
        match self.after.as_ref().map(RelPath::show) {
            Some((key, encoded)) => format!("{name}/{}/{key}", u8::from(encoded)),
            None => format!("{name}/"),
        }
    }

    /// `None` if it is no cursor of a bucket.
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('/')?;
        let archive = ArchiveId::new(&percent_decode_str(name).decode_utf8().ok()?);
        let after = match rest.split_once('/') {
            Some(("0", key)) => Some(RelPath::parse(key, false).ok()?),
            Some(("1", key)) => Some(RelPath::parse(key, true).ok()?),
            Some(_) => return None,
            None => None,
        };
        Some(Self { archive, after })
    }
}

impl Hub {
    /// From now on these archives are there.
    pub fn set_archives(&self, archives: &[ArchiveSettings]) {
        let shelf = |archive: &ArchiveSettings| match &archive.place {
            ColdPlace::Bucket(settings) => Some(Arc::new(Shelf {
                name: archive.name.clone(),
                settings: settings.clone(),
                opened: Mutex::default(),
            })),
            ColdPlace::Directory { .. } => None,
        };
        self.buckets.0.store(Arc::new(archives.iter().filter_map(shelf).collect()));
    }

    /// The copies that archives hold: those in directories as their last scans found them, then those in buckets, as these list them now.
    ///
    /// # Errors
    /// 400 for a cursor that is none, 503 if a bucket does not list what it holds.
    pub fn copies(&self, wanted: &CopiesWanted, page: &PageQuery) -> Result<Page<CopyShape>, Refusal> {
        let mut out = Page { items: Vec::new(), next: None };
        let bucket = match page.cursor.as_deref().filter(|cursor| cursor.contains('/')) {
            Some(cursor) => Some(Cursor::parse(cursor).ok_or_else(|| Refusal::bad_cursor(cursor))?),
            None => {
                out = page.slice(self.copies_in_directories(wanted))?;
                None
            }
        };
        if out.next.is_some() {
            return Ok(out);
        }
        let fits = |shelf: &&Arc<Shelf>| wanted.archive.as_deref().is_none_or(|name| name == shelf.name.as_str());
        let shelves = self.buckets.0.load();
        let mut shelves = shelves.iter().filter(fits).peekable();
        let mut after = None;
        if let Some(cursor) = bucket {
            // One that is not there any more ends the list.
            while shelves.next_if(|shelf| shelf.name != cursor.archive).is_some() {}
            after = cursor.after;
        }
        let began = self.clock.boottime();
        for shelf in shelves {
            let late = self.clock.boottime().saturating_sub(began) >= LONGEST;
            if out.items.len() >= page.limit || late {
                out.next = Some(Cursor { archive: shelf.name.clone(), after }.show());
                return Ok(out);
            }
            if let Some(last) = self.page_of(shelf, wanted, after.take(), page.limit, began, &mut out.items)? {
                out.next = Some(Cursor { archive: shelf.name.clone(), after: Some(last) }.show());
                return Ok(out);
            }
        }
        Ok(out)
    }

    /// Adds what a bucket lists after `after`; the last that was looked at, if there may be more.
    fn page_of(
        &self,
        shelf: &Shelf,
        wanted: &CopiesWanted,
        after: Option<RelPath>,
        limit: usize,
        began: Duration,
        out: &mut Vec<CopyShape>,
    ) -> Result<Option<RelPath>, Refusal> {
        let layouts = self.of_all_trees(|view| (view.policy.tree.clone(), view.policy.layout.clone()));
        let under = below(wanted, &layouts);
        let mut last = None;
        let mut more = None;
        let listed = shelf.bucket()?.list_after(under.as_ref(), after.as_ref(), &mut |object| {
            if out.len() >= limit || (last.is_some() && self.clock.boottime().saturating_sub(began) >= LONGEST) {
                more = last.take();
                return ControlFlow::Break(());
            }
            out.extend(shape(&shelf.name, wanted, &layouts, &object));
            last = Some(object.key);
            ControlFlow::Continue(())
        });
        listed.map_err(|error| unavailable(&shelf.name, &chain(&error)))?;
        Ok(more)
    }
}

fn unavailable(archive: &ArchiveId, why: &str) -> Refusal {
    Refusal::unavailable("archive", format!("archive `{archive}` cannot be listed: {why}"))
}

/// Below what all that is wanted lies; `None` if that can be anywhere.
fn below(wanted: &CopiesWanted, layouts: &[(TreeId, Layout)]) -> Option<RelPath> {
    let tree = TreeId::new(wanted.tree.as_deref()?);
    let roots = wanted.stream.as_deref().and_then(|stream| {
        let (_, layout) = layouts.iter().find(|(name, _)| *name == tree)?;
        layout.roots(&StreamId::new(stream))
    });
    match roots.as_deref() {
        Some([root]) => Some(key_of(&tree, root)),
        Some(_) | None => RelPath::new(tree.as_str().as_bytes()).ok(),
    }
}

/// A copy as it is shown; `None` if it is not wanted.
fn shape(
    archive: &ArchiveId,
    wanted: &CopiesWanted,
    layouts: &[(TreeId, Layout)],
    object: &ColdObject,
) -> Option<CopyShape> {
    let tree = TreeId::new(std::str::from_utf8(object.key.components().next()?).ok()?);
    let path = path_of(&tree, &object.key)?;
    let layout = layouts.iter().find(|(name, _)| *name == tree).map(|(_, layout)| layout);
    let found = layout.and_then(|layout| layout.recognise(&path, object.size.max(1)));
    let recorded = found.as_ref().and_then(|found| found.named).unwrap_or(object.modified);
    let stream = found.map(|found| found.stream).or_else(|| layout?.stream_of(&path)).unwrap_or_default();
    let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
    let is_wanted = fits(&wanted.tree, tree.as_str()) && fits(&wanted.stream, &stream);
    is_wanted.then(|| CopyShape::of(archive, tree.as_str(), &path, &stream, Bytes(object.size), recorded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_shown() {
        for (name, key) in [
            ("cold", None),
            ("a/b 7", Some(&b"live/cam/a.mp4"[..])),
            ("1", Some(b"live/\xff\n%41/a")),
            ("door", Some("live/门口/1/a".as_bytes())),
        ] {
            let cursor = Cursor { archive: ArchiveId::new(name), after: key.map(|key| RelPath::new(key).unwrap()) };
            let shown = cursor.show();
            assert!(shown.contains('/') && !shown.chars().any(char::is_control), "{shown:?}");
            let read = Cursor::parse(&shown).unwrap();
            assert_eq!((read.archive, read.after), (cursor.archive, cursor.after), "{shown}");
        }
        for wrong in ["", "7", "cold/2/a", "cold/0/../a", "cold/0/", "%ff/"] {
            assert!(Cursor::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_that_part_of_a_bucket_is_listed_where_what_is_wanted_can_lie() {
        let dated = Layout::parse("dated", &["mp4".to_owned()], jiff::tz::TimeZone::UTC).unwrap();
        let zlmediakit = dated.with_kind(crate::domain::layout::LayoutKind::Zlmediakit);
        let layouts = [(TreeId::new("live"), zlmediakit), (TreeId::new("nvr"), dated)];
        let text = |text: &str| Some(text.to_owned());
        for (tree, stream, expected) in [
            (None, None, None),
            (None, text("cam"), None),
            (text("nvr"), None, Some("nvr")),
            (text("nvr"), text("gate/cam"), Some("nvr/gate/cam")),
            (text("live"), text("live/cam"), Some("live")),
            (text("gone"), text("cam"), Some("gone")),
            (text(".."), None, None),
        ] {
            let wanted = CopiesWanted { archive: None, tree, stream };
            let found = below(&wanted, &layouts).map(|path| path.to_string());
            assert_eq!(found.as_deref(), expected, "{wanted:?}");
        }
    }
}
